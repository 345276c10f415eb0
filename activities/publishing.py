"""Publishing stored events to Kafka: in the order of each aggregate, until every reader has them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from pydantic import model_validator
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.gathering import Gathering
from adapters import event_store
from adapters.event_store import Position
from adapters.kafka import BrokerAway, Message, Publisher, messages_of
from adapters.postgres import Database, DatabaseAway
from adapters.tables import checkpoints, parked_events, user_activity
from adapters.telemetry import EVENTS_UNREADABLE
from domain.events import UnreadableEvent
from domain.model import Fact, Model

log = logging.getLogger(__name__)

_BATCH = 500
_MARK_SECONDS = 0.05
"""How long marks wait for others to share a statement: nobody waits for one, and an operator sees no difference."""
_CHECKED = "history-checked"


class Published(Model):
    """What is to be published: an aggregate's events up to and with `version`."""

    tenant_id: str
    aggregate_id: UUID
    version: int


class PublishedOverdue(Fact):
    """How many overdue events were published, and how many were skipped because this release cannot read them."""

    published: int
    unreadable: int = 0

    @model_validator(mode="before")
    @classmethod
    def _of_a_number(cls, value: Any) -> Any:
        """Histories that were recorded before events were skipped hold the number of published ones alone."""
        return {"published": value} if isinstance(value, int) else value


@dataclass(frozen=True)
class Batch:
    """Stored events as messages, and the ids of those that this release cannot read."""

    messages: list[Message] = field(default_factory=list)
    event_ids: list[UUID] = field(default_factory=list)
    """Of the events whose messages these are."""
    unreadable: list[UUID] = field(default_factory=list)


class Publishing:
    """Publishes the events of one command, when it is saved."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._marks = Gathering(_MARK_SECONDS, self._mark_gathered)

    @activity.defn
    async def publish(self, what: Published) -> int:
        """Publish what is unpublished up to that version, oldest first; returns how many events. Raises BrokerAway.

        Each publisher starts at the aggregate's oldest unpublished event, so the first copies of its events reach Kafka
        in order whoever else is publishing; later copies are told by their event id. An event that cannot be read is
        skipped and left to reconcile: the command that came after it is not to wait for another release.
        """
        async with self._database.statements() as connection:
            events = await event_store.unpublished_of(connection, what.tenant_id, what.aggregate_id, what.version)
        batch = readable(events, "publish")
        await self._publisher.send(batch.messages)
        if batch.event_ids:
            await self._mark(batch.event_ids)
        return len(batch.event_ids)

    async def at_once(self, events: list[dict[str, Any]]) -> bool:
        """Publish the events of a new aggregate, which nothing waits before; False when that is left to `publish`.

        They are marked a moment later, with others. Should that fail, reconcile publishes them once more.
        """
        batch = readable(events, "publish")
        try:
            await self._publisher.send(batch.messages)
        except BrokerAway:
            return False
        self._marks.add(*batch.event_ids)
        return True

    async def close(self) -> None:
        """Mark at once what waits to be marked."""
        await self._marks.close()

    async def _mark_gathered(self, published: list[UUID]) -> None:
        try:
            await self._mark(published)
        except DatabaseAway as error:
            log.warning("%d published events are left to reconcile: %s", len(published), error)

    async def _mark(self, published: Sequence[UUID]) -> None:
        async with self._database.statements() as connection:
            await event_store.mark_published(connection, published)


class Reconciliation:
    """Compares what was stored with what was published and projected, and drives on what is missing."""

    def __init__(self, database: Database, publisher: Publisher, after_seconds: float) -> None:
        self._database = database
        self._publisher = publisher
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def publish_overdue(self) -> PublishedOverdue:
        """Publish events that no workflow has published for a while. Raises BrokerAway.

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
        """Publish again what has not reached the history, as when Kafka lost it; returns how many. Raises BrokerAway.

        Walks the store once: a checkpoint stands before the oldest event that is not in the history yet. It passes an
        event that cannot be read, which is marked unpublished instead: `publish_overdue` has it published as soon as a
        release can read it, and counts it until then.
        """
        while True:
            async with self._database.transaction() as tx:
                position = await _checkpoint(tx)
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
                await _move_checkpoint(tx, position)
            if lost.messages:
                await self._publisher.send(lost.messages)
                return len(lost.event_ids)
            activity.heartbeat(position.id)

    def _overdue(self) -> datetime:
        return datetime.now(UTC) - self._after


def readable(events: list[dict[str, Any]], where: str) -> Batch:
    """Each event's two messages; all of an aggregate's share one partition and keep their order.

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
    return list(takewhile(lambda pair: datetime.fromisoformat(pair[1]["timestamp"]) < moment, events))


async def _checkpoint(tx: AsyncConnection) -> Position:
    row = (await tx.execute(select(checkpoints).where(checkpoints.c.name == _CHECKED))).one_or_none()
    return Position(row.tx_id, row.id) if row else Position()


async def _move_checkpoint(tx: AsyncConnection, to: Position) -> None:
    place = {"tx_id": to.tx_id, "id": to.id}
    await tx.execute(
        insert(checkpoints).values(name=_CHECKED, **place).on_conflict_do_update(index_elements=["name"], set_=place)
    )


async def _projected(tx: AsyncConnection, events: list[dict[str, str]]) -> set[str]:
    """Ids of the events that are in the history, or parked for an operator."""
    ids = [UUID(event["eventId"]) for event in events]
    rows = await tx.execute(select(user_activity.c.event_id).where(user_activity.c.event_id.in_(ids)))
    there = {str(row.event_id) for row in rows}
    users = {event["userId"] for event in events if event["eventId"] not in there}
    # A parked message may be damaged, so its id is looked for in its text.
    event_id = func.substring(func.encode(parked_events.c.payload, "escape"), '"eventId": ?"([0-9a-f-]{36})"')
    parked = select(event_id).where(parked_events.c.projection == "history", parked_events.c.key.in_(users))
    return there | set((await tx.execute(parked)).scalars())
