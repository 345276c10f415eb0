"""Imports of files with listings: /api/properties/import and /api/imports."""

import csv
import io
import logging
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from adapters import imports
from adapters.imports import ImportRow
from adapters.temporal import search_attributes_of_import
from api.answers import SenderDep, accepted, command_headers
from api.commands import Accepted
from api.deps import CallerDep, CursorText, Parts, PartsDep
from api.errors import ApiError, header_references, responses
from api.import_models import ImportPreview
from api.import_requests import IMPORT_BODY, IMPORT_PROBLEMS, file_to_import, preview_of
from api.openapi import SIGNED_IN, command, query
from api.paging import opened, page
from api.ranges import attachment
from api.receiving import discard
from api.tokens import Caller
from domain.imports import MAX_REPORTED, WORKFLOW, ImportOrder, ImportProperties, ImportStatus
from domain.model import Model
from workflows import options

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/imports", tags=["imports"])
start_router = APIRouter(prefix="/api/properties", tags=["imports"])

_PRIVATE = {"Cache-Control": "private, no-store"}
_CHANGE = (*SIGNED_IN, "invalid-request", "not-found", "import-finished", "too-many-requests", "unavailable")
_PAGE = 500
"""Lines of a report that one statement reads."""
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@|%]|[\t\r])")
"""Before what a spreadsheet takes for a formula (OWASP, CSV injection): at the beginning of a cell, and also after what
separates cells where a semicolon or a tab does, as in the Excel of many countries."""


class ImportedRows(Model):
    """Rows by what became of them."""

    read: int
    saved: int
    """New listings."""
    updated: int
    unchanged: int
    """Rows whose listing is as the row says, or that were imported before."""
    refused: int


class ShownImport(Model):
    """An import of a file with listings."""

    id: UUID
    status: ImportStatus
    """CANCELLED and FAILED: what was saved before stays."""
    reason: str | None
    """Why it has failed."""
    file_name: str
    size: int
    """Bytes."""
    rows: ImportedRows
    rows_per_second: float | None
    """Null while it is not known."""
    seconds_left: float | None
    """At that rate; null while it is not known, and once it is finished."""
    mapping: dict[str, str] | None
    """The field of each column that is read; null until the file was looked at."""
    report_lines: int
    """Lines of the report, which has 10,000 at most."""
    started_at: datetime
    finished_at: datetime | None


class ImportPage(Model):
    """Imports, newest first."""

    items: tuple[ShownImport, ...]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""


_IMPORT = command(201, ShownImport, "account-closed", "too-many-imports", "not-found", *IMPORT_PROBLEMS)
_IMPORT["responses"][200] = {"model": ImportPreview, "description": "With dryRun: what the import would do"}


@start_router.post("/import", **_IMPORT, openapi_extra=IMPORT_BODY)
async def import_properties(request: Request, sender: SenderDep) -> Response:
    """List the properties of a CSV or JSON Lines file: up to 100,000 rows and 200 MB.

    Send it as a form, or name a completed upload. Columns are recognized by their headers; a `mapping` names the field
    of each column that is to be read instead. Rows that cannot be listed are left out and reported. Each row is listed
    once: the same file again changes nothing, and in an edited one, rows with an `externalId` change their listing in
    what they state.
    With `dryRun` nothing is saved, and the answer says what would happen to the first 1,000 rows.
    """
    file = await file_to_import(request, sender)
    if file.wanted.dry_run:
        shown = await preview_of(sender.parts, sender.caller, file)
        return Response(shown.model_dump_json(by_alias=True), 200, _PRIVATE, "application/json")
    upload = file.upload
    try:
        outcome = await sender.send(
            ImportProperties,
            file.body,
            f"Import {upload.size} bytes",
            upload_id=upload.upload_id,
            file_name=upload.file_name,
            size=upload.size,
            mapping=file.mapping.columns,
            defaults=orjson.dumps(file.wanted.defaults).decode(),
        )
    except ApiError as error:
        if file.received and error.kind not in {"unavailable", "command-running"}:
            await discard(sender.parts, [upload])
        raise
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    row = await _find(sender.parts, sender.caller, outcome.saved.aggregate_id)
    if file.received and row.upload_id != upload.upload_id:
        await discard(sender.parts, [upload])  # an earlier request with the same key has sent it
    headers = {
        **command_headers(sender.parts, sender.caller.user_id, outcome),
        "ETag": f'"{outcome.saved.version}"',
        "Location": f"/api/imports/{row.import_id}",
    }
    return _answer(row, 201, headers)


