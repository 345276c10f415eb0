"""The steps of a rebuild as activities: each taken twice, interrupted in the middle, and ended by another rebuild."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from adapters.postgres import Database, advisory_lock, advisory_lock_is_held
from adapters.search import opensearch_index
from adapters.search.engine import SearchUnavailable
from adapters.search.opensearch_index import OpenSearchIndex
from domain.activity import Activity
from domain.events import UnreadableEvent
from domain.rebuilds import RebuildOrder, RebuildProgress, RebuildStatus
from projections import rebuild_rounds
from projections.generations import generation_of
from projections.history import History
from projections.parking import delete_parked, list_parked
from projections.rebuild import LOCKS, RebuildRunning, lock_name, rebuild
from projections.rebuild_record import find_rebuild, newest_rebuild
from projections.rebuilding import Rebuilding, RebuildState
from projections.registry import PROJECTIONS, Clients
from projections.retrying import discard
from projections.search import Search
from tests.activities.accounts import Saving
from tests.projections.messages import HeldHistory, RecordedHistory, eighth_of_events
from tests.projections.test_rebuild import generations, rows_of, serving, stored_events
from tests.samples import create_property, new_id

STEPS = ("begin_rebuild", "replay_events", "switch_projection", "delete_old_generation")


@pytest.fixture(autouse=True)
async def a_few_batches(all_tenants: Database, saving: Saving, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await saving.registered(tenant)
    for _ in range(6):
        await saving.property(create_property(tenant, owner))
    monkeypatch.setattr(rebuild_rounds, "_BATCH", await eighth_of_events(all_tenants))


def an_order(name: str = "history") -> RebuildOrder:
    return RebuildOrder(rebuild_id=new_id(), projection=name)


async def run(rebuilding: Rebuilding, step: str, argument: Any) -> Any:
    """A step; that which replays for some seconds, until all is replayed: others may have stored many events."""
    progress = await ActivityEnvironment().run(getattr(rebuilding, step), argument)
    while step == "replay_events" and rebuilding._seconds and not progress.ready:
        progress = await ActivityEnvironment().run(getattr(rebuilding, step), argument)
    return progress


async def done(rebuilding: Rebuilding, order: RebuildOrder) -> RebuildProgress:
    for step in STEPS:
        progress = await run(rebuilding, step, order)
    assert isinstance(progress, RebuildProgress)
    return progress


@pytest.mark.parametrize("name", PROJECTIONS)
async def test_every_step_taken_twice_rebuilds_once(all_tenants: Database, valkey: Redis, name: str) -> None:
    projection = PROJECTIONS[name](Clients(valkey))
    rebuilding, order = Rebuilding(all_tenants, {name: projection}), an_order(name)

    for step in STEPS:
        first, second = [await run(rebuilding, step, order) for _ in range(2)]
        assert (first.generation, first.started_at) == (second.generation, second.started_at)
    async with all_tenants.statements() as connection:
        assert await generation_of(connection, name) == second.generation
    assert (second.status, second.parked) == (RebuildStatus.COMPLETED, 0)
    assert second.done >= second.total > 0


async def test_step_that_is_tried_again_goes_on_where_the_last_one_came_to(
    all_tenants: Database, valkey: Redis
) -> None:
    """No time is left after one batch, so each step is one; a new object has nothing in memory of the ones before."""
    order, seen = an_order(), []
    begun = await run(Rebuilding(all_tenants, {"history": History(valkey)}), "begin_rebuild", order)
    applied: list[Any] = []
    progress = begun
    while not progress.ready:
        history = RecordedHistory(valkey)
        progress = await run(Rebuilding(all_tenants, {"history": history}, seconds=0), "replay_events", order)
        applied += history.applied
        seen.append(progress.done)
    rebuilt = await done(Rebuilding(all_tenants, {"history": History(valkey)}), order)

    assert seen == sorted(seen)
    assert len(seen) > 3
    assert len(applied) == len(set(applied)) == progress.applied
    assert rebuilt.generation == begun.generation
    assert await rows_of(all_tenants, rebuilt.generation) == await stored_events(all_tenants)


class FailsInTheMiddle(History):
    """Fails after it has written the second batch, before that is committed."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._batches = 0

    async def apply(self, tx: AsyncConnection, activities: Sequence[Activity], generation: int) -> None:
        await super().apply(tx, activities, generation)
        self._batches += 1
        if self._batches == 2:
            raise OSError("the worker dies")


