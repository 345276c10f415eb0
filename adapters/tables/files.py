"""Files that users send: uploads, their content, the images of listings, and documents."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.tables.base import at, metadata, tenant

uploads = Table(
    "uploads",
    metadata,
    tenant(),
    Column("upload_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("property_id", Uuid),
    Column("file_name", String(255), nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary),
    at("created_at"),
    at("completed_at", nullable=True),
    at("claimed_at"),
    at("emptied_at", nullable=True),
    Index("uploads_user", "tenant_id", "user_id"),
    Index("uploads_oldest", "claimed_at"),
    Index("uploads_content", "tenant_id", "sha256", postgresql_where=text("sha256 IS NOT NULL")),
    schema="file_management",
)

file_contents = Table(
    "file_contents",
    metadata,
    tenant(),
    Column("sha256", LargeBinary, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", String(100)),
    at("stored_at", nullable=True),
    Column("made", JSONB),
    Column("refused", JSONB),
    at("claimed_at"),
    Index("file_contents_oldest", "claimed_at"),
    schema="file_management",
)

documents = Table(
    "documents",
    metadata,
    tenant(),
    Column("file_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("owner_id", Uuid, nullable=False),
    Column("property_id", Uuid),
    Column("command_id", Uuid, nullable=False),
    Column("upload_id", Uuid, nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("status", String(20), nullable=False),
    Column("media_type", String(100)),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary),
    Column("refused", JSONB),
    at("created_at"),
    at("updated_at"),
    Index("documents_owner", "tenant_id", "owner_id", text("created_at DESC"), text("file_id DESC")),
    Index("documents_property", "tenant_id", "property_id", postgresql_where=text("property_id IS NOT NULL")),
    Index("documents_upload", "tenant_id", "upload_id"),
    Index("documents_content", "tenant_id", "sha256"),
    Index("documents_processing", "created_at", postgresql_where=text("status = 'PROCESSING'")),
    schema="file_management",
)

HASH_PARTS = 5
"""Of a perceptual hash: two that differ in up to four bits have a part in common, by which an index finds them."""
_PART_BITS = 13


def _hash_part(n: int) -> str:
    return f"((perceptual_hash >> {n * _PART_BITS}) & {2**_PART_BITS - 1})::integer"


property_images = Table(
    "property_images",
    metadata,
    tenant(),
    Column("property_id", Uuid, primary_key=True),
    Column("image_id", Uuid, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("status", String(20), nullable=False),
    Column("command_id", Uuid, nullable=False),
    Column("upload_id", Uuid, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("caption", String(200)),
    Column("is_primary", Boolean, nullable=False, server_default=text("false")),
    Column("sha256", LargeBinary),
    Column("width", Integer),
    Column("height", Integer),
    Column("thumbhash", Text),
    Column("variants", JSONB, nullable=False, server_default=text("'[]'")),
    Column("perceptual_hash", BigInteger),
    *(Column(f"hash_part_{n}", Integer, Computed(_hash_part(n), persisted=True)) for n in range(HASH_PARTS)),
    Column("refused", JSONB),
    at("added_at"),
    Index("property_images_upload", "tenant_id", "upload_id"),
    Index("property_images_content", "tenant_id", "sha256"),
    *(Index(f"property_images_part_{n}", "tenant_id", f"hash_part_{n}") for n in range(HASH_PARTS)),
    Index("property_images_processing", "added_at", postgresql_where=text("status = 'PROCESSING'")),
    schema="property_management",
)
