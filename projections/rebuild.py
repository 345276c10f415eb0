"""Rebuild a projection: replay the event store into a new generation while the old one serves, then switch."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, advisory_lock, is_transient, transaction_on
from adapters.search.engine import ListingRejected
from projections.generations import claim_generation, generation_of, switch_generation
from projections.parking import EARLIER_EVENT_PARKED, ConsumedMessage, park
from projections.projection import Projection, as_consumed
from projections.sink import FailureRate, apply_batch, apply_one_by_one, read_messages

log = logging.getLogger(__name__)

_LOCKS = 7237003
"""Namespace of these advisory locks (the first of their two keys)."""
_BATCH = 1000
"""Events per statement: about 0.1 s, well below the statement timeout of 10 s."""
_BLOCKS_DELETED = 200
"""Blocks of 8 kB (up to 20,000 rows) per DELETE: about 0.1 s, whatever the size of the table."""


class RebuildRunning(Exception):
    """Another rebuild of the same projection is running."""


class Rebuilt(NamedTuple):
    """The number of events in the new generation, its number, and how many events were parked."""

    applied: int
    generation: int
    parked: int


async def rebuild(database: Database, projection: Projection[Any], progress: Callable[[int], None]) -> Rebuilt:
    """Replay the event store through `apply` into a new generation, then switch to it.

    `progress` is called with the number of replayed events. An event that is rejected is parked with later ones of
    its key, as when it comes from Kafka. When interrupted, nothing is parked, the old generation keeps serving, and the
    next rebuild deletes the rows of the new one.

    Raises RebuildRunning while another one runs; DatabaseUnavailable when the connection is lost, and its lock with it;
    NotRenumbered on a restored store; SearchUnavailable; TooManyFailures.
    """
    async with (
        database.statements() as connection,
        advisory_lock(connection, _LOCKS, f"rebuild {projection.name}") as locked,
    ):
        if not locked:
            raise RebuildRunning(f"another rebuild of {projection.name} is running: wait for its end, or stop it")
        await event_store.ensure_renumbered(connection)
        await _delete_all_but(connection, projection, await generation_of(connection, projection.name))
        generation = await claim_generation(connection, projection.name)
        if projection.store:
            await projection.store.create(generation)
        replay = _Replay(connection, projection, generation, progress)
        since: str | None = None
        more_than_a_batch = True
        while more_than_a_batch:
            # Events that are stored during a round are left to the next, so rounds get shorter.
            until = await event_store.current_snapshot(connection)
            more_than_a_batch = await replay.between(since, until) > _BATCH
            since = until
        async with transaction_on(connection):
            # Waits for the projections' open transactions, whose events are visible then, and blocks new ones.
            await switch_generation(connection, projection.name, generation)
            await replay.between(since, None)
            # Only after the switch: the old generation may have applied these events, and an operator who replays them
            # before it would remove them from the parked ones.
            for n in range(0, len(replay.parked), _BATCH):
                await park(connection, projection.name, replay.parked[n : n + _BATCH])
        if projection.store:
            await projection.store.serve(generation)
        await _delete_all_but(connection, projection, generation)
    return Rebuilt(replay.applied, generation, len(replay.parked))


@dataclass
class _Replay:
    """The events applied by a rebuild so far, and those to park."""

    connection: AsyncConnection
    projection: Projection[Any]
    generation: int
    progress: Callable[[int], None]
    events: int = 0
    applied: int = 0
    parked: list[tuple[ConsumedMessage, str]] = field(default_factory=list)
    """Messages that cannot be applied, each with the reason."""
    _blocked: set[str] = field(default_factory=set)
    """Keys of the parked messages."""
    _failures: FailureRate = field(default_factory=FailureRate)

    async def between(self, since: str | None, until: str | None) -> int:
        """Apply the events that are visible in the snapshot `until` and were not in `since`; returns how many.

        Each batch is a transaction; without `until` all of them are part of the caller's.
        """
        before, position = self.events, Position()
        while events := await event_store.visible_between(self.connection, since, until, position, _BATCH):
            stored = as_consumed(self.projection, [message for _, message in events], where="rebuild")
            async with transaction_on(self.connection) if until else nullcontext():
                await self._apply(stored.messages)
            position = events[-1][0]
            self.events += len(events)
            self.progress(self.events)
        return self.events - before

    async def _apply(self, messages: Sequence[ConsumedMessage]) -> None:
        readable, unreadable = read_messages(self.projection, messages)
        self._blocked |= {message.key for message, _ in unreadable}
        free = [(message, event) for message, event in readable if message.key not in self._blocked]
        try:
            async with self.connection.begin_nested():
                outcome = await apply_batch(self.connection, self.projection, free, self.generation)
        except (DBAPIError, ListingRejected) as error:
            if isinstance(error, DBAPIError) and is_transient(error):
                raise
            outcome = await apply_one_by_one(self.connection, self.projection, free, self.generation)
        blocked = [*outcome.blocked, *(message for message, _ in readable if message.key in self._blocked)]
        failed = [*unreadable, *outcome.rejected]
        self._failures.add(len(outcome.applied) + len(blocked), failed)
        for message, reason in failed:
            log.error("%s: cannot apply %s of %s: %s", self.projection.name, message.key, message.topic, reason)
        self.applied += len(outcome.applied)
        self.parked += [*failed, *((message, EARLIER_EVENT_PARKED) for message in blocked)]
        self._blocked |= {message.key for message, _ in failed}


async def _delete_all_but(connection: AsyncConnection, projection: Projection[Any], generation: int) -> None:
    """Delete the rows of other generations, some blocks at a time, each in a transaction of its own."""
    for table in projection.tables:
        # The size is read once: rows that are inserted later are of the serving generation or of this rebuild.
        size = text("SELECT pg_relation_size(CAST(:name AS regclass)) / current_setting('block_size')::bigint")
        blocks: int = (await connection.execute(size, {"name": table.fullname})).scalar_one()
        rows = text(
            f"DELETE FROM {table.fullname} WHERE generation <> :generation"
            " AND ctid >= CAST(CAST(:first AS text) AS tid) AND ctid < CAST(CAST(:end AS text) AS tid)"
        )
        for first in range(0, blocks, _BLOCKS_DELETED):
            bounds = {"first": f"({first},0)", "end": f"({first + _BLOCKS_DELETED},0)"}
            await connection.execute(rows, {"generation": generation, **bounds})
