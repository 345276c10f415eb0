"""Postgres: the pool, the one function that opens a transaction, and what each failure of it means."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.settings import Settings

_SET_TENANT = text("SELECT set_config('app.tenant', :tenant, true)")


class DatabaseAway(Exception):
    """Postgres cannot be reached or is not taking work; the same call may succeed later."""


class Database:
    """A pool of connections under one role."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def for_tenants(cls, settings: Settings) -> "Database":
        """Held by row-level security to the one tenant that each transaction names."""
        return cls(_engine(settings, settings.database_app_role))

    @classmethod
    def for_all_tenants(cls, settings: Settings) -> "Database":
        """For readers of every tenant: projections, publishing, reconciling, rebuilding."""
        return cls(_engine(settings, settings.database_reader_role))

    @asynccontextmanager
    async def transaction(self, tenant_id: str = "") -> AsyncIterator[AsyncConnection]:
        """A transaction that sees and writes `tenant_id` only. Raises DatabaseAway when Postgres cannot be reached."""
        with _telling_when_away():
            async with self._engine.begin() as connection:
                if tenant_id:
                    await connection.execute(_SET_TENANT, {"tenant": tenant_id})
                yield connection

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is its own transaction: for a role that serves every tenant."""
        with _telling_when_away():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def ping(self) -> None:
        """Raises DatabaseAway unless Postgres answers within two seconds."""
        try:
            async with asyncio.timeout(2), self.transaction() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError as error:
            raise DatabaseAway("no answer within two seconds") from error

    async def close(self) -> None:
        await self._engine.dispose()


@contextmanager
def _telling_when_away() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if is_away(error):
            raise DatabaseAway(str(error.orig)) from error
        raise
    except (PoolTimeout, OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise DatabaseAway(str(error) or type(error).__name__) from error


def is_away(error: DBAPIError) -> bool:
    """Whether the server is missing, starting or stopping, rather than refusing this statement."""
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if error.connection_invalidated or state is None:
        return True
    # Connection exceptions, resources, operator intervention (https://www.postgresql.org/docs/18/errcodes-appendix.html).
    return str(state)[:2] in {"08", "53", "57"}


def async_url(url: str) -> str:
    """The URL with the driver that SQLAlchemy is to use."""
    return "postgresql+asyncpg://" + url.split("://", 1)[1]


def _engine(settings: Settings, role: str) -> AsyncEngine:
    return create_async_engine(
        async_url(settings.database_url),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=2,  # a request that waited longer for a connection is better answered 503
        pool_recycle=1800,  # a connection half an hour old may have been forgotten by a proxy
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": 2,
            "command_timeout": 10,  # nothing here scans; ten seconds means that something is wrong
            # The role is part of the session's defaults, so RESET ROLE comes back to it, not to the login.
            "server_settings": {"role": role, "application_name": "hyderabad-infra", "timezone": "UTC", "jit": "off"},
        },
    )
