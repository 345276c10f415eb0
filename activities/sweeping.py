"""The activity that deletes files which nothing refers to any more."""

import logging
import time
from datetime import UTC, datetime, timedelta

from temporalio import activity

from adapters import sweeps
from adapters.objects import Objects, ObjectsUnavailable
from adapters.postgres import Database

log = logging.getLogger(__name__)

_MINUTE = 60
_LOST_UPLOADS_EVERY = 64
"""Minutes: an object without a row is left only by an erasure, or by a restored database."""


class Sweeping:
    """Deletes uploads that were never completed or used, and contents of deleted and replaced images and documents."""

    def __init__(self, database: Database, objects: Objects, grace_hours: float) -> None:
        self._database = database
        self._objects = objects
        self._grace = timedelta(hours=grace_hours)
        self._looked_at: int | None = None

    @activity.defn
    async def sweep_files(self) -> int:
        """Delete what nothing has referred to for the grace period; returns how many files.

        While the object storage is unavailable they are left to a later run. Raises DatabaseUnavailable.
        """
        before, swept = datetime.now(UTC) - self._grace, 0
        of_sweep = self._database, self._objects, before, activity.heartbeat
        try:
            swept += await sweeps.sweep_uploads(*of_sweep)
            swept += await sweeps.sweep_contents(*of_sweep)
            swept += await self._look_for_lost(before, int(time.time() // _MINUTE))
        except ObjectsUnavailable as error:
            log.warning("files are left to a later run: %s", error)
        return swept

    async def _look_for_lost(self, before: datetime, minute: int) -> int:
        """Look for objects without a row, each minute among another part of them: all in some four hours."""
        if minute == self._looked_at:
            return 0
        part = minute % sweeps.SLICES
        await sweeps.record_lost_contents(self._database, self._objects, part, before, activity.heartbeat)
        self._looked_at = minute
        if minute % _LOST_UPLOADS_EVERY:
            return 0
        return await sweeps.sweep_lost_uploads(self._database, self._objects, before, activity.heartbeat)
