"""Favourites on real Postgres: one for each user and listing, also under concurrency."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import func, select
from temporalio.exceptions import ApplicationError

from activities.favorites import Favorites
from activities.saving import CommandStore
from adapters import event_store
from adapters.current_state import find_property
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import commands, favorites, users
from domain import ids
from domain.command import Saved
from domain.favorite_commands import FavoriteProperty, UnfavoriteProperty
from domain.property_commands import CreateProperty, DeleteProperty
from domain.property_status import PropertyStatus
from tests.activities.accounts import Saving
from tests.samples import create_property, new_id


class Fans:
    """Users of one tenant who add listings to their favourites and remove them, through the real activity."""

    def __init__(self, store: CommandStore, keyring: Keyring, tenant: str) -> None:
        self._favorites = Favorites(store)
        self._keyring = keyring
        self._tenant = tenant

    def adding(self, user: UUID, property_id: UUID) -> FavoriteProperty:
        return FavoriteProperty(**self._common(user, property_id))

    def removing(self, user: UUID, property_id: UUID) -> UnfavoriteProperty:
        return UnfavoriteProperty(**self._common(user, property_id))

    def _common(self, user: UUID, property_id: UUID) -> dict[str, object]:
        who = {"command_id": new_id(), "tenant_id": self._tenant, "user_id": user, "issued_at": datetime.now(UTC)}
        return {**who, "property_id": property_id}

    async def save(self, command: FavoriteProperty | UnfavoriteProperty) -> Saved:
        return await self._favorites.save_favorite(self._keyring.seal_in_transit(command, command.command_id))


@pytest.fixture
def fans(store: CommandStore, keyring: Keyring, tenant: str) -> Fans:
    return Fans(store, keyring, tenant)


async def listed(saving: Saving, tenant: str, owner: UUID, status: PropertyStatus = PropertyStatus.ACTIVE) -> UUID:
    command = create_property(tenant, owner)
    await saving.property(CreateProperty.model_validate({**dict(command), "status": status}))
    return command.property_id


async def delete(saving: Saving, tenant: str, owner: UUID, property_id: UUID) -> None:
    who = {"command_id": new_id(), "tenant_id": tenant, "user_id": owner, "issued_at": datetime.now(UTC)}
    await saving.property(DeleteProperty(**who, property_id=property_id))


async def events_of(database: Database, tenant: str, *fans: UUID, property_id: UUID) -> list[tuple[str, int]]:
    """Type and version of the events of some users' favourites of a listing."""
    found = []
    async with database.statements(tenant) as connection:
        for fan in fans:
            favorite_id = ids.favorite_id(tenant, fan, property_id)
            messages = await event_store.of_aggregate(connection, favorite_id, limit=100)
            found += [(message["eventType"], message["version"]) for message in messages]
    return found


async def has_favorite(database: Database, tenant: str, property_id: UUID) -> Sequence[UUID]:
    """The users who have the listing among their favourites."""
    query = select(favorites.c.user_id).where(favorites.c.property_id == property_id, favorites.c.is_favorite)
    async with database.statements(tenant) as connection:
        return (await connection.execute(query)).scalars().all()


