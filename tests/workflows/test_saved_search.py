"""The workflow of a saved search, with time skipping."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.saved_search_rounds import RoundDone, SavedSearchOf
from domain.saved_searches import CreateSavedSearch, Frequency, Schedule, SearchToSave, Weekday
from tests.platform import until
from tests.samples import new_id, sent
from tests.workflows.conftest import Workers, time_skipping
from tests.workflows.fakes import Script, unavailable
from workflows import options
from workflows.create_saved_search import CreateSavedSearchWorkflow
from workflows.saved_search import SavedSearchWorkflow


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of its own for each test: one that has had a child workflow no longer skips time for other workflows."""
    async with time_skipping() as environment:
        yield environment


async def now(environment: WorkflowEnvironment) -> datetime:
    return (await environment.get_current_time()).astimezone(UTC)


async def start_rounds(environment: WorkflowEnvironment) -> WorkflowHandle[SavedSearchWorkflow, str]:
    of = SavedSearchOf(tenant_id="hyderabad", saved_search_id=new_id(), user_id=new_id())
    return await environment.client.start_workflow(
        SavedSearchWorkflow.run, of, id=of.workflow_id, task_queue=options.NOTIFICATIONS
    )


SCHEDULES = [
    Schedule(frequency=Frequency.INSTANT),
    Schedule(frequency=Frequency.DAILY, hour=9),
    Schedule(frequency=Frequency.WEEKLY, weekday=Weekday.SUNDAY, hour=2),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.frequency)
async def test_rounds_follow_each_other_at_the_times_of_the_schedule(
    skipping: WorkflowEnvironment, workers: Workers, schedule: Schedule
) -> None:
    first = schedule.next_due(await now(skipping))
    second = schedule.next_due(first)
    reported = RoundDone(reported=3, recorded=new_id(), due_at=second)
    script = Script(due=[first], rounds=[reported, RoundDone()])

    async with workers(skipping.client, script):
        assert await (await start_rounds(skipping)).result() == "paused or deleted"

    assert script.calls == ["next_round", "find_matches", "publish_observations", "find_matches"]
    for round, due in zip(script.rounds, (first, second), strict=True):
        # The clocks of server and workflow differ by milliseconds.
        assert abs(round.at - due) < timedelta(seconds=30)


async def test_overdue_round_is_done_at_once(skipping: WorkflowEnvironment, workers: Workers) -> None:
    begun = await now(skipping)
    script = Script(due=[begun - timedelta(days=3)])

    async with workers(skipping.client, script):
        await (await start_rounds(skipping)).result()

    [round] = script.rounds
    assert abs(round.at - begun) < timedelta(minutes=1)


async def test_change_has_the_next_round_read_again(skipping: WorkflowEnvironment, workers: Workers) -> None:
    begun = await now(skipping)
    script = Script(due=[begun + timedelta(days=7), begun + timedelta(days=2)])

    async with workers(skipping.client, script):
        handle = await start_rounds(skipping)
        await skipping.sleep(timedelta(days=1))
        await handle.signal(SavedSearchWorkflow.changed)
        await handle.result()

    assert script.calls == ["next_round", "next_round", "find_matches"]
    assert abs(script.rounds[0].at - begun - timedelta(days=2)) < timedelta(minutes=1)


async def test_pause_ends_the_rounds_before_the_next_one(skipping: WorkflowEnvironment, workers: Workers) -> None:
    begun = await now(skipping)
    script = Script(due=[begun + timedelta(days=7), None])

    async with workers(skipping.client, script):
        handle = await start_rounds(skipping)
        await skipping.sleep(timedelta(days=1))
        await handle.signal(SavedSearchWorkflow.changed)
        assert await handle.result() == "paused or deleted"

    assert script.calls == ["next_round", "next_round"]


async def test_unread_mails_pause_the_saved_search(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(due=[await now(skipping)], rounds=[RoundDone(unread=True)])

    async with workers(skipping.client, script):
        assert await (await start_rounds(skipping)).result() == "paused, because its last mails were not read"

    assert script.calls == ["next_round", "find_matches", "pause_unread", "publish"]


async def test_search_that_is_resumed_while_it_pauses_itself_goes_on(
    skipping: WorkflowEnvironment, workers: Workers
) -> None:
    due = await now(skipping)
    script = Script(due=[due, due], rounds=[RoundDone(unread=True), RoundDone()])
    script.while_pausing = lambda round: skipping.client.get_workflow_handle(round.workflow_id).signal(
        SavedSearchWorkflow.changed
    )

    async with workers(skipping.client, script):
        assert await (await start_rounds(skipping)).result() == "paused or deleted"

    assert script.calls == ["next_round", "find_matches", "pause_unread", "publish", "next_round", "find_matches"]


async def test_round_waits_for_the_search_engine(skipping: WorkflowEnvironment, workers: Workers) -> None:
    script = Script(due=[await now(skipping)], find_matches=unavailable(3))

    async with workers(skipping.client, script):
        await (await start_rounds(skipping)).result()

    assert script.attempts("find_matches") == 4


async def test_created_saved_search_has_its_rounds(skipping: WorkflowEnvironment, workers: Workers) -> None:
    due = await now(skipping)
    script = Script(due=[due])
    command = CreateSavedSearch(
        command_id=new_id(),
        tenant_id="hyderabad",
        user_id=new_id(),
        issued_at=due,
        saved_search_id=new_id(),
        search=SearchToSave(name="Flats", filters='{"bedrooms":["2"]}'),
    )

    async def looked() -> bool:
        return "find_matches" in script.calls

    async with workers(skipping.client, script):
        started = await skipping.client.start_workflow(
            CreateSavedSearchWorkflow.run,
            sent(command),
            id=f"create-saved-search/{command.command_id}",
            task_queue=options.COMMANDS,
        )
        assert "SAVED_SEARCH_CREATED" in await started.result()
        assert await until(looked)

    assert script.rounds[0].saved_search_id == command.saved_search_id
