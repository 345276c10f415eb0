"""Saved searches, what was reported of each, and when a change of a listing was applied."""

from alembic import op

revision = "0011"
down_revision = "0010"

_TABLES = """
CREATE TABLE search.saved_filters (
    tenant_id varchar(63) NOT NULL,
    saved_search_id uuid NOT NULL,
    version bigint NOT NULL,
    user_id uuid NOT NULL,
    name varchar(60) NOT NULL,
    filters jsonb NOT NULL,
    frequency varchar(20) NOT NULL,
    hour smallint NOT NULL,
    weekday varchar(20) NOT NULL,
    paused varchar(20),
    since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    last_round_at timestamptz,
    checkpoint timestamptz,
    generation integer NOT NULL DEFAULT 0,
    unread_mails timestamptz[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, saved_search_id)
);
CREATE INDEX saved_filters_user ON search.saved_filters (tenant_id, user_id, created_at);
CREATE INDEX saved_filters_due ON search.saved_filters (due_at) WHERE paused IS NULL;

CREATE TABLE search.saved_search_matches (
    tenant_id varchar(63) NOT NULL,
    saved_search_id uuid NOT NULL,
    property_id uuid NOT NULL,
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    price bigint NOT NULL,
    reported_at timestamptz NOT NULL,
    back_at timestamptz,
    PRIMARY KEY (tenant_id, saved_search_id, property_id)
);
CREATE INDEX saved_search_matches_newest
    ON search.saved_search_matches (tenant_id, saved_search_id, reported_at DESC, property_id);
CREATE INDEX saved_search_matches_user ON search.saved_search_matches (tenant_id, user_id);

ALTER TABLE search.property_search ADD COLUMN changed_at timestamptz;
ALTER TABLE search.property_search ADD COLUMN applied_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX property_search_changed ON search.property_search (tenant_id, generation, applied_at, property_id)
    WHERE status = 'ACTIVE';
-- A view has the columns that its table had when it was created.
CREATE OR REPLACE VIEW search.listings AS SELECT * FROM search.property_search
    WHERE status = 'ACTIVE' AND tenant_id = current_setting('app.tenant', true)
    AND generation = (SELECT generation FROM user_history.read_models WHERE name = 'search');
-- Rounds look at what rebuilds have applied; the table has who has asked for them.
CREATE VIEW search.completed_rebuilds AS SELECT generation, started_at FROM user_history.rebuilds
    WHERE projection = 'search' AND status = 'COMPLETED';

GRANT SELECT ON search.completed_rebuilds TO hyderabad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON search.saved_filters, search.saved_search_matches TO hyderabad_app;
GRANT SELECT ON search.saved_filters TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = ("search.saved_filters", "search.saved_search_matches")


def upgrade() -> None:
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
