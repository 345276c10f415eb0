"""What every search engine must do: the test module of an engine has a subclass of SearchContract."""

import csv
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapters.search.engine import SearchEngine
from domain.events import Event
from domain.geometry import Polygon
from domain.property_status import PropertyStatus
from domain.search import Hit, ListingCard, Position, SearchFilters, SearchQuery, Sort, Total
from embedded.paths import ROOT
from tests.samples import new_id, new_tenant
from tests.search_model import deletion_of, event_of, filters, found, in_order, is_on_edge, kilometres, listed

SORTS_BY_VALUE = [sort for sort in Sort if sort not in {Sort.RELEVANCE, Sort.DISTANCE}]
NEAR = {"latitude": 17.4431, "longitude": 78.4431}
_DATA = ROOT.parent / "shared" / "data"
WARDS, REAL_LISTINGS = _DATA / "wards.geojson", _DATA / "listings_sale_geo.csv"


def without_altitudes(geometry: dict[str, Any]) -> dict[str, Any]:
    """A GeoJSON geometry with pairs for positions."""

    def pairs(part: Any) -> Any:
        return part[:2] if isinstance(part[0], int | float) else [pairs(inner) for inner in part]

    return {"type": geometry["type"], "coordinates": pairs(geometry["coordinates"])}


@dataclass(frozen=True)
class Searching:
    """An engine, and the projection that writes to it."""

    engine: SearchEngine
    index: Callable[[Sequence[Event]], Awaitable[None]]
    """Applies events; afterwards a search sees them."""

    async def all(self, tenant: str, query: SearchQuery) -> list[Hit]:
        """The hits of all pages. Positions go through JSON, as in a cursor."""
        hits: list[Hit] = []
        after: Position | None = None
        while True:
            page = await self.engine.search(tenant, query, after)
            assert len(page.hits) <= query.limit
            hits += page.hits
            if page.next is None:
                return hits
            assert len(page.hits) == query.limit
            after = tuple(json.loads(json.dumps(page.next)))

    async def ids(self, tenant: str, **query: Any) -> list[UUID]:
        return [hit.id for hit in await self.all(tenant, SearchQuery.model_validate({"limit": 100, **query}))]


@dataclass(frozen=True)
class Corpus:
    """Listings that are indexed for a tenant."""

    tenant: str
    cards: list[ListingCard] = field(repr=False)


