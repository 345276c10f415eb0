"""Activities that publish stored events to Kafka, those of an aggregate in order, and later those left unpublished."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio import activity

from activities.batching import Batcher
from adapters import event_store
from adapters.kafka import Message, Publisher, messages_of
from adapters.postgres import Database, DatabaseUnavailable
from adapters.telemetry import EVENTS_UNREADABLE
from domain.command import Saved
from domain.events import UnreadableEvent
from domain.model import Fact
from domain.observations import RecordedActivity

log = logging.getLogger(__name__)

_BATCH = 500
_AGGREGATE_BATCH = 200
"""Events of one aggregate per send: the publisher allows a second for a batch, which takes some 50 ms."""
_MARK_PUBLISHED_SECONDS = 0.05
"""The interval of batches of `mark_published`, on which no request waits."""


class PublishedOverdue(Fact):
    """The result of `publish_overdue`: `unreadable` counts events skipped because this release cannot read them."""

    published: int
    unreadable: int = 0


@dataclass(frozen=True)
class Batch:
    """The Kafka messages of stored events, and the ids of events that this release cannot read."""

    messages: list[Message] = field(default_factory=list)
    event_ids: list[UUID] = field(default_factory=list)
    """The events of `messages`."""
    unreadable: list[UUID] = field(default_factory=list)


class Publishing:
    """Publishes the events of a saved command or of a saved batch of observations."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._published = Batcher(_MARK_PUBLISHED_SECONDS, self._mark_published)

    @activity.defn
    async def publish(self, saved: Saved) -> int:
        """Publish the aggregate's unpublished events up to the saved version, oldest first; returns how many.

        Every publisher starts at the oldest unpublished event, so the first copies of an aggregate's events reach Kafka
        in order even when several publish at the same time; consumers recognize later copies by the event id. Events
        are marked published in batches afterwards; if that fails, reconcile publishes them again. An event that cannot
        be read is skipped and left to reconcile, so that it does not block later events of the aggregate.
        They are sent in batches: a retry after a failure has less to send.

        Raises BrokerUnavailable.
        """
        published, version = 0, 0
        while True:
            async with self._database.statements() as connection:
                events = await event_store.unpublished_of(
                    connection,
                    saved.tenant_id,
                    saved.aggregate_id,
                    after_version=version,
                    up_to_version=saved.version,
                    limit=_AGGREGATE_BATCH,
                )
            published += await self._publish(readable(events, "publish"))
            if len(events) < _AGGREGATE_BATCH:
                return published
            version = events[-1]["version"]

    async def publish_listings(self, tenant_id: str, property_ids: Sequence[UUID]) -> int:
        """Publish the unpublished events of some listings, those of each in order; returns how many.

        As `publish` does, for the listings of a batch of an import. Raises BrokerUnavailable.
        """
        published = 0
        for n in range(0, len(property_ids), _AGGREGATE_BATCH):
            some = property_ids[n : n + _AGGREGATE_BATCH]
            async with self._database.statements() as connection:
                events = await event_store.unpublished_of_some(connection, tenant_id, some)
            for m in range(0, len(events), _AGGREGATE_BATCH):
                published += await self._publish(readable(events[m : m + _AGGREGATE_BATCH], "publish_listings"))
        return published

    @activity.defn
    async def publish_observations(self, recorded: RecordedActivity) -> int:
        """Publish the unpublished events of a batch; returns how many. Raises BrokerUnavailable.

        Observations have no version order, so no older event has to be published first.
        """
        async with self._database.statements() as connection:
            events = await event_store.unpublished_of_command(connection, recorded.tenant_id, recorded.command_id)
        return await self._publish(readable(events, "publish_observations"))

    async def _publish(self, batch: Batch) -> int:
        await self._publisher.send(batch.messages)
        if batch.event_ids:
            self._published.add(*batch.event_ids)
        return len(batch.event_ids)

    async def close(self) -> None:
        """Write the marks of the current batch without waiting for its interval."""
        await self._published.close()

    async def _mark_published(self, event_ids: list[UUID]) -> None:
        try:
            async with self._database.statements() as connection:
                await event_store.mark_published(connection, event_ids)
        except DatabaseUnavailable as error:
            log.warning("%d published events are left to reconcile: %s", len(event_ids), error)


class Reconciliation:
    """Publishes stored events that their workflow did not publish."""

    def __init__(self, database: Database, publisher: Publisher, after_seconds: float) -> None:
        self._database = database
        self._publisher = publisher
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def publish_overdue(self) -> PublishedOverdue:
        """Publish events that have been unpublished for longer than `after_seconds`. Raises BrokerUnavailable.

        An event that cannot be read is skipped and stays unpublished: each run tries it again, and a later release may
        be able to read it.
        """
        published, unreadable, last = 0, 0, 0
        while True:
            async with self._database.transaction() as tx:
                events = await event_store.unpublished_before(tx, self._cutoff(), after_id=last, limit=_BATCH)
            if not events:
                return PublishedOverdue(published=published, unreadable=unreadable)
            batch = readable([event for _, event in events], "publish_overdue")
            await self._publisher.send(batch.messages)
            async with self._database.transaction() as tx:
                await event_store.mark_published(tx, batch.event_ids)
            published += len(batch.event_ids)
            unreadable += len(batch.unreadable)
            last = events[-1][0]
            activity.heartbeat(published)

    def _cutoff(self) -> datetime:
        """Older events are overdue."""
        return datetime.now(UTC) - self._after


def readable(events: list[dict[str, Any]], where: str) -> Batch:
    """The messages of events, in order.

    Events that cannot be read are skipped: logged, and counted under the name `where` of the activity.
    """
    batch = Batch()
    for event in events:
        event_id = UUID(event["eventId"])
        try:
            batch.messages.extend(messages_of(event))
            batch.event_ids.append(event_id)
        except UnreadableEvent as error:
            EVENTS_UNREADABLE.labels(where).inc()
            log.error("%s skips event %s, which this release cannot read: %s", where, event_id, error)
            batch.unreadable.append(event_id)
    return batch
