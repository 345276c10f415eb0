"""The activity that reads the rows of a file and saves them as listings, a batch in each transaction.

The checkpoint of the import moves in the transaction of the listings before it. So whatever dies, and however often a
batch is tried, no row is lost or saved twice.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.batch_saving import BatchSaved, BatchStore
from activities.beating import heartbeats
from activities.import_report import not_storable, outcome_of
from activities.publishing import Publishing
from adapters import import_files, imports, uploads
from adapters.batch_decisions import COUNTED
from adapters.imports import ImportRow, Problem
from adapters.kafka import BrokerUnavailable
from adapters.objects import Objects
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from adapters.temporal import search_attributes_of_import as search_attributes_of_import
from domain.errors import AccountClosed
from domain.import_batches import Reading, ReadRow, listings_of, without_repeated
from domain.import_mapping import ImportMapping, check, guess
from domain.import_reading import FileUnreadable, Layout, SourceRow
from domain.imports import MAX_REPORTED, MAX_ROWS, Ended, ImportOrder, ImportStatus, RowCounts
from domain.model import Fact

log = logging.getLogger(__name__)

BATCH = 200
"""Rows of a transaction: more would cost little less for each, and hold up a pause and single commands longer."""
_ATTEMPTS = 3
"""Of a batch that meets other commands on its listings; then its rows are saved one by one."""
_STEP_SECONDS = 3.0
"""Of one activity: imports that run at the same time take turns by it. One of 100,000 rows has a hundred."""
_DATA_EXCEPTION = "22"
"""The class of SQLSTATE of values that no column takes."""
_TOO_MANY = f"The file has more than {MAX_ROWS:,} rows. Send the rest of it as another file."
_CLOSED = "The account was suspended or deleted."


class ImportStep(Fact):
    """How far an import has come: there is `more`, or why there is not."""

    outcome: Literal["more", "paused", "ended", "gone"]
    """`gone`: the person was erased, with the import."""
    status: Ended | None = None
    """Of one that has ended."""
    reason: str | None = None
    rows: RowCounts = RowCounts()

    @property
    def details(self) -> str:
        """One line for the web UI."""
        rows = self.rows
        counts = f"{rows.saved} saved, {rows.updated} updated, {rows.unchanged} unchanged, {rows.refused} refused"
        return f"{(self.status or self.outcome).capitalize()}: {rows.read} rows read, {counts}"


class _Stopped(Exception):
    """The import may not go on from where its rows were read: it is paused, cancelled, gone, or another has read on."""


class ImportRows:
    """Reads and saves the rows of imports."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        store: BatchStore,
        publishing: Publishing,
        enqueued: Callable[[Sequence[PendingEvent]], None],
        rows_per_second: float,
    ) -> None:
        """`enqueued` is called with events that have notices, after they are saved."""
        self._database = database
        self._objects = objects
        self._store = store
        self._publishing = publishing
        self._enqueued = enqueued
        self._seconds_per_row = 1 / rows_per_second

    @activity.defn
    async def import_rows(self, order: ImportOrder) -> ImportStep:
        """Save the next rows of an import, for half a minute at most.

        Raises DatabaseUnavailable or ObjectsUnavailable.
        """
        async with heartbeats("reading"):
            try:
                ended = await self._import(order)
            except FileUnreadable as error:
                ended = ImportStatus.FAILED, str(error)
            except AccountClosed:
                ended = ImportStatus.FAILED, _CLOSED
            except _Stopped:
                ended = None
            return await self._step(order, ended)

    async def _step(self, order: ImportOrder, ended: tuple[Ended, str | None] | None) -> ImportStep:
        """The answer: how far the import has come by its row."""
        row = await self._find(order)
        if row is None:
            return ImportStep(outcome="gone")
        if ended:
            return ImportStep(outcome="ended", status=ended[0], reason=ended[1], rows=row.counts)
        match row.status:
            case ImportStatus.RUNNING:
                return ImportStep(outcome="more", rows=row.counts)
            case ImportStatus.PAUSED:
                return ImportStep(outcome="paused", rows=row.counts)
            case ImportStatus.CANCELLED:
                return ImportStep(outcome="ended", status=ImportStatus.CANCELLED, rows=row.counts)
        # Another run of the workflow has finished it; its record is its answer.
        return ImportStep(outcome="gone", rows=row.counts)

    async def _import(self, order: ImportOrder) -> tuple[Ended, str | None] | None:
        """Save rows; how the import has ended, or None. Raises _Stopped, FileUnreadable or AccountClosed."""
        row = await self._find(order)
        if row is None or not row.is_running:
            raise _Stopped
        if row.layout is None:
            row = await self._prepare(order, row)
        assert row.read_layout
        until = time.monotonic() + _STEP_SECONDS
        saving = _Saving(row)
        key = f"{uploads.uploads_of(row.tenant_id, row.user_id)}{row.upload_id}"
        rows = import_files.batches_of(self._objects, key, row.read_layout, row.position, BATCH)
        async with aclosing(rows) as batches:
            async for batch in batches:
                began = time.monotonic()
                within = [one for one in batch if one.number <= MAX_ROWS]
                if within:
                    await self._save(saving, within)
                if len(within) < len(batch):
                    return ImportStatus.FAILED, _TOO_MANY
                if time.monotonic() > until or activity.is_worker_shutdown():
                    return None
                await asyncio.sleep(began + len(batch) * self._seconds_per_row - time.monotonic())
        return ImportStatus.COMPLETED, None

    async def _find(self, order: ImportOrder) -> ImportRow | None:
        async with self._database.statements(order.tenant_id) as connection:
            return await imports.find(connection, order.import_id)

    async def _prepare(self, order: ImportOrder, row: ImportRow) -> ImportRow:
        """Look at the file. Raises FileUnreadable."""
        async with self._database.statements(order.tenant_id) as connection:
            upload = await uploads.claim(connection, row.upload_id, row.user_id)
        if upload is None:
            raise FileUnreadable(import_files.MISSING)
        head = await import_files.head_of(self._objects, upload.key)
        layout, mapping = await asyncio.to_thread(_looked_at, head, row)
        digest = upload.sha256 or await import_files.hash_of(self._objects, upload.key)
        async with self._database.statements(order.tenant_id) as connection:
            await imports.prepare(connection, row.import_id, digest, layout, mapping.columns)
            prepared = await imports.find(connection, order.import_id)
        if prepared is None or not prepared.is_running:
            raise _Stopped
        return prepared

    async def _save(self, saving: "_Saving", batch: Sequence[SourceRow]) -> None:
        """Save a batch, or its rows one by one if it meets other commands again and again, or a value that is wrong.

        Raises _Stopped or AccountClosed.
        """
        # In a thread: a batch of the longest rows takes seconds, in which heartbeats go on.
        rows = await asyncio.to_thread(saving.reading.read, batch, datetime.now(UTC))
        for _ in range(_ATTEMPTS):
            try:
                return await self._save_once(saving, rows)
            except DBAPIError as error:
                log.info("a batch of import %s is tried again: %s", saving.row.import_id, error)
                if _is_about_a_value(error):
                    break
        for one in rows:
            try:
                await self._save_once(saving, [one])
            except DBAPIError as error:
                if not _is_about_a_value(error):
                    raise
                await self._save_once(saving, [not_storable(one)])

    async def _save_once(self, saving: "_Saving", rows: Sequence[ReadRow]) -> None:
        row = saving.row
        async with self._database.transaction(row.tenant_id) as tx:
            locked = await imports.find(tx, row.import_id, locked=True)
            if locked is None or not locked.is_running or locked.position != saving.position:
                raise _Stopped
            listings = listings_of(rows)
            new = await imports.add_listings(tx, row.tenant_id, row.import_id, listings)
            rows = without_repeated(rows, set(listings) - new)
            commands = [one.commands for one in rows if one.commands]
            saved = await self._store.save(tx, row.tenant_id, row.user_id, commands)
            await self._report(tx, locked, rows, saved, saving)
        saving.position, saving.since = rows[-1].source.after, time.monotonic()
        self._enqueued(saved.noticed)
        try:
            await self._publishing.publish_listings(row.tenant_id, saved.changed)
        except BrokerUnavailable as error:
            log.info("%d listings of import %s are left to reconcile: %s", len(saved.changed), row.import_id, error)

    async def _report(
        self, tx: AsyncConnection, locked: ImportRow, rows: Sequence[ReadRow], saved: BatchSaved, saving: "_Saving"
    ) -> None:
        """Write the lines of the report, and move the checkpoint."""
        problems = list[Problem]()
        counts = dict.fromkeys(("saved", "updated", "unchanged", "refused"), 0)
        for one in rows:
            outcome, found = outcome_of(one, saved)
            counts[COUNTED[outcome]] += 1
            problems += found
        problems = problems[: max(MAX_REPORTED - locked.reported, 0)]
        await imports.add_problems(tx, locked.tenant_id, locked.import_id, problems)
        seconds = time.monotonic() - saving.since
        to = rows[-1].source.after
        await imports.advance(tx, locked, to, RowCounts(**counts), len(problems), seconds)


def _looked_at(head: bytes, row: ImportRow) -> tuple[Layout, ImportMapping]:
    """How a file is written, and what its columns mean. Raises FileUnreadable."""
    layout, columns = import_files.columns_of(head)
    mapping = ImportMapping(columns=row.mapping or guess(columns), defaults=row.defaults)
    if problems := check(mapping, columns):
        raise FileUnreadable(f"{problems[0].name}: {problems[0].reason}")
    return layout, mapping


class _Saving:
    """An import while its rows are saved: where it is, and since when it works on the next rows."""

    def __init__(self, row: ImportRow) -> None:
        assert row.sha256
        assert row.mapping is not None
        self.row = row
        self.position = row.position
        self.since = time.monotonic()
        self.reading = Reading(
            ImportMapping(columns=row.mapping, defaults=row.defaults), row.tenant_id, row.user_id, row.sha256
        )


def _is_about_a_value(error: DBAPIError) -> bool:
    return str(getattr(error.orig, "sqlstate", None)).startswith(_DATA_EXCEPTION)
