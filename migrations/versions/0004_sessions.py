"""A session is a row of its own, which renewing and closing lock first: a closed session gets no other token."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    # First: a logout or a sign-in that commits while the sessions are gathered would be missed.
    "LOCK TABLE user_management.refresh_tokens IN ACCESS EXCLUSIVE MODE",
    "CREATE TABLE user_management.sessions ("
    "tenant_id varchar(63) NOT NULL, "
    "session_id uuid NOT NULL, "
    "user_id uuid NOT NULL, "
    "opened_at timestamptz NOT NULL, "
    "revoked_at timestamptz, "
    "PRIMARY KEY (tenant_id, session_id))",
    "CREATE INDEX sessions_user ON user_management.sessions (tenant_id, user_id)",
    "INSERT INTO user_management.sessions (tenant_id, session_id, user_id, opened_at, revoked_at) "
    "SELECT tenant_id, family_id, user_id, min(issued_at), max(revoked_at) "
    "FROM user_management.refresh_tokens GROUP BY tenant_id, family_id, user_id",
    "ALTER TABLE user_management.refresh_tokens RENAME COLUMN family_id TO session_id",
    "ALTER TABLE user_management.refresh_tokens DROP COLUMN revoked_at",
    "ALTER INDEX user_management.refresh_tokens_family RENAME TO refresh_tokens_session",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON user_management.sessions TO hyderabad_app",
    "GRANT SELECT, DELETE ON user_management.sessions TO hyderabad_all_tenants",
    "ALTER TABLE user_management.sessions ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY one_tenant ON user_management.sessions TO hyderabad_app "
    "USING (tenant_id = current_setting('app.tenant', true)) "
    "WITH CHECK (tenant_id = current_setting('app.tenant', true))",
    "CREATE POLICY every_tenant ON user_management.sessions TO hyderabad_all_tenants USING (true) WITH CHECK (true)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
