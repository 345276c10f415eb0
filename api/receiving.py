"""Receives files in a multipart/form-data body: each streams to the object storage, none is held in memory whole."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any
from uuid import UUID

from fastapi import Request
from starlette.requests import ClientDisconnect

from adapters import uploads
from adapters.objects import ObjectsUnavailable
from adapters.postgres import DatabaseUnavailable
from adapters.uploads import Upload
from api.commands import new_id
from api.deps import Parts
from api.errors import ApiError, unavailable
from api.multipart import (
    MEDIA_TYPE,
    OVERHEAD_BYTES,
    FileBegan,
    FileData,
    FileEnded,
    FormEvent,
    FormLimits,
    MultipartReader,
    clean_media_type,
    too_large,
)
from api.tokens import Caller
from domain.model import Model

IDLE_SECONDS = 30.0
"""Between two chunks of a body: a phone that loses its connection for longer begins again."""
REQUEST_SECONDS = 60.0
"""For a whole body, and a second more for each of _SENT_BYTES that it may have: 15 minutes for 50 MB."""
_SENT_BYTES = 60_000
"""A second, from a phone with a poor connection."""
STORE_SECONDS = 15.0
"""For a file to the object storage, with attempts, and a second more for each of _STORED_BYTES."""
_STORED_BYTES = 2_000_000
"""A second: a storage that takes fewer is as good as unavailable, and somebody waits."""
_SPOOL_BYTES = 1024 * 1024
"""Collected before they are written to the file and hashed in a thread, which takes about a millisecond."""
_MEGABYTE = 1_000_000
_DISK = "Room for files that are being sent"
RECEIVING_PROBLEMS = (
    "missing-boundary",
    "malformed-multipart",
    "truncated-body",
    "too-slow",
    "no-file",
    "wrong-field",
    "too-many-files",
    "file-too-large",
)
"""The problems of a route that receives files, besides those of every command."""


class SentFile(Model):
    """A file as its request is recognized by when it is repeated."""

    name: str
    size: int
    sha256: str


class SentFiles(Model):
    """The body of a request with files, for the fingerprint of its `Idempotency-Key`."""

    files: tuple[SentFile, ...]
    fields: dict[str, str]


@dataclass(frozen=True)
class Received:
    """The files of a request, each a completed upload, and the other fields of the form."""

    files: list[Upload]
    fields: dict[str, str]

    @property
    def body(self) -> SentFiles:
        files = [SentFile(name=one.file_name, size=one.size, sha256=(one.sha256 or b"").hex()) for one in self.files]
        return SentFiles(files=tuple(files), fields=self.fields)


async def receive_files(
    request: Request,
    parts: Parts,
    caller: Caller,
    *,
    most_files: int,
    most_bytes: int,
    most_total: int | None = None,
    property_id: UUID | None = None,
    field: str = "files",
    fields: Collection[str] = (),
) -> Received:
    """Read the body and store each file as a completed upload of the caller.

    `most_bytes` is of a file, `most_total` of all files together; `fields` are the names of other fields. The next file
    is read once the last is stored, so that a request takes a megabyte of memory, and a slow storage slows the client.

    Raises ApiError too-many-requests, unavailable, or one of RECEIVING_PROBLEMS. What is stored of a request that fails
    is deleted; what a process leaves that is killed, or while something is unavailable, the sweep deletes.
    """
    content_type = request.headers.get("content-type", "")
    if clean_media_type(content_type) != MEDIA_TYPE:
        raise ApiError("unsupported-media-type", f"Send {MEDIA_TYPE}, not {content_type[:100] or 'an empty body'}.")
    limits = FormLimits(most_files, most_bytes, most_total or most_bytes * most_files, field, fields)
    reader = MultipartReader(content_type, limits)
    await _count(request, parts, caller, limits)
    receiving = _Receiving(parts, caller, property_id)
    try:
        async for chunk in _chunks(request, limits.total_bytes):
            for event in reader.read(chunk):
                await receiving.take(event)
        reader.finish()
    except ApiError as error:
        # While something is unavailable, deleting would only wait for it: the sweep does it.
        if error.kind != "unavailable":
            await discard(parts, receiving.files)
        raise
    finally:
        receiving.close()
    return Received(receiving.files, reader.fields)


async def discard(parts: Parts, some: Sequence[Upload]) -> None:
    """Delete uploads that nothing refers to; those that cannot be deleted are left to the sweep."""
    with suppress(ObjectsUnavailable, DatabaseUnavailable):
        await uploads.delete_uploads(parts.database, parts.objects, some)


def form_body(field: str, *, several: bool, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a route that receives files; `fields` are the schemas of other fields."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1} if several else file
    schema = {"type": "object", "required": [field], "properties": {field: files, **(fields or {})}}
    example = {field: ["..."] if several else "..."}
    return {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": schema, "example": example}}}}


async def _count(request: Request, parts: Parts, caller: Caller, limits: FormLimits) -> None:
    """Check the announced size, and count it. Raises ApiError file-too-large or too-many-requests."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else limits.total_bytes
    if size > limits.total_bytes + OVERHEAD_BYTES:
        raise too_large(limits)
    await count_megabytes(parts, caller, size)


