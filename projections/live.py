"""Live: messages about events for open streams. It has no tables: it writes streams in Redis (`adapters/live.py`).

A rebuild therefore writes nothing. Whatever comes again, from Kafka or from the event store, is recognized by the
projection's own checkpoint, and within some minutes by the keys of the messages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis
from sqlalchemy import ARRAY, BigInteger, Text, Uuid, any_, bindparam, cast, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.live import LiveMessage, LiveStreams, property_stream, reset_message, user_stream
from adapters.tables import checkpoints, event_store
from domain.activity import activity_of
from domain.events import PROPERTY_EVENTS, USER_EVENTS, Event, read_event
from domain.observations import ANONYMOUS, UserNotified
from domain.property import PropertyFacts, SealableDetails
from domain.property_events import STATE, PropertyDeleted, PropertyFact
from domain.property_status import PUBLIC_STATUSES
from projections.history import entry_json
from projections.projection import CacheKey, Projection, parsed

_CONTACT = SealableDetails.model_fields.keys() - PropertyFacts.model_fields.keys()
"""Contact data is personal: who wants it reads the listing."""
_PUBLISHED = (
    select(event_store.c.event_id)
    .join(checkpoints, checkpoints.c.name == bindparam("name"))
    .where(
        event_store.c.event_id == any_(bindparam("event_ids", type_=ARRAY(Uuid))),
        tuple_(cast(cast(event_store.c.tx_id, Text), BigInteger), event_store.c.id)
        <= tuple_(checkpoints.c.tx_id, checkpoints.c.id),
    )
)


@dataclass
class LiveEvent:
    """The messages of one event."""

    event_id: UUID
    timestamp: datetime
    messages: tuple[LiveMessage, ...]
    is_published: bool = False
    """Whether they were published before, which `apply` finds out."""


class Live(Projection[LiveEvent]):
    """The projection."""

    name = "live"
    topics = (PROPERTY_EVENTS, USER_EVENTS)
    tables = ()

    def __init__(self, redis: Redis) -> None:
        self._streams = LiveStreams(redis)

    def read(self, topic: str, value: bytes) -> LiveEvent | None:
        """The messages of an event; None when it has none. Raises UnreadableEvent with the reason."""
        message = parsed(value)
        if message.get("userId") == str(ANONYMOUS):
            return None  # views of visitors, the most frequent events
        event = read_event(message)
        messages = tuple(messages_of(event))
        return LiveEvent(event.event_id, event.timestamp, messages) if messages else None

    def of_event(self, stored: dict[str, Any], event: Event) -> None:
        """None: a rebuild publishes nothing."""
        return

    async def apply(self, tx: AsyncConnection, events: Sequence[LiveEvent], generation: int) -> None:
        """Find the events that the checkpoint has passed: their messages were published."""
        if events:
            parameters = {"name": self.name, "event_ids": [event.event_id for event in events]}
            published = set((await tx.execute(_PUBLISHED, parameters)).scalars())
            for event in events:
                event.is_published = event.event_id in published

    async def update_cache(self, events: Sequence[LiveEvent], generation: int) -> None:
        """Publish the messages of the other events. Raises RedisError."""
        unpublished = [event for event in events if not event.is_published]
        await self._streams.publish([message for event in unpublished for message in event.messages])

    def cache_keys(self, events: Sequence[LiveEvent]) -> set[CacheKey]:
        """The streams that the messages are for."""
        return {(message.stream,) for event in events for message in event.messages}

    async def drop_cached(self, streams: set[CacheKey], generation: int) -> None:
        """Reset the subscribers of streams that may lack messages: they read everything again. Raises RedisError."""
        await self._streams.publish([reset_message(stream) for (stream,) in sorted(streams)])


def messages_of(event: Event) -> Iterator[LiveMessage]:
    """The messages of an event: for its user, the one who is notified, and those who watch the listing."""
    tenant_id, fact, event_id = event.tenant_id, event.data, str(event.event_id)
    own = user_stream(tenant_id, event.user_id)
    if activity := activity_of(event):
        yield LiveMessage(own, "history", f"history:{event_id}", entry_json(activity))
    if isinstance(fact, UserNotified):
        notification = {
            "id": event_id,
            "kind": fact.kind,
            "propertyId": str(fact.property_id) if fact.property_id else None,
            "values": fact.values,
            "createdAt": event.timestamp.isoformat(),
        }
        recipient = user_stream(tenant_id, fact.user_id)
        yield LiveMessage(recipient, "notification", f"notification:{event_id}", orjson.dumps(notification))
    if event.version and event.user_id != ANONYMOUS:
        # The events of a command are published together: the first one says it.
        command = {"commandId": str(event.command_id), "stage": "published", "aggregateId": str(event.aggregate_id)}
        yield LiveMessage(own, "command", f"published:{event.command_id}", orjson.dumps(command))
    if isinstance(fact, PropertyFact):
        stream = property_stream(tenant_id, fact.property_id)
        yield LiveMessage(stream, "property", f"property:{event_id}", orjson.dumps(_change(event, fact)))


def _change(event: Event, fact: PropertyFact) -> dict[str, Any]:
    """A change of a listing, with its state, which the API shows to those who may see it."""
    is_deleted = isinstance(fact, PropertyDeleted)
    return {
        "propertyId": str(fact.property_id),
        "version": event.version,
        "change": event.event_type,
        "ownerId": str(fact.owner_id),
        "isPublic": not isinstance(fact, PropertyDeleted) and fact.status in PUBLIC_STATUSES,
        "state": None if is_deleted else fact.model_dump(mode="json", by_alias=True, include=set(STATE - _CONTACT)),
    }
