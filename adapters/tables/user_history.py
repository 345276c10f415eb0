"""The event store, recorded commands, histories, and how far projections are."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.tables.base import Xid8, at, metadata, tenant

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

event_store = Table(
    "event_store",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("event_id", Uuid, nullable=False),
    Column("aggregate_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("event_type", String(255), nullable=False),
    Column("event_data", JSONB, nullable=False),
    at("timestamp"),
    Column("version", BigInteger, nullable=False),
    tenant(primary_key=False),
    Column("schema_version", Integer, nullable=False),
    Column("command_id", Uuid, nullable=False),
    Column("tx_id", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    at("published_at", nullable=True),
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
    tenant(primary_key=False),
    Column("generation", Integer, nullable=False, server_default=text("1")),
    Column("event_id", Uuid, nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("activity_type", String(100), nullable=False),
    Column("description", Text, nullable=False),
    Column("activity_data", JSONB, nullable=False),
    at("timestamp"),
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
    tenant(),
    Column("total", BigInteger, nullable=False),
    schema="user_history",
)

commands = Table(
    "commands",
    metadata,
    tenant(),
    Column("command_id", Uuid, primary_key=True),
    Column("type", String(100), nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("aggregate_id", Uuid, nullable=False),
    Column("person_id", Uuid, nullable=False),
    Column("fingerprint", String(64)),
    Column("status", String(20), nullable=False),
    Column("answer", JSON),  # not JSONB: a repeated answer has its fields in the same order
    Column("problem", JSONB),
    at("started_at"),
    at("finished_at", now=True),
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
    at("parked_at", now=True),
    Column("tenant_id", String(63), nullable=False, server_default=text("''")),  # empty when the message has none
    Index("parked_events_once", "projection", "digest", unique=True),
    Index("parked_events_key", "projection", "key"),
    schema="user_history",
)

discarded_events = Table(
    "discarded_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    tenant(primary_key=False),
    Column("projection", String(100), nullable=False),
    Column("topic", String(255), nullable=False),
    Column("key", Text, nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("parked_because", Text, nullable=False),
    at("parked_at"),
    Column("reason", String(1000), nullable=False),
    Column("discarded_by", Uuid),
    at("discarded_at", now=True),
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
    at("started_at", now=True),
    at("updated_at", now=True),
    at("finished_at", nullable=True),
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
    at("updated_at", now=True),
    schema="user_history",
)
