"""The consumer loop of a projection: poll Kafka, write the batch, then commit the offsets (at-least-once)."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from adapters import kafka, tasks
from adapters.event_store import NotRenumbered
from adapters.postgres import Database, DatabaseUnavailable
from adapters.search.engine import SearchUnavailable
from adapters.settings import Settings
from adapters.telemetry import CONSUMERS_RECREATED, PROJECTION_LAG, PROJECTION_STOPPED
from projections.catch_up import CatchUp
from projections.generations import generation_of, is_stored
from projections.parking import ConsumedMessage
from projections.projection import E, Projection, Store
from projections.rebuild import RebuildRunning, rebuild
from projections.sink import PAUSE_SECONDS, Sink, TooManyFailures, pause

log = logging.getLogger(__name__)

_BATCH = 500
"""Messages per transaction: enough to amortize its cost, few enough for 0.25 s."""
_JOIN_SECONDS = 30.0
"""Time limit of a rebalance. It waits until a dead member's session times out (10 s); this is three times that."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""Pause before a stopped projection starts again: doubled each time, until a run lasts longer than the longest pause.
A release that fixes the cause restarts the process, so nobody waits for the longest one.
"""
_STORE_SECONDS = 5.0
"""How often the store of a projection is looked at; searches are unavailable until it is rebuilt."""
_COMMIT_SECONDS = 5.0
"""Time limit of a commit, which takes milliseconds. aiokafka retries for ever when the broker has lost the topic."""

T = TypeVar("T")


class Stalled(Exception):
    """The consumer has had no response from the broker for too long."""


class AssignmentListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Records when partitions were assigned: they have no fetch response yet, which is not a stall."""

    def __init__(self) -> None:
        self.assigned_at = 0.0

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        return

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.assigned_at = time.monotonic()


