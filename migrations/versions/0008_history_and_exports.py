"""Histories by type and by day, the searches of users, and exports of their data."""

from alembic import op

revision = "0008"
down_revision = "0007"

_INDEX = """
CREATE INDEX CONCURRENTLY user_activity_type
    ON user_history.user_activity (user_id, generation, activity_type, timestamp DESC, event_id DESC)
"""
_TABLES = """
CREATE TABLE user_history.activity_counts (
    tenant_id varchar(63) NOT NULL,
    generation integer NOT NULL,
    user_id uuid NOT NULL,
    activity_type varchar(100) NOT NULL, -- '' is all types
    day date NOT NULL, -- in Asia/Kolkata; -infinity is all days
    total bigint NOT NULL,
    PRIMARY KEY (user_id, generation, activity_type, day, tenant_id)
);
LOCK TABLE user_history.user_activity IN SHARE MODE;
INSERT INTO user_history.activity_counts (tenant_id, generation, user_id, activity_type, day, total)
SELECT tenant_id, generation, CAST(user_id AS uuid), coalesce(activity_type, ''), coalesce(day, '-infinity'), count(*)
FROM (
    SELECT tenant_id, generation, user_id, activity_type, CAST(timestamp AT TIME ZONE 'Asia/Kolkata' AS date) AS day
    FROM user_history.user_activity
) AS activity
GROUP BY tenant_id, generation, user_id, GROUPING SETS ((activity_type), (activity_type, day), (day));

CREATE TABLE search.search_history (
    tenant_id varchar(63) NOT NULL,
    generation integer NOT NULL,
    user_id uuid NOT NULL,
    search_id uuid NOT NULL, -- the nil UUID is all searches
    event_id uuid,
    query jsonb, -- encrypted with the person's key
    total integer,
    searched_at timestamptz,
    deleted_until timestamptz,
    PRIMARY KEY (user_id, generation, search_id, tenant_id)
);
CREATE INDEX search_history_page
    ON search.search_history (user_id, generation, searched_at DESC, search_id DESC) WHERE searched_at IS NOT NULL;
INSERT INTO user_history.read_models (name, generation) VALUES ('search_history', 1);

CREATE TABLE user_management.exports (
    tenant_id varchar(63) NOT NULL,
    export_id uuid NOT NULL,
    user_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    ready_at timestamptz,
    expires_at timestamptz,
    token_hash bytea,
    size bigint,
    PRIMARY KEY (tenant_id, export_id)
);
CREATE UNIQUE INDEX exports_token ON user_management.exports (tenant_id, token_hash);
CREATE INDEX exports_user ON user_management.exports (tenant_id, user_id);
CREATE INDEX exports_pending ON user_management.exports (requested_at) WHERE ready_at IS NULL;
CREATE INDEX exports_expiring ON user_management.exports (expires_at) WHERE expires_at IS NOT NULL;

GRANT SELECT ON user_history.activity_counts, search.search_history TO hyderabad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_history.activity_counts, search.search_history TO hyderabad_all_tenants;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_management.exports TO hyderabad_app;
GRANT SELECT, UPDATE (expires_at, token_hash) ON user_management.exports TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = ("user_history.activity_counts", "search.search_history", "user_management.exports")


def upgrade() -> None:
    # First, and outside of the transaction: histories are written while the index of millions of entries is built. One
    # that was interrupted leaves an index that is not valid.
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS user_history.user_activity_type")
        op.execute(_INDEX)
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in _OF_ONE_TENANT:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO hyderabad_app "
            "USING (tenant_id = current_setting('app.tenant', true)) "
            "WITH CHECK (tenant_id = current_setting('app.tenant', true))"
        )
        op.execute(f"CREATE POLICY every_tenant ON {table} TO hyderabad_all_tenants USING (true) WITH CHECK (true)")
