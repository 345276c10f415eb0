"""Rebuilds of read models with their progress, the tenants of parked events, and the record of discarded ones."""

from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = """
CREATE TABLE user_history.rebuilds (
    rebuild_id uuid PRIMARY KEY,
    projection varchar(100) NOT NULL,
    generation integer NOT NULL,
    status varchar(20) NOT NULL,
    detail text,
    requested_by uuid,
    total bigint NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    parked bigint NOT NULL DEFAULT 0,
    working_seconds double precision NOT NULL DEFAULT 0,
    since text,
    until text,
    tx_id bigint NOT NULL DEFAULT 0,
    id bigint NOT NULL DEFAULT 0,
    round_from bigint NOT NULL DEFAULT 0,
    ready boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX rebuilds_unfinished ON user_history.rebuilds (projection) WHERE finished_at IS NULL;
CREATE INDEX rebuilds_newest ON user_history.rebuilds (projection, started_at DESC);
CREATE TABLE user_history.discarded_events (
    id bigint PRIMARY KEY,
    tenant_id varchar(63) NOT NULL,
    projection varchar(100) NOT NULL,
    topic varchar(255) NOT NULL,
    key text NOT NULL,
    event_id varchar(255) NOT NULL,
    parked_because text NOT NULL,
    parked_at timestamptz NOT NULL,
    reason varchar(1000) NOT NULL,
    discarded_by uuid,
    discarded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX discarded_events_page ON user_history.discarded_events (projection, id);
CREATE INDEX discarded_events_event ON user_history.discarded_events (projection, event_id);
CREATE INDEX discarded_events_key ON user_history.discarded_events (key);
ALTER TABLE user_history.parked_events ADD COLUMN tenant_id varchar(63) NOT NULL DEFAULT '';

GRANT SELECT, INSERT, UPDATE ON user_history.rebuilds TO hyderabad_all_tenants;
GRANT SELECT, INSERT, DELETE ON user_history.discarded_events TO hyderabad_all_tenants;
-- A projection inserts the row of its read model when it runs for the first time.
GRANT INSERT ON user_history.read_models TO hyderabad_all_tenants;
"""
# The application role has no grants on these: the API reads them as the role of all tenants, for administrators.
_EVERY_TENANT = ("user_history.rebuilds", "user_history.discarded_events", "user_history.parked_events")
# A parked message may be no JSON: then it keeps the empty tenant, and operators alone see it.
_TENANT_OF = """
CREATE FUNCTION pg_temp.tenant_of(payload bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN coalesce(substring(convert_from(payload, 'UTF8')::jsonb ->> 'tenantId' FROM '^[a-z][a-z0-9-]{0,62}$'), '');
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_TENANT_OF)
    op.execute("UPDATE user_history.parked_events SET tenant_id = pg_temp.tenant_of(payload)")
    for table in _EVERY_TENANT:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY every_tenant ON {table} TO hyderabad_all_tenants USING (true) WITH CHECK (true)")
