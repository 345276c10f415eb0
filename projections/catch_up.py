"""Catching up: a projection reads the event store from its checkpoint, whatever Kafka has retained.

The checkpoint is an offset in the event store (`event_store.in_order`): every event up to it is applied, parked or
unreadable. At start-up, all newer events are applied. From then on Kafka delivers the events, and each round moves the
checkpoint past those that Kafka delivered; events that it did not deliver are applied from the store.
"""

import asyncio
import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Generic

from adapters import event_store
from adapters.event_store import NotRenumbered, Position
from adapters.postgres import Database, DatabaseUnavailable
from projections.generations import register_read_model
from projections.projection import E, Projection, as_consumed
from projections.sink import PAUSE_SECONDS, Sink, pause

log = logging.getLogger(__name__)

_BATCH = 500
"""Events per transaction, the same as the consumer's batch."""
_ROUND_SECONDS = 5.0
"""How often the checkpoint moves; a restart applies the events of the last few seconds again."""

Page = Sequence[tuple[Position, dict[str, Any]]]


class CatchUp(Generic[E]):
    """Follows the event store for one projection; several processes may do so, as `apply` is idempotent."""

    def __init__(self, database: Database, projection: Projection[E], sink: Sink[E]) -> None:
        self._database = database
        self._projection = projection
        self._sink = sink
        self._position = Position()
        self._settled_before: int | None = None
        """Events below this transaction id were settled one round ago, so Kafka has had time to deliver them."""
        self.done = False
        """Whether all events stored before the start are applied."""

    async def run(self, stop: asyncio.Event) -> None:
        """Catch up, then move the checkpoint every few seconds, until `stop` is set. Raises TooManyFailures."""
        while not stop.is_set():
            try:
                await self.round(stop)
            except (DatabaseUnavailable, NotRenumbered) as error:
                log.warning("%s: the event store cannot be read: %s; trying again", self._projection.name, error)
            await pause(stop, _ROUND_SECONDS if self.done else PAUSE_SECONDS)

    async def round(self, stop: asyncio.Event) -> None:
        """Apply what is due and move the checkpoint. Raises DatabaseUnavailable, NotRenumbered, TooManyFailures."""
        async with self._database.statements() as connection:
            if not self.done:
                await register_read_model(connection, self._projection.name)
            settled = await event_store.settled_below(connection)
        if await self._apply_settled(stop) and not self.done and await self._apply_unsettled(stop):
            self.done = True
            log.info("%s has caught up with the event store", self._projection.name)
        if self.done:
            self._settled_before = settled
            self._sink.forget_written()

    async def _apply_settled(self, stop: asyncio.Event) -> bool:
        """Apply settled events and move the checkpoint past them; False when stopped before the end."""
        while True:
            async with self._database.statements() as connection:
                checkpoint = await event_store.checkpoint(connection, self._projection.name)
                # This process may be ahead of the checkpoint: it does not move while the cache is unavailable.
                self._position = max(self._position, checkpoint)
                found = await event_store.in_order(connection, self._position, _BATCH)
            page = list(takewhile(self._is_due, found))
            if not await self._apply(page, stop):
                return False
            if page:
                self._position = page[-1][0]
            if self._position > checkpoint and await self._sink.cache_is_current():
                # Not in the transaction of the rows: the cache is written after that commit.
                async with self._database.statements() as connection:
                    await event_store.move_checkpoint(connection, self._projection.name, self._position)
            if len(page) < _BATCH:
                return True

    def _is_due(self, found: tuple[Position, dict[str, Any]]) -> bool:
        return self._settled_before is None or found[0].tx_id < self._settled_before

    async def _apply_unsettled(self, stop: asyncio.Event) -> bool:
        """Apply committed events that are not settled, without moving the checkpoint past them."""
        position = self._position
        while True:
            async with self._database.statements() as connection:
                page = await event_store.visible_between(connection, None, None, position, _BATCH)
            if not page:
                return True
            if not await self._apply(page, stop):
                return False
            position = page[-1][0]

    async def _apply(self, page: Page, stop: asyncio.Event) -> bool:
        """Write the events that Kafka has not delivered; False when stopped before the end."""
        events = [message for _, message in page if not self._sink.has_written(message["eventId"])]
        stored = as_consumed(self._projection, events, where="catch-up")
        if stored.unreadable:
            # As reconcile does: a release that can read them will publish them.
            async with self._database.statements() as connection:
                await event_store.mark_unpublished(connection, stored.unreadable)
        if stored.messages:
            return await self._sink.write(stored.messages, stop)
        return not stop.is_set()
