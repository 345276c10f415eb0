"""The read model of search: what is kept of a listing, and the vocabulary of what is listed."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from adapters.postgres import Database
from adapters.search.opensearch_index import OpenSearchIndex
from adapters.search.rows import indexed
from adapters.tables import listed_words, listings, property_search, vocabulary
from domain.events import Event
from domain.property_status import PropertyStatus
from domain.search import ListingCard
from domain.words import words
from projections.generations import claim_generation, generation_of, is_stored
from projections.search import Search, is_searchable, version_of
from tests.projections.messages import store
from tests.samples import event_of_each_kind, new_id, new_tenant
from tests.search_model import deletion_of, event_of, listed

AT = datetime(2026, 1, 1, tzinfo=UTC)


class SlowIndex(OpenSearchIndex):
    """Answers a write when it may."""

    def __init__(self) -> None:
        self.is_asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def write(self, generation: int, rows: Iterable[Mapping[str, Any]]) -> None:
        self.is_asked.set()
        await self.go_on.wait()


async def project(all_tenants: Database, events: Sequence[Event], index: OpenSearchIndex | None = None) -> None:
    async with all_tenants.transaction() as tx:
        generation = await generation_of(tx, Search.name, locked=True)
        await Search(index).apply(tx, [indexed(event) for event in events], generation)


async def known_words(database: Database, tenant: str) -> dict[str, int]:
    async with database.statements(tenant) as connection:
        return {row.word: row.listings for row in await connection.execute(select(listed_words))}


def words_of(*cards: ListingCard) -> dict[str, int]:
    """The number of listings with each word."""
    counted: dict[str, int] = {}
    for card in cards:
        texts = (card.title, card.location, card.address or "", card.description)
        for word in {word.text for given in texts for word in words(given)}:
            counted[word] = counted.get(word, 0) + 1
    return counted


async def test_vocabulary_counts_the_active_listings_of_each_word(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    chance = random.Random(1)
    cards = [listed(chance, n) for n in range(30)]
    renamed = cards[0].model_copy(update={"title": "Xanadu palace palace", "description": "Nothing of before is here."})
    events = [event_of(card, tenant) for card in cards]
    events += [event_of(renamed, tenant, 2), deletion_of(cards[1], tenant, 2)]
    events += [event_of(cards[2], tenant, 2, status=PropertyStatus.PAUSED)]
    for _ in range(2):
        chance.shuffle(events)
        for n in range(0, len(events), 7):
            await project(all_tenants, events[n : n + 7])

    assert await known_words(database, tenant) == words_of(renamed, *cards[3:])


async def test_batch_does_not_wait_for_one_that_is_being_indexed(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    card, index = listed(random.Random(1), 1), SlowIndex()
    others = [card.model_copy(update={"id": new_id()}) for _ in range(2)]
    await project(all_tenants, [event_of(card, tenant)])
    slow = asyncio.create_task(project(all_tenants, [event_of(others[0], tenant)], index))
    await index.is_asked.wait()

    await project(all_tenants, [event_of(others[1], tenant)])

    assert await known_words(database, tenant) == words_of(card, others[1])
    index.go_on.set()
    await slow
    assert await known_words(database, tenant) == words_of(card, *others)


async def test_deleted_listing_leaves_its_id_and_version_alone(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    card = listed(random.Random(1), 1, title="The house of Canarybird")
    await project(all_tenants, [event_of(card, tenant), deletion_of(card, tenant, 2)])
    await project(all_tenants, [event_of(card, tenant)])

    async with all_tenants.transaction() as tx:
        [row] = await tx.execute(select(property_search).where(property_search.c.tenant_id == tenant))
        left = await tx.execute(select(vocabulary.c.word).where(vocabulary.c.tenant_id == tenant))
    kept = {name for name, value in row._mapping.items() if value is not None}
    times = {"created_at", "listed_at", "changed_at", "applied_at"}
    assert kept == {"tenant_id", "property_id", "generation", "version"} | times
    assert row.version == 2
    assert list(left) == []
    assert await known_words(database, tenant) == {}


@pytest.mark.parametrize("seed", range(5))
async def test_times_of_older_releases_are_the_earliest_of_all_events(
    database: Database, all_tenants: Database, tenant: str, seed: int
) -> None:
    """Their events had neither createdAt nor listedAt."""
    chance = random.Random(seed)
    card = listed(chance, 1).model_copy(update={"created_at": None, "listed_at": None})
    statuses = [PropertyStatus.DRAFT, PropertyStatus.ACTIVE, PropertyStatus.PAUSED, PropertyStatus.ACTIVE]
    events = [
        event_of(card, tenant, n + 1, at=AT + timedelta(days=n), status=status) for n, status in enumerate(statuses)
    ]
    chance.shuffle(events)
    for event in [*events, events[0]]:
        await project(all_tenants, [event])

    async with database.statements(tenant) as connection:
        [row] = await connection.execute(select(listings))
    assert (row.created_at, row.listed_at) == (AT, AT + timedelta(days=1))


async def test_generation_that_is_written_without_an_index_is_recorded(all_tenants: Database, tenant: str) -> None:
    await project(all_tenants, [event_of(listed(random.Random(1), 1), tenant)])

    async with all_tenants.transaction() as tx:
        serving, next_one = await generation_of(tx, Search.name, locked=True), await claim_generation(tx, Search.name)
        assert not await is_stored(tx, Search.name, serving)
        assert await is_stored(tx, Search.name, next_one)


async def test_the_application_reads_what_the_views_show_of_its_tenant(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    other, chance = new_tenant(), random.Random(1)
    mine, theirs = listed(chance, 1), listed(chance, 2)
    await project(all_tenants, [event_of(mine, tenant), event_of(theirs, other)])

    async with database.statements(tenant) as connection:
        assert [row.property_id for row in await connection.execute(select(listings.c.property_id))] == [mine.id]
        seen = await connection.execute(select(property_search.c.property_id))
        assert [row.property_id for row in seen] == [mine.id]
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(select(property_search.c.card))
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(select(vocabulary.c.word))
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(text("DELETE FROM search.listings"))
    assert (await known_words(database, tenant)).keys() == words_of(mine).keys()


async def test_an_event_is_searchable_once_it_is_applied(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    events = event_of_each_kind(tenant, new_id(), new_id())
    await store(database, tenant, events)
    by_type = {event.event_type: event for event in events}
    created, deleted = by_type["PROPERTY_CREATED"], by_type["PROPERTY_DELETED"]

    first, last = [await version_of(database, tenant, event.event_id) for event in (created, deleted)]

    assert first == (created.aggregate_id, created.version)
    assert last == (deleted.aggregate_id, deleted.version)
    assert not await is_searchable(database, tenant, *first, 0)
    await project(all_tenants, [created])
    assert await is_searchable(database, tenant, *first, 0)
    assert not await is_searchable(database, tenant, *last, 0.05)
    await project(all_tenants, [deleted])
    assert await is_searchable(database, tenant, *last, 0)
    assert not await is_searchable(database, new_tenant(), *last, 0)


async def test_other_events_and_those_of_other_tenants_write_no_listing(database: Database, tenant: str) -> None:
    events = event_of_each_kind(tenant, new_id(), new_id())
    await store(database, tenant, events)
    by_type = {event.event_type: event for event in events}

    for other in ("USER_REGISTERED", "PROPERTY_FAVORITED"):
        assert await version_of(database, tenant, by_type[other].event_id) is None
    assert await version_of(database, new_tenant(), by_type["PROPERTY_CREATED"].event_id) is None
