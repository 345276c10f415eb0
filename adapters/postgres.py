"""Postgres: the connection pool, the tenant of a session, and the translation of its errors."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import asyncpg
import orjson
from sqlalchemy import Delete, Select, Table, Update, bindparam, delete, event, literal, select, text, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.settings import Settings


@dataclass(frozen=True)
class Write:
    """A row to write: its values by column, including its primary key."""

    table: Table
    values: Mapping[str, Any]
    how: Literal["insert", "upsert", "update", "delete"] = "insert"


APPLICATION_NAME = "hyderabad-infra"
"""The `application_name` of our sessions in `pg_stat_activity`."""
SEARCH_SECONDS = 2.0
"""Of a statement for somebody who waits. It takes some 20 ms; with a polygon of a thousand vertices over a million
listings it would take a core for seconds."""
_CANCELLED = "57014"
_TENANT = "tenant"


class DatabaseUnavailable(Exception):
    """A transient failure: Postgres is unavailable or overloaded, or chose this transaction as a deadlock's victim."""


class StatementTimeout(DatabaseUnavailable):
    """A statement was cancelled, because it took longer than its session allows."""


class Database:
    """A pool of connections with one role."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def for_tenants(cls, settings: Settings) -> "Database":
        """For one tenant at a time: row-level security limits each connection to the tenant that the caller names."""
        return cls(_engine(settings, settings.database_app_role))

    @classmethod
    def for_all_tenants(cls, settings: Settings) -> "Database":
        """For readers of every tenant: projections, publishing, reconciling, rebuilding."""
        return cls(_engine(settings, settings.database_reader_role))

    @classmethod
    def for_searching(cls, settings: Settings, seconds: float = SEARCH_SECONDS) -> "Database":
        """Like `for_tenants`, in a pool of its own, whose statements are planned for the values of each execution.

        How many rows a word or a polygon has decides between plans that differ by a factor of a hundred. Indexes are
        in memory or on a solid-state disk, and a search shares the machine with others. A statement that takes longer
        than `seconds` is cancelled.
        """
        planned = {
            "plan_cache_mode": "force_custom_plan",
            "random_page_cost": "1.1",
            "max_parallel_workers_per_gather": "0",
            "statement_timeout": str(round(seconds * 1000)),
        }
        return cls(_engine(settings, settings.database_app_role, **planned))

    @asynccontextmanager
    async def transaction(self, tenant_id: str = "") -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, limited to the rows of `tenant_id`. Raises DatabaseUnavailable."""
        async with self.statements(tenant_id) as connection, transaction_on(connection):
            yield connection

    @asynccontextmanager
    async def statements(self, tenant_id: str = "") -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit mode, limited to the rows of `tenant_id`.

        Raises DatabaseUnavailable when the same statements may succeed later.
        """
        with _translate_connection_errors():
            async with self._engine.connect() as connection:
                await _set_tenant(connection, tenant_id)
                yield connection

    async def ping(self) -> None:
        """Raises DatabaseUnavailable unless Postgres answers within two seconds."""
        try:
            async with asyncio.timeout(2), self.statements() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError as error:
            raise DatabaseUnavailable("no answer within two seconds") from error

    async def close(self) -> None:
        await self._engine.dispose()


@asynccontextmanager
async def transaction_on(connection: AsyncConnection) -> AsyncIterator[None]:
    """Makes the statements on a connection of `Database.statements` one transaction.

    A connection whose BEGIN, COMMIT or ROLLBACK got no reply is closed, and the server rolls back.
    """
    driver = _driver(connection)
    ended = False
    try:
        await driver.execute("BEGIN")
        try:
            yield
        except BaseException:
            # If the connection is lost as well, the caller still gets the original error.
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await driver.execute("ROLLBACK")
                ended = True
            raise
        await driver.execute("COMMIT")
        ended = True
    finally:
        if not ended:
            # Without a reply the driver does not know whether a transaction is open.
            driver.terminate()


@asynccontextmanager
async def advisory_lock(connection: AsyncConnection, family: int, name: str) -> AsyncIterator[bool]:
    """Tries to take the session-level advisory lock `name` of `family`; yields whether it was taken.

    The lock outlives transactions and ends with the connection.
    """
    driver, released = _driver(connection), False
    try:
        taken: bool = await driver.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", family, name)
        try:
            yield taken
        finally:
            if taken and not driver.is_closed():
                await driver.fetchval("SELECT pg_advisory_unlock($1, hashtext($2))", family, name)
        released = True
    finally:
        if not released:
            # The session may still hold the lock and must not return to the pool with it.
            driver.terminate()


async def advisory_lock_is_held(connection: AsyncConnection, family: int, name: str) -> bool:
    """Whether some session has the advisory lock `name` of `family`."""
    # Postgres shows the two keys as unsigned numbers.
    held: bool = await _driver(connection).fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = $1::bigint::oid AND objid = (hashtext($2)::bigint & 4294967295)::oid)",
        family,
        name,
    )
    return held


async def write_rows(connection: AsyncConnection, writes: Sequence[Write]) -> None:
    """Write rows of several tables by one statement, because a round trip costs more than a row."""
    values = {f"{column}_{n}": value for n, write in enumerate(writes) for column, value in write.values.items()}
    shape = tuple((write.table, tuple(write.values), write.how) for write in writes)
    await connection.execute(_writing(shape), values)


@lru_cache
def _writing(shape: tuple[tuple[Table, tuple[str, ...], str], ...]) -> Select[*tuple[Any, ...]]:
    """The statement for rows of one shape; cached, because building it costs as much as running it."""
    statement = select(literal(1))
    for n, (table, columns, how) in enumerate(shape):
        values = {column: bindparam(f"{column}_{n}", type_=table.c[column].type) for column in columns}
        key = [column.name for column in table.primary_key]
        this_row = [table.c[name] == values[name] for name in key if name in values]
        others = {name: value for name, value in values.items() if name not in key}
        write: Insert | Update | Delete
        if how == "delete":
            write = delete(table).where(*this_row)
        elif how == "update":
            write = update(table).where(*this_row).values(others)
        else:
            write = insert(table).values(values)
            if how == "upsert":
                write = write.on_conflict_do_update(
                    index_elements=key, set_={name: write.excluded[name] for name in others}
                )
        statement = statement.add_cte(write.cte(f"row_{n}"))
    return statement


@contextmanager
def _translate_connection_errors() -> Iterator[None]:
    """Raise DatabaseUnavailable for transient errors; others pass."""
    try:
        yield
    except DBAPIError as error:
        if is_transient(error):
            raise _unavailable(getattr(error.orig, "sqlstate", None), str(error.orig)) from error
        raise
    except asyncpg.PostgresError as error:
        if _is_transient_state(error.sqlstate):
            raise _unavailable(error.sqlstate, str(error)) from error
        raise
    except (PoolTimeout, OSError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(str(error) or type(error).__name__) from error


def _unavailable(state: str | None, message: str) -> DatabaseUnavailable:
    return StatementTimeout(message) if state == _CANCELLED else DatabaseUnavailable(message)


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement may succeed when it is retried."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or _is_transient_state(state)


def _is_transient_state(state: str) -> bool:
    # Connection exceptions, transaction rollback (deadlocks, serialization failures), insufficient resources and
    # operator intervention (https://www.postgresql.org/docs/18/errcodes-appendix.html).
    return state[:2] in {"08", "40", "53", "57"}


async def _set_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    """Set `app.tenant` of the session, unless it has this value already."""
    known = connection.info  # kept with the session
    if known.get(_TENANT) != tenant_id:
        known.pop(_TENANT, None)  # if this call is cancelled, the value in the session is unknown
        await _driver(connection).fetchval("SELECT set_config('app.tenant', $1, false)", tenant_id)
        known[_TENANT] = tenant_id


def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    """The asyncpg connection, on which BEGIN and COMMIT can be executed."""
    assert connection.sync_connection is not None
    driver: asyncpg.Connection = connection.sync_connection.connection.driver_connection
    return driver


def async_url(url: str) -> str:
    """The URL with SQLAlchemy's asyncpg driver."""
    return "postgresql+asyncpg://" + url.split("://", 1)[1]


