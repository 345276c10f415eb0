"""SQLAlchemy tables; `make check` compares them with the schema that the migrations create."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.types import UserDefinedType

metadata = MetaData()

SECURITY_EVENTS = (
    "LOGIN_FAILED",
    "REFRESH_TOKEN_REUSED",
    "USER_LOGGED_IN",
    "USER_PASSWORD_CHANGED",
    "USER_PASSWORD_RESET_REQUESTED",
    "USER_ROLE_CHANGED",
    "USER_STATUS_CHANGED",
    "USER_SECOND_FACTOR_CHANGED",
    "USER_PASSKEY_ADDED",
    "USER_PASSKEY_REMOVED",
)
"""The event types of the list of security events; a partial index has them, so a new one needs a migration."""


class Xid8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


class Point(UserDefinedType[tuple[float, float]]):
    """Postgres' point of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "point"


class Circle(UserDefinedType[object]):
    """Postgres' circle of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "circle"


class Polygon(UserDefinedType[str]):
    """Postgres' polygon of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "polygon"


def _at(name: str, *, nullable: bool = False, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=text("now()") if now else None)


def _tenant(*, primary_key: bool = True) -> Column[str]:
    return Column("tenant_id", String(63), primary_key=primary_key, nullable=False)


def _key(name: str, of: str) -> Column[str]:
    """The lower-case text by which rows are looked up: see migration 0003."""
    return Column(name, Text(collation="C"), Computed(f"lower({of})", persisted=True))


tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", String(63), primary_key=True),
    Column("name", String(200), nullable=False),
    _at("created_at", now=True),
    schema="user_management",
)

