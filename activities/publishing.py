"""Publishing stored events to Kafka: in the order of each aggregate, until every reader has them."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.batching import Batcher
from adapters import event_store
from adapters.event_store import Position
from adapters.kafka import Message, Publisher, messages_of
from adapters.postgres import Database, DatabaseUnavailable
from adapters.tables import parked_events, read_models, user_activity
from adapters.telemetry import EVENTS_UNREADABLE
from domain.command import Saved
from domain.events import UnreadableEvent
from domain.model import Fact
from domain.observations import ANONYMOUS, RecordedActivity

log = logging.getLogger(__name__)

_BATCH = 500
_OF_ONE_AGGREGATE = 200
"""Events that are sent at once: the publisher waits a second for each such batch, which takes some 50 ms."""
_MARK_SECONDS = 0.05
"""How long published events wait to be marked published in one batch: nobody waits for it."""
_CHECKED = "history-checked"


class PublishedOverdue(Fact):
    """How many overdue events were published, and how many were skipped because this release cannot read them."""

    published: int
    unreadable: int = 0


@dataclass(frozen=True)
class Batch:
    """Stored events as messages, and the ids of those that this release cannot read."""

    messages: list[Message] = field(default_factory=list)
    event_ids: list[UUID] = field(default_factory=list)
    """Of the events whose messages these are."""
    unreadable: list[UUID] = field(default_factory=list)


class Publishing:
    """Publishes the events of one command, or of one batch of observations, when they are saved."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._published = Batcher(_MARK_SECONDS, self._mark_batch)

    @activity.defn
    async def publish(self, saved: Saved) -> int:
        """Publish what is unpublished of the aggregate up to the saved version, oldest first; returns how many events.

        Each publisher starts at the aggregate's oldest unpublished event, so the first copies of its events reach Kafka
        in order whoever else is publishing; later copies are recognized by their event id. They are marked published a
        moment later, in a batch with others: should that fail, reconcile publishes them once more. An event that cannot
        be read is skipped and left to reconcile, so that later commands need not wait for another release.
        However many they are, they go out a few at a time: an attempt that is cut off leaves the next one less to do.

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
                    limit=_OF_ONE_AGGREGATE,
                )
            published += await self._publish(readable(events, "publish"))
            if len(events) < _OF_ONE_AGGREGATE:
                return published
            version = events[-1]["version"]

    @activity.defn
    async def publish_observations(self, recorded: RecordedActivity) -> int:
        """Publish what is unpublished of a batch; returns how many events. Raises BrokerUnavailable.

        Observations have no order of versions to keep, so each batch is published by itself.
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
        """Mark at once what is published and not marked yet."""
        await self._published.close()

    async def _mark_batch(self, event_ids: list[UUID]) -> None:
        try:
            async with self._database.statements() as connection:
                await event_store.mark_published(connection, event_ids)
        except DatabaseUnavailable as error:
            log.warning("%d published events are left to reconcile: %s", len(event_ids), error)


class Reconciliation:
    """Compares what was stored with what was published and projected, and drives on what is missing."""

    def __init__(self, database: Database, publisher: Publisher, after_seconds: float) -> None:
        self._database = database
        self._publisher = publisher
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def publish_overdue(self) -> PublishedOverdue:
        """Publish events that no workflow has published for a while. Raises BrokerUnavailable.

        An event that cannot be read is skipped and stays unpublished: each run tries it again, and a later release may
        be able to read it.
        """
        published, unreadable, last = 0, 0, 0
        while True:
            async with self._database.transaction() as tx:
                events = await event_store.unpublished_before(tx, self._overdue(), after_id=last, limit=_BATCH)
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

    @activity.defn
    async def republish_unprojected(self) -> int:
        """Publish again what has not reached the history, as when Kafka lost it; returns how many.

        Raises BrokerUnavailable.

        Walks the store once: a checkpoint stands before the oldest event that is not in the history yet. It passes an
        event that cannot be read, which is marked unpublished instead: `publish_overdue` has it published as soon as a
        release can read it, and counts it until then.
        """
        while True:
            async with self._database.transaction() as tx:
                position = await event_store.checkpoint(tx, _CHECKED)
                events = await event_store.in_order(tx, position, _BATCH)
                overdue = ripe(events, self._overdue())
                if not overdue:
                    return 0
                projected = await _projected(tx, [event for _, event in overdue])
                missing = [event for _, event in overdue if event["eventId"] not in projected]
                lost = readable(missing, "republish_unprojected")
                await event_store.mark_unpublished(tx, lost.unreadable)
                waiting = set(lost.event_ids)
                for at, event in overdue:
                    if UUID(event["eventId"]) in waiting:
                        break
                    position = at
                await event_store.move_checkpoint(tx, _CHECKED, position)
            if lost.messages:
                await self._publisher.send(lost.messages)
                return len(lost.event_ids)
            activity.heartbeat(position.id)

    def _overdue(self) -> datetime:
        return datetime.now(UTC) - self._after


def readable(events: list[dict[str, Any]], where: str) -> Batch:
    """Each event's messages; all of an aggregate's share one partition and keep their order.

    Events that cannot be read are left out, logged and counted under the name of the activity `where` that skips them.
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


def ripe(events: list[tuple[Position, dict[str, Any]]], moment: datetime) -> list[tuple[Position, dict[str, Any]]]:
    """The leading events that are older than `moment`.

    Time and order need not agree (a command may wait before it is saved): the checkpoint must not pass a young event
    for the sake of an old one behind it.
    """

    def is_ripe(pair: tuple[Position, dict[str, Any]]) -> bool:
        at = pair[1]["timestamp"]
        return at is None or datetime.fromisoformat(at) < moment

    return list(takewhile(is_ripe, events))


async def _projected(tx: AsyncConnection, events: list[dict[str, str]]) -> set[str]:
    """Ids of the events that are in the history, that belong in nobody's, or that are parked for an operator."""
    ids = [UUID(event["eventId"]) for event in events]
    # A rebuild that was interrupted may have left entries that nobody is shown.
    serving = select(read_models.c.generation).where(read_models.c.name == "history").scalar_subquery()
    entries = select(user_activity.c.event_id).where(user_activity.c.event_id.in_(ids))
    there = {str(row.event_id) for row in await tx.execute(entries.where(user_activity.c.generation == serving))}
    users = {event["userId"] for event in events if event["eventId"] not in there}
    # A parked message may be damaged, so its id is looked for in its text.
    event_id = func.substring(func.encode(parked_events.c.payload, "escape"), '"eventId": ?"([0-9a-f-]{36})"')
    parked = select(event_id).where(parked_events.c.projection == "history", parked_events.c.key.in_(users))
    of_nobody = {event["eventId"] for event in events if event["userId"] == str(ANONYMOUS)}
    return there | of_nobody | set((await tx.execute(parked)).scalars())
