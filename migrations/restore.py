"""What a restore from a dump needs: the roles before it, and after it an order that fits the new cluster.

`event_store.tx_id` holds ids of transactions of the cluster that stored the event. In another cluster they mean
nothing: stored events look as if their transactions were still to come, and events saved from then on sort before them.
"""

from collections.abc import Callable

import asyncpg

from adapters.postgres import APPLICATION_NAME

_ROLES = ("hyderabad_app", "hyderabad_all_tenants")
"""What grants and policies of our tables name. Roles belong to a cluster, so no dump of a database has them."""
_BATCH = 20_000
"""Events in one transaction: a second or two, after which the space of the old rows can be used again."""

_NEEDED = """
    SELECT c.system_identifier <> s.system_identifier OR EXISTS (
        SELECT FROM user_history.event_store WHERE tx_id >= pg_snapshot_xmax(pg_current_snapshot())
    )
    FROM user_history.event_store_cluster c, pg_control_system() s
"""
_MARK = "UPDATE user_history.event_store_cluster SET system_identifier = "
# A checkpoint of the old order becomes one by id: before every event that it had not passed. What has the id 0 already
# was moved by a run that was interrupted, or by an earlier restore.
_MOVE_CHECKPOINTS = """
    UPDATE user_history.checkpoints c SET tx_id = 0, updated_at = now(), id = least(c.id, (
        SELECT min(e.id) - 1 FROM user_history.event_store e
        WHERE (e.tx_id, e.id) > (CAST(CAST(c.tx_id AS text) AS xid8), c.id)
    ))
    WHERE c.tx_id > 0
"""
_RENUMBER = """
    WITH batch AS (SELECT id, tx_id FROM user_history.event_store WHERE id > $1 ORDER BY id LIMIT $2),
    renumbered AS (
        UPDATE user_history.event_store e SET tx_id = '0' FROM batch
        WHERE e.id = batch.id AND batch.tx_id <> '0' RETURNING 1
    )
    SELECT (SELECT max(id) FROM batch) AS last, (SELECT count(*) FROM renumbered) AS count
"""


class InUse(Exception):
    """Processes of the platform are connected to the database."""


async def make_roles(connection: asyncpg.Connection) -> None:
    """Make the roles that are missing, and the login a member of them, as the first migration does."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7237002)")
        for role in _ROLES:
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} NOLOGIN NOINHERIT")
            if not await connection.fetchval("SELECT pg_has_role($1, 'SET')", role):
                await connection.execute(f"GRANT {role} TO CURRENT_USER")


async def needs_renumbering(connection: asyncpg.Connection) -> bool:
    """Whether stored transaction ids come from another cluster, or are such as this cluster has not reached."""
    return bool(await connection.fetchval(_NEEDED))


async def renumber(connection: asyncpg.Connection, print_line: Callable[[str], None], batch: int = _BATCH) -> int:
    """Give every stored event the transaction id 0, so that their order is that of their ids; returns how many.

    Older than any transaction, they are read first and at once. Checkpoints move back so far that no reader passes over
    an event it has not had; what it has again changes nothing. Interrupted, it goes on when it is run again: until the
    last event has its id, readers in order are refused (`event_store.NotRenumbered`). An event that is saved meanwhile
    has an id of this cluster and is right with or without the 0. Raises InUse while processes that could move a
    checkpoint are connected.
    """
    # The lock of the migrations: neither a migration nor a second renumbering runs beside it.
    await connection.execute("SELECT pg_advisory_lock(7237001)")
    try:
        if not await needs_renumbering(connection):
            return 0
        await _refuse_while_in_use(connection)
        async with connection.transaction():
            await connection.execute(f"{_MARK} 0")
            await connection.execute(_MOVE_CHECKPOINTS)
        newest: int = await connection.fetchval("SELECT coalesce(max(id), 0) FROM user_history.event_store")
        done, last = 0, 0
        while (row := await connection.fetchrow(_RENUMBER, last, batch))["last"] is not None:
            done, last = done + row["count"], row["last"]
            print_line(f"{done} events renumbered, id {last} of {newest}")
        await connection.execute(f"{_MARK} (SELECT system_identifier FROM pg_control_system())")
        return done
    finally:
        await connection.execute("SELECT pg_advisory_unlock(7237001)")


async def _refuse_while_in_use(connection: asyncpg.Connection) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
    if sessions := await connection.fetchval(query, APPLICATION_NAME):
        raise InUse(f"{sessions} sessions of the platform are connected to this database: stop its processes first")
