"""The loop of a projection: take from Kafka, write to the sink, and only then commit the offsets."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from adapters import kafka
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED, PROJECTION_LAG, PROJECTION_STOPPED
from projections.catch_up import CatchUp
from projections.parking import ConsumedMessage
from projections.projection import E, Projection
from projections.sink import PAUSE_SECONDS, MostlyFailing, Sink, pause

log = logging.getLogger(__name__)

_BATCH = 500
"""Messages in one transaction: enough to spread its cost, few enough for a quarter of a second."""
_JOIN_SECONDS = 30.0
"""A rebalance waits for a dead member until its session ends (10 s); three times that is a stall."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""How long a projection that has stopped waits before it is tried again: doubled each time, until it has run for longer
than the longest pause. Whoever deploys what fixes it restarts it anyway.
"""
_COMMIT_SECONDS = 5.0
"""A commit takes milliseconds. The client repeats one for ever that a broker refuses which has forgotten the topic."""

T = TypeVar("T")


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


class Runner(Generic[E]):
    """Runs one projection in one consumer of its group; another group reads everything again, which changes nothing."""

    def __init__(self, settings: Settings, database: Database, projection: Projection[E], group: str = "") -> None:
        self._settings = settings
        self._projection = projection
        self._database = database
        self._group = group or f"projection-{projection.name}"
        self._stopped = ""
        self._begin()

    def _begin(self) -> None:
        """What a start begins with, so that one after a failure is like that of a process."""
        self._sink = Sink(self._database, self._projection)
        self._catch_up = CatchUp(self._database, self._projection, self._sink)
        self._active_at = time.monotonic()
        self._has_joined = False

    @property
    def waiting_for(self) -> list[str]:
        """What is still missing before the projection is ready: then readers find what was stored before its start."""
        if self._stopped:
            return [f"{self._projection.name} has stopped: {self._stopped}"]
        missing = [] if self._has_joined else ["Kafka"]
        return missing if self._catch_up.done else [*missing, f"{self._projection.name} is catching up"]

    async def run(self, stop: asyncio.Event) -> None:
        """Run the projection until `stop` is set. One that mostly fails stops by itself and is tried again later."""
        stopped, seconds = PROJECTION_STOPPED.labels(self._projection.name), _FIRST_PAUSE_SECONDS
        while not stop.is_set():
            stopped.set(0)
            began = time.monotonic()
            try:
                await self._run(stop)
            except MostlyFailing as failing:
                if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                    seconds = _FIRST_PAUSE_SECONDS
                self._stopped = str(failing)
                stopped.set(1)
                log.error("%s stops and is tried again in %.0f s: %s", self._projection.name, seconds, failing)
                await pause(stop, seconds)
                seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)
                self._stopped = ""
                self._begin()

    async def _run(self, stop: asyncio.Event) -> None:
        """Catch up and consume until `stop` is set, through every outage. Raises MostlyFailing."""
        tasks = [asyncio.create_task(self._catch_up.run(stop)), asyncio.create_task(self._consume_always(stop))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _consume_always(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._consume(stop)
            except (KafkaError, OSError) as error:
                log.warning("%s: Kafka is unavailable (%s); trying again", self._projection.name, type(error).__name__)
                await pause(stop, PAUSE_SECONDS)
            except Stalled as stalled:
                CONSUMERS_RECREATED.labels(self._projection.name).inc()
                log.warning("%s: %s; the consumer is recreated", self._projection.name, stalled)

    async def _consume(self, stop: asyncio.Event) -> None:
        await kafka.ensure_topics(self._settings)
        consumer, membership = kafka.consumer(self._settings, self._group), Membership()
        consumer.subscribe(self._projection.topics, listener=membership)
        try:
            await _answered("joining", consumer.start(), _JOIN_SECONDS)
            self._has_joined = True
            self._active_at = time.monotonic()
            while not stop.is_set():
                # In a rebalance it waits for the end, whatever the timeout says.
                polled = consumer.getmany(timeout_ms=200, max_records=_BATCH)
                taken = await _answered("a rebalance", polled, _JOIN_SECONDS)
                messages = [_consumed(record) for partition in taken.values() for record in partition]
                written = bool(messages) and await self._sink.write(messages, stop)
                due = written or self._sink.has_stale_cache
                if due and await self._sink.cache_is_current() and not stop.is_set():
                    await self._commit(consumer)
                await self._measure(consumer, membership, busy=bool(messages))
        finally:
            await consumer.stop()

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await _answered("a commit", consumer.commit(), _COMMIT_SECONDS)
        except CommitFailedError:
            log.info("%s: the group rebalances; what was not committed is read again", self._projection.name)

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


def _consumed(record: ConsumerRecord) -> ConsumedMessage:
    event_id = next((value.decode(errors="replace") for name, value in record.headers if name == "ce_id"), "")
    return ConsumedMessage(record.topic, (record.key or b"").decode(errors="replace"), record.value or b"", event_id)


async def _answered(what: str, asked: Awaitable[T], seconds: float) -> T:
    """The broker's answer. Raises Stalled when there is none in time."""
    try:
        return await asyncio.wait_for(asked, seconds)
    except TimeoutError as error:
        raise Stalled(f"{what} was not answered within {seconds:.0f} s") from error
