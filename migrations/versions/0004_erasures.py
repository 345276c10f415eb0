"""Erasures: how far each has come, and whom read models must not show again."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = """
CREATE TABLE user_management.erasures (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    command_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    deleted_at timestamptz,
    erased_at timestamptz,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX erasures_pending ON user_management.erasures (requested_at) WHERE erased_at IS NULL;
CREATE INDEX deliveries_recipient ON notification.deliveries (tenant_id, recipient_id);

GRANT SELECT, INSERT, UPDATE ON user_management.erasures TO hyderabad_app;
GRANT SELECT ON user_management.erasures TO hyderabad_all_tenants;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("ALTER TABLE user_management.erasures ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY one_tenant ON user_management.erasures TO hyderabad_app "
        "USING (tenant_id = current_setting('app.tenant', true)) "
        "WITH CHECK (tenant_id = current_setting('app.tenant', true))"
    )
    op.execute(
        "CREATE POLICY every_tenant ON user_management.erasures TO hyderabad_all_tenants USING (true) WITH CHECK (true)"
    )
