"""What is read often, or from large tables, for the security of accounts: each from its index."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.postgres import Database, transaction_on
from adapters.revocations import closed_sessions
from adapters.security_events import devices_of_sign_ins, of_account
from tests.plans import Explained, Explaining
from tests.samples import new_id

_AFTER = Cursor(datetime.now(UTC), new_id())
READS: dict[str, Callable[[AsyncConnection], Awaitable[object]]] = {
    "page": lambda connection: of_account(connection, new_id(), cursor=_AFTER, limit=20),
    "devices": lambda connection: devices_of_sign_ins(connection, new_id()),
}


async def plan_of(connection: AsyncConnection, read: Callable[[AsyncConnection], Awaitable[object]]) -> str:
    """The generic plan, which a prepared statement gets after five executions."""
    # For a nearly empty table the planner would prefer others.
    for plan in ("seqscan", "bitmapscan", "sort", "incremental_sort"):
        await connection.execute(text(f"SET LOCAL enable_{plan} = off"))
    driver: Any = (await connection.get_raw_connection()).driver_connection
    with pytest.raises(Explained) as explained:
        await read(cast(AsyncConnection, Explaining(driver)))
    return str(explained.value)


@pytest.mark.parametrize("read", READS)
async def test_events_of_an_account_are_an_index_scan(database: Database, tenant: str, read: str) -> None:
    async with database.statements(tenant) as connection, transaction_on(connection):
        plan = await plan_of(connection, READS[read])

    [scan] = [line for line in plan.splitlines() if "Scan" in line and "event_store" in line]
    [condition] = [line for line in plan.splitlines() if "Index Cond" in line]
    assert "using event_store_security on" in scan
    assert "aggregate_id" in condition
    assert "tenant_id" in condition
    assert ("ROW(" in condition) == (read == "page")


async def test_closed_sessions_are_an_index_scan(all_tenants: Database) -> None:
    async with all_tenants.statements() as connection, transaction_on(connection):
        plan = await plan_of(connection, lambda connection: closed_sessions(connection, timedelta(minutes=1)))

    assert "using sessions_revoked on" in plan
