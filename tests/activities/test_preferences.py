"""Preferences of notices on real Postgres: set, turned off by a link, and kept apart by tenant."""

import asyncio
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from temporalio.exceptions import ApplicationError

from activities.preferences import NotificationPreferences
from activities.saving import CommandStore
from adapters import event_store
from adapters.postgres import Database
from adapters.preferences import preferences_of
from adapters.sealing import Keyring
from adapters.tables import commands, preferences, users
from domain.command import Saved
from domain.preferences import (
    Channels,
    NewPreferences,
    NoticeKind,
    Preferences,
    QuietHours,
    SetPreferences,
    Unsubscribe,
    preferences_id,
)
from tests.activities.accounts import Saving
from tests.samples import new_id, new_tenant

NIGHT = {"from": "22:00", "to": "07:00"}


class Choosing:
    """Users of one tenant who set their preferences and unsubscribe, through the real activity."""

    def __init__(self, store: CommandStore, keyring: Keyring, tenant: str) -> None:
        self._preferences = NotificationPreferences(store)
        self._keyring = keyring
        self._tenant = tenant

    def setting(self, user: UUID, wanted: dict[str, Any], *expected: int) -> SetPreferences:
        preferences = NewPreferences.model_validate(wanted)
        return SetPreferences(**self._common(user), preferences=preferences, expected_versions=expected or None)

    def unsubscribing(self, user: UUID, *kinds: Any) -> Unsubscribe:
        return Unsubscribe(**self._common(user), kinds=kinds or (NoticeKind.PRICE_DROPPED,))

    def _common(self, user: UUID) -> dict[str, Any]:
        return {"command_id": new_id(), "tenant_id": self._tenant, "user_id": user, "issued_at": datetime.now(UTC)}

    async def save(self, command: SetPreferences | Unsubscribe) -> Saved:
        return await self._preferences.save_preferences(self._keyring.seal_in_transit(command, command.command_id))


@pytest.fixture
def choosing(store: CommandStore, keyring: Keyring, tenant: str) -> Choosing:
    return Choosing(store, keyring, tenant)


async def known(database: Database, tenant: str, user: UUID) -> Preferences:
    async with database.statements(tenant) as connection:
        return (await preferences_of(connection, [user]))[user]


async def test_saved_preferences_are_a_row_an_event_and_a_record(
    database: Database, saving: Saving, choosing: Choosing, tenant: str
) -> None:
    user = await saving.registered(tenant)
    command = choosing.setting(user, {"kinds": {"PRICE_DROPPED": {"sms": True}}, "quietHours": NIGHT}, 0)

    first, again = await choosing.save(command), await choosing.save(command)

    assert saving.answer(again) == saving.answer(first)
    assert (first.aggregate_id, first.version) == (preferences_id(user), 1)
    assert await known(database, tenant, user) == Preferences(
        user_id=user,
        version=1,
        kinds={"PRICE_DROPPED": Channels(sms=True)},
        quiet_hours=QuietHours(from_=time(22), to=time(7)),
    )
    async with database.statements(tenant) as connection:
        [message] = await event_store.of_aggregate(connection, preferences_id(user), limit=10)
        recorded = await event_store.recorded_command(connection, command.command_id)
    assert message["eventType"] == "NOTIFICATION_PREFERENCES_CHANGED"
    assert message["data"] == {
        "userId": str(user),
        "kinds": {"PRICE_DROPPED": {"email": True, "sms": True, "push": True, "inApp": True}},
        "quietHours": NIGHT,
    }
    assert recorded is not None
    assert (recorded.status, recorded.type) == ("COMPLETED", "set-preferences")


async def test_quiet_hours_end_with_null(database: Database, saving: Saving, choosing: Choosing, tenant: str) -> None:
    user = await saving.registered(tenant)

    for wanted in ({"quietHours": NIGHT}, {"quietHours": None}):
        await choosing.save(choosing.setting(user, wanted))

    assert await known(database, tenant, user) == Preferences(user_id=user, version=2)


