"""Connections from the pool: no state of one caller reaches the next, and lost connections are replaced."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from datetime import datetime

import asyncpg
import pytest
from sqlalchemy import DateTime, bindparam, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from adapters.postgres import Database, DatabaseUnavailable, Write, write_rows
from adapters.settings import Settings
from adapters.tables import commands, person_keys
from tests.samples import new_id, new_tenant

_KEYS = text("SELECT count(*) FROM user_management.person_keys")
_PID = text("SELECT pg_backend_pid()")


@pytest.fixture
async def single(settings: Settings) -> AsyncIterator[Database]:
    """A pool of one connection, so that state left on it would reach the next caller."""
    database = Database.for_tenants(settings.model_copy(update={"database_pool_size": 1}))
    yield database
    await database.close()


async def keys(database: Database, tenant: str) -> int:
    async with database.transaction(tenant) as tx:
        found: int = (await tx.execute(_KEYS)).scalar_one()
        return found


def key_row(tenant: str) -> dict[str, object]:
    return {"tenant_id": tenant, "user_id": new_id(), "wrapped_key": b"key"}


async def test_rows_of_several_tables_are_written_atomically(single: Database, tenant: str) -> None:
    command = {
        "tenant_id": tenant,
        "command_id": new_id(),
        "type": "Test",
        "user_id": new_id(),
        "aggregate_id": new_id(),
        "person_id": new_id(),
        "status": "COMPLETED",
        "answer": {"a": 1},
        "started_at": (await _now(single)),
    }
    async with single.transaction(tenant) as tx:
        await write_rows(
            tx, [Write(person_keys, key_row(tenant)), Write(person_keys, key_row(tenant)), Write(commands, command)]
        )
    with pytest.raises(IntegrityError, match="commands_pkey"):
        async with single.transaction(tenant) as tx:
            await write_rows(tx, [Write(person_keys, key_row(tenant)), Write(commands, command)])

    assert await keys(single, tenant) == 2


async def _now(database: Database) -> object:
    async with database.statements() as connection:
        return (await connection.execute(text("SELECT now()"))).scalar_one()


async def test_cancelled_transaction_is_rolled_back(single: Database, tenant: str) -> None:
    begun = asyncio.Event()

    async def long() -> None:
        async with single.transaction(tenant) as tx:
            await write_rows(tx, [Write(person_keys, key_row(tenant))])
            begun.set()
            await tx.execute(text("SELECT pg_sleep(60)"))

    running = asyncio.create_task(long())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await keys(single, tenant) == 0


async def test_session_is_limited_to_the_tenant_of_its_next_caller(single: Database, tenant: str) -> None:
    async with single.statements(tenant) as connection:
        await write_rows(connection, [Write(person_keys, key_row(tenant))])

    assert [await keys(single, name) for name in (f"{tenant}-other", "", tenant)] == [0, 0, 1]


async def test_tenant_is_set_again_after_a_cancelled_change(single: Database, tenant: str) -> None:
    async with single.statements(tenant) as connection:
        await write_rows(connection, [Write(person_keys, key_row(tenant))])

    async def other() -> None:
        async with single.statements(f"{tenant}-other"):
            pass

    for steps in range(40):
        cut = asyncio.create_task(other())
        for _ in range(steps):
            await asyncio.sleep(0)
        cut.cancel()
        with suppress(asyncio.CancelledError):
            await cut
        assert await keys(single, tenant) == 1


async def in_a_transaction(database: Database, tenant: str) -> None:
    async with database.transaction(tenant) as tx:
        await write_rows(tx, [Write(person_keys, key_row(tenant))])


async def in_a_savepoint(database: Database, tenant: str) -> None:
    async with database.transaction(tenant) as tx, tx.begin_nested():
        await write_rows(tx, [Write(person_keys, key_row(tenant))])


async def in_a_transaction_that_fails(database: Database, tenant: str) -> None:
    with suppress(ZeroDivisionError):
        async with database.transaction(tenant) as tx:
            await write_rows(tx, [Write(person_keys, key_row(tenant))])
            raise ZeroDivisionError


async def by_one_statement(database: Database, tenant: str) -> None:
    async with database.statements(tenant) as connection:
        await write_rows(connection, [Write(person_keys, key_row(tenant))])


@pytest.mark.parametrize("write", [in_a_transaction, in_a_savepoint, in_a_transaction_that_fails, by_one_statement])
async def test_caller_cancelled_at_any_point_leaves_no_open_transaction(
    single: Database, database: Database, tenant: str, write: Callable[[Database, str], Coroutine[object, object, None]]
) -> None:
    next_tenant = new_tenant()
    steps = written = uncut = 0
    # Cancel after more and more steps, until some writes were done before they could be cancelled.
    while uncut < 3:
        running = asyncio.create_task(write(single, tenant))
        for _ in range(steps):
            await asyncio.sleep(0)
        uncut += running.done()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        async with single.statements(next_tenant) as connection:
            await write_rows(connection, [Write(person_keys, key_row(next_tenant))])
        written += 1
        assert await keys(database, next_tenant) == written, f"written, but not visible: cancelled after {steps} steps"
        steps += 1


async def test_connection_that_postgres_closed_is_replaced(single: Database, settings: Settings, tenant: str) -> None:
    async with single.statements(tenant) as connection:
        await write_rows(connection, [Write(person_keys, key_row(tenant))])
        pid = (await connection.execute(_PID)).scalar_one()
    await _end(settings, pid)

    # The tenant is set in the new session too.
    assert await keys(single, tenant) == 1


async def test_connection_lost_in_a_transaction_raises_and_the_next_one_works(
    single: Database, settings: Settings, tenant: str
) -> None:
    async def cut() -> None:
        async with single.transaction(tenant) as tx:
            await write_rows(tx, [Write(person_keys, key_row(tenant))])
            await _end(settings, (await tx.execute(_PID)).scalar_one())

    with pytest.raises(DatabaseUnavailable):
        await cut()

    assert await keys(single, tenant) == 0


async def test_deadlock_raises_database_unavailable_for_its_victim(database: Database, tenant: str) -> None:
    rows = [key_row(tenant), key_row(tenant)]
    both_hold_one = asyncio.Barrier(2)

    async def insert_both(first: dict[str, object], second: dict[str, object]) -> None:
        async with database.transaction(tenant) as tx:
            await write_rows(tx, [Write(person_keys, first)])
            await both_hold_one.wait()
            await write_rows(tx, [Write(person_keys, second)])

    outcomes = await asyncio.gather(insert_both(*rows), insert_both(*reversed(rows)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable, type(None)}


async def _end(settings: Settings, pid: int) -> None:
    """Terminate a session and wait until it is gone."""
    operator = await asyncpg.connect(settings.database_url)
    await operator.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
    await operator.close()


async def test_value_that_cannot_be_sent_to_postgres_is_no_outage(single: Database) -> None:
    # In UTC it is in the year 0, which Python does not have.
    value = bindparam("value", datetime.fromisoformat("0001-01-01T00:00:00+14:00"), DateTime(timezone=True))

    with pytest.raises(DBAPIError, match=r"invalid input for query argument \$1"):
        async with single.statements() as connection:
            await connection.execute(select(value))


async def test_tenant_is_a_value_and_never_a_statement(single: Database) -> None:
    hostile = "x', true); DROP TABLE user_management.person_keys; --"

    assert await keys(single, hostile) == 0
    assert await keys(single, "hyderabad") >= 0
