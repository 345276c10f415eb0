"""The search history: each search once, deletions that later events do not undo, and nothing in the clear."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select

from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import search_history
from domain.events import Event, observation_events
from domain.observations import DeletedSearches, Observation, PropertySearched, Search, SearchHistoryDeleted
from domain.search import SearchFilters
from domain.search_history import remembered, sameness
from domain.user_commands import EraseUser
from projections.generations import generation_of
from projections.past_searches import PastSearches, _wrapped_key
from projections.rebuild import rebuild
from projections.search_history import SearchHistory
from tests.activities.accounts import Saving
from tests.activities.test_accounts import on
from tests.projections.messages import store
from tests.samples import new_id, new_tenant, record_activity

START = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
PROJECTION = SearchHistory()


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


class Searcher:
    """A user who searches."""

    def __init__(self, keyring: Keyring, user_id: UUID, key: bytes) -> None:
        self._keyring, self.id, self.key = keyring, user_id, key

    def search_id(self, **filters: Any) -> UUID:
        return self._keyring.search_id(self.key, sameness(SearchFilters.model_validate(filters)))

    def searched(self, seconds: int, **filters: Any) -> Search:
        asked, event_id = SearchFilters.model_validate(filters), new_id()
        fact = PropertySearched(search_id=self.search_id(**filters), query=remembered(asked), total=seconds)
        sealed = PropertySearched.model_validate(self._keyring.seal(fact, self.key, event_id))
        return Search(event_id=event_id, data=sealed, **self._observed(at(seconds)))

    def deleted(self, seconds: int, search_id: UUID | None = None) -> DeletedSearches:
        fact = SearchHistoryDeleted(user_id=self.id, search_id=search_id, up_to=at(seconds))
        return DeletedSearches(event_id=new_id(), data=fact, **self._observed(at(seconds)))

    def _observed(self, timestamp: datetime) -> dict[str, Any]:
        return {"aggregate_id": self.id, "user_id": self.id, "timestamp": timestamp}


@pytest.fixture
async def searcher(saving: Saving, database: Database, keyring: Keyring, tenant: str) -> Searcher:
    return await new_searcher(saving, database, keyring, tenant)


async def new_searcher(saving: Saving, database: Database, keyring: Keyring, tenant: str) -> Searcher:
    user_id = await saving.registered(tenant)
    async with database.statements(tenant) as connection:
        key = await _wrapped_key(connection, user_id)
    assert key
    return Searcher(keyring, user_id, key)


@pytest.fixture(scope="module")
def past_searches(database: Database, keyring: Keyring) -> PastSearches:
    return PastSearches(database, keyring)


async def project(all_tenants: Database, tenant: str, *observations: Observation) -> None:
    async with all_tenants.transaction() as tx:
        events = observation_events(record_activity(tenant, *observations))
        await PROJECTION.apply(tx, events, await generation_of(tx, PROJECTION.name))


async def texts(past_searches: PastSearches, tenant: str, user_id: UUID) -> list[str | None]:
    page = await past_searches.page(tenant, user_id, 100)
    return [search.filters.q for search in page.searches]


async def rows(all_tenants: Database, user_id: UUID) -> list[Any]:
    async with all_tenants.statements() as connection:
        return list(await connection.execute(select(search_history).where(search_history.c.user_id == user_id)))


async def test_search_is_remembered_once_with_its_newest_time(
    all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher
) -> None:
    first, other = searcher.searched(1, q="2 BHK Uppal"), searcher.searched(2, q="villa", maxPrice=10_000_000)
    again = searcher.searched(3, q="2 bhk  uppal")

    await project(all_tenants, tenant, first, other, again)

    newest, older = (await past_searches.page(tenant, searcher.id, 10)).searches
    assert (newest.filters.q, newest.searched_at, newest.total) == ("2 bhk  uppal", at(3), 3)
    assert (older.filters, older.total) == (SearchFilters(q="villa", max_price=10_000_000), 2)
    assert await past_searches.some(tenant, searcher.id, [older.id, new_id()]) == {older.id: older}
    assert await past_searches.some(tenant, searcher.id, []) == {}


async def test_pages_have_every_search_once(
    all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher
) -> None:
    await project(all_tenants, tenant, *(searcher.searched(n // 2, q=f"plot {n}") for n in range(7)))
    found, cursor = list[str | None](), None

    while True:
        page = await past_searches.page(tenant, searcher.id, 2, cursor)
        found += [search.filters.q for search in page.searches]
        if (cursor := page.next) is None:
            break

    assert sorted(map(str, found)) == [f"plot {n}" for n in range(7)]


Step = tuple[str, int, int]
STEPS = st.lists(st.tuples(st.sampled_from(["search", "delete", "delete all"]), st.integers(0, 2), st.integers(0, 6)))


@given(steps=STEPS, seed=st.integers())
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_what_is_left_is_the_same_in_any_order_and_after_repeats(
    all_tenants: Database,
    past_searches: PastSearches,
    keyring: Keyring,
    saving: Saving,
    steps: list[Step],
    seed: int,
    database: Database,
) -> None:
    tenant = new_tenant()
    searcher = await new_searcher(saving, database, keyring, tenant)
    observations: list[Observation] = []
    for what, n, seconds in steps:
        if what == "search":
            observations.append(searcher.searched(seconds, q=f"plot {n}"))
        else:
            observations.append(
                searcher.deleted(seconds, None if what == "delete all" else searcher.search_id(q=f"plot {n}"))
            )
    chance = random.Random(seed)
    deliveries = [*observations, *chance.choices(observations, k=len(observations))] if observations else []
    chance.shuffle(deliveries)
    while deliveries:
        size = chance.randint(1, len(deliveries))
        await project(all_tenants, tenant, *deliveries[:size])
        deliveries = deliveries[size:]

    left = {f"plot {n}" for what, n, seconds in steps if what == "search" and not is_deleted(steps, n, seconds)}
    assert set(await texts(past_searches, tenant, searcher.id)) == left
    emptied = [row for row in await rows(all_tenants, searcher.id) if row.searched_at is None]
    assert all((row.query, row.event_id, row.total) == (None, None, None) for row in emptied)


def is_deleted(steps: Sequence[Step], n: int, seconds: int) -> bool:
    """Whether the search was deleted, by itself or with all, at its time or later."""
    return any(
        until >= seconds and (what == "delete all" or (what == "delete" and one == n)) for what, one, until in steps
    )


async def test_deletion_is_kept_by_a_rebuild(
    database: Database, all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher
) -> None:
    events: list[Event] = observation_events(
        record_activity(
            tenant,
            searcher.searched(1, q="secret plot"),
            searcher.searched(2, q="villa"),
            searcher.deleted(3, searcher.search_id(q="secret plot")),
        )
    )
    await store(database, tenant, events)

    await rebuild(all_tenants, PROJECTION, lambda _: None)

    assert await texts(past_searches, tenant, searcher.id) == ["villa"]


async def test_deletion_that_the_projection_does_not_have_yet_is_read_from_the_event_store(
    database: Database, all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher
) -> None:
    searches = [searcher.searched(1, q="plot"), searcher.searched(2, q="villa"), searcher.searched(9, q="flat")]
    await project(all_tenants, tenant, *searches)
    deletions = [searcher.deleted(5, searcher.search_id(q="plot")), searcher.deleted(8)]
    await store(database, tenant, observation_events(record_activity(tenant, *deletions)))

    late = await past_searches.page(tenant, searcher.id, 10)
    right = await past_searches.page(tenant, searcher.id, 10, reads_deletions=True)

    assert len(late.searches) == 3
    assert [search.filters.q for search in right.searches] == ["flat"]


async def test_nobody_else_reads_a_search_and_the_table_has_none_in_the_clear(
    all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher, saving: Saving
) -> None:
    await project(all_tenants, tenant, searcher.searched(1, q="canary gardens"))
    other = await saving.registered(tenant)

    stored = repr(await rows(all_tenants, searcher.id))

    assert "sealed" in stored
    assert "canary" not in stored
    assert await texts(past_searches, tenant, other) == []
    assert await texts(past_searches, new_tenant(), searcher.id) == []


async def test_erased_user_has_no_searches_whatever_comes_later(
    all_tenants: Database, past_searches: PastSearches, tenant: str, searcher: Searcher, saving: Saving
) -> None:
    await project(all_tenants, tenant, searcher.searched(1, q="plot"))
    await saving.user(on(tenant, searcher.id, EraseUser))

    await project(all_tenants, tenant, searcher.searched(2, q="villa"))

    assert await rows(all_tenants, searcher.id) == []


async def test_search_of_a_later_release_is_left_out(
    all_tenants: Database, past_searches: PastSearches, keyring: Keyring, tenant: str, searcher: Searcher
) -> None:
    event_id = new_id()
    fact = PropertySearched(search_id=new_id(), query='{"q":"villa","swimmingPool":true}')
    sealed = PropertySearched.model_validate(keyring.seal(fact, searcher.key, event_id))
    later = Search(event_id=event_id, aggregate_id=searcher.id, user_id=searcher.id, timestamp=at(5), data=sealed)

    await project(all_tenants, tenant, searcher.searched(1, q="plot"), later)

    page = await past_searches.page(tenant, searcher.id, 1)
    assert (page.searches, page.next) == ([], Cursor(at(5), fact.search_id))
    assert await texts(past_searches, tenant, searcher.id) == ["plot"]
