"""Kafka: publishing with acknowledgement, topics and consumers."""

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
"""An acknowledgement takes milliseconds; when the broker is unavailable, the answer waits no longer than this."""
_REST_SECONDS = 1.0
"""After a failure the broker is left alone this long, so that commands do not each pay for finding it unavailable."""


class BrokerUnavailable(Exception):
    """Kafka did not acknowledge; the same messages may be sent again."""


@dataclass(frozen=True)
class Message:
    """One record: its topic, its key (which decides its partition and order), its JSON and its headers."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def messages_of(event: dict[str, Any]) -> list[Message]:
    """A stored event as its messages: the event by aggregate and, of a user with an account, the activity by user.

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
    """A producer that is made when first needed and made anew after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._resting_until = 0.0

    async def send(self, messages: Sequence[Message]) -> None:
        """Returns when every message is acknowledged by all replicas. Raises BrokerUnavailable."""
        if not messages:
            return
        if time.monotonic() < self._resting_until:
            raise BrokerUnavailable("the broker did not answer a moment ago")
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                producer = await self._started()
                sent = [
                    await producer.send(message.topic, message.value, message.key, headers=message.headers)
                    for message in messages
                ]
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            self._resting_until = time.monotonic() + _REST_SECONDS
            await self.close()
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                # A broker that forgot everything has forgotten its topics too.
                await ensure_topics(self._settings)
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=2,  # lets commands that run side by side share a request
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
        """End the producer. What it holds is given up unless the broker acknowledges it within a moment."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        stopping = asyncio.create_task(producer.stop())
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        try:
            await asyncio.wait({stopping}, timeout=0.2)
        finally:
            # It would stop only after its last message, and an idempotent producer repeats each without end.
            held = producer._message_accumulator
            for batch in [*held._pending_batches, *chain.from_iterable(held._batches.values())]:
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
    """A member of `group` (or of none) that begins at the oldest message and commits only when told to."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # a group without offsets may not miss what is there already
        fetch_max_wait_ms=250,
        max_poll_interval_ms=120_000,  # a batch takes milliseconds; a sink that is unavailable may take a while
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        request_timeout_ms=15_000,
        retry_backoff_ms=100,
        metadata_max_age_ms=30_000,
    )
