"""Row-level security of every table: what one tenant has, the application never reads or writes for another."""

from typing import Any

import pytest
from sqlalchemy import Table, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ProgrammingError

from adapters import tables
from adapters.postgres import Database
from adapters.sealing import Keyring
from tests.activities.accounts import Saving
from tests.activities.erased import Account, add_read_models, add_rows
from tests.samples import create_property, new_tenant

APP = "hyderabad_app"
OWN = "((tenant_id)::text = current_setting('app.tenant'::text, true))"
OF_ALL_TENANTS = {"checkpoints", "event_store_cluster", "read_models", "rebuilds", "tenants"}
"""Facts about the platform, of nobody."""

_ACCESS = text("""
    SELECT relrowsecurity, has_any_column_privilege(:role, pg_class.oid, 'SELECT, INSERT, UPDATE')
        OR has_table_privilege(:role, pg_class.oid, 'DELETE') AS reachable
    FROM pg_class WHERE pg_class.oid = CAST(:table AS regclass)
""")
_POLICIES = text("""
    SELECT qual, with_check FROM pg_policies
    WHERE schemaname = :schema AND tablename = :name AND :role = ANY(roles)
""")


def named(wanted: Table) -> str:
    return str(wanted.name)


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=named)
async def test_application_reaches_rows_of_its_tenant_only(all_tenants: Database, table: Table) -> None:
    async with all_tenants.statements() as connection:
        asked = {"role": APP, "table": f"{table.schema}.{table.name}"}
        access = (await connection.execute(_ACCESS, asked)).one()
        of_table = {"role": APP, "schema": table.schema, "name": table.name}
        policies = [tuple(row) for row in await connection.execute(_POLICIES, of_table)]
    if table.name in OF_ALL_TENANTS:
        return
    assert "tenant_id" in table.c
    if access.reachable:
        assert access.relrowsecurity
        assert policies in ([(OWN, OWN)], [(OWN, None)])


@pytest.fixture
async def account(database: Database, all_tenants: Database, keyring: Keyring, saving: Saving, tenant: str) -> Account:
    """Has rows in the tables of exports, saved searches and searches."""
    user_id = await saving.registered(tenant)
    listed = create_property(tenant, user_id)
    await saving.property(listed)
    await add_rows(database, keyring, tenant, user_id)
    account = Account(tenant, user_id, listed, saving)
    await add_read_models(all_tenants, account)
    return account


async def test_rows_of_a_user_are_of_one_tenant_also_when_another_knows_the_id(
    database: Database, account: Account
) -> None:
    readable = (
        *(tables.exports, tables.saved_filters, tables.saved_search_matches, tables.search_history),
        tables.uploads,
    )
    seen: dict[str, list[int]] = {}
    for tenant in (account.tenant, new_tenant()):
        async with database.statements(tenant) as connection:
            for table in readable:
                count = select(func.count()).select_from(table).where(table.c.user_id == account.id)
                seen.setdefault(table.name, []).append((await connection.execute(count)).scalar_one())

    assert seen == {table.name: [1, 0] for table in readable}


@pytest.mark.parametrize(
    "table",
    [tables.exports, tables.saved_filters, tables.saved_search_matches, tables.uploads, tables.documents],
    ids=named,
)
async def test_row_is_not_written_for_another_tenant(database: Database, account: Account, table: Table) -> None:
    async with database.statements(account.tenant) as connection:
        row: dict[str, Any] = dict((await connection.execute(select(table))).mappings().first() or {})
    assert row
    async with database.statements(new_tenant()) as connection:
        with pytest.raises(ProgrammingError, match="row-level security"):
            await connection.execute(insert(table).values(row))