class SearchContract:
    """The tests. `searching` is a fixture of the subclass, of the scope `class` at least."""

    @pytest.fixture(scope="class")
    @classmethod
    async def corpus(cls, searching: Searching) -> Corpus:
        chance, tenant = random.Random(7), new_tenant()
        cards = [listed(chance, n) for n in range(120)]
        events = [event_of(card, tenant) for card in cards]
        chance.shuffle(events)
        await searching.index(events)
        return Corpus(tenant, cards)

    @given(asked=filters(), limit=st.sampled_from([7, 100]), sort=st.sampled_from(list(Sort)))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    async def test_any_combination_of_filters_finds_what_the_model_finds(
        self, searching: Searching, corpus: Corpus, asked: SearchFilters, limit: int, sort: Sort
    ) -> None:
        assume(not is_on_edge(corpus.cards, asked))
        assume(sort is not Sort.DISTANCE or asked.near)
        query = SearchQuery.model_validate({**asked.model_dump(), "sort": sort, "limit": limit})

        hits = await searching.all(corpus.tenant, query)

        expected = found(corpus.cards, asked)
        ids = [hit.id for hit in hits]
        assert len(ids) == len(set(ids))
        assert set(ids) == expected
        assert await searching.engine.count(corpus.tenant, asked) == Total(len(expected), exact=True)
        if sort in SORTS_BY_VALUE:
            assert ids == in_order([card for card in corpus.cards if card.id in expected], sort)

    async def test_distance_is_that_on_the_sphere_and_the_nearest_comes_first(
        self, searching: Searching, corpus: Corpus
    ) -> None:
        query = SearchQuery.model_validate({"near": NEAR, "radiusKm": 30, "sort": "distance", "limit": 9})

        hits = await searching.all(corpus.tenant, query)

        card_of = {card.id: card for card in corpus.cards}
        distances = [hit.distance_km for hit in hits]
        assert len(hits) > 50
        assert distances == sorted(distances, key=lambda distance: distance or 0)
        for hit in hits:
            exact = kilometres(card_of[hit.id], NEAR["latitude"], NEAR["longitude"])
            assert hit.distance_km == pytest.approx(exact, rel=0.002)

    async def test_cards_are_those_of_the_events_without_contact_data(
        self, searching: Searching, corpus: Corpus
    ) -> None:
        wanted = [corpus.cards[5], corpus.cards[3]]

        hits = await searching.engine.cards(corpus.tenant, [wanted[0].id, new_id(), wanted[1].id])

        assert [ListingCard.model_validate_json(hit.card) for hit in hits] == wanted
        assert all(b"contact" not in hit.card for hit in hits)

    async def test_highlights_are_escaped_html_with_the_words_that_matched(
        self, searching: Searching, tenant: str
    ) -> None:
        card = listed(
            random.Random(1),
            1,
            title="Two <b>Villas</b> & a lake",
            description="A café by the lake. " * 100 + "One villa's garden.",
            location="Uppal",
            address=None,
        )
        await searching.index([event_of(card, tenant)])

        [hit] = (await searching.engine.search(tenant, SearchQuery(q="villa"))).hits

        assert hit.highlights["title"] == "Two &lt;b&gt;<mark>Villas</mark>&lt;/b&gt; &amp; a lake"
        assert "<mark>villa</mark>" in hit.highlights["description"]
        assert len(hit.highlights["description"]) < 400
        assert hit.highlights.keys() == {"title", "description"}

    async def test_relevance_puts_title_and_locality_before_description(
        self, searching: Searching, tenant: str
    ) -> None:
        chance = random.Random(1)
        told = listed(chance, 3, title="A quiet flat", description="Ten minutes from Miyapur by road.")
        there = listed(chance, 2, title="A quiet flat", description="By the metro station.", location="Miyapur")
        named = listed(chance, 1, title="Miyapur flat in Miyapur", description="By the metro.", location="Miyapur")
        await searching.index([event_of(card, tenant) for card in (told, there, named)])

        assert await searching.ids(tenant, q="miyapur") == [named.id, there.id, told.id]

    @pytest.mark.parametrize("sort", Sort)
    async def test_pages_stay_right_while_listings_change(self, searching: Searching, sort: Sort) -> None:
        """What does not change is found once, whatever comes, goes and changes between the pages."""
        chance, tenant = random.Random(sort.value), new_tenant()
        cards = [listed(chance, n, latitude=17.4 + n / 1000, longitude=78.4, title="A flat") for n in range(60)]
        await searching.index([event_of(card, tenant) for card in cards])
        query = SearchQuery.model_validate({"q": "flat", "near": NEAR, "radiusKm": 90, "sort": sort, "limit": 7})
        still, seen, after = {card.id for card in cards[::2]}, [], None
        changing, n = cards[1::2], 0
        while True:
            page = await searching.engine.search(tenant, query, after)
            seen += [hit.id for hit in page.hits]
            if page.next is None:
                break
            after = page.next
            n += 1
            new = listed(chance, 100 + n, latitude=17.5, longitude=78.4, title="Another flat")
            gone, changed = changing.pop(), changing.pop()
            dearer = changed.model_copy(update={"price": changed.price * 2, "area_sqft": 900 + n})
            await searching.index(
                [event_of(new, tenant), deletion_of(gone, tenant, 2), event_of(dearer, tenant, version=2)]
            )

        assert n > 5
        assert [id for id in seen if id in still] == list(dict.fromkeys(id for id in seen if id in still))
        assert still <= set(seen)

    async def test_only_active_listings_are_found(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        cards = [listed(chance, n) for n in range(len(PropertyStatus))]
        by_status = dict(zip(PropertyStatus, cards, strict=True))
        await searching.index([event_of(card, tenant, status=status) for status, card in by_status.items()])
        active = by_status[PropertyStatus.ACTIVE].id

        assert await searching.ids(tenant) == [active]
        assert [hit.id for hit in await searching.engine.cards(tenant, [card.id for card in cards])] == [active]

    async def test_late_and_repeated_events_change_nothing(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        card, other = listed(chance, 1, title="The first flat"), listed(chance, 2)
        renamed = card.model_copy(
            update={"title": "The second flat", "version": 2, "updated_at": card.updated_at + timedelta(hours=1)}
        )
        first, second, third = event_of(card, tenant), event_of(renamed, tenant, 2), deletion_of(card, tenant, 3)

        await searching.index([second, event_of(other, tenant)])
        await searching.index([first, second, first])

        [hit] = await searching.engine.cards(tenant, [card.id])
        assert ListingCard.model_validate_json(hit.card) == renamed
        await searching.index([third])
        await searching.index([second, first])
        assert await searching.ids(tenant) == [other.id]
        assert await searching.engine.cards(tenant, [card.id]) == []

    async def test_tenants_do_not_see_each_others_listings(self, searching: Searching, tenant: str) -> None:
        chance, other = random.Random(1), new_tenant()
        mine, theirs = (
            listed(chance, 1, title="A flat", latitude=17.4, longitude=78.4),
            listed(chance, 2, title="A flat", latitude=17.4, longitude=78.4),
        )
        await searching.index([event_of(mine, tenant), event_of(theirs, other)])
        near = {"near": {"latitude": 17.4, "longitude": 78.4}}

        for query in ({}, {"q": "flat"}, near, {**near, "sort": "distance"}, {"sort": "price"}):
            assert await searching.ids(tenant, **query) == [mine.id]
        assert await searching.engine.count(tenant, SearchFilters(q="flat")) == Total(1, exact=True)
        assert [hit.id for hit in await searching.engine.cards(tenant, [theirs.id, mine.id])] == [mine.id]
        assert await searching.ids(new_tenant()) == []

    @pytest.mark.parametrize(
        "text",
        [
            "' OR 1=1 --", "\\", "'", "zq' & 'zx", "!:*&|()<->", "%_%", "\\'x", "zq' | 'flat", "{}[]\"*?~^:/", "…",
            "😀", "x" * 254, "a " * 127, "గచ్చిబౌలి", "and the of", "*:*", "title:flat", "$where", "\u2019s", "ß ﬁ ㎡",
        ],
    )  # fmt: skip
    async def test_any_text_is_only_a_text(self, searching: Searching, corpus: Corpus, text: str) -> None:
        query = SearchQuery(q=text)

        hits = await searching.all(corpus.tenant, query)
        also = await searching.all(corpus.tenant, query.model_copy(update={"sort": Sort.PRICE}))

        assert {hit.id for hit in hits} == {hit.id for hit in also}
        everything = {card.id for card in corpus.cards}
        assert {hit.id for hit in hits} in (set(), everything)  # nothing, or a text without words

    async def test_words_match_whatever_their_script_case_and_accents(self, searching: Searching, tenant: str) -> None:
        card = listed(random.Random(1), 1, title="గచ్చిబౌలి Résidence Ⅷ", description="Naïve café, ﬁne.")
        await searching.index([event_of(card, tenant)])

        for text in ("గచ్చిబౌలి", "residence", "RÉSIDENCES", "naive cafe", "fine"):
            assert await searching.ids(tenant, q=text) == [card.id], text
        assert await searching.ids(tenant, q="గచ్చి") == []

    @pytest.mark.skipif(not WARDS.exists(), reason="the wards of ../shared/data are not on this machine")
    async def test_listings_of_each_ward_are_those_inside_its_polygon(self, searching: Searching, tenant: str) -> None:
        """The real listings and wards, MultiPolygons among them, beside a point-in-polygon of another kind."""
        with REAL_LISTINGS.open(newline="", encoding="utf-8") as source:
            points = {(float(row["longitude"]), float(row["latitude"])) for row in csv.DictReader(source)}
        chance, by_id = random.Random(1), {}
        for n, (longitude, latitude) in enumerate(sorted(points)):
            card = listed(chance, n, latitude=latitude, longitude=longitude)
            by_id[card.id] = card
        await searching.index([event_of(card, tenant) for card in by_id.values()])
        wards = json.loads(WARDS.read_text(encoding="utf-8"))["features"]

        hits = 0
        for ward in wards:
            asked = SearchFilters.model_validate({"polygon": without_altitudes(ward["geometry"])})
            ids = set(await searching.ids(tenant, polygon=asked.polygon))
            assert asked.polygon is not None
            ring = [point for outer, *_ in asked.polygon.polygons for point in outer]
            west, south, east, north = (of(point[n] for point in ring) for of in (min, max) for n in (0, 1))
            near = [
                card
                for card in by_id.values()
                if west <= (card.longitude or 0) <= east and south <= (card.latitude or 0) <= north
            ]
            differing = ids ^ found(near, asked)
            assert all(is_on_edge([by_id[id]], asked) for id in differing), ward["properties"]
            assert len(differing) < 5
            hits += len(ids)
        assert hits > 1_000

    async def test_a_hole_may_touch_and_overlap_its_ring(self, searching: Searching, tenant: str) -> None:
        chance = random.Random(1)
        inside = listed(chance, 1, latitude=17.05, longitude=78.05)
        in_hole = listed(chance, 2, latitude=17.15, longitude=78.15)
        await searching.index([event_of(inside, tenant), event_of(in_hole, tenant)])
        outer = ((78.0, 17.0), (78.2, 17.0), (78.2, 17.2), (78.0, 17.2), (78.0, 17.0))
        hole = ((78.1, 17.1), (78.3, 17.1), (78.3, 17.3), (78.1, 17.3), (78.1, 17.1))
        shape = Polygon(type="Polygon", coordinates=(outer, hole))

        assert await searching.ids(tenant, polygon=shape) == [inside.id]
