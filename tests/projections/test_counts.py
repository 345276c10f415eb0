"""Counting: right under repeats, in any order, and when a deletion comes before what it deletes."""

import random
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from adapters.postgres import Database
from domain.events import PROPERTY_EVENTS, UnreadableEvent
from projections.counts import Counted, Counts, Kind, counts_of
from projections.generations import generation_of
from projections.rebuild import rebuild
from tests.activities.accounts import Saving
from tests.projections.conftest import Delete
from tests.projections.messages import store, stored_messages
from tests.projections.test_history import START
from tests.samples import OF_PERSON, create_property, event_of_each_kind, new_id, new_tenant

TAKEN_BACK = {"PROPERTY_DELETED", "PROPERTY_UNFAVORITED"}


def of_item(tenant: str, item: UUID, version: int, counts: bool, subject: UUID | None) -> Counted:
    return Counted(tenant, Kind.PROPERTY, item, subject, version, counts, START)


async def project(all_tenants: Database, events: list[Counted]) -> None:
    async with all_tenants.transaction() as tx:
        await Counts().apply(tx, events, await generation_of(tx, Counts.name))


async def count(database: Database, tenant: str, subject: UUID) -> int:
    async with database.statements(tenant) as connection:
        return (await counts_of(connection, [subject], Kind.PROPERTY))[subject][0]


async def project_stored(all_tenants: Database, tenant: str) -> None:
    read = [Counts().read(PROPERTY_EVENTS, orjson.dumps(m)) for m in await stored_messages(all_tenants, tenant)]
    await project(all_tenants, [event for event in read if event])


