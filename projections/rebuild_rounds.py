"""The rounds of a rebuild: events are replayed into its generation in batches, each with the place after it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Generic, NamedTuple

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters import event_store
from adapters.event_store import Position
from adapters.postgres import Database, is_transient, transaction_on
from adapters.search.engine import ListingRejected
from domain.rebuilds import RebuildProgress
from projections.parking import EARLIER_EVENT_PARKED, discarded_among, park, parked_keys
from projections.projection import E, Projection, StoredMessage, read_stored
from projections.rebuild_record import Place, place_of, save_place
from projections.sink import FailureRate, Readable, apply_batch, apply_one_by_one

log = logging.getLogger(__name__)

_BATCH = 1000
"""Events per statement: about 0.1 s, well below the statement timeout of 10 s."""

Page = Sequence[tuple[Position, dict[str, Any]]]
Progress = Callable[[int], None]
"""Called after each batch with the number of replayed events."""


class Rounds(Generic[E]):
    """Replays events into the generation of one rebuild, on the connection that has its lock."""

    def __init__(
        self,
        database: Database,
        connection: AsyncConnection,
        projection: Projection[E],
        progress: RebuildProgress,
        show: Progress,
    ) -> None:
        self._database = database
        self._connection = connection
        self._projection = projection
        self._rebuild_id, self._generation = progress.rebuild_id, progress.generation
        self._show = show
        self._failures = FailureRate()
        self._blocked: set[str] = set()
        """Keys of the parked messages."""
        self.parked_name = parked_name(projection.name, progress.generation)

    async def place(self) -> Place:
        """Where to go on, read before anything else."""
        self._blocked = set(await parked_keys(self._connection, self.parked_name))
        return await place_of(self._connection, self._rebuild_id)

    async def round(self, place: Place, ends: float) -> Place:
        """Go on with a round, or begin one: the events up to a snapshot that the previous one did not have.

        Events that are stored during a round are left to the next, so rounds get shorter. At `ends`, a time of
        `time.monotonic`, it stops between two batches.
        """
        if place.until is None:
            place = place.begun(await event_store.current_snapshot(self._connection))
        began = time.monotonic()
        async with self._pages(place) as pages:
            async for page, messages in pages:
                at = time.monotonic()
                place, began = replace(place, working_seconds=place.working_seconds + at - began), at
                async with transaction_on(self._connection):
                    place = await self._batch(place, page, messages)
                    await save_place(self._connection, self._rebuild_id, place)
                self._show(place.done)
                if time.monotonic() >= ends:
                    return place
        place = replace(place, working_seconds=place.working_seconds + time.monotonic() - began)
        place = place.ended(_BATCH)
        await save_place(self._connection, self._rebuild_id, place)
        return place

    async def rest(self, place: Place) -> Place:
        """Apply what no round has, in the caller's transaction; returns the place after it."""
        place = replace(place, position=Position())
        while found := await self._page(self._connection, replace(place, until=None), place.position):
            place = await self._batch(place, *found)
            self._show(place.done)
        return place

    @asynccontextmanager
    async def _pages(self, place: Place) -> AsyncIterator[AsyncIterator[tuple[Page, "_Messages[E]"]]]:
        """The pages of a round, each read and parsed while Postgres writes the one before, on another connection."""
        async with self._database.statements() as reader:
            reading = asyncio.create_task(self._page(reader, place, place.position))

            async def pages() -> AsyncIterator[tuple[Page, _Messages[E]]]:
                nonlocal reading
                while found := await reading:
                    reading = asyncio.create_task(self._page(reader, place, found[0][-1][0]))
                    yield found

            try:
                yield pages()
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _page(self, reader: AsyncConnection, place: Place, after: Position) -> tuple[Page, "_Messages[E]"] | None:
        """The next page of a round, and what concerns the projection of it; None at the end."""
        page = await event_store.visible_between(reader, place.since, place.until, after, _BATCH)
        if not page:
            return None
        discarded = await discarded_among(reader, self._projection.name, [event["eventId"] for _, event in page])
        kept = [event for _, event in page if event["eventId"] not in discarded]
        # In a thread, so that what else this process does is not held up for the time of a page.
        return page, _Messages(*await asyncio.to_thread(read_stored, self._projection, kept, where="rebuild"))

    async def _batch(self, place: Place, page: Page, messages: "_Messages[E]") -> Place:
        """Apply a page in the caller's transaction; returns the place after it."""
        self._blocked |= {message.key for message, _ in messages.unreadable}
        free = [(message, event) for message, event in messages.readable if message.key not in self._blocked]
        try:
            async with self._connection.begin_nested():
                outcome = await apply_batch(self._connection, self._projection, free, self._generation)
        except (DBAPIError, ListingRejected) as error:
            if isinstance(error, DBAPIError) and is_transient(error):
                raise
            outcome = await apply_one_by_one(self._connection, self._projection, free, self._generation)
        blocked = [*outcome.blocked, *(message for message, _ in messages.readable if message.key in self._blocked)]
        failed = [*messages.unreadable, *outcome.rejected]
        self._failures.add(len(outcome.applied), failed)
        for message, reason in failed:
            log.error("%s: cannot apply %s of %s: %s", self._projection.name, message.key, message.topic, reason)
        parked = [*failed, *((message, EARLIER_EVENT_PARKED) for message in blocked)]
        if parked:
            # Under a name of their own: they are parked when the new generation serves.
            await park(self._connection, self.parked_name, [(message.consumed(), reason) for message, reason in parked])
        self._blocked |= {message.key for message, _ in failed}
        return replace(
            place,
            position=page[-1][0],
            done=place.done + len(page),
            applied=place.applied + len(outcome.applied),
            parked=place.parked + len(parked),
        )


class _Messages(NamedTuple, Generic[E]):
    """A page as `read_stored` returns it."""

    readable: Readable[StoredMessage, E]
    unreadable: list[tuple[StoredMessage, str]]


def parked_name(projection: str, generation: int | str) -> str:
    """Under which name a rebuild parks events until it switches; with an empty `generation`, how all of them begin."""
    return f"{projection}#{generation}"
