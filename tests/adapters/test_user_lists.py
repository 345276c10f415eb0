"""The list of accounts: what a search finds, pages, and the indexes that are read."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.paging import Cursor
from adapters.postgres import Database, transaction_on
from adapters.settings import Settings
from adapters.tables import users
from adapters.user_lists import accounts
from domain.roles import UserRole
from domain.user import AccountSummary, UserStatus
from tests.activities.accounts import Saving
from tests.plans import Explained, Explaining
from tests.samples import new_id, new_tenant

_MANY = """
    WITH made AS (
        INSERT INTO user_management.users (tenant_id, user_id, version, username, email, password_hash, role, status,
            created_at, updated_at)
        SELECT :tenant, gen_random_uuid(), 1, 'many-' || n, 'n' || n || '@example.com', 'x',
            CASE WHEN n % 2 = 0 THEN 'AGENT' ELSE 'USER' END, 'ACTIVE', now() - n * interval '1 minute', now()
        FROM generate_series(1, 1100) n
        RETURNING tenant_id, user_id
    )
    INSERT INTO user_management.user_profiles (tenant_id, user_id, first_name, last_name)
    SELECT tenant_id, user_id, 'Many', 'People' FROM made
"""
PEOPLE = {
    "ravi": {"username": "ravi_k", "email": "kumar@example.com", "firstName": "Ravi", "lastName": "Kumar"},
    "sita": {"username": "Sita50", "email": "sita@example.org", "firstName": "Sita Devi", "lastName": "Rao"},
    "eva": {"username": "eva-o", "email": "eva@example.net", "firstName": "Éva", "lastName": "O'Brien"},
}


async def read(
    database: Database,
    tenant: str,
    search: str | None = None,
    role: UserRole | None = None,
    status: UserStatus | None = None,
    limit: int = 100,
    cursor: Cursor | None = None,
) -> tuple[list[AccountSummary], Cursor | None]:
    async with database.statements(tenant) as connection:
        page = await accounts(connection, search, role, status, limit, cursor)
    return page.items, page.next


async def found(database: Database, tenant: str, search: str) -> set[str]:
    return {item.username for item in (await read(database, tenant, search))[0]}


@pytest.fixture
async def people(saving: Saving, tenant: str) -> dict[str, str]:
    """The usernames of a few accounts of the tenant."""
    for person in PEOPLE.values():
        await saving.registered(tenant, **person)
    return {name: person["username"] for name, person in PEOPLE.items()}


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("RAVI", {"ravi"}),
        ("ravi_", {"ravi"}),
        ("ravi k", {"ravi"}),
        ("kumar", {"ravi"}),
        ("kumar@example.com", {"ravi"}),
        ("s", {"sita"}),
        ("sita devi r", {"sita"}),
        ("SITA50", {"sita"}),
        ("r", {"ravi", "sita"}),
        ("éva", {"eva"}),
        ("ÉVA O'B", {"eva"}),
        ("o'brien", {"eva"}),
        ("devi", set()),
        ("example.com", set()),
        ("%", set()),
        ("ravi%", set()),
        ("_avi", set()),
        ("'; --", set()),
        ("\U0010ffff", set()),
    ],
)
async def test_search_finds_beginnings_in_any_case(
    database: Database, tenant: str, people: dict[str, str], search: str, expected: set[str]
) -> None:
    assert await found(database, tenant, search) == {people[name] for name in expected}


async def test_search_is_complete_when_more_accounts_match_than_are_sorted(
    database: Database, tenant: str, people: dict[str, str]
) -> None:
    async with database.statements(tenant) as connection:
        await connection.execute(text(_MANY), {"tenant": tenant})

    async def walk(**query: Any) -> list[AccountSummary]:
        items, following = await read(database, tenant, limit=100, **query)
        while following:
            more, following = await read(database, tenant, limit=100, cursor=following, **query)
            items += more
        return items

    for search in ("many", "many-", "people", "n"):
        items = await walk(search=search)
        assert [item.created_at for item in items] == sorted((item.created_at for item in items), reverse=True)
        assert {item.username for item in items} == {f"many-{n}" for n in range(1, 1101)}
        assert len(items) == 1100
    agents = await walk(search="MANY", role=UserRole.AGENT)
    assert {item.username for item in agents} == {f"many-{n}" for n in range(2, 1101, 2)}
    assert await walk(search="many", status=UserStatus.SUSPENDED) == []
    assert len(await walk()) == 1100 + len(people)
    assert await found(database, tenant, "many-110") == {"many-110", "many-1100"}


async def test_accounts_of_other_tenants_and_erased_ones_are_not_listed(
    database: Database, saving: Saving, tenant: str, people: dict[str, str]
) -> None:
    other = new_tenant()
    stranger = await saving.registered(other, **PEOPLE["ravi"])
    async with database.statements(tenant) as connection:
        erased = users.update().where(users.c.username == people["sita"]).values(status=UserStatus.DELETED.value)
        await connection.execute(erased)

    items, _ = await read(database, tenant)
    assert {item.username for item in items} == {people["ravi"], people["eva"]}
    assert await found(database, tenant, "sita") == set()
    assert stranger not in {item.id for item in (await read(database, tenant, "ravi"))[0]}
    assert [item.id for item in (await read(database, other, "ravi"))[0]] == [stranger]


async def plan_of(
    database: Database, tenant: str, read: Callable[[AsyncConnection], Awaitable[object]], *without: str
) -> str:
    """The plan of the first statement of `read`, without those that the planner prefers for a small table."""
    async with database.statements(tenant) as connection, transaction_on(connection):
        for plan in ("seqscan", "bitmapscan", *without):
            await connection.execute(text(f"SET LOCAL enable_{plan} = off"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(Explained) as explained:
            await read(cast(AsyncConnection, Explaining(driver)))
    return str(explained.value)


async def test_page_is_an_index_scan_from_the_cursor(database: Database, tenant: str) -> None:
    after = Cursor(datetime.now(UTC), new_id())

    def read(connection: AsyncConnection) -> Awaitable[object]:
        return accounts(connection, None, None, None, 20, after)

    plan = await plan_of(database, tenant, read, "sort", "incremental_sort")

    [condition] = [line for line in plan.splitlines() if "Index Cond" in line and "ROW(" in line]
    assert "using users_newest on" in plan
    assert "tenant_id" in condition


async def filled(database: Database, settings: Settings, tenant: str) -> None:
    """Of tables that seem empty, the planner reads any index that begins with the tenant."""
    async with database.statements(tenant) as connection:
        await connection.execute(text(_MANY), {"tenant": tenant})
    owner = await asyncpg.connect(settings.database_url)
    await owner.execute("ANALYZE user_management.users, user_management.user_profiles")
    await owner.close()


async def test_search_reads_an_index_for_each_field(database: Database, settings: Settings, tenant: str) -> None:
    await filled(database, settings, tenant)

    plan = await plan_of(database, tenant, lambda connection: accounts(connection, "ravi", None, None, 20, None))

    conditions = [line for line in plan.splitlines() if "Index Cond" in line]
    for key in ("username_key", "email_key", "name_key", "last_name_key"):
        assert any(f"({key} >= " in line and f"({key} < " in line and "tenant_id" in line for line in conditions)


async def test_account_is_looked_up_by_an_index_under_row_level_security(
    database: Database, settings: Settings, tenant: str
) -> None:
    await filled(database, settings, tenant)

    async def look_up(connection: AsyncConnection) -> object:
        name = "ravi@example.com"
        return await connection.execute(select(users.c.user_id).where(users.c.email_key == name))

    plan = await plan_of(database, tenant, look_up)

    assert "using users_email_key on" in plan
    assert "email_key = " in plan
    assert "Filter" not in plan
