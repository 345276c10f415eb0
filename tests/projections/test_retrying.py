"""Retrying and discarding parked events while the projection runs."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from adapters import redis
from adapters.postgres import Database
from adapters.redis import RedisError
from adapters.settings import Settings
from domain.events import USER_ACTIVITY
from projections.history import History
from projections.history_pages import HistoryPages
from projections.parking import ConsumedMessage, delete_parked, list_parked, park
from projections.projection import CacheKey
from projections.rebuild import rebuild
from projections.retrying import discard, retry
from projections.sink import Sink
from tests.platform import until
from tests.projections.messages import HeldHistory, consumed, entries, someone_waits_for_a_lock
from tests.samples import new_id


@pytest.fixture(autouse=True)
async def nothing_parked_after(all_tenants: Database) -> AsyncIterator[None]:
    yield
    async with all_tenants.transaction() as tx:
        await delete_parked(tx, "history", [row.id for row in await list_parked(tx, "history")])


async def parked(all_tenants: Database, user: UUID) -> list[int]:
    async with all_tenants.transaction() as tx:
        return [row.id for row in await list_parked(tx, "history", str(user))]


async def park_each(all_tenants: Database, *messages: ConsumedMessage) -> None:
    async with all_tenants.transaction() as tx:
        for message in messages:
            await park(tx, "history", [(message, "a mistake that is fixed since")])


async def waits_or_is_done(all_tenants: Database, task: asyncio.Task[object]) -> None:
    async def either() -> bool:
        return task.done() or await someone_waits_for_a_lock(all_tenants)

    await until(either)


async def test_retried_events_are_in_the_history_and_no_longer_parked(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    pages = HistoryPages(database, valkey, wait_seconds=0)
    await pages.page(tenant, str(user), 5)  # caches an empty history
    await park_each(all_tenants, *[consumed(tenant, user) for _ in range(3)])

    retried = await retry(all_tenants, History(valkey), str(user))

    assert (retried.applied, retried.failure) == (3, None)
    assert await parked(all_tenants, user) == []
    assert len((await pages.page(tenant, str(user), 5)).entries) == 3


@pytest.mark.parametrize("activity_type", ["X" * 200, None])
async def test_retry_stops_at_the_first_event_that_still_fails(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str, activity_type: str | None
) -> None:
    user = new_id()
    failing = consumed(tenant, user, activityType=activity_type)
    await park_each(all_tenants, consumed(tenant, user), failing, consumed(tenant, user))
    _, second, third = await parked(all_tenants, user)

    retried = await retry(all_tenants, History(valkey), str(user))

    assert retried.applied == 1
    assert retried.failure is not None
    assert retried.failure.startswith(f"{second}: ")
    assert await parked(all_tenants, user) == [second, third]
    assert await entries(database, tenant, user) == 1


class SwitchedMeanwhile(History):
    """A rebuild switches when the events are applied, and before they are no longer parked."""

    def __init__(self, redis: Redis, database: Database) -> None:
        super().__init__(redis)
        self._redis, self._database, self.switched = redis, database, False

    async def drop_cached(self, keys: Collection[CacheKey], generation: int) -> None:
        await super().drop_cached(keys, generation)
        if not self.switched:
            self.switched = True
            await rebuild(self._database, History(self._redis), lambda _: None)


async def test_events_that_are_retried_during_a_switch_are_in_the_new_generation(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """It lacks them: the rebuild could not apply them, or did not find them."""
    user, history = new_id(), SwitchedMeanwhile(valkey, all_tenants)
    await park_each(all_tenants, consumed(tenant, user), consumed(tenant, user))

    retried = await retry(all_tenants, history, str(user))

    assert history.switched
    assert (retried.applied, retried.failure) == (2, None)
    assert await entries(database, tenant, user) == 2
    assert await parked(all_tenants, user) == []


async def test_event_that_comes_during_a_retry_does_not_stay_parked(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """The projection gets the next event of the key when the retry has applied the parked ones but not committed."""
    user, held = new_id(), HeldHistory(valkey)
    await park_each(all_tenants, consumed(tenant, user))
    retrying = asyncio.create_task(retry(all_tenants, held, str(user)))
    await held.applied.wait()

    sink = Sink(all_tenants, History(valkey))
    taking = asyncio.create_task(sink.write([consumed(tenant, user)], asyncio.Event()))
    await waits_or_is_done(all_tenants, taking)
    held.go_on.set()
    await asyncio.gather(retrying, taking)

    assert await parked(all_tenants, user) == []
    assert await entries(database, tenant, user) == 2


async def test_event_that_the_projection_is_about_to_park_is_retried_as_well(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """The retry begins when the projection has found the key blocked but not committed."""
    user, held = new_id(), HeldHistory(valkey)
    await park_each(all_tenants, consumed(tenant, user))
    sink = Sink(all_tenants, held)
    batch = [consumed(tenant, user), consumed(tenant, new_id())]
    taking = asyncio.create_task(sink.write(batch, asyncio.Event()))
    await held.applied.wait()

    retrying = asyncio.create_task(retry(all_tenants, History(valkey), str(user)))
    await waits_or_is_done(all_tenants, retrying)
    held.go_on.set()
    await asyncio.gather(retrying, taking)

    assert await parked(all_tenants, user) == []
    assert await entries(database, tenant, user) == 2


async def test_events_stay_parked_until_redis_can_drop_the_history_that_lacks_them(
    settings: Settings, database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    pages = HistoryPages(database, valkey, wait_seconds=0)
    await pages.page(tenant, str(user), 5)
    await park_each(all_tenants, consumed(tenant, user))
    unavailable = redis.connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))

    with pytest.raises(RedisError):
        await retry(all_tenants, History(unavailable), str(user))
    parked_meanwhile = await parked(all_tenants, user)
    retried = await retry(all_tenants, History(valkey), str(user))

    assert len(parked_meanwhile) == 1
    assert retried.applied == 1
    assert len((await pages.page(tenant, str(user), 5)).entries) == 1
    assert await parked(all_tenants, user) == []
    await unavailable.aclose()


async def test_discarded_event_that_is_delivered_again_is_neither_applied_nor_parked(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    unneeded, unreadable = [
        replace(message, event_id=orjson.loads(message.value)["eventId"])
        for message in (consumed(tenant, user), consumed(tenant, user, activityType=None))
    ]
    await park_each(all_tenants, unneeded, unreadable)
    for parked_id in await parked(all_tenants, user):
        await discard(all_tenants, parked_id, "a test")

    batch = [unneeded, consumed(tenant, user), unreadable]
    await Sink(all_tenants, History(valkey)).write(batch, asyncio.Event())

    assert await entries(database, tenant, user) == 1
    assert await parked(all_tenants, user) == []


async def test_discard_returns_how_many_events_of_the_key_stay_parked(
    all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    unreadable = ConsumedMessage(USER_ACTIVITY, str(user), b"unreadable")
    await Sink(all_tenants, History(valkey)).write(
        [unreadable, consumed(tenant, user), consumed(tenant, user)], asyncio.Event()
    )
    first, *later = await parked(all_tenants, user)

    discarded = await discard(all_tenants, first, "a test")

    assert discarded is not None
    assert (discarded.key, discarded.still_parked) == (str(user), 2)
    assert await parked(all_tenants, user) == later
    assert await discard(all_tenants, first, "a test") is None