async def test_batch_that_is_not_committed_is_replayed_by_the_next_attempt(
    all_tenants: Database, valkey: Redis
) -> None:
    order = an_order()
    rebuilding = Rebuilding(all_tenants, {"history": History(valkey)})
    await run(rebuilding, "begin_rebuild", order)

    with pytest.raises(Exception, match="the worker dies"):
        await run(Rebuilding(all_tenants, {"history": FailsInTheMiddle(valkey)}), "replay_events", order)
    async with all_tenants.statements() as connection:
        interrupted = await find_rebuild(connection, order.rebuild_id)
    rebuilt = await done(rebuilding, order)

    assert interrupted
    assert 0 < interrupted.done < interrupted.total
    assert rebuilt.generation == interrupted.generation
    assert await rows_of(all_tenants, rebuilt.generation) == await stored_events(all_tenants)


async def test_aborted_rebuild_leaves_the_old_generation_and_no_rows(all_tenants: Database, valkey: Redis) -> None:
    rebuilding, order = Rebuilding(all_tenants, {"history": History(valkey)}), an_order()
    await rebuild(all_tenants, History(valkey), lambda _: None)
    before, rows = await serving(all_tenants), await rows_of(all_tenants, await serving(all_tenants))
    await run(rebuilding, "begin_rebuild", order)
    await run(rebuilding, "replay_events", order)

    state = RebuildState(order=order, status=RebuildStatus.CANCELLED)
    first, second = [await run(rebuilding, "abort_rebuild", state) for _ in range(2)]

    assert first == second
    assert first.status is RebuildStatus.CANCELLED
    assert await serving(all_tenants) == before
    assert await generations(all_tenants) == {before}
    assert await rows_of(all_tenants, before) == rows
    with pytest.raises(ApplicationError, match="has ended"):
        await run(rebuilding, "replay_events", order)


@pytest.fixture
async def unreachable_index() -> AsyncIterator[OpenSearchIndex]:
    client = opensearch_index.connect("http://127.0.0.1:1")
    yield OpenSearchIndex(client)
    await client.close()


async def test_rebuild_whose_store_is_unavailable_is_seen_and_cancelled(
    all_tenants: Database, unreachable_index: OpenSearchIndex
) -> None:
    rebuilding, order = Rebuilding(all_tenants, {"search": Search(unreachable_index)}), an_order("search")

    for _ in range(2):
        with pytest.raises(SearchUnavailable):
            await run(rebuilding, "begin_rebuild", order)
    state = RebuildState(order=order, status=RebuildStatus.PAUSED)
    paused = await run(rebuilding, "record_rebuild_status", state)
    ended = await run(rebuilding, "abort_rebuild", state.model_copy(update={"status": RebuildStatus.CANCELLED}))
    async with all_tenants.statements() as connection:
        assert await generation_of(connection, "search") != ended.generation
        assert await newest_rebuild(connection, "search", unfinished=True) is None

    assert [one.status for one in (paused, ended)] == [RebuildStatus.PAUSED, RebuildStatus.CANCELLED]
    assert paused.generation == ended.generation


async def test_rebuild_that_serves_in_postgres_only_is_complete_when_it_is_cancelled(
    all_tenants: Database, unreachable_index: OpenSearchIndex
) -> None:
    """The projection has its readers given the generation when the store is available."""
    order, in_postgres = an_order("search"), Rebuilding(all_tenants, {"search": Search()})
    for step in STEPS[:-1]:
        await run(in_postgres, step, order)
    rebuilding = Rebuilding(all_tenants, {"search": Search(unreachable_index)})

    with pytest.raises(SearchUnavailable):
        await run(rebuilding, "delete_old_generation", order)
    ended = await run(rebuilding, "abort_rebuild", RebuildState(order=order, status=RebuildStatus.CANCELLED))

    assert ended.status is RebuildStatus.COMPLETED


