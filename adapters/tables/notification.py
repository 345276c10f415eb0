"""Notices, deliveries and the inbox."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    Time,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from adapters.tables.base import at, metadata, tenant

notices = Table(
    "notices",
    metadata,
    tenant(),
    Column("event_id", Uuid, primary_key=True),
    Column("kind", String(100), primary_key=True),
    Column("audience", String(20), nullable=False),
    Column("audience_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    at("enqueued_at", now=True),
    at("expanded_at", nullable=True),
    Index("notices_pending", "enqueued_at", postgresql_where=text("expanded_at IS NULL")),
    Index("notices_command", "tenant_id", "command_id"),
    schema="notification",
)

deliveries = Table(
    "deliveries",
    metadata,
    tenant(),
    Column("event_id", Uuid, primary_key=True),
    Column("channel", String(20), primary_key=True),
    Column("recipient_id", Uuid, primary_key=True),
    Column("command_id", Uuid, nullable=False),
    Column("template", String(100), nullable=False),
    Column("about_id", Uuid),
    at("enqueued_at", now=True),
    at("claimed_until", nullable=True),
    at("sent_at", nullable=True),
    Column("given_up", Text),
    at("held_until", nullable=True),
    Column("provider", String(20)),
    Column("provider_id", String(200)),
    Column("outcome", String(20)),
    Column("reported", String(20)),
    at("reported_at", nullable=True),
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
    tenant(),
    Column("channel", String(20), primary_key=True),
    Column("address_digest", LargeBinary, primary_key=True),
    Column("reason", Text, nullable=False),
    at("since", now=True),
    schema="notification",
)

preferences = Table(
    "preferences",
    metadata,
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("kinds", JSONB, nullable=False),
    Column("quiet_from", Time),
    Column("quiet_to", Time),
    at("updated_at"),
    schema="notification",
)

push_subscriptions = Table(
    "push_subscriptions",
    metadata,
    tenant(),
    Column("subscription_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("endpoint", String(1000), nullable=False),
    Column("p256dh", String(200), nullable=False),
    Column("auth", String(100), nullable=False),
    at("created_at", now=True),
    Index("push_subscriptions_endpoint_key", "tenant_id", "endpoint", unique=True),
    Index("push_subscriptions_user", "tenant_id", "user_id"),
    schema="notification",
)

notifications = Table(
    "notifications",
    metadata,
    tenant(),
    Column("notification_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("user_id", Uuid, nullable=False),
    Column("kind", String(100)),
    Column("data", JSONB),
    at("created_at", nullable=True),
    at("read_at", nullable=True),
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
    tenant(),
    Column("user_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    at("read_until"),
    schema="notification",
)
