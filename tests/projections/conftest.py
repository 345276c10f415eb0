"""What several tests of the projections need."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from activities.saving import Ledger
from adapters import event_store
from adapters.postgres import Database, insert_rows
from adapters.sealing import Keyring
from adapters.settings import Settings
from domain.events import KINDS, PROPERTY_EVENTS, Event, EventKind
from domain.model import Fact
from tests.activities.accounts import registered, saving
from tests.samples import create_property, new_id


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """The tables' owner, who may do what no role of the application may."""
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def user_with_unreadable_event(
    ledger: Ledger, keyring: Keyring, tenant: str, owner: asyncpg.Connection
) -> AsyncIterator[UUID]:
    """A user with five events, the third of a type that this release does not know."""
    user = await registered(ledger, keyring, tenant)
    saved = [await saving(ledger).save_property(create_property(tenant, user)) for _ in range(4)]
    event = saved[1].events[0].event_id
    change = "UPDATE user_history.event_store SET event_type = $2 WHERE event_id = $1"
    await owner.execute(change, event, "FROM_A_LATER_RELEASE")
    yield user
    await owner.execute(change, event, "PROPERTY_CREATED")


class PropertyDeleted(Fact):
    """What a deletion says, for as long as the registry has none."""

    property_id: UUID


Delete = Callable[[UUID, UUID], Awaitable[dict[str, Any]]]


@pytest.fixture
async def delete_property(
    database: Database, tenant: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Delete]:
    """Stores the deletion of a user's property and returns it as a message; it goes with the test."""
    if "PROPERTY_DELETED" not in KINDS:
        kind = EventKind("PROPERTY_DELETED", PropertyDeleted, PROPERTY_EVENTS, ())
        monkeypatch.setitem(KINDS, kind.name, kind)

    async def delete(user: UUID, property_id: UUID) -> dict[str, Any]:
        deletion = Event(
            event_id=new_id(),
            aggregate_id=property_id,
            user_id=user,
            tenant_id=tenant,
            event_type="PROPERTY_DELETED",
            timestamp=datetime.now(UTC),
            version=2,
            schema_version=0,
            command_id=new_id(),
            data=None,
        )
        row = event_store.event_row(deletion, {"propertyId": str(property_id)})
        async with database.transaction(tenant) as tx:
            await insert_rows(tx, [row])
        return event_store.message_of(row[1])

    yield delete
    await owner.execute(
        "DELETE FROM user_history.event_store WHERE tenant_id = $1 AND event_type = 'PROPERTY_DELETED'", tenant
    )
