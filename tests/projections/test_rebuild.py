"""Rebuild: replays the event store into a new generation while the old one serves."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.postgres import Database, DatabaseUnavailable
from adapters.settings import Settings
from adapters.telemetry import EVENTS_UNREADABLE
from domain.activity import NO_ACTIVITY, Activity
from domain.events import KINDS
from domain.observations import ANONYMOUS
from embedded.stack import Stack
from projections import rebuild as rebuilding
from projections import rebuild_rounds
from projections.generations import generation_of
from projections.history import History
from projections.history_pages import HistoryPages
from projections.parking import EARLIER_EVENT_PARKED, delete_parked, list_parked
from projections.rebuild import RebuildRunning, rebuild
from projections.retrying import retry
from projections.sink import TooManyFailures
from tests.activities.accounts import Saving
from tests.platform import until
from tests.projections.messages import eighth_of_events
from tests.projections.messages import entries as entries_of
from tests.samples import create_property, new_id


def no_progress(_: int) -> None:
    """A callback that ignores progress."""


async def generations(all_tenants: Database) -> set[int]:
    """Those that have rows."""
    async with all_tenants.transaction() as tx:
        rows = await tx.execute(text("SELECT DISTINCT generation FROM user_history.user_activity"))
        return {row.generation for row in rows}


async def serving(all_tenants: Database) -> int:
    async with all_tenants.transaction() as tx:
        return await generation_of(tx, "history")


async def rows_of(all_tenants: Database, generation: int) -> int:
    """The rows of a generation, and the events of erased users, which have none."""
    async with all_tenants.transaction() as tx:
        query = text("SELECT count(*) FROM user_history.user_activity WHERE generation = :generation")
        rows: int = (await tx.execute(query, {"generation": generation})).scalar_one()
        of_erased = text(
            "SELECT count(*) FROM user_history.event_store e JOIN user_management.erasures x"
            " ON x.tenant_id = e.tenant_id AND CAST(x.user_id AS text) = e.user_id WHERE e.event_type <> ALL(:left)"
        )
        left_out = [name for name, kind in KINDS.items() if kind.model in NO_ACTIVITY]
        erased: int = (await tx.execute(of_erased, {"left": left_out})).scalar_one()
        return rows + erased


async def stored_events(all_tenants: Database) -> int:
    """The events that are in a history: not of the inbox, no view by a visitor without an account, not discarded."""
    async with all_tenants.transaction() as tx:
        query = text(
            "SELECT count(*) FROM user_history.event_store WHERE user_id <> :nobody AND event_type <> ALL(:left)"
            " AND CAST(event_id AS text) NOT IN"
            " (SELECT event_id FROM user_history.discarded_events WHERE projection = 'history')"
        )
        left_out = [name for name, kind in KINDS.items() if kind.model in NO_ACTIVITY]
        count: int = (await tx.execute(query, {"nobody": str(ANONYMOUS), "left": left_out})).scalar_one()
        return count


async def with_wrong_rows(all_tenants: Database, tenant: str, count: int) -> None:
    """Insert rows into the serving generation that no event explains."""
    wrong = (
        "INSERT INTO user_history.user_activity (tenant_id, generation, event_id, user_id, activity_type,"
        " description, activity_data, timestamp) SELECT :tenant, :generation, gen_random_uuid(), :user, 'WRONG',"
        " 'never happened', '{}', now() FROM generate_series(1, :count)"
    )
    async with all_tenants.transaction() as tx:
        where = {"tenant": tenant, "generation": await generation_of(tx, "history"), "user": str(new_id())}
        await tx.execute(text(wrong), where | {"count": count})


@pytest.fixture
async def other_process(settings: Settings) -> AsyncIterator[Database]:
    """A separate pool: a session is not blocked by its own advisory lock."""
    database = Database.for_all_tenants(settings)
    yield database
    await database.close()


async def test_rebuilt_history_has_every_event_and_nothing_else(
    database: Database, all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    owner = await saving.registered(tenant)
    saved = [await saving.property(create_property(tenant, owner)) for _ in range(3)]
    before = await serving(all_tenants)
    await with_wrong_rows(all_tenants, tenant, 1)
    progress: list[int] = []

    entries, generation, _ = await rebuild(all_tenants, History(valkey), progress.append)

    page = await HistoryPages(database, valkey, wait_seconds=0).page(tenant, str(owner), 10)
    assert generation > before
    assert progress[-1] >= entries == await stored_events(all_tenants)
    assert len(page.entries) == 4
    assert all(page.contains(answer.events[0].event_id) for answer in saved)
    assert await generations(all_tenants) == {generation}


class HeldBeforeBatch(History):
    """Stops before it applies a batch (1 for the first), until `go_on` is set."""

    def __init__(self, redis: Redis, batch: int) -> None:
        super().__init__(redis)
        self._batches_until_held = batch
        self.is_held, self.go_on = asyncio.Event(), asyncio.Event()

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        self._batches_until_held -= 1
        if self._batches_until_held == 0:
            self.is_held.set()
            await self.go_on.wait()
        await super().apply(tx, activities, generation)


@pytest.fixture
async def held(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> HeldBeforeBatch:
    """Holds a rebuild when a batch of the new generation is committed and more are to come."""
    user = await saving.registered(tenant)
    for _ in range(3):
        await saving.property(create_property(tenant, user))
    monkeypatch.setattr(rebuild_rounds, "_BATCH", await eighth_of_events(all_tenants))
    return HeldBeforeBatch(valkey, 2)


async def test_second_rebuild_fails_at_once_and_the_first_completes(
    all_tenants: Database, other_process: Database, valkey: Redis, held: HeldBeforeBatch
) -> None:
    """A second one would delete what the first has committed, and the first would switch to the rest."""
    first = asyncio.create_task(rebuild(all_tenants, held, no_progress))
    await held.is_held.wait()

    waiting = HeldBeforeBatch(valkey, 1)
    second = asyncio.create_task(rebuild(other_process, waiting, no_progress))
    begun = asyncio.create_task(waiting.is_held.wait())
    await asyncio.wait([second, begun], return_when=asyncio.FIRST_COMPLETED)
    held.go_on.set()
    entries, generation, _ = await first
    served = await rows_of(all_tenants, generation)
    begun.cancel()
    waiting.go_on.set()

    assert entries == served == await stored_events(all_tenants)
    with pytest.raises(RebuildRunning, match="another rebuild of history is running"):
        await second


async def test_command_of_a_second_rebuild_says_so_and_fails(
    stack: Stack, all_tenants: Database, held: HeldBeforeBatch
) -> None:
    first = asyncio.create_task(rebuild(all_tenants, held, no_progress))
    await held.is_held.wait()

    command = [sys.executable, "-m", "projections", "rebuild", "history", "--local"]
    second = await asyncio.create_subprocess_exec(*command, env=stack.env, stderr=asyncio.subprocess.PIPE)
    _, said = await second.communicate()
    held.go_on.set()
    await first

    assert second.returncode == 1
    assert said.decode().startswith("another rebuild of history is running")


class Interrupted(Exception):
    """Raised by a test to interrupt a rebuild."""


async def test_interrupted_rebuild_leaves_the_old_generation_and_its_number_is_not_reused(
    all_tenants: Database, other_process: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    await saving.registered(tenant)
    await with_wrong_rows(all_tenants, tenant, 1)
    before = await serving(all_tenants)

    def interrupt(_: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        await rebuild(all_tenants, History(valkey), interrupt)
    served = await serving(all_tenants)
    begun = await generations(all_tenants)
    generation = (await rebuild(other_process, History(valkey), no_progress)).generation

    assert served == before
    assert len(begun) == 2
    assert generation not in begun
    assert await generations(all_tenants) == {generation}


async def test_cancelled_rebuild_releases_its_lock(
    all_tenants: Database, other_process: Database, valkey: Redis, held: HeldBeforeBatch
) -> None:
    first = asyncio.create_task(rebuild(all_tenants, held, no_progress))
    await held.is_held.wait()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    generation = (await rebuild(other_process, History(valkey), no_progress)).generation

    assert await generations(all_tenants) == {generation}


class CutOff(History):
    """Terminates the rebuild's session before the first batch is applied."""

    def __init__(self, redis: Redis, owner: asyncpg.Connection) -> None:
        super().__init__(redis)
        self._owner = owner

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        session = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await self._owner.execute("SELECT pg_terminate_backend($1, 5000)", session)
        await super().apply(tx, activities, generation)


