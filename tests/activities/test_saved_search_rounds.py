"""Rounds of saved searches on real Postgres: what they find, store, and enqueue."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import pytest
from sqlalchemy import select, update
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.testing import ActivityEnvironment

from activities.overdue_saved_searches import OverdueSavedSearches
from activities.saved_search_rounds import Round, RoundDone, SavedSearchOf, SavedSearchRounds
from activities.saving import CommandStore
from adapters import listing_events, saved_searches
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.search.engine import SearchUnavailable
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings
from adapters.tables import listings, notices, saved_filters, saved_search_matches, users
from domain.matching import MAX_SHOWN, MAX_UNREAD
from domain.notifications import in_app_id
from domain.observations import NotificationsRead, Read, SavedSearchVisited, View, Visit
from domain.property import PropertyPatch
from domain.property_commands import ChangePropertyStatus, CreateProperty, DeleteProperty, PatchProperty
from domain.property_status import PropertyStatus
from domain.saved_searches import ChangeSavedSearch, Frequency, PausedBy, PauseSavedSearch
from projections.rebuild import RebuildRunning, rebuild
from projections.search import Search
from tests.activities.accounts import Saving
from tests.activities.rounds import Rounds, cheaper, id_of
from tests.activities.test_saved_searches import Searching
from tests.platform import until
from tests.samples import create_property, new_id, new_tenant, view


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[PostgresSearch]:
    database = Database.for_searching(settings)
    yield PostgresSearch(database)
    await database.close()


@pytest.fixture
def enqueued() -> list[PendingEvent]:
    return []


@pytest.fixture
async def rounds(
    database: Database,
    all_tenants: Database,
    engine: PostgresSearch,
    store: CommandStore,
    keyring: Keyring,
    saving: Saving,
    tenant: str,
    enqueued: list[PendingEvent],
) -> Rounds:
    of = SavedSearchRounds(database, engine, store, keyring, enqueued.extend)
    rounds = Rounds(of, Searching(store, keyring, database, tenant), saving, database, all_tenants)
    await rounds.begin()
    return rounds


async def test_new_listing_is_reported_once_with_its_notice(rounds: Rounds, enqueued: list[PendingEvent]) -> None:
    flat = await rounds.listed()
    await rounds.saving.listed(rounds.tenant, location="Uppal")
    own = create_property(rounds.tenant, rounds.of.user_id, location="Kondapur")
    await rounds.saving.property(own)
    draft = await rounds.listed()
    await rounds.changed(draft, ChangePropertyStatus, status=PropertyStatus.PAUSED)

    first = await rounds.next(times=2)
    second = await rounds.next()

    assert await rounds.reported(first) == [(id_of(flat), "NEW", None)]
    assert (second.reported, second.recorded) == (0, None)
    assert first.recorded is not None
    pending = PendingEvent(rounds.tenant, first.recorded, first.recorded)
    assert set(enqueued) == {pending}
    async with rounds.database.statements(rounds.tenant) as connection:
        of_search = notices.c.kind == "SAVED_SEARCH_MATCHES"
        [notice] = await connection.execute(select(notices).where(of_search))
        active = await saved_searches.find_active(connection, rounds.of.saved_search_id)
    assert (notice.event_id, notice.audience_id) == (first.recorded, rounds.of.user_id)
    assert active is not None
    assert (active.last_round_at, active.search.due_at, second.due_at) == (
        rounds.now,
        second.due_at,
        rounds.now + timedelta(minutes=10),
    )
    assert active.unread_mails == (rounds.now - timedelta(minutes=10),)


async def test_listings_of_before_are_no_news_until_they_are_cheaper(rounds: Rounds) -> None:
    flat = await rounds.listed(price=8_000_000)
    await rounds.begin()

    nothing = await rounds.next()
    await rounds.changed(flat, PatchProperty, changes=PropertyPatch.model_validate({"bedrooms": 4}))
    edited = await rounds.next()
    await rounds.changed(flat, PatchProperty, **cheaper(7_500_000))
    lower = await rounds.next()
    await rounds.changed(flat, PatchProperty, **cheaper(7_800_000))
    dearer = await rounds.next()

    assert (nothing.reported, edited.reported, dearer.reported) == (0, 0, 0)
    assert await rounds.reported(lower) == [(id_of(flat), "CHEAPER", 8_000_000)]


async def test_saved_search_is_read_as_people_type_it(rounds: Rounds) -> None:
    await rounds.begin(filters='{"q":"kondapur under 77 lakhs"}')
    flat = await rounds.listed(price=7_500_000)
    await rounds.listed(price=7_900_000)

    assert await rounds.reported(await rounds.next()) == [(id_of(flat), "NEW", None)]


async def test_price_dropped_into_the_range_of_the_search_is_reported(rounds: Rounds) -> None:
    flat = await rounds.listed(price=8_000_000)
    await rounds.begin(filters='{"location":["kondapur"],"maxPrice":7600000}')

    await rounds.changed(flat, PatchProperty, **cheaper(7_500_000))

    assert await rounds.reported(await rounds.next()) == [(id_of(flat), "CHEAPER", 8_000_000)]


async def test_listing_that_is_put_back_at_once_or_listed_again_is_no_news(rounds: Rounds) -> None:
    withdrawn = await rounds.listed(bedrooms=2)
    deleted = await rounds.listed(bedrooms=3, areaSqft=1_500)
    await rounds.next()

    await rounds.changed(withdrawn, ChangePropertyStatus, status=PropertyStatus.PAUSED)
    await rounds.changed(withdrawn, ChangePropertyStatus, status=PropertyStatus.ACTIVE)
    await rounds.changed(deleted, DeleteProperty)
    same = {"bedrooms": 3, "areaSqft": 1_500}
    again = create_property(rounds.tenant, deleted.user_id, location=" kondapur", title="Hot offer", **same)
    other = create_property(rounds.tenant, deleted.user_id, location="Kondapur", bedrooms=4)
    for listed in (again, other):
        await rounds.saving.property(listed)

    assert await rounds.reported(await rounds.next()) == [(id_of(other), "NEW", None)]


async def test_mail_shows_fourteen_and_how_many_there_are(rounds: Rounds) -> None:
    for n in range(MAX_SHOWN + 2):
        await rounds.listed(bedrooms=n)

    done = await rounds.next()
    again = await rounds.next()

    data = await rounds.data(done)
    assert (len(data["listings"]), data["total"], done.reported, again.reported) == (14, 16, 16, 0)


@pytest.fixture
def pages_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.search.postgres.CHANGES_OF_A_PAGE", 2)


@pytest.mark.usefixtures("pages_of_two")
async def test_everything_that_has_changed_is_looked_at_however_much_it_is(rounds: Rounds) -> None:
    old = await rounds.listed(price=8_000_000, bedrooms=9)
    await rounds.begin()
    flats = [await rounds.listed(bedrooms=n) for n in range(4)]
    await rounds.project()
    await rounds.changed(old, PatchProperty, **cheaper(7_000_000))
    await rounds.project()
    flats.append(await rounds.listed(bedrooms=5))

    done, again = await rounds.next(), await rounds.next()

    news = [(id_of(flat), "NEW", None) for flat in flats]
    assert await rounds.reported(done) == [news[4], (id_of(old), "CHEAPER", 8_000_000), *news[3::-1]]
    assert (done.reported, again.reported) == (6, 0)


@pytest.mark.usefixtures("pages_of_two")
async def test_listing_that_changes_while_pages_are_read_is_reported_as_it_is_then(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    flats = [await rounds.listed(bedrooms=n, price=8_000_000) for n in range(4)]
    await rounds.project()
    changes = rounds.activities._engine.changes

    async def changing(*arguments: Any) -> Any:
        page = await changes(*arguments)
        if arguments[-1] is None:
            await rounds.changed(flats[0], PatchProperty, **cheaper(7_000_000))
            await rounds.project()
        return page

    monkeypatch.setattr(rounds.activities._engine, "changes", changing)
    done = await rounds.next(projected=False)

    listings = (await rounds.data(done))["listings"]
    assert [(one["propertyId"], one["price"], one["version"]) for one in listings] == [
        (id_of(flats[0]), 7_000_000, 2),
        *((id_of(flat), 8_000_000, 1) for flat in flats[:0:-1]),
    ]


async def test_what_a_late_read_model_did_not_have_is_reported_later(rounds: Rounds) -> None:
    await rounds.listed(bedrooms=1)
    await rounds.next()
    late = await rounds.listed(bedrooms=2)

    missed = await rounds.next(timedelta(days=2), projected=False)
    found = await rounds.next()

    assert missed.reported == 0
    assert await rounds.reported(found) == [(id_of(late), "NEW", None)]


async def test_change_that_the_read_model_applied_hours_late_is_reported(rounds: Rounds) -> None:
    """It was parked, or a partition of Kafka stood still, while the read model had newer changes of others."""
    known = await rounds.listed_before(timedelta(days=3), price=8_000_000, bedrooms=1)
    await rounds.has_looked_since(timedelta(days=1))
    other = await rounds.listed(bedrooms=2)
    first = await rounds.next()
    late = await rounds.listed_before(timedelta(hours=8), bedrooms=3)
    await rounds.changed(known, PatchProperty, timedelta(hours=8), **cheaper(7_000_000))

    second, third = await rounds.next(), await rounds.next()

    assert await rounds.reported(first) == [(id_of(other), "NEW", None)]
    assert sorted(await rounds.reported(second)) == sorted(
        [(id_of(late), "NEW", None), (id_of(known), "CHEAPER", 8_000_000)]
    )
    assert third.reported == 0


async def applied_at(rounds: Rounds, listed: CreateProperty) -> datetime:
    async with rounds.database.statements(rounds.tenant) as connection:
        query = select(listings.c.applied_at).where(listings.c.property_id == listed.property_id)
        at: datetime = (await connection.execute(query)).scalar_one()
    return at


async def test_rebuild_between_two_rounds_mails_nothing_twice_and_loses_nothing(rounds: Rounds) -> None:
    known = await rounds.listed(bedrooms=1)
    first = await rounds.next()
    before = await applied_at(rounds, known)
    parked = await rounds.listed(bedrooms=2)

    async def is_rebuilt() -> bool:
        try:
            await rebuild(rounds.all_tenants, Search(), lambda _: None)
        except RebuildRunning:
            return False
        return True

    assert await until(is_rebuilt)
    # The rebuild took an hour, and the old generation had newer changes of others meanwhile.
    of = saved_filters.c.saved_search_id == rounds.of.saved_search_id
    async with rounds.database.statements(rounds.tenant) as connection:
        later = {"checkpoint": datetime.now(UTC) + timedelta(hours=1)}
        await connection.execute(update(saved_filters).where(of).values(later))
    second = await rounds.next(projected=False)
    third = await rounds.next(projected=False)

    assert await rounds.reported(first) == [(id_of(known), "NEW", None)]
    assert await rounds.reported(second) == [(id_of(parked), "NEW", None)]
    assert third.reported == 0
    # What was applied is not looked at again by every saved search.
    assert await applied_at(rounds, known) == before


async def test_round_whose_data_is_wrong_is_not_retried_and_the_next_one_finds_what_it_missed(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flat = await rounds.listed()

    async def wrong(*_: Any) -> Any:
        raise KeyError("Canary's price")

    with monkeypatch.context() as patch:
        patch.setattr(listing_events, "steps_of", wrong)
        failed = await rounds.next()
    found = await rounds.next()

    assert (failed.reported, failed.due_at) == (0, rounds.now)
    assert "a round fails by its data: KeyError at" in caplog.text
    assert "Canary" not in caplog.text
    assert await rounds.reported(found) == [(id_of(flat), "NEW", None)]


async def test_home_that_came_and_went_between_rounds_does_not_hide_the_one_that_follows(rounds: Rounds) -> None:
    first = await rounds.listed(bedrooms=3)
    await rounds.changed(first, DeleteProperty)
    again = create_property(rounds.tenant, first.user_id, location="Kondapur", bedrooms=3)
    await rounds.saving.property(again)

    assert await rounds.reported(await rounds.next()) == [(id_of(again), "NEW", None)]


async def test_drop_is_reported_once_it_is_worth_reporting(rounds: Rounds) -> None:
    flat = await rounds.listed(price=8_000_000)
    await rounds.next()
    reported = []
    for price in (7_999_999, 7_950_000, 7_920_000, 7_919_999):
        await rounds.changed(flat, PatchProperty, **cheaper(price))
        reported.append((await rounds.next()).reported)

    assert reported == [0, 0, 1, 0]


async def test_sixth_unread_mail_is_the_last_and_the_search_pauses_once(rounds: Rounds) -> None:
    for n in range(MAX_UNREAD):
        await rounds.listed(bedrooms=n)
        done = await rounds.next(timedelta(hours=13))
        assert (await rounds.data(done))["unread"] == n
        await rounds.delivered(done.recorded)
    await rounds.listed(bedrooms=50)

    nothing_new = await rounds.next(timedelta(hours=13))
    paused = [await ActivityEnvironment().run(rounds.activities.pause_unread, rounds.round) for _ in range(2)]
    after = await rounds.next()

    assert (nothing_new.unread, nothing_new.reported, nothing_new.recorded) == (True, 0, None)
    assert rounds.saving.answer(paused[0]) == rounds.saving.answer(paused[1])
    found = await rounds.searching.found(rounds.created)
    assert found is not None
    assert found.paused is PausedBy.UNREAD
    assert after == RoundDone()
    assert await ActivityEnvironment().run(rounds.activities.next_round, rounds.of) is None


@pytest.mark.parametrize("why", ["in one hour", "not sent", "bounced"])
async def test_mails_that_could_not_be_read_yet_pause_nothing(rounds: Rounds, why: str) -> None:
    for n in range(MAX_UNREAD + 1):
        await rounds.listed(bedrooms=n)
        done = await rounds.next(timedelta(minutes=10) if why == "in one hour" else timedelta(days=1))
        assert done.reported == 1
        if why == "not sent":
            await rounds.unsent(done.recorded)
        else:
            await rounds.delivered(done.recorded, "bounced" if why == "bounced" else "delivered")

    assert (await rounds.data(done))["unread"] == (MAX_UNREAD if why == "in one hour" else 0)


@pytest.mark.parametrize("how", ["notification", "all", "listing", "visit", "change"])
async def test_mail_that_was_read_in_some_way_keeps_the_search_going(rounds: Rounds, how: str) -> None:
    for n in range(MAX_UNREAD):
        flat = await rounds.listed(bedrooms=n)
        done = await rounds.next(timedelta(days=1))
        await rounds.delivered(done.recorded)
    assert done.recorded is not None
    user, at = rounds.of.user_id, rounds.now + timedelta(seconds=0.5)
    whose: dict[str, Any] = {"event_id": new_id(), "user_id": user, "timestamp": at}
    match how:
        case "notification":
            fact = NotificationsRead(user_id=user, notification_id=in_app_id(done.recorded, user))
            await rounds.read(Read(**whose, aggregate_id=user, data=fact))
        case "all":
            await rounds.read(Read(**whose, aggregate_id=user, data=NotificationsRead(user_id=user, up_to=at)))
        case "listing":
            await rounds.read(View(**whose, aggregate_id=flat.property_id, data=view(flat.property_id).data))
        case "visit":
            of = rounds.of.saved_search_id
            await rounds.read(
                Visit(**whose, aggregate_id=of, data=SavedSearchVisited(saved_search_id=of, user_id=user))
            )
        case "change":
            wanted = rounds.created.search.model_copy(update={"name": "Homes"})
            await rounds.searching.save(rounds.searching.of(rounds.created, ChangeSavedSearch, search=wanted))
    await rounds.listed(bedrooms=50)

    going_on = await rounds.next()

    assert (going_on.unread, going_on.reported) == (False, 1)
    assert (await rounds.data(going_on))["unread"] == 0


async def test_search_that_was_changed_during_a_round_reports_nothing_of_the_old_one(rounds: Rounds) -> None:
    await rounds.listed()
    await rounds.project()
    wanted = rounds.created.search.model_copy(update={"filters": '{"location":["Uppal"]}'})

    class Changing:
        """The engine, during whose first answer the saved search is changed."""

        async def last_change(self, tenant_id: str) -> datetime | None:
            await rounds.searching.save(rounds.searching.of(rounds.created, ChangeSavedSearch, search=wanted))
            return await real.last_change(tenant_id)

        async def changes(self, *arguments: Any) -> Any:
            return await real.changes(*arguments)

    real = rounds.activities._engine
    rounds.activities._engine = Changing()  # type: ignore[assignment]
    done = await ActivityEnvironment().run(
        rounds.activities.find_matches, Round(**dict(rounds.of), at=datetime.now(UTC) + timedelta(minutes=1))
    )

    assert (done.reported, done.recorded) == (0, None)
    assert await rounds.count(saved_search_matches) == 0


async def test_what_is_remembered_is_bounded(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.now(UTC)
    key = {"tenant_id": rounds.tenant, "saved_search_id": rounds.of.saved_search_id, "user_id": rounds.of.user_id}
    rows: list[dict[str, Any]] = [
        {**key, "property_id": uuid5(rounds.of.user_id, str(n)), "version": 1, "price": 1, "back_at": None}
        | {"reported_at": at + timedelta(seconds=n)}
        for n in range(saved_searches.MAX_REPORTED + 5)
    ]
    of = rounds.of.saved_search_id
    async with rounds.database.transaction(rounds.tenant) as tx:
        await saved_searches.store_reported(tx, of, rows, at + timedelta(seconds=3))
        # The next round may find those again that are not older.
        kept = await saved_searches.reported_of(tx, of, [row["property_id"] for row in rows])
        await saved_searches.store_reported(tx, of, rows[-1:], at + timedelta(days=1))
        known = await saved_searches.reported_of(tx, of, [rows[0]["property_id"], rows[-1]["property_id"]])

    assert len(kept) == len(rows) - 3
    assert await rounds.count(saved_search_matches) == saved_searches.MAX_REPORTED
    assert known.keys() == {rows[-1]["property_id"]}


async def test_rounds_of_one_tenant_see_nothing_of_another(rounds: Rounds) -> None:
    elsewhere = await rounds.saving.listed(new_tenant(), location="Kondapur")
    flat = await rounds.listed()

    done = await rounds.next()

    assert await rounds.reported(done) == [(id_of(flat), "NEW", None)]
    async with rounds.database.statements(elsewhere.tenant_id) as connection:
        assert await saved_searches.reported_of(connection, rounds.of.saved_search_id, [flat.property_id]) == {}


class Recording:
    """Remembers the workflows that are started, but for those that run already."""

    def __init__(self, running: Collection[str] = ()) -> None:
        self.started: list[str] = []
        self._running = running

    async def start_workflow(self, name: str, of: SavedSearchOf, **options: Any) -> None:
        if options["id"] in self._running:
            raise WorkflowAlreadyStartedError(options["id"], name)
        self.started.append(options["id"])


async def test_reconcile_looks_beyond_the_rounds_that_run(
    rounds: Rounds, all_tenants: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for the search engine are the oldest."""
    monkeypatch.setattr("activities.overdue_saved_searches._LIMIT", 1)
    lost, due = rounds.of, datetime.now(UTC) - timedelta(days=400)
    await rounds.begin()
    waiting = rounds.of
    c = saved_filters.c
    async with rounds.database.statements(rounds.tenant) as connection:
        for of, at in ((lost, due), (waiting, due - timedelta(days=1))):
            one = c.saved_search_id == of.saved_search_id
            await connection.execute(update(saved_filters).where(one).values(due_at=at))
    client = Recording(running={waiting.workflow_id})
    beats: list[int] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = beats.append

    overdue = OverdueSavedSearches(all_tenants, client, "notifications")  # type: ignore[arg-type]
    await environment.run(overdue.start_overdue_saved_searches)

    assert client.started == [lost.workflow_id]
    assert len(beats) > len(client.started)