def _engine(settings: Settings, role: str, **session: str) -> AsyncEngine:
    engine = create_async_engine(
        async_url(settings.database_url),
        isolation_level="AUTOCOMMIT",  # `transaction_on` executes BEGIN and COMMIT
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=2,  # then answer 503 rather than queue further
        pool_recycle=1800,  # a proxy may have dropped a connection that is half an hour old
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        hide_parameters=True,  # errors are logged, and stored by Temporal
        connect_args={
            "timeout": 2,
            "command_timeout": 10,  # no statement scans a table; a slow one is a fault
            # As a session default, so that RESET ROLE returns to this role and not to the login.
            "server_settings": {
                "role": role,
                "application_name": APPLICATION_NAME,
                "timezone": "UTC",
                "jit": "off",
                **session,
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _reconnect_if_closed)
    event.listen(engine.sync_engine, "handle_error", _remove_values)
    return engine


def _reconnect_if_closed(dbapi_connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool reconnect when Postgres has closed the connection."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def _remove_values(context: ExceptionContext) -> None:
    """Remove a row's values from an error's texts, because errors are logged, and stored by Temporal.

    Postgres repeats the row in an error's detail. A data exception (class 22, or a value that the driver cannot encode)
    has the value in its message, in quotation marks or after a colon.
    """
    original, wrapping = context.original_exception, context.sqlalchemy_exception
    cause = original.__cause__
    if not isinstance(cause, asyncpg.PostgresError) or not isinstance(wrapping, DBAPIError):
        return
    cause.detail = None
    if isinstance(cause, asyncpg.DataError):
        message = str(original)
        kept = re.sub('".*"', '"..."', message, flags=re.DOTALL).partition(":")[0]
        cause.args = original.args = (kept,)
        cause.__cause__ = None
        wrapping.args = (wrapping.args[0].replace(message, kept),)
