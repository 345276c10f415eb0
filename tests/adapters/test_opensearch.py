"""OpenSearch: what it keeps of versions, tenants and generations, and that it answers as Postgres does."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.postgres import Database
from adapters.search import opensearch_index
from adapters.search.choice import search_engine
from adapters.search.engine import IndexMissing, SearchEngine, SearchUnavailable
from adapters.search.opensearch import OpenSearch
from adapters.search.opensearch_index import ALIAS, OpenSearchIndex
from adapters.search.postgres import PostgresSearch
from adapters.search.rows import IndexedListing, indexed, row_of
from adapters.settings import Settings
from domain.clusters import Counted, tiles_of
from domain.events import Event
from domain.geometry import Box
from domain.property_status import PropertyStatus
from domain.search import Position, SearchFilters, SearchQuery, Sort, Total
from projections.generations import generation_of
from projections.search import Search
from tests.relevance.evaluation import Judged
from tests.relevance.listings import AMENITIES, LOCALITIES
from tests.samples import new_id, new_tenant
from tests.search_contract import SearchContract, Searching
from tests.search_contract_changes import ChangesContract
from tests.search_contract_counts import CountsContract

pytestmark = [
    pytest.mark.search,
    pytest.mark.skipif(os.environ.get("TEST_SEARCH") != "opensearch", reason="OpenSearch: make test-search"),
]

HYDERABAD = Box(west=78.2, south=17.2, east=78.7, north=17.6)
BOW_TIE = [[78.30, 17.40], [78.45, 17.50], [78.45, 17.40], [78.30, 17.50], [78.30, 17.40]]
SQUARE = [[78.30, 17.38], [78.50, 17.38], [78.50, 17.52], [78.30, 17.52], [78.30, 17.38]]
HOLE = [[78.34, 17.43], [78.40, 17.43], [78.40, 17.47], [78.34, 17.47], [78.34, 17.43]]
FAR = [[78.50, 17.30], [78.60, 17.30], [78.60, 17.42], [78.50, 17.42], [78.50, 17.30]]


async def write(database: Database, index: OpenSearchIndex, listings: Sequence[IndexedListing]) -> None:
    """As the projection does, in the serving generation."""
    async with database.transaction() as tx:
        generation = await generation_of(tx, "search", locked=True)
        await Search(index).apply(tx, listings, generation)


def stored_row(listing: IndexedListing) -> dict[str, Any]:
    """The row with what Postgres computes."""
    return row_of(listing) | {"price_per_sqft": None, "applied_at": listing.timestamp}


@pytest.fixture(scope="module")
async def searching(all_tenants: Database, search_index: OpenSearchIndex, engine: SearchEngine) -> Searching:
    async def index(events: Sequence[Event]) -> None:
        await write(all_tenants, search_index, [indexed(event) for event in events])
        await engine.refresh()

    return Searching(engine, index)


class TestOpenSearch(SearchContract):
    """The contract, for OpenSearch."""


class TestOpenSearchChanges(ChangesContract):
    """How it finds changes."""


class TestOpenSearchCounts(CountsContract):
    """What it counts."""


class Loaded:
    """A tenant with listings."""

    def __init__(self, listings: list[IndexedListing]) -> None:
        self.tenant = listings[0].tenant_id
        self.listings = listings


@pytest.fixture(scope="module")
async def loaded(all_tenants: Database, search_index: OpenSearchIndex, engine: SearchEngine) -> Loaded:
    loaded, neighbour = Judged(new_tenant()).indexed, Judged(new_tenant()).indexed[:100]
    # Some without area, which come last.
    for n, listing in enumerate(loaded):
        if listing.card and n % 7 == 0:
            loaded[n] = replace(listing, card=listing.card.model_copy(update={"area_sqft": None}))
    await write(all_tenants, search_index, loaded)
    await write(all_tenants, search_index, neighbour)
    await engine.refresh()
    return Loaded(loaded)


@pytest.fixture(scope="module")
async def postgres(settings: Settings) -> AsyncIterator[SearchEngine]:
    database = Database.for_searching(settings)
    yield PostgresSearch(database)
    await database.close()


@pytest.fixture
def listing(tenant: str) -> IndexedListing:
    return Judged(tenant).indexed[0]


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "q": st.sampled_from(["lake view", "flats", "gachibowli villa", "nowhere", "the", "3bhk"]),
    "location": some(*LOCALITIES),
    "propertyType": some("APARTMENT", "VILLA", "PLOT"),
    "listingType": some("SALE", "RENT"),
    "bedrooms": some("1", "2", "3+"),
    "minBedrooms": st.integers(1, 4),
    "bathrooms": some("1", "2+"),
    "minPrice": st.sampled_from([10_000, 5_000_000]),
    "maxPrice": st.sampled_from([5_000_000, 15_000_000]),
    "minArea": st.just(900),
    "maxArea": st.just(2_000),
    "furnishedStatus": some("FURNISHED", "UNFURNISHED"),
    "amenities": some(*AMENITIES),
    "facing": some("EAST", "NORTH"),
    "minFloor": st.just(2),
    "maxFloor": st.just(9),
    "maxAge": st.just(5),
    "rera": st.booleans(),
    "postedBy": some("AGENT", "USER"),
    "listedSince": st.just("2026-01-01T00:03:20+05:30"),
    "near": st.just({"latitude": 17.44, "longitude": 78.36}),
    "radiusKm": st.just(4.7),
    "bbox": st.just(HYDERABAD),
    "polygon": st.sampled_from(
        [
            {"type": "Polygon", "coordinates": [SQUARE, HOLE]},
            {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [FAR]]},
            {"type": "Polygon", "coordinates": [BOW_TIE]},
        ]
    ),
}


async def every(engine: SearchEngine, tenant: str, query: SearchQuery) -> list[Any]:
    """All hits, page by page."""
    hits: list[Any] = []
    after: Position | None = None
    while True:
        found = await engine.search(tenant, query, after)
        hits += found.hits
        after = found.next
        if after is None:
            return hits


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=FILTERS), st.sampled_from(Sort))
async def test_filters_orders_totals_facets_and_clusters_are_those_of_postgres(
    loaded: Loaded, engine: SearchEngine, postgres: SearchEngine, filters: dict[str, Any], sort: Sort
) -> None:
    sort = Sort.NEWEST if sort is Sort.DISTANCE and "near" not in filters else sort
    query = SearchQuery.model_validate({**filters, "sort": sort, "limit": 100})

    ours, theirs = [await every(each, loaded.tenant, query) for each in (engine, postgres)]
    if sort is Sort.RELEVANCE or sort is Sort.DISTANCE:
        assert {hit.id: (hit.card, hit.highlights) for hit in ours} == {
            hit.id: (hit.card, hit.highlights) for hit in theirs
        }
        assert len({hit.id for hit in ours}) == len(ours)
    else:
        assert [(hit.id, hit.card, hit.highlights) for hit in ours] == [
            (hit.id, hit.card, hit.highlights) for hit in theirs
        ]
    first, known = [await each.search(loaded.tenant, query) for each in (engine, postgres)]
    assert (first.total, first.facets) == (known.total, known.facets)

    boxed = SearchFilters.model_validate({**filters, "bbox": HYDERABAD})
    level = tiles_of(HYDERABAD, 12).level
    tiles, expected = [
        {cluster.tile: cluster for cluster in (await each.clusters(loaded.tenant, boxed, level)).clusters}
        for each in (engine, postgres)
    ]
    assert {tile: (each.count, each.min_price, each.max_price, each.property_id) for tile, each in tiles.items()} == {
        tile: (each.count, each.min_price, each.max_price, each.property_id) for tile, each in expected.items()
    }
    for tile, cluster in tiles.items():
        assert cluster.latitude == pytest.approx(expected[tile].latitude, abs=1e-6)
        assert cluster.longitude == pytest.approx(expected[tile].longitude, abs=1e-6)


async def test_nearest_come_first(loaded: Loaded, engine: SearchEngine) -> None:
    query = SearchQuery.model_validate(
        {"near": {"latitude": 17.44, "longitude": 78.36}, "sort": "distance", "limit": 7}
    )
    distances = [hit.distance_km for hit in await every(engine, loaded.tenant, query)]

    assert distances
    assert distances == sorted(distances)
    assert max(distances) <= 5


async def test_clusters_of_more_listings_than_are_counted_are_lower_bounds(
    loaded: Loaded, engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.search.opensearch.MAX_COUNTED", 50)
    rare = SearchFilters.model_validate({"bbox": HYDERABAD, "location": ["Kondapur"], "propertyType": ["VILLA"]})

    every = await engine.clusters(loaded.tenant, SearchFilters(bbox=HYDERABAD), 12)
    some = await engine.clusters(loaded.tenant, rare, 12)

    assert not every.exact
    assert sum(each.count for each in every.clusters) == 51
    assert some.exact
    assert sum(each.count for each in some.clusters) == (await engine.count(loaded.tenant, rare)).value > 0


async def test_version_is_made_findable_by_one_refresh(
    settings: Settings,
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    listing: IndexedListing,
) -> None:
    """A client that repeats a Consistency-Token causes no more of them."""
    assert settings.search_url
    client = opensearch_index.connect(settings.search_url)

    async def refreshes() -> int:
        stats = await client.indices.stats(index=ALIAS, metric="refresh")
        total: int = stats["_all"]["primaries"]["refresh"]["total"]
        return total

    await client.indices.put_settings(index=ALIAS, body={"index": {"refresh_interval": "-1"}})
    try:
        await write(all_tenants, search_index, [listing])
        assert await engine.cards(listing.tenant_id, [listing.property_id]) == []
        before = await refreshes()
        several = [engine.make_findable(listing.tenant_id, listing.property_id, listing.version) for _ in range(5)]
        await asyncio.gather(*several)

        assert len(await engine.cards(listing.tenant_id, [listing.property_id])) == 1
        after = await refreshes()
        assert after > before
        await engine.make_findable(listing.tenant_id, listing.property_id, listing.version)
        assert await refreshes() == after

        await write(all_tenants, search_index, [replace(listing, version=2, status=PropertyStatus.SOLD, card=None)])
        await engine.make_findable(listing.tenant_id, listing.property_id, 2)
        assert await engine.cards(listing.tenant_id, [listing.property_id]) == []
    finally:
        await client.indices.put_settings(index=ALIAS, body={"index": {"refresh_interval": "500ms"}})
        await client.close()


async def test_late_and_repeated_versions_change_nothing(
    all_tenants: Database, search_index: OpenSearchIndex, engine: SearchEngine, listing: IndexedListing
) -> None:
    assert listing.card
    versions = [
        replace(listing, version=n, card=listing.card.model_copy(update={"version": n, "price": n * 1_000_000}))
        for n in range(1, 7)
    ]
    shuffled = versions * 2
    random.Random(1).shuffle(shuffled)
    for version in shuffled:
        await write(all_tenants, search_index, [version])
    await engine.refresh()

    [found] = (await engine.search(listing.tenant_id, SearchQuery())).hits
    assert b'"price":6000000' in found.card


async def test_older_event_corrects_the_time_of_a_listing(
    all_tenants: Database, search_index: OpenSearchIndex, engine: SearchEngine, listing: IndexedListing
) -> None:
    """Events of older releases do not say when a listing was first public."""
    assert listing.listed_at
    earlier = listing.listed_at - timedelta(days=3)
    await write(all_tenants, search_index, [replace(listing, version=2)])
    await write(all_tenants, search_index, [replace(listing, listed_at=earlier)])
    await engine.refresh()

    recent = SearchFilters(listed_since=listing.listed_at)
    assert (await engine.count(listing.tenant_id, recent)).value == 0
    assert (await engine.count(listing.tenant_id, SearchFilters(listed_since=earlier))).value == 1


@pytest.mark.parametrize("status", [PropertyStatus.SOLD, None])
async def test_listing_that_is_gone_is_not_brought_back_by_an_older_write(
    settings: Settings,
    all_tenants: Database,
    search_index: OpenSearchIndex,
    engine: SearchEngine,
    listing: IndexedListing,
    status: PropertyStatus | None,
) -> None:
    gone = replace(listing, version=2, status=status, card=None)
    await write(all_tenants, search_index, [listing])
    await write(all_tenants, search_index, [gone])
    # Around the projection: a write that OpenSearch gets late, after its client has given it up. OpenSearch forgets the
    # versions of deleted documents, which is made to happen at once.
    async with all_tenants.statements() as connection:
        generation = await generation_of(connection, "search")
    assert settings.search_url
    client = opensearch_index.connect(settings.search_url)
    await client.indices.put_settings(index=ALIAS, body={"index": {"gc_deletes": "0s"}})
    await client.indices.refresh(index=ALIAS)
    await search_index.write(generation, [stored_row(listing)])
    await client.indices.put_settings(index=ALIAS, body={"index": {"gc_deletes": None}})
    id = str(listing.property_id)
    kept = (await client.get(index=ALIAS, id=f"{listing.tenant_id}:{id}"))["_source"]
    await client.close()
    await engine.refresh()

    # Nothing that its owner wrote.
    assert kept == {"id": id, "tenant": listing.tenant_id, "active": False}
    assert (await engine.search(listing.tenant_id, SearchQuery())).hits == []
    assert await engine.cards(listing.tenant_id, [listing.property_id]) == []


async def test_other_tenants_see_nothing(loaded: Loaded, engine: SearchEngine, tenant: str) -> None:
    ids = [listing.property_id for listing in loaded.listings[:5]]
    query = SearchQuery.model_validate({"q": "gachibowli", "near": {"latitude": 17.44, "longitude": 78.36}})

    for asked in (SearchQuery(), query):
        found = await engine.search(tenant, asked)
        assert (found.hits, found.total and found.total.value) == ([], 0)
        assert not any(found.facets.values())
    assert await engine.cards(tenant, ids) == []
    assert [total.value for total in await engine.counts(tenant, [SearchFilters(), query])] == [0, 0]
    assert await engine.clusters(tenant, SearchFilters(bbox=HYDERABAD), 12) == Counted((), exact=True)
    assert [hit.id for hit in await engine.cards(loaded.tenant, ids)] == ids


async def test_text_of_any_length_is_answered(loaded: Loaded, engine: SearchEngine) -> None:
    words = " ".join(f"{a}{b}" for a in "bcdfghjklm" for b in "npqrstvwxy")[:254]

    assert (await engine.search(loaded.tenant, SearchQuery(q=words))).hits == []


async def test_server_that_is_down_is_unavailable(database: Database, settings: Settings) -> None:
    nobody = search_engine(settings.model_copy(update={"search_url": "http://127.0.0.1:1"}), database)
    for asked in (nobody.search("hyderabad", SearchQuery()), nobody.ping(), nobody.refresh()):
        with pytest.raises(SearchUnavailable):
            await asked
    await nobody.close()


async def test_missing_index_is_unavailable(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(engine, OpenSearch)
    monkeypatch.setattr("adapters.search.opensearch.ALIAS", "nothing")

    for asked in (engine.search("hyderabad", SearchQuery()), engine.ping(), engine.refresh()):
        with pytest.raises(IndexMissing):
            await asked


async def test_write_to_a_generation_that_is_missing_creates_none(
    search_index: OpenSearchIndex, listing: IndexedListing
) -> None:
    with pytest.raises(IndexMissing):
        await search_index.write(987_654, [stored_row(listing)])

    assert not await search_index.has(987_654)


async def test_any_number_of_listings_is_written_at_once(
    all_tenants: Database, search_index: OpenSearchIndex, engine: SearchEngine, listing: IndexedListing
) -> None:
    """In several requests: a listing may have 5,000 characters of description, each of three bytes."""
    assert listing.card
    card = listing.card.model_copy(update={"description": "గ" * 5_000})
    many = [replace(listing, property_id=(id := new_id()), card=card.model_copy(update={"id": id})) for _ in range(150)]
    await write(all_tenants, search_index, many)
    await engine.refresh()

    assert await engine.count(listing.tenant_id, SearchFilters()) == Total(150, exact=True)
