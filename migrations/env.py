"""Alembic's environment: one connection as the tables' owner, one transaction for each migration."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.postgres import async_url
from adapters.tables import Point, Xid8, metadata

# Types that SQLAlchemy's reflection does not know.
ischema_names |= {"xid8": Xid8, "point": Point}
_POLL_SECONDS = 0.2
SCHEMAS = {"user_management", "property_management", "file_management", "search", "user_history", "notification"}


def _is_ours(name: str | None, kind: str, _: object) -> bool:
    return name in SCHEMAS if kind == "schema" else True


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=_is_ours,
        compare_server_default=True,
        transaction_per_migration=True,
        version_table_schema="public",
    )
    with context.begin_transaction():
        context.run_migrations()


async def _run() -> None:
    engine = create_async_engine(async_url(context.config.attributes["database_url"]), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        # A second process that migrates at the same time waits here, then has nothing to do. It asks again and again:
        # a statement that waits is a transaction, for whose end CREATE INDEX CONCURRENTLY of the first would wait.
        while not (await connection.exec_driver_sql("SELECT pg_try_advisory_lock(7237001)")).scalar_one():
            await connection.commit()
            await asyncio.sleep(_POLL_SECONDS)
        await connection.commit()
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(_run())
