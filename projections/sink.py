"""Writes the messages of a projection: applies those that it can, and parks the others."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, DatabaseUnavailable, is_transient
from adapters.redis import RedisError
from adapters.search.engine import ListingRejected, SearchUnavailable
from adapters.telemetry import EVENTS_APPLIED, EVENTS_PARKED, PROJECTION_AGE
from domain.events import UnreadableEvent
from projections.generations import generation_of
from projections.parking import EARLIER_EVENT_PARKED, ConsumedMessage, blocked_keys, discarded_among, park
from projections.projection import CacheKey, E, Projection

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Interval between retries while Postgres or Kafka is unavailable."""
_FAILURE_WINDOW, _MAX_FAILURES = 100, 50
"""When more than 50 of the last 100 messages fail, the cause is this release or the database, not the messages."""


class HasKey(Protocol):
    """A message, as far as applying needs it."""

    @property
    def key(self) -> str: ...


M = TypeVar("M", bound=HasKey)
Readable = list[tuple[M, E]]


class TooManyFailures(Exception):
    """Most events fail: the projection stops instead of parking everything."""


class FailureRate:
    """The failure rate over the last messages."""

    def __init__(self) -> None:
        self._succeeded: deque[bool] = deque(maxlen=_FAILURE_WINDOW)

    def add(self, good: int, failed: Sequence[tuple[object, str]]) -> None:
        """Count messages of one batch that were tried, `failed` with their reasons. Raises TooManyFailures.

        Blocked ones do not count: as successes they would hide that every event of their keys fails. The others count
        as if the failures were spread evenly over the batch, which may be larger than the window: otherwise its end
        alone would be seen.
        """
        size = good + len(failed)
        self._succeeded.extend((n + 1) * good // size > n * good // size for n in range(size))
        if failed and self._succeeded.count(False) > _MAX_FAILURES:
            raise TooManyFailures(
                f"more than {_MAX_FAILURES} of the last {_FAILURE_WINDOW} messages fail; the last: {failed[-1][1]}"
            )


@dataclass
class Outcome(Generic[M, E]):
    """The results of the readable messages of a batch."""

    applied: list[E] = field(default_factory=list)
    rejected: list[tuple[M, str]] = field(default_factory=list)
    """Rejected by Postgres (a constraint violation or a data error) or OpenSearch, each with the reason."""
    blocked: list[M] = field(default_factory=list)
    """Not applied, because an earlier event of their key is parked."""


Messages = Readable[ConsumedMessage, E]
Apply = Callable[[AsyncConnection, Projection[E], Messages[E], int], Awaitable[Outcome[ConsumedMessage, E]]]


class Sink(Generic[E]):
    """Writes to the tables and the cache of one projection in one process."""

    def __init__(self, database: Database, projection: Projection[E]) -> None:
        self._database = database
        self._projection = projection
        self._lock = asyncio.Lock()
        self._failures = FailureRate()
        self._stale: set[CacheKey] = set()
        self._written: set[str] = set()
        self._written_before: set[str] = set()

    async def write(self, messages: Sequence[ConsumedMessage], stop: asyncio.Event) -> bool:
        """Apply or park a batch, with retries while what it writes to is unavailable; False if `stop` was set first.

        Raises TooManyFailures.
        """
        while not stop.is_set():
            try:
                async with self._lock:
                    await self._write(messages)
            except (DatabaseUnavailable, SearchUnavailable) as error:
                log.warning("%s: the batch was not written (%s); trying again", self._projection.name, error)
                await pause(stop, PAUSE_SECONDS)
            else:
                self._written.update(message.event_id for message in messages)
                return True
        return False

    async def cache_is_current(self) -> bool:
        """Whether the cache has every written event; tries to invalidate items that lack one.

        Until then neither offsets nor the checkpoint may move: otherwise the cache would never get those events.
        """
        async with self._lock:
            if self._stale:
                try:
                    async with self._database.transaction() as tx:
                        generation = await generation_of(tx, self._projection.name)
                    await self._projection.drop_cached(self._stale, generation)
                except (RedisError, DatabaseUnavailable):
                    return False
                self._stale.clear()
            return True

    @property
    def has_stale_cache(self) -> bool:
        return bool(self._stale)

    def has_written(self, event_id: str) -> bool:
        """Whether this process wrote the event recently; False may also mean that it was forgotten."""
        return event_id in self._written or event_id in self._written_before

    def forget_written(self) -> None:
        """Forget the ids of events that were written before the previous call."""
        self._written_before, self._written = self._written, set()

    async def _write(self, messages: Sequence[ConsumedMessage]) -> None:
        try:
            await self._write_by(apply_batch, messages)
        except (DBAPIError, ListingRejected):
            # Postgres or OpenSearch rejected some event of the batch: apply one by one to find it.
            await self._write_by(apply_one_by_one, messages)

    async def _write_by(self, apply: Apply[E], messages: Sequence[ConsumedMessage]) -> None:
        name = self._projection.name
        readable, unreadable = read_messages(self._projection, messages)
        async with self._database.transaction() as tx:
            generation = await generation_of(tx, name, locked=True)
            if discarded := await discarded_among(tx, name, {message.event_id for message in messages}):
                readable = [found for found in readable if found[0].event_id not in discarded]
                unreadable = [found for found in unreadable if found[0].event_id not in discarded]
            blocked = await blocked_keys(tx, name, {message.key for message in messages})
            blocked |= {message.key for message, _ in unreadable}
            free = [(message, event) for message, event in readable if message.key not in blocked]
            outcome = await apply(tx, self._projection, free, generation)
            outcome.blocked += [message for message, _ in readable if message.key in blocked]
            failed = [*unreadable, *outcome.rejected]
            self._failures.add(len(outcome.applied), failed)
            if failed or outcome.blocked:
                await park(tx, name, [*failed, *((message, EARLIER_EVENT_PARKED) for message in outcome.blocked)])
                EVENTS_PARKED.labels(name).inc(len(failed) + len(outcome.blocked))
        for message, reason in failed:
            log.error("%s: parked an event of key %s from %s: %s", name, message.key, message.topic, reason)
        if outcome.applied:
            await self._after_commit(outcome.applied, generation)

    async def _after_commit(self, events: list[E], generation: int) -> None:
        name = self._projection.name
        EVENTS_APPLIED.labels(name).inc(len(events))
        newest = max(event.timestamp for event in events)
        PROJECTION_AGE.labels(name).set((datetime.now(UTC) - newest).total_seconds())
        try:
            await self._projection.update_cache(events, generation)
        except RedisError as error:
            log.warning("%s: Redis is unavailable (%s); offsets are not committed until it is back", name, error)
            self._stale |= self._projection.cache_keys(events)


def read_messages(
    projection: Projection[E], messages: Sequence[ConsumedMessage]
) -> tuple[Messages[E], list[tuple[ConsumedMessage, str]]]:
    """The events that concern the projection with their messages, and unreadable messages with the reason."""
    readable: Messages[E] = []
    unreadable: list[tuple[ConsumedMessage, str]] = []
    for message in messages:
        try:
            event = projection.read(message.topic, message.value)
        except UnreadableEvent as error:
            unreadable.append((message, str(error)))
        else:
            if event is not None:
                readable.append((message, event))
    return readable, unreadable


async def apply_batch(
    tx: AsyncConnection, projection: Projection[E], free: Readable[M, E], generation: int
) -> Outcome[M, E]:
    """Apply events as one batch. Raises DBAPIError or ListingRejected when one of them is rejected."""
    events = [event for _, event in free]
    if events:
        await projection.apply(tx, events, generation)
    return Outcome(applied=events)


async def apply_one_by_one(
    tx: AsyncConnection, projection: Projection[E], free: Readable[M, E], generation: int
) -> Outcome[M, E]:
    """Apply events one by one; later ones of the key of a rejected event are blocked."""
    outcome: Outcome[M, E] = Outcome()
    rejected_keys: set[str] = set()
    for message, event in free:
        if message.key in rejected_keys:
            outcome.blocked.append(message)
        elif reason := await try_apply(tx, projection, event, generation):
            outcome.rejected.append((message, reason))
            rejected_keys.add(message.key)
        else:
            outcome.applied.append(event)
    return outcome


async def try_apply(tx: AsyncConnection, projection: Projection[E], event: E, generation: int) -> str | None:
    """Apply one event in a savepoint; returns the reason if it is rejected. Raises transient errors."""
    try:
        async with tx.begin_nested():
            await projection.apply(tx, [event], generation)
    except DBAPIError as error:
        if is_transient(error):
            raise
        return f"rejected by Postgres: {error.orig}"
    except ListingRejected as error:
        return str(error)
    return None


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds`, or until `stop` is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
