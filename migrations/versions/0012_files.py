"""Uploads, the content of files, images of listings, and documents."""

from alembic import op

revision = "0012"
down_revision = "0011"

_TABLES = """
CREATE SCHEMA file_management;

CREATE TABLE file_management.uploads (
    tenant_id varchar(63) NOT NULL,
    upload_id uuid NOT NULL,
    user_id uuid NOT NULL,
    property_id uuid,
    file_name varchar(255) NOT NULL,
    media_type varchar(100) NOT NULL, -- as the client says
    size bigint NOT NULL,
    sha256 bytea, -- once the bytes were read
    created_at timestamptz NOT NULL,
    completed_at timestamptz,
    claimed_at timestamptz NOT NULL, -- when it was begun, completed, or somebody last began to refer to it
    emptied_at timestamptz, -- when its object was deleted: what was made of it has its own
    PRIMARY KEY (tenant_id, upload_id)
);
CREATE INDEX uploads_user ON file_management.uploads (tenant_id, user_id);
CREATE INDEX uploads_oldest ON file_management.uploads (claimed_at);
CREATE INDEX uploads_content ON file_management.uploads (tenant_id, sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE file_management.file_contents (
    tenant_id varchar(63) NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    media_type varchar(100), -- as the bytes say
    stored_at timestamptz, -- when the original was written
    made jsonb, -- what was made of an image
    refused jsonb,
    claimed_at timestamptz NOT NULL, -- when somebody last began to refer to it
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX file_contents_oldest ON file_management.file_contents (claimed_at);

CREATE TABLE file_management.documents (
    tenant_id varchar(63) NOT NULL,
    file_id uuid NOT NULL,
    version bigint NOT NULL,
    owner_id uuid NOT NULL,
    property_id uuid,
    command_id uuid NOT NULL, -- which added it
    upload_id uuid NOT NULL,
    file_name varchar(255) NOT NULL,
    status varchar(20) NOT NULL,
    media_type varchar(100),
    size bigint NOT NULL,
    sha256 bytea,
    refused jsonb,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, file_id)
);
CREATE INDEX documents_owner ON file_management.documents (tenant_id, owner_id, created_at DESC, file_id DESC);
CREATE INDEX documents_property ON file_management.documents (tenant_id, property_id) WHERE property_id IS NOT NULL;
CREATE INDEX documents_upload ON file_management.documents (tenant_id, upload_id);
CREATE INDEX documents_content ON file_management.documents (tenant_id, sha256);
CREATE INDEX documents_processing ON file_management.documents (created_at) WHERE status = 'PROCESSING';

CREATE TABLE property_management.property_images (
    tenant_id varchar(63) NOT NULL,
    property_id uuid NOT NULL,
    image_id uuid NOT NULL,
    position smallint NOT NULL,
    status varchar(20) NOT NULL,
    command_id uuid NOT NULL, -- which added it
    upload_id uuid NOT NULL,
    size bigint NOT NULL,
    caption varchar(200),
    is_primary boolean NOT NULL DEFAULT false,
    sha256 bytea,
    width integer,
    height integer,
    thumbhash text,
    variants jsonb NOT NULL DEFAULT '[]',
    perceptual_hash bigint,
    hash_part_0 integer GENERATED ALWAYS AS (((perceptual_hash >> 0) & 8191)::integer) STORED,
    hash_part_1 integer GENERATED ALWAYS AS (((perceptual_hash >> 13) & 8191)::integer) STORED,
    hash_part_2 integer GENERATED ALWAYS AS (((perceptual_hash >> 26) & 8191)::integer) STORED,
    hash_part_3 integer GENERATED ALWAYS AS (((perceptual_hash >> 39) & 8191)::integer) STORED,
    hash_part_4 integer GENERATED ALWAYS AS (((perceptual_hash >> 52) & 8191)::integer) STORED,
    refused jsonb,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, property_id, image_id)
);
CREATE INDEX property_images_upload ON property_management.property_images (tenant_id, upload_id);
CREATE INDEX property_images_content ON property_management.property_images (tenant_id, sha256);
CREATE INDEX property_images_part_0 ON property_management.property_images (tenant_id, hash_part_0);
CREATE INDEX property_images_part_1 ON property_management.property_images (tenant_id, hash_part_1);
CREATE INDEX property_images_part_2 ON property_management.property_images (tenant_id, hash_part_2);
CREATE INDEX property_images_part_3 ON property_management.property_images (tenant_id, hash_part_3);
CREATE INDEX property_images_part_4 ON property_management.property_images (tenant_id, hash_part_4);
CREATE INDEX property_images_processing ON property_management.property_images (added_at)
    WHERE status = 'PROCESSING';

GRANT USAGE ON SCHEMA file_management TO hyderabad_app, hyderabad_all_tenants;
GRANT SELECT, INSERT, UPDATE, DELETE ON file_management.uploads, file_management.file_contents,
    file_management.documents, property_management.property_images TO hyderabad_app;
-- The sweep deletes what nothing refers to, and records contents whose objects it finds without a row.
GRANT SELECT, INSERT, UPDATE, DELETE ON file_management.uploads, file_management.file_contents
    TO hyderabad_all_tenants;
GRANT SELECT ON file_management.documents, property_management.property_images TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = (
    "file_management.uploads",
    "file_management.file_contents",
    "file_management.documents",
    "property_management.property_images",
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
