"""Activities that write the file of an export, and delete it when its link has ended."""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO
from uuid import UUID

from temporalio import activity
from temporalio.client import Client

from adapters import event_store, exports, outbox, temporal
from adapters.exports import Export
from adapters.objects import Objects, ObjectsUnavailable
from adapters.outbox import PendingEvent
from adapters.personal_export import lines_of
from adapters.postgres import Database
from adapters.sealing import Keyring, token_hash
from domain import ids
from domain.events import observation_events
from domain.model import Fact
from domain.notifications import notices_of
from domain.observations import Exported, RecordActivity, RecordedActivity, UserExported
from domain.user_commands import ExportHistory

log = logging.getLogger(__name__)

_MEDIA_TYPE = "application/x-ndjson"
_HEARTBEAT_SECONDS = 5.0
"""While a file is sent to the object storage."""
_LOST_AFTER = timedelta(hours=2)
"""Far longer than the largest file takes."""
_LEFT_AFTER = timedelta(days=2)
"""A file of this age has no row: its writer was stopped between the two."""
_LIMIT = 500
"""Exports of a page, and about the most of one run: reconcile runs again after a minute."""


class Exporting(Fact):
    """The input of the step that writes a file: the account, and the command, whose id the export has."""

    tenant_id: str
    user_id: UUID
    command_id: UUID


class Exports:
    """Writes files."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        objects: Objects,
        enqueued: Callable[[Sequence[PendingEvent]], None],
    ) -> None:
        """`enqueued` is called with the event whose notice mails the link, after it is saved."""
        self._database = database
        self._keyring = keyring
        self._objects = objects
        self._enqueued = enqueued

    @activity.defn
    async def write_export(self, exporting: Exporting) -> RecordedActivity | None:
        """Write the file and store the event that mails its link, once; None if the person is erased.

        Raises DatabaseUnavailable or ObjectsUnavailable.
        """
        async with self._database.statements(exporting.tenant_id) as connection:
            export = await exports.find_export(connection, exporting.command_id)
        if export is None:
            # An earlier attempt may have been stopped after it wrote the file.
            await self._objects.delete(exports.file_of(exporting.tenant_id, exporting.user_id, exporting.command_id))
            return None
        ready_at = export.ready_at or await self._written(export)
        if ready_at is None:
            return None
        event_id = ids.event_id(exporting.command_id, 2)
        self._enqueued([PendingEvent(exporting.tenant_id, event_id, exporting.command_id)])
        return RecordedActivity(tenant_id=exporting.tenant_id, command_id=exporting.command_id)

    async def _written(self, export: Export) -> datetime | None:
        """When the file was written; None if the person was erased in the meantime, and it is deleted again."""
        with tempfile.TemporaryFile() as file:  # without a name, so that nothing is left of it
            await self._write_lines(export, file)
            size = file.tell()
            sending = asyncio.create_task(self._objects.put(export.key, file, _MEDIA_TYPE))
            try:
                await _with_heartbeats(sending)
                ready_at = await self._record(export, size)
            except asyncio.CancelledError:
                # An erasure deletes the workflow, and the thread that sends the file goes on.
                await asyncio.gather(sending, return_exceptions=True)
                await self._delete_without_row(export)
                raise
        if ready_at is None:
            await self._objects.delete(export.key)
        return ready_at

    async def _delete_without_row(self, export: Export) -> None:
        async with self._database.statements(export.tenant_id) as connection:
            row = await exports.find_export(connection, export.export_id)
        if row is None:
            await self._objects.delete(export.key)

    async def _write_lines(self, export: Export, file: IO[bytes]) -> None:
        written = 0
        async for lines in lines_of(self._database, self._keyring, export.tenant_id, export.user_id):
            await asyncio.to_thread(file.writelines, lines)
            written += len(lines)
            activity.heartbeat(written)

    async def _record(self, export: Export, size: int) -> datetime | None:
        """Record the file, and store the event whose notice mails its link; None if its row is gone."""
        now = datetime.now(UTC)
        event_id = ids.event_id(export.export_id, 2)
        hashed = token_hash(self._keyring.link_token(event_id))
        fact = UserExported(user_id=export.user_id, export_id=export.export_id, expires_at=now + exports.LIFETIME)
        observed = Exported(
            event_id=event_id, aggregate_id=export.user_id, user_id=export.user_id, timestamp=now, data=fact
        )
        batch = RecordActivity(command_id=export.export_id, tenant_id=export.tenant_id, observations=(observed,))
        events = observation_events(batch)
        async with self._database.transaction(export.tenant_id) as tx:
            row = await exports.find_export(tx, export.export_id, locked=True)
            if row is None or row.ready_at:
                return row.ready_at if row else None
            await exports.mark_ready(tx, export.export_id, now, size, hashed)
            await event_store.store_observations(tx, events)
            notices = [notice for event in events for notice in notices_of(event)]
            await outbox.store_notices(tx, export.tenant_id, export.export_id, notices)
        return now


async def _with_heartbeats(sending: asyncio.Task[None]) -> None:
    while not sending.done():
        activity.heartbeat("sending")
        await asyncio.wait({sending}, timeout=_HEARTBEAT_SECONDS)
    await sending


class OverdueExports:
    """Deletes files whose link has ended, and starts exports whose workflow is lost, because Temporal was wiped."""

    def __init__(self, database: Database, keyring: Keyring, objects: Objects, client: Client, queue: str) -> None:
        self._database = database
        self._keyring = keyring
        self._objects = objects
        self._client = client
        self._queue = queue

    @activity.defn
    async def delete_expired_exports(self) -> int:
        """Delete the files whose link has ended, and those without a row; returns how many.

        While the object storage is unavailable they are left to a later run.
        """
        now, deleted = datetime.now(UTC), 0
        async with self._database.statements() as connection:
            expired = await exports.expired(connection, now, _LIMIT)
        try:
            for export in expired:
                await self._objects.delete(export.key)
                async with self._database.statements() as connection:
                    await exports.mark_deleted(connection, export)
                deleted += 1
                activity.heartbeat(deleted)
            async for key in self._objects.keys(exports.EXPORTS, older_than=now - _LEFT_AFTER):
                await self._objects.delete(key)
                deleted += 1
                activity.heartbeat(deleted)
        except ObjectsUnavailable as error:
            log.warning("files of exports are left to a later run: %s", error)
        return deleted

    @activity.defn
    async def start_overdue_exports(self) -> int:
        """Start the workflows of exports that should be written; returns how many.

        It looks beyond those that run already, because something that they need is unavailable.
        """
        before, started, last = datetime.now(UTC) - _LOST_AFTER, 0, None
        while started < _LIMIT:
            async with self._database.statements() as connection:
                pending = await exports.pending_since(connection, before, _LIMIT, last)
            for last, fingerprint in pending:
                activity.heartbeat(started)
                started += await self._start(last, fingerprint)
            if len(pending) < _LIMIT:
                break
        return started

    async def _start(self, export: Export, fingerprint: str | None) -> bool:
        """Start the workflow of an export; False if it runs already."""
        command = ExportHistory(
            command_id=export.export_id,
            tenant_id=export.tenant_id,
            user_id=export.user_id,
            issued_at=export.requested_at,
            fingerprint=fingerprint,
        )
        return await temporal.start_in_clear(self._client, command, self._queue, self._keyring)