users = Table(
    "users",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("username", String(50), nullable=False),
    Column("email", String(254), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("role", String(20), nullable=False),
    Column("status", String(30), nullable=False),
    Column("email_verified", Boolean, nullable=False, server_default=text("false")),
    Column("phone_verified", Boolean, nullable=False, server_default=text("false")),
    _at("created_at"),
    _at("updated_at"),
    _at("last_login", nullable=True),
    Column("second_factor", Boolean, nullable=False, server_default=text("false")),
    Column("verification_step", SmallInteger, nullable=False, server_default=text("0")),
    _key("username_key", "username"),
    _key("email_key", "email"),
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
    _tenant(),
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
    _key("name_key", "first_name || ' ' || last_name"),
    _key("last_name_key", "last_name"),
    Index("user_profiles_name", "tenant_id", "name_key"),
    Index("user_profiles_last_name", "tenant_id", "last_name_key"),
    schema="user_management",
)

person_keys = Table(
    "person_keys",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("wrapped_key", LargeBinary, nullable=False),
    _at("created_at", now=True),
    schema="user_management",
)

sessions = Table(
    "sessions",
    metadata,
    _tenant(),
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    _at("opened_at"),
    _at("revoked_at", nullable=True),
    Column("device", String(100)),
    Column("address_digest", LargeBinary),
    _at("last_seen_at", nullable=True),
    Column("second_factor", Boolean, nullable=False, server_default=text("false")),
    Index("sessions_user", "tenant_id", "user_id"),
    Index("sessions_revoked", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")),
    schema="user_management",
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    _tenant(),
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    _at("issued_at"),
    _at("expires_at"),
    _at("used_at", nullable=True),
    Index("refresh_tokens_session", "tenant_id", "session_id"),
    Index("refresh_tokens_user", "tenant_id", "user_id"),
    schema="user_management",
)

account_tokens = Table(
    "account_tokens",
    metadata,
    _tenant(),
    Column("token_hash", LargeBinary, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("purpose", String(20), nullable=False),
    _at("created_at"),
    _at("expires_at"),
    _at("used_at", nullable=True),
    Index("account_tokens_user", "tenant_id", "user_id"),
    schema="user_management",
)

totp = Table(
    "totp",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("secret", JSONB, nullable=False),
    Column("last_step", BigInteger, nullable=False, server_default=text("0")),
    _at("created_at"),
    schema="user_management",
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("code_hash", LargeBinary, primary_key=True),
    _at("used_at", nullable=True),
    schema="user_management",
)

passkeys = Table(
    "passkeys",
    metadata,
    _tenant(),
    Column("passkey_id", Uuid, primary_key=True),
    Column("credential_id", LargeBinary, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("name", String(100), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("transports", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _at("created_at"),
    _at("last_used_at", nullable=True),
    Index("passkeys_credential_key", "tenant_id", "credential_id", unique=True),
    Index("passkeys_user", "tenant_id", "user_id"),
    schema="user_management",
)

erasures = Table(
    "erasures",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    _at("requested_at"),
    _at("withdrawn_at", nullable=True),
    _at("deleted_at", nullable=True),
    _at("erased_at", nullable=True),
    Column("name_digests", ARRAY(String(32))),
    Index("erasures_pending", "requested_at", postgresql_where=text("erased_at IS NULL")),
    schema="user_management",
)

exports = Table(
    "exports",
    metadata,
    _tenant(),
    Column("export_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    _at("requested_at"),
    _at("ready_at", nullable=True),
    _at("expires_at", nullable=True),
    Column("token_hash", LargeBinary),
    Column("size", BigInteger),
    Index("exports_token", "tenant_id", "token_hash", unique=True),
    Index("exports_user", "tenant_id", "user_id"),
    Index("exports_pending", "requested_at", postgresql_where=text("ready_at IS NULL")),
    Index("exports_expiring", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    schema="user_management",
)

properties = Table(
    "properties",
    metadata,
    _tenant(),
    Column("property_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("owner_id", Uuid, nullable=False),
    Column("status", String(20), nullable=False),
    Column("title", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("location", String(200), nullable=False),
    Column("property_type", String(20), nullable=False),
    Column("listing_type", String(10), nullable=False),
    Column("address", String(500)),
    Column("city", String(200), nullable=False),
    Column("state", String(200), nullable=False),
    Column("pincode", String(6)),
    Column("bedrooms", Integer),
    Column("bathrooms", Integer),
    Column("area_sqft", BigInteger),
    Column("parking_spaces", Integer),
    Column("floor_number", Integer),
    Column("total_floors", Integer),
    Column("age_of_property", Integer),
    Column("facing", String(20)),
    Column("furnished_status", String(20)),
    Column("amenities", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("nearby_facilities", Text),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("rera_id", String(20)),
    Column("contact_name", String(100)),
    Column("contact_phone", String(20)),
    Column("contact_email", String(254)),
    Column("is_featured", Boolean, nullable=False, server_default=text("false")),
    Column("is_verified", Boolean, nullable=False, server_default=text("false")),
    Column("previous_price", BigInteger),
    _at("created_at"),
    _at("updated_at"),
    _at("listed_at", nullable=True),
    Column("posted_by", String(20)),
    Index("properties_owner", "tenant_id", "owner_id", text("created_at DESC"), text("property_id DESC")),
    Index(
        "properties_owner_status",
        "tenant_id",
        "owner_id",
        "status",
        text("created_at DESC"),
        text("property_id DESC"),
    ),
    Index(
        "properties_newest",
        "tenant_id",
        text("listed_at DESC"),
        text("property_id DESC"),
        postgresql_where=text("status = 'ACTIVE'"),
    ),
    Index(
        "properties_featured",
        "tenant_id",
        text("listed_at DESC"),
        text("property_id DESC"),
        postgresql_where=text("status = 'ACTIVE' AND is_featured"),
    ),
    schema="property_management",
)

favorites = Table(
    "favorites",
    metadata,
    _tenant(),
    Column("favorite_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("property_id", Uuid, nullable=False),
    Column("owner_id", Uuid, nullable=False),
    Column("title", String(200), nullable=False),
    Column("location", String(200), nullable=False),
    Column("is_favorite", Boolean, nullable=False),
    _at("changed_at"),
    Index(
        "favorites_user",
        "tenant_id",
        "user_id",
        text("changed_at DESC"),
        text("property_id DESC"),
        postgresql_where=text("is_favorite"),
    ),
    Index("favorites_property", "tenant_id", "property_id", "user_id", postgresql_where=text("is_favorite")),
    schema="property_management",
)

event_store = Table(
    "event_store",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("event_id", Uuid, nullable=False),
    Column("aggregate_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("event_type", String(255), nullable=False),
    Column("event_data", JSONB, nullable=False),
    _at("timestamp"),
    Column("version", BigInteger, nullable=False),
    _tenant(primary_key=False),
    Column("schema_version", Integer, nullable=False),
    Column("command_id", Uuid, nullable=False),
    Column("tx_id", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    _at("published_at", nullable=True),
    Index("event_store_event_id_key", "event_id", unique=True),
    Index(
        "event_store_version_key",
        "tenant_id",
        "aggregate_id",
        "version",
        unique=True,
        postgresql_where=text("version > 0"),
    ),
    Index("event_store_user", "user_id", "timestamp", "event_id"),
    Index("event_store_aggregate", "aggregate_id"),
    Index("event_store_type", "event_type"),
    Index("event_store_command", "command_id"),
    Index("event_store_order", "tx_id", "id"),
    Index("event_store_unpublished", "id", postgresql_where=text("published_at IS NULL")),
    Index(
        "event_store_unpublished_of",
        "tenant_id",
        "aggregate_id",
        "version",
        postgresql_where=text("published_at IS NULL AND version > 0"),
    ),
    Index(
        "event_store_security",
        "tenant_id",
        "aggregate_id",
        "timestamp",
        "event_id",
        postgresql_where=text(f"event_type IN ({', '.join(map(repr, SECURITY_EVENTS))})"),
    ),
    schema="user_history",
)

event_store_cluster = Table(
    "event_store_cluster",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    Column("system_identifier", BigInteger, nullable=False),
    schema="user_history",
)

user_activity = Table(
    "user_activity",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _tenant(primary_key=False),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("event_id", Uuid, nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("activity_type", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("activity_data", JSONB, nullable=False),
    _at("timestamp"),
    Index("user_activity_event_id_key", "event_id", "generation", unique=True),
    Index("user_activity_page", "user_id", "generation", text("timestamp DESC"), text("event_id DESC")),
    Index(
        "user_activity_type",
        "user_id",
        "generation",
        "activity_type",
        text("timestamp DESC"),
        text("event_id DESC"),
    ),
    schema="user_history",
)

activity_counts = Table(
    "activity_counts",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("activity_type", String(100), primary_key=True),
    Column("day", Date, primary_key=True),
    _tenant(),
    Column("total", BigInteger, nullable=False),
    schema="user_history",
)

commands = Table(
    "commands",
    metadata,
    _tenant(),
    Column("command_id", Uuid, primary_key=True),
    Column("type", String(100), nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("aggregate_id", Uuid, nullable=False),
    Column("person_id", Uuid, nullable=False),
    Column("fingerprint", String(64)),
    Column("status", String(20), nullable=False),
    Column("answer", JSON),  # not JSONB: a repeated answer has its fields in the same order
    Column("problem", JSONB),
    _at("started_at"),
    _at("finished_at", now=True),
    schema="user_history",
)

parked_events = Table(
    "parked_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("projection", String(100), nullable=False),
    Column("topic", String(255), nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    _at("parked_at", now=True),
    Column("tenant_id", String(63), nullable=False, server_default=text("''")),  # empty when the message has none
    Index("parked_events_once", "projection", "digest", unique=True),
    Index("parked_events_key", "projection", "key"),
    schema="user_history",
)

discarded_events = Table(
    "discarded_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _tenant(primary_key=False),
    Column("projection", String(100), nullable=False),
    Column("topic", String(255), nullable=False),
    Column("key", Text, nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("parked_because", Text, nullable=False),
    _at("parked_at"),
    Column("reason", String(1000), nullable=False),
    Column("discarded_by", Uuid),
    _at("discarded_at", now=True),
    Index("discarded_events_page", "projection", "id"),
    Index("discarded_events_event", "projection", "event_id"),
    Index("discarded_events_key", "key"),
    schema="user_history",
)

rebuilds = Table(
    "rebuilds",
    metadata,
    Column("rebuild_id", Uuid, primary_key=True),
    Column("projection", String(100), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("detail", Text),
    Column("requested_by", Uuid),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("applied", BigInteger, nullable=False, server_default=text("0")),
    Column("parked", BigInteger, nullable=False, server_default=text("0")),
    Column("working_seconds", Double, nullable=False, server_default=text("0")),
    Column("since", Text),
    Column("until", Text),
    Column("tx_id", BigInteger, nullable=False, server_default=text("0")),
    Column("id", BigInteger, nullable=False, server_default=text("0")),
    Column("round_from", BigInteger, nullable=False, server_default=text("0")),
    Column("ready", Boolean, nullable=False, server_default=text("false")),
    _at("started_at", now=True),
    _at("updated_at", now=True),
    _at("finished_at", nullable=True),
    Index("rebuilds_unfinished", "projection", unique=True, postgresql_where=text("finished_at IS NULL")),
    Index("rebuilds_newest", "projection", text("started_at DESC")),
    schema="user_history",
)

read_models = Table(
    "read_models",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("newest_generation", Integer, nullable=False, server_default=text("1")),
    Column("unstored_generation", Integer, nullable=False, server_default=text("0")),
    schema="user_history",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("tx_id", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    _at("updated_at", now=True),
    schema="user_history",
)

counted = Table(
    "counted",
    metadata,
    _tenant(),
    Column("kind", String(20), primary_key=True),
    Column("item_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("subject_id", Uuid),
    Column("version", BigInteger, nullable=False),
    Column("counts", Boolean, nullable=False),
    schema="search",
)

counts = Table(
    "counts",
    metadata,
    _tenant(),
    Column("kind", String(20), primary_key=True),
    Column("subject_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False),
    schema="search",
)

search_history = Table(
    "search_history",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("search_id", Uuid, primary_key=True),
    _tenant(),
    Column("event_id", Uuid),
    Column("query", JSONB),
    Column("total", Integer),
    _at("searched_at", nullable=True),
    _at("deleted_until", nullable=True),
    Index(
        "search_history_page",
        "user_id",
        "generation",
        text("searched_at DESC"),
        text("search_id DESC"),
        postgresql_where=text("searched_at IS NOT NULL"),
    ),
    schema="search",
)

saved_filters = Table(
    "saved_filters",
    metadata,
    _tenant(),
    Column("saved_search_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("name", String(60), nullable=False),
    Column("filters", JSONB, nullable=False),
    Column("frequency", String(20), nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("weekday", String(20), nullable=False),
    Column("paused", String(20)),
    _at("since"),
    _at("created_at"),
    _at("updated_at"),
    _at("due_at"),
    _at("last_round_at", nullable=True),
    _at("checkpoint", nullable=True),
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("unread_mails", ARRAY(DateTime(timezone=True)), nullable=False, server_default=text("'{}'")),
    Index("saved_filters_user", "tenant_id", "user_id", "created_at"),
    Index("saved_filters_due", "due_at", postgresql_where=text("paused IS NULL")),
    schema="search",
)

saved_search_matches = Table(
    "saved_search_matches",
    metadata,
    _tenant(),
    Column("saved_search_id", Uuid, primary_key=True),
    Column("property_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    _at("reported_at"),
    _at("back_at", nullable=True),
    Index("saved_search_matches_newest", "tenant_id", "saved_search_id", text("reported_at DESC"), "property_id"),
    Index("saved_search_matches_user", "tenant_id", "user_id"),
    schema="search",
)

WIDTH_OF_DEGREE = 0.95424
"""Of longitude beside one of latitude: the cosine of 17.4 degrees, Hyderabad's latitude."""
KM_PER_UNIT = 111.195
"""A degree of latitude. A distance on the map of `geo` is off by 0.05 % at most within 60 km of Hyderabad."""
_NO_AREA, _NO_RATE = 10**9, "1e+15"
"""In place of an area or a price per square foot that is not known: above any, so that it comes last."""

SORT_KEYS = {
    "listed_at": "listed_at",
    "price": "(- price)",
    "-price": "price",
    "pricePerSqft": f"(- COALESCE(price_per_sqft, '{_NO_RATE}'::double precision))",
    "area": f"(- COALESCE(area_sqft, '{_NO_AREA}'::bigint))",
    "-area": "COALESCE(area_sqft, '0'::bigint)",
}
"""The expressions by which search sorts, each in descending order, then by time and id: one direction for all three
makes the rows below a position one comparison of rows, and the expression of an index."""


def _sorted(name: str, key: str, *first: str, **options: Any) -> Index:
    """The index of active listings in the order of one of SORT_KEYS."""
    newest = ("listed_at DESC", "property_id DESC")
    by = newest if key == "listed_at" else (f"{SORT_KEYS[key]} DESC", *newest)
    active = text("status = 'ACTIVE'")
    return Index(name, "tenant_id", "generation", *first, *map(text, by), postgresql_where=active, **options)


def _indexed(name: str, column: str, by: str, **options: Any) -> Index:
    """The index of active listings by the values within a column."""
    return Index(name, column, postgresql_using=by, postgresql_where=text("status = 'ACTIVE'"), **options)


_COUNTED = ("area_sqft", "bathrooms", "furnished_status", "facing", "posted_by", "locality", "amenity_codes")
"""Columns that two indexes have beside their keys, so that facets are counted without reading rows."""

property_search = Table(
    "property_search",
    metadata,
    _tenant(),
    Column("property_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("status", String(20)),
    _at("created_at"),
    _at("listed_at", nullable=True),
    Column("owner_id", Uuid),
    Column("posted_by", String(20)),
    Column("property_type", String(20)),
    Column("listing_type", String(10)),
    Column("price", BigInteger),
    Column("area_sqft", BigInteger),
    Column("bedrooms", Integer),
    Column("bathrooms", Integer),
    Column("locality", Text),
    Column("pincode", String(6)),
    Column("furnished_status", String(20)),
    Column("facing", String(20)),
    Column("floor_number", Integer),
    Column("age_of_property", Integer),
    Column("has_rera", Boolean),
    Column("is_featured", Boolean),
    Column("is_verified", Boolean),
    Column("amenities", ARRAY(Text)),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("words", TSVECTOR),
    Column("card", LargeBinary),
    Column("price_per_sqft", Double, Computed("price::double precision / area_sqft", persisted=True)),
    Column("geo", Point, Computed(f"point(longitude * {WIDTH_OF_DEGREE}, latitude)", persisted=True)),
    _at("changed_at", nullable=True),
    # When the read model had it: changes are looked at in this order, because events may come late.
    _at("applied_at", now=True),
    # Hashes, because an index has no room for a hundred labels.
    Column("amenity_codes", ARRAY(BigInteger), Computed("search.label_codes(amenities)", persisted=True)),
    _sorted(
        "property_search_newest",
        "listed_at",
        postgresql_include=["property_type", "listing_type", "price", "bedrooms", *_COUNTED],
    ),
    Index(
        "property_search_filters",
        *("tenant_id", "generation", "listing_type", "property_type", "bedrooms", "price"),
        postgresql_include=[*_COUNTED, "listed_at", "property_id"],
        postgresql_where=text("status = 'ACTIVE'"),
    ),
    _sorted("property_search_price", "price"),
    _sorted("property_search_price_desc", "-price"),
    _sorted("property_search_rate", "pricePerSqft"),
    _sorted("property_search_area", "area"),
    _sorted("property_search_area_desc", "-area"),
    _sorted("property_search_locality", "price", "locality", "property_type"),
    _sorted("property_search_bedrooms", "listed_at", "bedrooms"),
    _indexed("property_search_words", "words", "gin"),
    _indexed("property_search_amenities", "amenities", "gin"),
    # With what the view asks, so that listings in an area are counted without reading their rows.
    _indexed("property_search_geo", "geo", "gist", postgresql_include=["tenant_id", "generation"]),
    Index(
        "property_search_changed",
        *("tenant_id", "generation", "applied_at", "property_id"),
        postgresql_where=text("status = 'ACTIVE'"),
    ),
    schema="search",
)

vocabulary = Table(
    "vocabulary",
    metadata,
    _tenant(),
    Column("word", Text(collation="C"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("listings", BigInteger, nullable=False),
    Index("vocabulary_similar", "word", postgresql_using="gin", postgresql_ops={"word": "gin_trgm_ops"}),
    schema="search",
)

views = MetaData()
"""What the migrations create as views. Those of search show the rows of the connection's tenant in the serving
generation. Row-level security would do as much, but Postgres uses no index for `@@`, `<@` or `%` below it, because it
trusts those operators with no row of others (https://www.postgresql.org/docs/18/rules-privileges.html)."""

listings = property_search.to_metadata(views, name="listings")
"""The active listings."""
listed_words = vocabulary.to_metadata(views, name="listed_words")
"""The words of the active listings, each with their number."""
completed_rebuilds = Table(
    "completed_rebuilds", views, Column("generation", Integer), _at("started_at"), schema="search"
)
"""The rebuilds of the projection `search` whose generation has served."""

notices = Table(
    "notices",
    metadata,
    _tenant(),
    Column("event_id", Uuid, primary_key=True),
    Column("kind", String(100), primary_key=True),
    Column("audience", String(20), nullable=False),
    Column("audience_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    _at("enqueued_at", now=True),
    _at("expanded_at", nullable=True),
    Index("notices_pending", "enqueued_at", postgresql_where=text("expanded_at IS NULL")),
    Index("notices_command", "tenant_id", "command_id"),
    schema="notification",
)

deliveries = Table(
    "deliveries",
    metadata,
    _tenant(),
    Column("event_id", Uuid, primary_key=True),
    Column("channel", String(20), primary_key=True),
    Column("recipient_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    Column("template", String(100), nullable=False),
    Column("about_id", Uuid),
    _at("enqueued_at", now=True),
    _at("claimed_until", nullable=True),
    _at("sent_at", nullable=True),
    Column("given_up", Text),
    _at("held_until", nullable=True),
    Column("provider", String(20)),
    Column("provider_id", String(200)),
    Column("outcome", String(20)),
    Column("reported", String(20)),
    _at("reported_at", nullable=True),
    Index("deliveries_command", "tenant_id", "command_id"),
    Index("deliveries_recipient", "tenant_id", "recipient_id"),
    Index(
        "deliveries_held",
        "tenant_id",
        "recipient_id",
        "held_until",
        postgresql_where=text("held_until IS NOT NULL AND sent_at IS NULL AND given_up IS NULL"),
    ),
    Index("deliveries_provider", "tenant_id", "provider_id", postgresql_where=text("provider_id IS NOT NULL")),
    Index("deliveries_pending", "enqueued_at", postgresql_where=text("sent_at IS NULL AND given_up IS NULL")),
    schema="notification",
)

bad_addresses = Table(
    "bad_addresses",
    metadata,
    _tenant(),
    Column("channel", String(20), primary_key=True),
    Column("address_digest", LargeBinary, primary_key=True),
    Column("reason", Text, nullable=False),
    _at("since", now=True),
    schema="notification",
)

preferences = Table(
    "preferences",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("kinds", JSONB, nullable=False),
    Column("quiet_from", Time),
    Column("quiet_to", Time),
    _at("updated_at"),
    schema="notification",
)

push_subscriptions = Table(
    "push_subscriptions",
    metadata,
    _tenant(),
    Column("subscription_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("endpoint", String(1000), nullable=False),
    Column("p256dh", String(200), nullable=False),
    Column("auth", String(100), nullable=False),
    _at("created_at", now=True),
    Index("push_subscriptions_endpoint_key", "tenant_id", "endpoint", unique=True),
    Index("push_subscriptions_user", "tenant_id", "user_id"),
    schema="notification",
)

notifications = Table(
    "notifications",
    metadata,
    _tenant(),
    Column("notification_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("user_id", Uuid, nullable=False),
    Column("kind", String(100)),
    Column("data", JSONB),
    _at("created_at", nullable=True),
    _at("read_at", nullable=True),
    Index(
        "notifications_page",
        "tenant_id",
        "user_id",
        "generation",
        text("created_at DESC"),
        text("notification_id DESC"),
        postgresql_where=text("kind IS NOT NULL"),
    ),
    schema="notification",
)

read_until = Table(
    "read_until",
    metadata,
    _tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _at("read_until"),
    schema="notification",
)