@router.get("", **query(ImportPage, "invalid-request", "invalid-cursor"))
async def list_imports(
    caller: CallerDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The imports of the caller, newest first."""
    purpose = f"imports:{caller.tenant_id}:{caller.user_id}"
    position = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(caller.tenant_id) as connection:
        found, after = await imports.of_user(connection, caller.user_id, limit, position)
    items = (shown(row).model_dump_json(by_alias=True).encode() for row in found)
    return page(items, parts.signer.sign(purpose, after) if after else None, _PRIVATE)


@router.get("/{import_id}", **query(ShownImport, "invalid-request", "not-found"))
async def get_import(import_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """An import of the caller, and how far it has come."""
    return _answer(await _find(parts, caller, import_id))


_REPORT = query("Report", "invalid-request", "not-found")
_REPORT["responses"][200] = {
    "description": "A CSV file: line, field, value, reason",
    "content": {"text/csv": {"schema": {"type": "string"}}},
    "headers": header_references(),
}


@router.get("/{import_id}/report", response_class=StreamingResponse, **_REPORT)
async def get_report(import_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """The report of an import as CSV: why rows are refused, and which may be duplicates, of 10,000 lines at most.

    Each cell is in quotes, and what a spreadsheet would take for a formula has an apostrophe before it.
    """
    row = await _find(parts, caller, import_id)
    headers = {**_PRIVATE, "Content-Disposition": attachment(f"report-{row.started_at:%Y-%m-%d}.csv")}
    return StreamingResponse(_report(parts, row), 200, headers, "text/csv; charset=utf-8")


@router.post("/{import_id}/pause", status_code=200, response_model=ShownImport, responses=responses(*_CHANGE))
async def pause_import(import_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Pause an import: once it is answered, no further row is saved. Idempotent."""
    return await _set(parts, caller, import_id, ImportStatus.PAUSED)


@router.post("/{import_id}/resume", status_code=200, response_model=ShownImport, responses=responses(*_CHANGE))
async def resume_import(import_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Go on with an import where it was paused. Idempotent."""
    return await _set(parts, caller, import_id, ImportStatus.RUNNING)


@router.delete("/{import_id}", status_code=200, response_model=ShownImport, responses=responses(*_CHANGE))
async def cancel_import(import_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Cancel an import: once it is answered, no further row is saved. The listings that were saved stay. Idempotent."""
    return await _set(parts, caller, import_id, ImportStatus.CANCELLED)


_FROM = {
    ImportStatus.PAUSED: (ImportStatus.RUNNING, ImportStatus.PAUSED),
    ImportStatus.RUNNING: (ImportStatus.RUNNING, ImportStatus.PAUSED),
    ImportStatus.CANCELLED: (ImportStatus.RUNNING, ImportStatus.PAUSED, ImportStatus.CANCELLED),
}
"""The statuses that may be changed to each."""


async def _set(parts: Parts, caller: Caller, import_id: UUID, status: ImportStatus) -> Response:
    limit = parts.settings.commands_per_minute
    await parts.limits.count(caller.tenant_id, "commands", str(caller.user_id), limit)
    before = await _find(parts, caller, import_id)
    async with parts.database.statements(caller.tenant_id) as connection:
        changed = await imports.set_status(connection, import_id, status, _FROM[status])
    row = await _find(parts, caller, import_id)
    if not changed and row.status != status:
        raise ApiError("import-finished", f"It is {row.status}. {_AGAIN}")
    if changed and status is not ImportStatus.PAUSED and before.status != status:
        await _wake(parts.temporal, row)
    return _answer(row)


_AGAIN = "Send the file again to import it anew: what is listed already is not listed twice."


async def _wake(client: Client, row: ImportRow) -> None:
    """Have the workflow go on, or start it if its pause has ended it. If Temporal is unavailable, reconcile does."""
    order = ImportOrder(tenant_id=row.tenant_id, import_id=row.import_id, user_id=row.user_id)
    try:
        await client.start_workflow(
            WORKFLOW,
            order,
            id=order.workflow_id,
            task_queue=options.IMPORTS,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="changed",
            search_attributes=search_attributes_of_import(order),
        )
    except (RPCError, RuntimeError) as error:
        log.warning("import %s is left to reconcile: %s", row.import_id, error)


async def _find(parts: Parts, caller: Caller, import_id: UUID) -> ImportRow:
    """An import of the caller. Raises ApiError not-found."""
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await imports.find(connection, import_id)
    if found is None or found.user_id != caller.user_id:
        raise ApiError("not-found", "You have no import with this id. Check the id.")
    return found


def _answer(row: ImportRow, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = shown(row).model_dump_json(by_alias=True)
    return Response(body, status, {**_PRIVATE, **(headers or {})}, "application/json")


def shown(row: ImportRow) -> ShownImport:
    """An import as the API returns it."""
    per_second = row.row / row.working_seconds if row.row and row.working_seconds else None
    left = None
    is_running = row.status == ImportStatus.RUNNING
    if is_running and row.byte_offset and row.working_seconds:
        left = (row.size - row.byte_offset) * row.working_seconds / row.byte_offset
    return ShownImport(
        id=row.import_id,
        status=ImportStatus(row.status),
        reason=row.reason,
        file_name=row.file_name,
        size=row.size,
        rows=ImportedRows(**dict(row.counts)),
        rows_per_second=None if per_second is None or row.status == ImportStatus.PAUSED else round(per_second, 1),
        seconds_left=None if left is None else round(max(left, 0), 1),
        mapping=row.mapping,
        report_lines=row.reported,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


async def _report(parts: Parts, row: ImportRow) -> AsyncIterator[bytes]:
    # Excel takes a file for UTF-8, with its rupee signs, if it begins with a byte order mark.
    yield "\N{BYTE ORDER MARK}".encode() + _line("line", "field", "value", "reason")
    after, lines = (0, -1), 0
    while True:
        async with parts.database.statements(row.tenant_id) as connection:
            found = await imports.problems_of(connection, row.import_id, after, _PAGE)
        if found:
            yield b"".join(_line(one.line, one.field, one.value, one.reason) for one in found)
            after, lines = (found[-1].row, found[-1].number), lines + len(found)
        if len(found) < _PAGE:
            break
    if lines >= MAX_REPORTED:
        last = f"The report ends after {MAX_REPORTED} lines. Correct these rows and send the file again."
        yield _line("", "", "", last)


def _line(*cells: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerow([_harmless(cell) for cell in cells])
    return out.getvalue().encode(errors="replace")


def _harmless(cell: Any) -> Any:
    return _FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell
