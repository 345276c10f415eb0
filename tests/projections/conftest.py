"""Fixtures of the projections' tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from adapters.settings import Settings
from domain.property_commands import DeleteProperty
from tests.activities.accounts import Saving
from tests.samples import create_property, new_id


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the tables' owner, who may change stored events."""
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def user_with_unreadable_event(saving: Saving, tenant: str, owner: asyncpg.Connection) -> AsyncIterator[UUID]:
    """A user with five events, the third of a type that this release does not know."""
    user = await saving.registered(tenant)
    saved = [await saving.property(create_property(tenant, user)) for _ in range(4)]
    event = saved[1].events[0].event_id
    change = "UPDATE user_history.event_store SET event_type = $2 WHERE event_id = $1"
    await owner.execute(change, event, "FROM_A_LATER_RELEASE")
    yield user
    await owner.execute(change, event, "PROPERTY_CREATED")


Delete = Callable[[UUID, UUID], Awaitable[None]]


@pytest.fixture
def delete_property(saving: Saving, tenant: str) -> Delete:
    """Deletes a user's property."""

    async def delete(user: UUID, property_id: UUID) -> None:
        command = DeleteProperty(
            command_id=new_id(), tenant_id=tenant, user_id=user, issued_at=datetime.now(UTC), property_id=property_id
        )
        await saving.property(command)

    return delete
