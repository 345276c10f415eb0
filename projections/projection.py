"""The interface of a projection: its topics, how a message is read and how events are applied.

Everything else is common to all: consuming, parking, catching up with the event store, rebuilding, retrying and lag
metrics.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.kafka import messages_of
from adapters.telemetry import EVENTS_UNREADABLE
from domain.events import KINDS, USER_ACTIVITY, Event, UnreadableEvent, read_event
from projections.parking import ConsumedMessage

log = logging.getLogger(__name__)

CacheKey = tuple[str, ...]
"""Identifies an item in a projection's cache."""


class HasTimestamp(Protocol):
    """An event as a projection reads it from a message."""

    @property
    def timestamp(self) -> datetime: ...


E = TypeVar("E", bound=HasTimestamp)


class Store(Protocol):
    """Keeps the rows of a projection outside Postgres too, those of each generation by themselves.

    Each method raises SearchUnavailable.
    """

    async def has(self, generation: int) -> bool:
        """Whether the generation is there; it is not when it was never made, or the store was wiped."""
        ...

    async def serves(self, generation: int) -> bool:
        """Whether readers have the generation."""
        ...

    async def delete(self, generation: int) -> None:
        """Delete the generation. Does nothing when it is not there."""
        ...

    async def create(self, generation: int) -> None:
        """Make an empty generation, for a rebuild to fill."""
        ...

    async def serve(self, generation: int) -> None:
        """Let readers have the generation, and delete all others. Does nothing when it is so."""
        ...


class Projection(Protocol[E]):
    """One read model. Its module also has the query.

    `apply` must be idempotent and independent of the order of events: they may come several times and in any order.
    Events carry the whole state after the change, and the version shows which one is newer.
    """

    name: str
    topics: tuple[str, ...]
    """Each event reaches at most one of them: `user-activity` repeats the events of the others for each user."""
    tables: tuple[Table, ...]
    """The tables that `apply` writes. Each has a column `generation`: a rebuild writes a new one."""
    store: Store | None = None
    """What `apply` writes besides, before its transaction commits. It is rebuilt from the event store when it is lost,
    and after `apply` wrote without it, which `apply` records (`mark_unstored`).
    """

    def read(self, topic: str, value: bytes) -> E | None:
        """The event in a message; None when this projection ignores it. Raises UnreadableEvent with the reason.

        When a projection stops ignoring an event type, it must be rebuilt.
        """
        ...

    def of_event(self, stored: dict[str, Any], event: Event) -> E | None:
        """The same as `read` for the message of a stored event, which has been parsed already.

        A projection may override it, so that a rebuild does not write messages only to read them. This one does.
        """
        for message in messages_of(stored):
            if message.topic in self.topics:
                return self.read(message.topic, message.value)
        return None

    async def apply(self, tx: AsyncConnection, events: Sequence[E], generation: int) -> None:
        """Write events to the tables; an event that was applied before changes nothing.

        Rows must be written in the order of their keys, so that two transactions cannot deadlock. For its store, raises
        SearchUnavailable and ListingRejected.
        """
        ...

    async def update_cache(self, events: Sequence[E], generation: int) -> None:
        """Update the cache with committed events. Raises RedisError."""
        return

    def cache_keys(self, events: Sequence[E]) -> set[CacheKey]:
        """The cache items that contain `events`."""
        return set()

    async def drop_cached(self, keys: set[CacheKey], generation: int) -> None:
        """Delete cache items that may lack events, so that readers use Postgres. Raises RedisError."""
        return


class Stored(NamedTuple):
    """Stored events as the messages that a projection consumes, and the ids of unreadable ones."""

    messages: list[ConsumedMessage]
    unreadable: list[UUID]


@dataclass(frozen=True)
class StoredMessage:
    """The message of a stored event on one of a projection's topics, written only when it is parked."""

    topic: str
    key: str
    stored: dict[str, Any]

    def consumed(self) -> ConsumedMessage:
        [value] = [message.value for message in messages_of(self.stored) if message.topic == self.topic]
        return ConsumedMessage(self.topic, self.key, value, self.stored["eventId"])


def read_stored(
    projection: Projection[E], events: Sequence[dict[str, Any]], *, where: str
) -> tuple[list[tuple[StoredMessage, E]], list[tuple[StoredMessage, str]]]:
    """What concerns the projection of stored events, and what it cannot read, with the reason.

    Events that this release cannot read are skipped, logged and counted under `where`, the name of the caller.
    """
    readable: list[tuple[StoredMessage, E]] = []
    unreadable: list[tuple[StoredMessage, str]] = []
    activities = USER_ACTIVITY in projection.topics
    for stored in events:
        kind = KINDS.get(stored["eventType"])
        if kind and not activities and kind.topic not in projection.topics:
            continue
        try:
            event = read_event(stored)
        except UnreadableEvent as error:
            EVENTS_UNREADABLE.labels(where).inc()
            log.error("%s: %s skips event %s: %s", projection.name, where, stored["eventId"], error)
            continue
        topic = kind.topic if kind and kind.topic in projection.topics else USER_ACTIVITY
        message = StoredMessage(topic, stored["userId" if topic == USER_ACTIVITY else "aggregateId"], stored)
        try:
            found = projection.of_event(stored, event)
        except UnreadableEvent as error:
            unreadable.append((message, str(error)))
        else:
            if found is not None:
                readable.append((message, found))
    return readable, unreadable


def as_consumed(projection: Projection[Any], events: Sequence[dict[str, Any]], *, where: str) -> Stored:
    """Convert stored events to the messages of the projection's topics.

    Events that this release cannot read are skipped, logged and counted under `where`, the name of the caller.
    """
    stored = Stored([], [])
    for event in events:
        kind = KINDS.get(event["eventType"])
        if kind and kind.topic not in projection.topics and USER_ACTIVITY not in projection.topics:
            continue
        try:
            stored.messages.extend(
                ConsumedMessage(message.topic, message.key.decode(), message.value, event["eventId"])
                for message in messages_of(event)
                if message.topic in projection.topics
            )
        except UnreadableEvent as error:
            EVENTS_UNREADABLE.labels(where).inc()
            log.error("%s: %s skips event %s: %s", projection.name, where, event["eventId"], error)
            stored.unreadable.append(UUID(event["eventId"]))
    return stored


def parsed(value: bytes) -> dict[str, Any]:
    """A message as JSON. Raises UnreadableEvent with the reason."""
    try:
        message = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableEvent(f"message: {error}") from error
    if not isinstance(message, dict):
        raise UnreadableEvent("message: not an object")
    return message
