"""Kafka: acknowledged publishing, topics and consumers."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from adapters.settings import Settings
from domain import ids
from domain.activity import Activity, activity_of
from domain.events import KINDS, TOPICS, USER_ACTIVITY, read_event

_SEND_SECONDS = 1.0
"""Time limit for one `send`. An acknowledgement takes milliseconds; a command waits no longer than this."""
_CIRCUIT_OPEN_SECONDS = 1.0
"""How long `send` fails at once after a failure, so that not every command waits for a timeout."""


class BrokerUnavailable(Exception):
    """Kafka did not acknowledge the messages; they may be sent again."""


@dataclass(frozen=True)
class Message:
    """One record: its topic, its key (which decides its partition and order), its JSON and its headers."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def messages_of(event: dict[str, Any]) -> list[Message]:
    """The messages of a stored event: the event, keyed by aggregate, and its activity, keyed by user.

    An event of an anonymous user has no activity.

    Raises UnreadableEvent.
    """
    activity = activity_of(read_event(event))
    messages = [_message(KINDS[event["eventType"]].topic, event["aggregateId"], orjson.dumps(event), event)]
    if activity:
        messages.append(_message(USER_ACTIVITY, event["userId"], activity_json(activity), event))
    return messages


def activity_json(activity: Activity) -> bytes:
    return activity.model_dump_json(by_alias=True).encode()


def _message(topic: str, key: str, value: bytes, event: dict[str, Any]) -> Message:
    trace = ids.traceparent(UUID(event["commandId"]), UUID(event["eventId"]))
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event["eventId"],
        "ce_type": event["eventType"],
        "ce_source": f"/hyderabad-infra/{event['tenantId']}",
        "ce_time": event["timestamp"],
        "traceparent": trace,
    }
    return Message(topic, key.encode(), value, [(name, text.encode()) for name, text in headers.items()])


class Publisher:
    """An idempotent producer with a circuit breaker; created on first use and replaced after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._circuit_open_until = 0.0

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages; returns when all in-sync replicas have acknowledged them. Raises BrokerUnavailable."""
        if not messages:
            return
        if time.monotonic() < self._circuit_open_until:
            raise BrokerUnavailable("the circuit breaker is open: the last send failed")
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                producer = await self._started()
                sent = [
                    await producer.send(message.topic, message.value, message.key, headers=message.headers)
                    for message in messages
                ]
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            self._circuit_open_until = time.monotonic() + _CIRCUIT_OPEN_SECONDS
            await self.close()
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                # A broker whose log was lost has no topics either.
                await ensure_topics(self._settings)
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=2,  # concurrent commands share a request
                    request_timeout_ms=5000,
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Stop the producer. Messages that are not acknowledged within 0.2 s are dropped."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        stopping = asyncio.create_task(producer.stop())
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        try:
            await asyncio.wait({stopping}, timeout=0.2)
        finally:
            # `stop` flushes, and an idempotent producer retries for ever: cancel its batches so that it can stop.
            accumulator = producer._message_accumulator
            for batch in [*accumulator._pending_batches, *chain.from_iterable(accumulator._batches.values())]:
                batch.future.cancel()


async def ensure_topics(settings: Settings) -> None:
    """Create the topics that are missing. Raises KafkaError when the broker cannot be reached."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, request_timeout_ms=5000)
    try:
        await admin.start()
        wanted = [NewTopic(name, settings.kafka_partitions, settings.kafka_replication) for name in TOPICS]
        response = await admin.create_topics(wanted)
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:
                raise error(f"creating topic {name}")
    except TopicAlreadyExistsError:
        return
    finally:
        await admin.close()


def consumer(settings: Settings, group: str | None, *topics: str) -> AIOKafkaConsumer:
    """A consumer in `group` (None: in no group), with manual commits; without offsets it starts at the earliest."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # a new group must not skip existing messages
        fetch_max_wait_ms=250,
        max_poll_interval_ms=120_000,  # a batch takes milliseconds, and longer while Postgres is unavailable
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        request_timeout_ms=15_000,
        retry_backoff_ms=100,
        metadata_max_age_ms=30_000,
    )