async def count_megabytes(parts: Parts, caller: Caller, size: int) -> None:
    """Count what a user sends. Raises ApiError too-many-requests."""
    most, weight = parts.settings.upload_megabytes_per_minute, -(-size // _MEGABYTE)
    who = str(caller.user_id)
    await parts.limits.count(caller.tenant_id, "upload-megabytes", who, most, weight=weight, unit="megabytes")


async def _chunks(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body, of up to `most_bytes`. Raises ApiError too-slow or truncated-body."""
    seconds = REQUEST_SECONDS + most_bytes / _SENT_BYTES
    stream, deadline = request.stream(), asyncio.get_running_loop().time() + seconds
    try:
        while True:
            left = deadline - asyncio.get_running_loop().time()
            async with asyncio.timeout(min(IDLE_SECONDS, left)):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            yield chunk
    except TimeoutError as error:
        raise ApiError("too-slow") from error
    except ClientDisconnect as error:
        raise ApiError("truncated-body") from error


@contextmanager
def _translate_disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # mostly ENOSPC
        raise unavailable(_DISK) from error


class _Receiving:
    """Stores the files of one request, one at a time."""

    def __init__(self, parts: Parts, caller: Caller, property_id: UUID | None) -> None:
        self._parts = parts
        self._caller = caller
        self._property_id = property_id
        self.files: list[Upload] = []
        self._began = FileBegan("", "")
        self._open = ExitStack()
        self._file: IO[bytes] | None = None
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._size = self._spooled = 0

    async def take(self, event: FormEvent) -> None:
        match event:
            case FileBegan():
                self._began, self._hash, self._size = event, hashlib.sha256(), 0
                with _translate_disk_errors():
                    # Without a name, so that nothing is left of it.
                    self._file = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 closed by `close`
            case FileData():
                self._buffer += event.data
                if len(self._buffer) >= _SPOOL_BYTES:
                    await self._write()
            case FileEnded():
                await self._write()
                await self._store()
                self.close()

    def close(self) -> None:
        # Closing writes what a failed write has left, which fails as well; the file is gone either way.
        with suppress(OSError):
            self._open.close()
        self._parts.spool.give_back(self._spooled)
        self._spooled = 0

    async def _write(self) -> None:
        assert self._file
        data, file, hashed = bytes(self._buffer), self._file, self._hash
        self._buffer.clear()
        self._size += len(data)
        if not self._parts.spool.take(len(data), self._parts.settings.upload_spool_megabytes * _MEGABYTE):
            raise unavailable(_DISK)
        self._spooled += len(data)

        def write() -> None:
            hashed.update(data)
            file.write(data)

        with _translate_disk_errors():
            await asyncio.to_thread(write)

    async def _store(self) -> None:
        """Store the file: its row, its object, and then that it is complete.

        So a process that is killed leaves at most an upload that is not completed, which the sweep deletes.
        """
        assert self._file
        if not self._size:
            if self._began.name:
                raise ApiError("no-file", f"{self._began.name} is empty. Choose another file.")
            return  # a field of a browser whose file nobody has chosen
        upload = Upload(
            tenant_id=self._caller.tenant_id,
            upload_id=new_id(),
            user_id=self._caller.user_id,
            property_id=self._property_id,
            file_name=self._began.name or "file",
            media_type=self._began.media_type,
            size=self._size,
            sha256=self._hash.digest(),
            created_at=datetime.now(UTC),
        )
        async with self._parts.database.statements(upload.tenant_id) as connection:
            await uploads.begin(connection, upload)
        try:
            async with asyncio.timeout(STORE_SECONDS + upload.size / _STORED_BYTES):
                await self._parts.objects.put(upload.key, self._file, upload.media_type)
        except (ObjectsUnavailable, TimeoutError) as error:
            raise unavailable("The object storage") from error
        async with self._parts.database.statements(upload.tenant_id) as connection:
            completed = await uploads.complete(connection, upload.upload_id)
        if completed is None:
            # The account was erased in the meantime.
            await discard(self._parts, [upload])
            raise ApiError("account-closed")
        self.files.append(completed)
