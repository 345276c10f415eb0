"""Each rule of saved searches, by the workflow with its real rounds on Postgres, with time skipping."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import select, update
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.saved_search_rounds import SavedSearchRounds
from activities.saved_searches import SavedSearches
from activities.saving import CommandStore
from adapters import saved_searches
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings
from adapters.tables import event_store, saved_filters
from domain.matching import MAX_UNREAD
from domain.property import PropertyPatch
from domain.property_commands import ChangePropertyStatus, DeleteProperty, PatchProperty
from domain.property_status import PropertyStatus
from domain.saved_searches import Frequency, PausedBy, PauseSavedSearch, Weekday
from tests.activities.accounts import Saving
from tests.activities.rounds import Rounds, cheaper, id_of
from tests.activities.test_saved_searches import Searching
from tests.platform import until
from tests.samples import create_property
from tests.workflows.conftest import time_skipping
from tests.workflows.fakes import Script
from workflows import options
from workflows.pause_saved_search import PauseSavedSearchWorkflow
from workflows.registry import WORKFLOWS
from workflows.saved_search import SavedSearchWorkflow


class Watched:
    """A saved search whose workflow runs, and the listings of others."""

    def __init__(self, environment: WorkflowEnvironment, rounds: Rounds, keyring: Keyring) -> None:
        self._environment, self._keyring = environment, keyring
        self.rounds = rounds
        self.handle: WorkflowHandle[SavedSearchWorkflow, str]

    async def begin(self, frequency: Frequency, **more: Any) -> None:
        await self.rounds.begin(frequency=frequency, **more)
        of = self.rounds.of
        self.handle = await self._environment.client.start_workflow(
            SavedSearchWorkflow.run, of, id=of.workflow_id, task_queue=options.NOTIFICATIONS
        )

    async def wait(self, time: timedelta) -> None:
        await self.rounds.project()
        await self._environment.sleep(time)

    async def next(self) -> datetime:
        """The time of the next round, once it is done, with everything that was saved in the read model."""
        due_at = (await self._row()).due_at
        await self.wait(due_at - await self._environment.get_current_time() + timedelta(seconds=1))

        async def is_done() -> bool:
            row = await self._row()
            return row.paused is not None or (row.last_round_at is not None and row.last_round_at >= due_at)

        assert await until(is_done)
        last_round_at: datetime = (await self._row()).last_round_at
        return last_round_at

    async def postpone(self, time: timedelta) -> None:
        """Have the next round so much later, without those that would come before."""
        of = saved_filters.c.saved_search_id == self.rounds.of.saved_search_id
        async with self.rounds.database.statements(self.rounds.tenant) as connection:
            await connection.execute(update(saved_filters).where(of).values(due_at=saved_filters.c.due_at + time))
        await self.handle.signal(SavedSearchWorkflow.changed)

    async def mails(self) -> list[dict[str, Any]]:
        """What was mailed, oldest first."""
        c = event_store.c
        query = (
            select(c.event_data)
            .where(c.user_id == str(self.rounds.of.user_id), c.event_type == "SAVED_SEARCH_MATCHED")
            .order_by(c.timestamp)
        )
        async with self.rounds.database.statements(self.rounds.tenant) as connection:
            return list((await connection.execute(query)).scalars())

    async def listings(self) -> list[list[str]]:
        """The listings of each mail."""
        return [[one["propertyId"] for one in mail["listings"]] for mail in await self.mails()]

    async def click(self) -> None:
        """What the link in a mail sends."""
        pausing = self.rounds.searching.of(self.rounds.created, PauseSavedSearch, by=PausedBy.LINK)
        await self._environment.client.execute_workflow(
            PauseSavedSearchWorkflow.run,
            self._keyring.seal_in_transit(pausing, pausing.command_id),
            id=f"pause-saved-search/{pausing.command_id}",
            task_queue=options.COMMANDS,
        )

    async def mailed(self, bedrooms: int) -> None:
        """A listing, and the next round, whose mail is delivered."""
        await self.rounds.listed(bedrooms=bedrooms)
        at = await self.next()
        await self.rounds.delivered(saved_searches.round_id(self.rounds.of.saved_search_id, at))

    async def paused(self) -> PausedBy | None:
        found = await self.rounds.searching.found(self.rounds.created)
        assert found is not None
        return found.paused

    async def _row(self) -> Any:
        of = saved_filters.c.saved_search_id == self.rounds.of.saved_search_id
        async with self.rounds.database.statements(self.rounds.tenant) as connection:
            return (await connection.execute(select(saved_filters).where(of))).one()


@pytest.fixture
async def watched(
    settings: Settings,
    database: Database,
    all_tenants: Database,
    store: CommandStore,
    keyring: Keyring,
    saving: Saving,
    tenant: str,
) -> AsyncIterator[Watched]:
    searching = Database.for_searching(settings)
    of = SavedSearchRounds(database, PostgresSearch(searching), store, keyring, lambda _: None)
    rounds = Rounds(of, Searching(store, keyring, database, tenant), saving, database, all_tenants)
    real: list[Callable[..., Any]] = [
        SavedSearches(store).save_saved_search,
        of.next_round,
        of.find_matches,
        of.pause_unread,
    ]
    fakes = [fake for fake in Script().activities if fake.__name__ not in {each.__name__ for each in real}]
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(time_skipping())
        for queue in (options.NOTIFICATIONS, options.COMMANDS):
            worker = Worker(
                environment.client, task_queue=queue, workflows=WORKFLOWS[queue], activities=[*real, *fakes]
            )
            await stack.enter_async_context(worker)
        yield Watched(environment, rounds, keyring)
    await searching.close()


async def test_instant_matches_are_mailed_in_batches_of_ten_minutes(watched: Watched) -> None:
    await watched.begin(Frequency.INSTANT)
    first = await watched.rounds.listed(bedrooms=1)
    await watched.wait(timedelta(minutes=8))
    second = await watched.rounds.listed(bedrooms=2)
    before = await watched.mails()

    round = await watched.next()
    third = await watched.rounds.listed(bedrooms=3)
    following = await watched.next()

    assert before == []
    assert await watched.listings() == [[id_of(second), id_of(first)], [id_of(third)]]
    assert abs(round - watched.rounds.created.issued_at - timedelta(minutes=10)) < timedelta(seconds=30)
    assert abs(following - round - timedelta(minutes=10)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("frequency", "every"), [(Frequency.DAILY, timedelta(days=1)), (Frequency.WEEKLY, timedelta(days=7))]
)
async def test_mails_come_at_the_chosen_hour_in_india(watched: Watched, frequency: Frequency, every: timedelta) -> None:
    await watched.begin(frequency, hour=2, weekday=Weekday.SUNDAY)
    rounds = []
    for n in range(3):
        await watched.rounds.listed(bedrooms=n)
        rounds.append(await watched.next())

    # Two o'clock in India is 20:30 of the day before in UTC, in summer and in winter.
    due = [at.replace(second=0, microsecond=0) for at in rounds]
    assert {(at.hour, at.minute) for at in due} == {(20, 30)}
    assert [later - earlier for earlier, later in pairwise(due)] == [every, every]
    assert frequency is Frequency.DAILY or {at.weekday() for at in due} == {5}
    assert [mail["total"] for mail in await watched.mails()] == [1, 1, 1]


async def test_version_of_a_listing_is_mailed_once(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    flat = await watched.rounds.listed(price=8_000_000)
    for _ in range(3):
        await watched.next()
    await watched.rounds.changed(flat, PatchProperty, changes=PropertyPatch.model_validate({"bedrooms": 4}))
    await watched.next()
    once = await watched.listings()
    await watched.rounds.changed(flat, PatchProperty, **cheaper(7_000_000))
    for _ in range(2):
        await watched.next()

    assert once == [[id_of(flat)]]
    shown = [listing for mail in await watched.mails() for listing in mail["listings"]]
    assert [(one["version"], one["because"]) for one in shown] == [(1, "NEW"), (3, "CHEAPER")]


async def test_relisting_is_not_mailed(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    withdrawn = await watched.rounds.listed(bedrooms=2)
    deleted = await watched.rounds.listed(bedrooms=3)
    await watched.next()
    for status in (PropertyStatus.PAUSED, PropertyStatus.ACTIVE):
        await watched.rounds.changed(withdrawn, ChangePropertyStatus, status=status)
    await watched.rounds.changed(deleted, DeleteProperty)
    again = create_property(watched.rounds.tenant, deleted.user_id, location="Kondapur", bedrooms=3, title="Hot offer")
    await watched.rounds.saving.property(again)

    for _ in range(2):
        await watched.next()

    assert await watched.listings() == [[id_of(deleted), id_of(withdrawn)]]


async def test_listing_that_is_back_on_the_market_is_mailed(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    flat = await watched.rounds.listed(price=8_000_000)
    await watched.next()
    await watched.rounds.changed(flat, ChangePropertyStatus, status=PropertyStatus.UNDER_OFFER, ago=timedelta(days=2))
    sold = await watched.next()
    await watched.rounds.changed(flat, ChangePropertyStatus, status=PropertyStatus.ACTIVE)
    for _ in range(2):
        await watched.next()

    assert sold
    shown = [listing for mail in await watched.mails() for listing in mail["listings"]]
    assert [(one["propertyId"], one["because"]) for one in shown] == [(id_of(flat), "NEW"), (id_of(flat), "BACK")]


async def test_drop_of_less_than_a_hundredth_is_not_mailed(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    flat = await watched.rounds.listed(price=8_000_000)
    for price in (7_999_000, 7_930_000, 7_900_000):
        await watched.next()
        await watched.rounds.changed(flat, PatchProperty, **cheaper(price))
    await watched.next()

    shown = [listing for mail in await watched.mails() for listing in mail["listings"]]
    assert [(one["because"], one["price"], one["previousPrice"]) for one in shown] == [
        ("NEW", 8_000_000, None),
        ("CHEAPER", 7_900_000, 8_000_000),
    ]


async def test_mail_shows_fourteen_and_counts_the_others(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    flats = [await watched.rounds.listed(bedrooms=n) for n in range(16)]

    for _ in range(2):
        await watched.next()

    [mail] = await watched.mails()
    assert mail["total"] == 16
    assert await watched.listings() == [[id_of(flat) for flat in flats[:1:-1]]]


async def test_one_click_stops_the_mails(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    await watched.mailed(1)

    await watched.click()
    await watched.rounds.listed(bedrooms=2)
    await watched.wait(timedelta(days=3))

    assert await watched.handle.result() == "paused or deleted"
    assert (len(await watched.mails()), await watched.paused()) == (1, PausedBy.LINK)


async def test_six_unread_mails_pause_the_search(watched: Watched) -> None:
    await watched.begin(Frequency.DAILY)
    for n in range(MAX_UNREAD):
        await watched.mailed(n)
    going_on = await watched.paused()
    await watched.rounds.listed(bedrooms=50)
    await watched.next()

    assert await watched.handle.result() == "paused, because its last mails were not read"
    assert (going_on, await watched.paused()) == (None, PausedBy.UNREAD)
    assert [mail["unread"] for mail in await watched.mails()] == [0, 1, 2, 3, 4, 5]


async def test_six_unread_mails_of_an_hour_pause_the_search_after_three_days_only(watched: Watched) -> None:
    await watched.begin(Frequency.INSTANT)
    for n in range(MAX_UNREAD + 1):
        await watched.mailed(n)
    going_on = await watched.paused()
    await watched.postpone(timedelta(days=3))
    await watched.rounds.listed(bedrooms=50)
    await watched.next()

    assert await watched.handle.result() == "paused, because its last mails were not read"
    assert (going_on, await watched.paused()) == (None, PausedBy.UNREAD)
    assert len(await watched.mails()) == MAX_UNREAD + 1