async def test_link_turns_off_mails_of_its_kinds_alone_and_twice_is_once(
    database: Database, saving: Saving, choosing: Choosing, tenant: str
) -> None:
    user = await saving.registered(tenant)
    await choosing.save(choosing.setting(user, {"kinds": {"PRICE_DROPPED": {"sms": True}}, "quietHours": NIGHT}))
    command = choosing.unsubscribing(user)

    saved = [await choosing.save(command), await choosing.save(command)]
    later = await choosing.save(choosing.unsubscribing(user))

    assert [[event.event_type for event in one.events] for one in (*saved, later)] == [
        ["NOTIFICATION_PREFERENCES_CHANGED"],
        ["NOTIFICATION_PREFERENCES_CHANGED"],
        [],
    ]
    kept = await known(database, tenant, user)
    assert (kept.version, kept.kinds) == (2, {"PRICE_DROPPED": Channels(email=False, sms=True)})
    assert kept.quiet_hours is not None


async def test_ten_changes_at_once_are_ten_versions(
    database: Database, saving: Saving, choosing: Choosing, tenant: str
) -> None:
    user = await saving.registered(tenant)
    changes = [{"quietHours": {"from": "22:00", "to": f"07:{n:02}"}} for n in range(4)]

    saved = await asyncio.gather(*(choosing.save(choosing.setting(user, change)) for change in changes))

    assert sorted(one.version for one in saved) == [1, 2, 3, 4]
    assert (await known(database, tenant, user)).version == 4


async def test_old_version_is_refused(saving: Saving, choosing: Choosing, tenant: str) -> None:
    user = await saving.registered(tenant)
    await choosing.save(choosing.setting(user, {"quietHours": NIGHT}, 0))

    with pytest.raises(ApplicationError) as refusal:
        await choosing.save(choosing.setting(user, {}, 0))

    assert refusal.value.type == "version-conflict"


@pytest.mark.parametrize("status", ["SUSPENDED", "DELETED"])
async def test_suspended_user_may_unsubscribe_and_nothing_else(
    database: Database, saving: Saving, choosing: Choosing, tenant: str, status: str
) -> None:
    user = await saving.registered(tenant)
    async with database.statements(tenant) as connection:
        await connection.execute(users.update().where(users.c.user_id == user).values(status=status))
    unsubscribing = choosing.unsubscribing(user)

    setting = choosing.setting(user, {"quietHours": NIGHT})

    for command in (setting, unsubscribing) if status == "DELETED" else (setting,):
        with pytest.raises(ApplicationError) as refusal:
            await choosing.save(command)
        assert refusal.value.type == "account-closed"
    if status == "SUSPENDED":
        assert (await choosing.save(unsubscribing)).version == 1


async def test_preferences_belong_to_one_tenant(
    database: Database, saving: Saving, choosing: Choosing, store: CommandStore, keyring: Keyring, tenant: str
) -> None:
    user, other = await saving.registered(tenant), new_tenant()
    await choosing.save(choosing.setting(user, {"quietHours": NIGHT}))
    elsewhere = Choosing(store, keyring, other)

    with pytest.raises(ApplicationError) as refusal:
        await elsewhere.save(elsewhere.unsubscribing(user))

    assert refusal.value.type == "account-closed"
    assert (await known(database, other, user)).version == 0
    async with database.statements(other) as connection:
        assert (await connection.execute(select(preferences.c.user_id))).all() == []
        assert (await connection.execute(select(commands.c.status))).scalars().all() == ["REFUSED"]


async def test_preferences_of_several_users_are_read_at_once(
    database: Database, saving: Saving, choosing: Choosing, tenant: str
) -> None:
    first, second = await saving.registered(tenant), await saving.registered(tenant)
    await choosing.save(choosing.unsubscribing(first))

    async with database.statements(tenant) as connection:
        found = await preferences_of(connection, [second, first])

    assert [(user, one.version) for user, one in found.items()] == [(second, 0), (first, 1)]
    assert not found[first].channels_of(NoticeKind.PRICE_DROPPED).email
