"""What a projection has to say for itself: its topics, how a message is read and how events are applied.

Everything else is the same for all: consuming, parking, catching up with the event store, rebuilding, replaying and
the metrics of its lag.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.kafka import messages_of
from adapters.telemetry import EVENTS_UNREADABLE
from domain.events import KINDS, USER_ACTIVITY, UnreadableEvent
from projections.parking import ConsumedMessage

log = logging.getLogger(__name__)

CacheKey = tuple[str, ...]
"""Names one thing that a projection keeps outside Postgres."""


class Applicable(Protocol):
    """What a projection makes of a message."""

    @property
    def timestamp(self) -> datetime: ...


E = TypeVar("E", bound=Applicable)


class Projection(Protocol[E]):
    """One read model. Its file has the query beside `apply`.

    Events come several times and in any order, and `apply` has to be right under both: events carry the whole state
    after the change, so versions tell which one is newer.
    """

    name: str
    topics: tuple[str, ...]
    """Each event reaches at most one of them: `user-activity` repeats the events of the others for each user."""
    tables: tuple[Table, ...]
    """Where `apply` writes. Each table has a column `generation`: a rebuild fills a new one while another serves."""

    def read(self, topic: str, value: bytes) -> E | None:
        """What a message says; None where it does not concern this projection. Raises UnreadableEvent, saying why.

        A projection that is to take in more kinds of event than before has to be rebuilt.
        """
        ...

    async def apply(self, tx: AsyncConnection, events: Sequence[E], generation: int) -> None:
        """Write events to the tables; those that are there already change nothing.

        Rows are written in the order of their keys, so that two transactions never wait for each other in a circle.
        """
        ...

    async def update_cache(self, events: Sequence[E], generation: int) -> None:
        """Bring what is kept outside Postgres up to date with committed events. Raises RedisError."""
        return

    def cache_keys(self, events: Sequence[E]) -> set[CacheKey]:
        """What of the cache `events` concern."""
        return set()

    async def drop_cached(self, keys: set[CacheKey], generation: int) -> None:
        """Drop from the cache what may lack events, so that readers take it from Postgres. Raises RedisError."""
        return


class Stored(NamedTuple):
    """Stored events as a projection would consume them, and the ids of those that this release cannot read."""

    messages: list[ConsumedMessage]
    unreadable: list[UUID]


def as_consumed(projection: Projection[Any], events: Sequence[dict[str, Any]], *, where: str) -> Stored:
    """Stored events as the messages of the projection's topics that they are published as.

    Events that this release cannot read are left out, logged and counted under `where`, which names who skips them.
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
