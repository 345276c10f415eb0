"""Requests to import a file: a form with the file, or JSON that names an upload; and what such an import would do."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy import select

from adapters import import_files, import_preview, uploads
from adapters.objects import ObjectsUnavailable
from adapters.tables import users
from adapters.uploads import Upload
from api.answers import Sender
from api.deps import Parts
from api.errors import ApiError, FieldError, unavailable
from api.import_models import FormFields, ImportPreview, ImportRequest, PreviewedRows, RefusedField
from api.receiving import RECEIVING_PROBLEMS, discard, form_body, receive_files
from api.tokens import Caller
from domain.import_batches import Reading
from domain.import_mapping import ImportMapping, MappingProblem, check, guess
from domain.import_reading import FileUnreadable, Layout
from domain.import_rows import FieldProblem
from domain.imports import MAX_BYTES
from domain.model import Model
from domain.property_commands import Sender as Decider

IMPORT_PROBLEMS = (*RECEIVING_PROBLEMS, "unreadable-file")
PREVIEWED = 1000
"""Rows of a dry run: they take a second, for which the caller waits."""
_BATCH = 100
"""Rows that are read at once, in a thread: others are answered meanwhile."""
_SHOWN = 50
"""Refusals of a dry run that are answered."""
_FIELDS = ("mapping", "defaults", "dryRun")


_JSON_TEXT: dict[str, Any] = {"type": "string", "contentMediaType": "application/json"}
IMPORT_BODY = form_body(
    "file",
    several=False,
    fields={
        "mapping": {**_JSON_TEXT, "description": "As in JSON: the field of each column"},
        "defaults": {**_JSON_TEXT, "description": "As in JSON: the values of fields for rows that state none"},
        "dryRun": {"type": "string", "enum": ["true", "false"]},
    },
)
IMPORT_BODY["requestBody"]["content"]["application/json"] = {"schema": {"$ref": "#/components/schemas/ImportRequest"}}


@dataclass(frozen=True)
class FileToImport:
    """A file that can be imported: it was looked at."""

    upload: Upload
    received: bool
    """Whether the request has sent it."""
    wanted: ImportRequest
    body: Model
    """What the request is recognized by when it is repeated."""
    layout: Layout
    columns: tuple[str, ...]
    mapping: ImportMapping


async def file_to_import(request: Request, sender: Sender) -> FileToImport:
    """The file of a request. Raises ApiError unreadable-file, invalid-request, not-found, or as `receive_files`."""
    parts, caller = sender.parts, sender.caller
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        received = await receive_files(
            request, parts, caller, most_files=1, most_bytes=MAX_BYTES, field="file", fields=_FIELDS
        )
        [upload] = received.files
        try:
            given = _read(FormFields, _fields(received.fields))
            wanted = ImportRequest(upload_id=upload.upload_id, **dict(given))
            return await _looked_at(parts, upload, True, wanted, received.body)
        except (ApiError, RequestValidationError):
            await discard(parts, [upload])
            raise
    wanted = _read(ImportRequest, orjson.loads(await request.body() or b"{}"))
    if wanted.dry_run:  # others are counted when they are sent, and a form when it is received
        limit = parts.settings.commands_per_minute
        await parts.limits.count(caller.tenant_id, "commands", str(caller.user_id), limit)
    async with parts.database.statements(caller.tenant_id) as connection:
        upload_found = await uploads.claim(connection, wanted.upload_id, caller.user_id)
    if upload_found is None:
        detail = "You have no completed upload with this id. It may have been deleted after a day: send the file again."
        raise ApiError("not-found", detail)
    return await _looked_at(parts, upload_found, False, wanted, wanted)


async def _looked_at(parts: Parts, upload: Upload, received: bool, wanted: ImportRequest, body: Model) -> FileToImport:
    if upload.size > MAX_BYTES:
        raise ApiError("file-too-large", f"Send at most {MAX_BYTES // 1_000_000} MB.")
    try:
        head = await import_files.head_of(parts.objects, upload.key)
        looked_at = await asyncio.to_thread(_columns_of, head, wanted)
    except FileUnreadable as error:
        raise ApiError("unreadable-file", str(error)) from error
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    layout, columns, mapping, problems = looked_at
    if problems:
        errors = [
            FieldError(field=f"{_part(problem.name, columns, mapping)}.{problem.name}", reason=problem.reason)
            for problem in problems[:50]
        ]
        raise ApiError("invalid-request", f"The columns are {', '.join(columns)[:500]}.", errors=errors)
    return FileToImport(upload, received, wanted, body, layout, tuple(columns), mapping)


def _part(name: str, columns: Sequence[str], mapping: ImportMapping) -> str:
    """The part of the request that a problem is about."""
    is_default = name in mapping.defaults and name not in columns and name not in mapping.columns
    return "defaults" if is_default else "mapping"


def _columns_of(
    head: bytes, wanted: ImportRequest
) -> tuple[Layout, Sequence[str], ImportMapping, Sequence[MappingProblem]]:
    """How a file is written, its columns, what they mean, and what is wrong with that. Raises FileUnreadable."""
    layout, columns = import_files.columns_of(head)
    columns_given = guess(columns) if wanted.mapping is None else wanted.mapping
    mapping = ImportMapping(columns=columns_given, defaults=wanted.defaults)
    return layout, columns, mapping, check(mapping, columns)


def _fields(given: dict[str, str]) -> dict[str, Any]:
    """The fields of a form as the values that they are written for."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        try:
            values[name] = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            reason = f"Send {'true or false' if name == 'dryRun' else 'a JSON object'}."
            raise ApiError("invalid-request", errors=[FieldError(field=name, reason=reason)]) from error
    return values


