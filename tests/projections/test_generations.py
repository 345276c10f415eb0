"""Which generation readers use when a process starts and when a rebuild switches."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.postgres import Database, DatabaseUnavailable
from adapters.settings import Settings
from projections.generations import claim_generation, generation_of, switch_generation
from projections.history import History, cache_keys_of
from projections.history_pages import HistoryPages
from tests.platform import until
from tests.projections.test_history import activities, newest_first
from tests.samples import new_id


class HeldDatabase(Database):
    """Blocks statements until `go_on` is set."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.asked, self.go_on = 0, asyncio.Event()

    @asynccontextmanager
    async def statements(self, tenant_id: str = "") -> AsyncIterator[AsyncConnection]:
        self.asked += 1
        await self.go_on.wait()
        async with super().statements(tenant_id) as connection:
            yield connection


async def switched(all_tenants: Database) -> tuple[int, int]:
    """Switch as a rebuild does; returns the old and the new generation."""
    async with all_tenants.transaction() as tx:
        old, new = await generation_of(tx, "history"), await claim_generation(tx, "history")
        await switch_generation(tx, "history", new)
        return old, new


async def one_entry_in_the_old_generation_and_three_in_the_new(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str, user: UUID
) -> list[bytes]:
    """Both in Postgres and in Redis; returns the three."""
    history, entries = History(valkey), activities(tenant, user, 3)
    for count in (1, 3):
        async with all_tenants.transaction() as tx:
            await history.apply(tx, entries[:count], await generation_of(tx, "history"))
        await HistoryPages(database, valkey, wait_seconds=0).page(tenant, str(user), 10)
        if count == 1:
            await switched(all_tenants)
    return newest_first(entries)


async def test_readers_of_a_process_that_has_just_started_share_one_look_up(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    right = await one_entry_in_the_old_generation_and_three_in_the_new(database, all_tenants, valkey, tenant, user)
    # Redis may still hold an old generation: here one without entries.
    await valkey.zadd(cache_keys_of(tenant, str(user), 1)[0], {b"": "-inf"})
    held = HeldDatabase(database._engine)
    pages = HistoryPages(held, valkey, wait_seconds=0)

    reading = [asyncio.create_task(pages.page(tenant, str(user), 10)) for _ in range(6)]
    await until(lambda: _asked(held))
    held.go_on.set()
    read = await asyncio.gather(*reading)

    assert [page.entries for page in read] == [right] * 6
    assert held.asked == 1


async def _asked(held: HeldDatabase) -> bool:
    return held.asked > 0


async def test_cancelled_reader_does_not_cancel_the_look_up_of_the_others(
    database: Database, valkey: Redis, tenant: str
) -> None:
    held = HeldDatabase(database._engine)
    pages = HistoryPages(held, valkey, wait_seconds=0)
    first, second = (asyncio.create_task(pages.page(tenant, str(new_id()), 10)) for _ in range(2))
    await until(lambda: _asked(held))

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    held.go_on.set()

    assert (await second).entries == []


async def test_readers_go_on_with_the_known_generation_while_one_looks_again(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user, held = new_id(), HeldDatabase(database._engine)
    right = await one_entry_in_the_old_generation_and_three_in_the_new(database, all_tenants, valkey, tenant, user)
    pages = HistoryPages(held, valkey, wait_seconds=0)
    held.go_on.set()
    await pages.page(tenant, str(user), 10)
    held.go_on.clear()
    held.asked = 0
    pages._serving._fresh_until = time.monotonic()  # five seconds are over

    looking = asyncio.create_task(pages.page(tenant, str(user), 10))
    await until(lambda: _asked(held))
    others = [await pages.page(tenant, str(user), 10) for _ in range(3)]

    assert [page.entries for page in others] == [right] * 3
    assert not looking.done()
    assert held.asked == 1
    held.go_on.set()
    assert (await looking).entries == right


async def test_readers_after_a_long_pause_do_not_read_the_generation_of_before(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    user, held = new_id(), HeldDatabase(database._engine)
    pages = HistoryPages(held, valkey, wait_seconds=0)
    held.go_on.set()
    await pages.page(tenant, str(new_id()), 10)
    right = await one_entry_in_the_old_generation_and_three_in_the_new(database, all_tenants, valkey, tenant, user)
    held.go_on.clear()
    held.asked = 0
    pages._serving._fresh_until = float("-inf")  # as if it had expired hours ago

    reading = [asyncio.create_task(pages.page(tenant, str(user), 10)) for _ in range(6)]
    await until(lambda: _asked(held))
    held.go_on.set()
    read = await asyncio.gather(*reading)

    assert [page.entries for page in read] == [right] * 6


async def test_process_that_knows_no_generation_reads_nothing_without_postgres(
    settings: Settings, valkey: Redis, tenant: str
) -> None:
    user = new_id()
    await valkey.zadd(
        cache_keys_of(tenant, str(user), 1)[0], {b"": "-inf"}
    )  # the first generation, which served long ago
    nowhere = Database.for_tenants(settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"}))
    pages = HistoryPages(nowhere, valkey, wait_seconds=0)

    read = await asyncio.gather(*[pages.page(tenant, str(user), 10) for _ in range(3)], return_exceptions=True)

    assert [type(outcome) for outcome in read] == [DatabaseUnavailable] * 3
    await nowhere.close()


async def test_rows_of_one_generation_never_fill_the_set_of_another(
    database: Database, all_tenants: Database, valkey: Redis, tenant: str
) -> None:
    """A reader with a stale cached generation returns the rows of the serving one."""
    user, history = new_id(), History(valkey)
    entries = activities(tenant, user, 3)
    pages = HistoryPages(database, valkey, wait_seconds=0)
    await pages.page(tenant, str(new_id()), 10)  # it knows the generation, for five seconds
    old, new = await switched(all_tenants)
    async with all_tenants.transaction() as tx:
        await history.apply(tx, entries, new)

    page = await pages.page(tenant, str(user), 2)
    rest = await pages.page(tenant, str(user), 2, page.next)

    assert page.entries + rest.entries == newest_first(entries)
    assert await valkey.exists(cache_keys_of(tenant, str(user), old)[0]) == 0


async def test_generation_is_claimed_once(all_tenants: Database) -> None:
    async with all_tenants.transaction() as tx:
        serving = await generation_of(tx, "history")
        claimed = [await claim_generation(tx, "history") for _ in range(3)]

    assert serving < claimed[0] < claimed[1] < claimed[2]
