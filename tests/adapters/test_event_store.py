"""The event store: its order, its versions, its immutability, its tenants."""

import asyncio
from typing import cast

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, DatabaseUnavailable, write_rows
from adapters.settings import Settings
from domain.events import Event, new_events
from domain.property_commands import decide
from tests.activities.accounts import Saving
from tests.plans import Explained, Explaining
from tests.samples import actor, create_property, new_id, new_tenant


def one_event(tenant: str) -> Event:
    command = create_property(tenant, new_id())
    return new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))[0]


def plain(event: Event) -> dict[str, object]:
    data: dict[str, object] = event.data.model_dump(mode="json", by_alias=True)
    return data


async def newest(database: Database) -> Position:
    position = Position()
    while True:
        async with database.transaction() as tx:
            events = await event_store.in_order(tx, position, 1000)
        if not events:
            return position
        position = events[-1][0]


async def test_reader_in_order_waits_for_an_older_transaction_that_is_still_open(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    """A reader that pages by id alone would skip the first event: its id is lower, but it commits later."""
    slow, fast = one_event(tenant), one_event(tenant)
    start = await newest(all_tenants)
    both_open, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        async with database.transaction(tenant) as tx:
            await write_rows(tx, [event_store.event_row(slow, plain(slow))])
            both_open.set()
            await go_on.wait()

    writing = asyncio.create_task(slowly())
    await both_open.wait()
    async with database.transaction(tenant) as tx:
        await write_rows(tx, [event_store.event_row(fast, plain(fast))])
    async with all_tenants.transaction() as tx:
        early = await event_store.in_order(tx, start, 10)
    go_on.set()
    await writing
    async with all_tenants.transaction() as tx:
        seen = [message["eventId"] for _, message in await event_store.in_order(tx, start, 10)]

    assert early == []
    assert seen == [str(slow.event_id), str(fast.event_id)]


async def test_version_is_taken_once(database: Database, tenant: str) -> None:
    event = one_event(tenant)
    rival = one_event(tenant).model_copy(update={"aggregate_id": event.aggregate_id})
    async with database.transaction(tenant) as tx:
        await write_rows(tx, [event_store.event_row(event, plain(event))])

    with pytest.raises(IntegrityError, match="event_store_version_key"):
        async with database.transaction(tenant) as tx:
            await write_rows(tx, [event_store.event_row(rival, plain(rival))])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE user_history.event_store SET event_data = '{}'",
        "UPDATE user_history.event_store SET version = 7",
        "DELETE FROM user_history.event_store",
        "TRUNCATE user_history.event_store",
        "UPDATE user_history.commands SET answer = '{}'",
        "DELETE FROM user_history.commands",
    ],
)
async def test_no_role_of_the_application_changes_a_fact(
    database: Database, all_tenants: Database, tenant: str, statement: str
) -> None:
    for role in (database, all_tenants):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with role.transaction(tenant) as tx:
                await tx.execute(text(statement))


async def test_one_tenant_sees_and_writes_nothing_of_another(database: Database, saving: Saving) -> None:
    mine, theirs = new_tenant(), new_tenant()
    owner = await saving.registered(mine)
    await saving.property(create_property(mine, owner))
    tables = [
        "user_management.users", "user_management.user_profiles", "user_management.person_keys",
        "user_management.sessions", "user_management.refresh_tokens", "property_management.properties",
        "user_history.event_store", "user_history.user_activity", "user_history.commands", "notification.deliveries",
    ]  # fmt: skip

    async with database.transaction(theirs) as tx:
        for table in tables:
            assert (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0, table
    async with database.transaction() as tx:
        # Without a tenant no row is visible.
        assert (await tx.execute(text("SELECT count(*) FROM user_management.users"))).scalar_one() == 0
    foreign = one_event(mine)
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with database.transaction(theirs) as tx:
            await write_rows(tx, [event_store.event_row(foreign, plain(foreign))])


async def test_every_table_with_a_tenant_is_held_by_row_level_security(all_tenants: Database) -> None:
    query = """
        SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE a.attname = 'tenant_id' AND c.relkind = 'r' AND NOT c.relrowsecurity
    """
    async with all_tenants.transaction() as tx:
        unguarded = {row.name for row in await tx.execute(text(query))}

    assert unguarded == {"user_management.tenants"}


async def test_tenant_of_one_transaction_is_forgotten_in_the_next(database: Database, tenant: str) -> None:
    async with database.transaction(tenant) as tx:
        await tx.execute(text("SELECT 1"))
    async with database.transaction() as tx:
        assert (await tx.execute(text("SELECT current_setting('app.tenant', true)"))).scalar_one() in ("", None)


async def test_database_that_is_unavailable_raises_an_error_of_its_own(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    database = Database.for_tenants(nowhere)

    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.close()


async def test_unpublished_events_of_an_aggregate_are_read_from_their_index_in_a_large_store(
    settings: Settings, tenant: str
) -> None:
    """An aggregate of many versions, whose newest is unpublished, among others: as a favourite that is toggled."""
    owner = await asyncpg.connect(settings.database_url)
    many = owner.transaction()
    await many.start()
    await owner.execute(
        "INSERT INTO user_history.event_store (event_id, aggregate_id, user_id, event_type, event_data, timestamp,"
        " version, tenant_id, schema_version, command_id, published_at)"
        " SELECT gen_random_uuid(), n % 10, 'user', 'PROPERTY_VIEWED', '{}', now(), n / 10 + 1, $1, 1,"
        " gen_random_uuid(), CASE WHEN n < 29900 THEN now() END FROM generate_series(0, 29999) n",
        tenant,
    )
    await owner.execute("ANALYZE user_history.event_store")
    await owner.execute(f"SET LOCAL ROLE {settings.database_reader_role}")
    with pytest.raises(Explained) as explained:
        await event_store.unpublished_of(
            cast(AsyncConnection, Explaining(owner)), tenant, new_id(), after_version=0, up_to_version=1, limit=200
        )
    await many.rollback()
    await owner.close()

    plan = str(explained.value)
    assert "using event_store_unpublished_of on" in plan
    assert "Filter" not in plan
    assert "Sort" not in plan
