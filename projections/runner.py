"""The loop of a projection: take from Kafka, write to the sink, and only then commit the offsets."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import kafka
from adapters.postgres import Database, DatabaseAway, is_transient
from adapters.redis import RedisError
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED, EVENTS_APPLIED, EVENTS_PARKED, PROJECTION_AGE, PROJECTION_LAG
from domain.activity import Activity
from domain.events import UnreadableEvent
from projections.generations import generation_of
from projections.history import History
from projections.parking import EARLIER_IS_PARKED, ConsumedMessage, blocked_keys, park

log = logging.getLogger(__name__)

_BATCH = 500
"""Messages in one transaction: enough to spread its cost, few enough for a quarter of a second."""
_PAUSE_SECONDS = 1.0
_JOIN_SECONDS = 30.0
"""A rebalance waits for a dead member until its session ends (10 s); three times that is a stall."""
_COMMIT_SECONDS = 5.0
"""A commit takes milliseconds. The client repeats one for ever that a broker refuses which has forgotten the topic."""
_JUDGED, _TOO_MANY = 100, 50
"""When more than 50 of the last 100 messages fail, the cause is this release or its sink rather than the messages."""


T = TypeVar("T")
Readable = list[tuple[ConsumedMessage, Activity]]
Applied = tuple[list[Activity], list[tuple[ConsumedMessage, str]]]
"""What the sink has taken, and what it refuses with the reason."""
Apply = Callable[[AsyncConnection, Readable, int], Awaitable[Applied]]


class MostlyFailing(Exception):
    """Most events fail: the projection stops rather than parking everything."""


class Stalled(Exception):
    """The consumer has not heard from the broker for too long."""


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """When a consumer was given its partitions: it has heard of none of them before, and that is no stall."""

    def __init__(self) -> None:
        self.assigned_at = 0.0

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        return

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.assigned_at = time.monotonic()


class Runner:
    """Runs one projection in one consumer of its group; another group reads everything again, which changes nothing."""

    def __init__(self, settings: Settings, database: Database, projection: History, group: str = "") -> None:
        self._settings = settings
        self._database = database
        self._projection = projection
        self._group = group or f"projection-{projection.name}"
        self._outcomes: deque[bool] = deque(maxlen=_JUDGED)
        self._stale_users: set[tuple[str, str]] = set()
        self._active_at = time.monotonic()
        self.ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, through every outage. Raises MostlyFailing."""
        while not stop.is_set():
            try:
                await self._consume(stop)
            except (KafkaError, OSError) as error:
                log.warning("%s: Kafka is away (%s); trying again", self._projection.name, type(error).__name__)
                await _pause(stop)
            except Stalled as stalled:
                CONSUMERS_RECREATED.labels(self._projection.name).inc()
                log.warning("%s: %s; the consumer is made anew", self._projection.name, stalled)

    async def _consume(self, stop: asyncio.Event) -> None:
        await kafka.ensure_topics(self._settings)
        consumer, membership = kafka.consumer(self._settings, self._group), Membership()
        consumer.subscribe(self._projection.topics, listener=membership)
        try:
            await _answered("joining", consumer.start(), _JOIN_SECONDS)
            self.ready = True
            self._active_at = time.monotonic()
            while not stop.is_set():
                # In a rebalance it waits for the end, whatever the timeout says.
                polled = consumer.getmany(timeout_ms=200, max_records=_BATCH)
                taken = await _answered("a rebalance", polled, _JOIN_SECONDS)
                records = [
                    ConsumedMessage(record.topic, (record.key or b"").decode(errors="replace"), record.value or b"")
                    for partition in taken.values()
                    for record in partition
                ]
                if records:
                    await self.take(records, stop)
                if (records or self._stale_users) and await self._redis_is_current() and not stop.is_set():
                    await self._commit(consumer)
                await self._measure(consumer, membership, busy=bool(records))
        finally:
            await consumer.stop()

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await _answered("a commit", consumer.commit(), _COMMIT_SECONDS)
        except CommitFailedError:
            log.info("%s: the group rebalances; what was not committed is read again", self._projection.name)

    async def take(self, messages: Sequence[ConsumedMessage], stop: asyncio.Event) -> None:
        """Write a batch to the sink, trying again while Postgres is unavailable. Raises MostlyFailing."""
        while not stop.is_set():
            try:
                await self._write(messages)
                return
            except DatabaseAway as error:
                log.warning("%s: Postgres did not take the batch (%s); trying again", self._projection.name, error)
                await _pause(stop)

    async def _write(self, messages: Sequence[ConsumedMessage]) -> None:
        try:
            await self._write_by(self._apply_together, messages)
        except DBAPIError:
            # The sink refuses something of it: one by one, to find out what.
            await self._write_by(self._apply_each, messages)

    async def _write_by(self, apply: Apply, messages: Sequence[ConsumedMessage]) -> None:
        readable, unreadable = self._read(messages)
        async with self._database.transaction() as tx:
            generation = await generation_of(tx, self._projection.name, locked=True)
            blocked = await blocked_keys(tx, self._projection.name, {message.key for message in messages})
            blocked |= {message.key for message, _ in unreadable}
            after_parked = [(message, EARLIER_IS_PARKED) for message, _ in readable if message.key in blocked]
            free = [(message, activity) for message, activity in readable if message.key not in blocked]
            applied, refused = await apply(tx, free, generation)
            self._judge(len(applied) + len(after_parked), [*unreadable, *refused])
            if unreadable or refused or after_parked:
                await park(tx, self._projection.name, [*unreadable, *refused, *after_parked])
                EVENTS_PARKED.labels(self._projection.name).inc(len(unreadable) + len(refused) + len(after_parked))
        for message, reason in [*unreadable, *refused]:
            log.error("%s: parked %s of %s: %s", self._projection.name, message.key, message.topic, reason)
        await self._add_to_redis(applied, generation)

    def _read(self, messages: Sequence[ConsumedMessage]) -> tuple[Readable, list[tuple[ConsumedMessage, str]]]:
        readable: Readable = []
        unreadable: list[tuple[ConsumedMessage, str]] = []
        for message in messages:
            try:
                readable.append((message, self._projection.read(message.value)))
            except UnreadableEvent as error:
                unreadable.append((message, str(error)))
        return readable, unreadable

    async def _apply_together(self, tx: AsyncConnection, free: Readable, generation: int) -> Applied:
        everything = [activity for _, activity in free]
        await self._projection.apply(tx, everything, generation)
        return everything, []

    async def _apply_each(self, tx: AsyncConnection, free: Readable, generation: int) -> Applied:
        applied: list[Activity] = []
        refused: list[tuple[ConsumedMessage, str]] = []
        for message, activity in free:
            try:
                async with tx.begin_nested():
                    await self._projection.apply(tx, [activity], generation)
                applied.append(activity)
            except DBAPIError as error:
                if is_transient(error):
                    raise
                refused.append((message, f"the sink refuses it: {error.orig}"))
        return applied, refused

    def _judge(self, good: int, failed: list[tuple[ConsumedMessage, str]]) -> None:
        self._outcomes.extend([True] * good + [False] * len(failed))
        if self._outcomes.count(False) > _TOO_MANY:
            raise MostlyFailing(f"more than {_TOO_MANY} of the last {_JUDGED} messages fail; the last: {failed[-1][1]}")

    async def _add_to_redis(self, activities: list[Activity], generation: int) -> None:
        if not activities:
            return
        EVENTS_APPLIED.labels(self._projection.name).inc(len(activities))
        newest = max(activity.timestamp for activity in activities)
        PROJECTION_AGE.labels(self._projection.name).set((datetime.now(UTC) - newest).total_seconds())
        try:
            await self._projection.add_to_redis(activities, generation)
        except RedisError as error:
            log.warning("%s: Redis is away (%s); offsets wait for it", self._projection.name, error)
            self._stale_users |= {(activity.tenant_id, str(activity.user_id)) for activity in activities}

    async def _redis_is_current(self) -> bool:
        """Whether no set in Redis lacks an entry that it would not get again once the offsets are committed."""
        if self._stale_users:
            try:
                async with self._database.transaction() as tx:
                    generation = await generation_of(tx, self._projection.name)
                await self._projection.drop_from_redis(self._stale_users, generation)
                self._stale_users.clear()
            except (RedisError, DatabaseAway):
                return False
        return True

    async def _measure(self, consumer: AIOKafkaConsumer, membership: Membership, *, busy: bool) -> None:
        """Expose the lag of each partition. Raises Stalled when the broker has been silent for too long."""
        now = time.monotonic()
        if busy:
            self._active_at = now
        assigned: set[TopicPartition] = consumer.assignment()
        heard = []
        for partition in assigned:
            if partition not in consumer.assignment():
                return  # it went to another member while we asked for the one before
            polled, newest = consumer.last_poll_timestamp(partition), consumer.highwater(partition)
            heard.append(now - (time.time() - polled / 1000) if polled else 0.0)
            if newest is None:
                continue
            try:
                position = await _answered("a position", consumer.position(partition), self._settings.stall_seconds)
            except IllegalStateError:
                return  # it goes to another member just now
            lag = PROJECTION_LAG.labels(self._projection.name, partition.topic, partition.partition)
            lag.set(max(0, newest - position))
        silent = now - max(self._active_at, membership.assigned_at, min(heard, default=0.0))
        if assigned and silent > self._settings.stall_seconds:
            raise Stalled(f"nothing heard from the broker for {silent:.0f} s")


async def _answered(what: str, asked: Awaitable[T], seconds: float) -> T:
    """The broker's answer. Raises Stalled when there is none in time."""
    try:
        return await asyncio.wait_for(asked, seconds)
    except TimeoutError as error:
        raise Stalled(f"{what} was not answered within {seconds:.0f} s") from error


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _PAUSE_SECONDS)
    except TimeoutError:
        return
