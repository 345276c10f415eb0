"""The activity that deletes files which nothing refers to any more."""

import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.beating import heartbeats
from adapters import sweeps
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database

log = logging.getLogger(__name__)

_MINUTE = 60
_LOST_UPLOADS_EVERY = 64
"""Minutes: an object without a row is left only by an erasure, or by a restored database."""
_SECONDS = 10.0
"""Of a run for what nothing refers to, and again for what has no row: overdue events and deliveries wait for the end of
the run, and the next one goes on a minute later. It deletes some thousands of files in this time."""


class Sweeping:
    """Deletes uploads that were never completed or used, and contents of deleted and replaced images and documents.

    `objects` should give up soon on a storage that does not answer, because it is called while rows are locked.
    """

    def __init__(self, database: Database, objects: Objects, grace_hours: float, seconds: float = _SECONDS) -> None:
        self._database = database
        self._objects = objects
        self._grace = timedelta(hours=grace_hours)
        self._seconds = seconds
        self._looked_at: int | None = None
        self._looking: AsyncIterator[int] | None = None
        """For objects without a row, from where the last run has stopped."""

    @activity.defn
    async def sweep_files(self) -> int:
        """Delete what nothing has referred to for the grace period; returns how many files.

        While the object storage is unavailable they are left to a later run. Raises DatabaseUnavailable.
        """
        before, swept = datetime.now(UTC) - self._grace, 0
        end = time.monotonic() + self._seconds

        def go_on() -> bool:
            return time.monotonic() < end

        of_sweep = self._database, self._objects, before, go_on
        async with heartbeats("deleting unused files") as step:
            try:
                swept += await sweeps.sweep_uploads(*of_sweep)
                swept += await sweeps.sweep_contents(*of_sweep)
                step("looking for lost files")
                swept += await self._look_for_lost(before)
            except ObjectsUnavailable as error:
                log.warning("files are left to a later run: %s", error)
        return swept

    async def _look_for_lost(self, before: datetime) -> int:
        """Look for objects without a row, each minute among another part of them: all in some four hours."""
        minute, end = int(time.time() // _MINUTE), time.monotonic() + self._seconds
        # Taken out, because it ends with an error, and another attempt may run beside this one.
        looking, self._looking = self._looking, None
        if looking is None:
            if minute == self._looked_at:
                return 0
            looking = self._lost(minute, before)
        swept = 0
        async for some in looking:
            swept += some
            if time.monotonic() >= end:
                self._looking = looking
                return swept
        self._looked_at = minute
        return swept

    async def _lost(self, minute: int, before: datetime) -> AsyncIterator[int]:
        part = minute % sweeps.SLICES
        async for _ in sweeps.record_lost_contents(self._database, self._objects, part, before):
            yield 0
        if minute % _LOST_UPLOADS_EVERY == 0:
            async for swept in sweeps.sweep_lost_uploads(self._database, self._objects, before):
                yield swept
