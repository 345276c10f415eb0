"""Imports of files with listings, the lines of their reports, and the listings of the rows that were read."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
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

_NONE_YET = text("0")

imports = Table(
    "imports",
    metadata,
    tenant(),
    Column("import_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("upload_id", Uuid, nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mapping", JSONB),
    Column("defaults", JSONB, nullable=False, server_default=text("'{}'")),
    Column("status", String(20), nullable=False),
    Column("reason", Text),
    Column("sha256", LargeBinary),
    Column("layout", JSONB),
    Column("byte_offset", BigInteger, nullable=False, server_default=_NONE_YET),
    Column("line", BigInteger, nullable=False, server_default=text("1")),
    Column("row", BigInteger, nullable=False, server_default=_NONE_YET),
    Column("saved", Integer, nullable=False, server_default=_NONE_YET),
    Column("updated", Integer, nullable=False, server_default=_NONE_YET),
    Column("unchanged", Integer, nullable=False, server_default=_NONE_YET),
    Column("refused", Integer, nullable=False, server_default=_NONE_YET),
    Column("reported", Integer, nullable=False, server_default=_NONE_YET),
    Column("working_seconds", Double, nullable=False, server_default=_NONE_YET),
    at("started_at"),
    at("updated_at"),
    at("finished_at", nullable=True),
    Index("imports_user", "tenant_id", "user_id", text("started_at DESC"), text("import_id DESC")),
    Index("imports_unfinished", "updated_at", postgresql_where=text("finished_at IS NULL")),
    Index("imports_upload", "tenant_id", "upload_id", postgresql_where=text("finished_at IS NULL")),
    schema="property_management",
)

import_problems = Table(
    "import_problems",
    metadata,
    tenant(),
    Column("import_id", Uuid, primary_key=True),
    Column("row", BigInteger, primary_key=True, autoincrement=False),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("line", BigInteger, nullable=False),
    Column("field", String(100), nullable=False),
    Column("value", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    schema="property_management",
)

import_listings = Table(
    "import_listings",
    metadata,
    tenant(),
    Column("import_id", Uuid, primary_key=True),
    Column("property_id", Uuid, primary_key=True),
    schema="property_management",
)