async def test_saved_favourite_is_a_row_an_event_and_a_record(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    property_id = await listed(saving, tenant, owner)
    command = fans.adding(fan, property_id)

    saved = await fans.save(command)

    assert (saved.version, [event.event_type for event in saved.events]) == (1, ["PROPERTY_FAVORITED"])
    async with database.statements(tenant) as connection:
        [row] = (await connection.execute(select(favorites))).mappings()
        [message] = await event_store.of_aggregate(connection, command.aggregate_id, limit=10)
        recorded = await event_store.recorded_command(connection, command.command_id)
    assert (row["favorite_id"], row["user_id"], row["property_id"]) == (command.aggregate_id, fan, property_id)
    assert (row["is_favorite"], row["version"], row["changed_at"]) == (True, 1, command.issued_at)
    assert message["data"] == {
        "propertyId": str(property_id),
        "userId": str(fan),
        "ownerId": str(owner),
        "title": "3BHK Apartment in Gachibowli",
        "location": "Gachibowli",
        "isFavorite": True,
    }
    assert recorded is not None
    assert (recorded.status, recorded.type, recorded.aggregate_id) == (
        "COMPLETED",
        "favorite-property",
        command.aggregate_id,
    )


async def test_commands_saved_twice_are_saved_once_and_answered_alike(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    property_id = await listed(saving, tenant, owner)

    for command in (fans.adding(fan, property_id), fans.removing(fan, property_id)):
        first, again = await fans.save(command), await fans.save(command)
        assert again == first

    assert await events_of(database, tenant, fan, property_id=property_id) == [
        ("PROPERTY_FAVORITED", 1),
        ("PROPERTY_UNFAVORITED", 2),
    ]


async def test_twenty_users_favour_one_listing_at_once_and_leave_its_version(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, *crowd = [await saving.registered(tenant) for _ in range(21)]
    property_id = await listed(saving, tenant, owner)

    saved = await asyncio.gather(*(fans.save(fans.adding(fan, property_id)) for fan in crowd))

    assert [answer.version for answer in saved] == [1] * 20
    assert set(await has_favorite(database, tenant, property_id)) == set(crowd)
    assert await events_of(database, tenant, *crowd, property_id=property_id) == [("PROPERTY_FAVORITED", 1)] * 20
    async with database.statements(tenant) as connection:
        listing = await find_property(connection, property_id)
    assert listing is not None
    assert listing.version == 1


async def test_ten_repetitions_at_once_are_all_answered_and_change_one_thing(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    property_id = await listed(saving, tenant, owner)

    for repeated in (fans.adding, fans.removing):
        saved = await asyncio.gather(*(fans.save(repeated(fan, property_id)) for _ in range(10)))
        assert sum(len(answer.events) for answer in saved) == 1
        assert len({answer.version for answer in saved}) == 1

    assert await events_of(database, tenant, fan, property_id=property_id) == [
        ("PROPERTY_FAVORITED", 1),
        ("PROPERTY_UNFAVORITED", 2),
    ]
    async with database.statements(tenant) as connection:
        query = select(func.count()).where(commands.c.type.in_(["favorite-property", "unfavorite-property"]))
        assert (await connection.execute(query)).scalar_one() == 20


async def test_favourite_of_a_deleted_listing_can_be_removed_and_not_added(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    property_id = await listed(saving, tenant, owner)
    await fans.save(fans.adding(fan, property_id))
    await delete(saving, tenant, owner, property_id)

    removed = [await fans.save(fans.removing(fan, property_id)) for _ in range(2)]

    assert [[event.event_type for event in answer.events] for answer in removed] == [["PROPERTY_UNFAVORITED"], []]
    with pytest.raises(ApplicationError) as refusal:
        await fans.save(fans.adding(fan, property_id))
    assert (refusal.value.type, refusal.value.non_retryable) == ("not-found", True)


async def test_draft_of_another_user_is_refused_and_the_refusal_is_recorded(
    database: Database, saving: Saving, fans: Fans, tenant: str
) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    command = fans.adding(fan, await listed(saving, tenant, owner, PropertyStatus.DRAFT))

    for _ in range(2):
        with pytest.raises(ApplicationError) as refusal:
            await fans.save(command)
        assert refusal.value.type == "not-found"

    async with database.statements(tenant) as connection:
        recorded = await event_store.recorded_command(connection, command.command_id)
    assert recorded is not None
    assert recorded.status == "REFUSED"


async def test_suspended_user_is_refused(database: Database, saving: Saving, fans: Fans, tenant: str) -> None:
    owner, fan = await saving.registered(tenant), await saving.registered(tenant)
    property_id = await listed(saving, tenant, owner)
    async with database.statements(tenant) as connection:
        await connection.execute(users.update().where(users.c.user_id == fan).values(status="SUSPENDED"))

    with pytest.raises(ApplicationError) as refusal:
        await fans.save(fans.adding(fan, property_id))

    assert refusal.value.type == "account-closed"