async def test_step_that_is_cancelled_in_a_batch_leaves_it_to_the_next(all_tenants: Database, valkey: Redis) -> None:
    order, held = an_order(), HeldHistory(valkey)
    await run(Rebuilding(all_tenants, {"history": History(valkey)}), "begin_rebuild", order)
    worker, beats = ActivityEnvironment(), asyncio.Semaphore(0)
    worker.on_heartbeat = lambda *_: beats.release()

    step = Rebuilding(all_tenants, {"history": held}, heartbeat_seconds=0.01).replay_events
    replaying = asyncio.create_task(worker.run(step, order))
    await held.applied.wait()
    for _ in range(3):
        # While a call of the step goes on: by them a worker is known to live, and learns of the cancellation.
        await beats.acquire()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replaying
    rebuilt = await done(Rebuilding(all_tenants, {"history": History(valkey)}), order)

    assert rebuilt.status is RebuildStatus.COMPLETED
    assert await rows_of(all_tenants, rebuilt.generation) == await stored_events(all_tenants)


async def test_rebuild_without_its_record_ends(all_tenants: Database, valkey: Redis) -> None:
    """As after the database was restored from a dump: another attempt finds no record either."""
    rebuilding = Rebuilding(all_tenants, {"history": History(valkey)})

    for step in STEPS[1:]:
        with pytest.raises(ApplicationError, match="has no record") as ended:
            await run(rebuilding, step, an_order())
        assert ended.value.non_retryable


async def test_rebuild_that_serves_is_not_aborted(all_tenants: Database, valkey: Redis) -> None:
    rebuilding, order = Rebuilding(all_tenants, {"history": History(valkey)}), an_order()
    for step in STEPS[:-1]:
        await run(rebuilding, step, order)

    aborted = await run(rebuilding, "abort_rebuild", RebuildState(order=order, status=RebuildStatus.CANCELLED))

    assert aborted.status is RebuildStatus.COMPLETED
    assert await serving(all_tenants) == aborted.generation


async def test_nothing_is_aborted_before_it_has_begun(all_tenants: Database, valkey: Redis) -> None:
    rebuilding = Rebuilding(all_tenants, {"history": History(valkey)})

    state = RebuildState(order=an_order(), status=RebuildStatus.CANCELLED)

    assert await run(rebuilding, "abort_rebuild", state) is None


async def test_pause_is_recorded_and_repeated(all_tenants: Database, valkey: Redis) -> None:
    rebuilding, order = Rebuilding(all_tenants, {"history": History(valkey)}), an_order()
    await run(rebuilding, "begin_rebuild", order)

    paused = RebuildState(order=order, status=RebuildStatus.PAUSED)
    found = [await run(rebuilding, "record_rebuild_status", paused) for _ in range(2)]
    await done(rebuilding, order)
    late = await run(rebuilding, "record_rebuild_status", paused)

    assert [one.status for one in found] == [RebuildStatus.PAUSED] * 2
    assert late.status is RebuildStatus.COMPLETED


async def test_rebuild_that_another_one_has_ended_cannot_go_on(all_tenants: Database, valkey: Redis) -> None:
    rebuilding, order = Rebuilding(all_tenants, {"history": History(valkey)}), an_order()
    await run(rebuilding, "begin_rebuild", order)
    generation = (await rebuild(all_tenants, History(valkey), lambda _: None)).generation

    for step in ("replay_events", "switch_projection"):
        with pytest.raises(ApplicationError, match="Another rebuild began"):
            await run(rebuilding, step, order)
    async with all_tenants.statements() as connection:
        ended = await find_rebuild(connection, order.rebuild_id)
        newest = await newest_rebuild(connection, "history")

    assert ended
    assert ended.status is RebuildStatus.INTERRUPTED
    assert newest
    assert (newest.generation, newest.status) == (generation, RebuildStatus.COMPLETED)
    assert await generations(all_tenants) == {generation}


