"""Accounts, sessions and what belongs to a person."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.tables.base import at, key, metadata, tenant

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", String(63), primary_key=True),
    Column("name", String(200), nullable=False),
    at("created_at", now=True),
    schema="user_management",
)

users = Table(
    "users",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("username", String(50), nullable=False),
    Column("email", String(254), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("role", String(20), nullable=False),
    Column("status", String(30), nullable=False),
    Column("email_verified", Boolean, nullable=False, server_default=text("false")),
    Column("phone_verified", Boolean, nullable=False, server_default=text("false")),
    at("created_at"),
    at("updated_at"),
    at("last_login", nullable=True),
    Column("second_factor", Boolean, nullable=False, server_default=text("false")),
    Column("verification_step", SmallInteger, nullable=False, server_default=text("0")),
    key("username_key", "username"),
    key("email_key", "email"),
    Index("users_newest", "tenant_id", text("created_at DESC"), text("user_id DESC")),
    Index(
        "users_unverified",
        "created_at",
        postgresql_where=text("status = 'PENDING_VERIFICATION' AND verification_step < 3"),
    ),
    Index("users_username_key", "tenant_id", "username_key", unique=True),
    Index("users_email_key", "tenant_id", "email_key", unique=True),
    schema="user_management",
)

user_profiles = Table(
    "user_profiles",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("first_name", String(100), nullable=False),
    Column("last_name", String(100), nullable=False),
    Column("phone_number", String(20)),
    Column("profile_image_url", Text),
    Column("address", String(500)),
    Column("city", String(200)),
    Column("state", String(200)),
    Column("pincode", String(6)),
    Column("date_of_birth", Date),
    key("name_key", "first_name || ' ' || last_name"),
    key("last_name_key", "last_name"),
    Index("user_profiles_name", "tenant_id", "name_key"),
    Index("user_profiles_last_name", "tenant_id", "last_name_key"),
    schema="user_management",
)

person_keys = Table(
    "person_keys",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("wrapped_key", LargeBinary, nullable=False),
    at("created_at", now=True),
    schema="user_management",
)

sessions = Table(
    "sessions",
    metadata,
    tenant(),
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    at("opened_at"),
    at("revoked_at", nullable=True),
    Column("device", String(100)),
    Column("address_digest", LargeBinary),
    at("last_seen_at", nullable=True),
    Column("second_factor", Boolean, nullable=False, server_default=text("false")),
    Index("sessions_user", "tenant_id", "user_id"),
    Index("sessions_revoked", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    schema="user_management",
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    tenant(),
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    at("issued_at"),
    at("expires_at"),
    at("used_at", nullable=True),
    Index("refresh_tokens_session", "tenant_id", "session_id"),
    Index("refresh_tokens_user", "tenant_id", "user_id"),
    schema="user_management",
)

account_tokens = Table(
    "account_tokens",
    metadata,
    tenant(),
    Column("token_hash", LargeBinary, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("purpose", String(20), nullable=False),
    at("created_at"),
    at("expires_at"),
    at("used_at", nullable=True),
    Index("account_tokens_user", "tenant_id", "user_id"),
    schema="user_management",
)

totp = Table(
    "totp",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("secret", JSONB, nullable=False),
    Column("last_step", BigInteger, nullable=False, server_default=text("0")),
    at("created_at"),
    schema="user_management",
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("code_hash", LargeBinary, primary_key=True),
    at("used_at", nullable=True),
    schema="user_management",
)

passkeys = Table(
    "passkeys",
    metadata,
    tenant(),
    Column("passkey_id", Uuid, primary_key=True),
    Column("credential_id", LargeBinary, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("name", String(100), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("transports", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    at("created_at"),
    at("last_used_at", nullable=True),
    Index("passkeys_credential_key", "tenant_id", "credential_id", unique=True),
    Index("passkeys_user", "tenant_id", "user_id"),
    schema="user_management",
)

erasures = Table(
    "erasures",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    at("requested_at"),
    at("withdrawn_at", nullable=True),
    at("deleted_at", nullable=True),
    at("erased_at", nullable=True),
    Column("name_digests", ARRAY(String(32))),
    Index("erasures_pending", "requested_at", postgresql_where=text("erased_at IS NULL")),
    schema="user_management",
)

exports = Table(
    "exports",
    metadata,
    tenant(),
    Column("export_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    at("requested_at"),
    at("ready_at", nullable=True),
    at("expires_at", nullable=True),
    Column("token_hash", LargeBinary),
    Column("size", BigInteger),
    Index("exports_token", "tenant_id", "token_hash", unique=True),
    Index("exports_user", "tenant_id", "user_id"),
    Index("exports_pending", "requested_at", postgresql_where=text("ready_at IS NULL")),
    Index("exports_expiring", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    schema="user_management",
)
