"""Imports of files with listings, the lines of their reports, and the place of a listing, which finds duplicates."""

from alembic import op

revision = "0013"
down_revision = "0012"

_TABLES = """
CREATE TABLE property_management.imports (
    tenant_id varchar(63) NOT NULL,
    import_id uuid NOT NULL,
    version bigint NOT NULL,
    user_id uuid NOT NULL,
    upload_id uuid NOT NULL,
    file_name varchar(255) NOT NULL,
    size bigint NOT NULL,
    mapping jsonb, -- as it was given, and once the file was looked at, as it is used
    defaults jsonb NOT NULL DEFAULT '{}',
    status varchar(20) NOT NULL,
    reason text,
    sha256 bytea, -- once the file was looked at
    layout jsonb,
    byte_offset bigint NOT NULL DEFAULT 0, -- these three are the checkpoint, moved with the listings of a batch
    line bigint NOT NULL DEFAULT 1,
    row bigint NOT NULL DEFAULT 0,
    saved integer NOT NULL DEFAULT 0,
    updated integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    refused integer NOT NULL DEFAULT 0,
    reported integer NOT NULL DEFAULT 0, -- lines of the report
    working_seconds double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, import_id)
);
CREATE INDEX imports_user ON property_management.imports (tenant_id, user_id, started_at DESC, import_id DESC);
CREATE INDEX imports_unfinished ON property_management.imports (updated_at) WHERE finished_at IS NULL;
CREATE INDEX imports_upload ON property_management.imports (tenant_id, upload_id) WHERE finished_at IS NULL;

CREATE TABLE property_management.import_problems (
    tenant_id varchar(63) NOT NULL,
    import_id uuid NOT NULL,
    row bigint NOT NULL,
    number smallint NOT NULL,
    line bigint NOT NULL,
    field varchar(100) NOT NULL,
    value varchar(200) NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant_id, import_id, row, number)
);

CREATE TABLE property_management.import_listings ( -- of the rows that were read, until the import has ended
    tenant_id varchar(63) NOT NULL,
    import_id uuid NOT NULL,
    property_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, import_id, property_id)
);

-- '?' is what listings have that were saved before there was a key, also by the release before this one while both
-- run. Reconcile replaces it.
ALTER TABLE property_management.properties ADD COLUMN place_key text DEFAULT '?';
CREATE INDEX properties_place ON property_management.properties (tenant_id, owner_id, place_key)
    WHERE place_key IS NOT NULL;
CREATE INDEX properties_unplaced ON property_management.properties (tenant_id, property_id) WHERE place_key = '?';

GRANT SELECT, INSERT, UPDATE, DELETE ON property_management.imports, property_management.import_problems,
    property_management.import_listings TO hyderabad_app;
GRANT SELECT ON property_management.imports TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = (
    "property_management.imports",
    "property_management.import_problems",
    "property_management.import_listings",
)


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