def _read(model: Any, value: Any) -> Any:
    """The model of a body. Raises RequestValidationError."""
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from error


async def preview_of(parts: Parts, caller: Caller, file: FileToImport) -> ImportPreview:
    """What would become of the first rows. Raises ApiError unreadable-file or unavailable."""
    upload = file.upload
    decider = Decider(user_id=caller.user_id, role=caller.role, owner_must_verify=await _must_verify(parts, caller))
    preview = import_preview.Preview()
    complete = True
    try:
        digest = upload.sha256
        if digest is None:
            digest = await import_files.hash_of(parts.objects, upload.key)
            async with parts.database.statements(caller.tenant_id) as connection:
                await uploads.record_hash(connection, upload.upload_id, digest)
        reading = Reading(file.mapping, caller.tenant_id, caller.user_id, digest)
        rows = import_files.batches_of(parts.objects, upload.key, file.layout, file.layout.start, _BATCH)
        async with aclosing(rows) as batches:
            async for batch in batches:
                if preview.rows.read >= PREVIEWED:
                    complete = False
                    break
                read = await asyncio.to_thread(reading.read, batch, datetime.now(UTC))
                async with parts.database.statements(caller.tenant_id) as connection:
                    await import_preview.add(connection, preview, caller.tenant_id, decider, read)
    except FileUnreadable as error:
        raise ApiError("unreadable-file", str(error)) from error
    except ObjectsUnavailable as error:
        raise unavailable("The object storage") from error
    return ImportPreview(
        upload_id=upload.upload_id,
        format=file.layout.format,
        mapping=file.mapping.columns,
        ignored_columns=tuple(column for column in file.columns if column not in file.mapping.columns),
        rows=PreviewedRows(**dict(preview.rows)),
        complete=complete,
        refusals=tuple(_refused(line, problem) for line, problem in preview.problems[:_SHOWN]),
    )


def _refused(line: int, problem: FieldProblem) -> RefusedField:
    return RefusedField(line=line, field=problem.field, value=problem.value, reason=problem.reason)


async def _must_verify(parts: Parts, caller: Caller) -> bool:
    if caller.tenant_id not in parts.settings.verified_email_tenants:
        return False
    async with parts.database.statements(caller.tenant_id) as connection:
        query = select(users.c.email_verified).where(users.c.user_id == caller.user_id)
        return not (await connection.execute(query)).scalar_one_or_none()
