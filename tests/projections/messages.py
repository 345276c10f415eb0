"""Messages as a projection consumes them, and a projection that a test can pause."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, write_rows
from adapters.tables import counted
from domain.activity import Activity
from domain.events import USER_ACTIVITY, Event
from projections.catch_up import CatchUp
from projections.counts import Counts, Kind
from projections.generations import generation_of
from projections.history import History
from projections.parking import ConsumedMessage
from projections.projection import Projection
from projections.sink import Sink
from tests.platform import until
from tests.samples import new_id


def consumed(tenant: str, user: UUID, **change: object) -> ConsumedMessage:
    activity = {
        "eventId": str(new_id()),
        "userId": str(user),
        "tenantId": tenant,
        "activityType": "PROPERTY_CREATED",
        "description": "User created property: a flat",
        "timestamp": datetime.now(UTC).isoformat(),
        "activityData": {},
        **change,
    }
    return ConsumedMessage(USER_ACTIVITY, str(user), json.dumps(activity).encode())


async def store(database: Database, tenant: str, events: Sequence[Event]) -> None:
    """Put events into the event store as they are, unpublished."""
    rows = [event_store.event_row(event, event.data.model_dump(mode="json", by_alias=True)) for event in events]
    async with database.statements(tenant) as connection:
        await write_rows(connection, rows)


async def stored_messages(database: Database, tenant: str) -> list[dict[str, Any]]:
    """All stored events of a tenant, in order."""
    async with database.transaction() as tx:
        everything = await event_store.visible_between(tx, None, None, Position(), 100_000)
    return [message for _, message in everything if message["tenantId"] == tenant]


async def eighth_of_events(database: Database) -> int:
    """The size of batches of which a rebuild takes some eight, however many events other tests have stored."""
    async with database.statements() as connection:
        stored: int = (await connection.execute(text("SELECT count(*) FROM user_history.event_store"))).scalar_one()
        return max(2, stored // 8)


async def counted_versions(database: Database, kind: Kind, subject_id: UUID) -> dict[str, int]:
    """The newest version of each item of a subject that the serving generation of `counts` includes."""
    async with database.transaction() as tx:
        query = select(counted.c.item_id, counted.c.version).where(
            counted.c.kind == kind.value,
            counted.c.subject_id == subject_id,
            counted.c.generation == await generation_of(tx, Counts.name),
        )
        return {str(row.item_id): row.version for row in await tx.execute(query)}


async def entries(database: Database, tenant: str, user: UUID) -> int:
    """The number of a user's entries in Postgres."""
    async with database.transaction(tenant) as tx:
        query = text("SELECT count(*) FROM user_history.user_activity WHERE user_id = :user")
        count: int = (await tx.execute(query, {"user": str(user)})).scalar_one()
        return count


class RecordedHistory(History):
    """Notes the events that it applies."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.applied: list[UUID] = []

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        self.applied += [activity.event_id for activity in activities]
        await super().apply(tx, activities, generation)


class HeldHistory(History):
    """Stops after it has applied something, inside the transaction, until `go_on` is set."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.applied, self.go_on = asyncio.Event(), asyncio.Event()

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        await super().apply(tx, activities, generation)
        if activities:
            self.applied.set()
            await self.go_on.wait()


async def someone_waits_for_a_lock(database: Database) -> bool:
    async with database.statements() as connection:
        waiting: bool = (await connection.execute(text("SELECT bool_or(NOT granted) FROM pg_locks"))).scalar_one()
        return waiting


async def catch_up(all_tenants: Database, projection: Projection[Any]) -> None:
    """Follow the event store as a start of the projection does; returns when it has caught up, and does not go on."""
    stop, following = asyncio.Event(), CatchUp(all_tenants, projection, Sink(all_tenants, projection))
    running = asyncio.create_task(following.run(stop))

    async def done() -> bool:
        return following.done or running.done()

    await until(done)
    stop.set()
    await running
