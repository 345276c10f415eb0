"""Restoring a dump into a new cluster: creates the roles before it, and renumbers the stored events after it.

`event_store.tx_id` holds transaction ids of the cluster that stored the event. In a new cluster, which counts from the
beginning, they are higher than its own: stored events look as if they were not committed yet, and new events sort
before them.
"""

from collections.abc import Callable

import asyncpg

from adapters.postgres import APPLICATION_NAME

_ROLES = ("hyderabad_app", "hyderabad_all_tenants")
"""Roles of the tables' grants and policies. They belong to the cluster, so a dump does not contain them."""
_BATCH = 20_000
"""Events per transaction: one or two seconds, after which vacuum can reuse the space of the old rows."""

_NEEDED = """
    SELECT c.system_identifier <> s.system_identifier OR EXISTS (
        SELECT FROM user_history.event_store WHERE tx_id >= pg_snapshot_xmax(pg_current_snapshot())
    )
    FROM user_history.event_store_cluster c, pg_control_system() s
"""
_SET_CLUSTER = "UPDATE user_history.event_store_cluster SET system_identifier = "
# Moves a checkpoint to before the first event, by id, that it had not passed. One with the transaction id 0 was moved
# by an interrupted run or an earlier restore.
_MOVE_CHECKPOINTS = """
    UPDATE user_history.checkpoints c SET tx_id = 0, updated_at = now(), id = least(c.id, (
        SELECT min(e.id) - 1 FROM user_history.event_store e
        WHERE (e.tx_id, e.id) > (CAST(CAST(c.tx_id AS text) AS xid8), c.id)
    ))
    WHERE c.tx_id > 0
"""
# Their snapshots are of the other cluster, and so is the workflow that would go on with them.
_END_REBUILDS = """
    UPDATE user_history.rebuilds SET status = 'INTERRUPTED', detail = 'The database was restored.', finished_at = now()
    WHERE finished_at IS NULL
"""
# OpenSearch may have newer versions of listings, and keeps them when the restored ones are written.
_REBUILD_STORES = "UPDATE user_history.read_models SET unstored_generation = greatest(generation, unstored_generation)"
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
    """Create missing roles and grant them to the login, as the first migration does."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(7237002)")
        for role in _ROLES:
            if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} NOLOGIN NOINHERIT")
            if not await connection.fetchval("SELECT pg_has_role($1, 'SET')", role):
                await connection.execute(f"GRANT {role} TO CURRENT_USER")


async def needs_renumbering(connection: asyncpg.Connection) -> bool:
    """Whether stored transaction ids come from another cluster, or are higher than this cluster's own."""
    return bool(await connection.fetchval(_NEEDED))


async def renumber(connection: asyncpg.Connection, print_line: Callable[[str], None], batch: int = _BATCH) -> int:
    """Set the transaction id of every stored event to 0, so that they are ordered by row id; returns how many.

    They then sort before new events and are settled at once. Checkpoints move back so that no reader skips an event;
    reading one twice changes nothing. An interrupted run can be repeated; until it is complete, `event_store.in_order`
    raises NotRenumbered. Events that are saved meanwhile have an id of this cluster, which is right with or without
    renumbering.

    Projections rebuild what they keep outside Postgres, whether or not events are renumbered. Raises InUse while
    processes of the platform are connected and events must be renumbered.
    """
    # The same lock as in migrations/env.py, against concurrent migrations and renumberings.
    await connection.execute("SELECT pg_advisory_lock(7237001)")
    try:
        if not await needs_renumbering(connection):
            # It may be an earlier state of the same cluster.
            await connection.execute(_REBUILD_STORES)
            return 0
        await _refuse_while_in_use(connection)
        async with connection.transaction():
            await connection.execute(f"{_SET_CLUSTER} 0")
            await connection.execute(_MOVE_CHECKPOINTS)
            await connection.execute(_END_REBUILDS)
            await connection.execute(_REBUILD_STORES)
        newest: int = await connection.fetchval("SELECT coalesce(max(id), 0) FROM user_history.event_store")
        done, last = 0, 0
        while (row := await connection.fetchrow(_RENUMBER, last, batch))["last"] is not None:
            done, last = done + row["count"], row["last"]
            print_line(f"{done} events renumbered, id {last} of {newest}")
        await connection.execute(f"{_SET_CLUSTER} (SELECT system_identifier FROM pg_control_system())")
        return done
    finally:
        await connection.execute("SELECT pg_advisory_unlock(7237001)")


async def _refuse_while_in_use(connection: asyncpg.Connection) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
    if sessions := await connection.fetchval(query, APPLICATION_NAME):
        raise InUse(f"{sessions} sessions of the platform are connected to this database: stop its processes first")