@pytest.fixture
async def locked(all_tenants: Database) -> AsyncIterator[None]:
    async with (
        all_tenants.statements() as connection,
        advisory_lock(connection, LOCKS, lock_name("history")),
    ):
        yield


@pytest.mark.usefixtures("locked")
async def test_step_fails_and_is_tried_again_while_another_process_has_the_lock(
    all_tenants: Database, valkey: Redis
) -> None:
    rebuilding = Rebuilding(all_tenants, {"history": History(valkey)})

    with pytest.raises(RebuildRunning):
        await run(rebuilding, "begin_rebuild", an_order())
    async with all_tenants.statements() as connection:
        assert await advisory_lock_is_held(connection, LOCKS, lock_name("history"))
        assert not await advisory_lock_is_held(connection, LOCKS, lock_name("counts"))


class RefusesSome(History):
    """Cannot read what one user did."""

    def __init__(self, redis: Redis, user: Any) -> None:
        super().__init__(redis)
        self._user = user

    def of_event(self, stored: dict[str, Any], event: Any) -> Activity | None:
        activity = super().of_event(stored, event)
        if activity and event.user_id == self._user:
            raise UnreadableEvent("not by this release")
        return activity


async def test_events_are_parked_only_when_the_new_generation_serves(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    user = await saving.registered(tenant)
    await saving.property(create_property(tenant, user))
    order, refusing = an_order(), Rebuilding(all_tenants, {"history": RefusesSome(valkey, user)}, seconds=0)

    async def parked() -> list[Any]:
        async with all_tenants.transaction() as tx:
            return await list_parked(tx, "history", str(user))

    progress = await run(refusing, "begin_rebuild", order)
    while not progress.ready:
        progress = await run(refusing, "replay_events", order)
    before = await parked()
    switched = await run(refusing, "switch_projection", order)
    after = await parked()
    await run(refusing, "delete_old_generation", order)
    async with all_tenants.transaction() as tx:
        await delete_parked(tx, "history", [row.id for row in await list_parked(tx, "history")])

    assert (before, progress.parked, switched.parked) == ([], 2, 2)
    assert [row.reason for row in after] == ["not by this release"] * 2
    assert {row.tenant_id for row in after} == {tenant}


async def test_event_that_is_discarded_during_a_rebuild_is_not_parked_by_the_switch(
    all_tenants: Database, valkey: Redis, saving: Saving, tenant: str
) -> None:
    user = await saving.registered(tenant)
    await saving.property(create_property(tenant, user))
    order, refusing = an_order(), Rebuilding(all_tenants, {"history": RefusesSome(valkey, user)})

    async def parked() -> list[int]:
        async with all_tenants.transaction() as tx:
            return [row.id for row in await list_parked(tx, "history", str(user))]

    await done(refusing, an_order())
    first, second = await parked()
    for step in STEPS[:2]:
        await run(refusing, step, order)
    await discard(all_tenants, first, "a test")
    rebuilt = await done(refusing, order)
    left = await parked()
    async with all_tenants.transaction() as tx:
        await delete_parked(tx, "history", left)

    assert rebuilt.parked == 2
    assert left == [second]


async def test_unknown_projection_is_refused_for_good(all_tenants: Database) -> None:
    with pytest.raises(ApplicationError, match="no projection weather") as refused:
        await run(Rebuilding(all_tenants, {}), "begin_rebuild", an_order("weather"))

    assert refused.value.non_retryable


async def test_application_role_sees_neither_rebuilds_nor_parked_events(database: Database, tenant: str) -> None:
    for table in ("rebuilds", "parked_events", "discarded_events"):
        with pytest.raises(Exception, match="permission denied"):
            async with database.statements(tenant) as connection:
                await connection.execute(text(f"SELECT FROM user_history.{table}"))
