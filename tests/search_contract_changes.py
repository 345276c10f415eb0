"""How every search engine finds changes: the test module of an engine has a subclass of ChangesContract."""

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from adapters.postgres import Database
from adapters.tables import property_search
from domain.search import CHANGES_OF_A_PAGE, ListingCard, Position, SearchFilters
from tests.samples import new_tenant
from tests.search_contract import Searching
from tests.search_model import deletion_of, event_of, filters, found, is_on_edge, listed

_ALL = SearchFilters()
_EVER = datetime(2000, 1, 1, tzinfo=UTC)


async def changes(searching: Searching, tenant: str, asked: SearchFilters, since: datetime) -> list[UUID]:
    """Those of all pages. Positions go through JSON."""
    ids: list[UUID] = []
    after: Position | None = None
    while True:
        page = await searching.engine.changes(tenant, asked, since, after)
        ids += [hit.id for hit in page.hits]
        if page.next is None:
            return ids
        assert len(page.hits) == CHANGES_OF_A_PAGE
        after = tuple(json.loads(json.dumps(page.next)))


async def applied(all_tenants: Database, tenant: str) -> dict[UUID, datetime]:
    """When each listing of a tenant was applied for the last time."""
    c = property_search.c
    async with all_tenants.statements() as connection:
        rows = await connection.execute(select(c.property_id, c.applied_at).where(c.tenant_id == tenant))
        return {row.property_id: row.applied_at for row in rows}


@dataclass(frozen=True)
class Changed:
    """Listings of a tenant, and when each was applied."""

    tenant: str
    cards: list[ListingCard]
    times: dict[UUID, datetime]


class ChangesContract:
    """The tests. `searching` is a fixture of the subclass, of the scope `class` at least."""

    @pytest.fixture(scope="class")
    @classmethod
    async def changed(cls, searching: Searching, all_tenants: Database) -> Changed:
        """More than a page of listings, applied in another order than that of their events."""
        chance, tenant = random.Random(13), new_tenant()
        cards = [listed(chance, n) for n in range(CHANGES_OF_A_PAGE + 30)]
        events = [event_of(card, tenant) for card in cards]
        chance.shuffle(events)
        for n in range(0, len(events), 26):
            await searching.index(events[n : n + 26])
        return Changed(tenant, cards, await applied(all_tenants, tenant))

    @given(asked=filters() | st.just(_ALL), first=st.integers(0, CHANGES_OF_A_PAGE + 29))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_changes_that_match_come_in_the_order_in_which_they_were_applied(
        self, searching: Searching, changed: Changed, asked: SearchFilters, first: int
    ) -> None:
        assume(not is_on_edge(changed.cards, asked))
        times = changed.times
        since = sorted(times.values())[first]
        expected = found([card for card in changed.cards if times[card.id] >= since], asked)

        ids = await changes(searching, changed.tenant, asked, since)

        assert (set(ids), len(ids)) == (expected, len(expected))
        assert ids == sorted(ids, key=lambda id: (times[id], str(id)))

    async def test_last_change_is_the_one_that_was_applied_last(self, searching: Searching, changed: Changed) -> None:
        assert await searching.engine.last_change(changed.tenant) == max(changed.times.values())

    async def test_listing_that_changes_comes_again_on_a_later_page(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        cards = {card.id: card for card in (listed(chance, n) for n in range(CHANGES_OF_A_PAGE + 2))}
        await searching.index([event_of(card, tenant) for card in cards.values()])
        order = await changes(searching, tenant, _ALL, _EVER)
        first = await searching.engine.changes(tenant, _ALL, _EVER)
        # Also one whose event is older than those of the others.
        late = event_of(cards[order[0]], tenant, 2, at=_EVER)
        await searching.index([late, deletion_of(cards[order[1]], tenant, 2)])

        second = await searching.engine.changes(tenant, _ALL, _EVER, first.next)

        assert [hit.id for hit in first.hits] == order[:CHANGES_OF_A_PAGE]
        assert [hit.id for hit in second.hits] == [*order[-2:], order[0]]
        assert second.next is None

    @pytest.mark.parametrize(
        ("ago", "kept"), [(timedelta(days=2), True), (timedelta(seconds=1), False), (timedelta(days=40), False)]
    )
    async def test_time_of_a_change_that_came_late_is_kept_for_a_month(
        self, searching: Searching, tenant: str, ago: timedelta, kept: bool
    ) -> None:
        card, now = listed(random.Random(1), 1), datetime.now(UTC)
        for version, at in ((1, now - ago), (2, now)):
            await searching.index([event_of(card, tenant, version, at=at)])

        [hit] = (await searching.engine.changes(tenant, _ALL, _EVER)).hits

        assert hit.changed_at == (now - ago if kept else now)

    async def test_changes_of_another_tenant_are_not_seen(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        mine, theirs = listed(chance, 1), listed(chance, 2)
        await searching.index([event_of(mine, tenant), event_of(theirs, new_tenant())])

        assert await changes(searching, tenant, _ALL, _EVER) == [mine.id]
        assert await searching.engine.last_change(new_tenant()) is None