@given(
    lives=st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=8),
    says_subject=st.randoms(use_true_random=False),
    seed=st.integers(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_count_is_that_of_the_newest_versions_under_repeats_and_in_any_order(
    database: Database, all_tenants: Database, lives: list[list[bool]], says_subject: random.Random, seed: int
) -> None:
    """Each life is one item: whether it counts from its first version to its last."""
    tenant, subject, chance = new_tenant(), new_id(), random.Random(seed)
    events = []
    for life in lives:
        item = new_id()
        for version, counts in enumerate(life, start=1):
            said = subject if version == 1 or says_subject.random() < 0.5 else None
            events.append(of_item(tenant, item, version, counts, said))
    deliveries = events + chance.choices(events, k=len(events))
    chance.shuffle(deliveries)

    while deliveries:
        size = chance.randint(1, len(deliveries))
        batch, deliveries = deliveries[:size], deliveries[size:]
        await project(all_tenants, batch)

    assert await count(database, tenant, subject) == sum(life[-1] for life in lives)


async def test_what_happens_once_is_counted_once(database: Database, all_tenants: Database, tenant: str) -> None:
    """An observation changes no aggregate: its version is 0 and its key the event's id."""
    subject = new_id()
    seen = [of_item(tenant, new_id(), 0, True, subject) for _ in range(3)]

    for _ in range(2):
        await project(all_tenants, [*seen, seen[0]])

    assert await count(database, tenant, subject) == 3


@pytest.mark.parametrize("seed", range(5))
async def test_numbers_of_listings_are_right_under_repeats_in_any_order_and_after_a_rebuild(
    database: Database, all_tenants: Database, tenant: str, seed: int
) -> None:
    """Three people each list, like and look at two listings; of the first they take everything back again."""
    chance, people = random.Random(seed), [new_id() for _ in range(3)]
    gone, kept = [{person: new_id() for person in people} for _ in range(2)]
    once = [
        event
        for person in people
        for event in (
            *event_of_each_kind(tenant, person, gone[person], without=OF_PERSON),
            *event_of_each_kind(tenant, person, kept[person], without={*OF_PERSON, *TAKEN_BACK}),
        )
    ]
    # The first listing that is kept is a favourite of the others too, of the last no longer; both have looked at it.
    popular = kept[people[0]]
    for person, no_more in zip(people[1:], [{"PROPERTY_UNFAVORITED"}, set()], strict=True):
        once += [
            event
            for event in event_of_each_kind(tenant, person, popular, without=no_more)
            if event.event_type in {"PROPERTY_FAVORITED", "PROPERTY_UNFAVORITED", "PROPERTY_VIEWED"}
        ]
    await store(database, tenant, once)
    read = [Counts().read(PROPERTY_EVENTS, orjson.dumps(m)) for m in await stored_messages(all_tenants, tenant)]
    counted = [event for event in read if event]
    deliveries = counted + chance.choices(counted, k=len(counted))
    chance.shuffle(deliveries)

    async def numbers() -> list[tuple[int, ...]]:
        """Views and favourites of the listings, and how many listings each person has."""
        async with database.statements(tenant) as connection:
            listings = [popular, *(kept[person] for person in people[1:]), *gone.values()]
            of_listings = await counts_of(connection, listings, Kind.VIEW, Kind.FAVORITE)
            return [*of_listings.values(), *(await counts_of(connection, people, Kind.PROPERTY)).values()]

    while deliveries:
        size = chance.randint(1, len(deliveries))
        batch, deliveries = deliveries[:size], deliveries[size:]
        await project(all_tenants, batch)
    before = await numbers()
    await rebuild(all_tenants, Counts(), lambda _: None)

    assert before == [(3, 2), (1, 1), (1, 1), (1, 0), (1, 0), (1, 0), (1,), (1,), (1,)]
    assert await numbers() == before


async def test_favourite_that_was_taken_back_before_it_was_seen_does_not_count(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    person, listing = new_id(), new_id()
    events = {event.event_type: event for event in event_of_each_kind(tenant, person, listing)}

    for name in ("PROPERTY_UNFAVORITED", "PROPERTY_FAVORITED", "PROPERTY_UNFAVORITED"):
        message = events[name].model_dump_json(by_alias=True).encode()
        event = Counts().read(PROPERTY_EVENTS, message)
        assert event
        await project(all_tenants, [event])

    async with database.statements(tenant) as connection:
        assert await counts_of(connection, [listing], Kind.FAVORITE) == {listing: (0,)}


async def test_owner_has_as_many_properties_as_were_listed_and_not_deleted(
    database: Database,
    all_tenants: Database,
    saving: Saving,
    valkey: Redis,
    tenant: str,
    delete_property: Delete,
) -> None:
    owner, other = [await saving.registered(tenant) for _ in range(2)]
    saved = [await saving.property(create_property(tenant, user)) for user in (owner, owner, owner, other)]
    await delete_property(owner, saved[0].aggregate_id)

    await project_stored(all_tenants, tenant)
    before = [await count(database, tenant, user) for user in (owner, other)]
    await rebuild(all_tenants, Counts(), lambda _: None)

    assert before == [2, 1]
    assert [await count(database, tenant, user) for user in (owner, other)] == before


async def test_one_tenant_counts_nothing_of_another(database: Database, all_tenants: Database) -> None:
    mine, subject = new_tenant(), new_id()
    await project(all_tenants, [of_item(mine, new_id(), 1, True, subject)])

    assert await count(database, mine, subject) == 1
    assert await count(database, new_tenant(), subject) == 0


def test_event_that_is_not_counted_does_not_concern_the_projection() -> None:
    assert Counts().read(PROPERTY_EVENTS, b'{"eventType": "PROPERTY_RENAMED"}') is None


@pytest.mark.parametrize("value", [b"not json", b"[]", b'{"eventType": "PROPERTY_CREATED"}', b"\xff\xfe"])
def test_message_that_cannot_be_read_says_why(value: bytes) -> None:
    with pytest.raises(UnreadableEvent, match=r"message|PROPERTY_CREATED"):
        Counts().read(PROPERTY_EVENTS, value)