@pytest.mark.parametrize("why_not", [None, "due", "paused", "suspended"])
async def test_reconcile_starts_the_rounds_that_are_lost(
    rounds: Rounds, all_tenants: Database, why_not: str | None
) -> None:
    c = saved_filters.c
    due = datetime.now(UTC) - timedelta(minutes=5 if why_not == "due" else 20)
    async with rounds.database.statements(rounds.tenant) as connection:
        await connection.execute(
            update(saved_filters).where(c.saved_search_id == rounds.of.saved_search_id).values(due_at=due)
        )
        if why_not == "suspended":
            await connection.execute(
                update(users).where(users.c.user_id == rounds.of.user_id).values(status="SUSPENDED")
            )
    if why_not == "paused":
        await rounds.searching.save(rounds.searching.of(rounds.created, PauseSavedSearch, by=PausedBy.LINK))
    client = Recording()

    overdue = OverdueSavedSearches(all_tenants, client, "notifications")  # type: ignore[arg-type]
    await ActivityEnvironment().run(overdue.start_overdue_saved_searches)

    assert (rounds.of.workflow_id in client.started) == (why_not is None)


async def test_daily_round_is_due_the_next_day(rounds: Rounds) -> None:
    await rounds.begin(frequency=Frequency.DAILY, hour=9)

    done = await rounds.next()

    assert done.due_at is not None
    assert (done.due_at.hour, done.due_at.minute) == (3, 30)
    assert timedelta() < done.due_at - rounds.now <= timedelta(days=1)


async def test_unavailable_engine_fails_the_round_and_nothing_is_recorded(rounds: Rounds, settings: Settings) -> None:
    nowhere = Database.for_searching(settings.model_copy(update={"database_url": "postgresql://u:p@127.0.0.1:9/none"}))
    rounds.activities._engine = PostgresSearch(nowhere)

    with pytest.raises(SearchUnavailable):
        await rounds.next()

    await nowhere.close()
    async with rounds.database.statements(rounds.tenant) as connection:
        active = await saved_searches.find_active(connection, rounds.of.saved_search_id)
    assert active is not None
    assert active.last_round_at is None
