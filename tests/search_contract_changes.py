"""How every search engine finds changes: the test module of an engine has a subclass of ChangesContract."""

import json
import random
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from domain.search import CHANGES_OF_A_PAGE, Position, SearchFilters
from tests.samples import new_tenant
from tests.search_contract import Corpus, Searching
from tests.search_model import deletion_of, event_of, filters, found, is_on_edge, listed

_ALL = SearchFilters()


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


class ChangesContract:
    """The tests. `searching` is a fixture of the subclass, of the scope `class` at least."""

    @pytest.fixture(scope="class")
    @classmethod
    async def changed(cls, searching: Searching) -> Corpus:
        """More than a page of listings, some of which have changed at the same time."""
        chance, tenant = random.Random(13), new_tenant()
        cards = [listed(chance, n - n % 3) for n in range(CHANGES_OF_A_PAGE + 30)]
        events = [event_of(card, tenant) for card in cards]
        chance.shuffle(events)
        await searching.index(events)
        return Corpus(tenant, cards)

    @given(asked=filters() | st.just(_ALL), first=st.integers(0, CHANGES_OF_A_PAGE + 30))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_changes_that_match_come_in_the_order_of_time(
        self, searching: Searching, changed: Corpus, asked: SearchFilters, first: int
    ) -> None:
        assume(not is_on_edge(changed.cards, asked))
        since = changed.cards[min(first, len(changed.cards) - 1)].updated_at
        expected = found([card for card in changed.cards if card.updated_at >= since], asked)

        ids = await changes(searching, changed.tenant, asked, since)

        time_of = {card.id: card.updated_at for card in changed.cards}
        assert (set(ids), len(ids)) == (expected, len(expected))
        assert ids == sorted(ids, key=lambda id: (time_of[id], str(id)))

    async def test_listing_that_changes_comes_again_on_a_later_page(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        cards = [listed(chance, n) for n in range(CHANGES_OF_A_PAGE + 2)]
        await searching.index([event_of(card, tenant) for card in cards])
        since = cards[0].updated_at
        first = await searching.engine.changes(tenant, _ALL, since)
        later = cards[0].model_copy(update={"updated_at": cards[-1].updated_at + timedelta(hours=1)})
        await searching.index([event_of(later, tenant, 2), deletion_of(cards[1], tenant, 2)])

        second = await searching.engine.changes(tenant, _ALL, since, first.next)

        assert [hit.id for hit in first.hits] == [card.id for card in cards[:CHANGES_OF_A_PAGE]]
        assert [hit.id for hit in second.hits] == [cards[-2].id, cards[-1].id, cards[0].id]
        assert second.next is None
        assert await searching.engine.last_change(tenant) == later.updated_at

    async def test_changes_of_another_tenant_are_not_seen(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        mine, theirs = listed(chance, 1), listed(chance, 2)
        await searching.index([event_of(mine, tenant), event_of(theirs, new_tenant())])

        assert await changes(searching, tenant, _ALL, mine.updated_at) == [mine.id]
        assert await searching.engine.last_change(tenant) == mine.updated_at
        assert await searching.engine.last_change(new_tenant()) is None
