"""Lists of listings: each page is an index scan that starts at the cursor."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.postgres import Database, transaction_on
from adapters.property_lists import ListingPage, favorites_of, featured, newest, of_owner
from domain.property_status import PropertyStatus
from tests.plans import Explained, Explaining
from tests.samples import new_id

Read = Callable[[AsyncConnection, Cursor], Awaitable[ListingPage]]
LISTS: dict[str, Read] = {
    "properties_newest": lambda connection, after: newest(connection, 20, after),
    "properties_featured": lambda connection, after: featured(connection, 20, after),
    "properties_owner": lambda connection, after: of_owner(connection, new_id(), None, 20, after),
    "properties_owner_status": lambda connection, after: of_owner(
        connection, new_id(), PropertyStatus.DRAFT, 20, after
    ),
    "favorites_user": lambda connection, after: favorites_of(connection, new_id(), 20, after, sees_all=False),
}
"""By the index that each is read from."""


@pytest.mark.parametrize("index", LISTS)
async def test_page_is_an_index_scan_from_the_cursor(database: Database, tenant: str, index: str) -> None:
    after = Cursor(datetime.now(UTC), new_id())

    async with database.statements(tenant) as connection, transaction_on(connection):
        # The generic plan, which a prepared statement gets after five executions.
        await connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        # For a nearly empty table the planner would prefer a sequential scan and a sort.
        for plan in ("seqscan", "bitmapscan", "sort", "incremental_sort"):
            await connection.execute(text(f"SET LOCAL enable_{plan} = off"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(Explained) as explained:
            await LISTS[index](cast(AsyncConnection, Explaining(driver)), after)

    plan = str(explained.value)
    [condition] = [line for line in plan.splitlines() if "Index Cond" in line and "ROW(" in line]
    assert f"using {index} on" in plan
    assert "tenant_id" in condition
    assert "Sort" not in plan.partition("SubPlan")[0]  # the images of each listing are sorted