async def test_rebuild_that_loses_its_connection_and_lock_fails(
    all_tenants: Database,
    other_process: Database,
    valkey: Redis,
    saving: Saving,
    tenant: str,
    owner: asyncpg.Connection,
) -> None:
    await saving.registered(tenant)

    with pytest.raises(DatabaseUnavailable):
        await rebuild(all_tenants, CutOff(valkey, owner), no_progress)
    generation = (await rebuild(other_process, History(valkey), no_progress)).generation

    assert await generations(all_tenants) == {generation}


_SHORT_DELETIONS = """
CREATE FUNCTION user_history.short_deletions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM gone) > 200 THEN
        RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER short_deletions AFTER DELETE ON user_history.user_activity
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION user_history.short_deletions();
"""


async def test_old_generation_is_deleted_in_statements_that_end_in_time(
    all_tenants: Database, valkey: Redis, tenant: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres cancels a long statement: here, one that deletes more than 200 rows."""
    monkeypatch.setattr(rebuilding, "_BLOCKS_DELETED", 1)
    await with_wrong_rows(all_tenants, tenant, 1000)
    await owner.execute(_SHORT_DELETIONS)
    try:
        generation = (await rebuild(all_tenants, History(valkey), no_progress)).generation
    finally:
        await owner.execute("DROP FUNCTION user_history.short_deletions CASCADE")

    assert await generations(all_tenants) == {generation}


class SwitchRecorded(History):
    """Counts the events applied in the transaction that switches, which blocks the projections."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.while_switching = 0

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        if await generation_of(tx, self.name) == generation:
            self.while_switching += len(activities)
        await super().apply(tx, activities, generation)


async def test_long_open_transaction_does_not_move_the_replay_into_the_switch(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    """Events that are newer than an open transaction are not settled until it ends."""
    history = SwitchRecorded(valkey)
    async with all_tenants.transaction() as tx:
        await tx.execute(text("SELECT pg_current_xact_id()"))
        owner = await saving.registered(tenant)
        for _ in range(3):
            await saving.property(create_property(tenant, owner))
        entries = (await rebuild(all_tenants, history, no_progress)).applied

    assert history.while_switching == 0
    assert entries == await stored_events(all_tenants)


class StoresMore(History):
    """Stores another event whenever a batch is applied, as a busy platform does."""

    def __init__(self, redis: Redis, saving: Saving, tenant: str, count: int) -> None:
        super().__init__(redis)
        self._more, self._saving, self._tenant = count, saving, tenant

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        if self._more:
            self._more -= 1
            await self._saving.registered(self._tenant)
        await super().apply(tx, activities, generation)


async def test_events_that_are_stored_during_a_rebuild_are_in_it_once(
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await saving.registered(tenant)
    monkeypatch.setattr(rebuild_rounds, "_BATCH", await eighth_of_events(all_tenants))

    entries, generation, _ = await rebuild(all_tenants, StoresMore(valkey, saving, tenant, 5), no_progress)

    assert entries == await rows_of(all_tenants, generation) == await stored_events(all_tenants)


async def test_unreadable_event_is_left_out_and_counted(
    all_tenants: Database, valkey: Redis, user_with_unreadable_event: UUID
) -> None:
    counter = EVENTS_UNREADABLE.labels("rebuild")._value
    before = counter.get()

    entries = (await rebuild(all_tenants, History(valkey), no_progress)).applied

    assert counter.get() == before + 1
    assert entries == await stored_events(all_tenants) - 1


@asynccontextmanager
async def refusing(owner: asyncpg.Connection, condition: str) -> AsyncIterator[None]:
    """The history's table refuses rows by a constraint."""
    table = "ALTER TABLE user_history.user_activity"
    await owner.execute(f"{table} ADD CONSTRAINT refuses CHECK (NOT ({condition})) NOT VALID")
    try:
        yield
    finally:
        await owner.execute(f"{table} DROP CONSTRAINT refuses")


async def test_event_that_the_table_refuses_is_parked_with_those_after_it_and_others_go_on(
    database: Database,
    all_tenants: Database,
    valkey: Redis,
    saving: Saving,
    tenant: str,
    owner: asyncpg.Connection,
) -> None:
    user, other = await saving.registered(tenant), await saving.registered(tenant)
    saved = [await saving.property(create_property(tenant, who)) for who in (user, user, other)]

    async with refusing(owner, f"event_id = '{saved[0].events[0].event_id}'"):
        rebuilt = await rebuild(all_tenants, History(valkey), no_progress)
    entries_of_each = [await entries_of(database, tenant, who) for who in (user, other)]
    async with all_tenants.transaction() as tx:
        reasons = [row.reason for row in await list_parked(tx, "history", str(user))]
    stored = await stored_events(all_tenants)
    retried = await retry(all_tenants, History(valkey), str(user))

    assert await serving(all_tenants) == rebuilt.generation
    assert (rebuilt.parked, rebuilt.applied) == (2, stored - 2)
    assert entries_of_each == [1, 2]
    assert ["violates check constraint" in reasons[0], *reasons[1:]] == [True, EARLIER_EVENT_PARKED]
    assert (retried.applied, retried.failure) == (2, None)
    assert await entries_of(database, tenant, user) == 3


async def test_command_says_how_many_events_were_parked(
    stack: Stack, all_tenants: Database, saving: Saving, tenant: str, owner: asyncpg.Connection
) -> None:
    user = await saving.registered(tenant)
    command = [sys.executable, "-m", "projections", "rebuild", "history", "--local"]

    async with refusing(owner, f"user_id = '{user}'"):
        running = await asyncio.create_subprocess_exec(*command, env=stack.env, stdout=asyncio.subprocess.PIPE)
        said, _ = await running.communicate()
    async with all_tenants.transaction() as tx:
        parked = await list_parked(tx, "history", str(user))
        await delete_parked(tx, "history", [row.id for row in parked])

    assert running.returncode == 0
    assert said.decode().splitlines()[-1].startswith("1 events could not be applied and are parked")
    assert len(parked) == 1


async def test_rebuild_that_mostly_fails_leaves_the_old_generation_and_parks_nothing(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str, owner: asyncpg.Connection
) -> None:
    users = [str(await saving.registered(tenant)) for _ in range(60)]
    before = await serving(all_tenants)

    async with refusing(owner, f"generation <> {before}"):
        with pytest.raises(TooManyFailures, match="more than 50"):
            await rebuild(all_tenants, History(valkey), no_progress)
    async with all_tenants.transaction() as tx:
        parked = {row.key for row in await list_parked(tx, "history")}

    assert await serving(all_tenants) == before
    assert parked.isdisjoint(users)


async def test_writer_that_comes_while_the_switch_waits_is_served_after_it(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    """Otherwise overlapping writers would block the switch for ever."""
    await saving.registered(tenant)

    async def write() -> int:
        async with all_tenants.transaction() as tx:
            return await generation_of(tx, "history", locked=True)

    async with all_tenants.transaction() as writer:
        await generation_of(writer, "history", locked=True)
        rebuilding = asyncio.create_task(rebuild(all_tenants, History(valkey), lambda _: None))
        await until(lambda: _waiting(all_tenants, 1))
        later = asyncio.create_task(write())
        both_wait = asyncio.create_task(until(lambda: _waiting(all_tenants, 2)))
        await asyncio.wait({later, both_wait}, return_when=asyncio.FIRST_COMPLETED)
        both_wait.cancel()
    generation = (await rebuilding).generation

    assert await later == generation


async def _waiting(database: Database, count: int) -> bool:
    """Whether at least `count` sessions wait for a lock."""
    async with database.statements() as connection:
        waiting = await connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        return bool(waiting.scalar_one() >= count)