class Runner(Generic[E]):
    """Runs one projection with one consumer in the projection's consumer group."""

    def __init__(self, settings: Settings, database: Database, projection: Projection[E], group: str = "") -> None:
        self._settings = settings
        self._projection = projection
        self._database = database
        self._group = group or f"projection-{projection.name}"
        self._stopped = ""
        self._begin()

    def _begin(self) -> None:
        """Begin as a process that has just started."""
        self._sink = Sink(self._database, self._projection)
        self._catch_up = CatchUp(self._database, self._projection, self._sink)
        self._active_at = time.monotonic()
        self._has_joined = False

    @property
    def waiting_for(self) -> list[str]:
        """What is missing. Ready (empty) means that all events stored before the start are applied."""
        if self._stopped:
            return [f"{self._projection.name} has stopped: {self._stopped}"]
        missing = [] if self._has_joined else ["Kafka"]
        return missing if self._catch_up.done else [*missing, f"{self._projection.name} is catching up"]

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. After too many failures it stops by itself, and starts again after a pause."""
        stopped, seconds = PROJECTION_STOPPED.labels(self._projection.name), _FIRST_PAUSE_SECONDS
        while not stop.is_set():
            stopped.set(0)
            began = time.monotonic()
            try:
                await self._run(stop)
            except TooManyFailures as failing:
                if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                    seconds = _FIRST_PAUSE_SECONDS
                self._stopped = str(failing)
                stopped.set(1)
                log.error("%s stops, and starts again in %.0f s: %s", self._projection.name, seconds, failing)
                await pause(stop, seconds)
                seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)
                self._stopped = ""
                self._begin()

    async def _run(self, stop: asyncio.Event) -> None:
        """Catch up and consume until `stop` is set; outages are retried. Raises TooManyFailures."""
        running = [asyncio.create_task(self._catch_up.run(stop)), asyncio.create_task(self._consume_always(stop))]
        if self._projection.store:
            running.append(asyncio.create_task(self._keep_store(self._projection.store, stop)))
        try:
            await asyncio.gather(*running)
        finally:
            await tasks.cancel(running)

    async def _keep_store(self, store: Store, stop: asyncio.Event) -> None:
        """Rebuild the read model when its store does not have it, until `stop` is set. Raises TooManyFailures.

        The store is new, was wiped, or is older than the read model: processes wrote that without the store, or the
        database was restored.
        """
        name = self._projection.name
        while not stop.is_set():
            try:
                # Locked, because a rebuild that switches meanwhile deletes the generation that it replaces.
                async with self._database.transaction() as tx:
                    generation = await generation_of(tx, name, locked=True)
                    is_there = await is_stored(tx, name, generation) and await store.has(generation)
                    # Another generation beside it is one that a rebuild is filling.
                    if is_there and not await store.serves(generation):
                        await store.serve(generation)
                    if not is_there:
                        # Readers would get what is no longer so, such as listings that are deleted since.
                        await store.delete(generation)
                if not is_there:
                    log.warning("%s: OpenSearch lacks generation %d, or changes of it: rebuilding", name, generation)
                    rebuilt = await rebuild(self._database, self._projection, lambda _: None)
                    log.info("%s is rebuilt from %d events", name, rebuilt.applied)
            except RebuildRunning:
                log.info("%s: another process rebuilds it", name)
            except (DatabaseUnavailable, NotRenumbered, SearchUnavailable) as error:
                log.warning("%s: OpenSearch was not looked at: %s; trying again", name, error)
            await pause(stop, _STORE_SECONDS)

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
            except asyncio.CancelledError:
                # aiokafka cancels its own futures when it gives up a coordinator, without cancelling this task.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                CONSUMERS_RECREATED.labels(self._projection.name).inc()
                log.warning("%s: aiokafka cancelled a request; the consumer is recreated", self._projection.name)
                await pause(stop, PAUSE_SECONDS)

    async def _consume(self, stop: asyncio.Event) -> None:
        await kafka.ensure_topics(self._settings)
        consumer, assignment = kafka.consumer(self._settings, self._group), AssignmentListener()
        consumer.subscribe(self._projection.topics, listener=assignment)
        try:
            await _within("joining the group", consumer.start(), _JOIN_SECONDS)
            self._has_joined = True
            self._active_at = time.monotonic()
            while not stop.is_set():
                # During a rebalance `getmany` ignores its timeout and waits for the end.
                polled = consumer.getmany(timeout_ms=200, max_records=_BATCH)
                taken = await _within("a rebalance", polled, _JOIN_SECONDS)
                messages = [_consumed(record) for partition in taken.values() for record in partition]
                written = bool(messages) and await self._sink.write(messages, stop)
                due = written or self._sink.has_stale_cache
                if due and await self._sink.cache_is_current() and not stop.is_set():
                    await self._commit(consumer)
                await self._measure(consumer, assignment, busy=bool(messages))
        finally:
            await consumer.stop()

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await _within("a commit", consumer.commit(), _COMMIT_SECONDS)
        except CommitFailedError:
            log.info("%s: the group is rebalancing; uncommitted messages are read again", self._projection.name)

    async def _measure(self, consumer: AIOKafkaConsumer, assignment: AssignmentListener, *, busy: bool) -> None:
        """Update the lag metrics. Raises Stalled when the last fetch response is too old."""
        now = time.monotonic()
        if busy:
            self._active_at = now
        assigned: set[TopicPartition] = consumer.assignment()
        response_ages = []
        for partition in assigned:
            if partition not in consumer.assignment():
                return  # reassigned while the previous position was fetched
            polled, newest = consumer.last_poll_timestamp(partition), consumer.highwater(partition)
            response_ages.append(now - (time.time() - polled / 1000) if polled else 0.0)
            if newest is None:
                continue
            try:
                position = await _within(
                    "fetching a position", consumer.position(partition), self._settings.stall_seconds
                )
            except IllegalStateError:
                return  # being reassigned
            lag = PROJECTION_LAG.labels(self._projection.name, partition.topic, partition.partition)
            lag.set(max(0, newest - position))
        silent = now - max(self._active_at, assignment.assigned_at, min(response_ages, default=0.0))
        if assigned and silent > self._settings.stall_seconds:
            raise Stalled(f"no response from the broker for {silent:.0f} s")


def _consumed(record: ConsumerRecord) -> ConsumedMessage:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    key, tenant_id = (record.key or b"").decode(errors="replace"), headers.get("ce_source", "").rpartition("/")[2]
    return ConsumedMessage(record.topic, key, record.value or b"", headers.get("ce_id", ""), tenant_id)


async def _within(what: str, response: Awaitable[T], seconds: float) -> T:
    """Await a response of the broker. Raises Stalled after `seconds`."""
    try:
        return await asyncio.wait_for(response, seconds)
    except TimeoutError as error:
        raise Stalled(f"{what} took longer than {seconds:.0f} s") from error
