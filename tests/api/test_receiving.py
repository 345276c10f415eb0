"""Forms with files over HTTP: what is refused, before and while it is read, and what is left of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import func, select
from starlette.requests import Request

from adapters import tables
from adapters.objects import Content
from adapters.postgres import Database
from api import files, middleware, receiving
from api.errors import ApiError
from api.multipart import FileBegan, FileData
from api.origins import Origins
from api.spool import Spool
from tests.api.test_contract import assert_problem
from tests.files import pdf
from tests.platform import Person, Platform, until

EDGE = {"Content-Type": "multipart/form-data; boundary=edge"}
PART = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
END = b"\r\n--edge--\r\n"


@pytest.fixture
async def person(platform: Platform) -> Person:
    return await platform.register()


async def post(platform: Platform, person: Person | None, content: object, **headers: str) -> httpx.Response:
    sent = {**(person.headers if person else {}), **EDGE, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await platform.http.post("/api/files/upload", content=content, headers=sent)  # type: ignore[arg-type]


async def pending(database: Database, person: Person) -> list[bool]:
    """The uploads of a person: whether each is complete."""
    async with database.statements("hyderabad") as connection:
        query = select(tables.uploads.c.completed_at.is_not(None)).where(tables.uploads.c.user_id == person.id)
        return list((await connection.execute(query)).scalars())


@pytest.mark.parametrize(
    ("content", "headers", "kind"),
    [
        (PART + pdf() + END, {"Content-Type": "multipart/form-data"}, "missing-boundary"),
        (PART + pdf(), {}, "truncated-body"),
        (b"nonsense", {}, "malformed-multipart"),
        (b"--edge--\r\n", {}, "no-file"),
        (PART + END, {}, "no-file"),
        (PART.replace(b'"file"', b'"document"') + pdf() + END, {}, "wrong-field"),
        (PART + pdf() + b"\r\n" + PART + pdf() + END, {}, "too-many-files"),
        (pdf(), {"Content-Type": "application/pdf"}, "unsupported-media-type"),
        (b"{}", {"Content-Type": "application/json"}, "unsupported-media-type"),
        (PART + pdf() + END, {"Content-Encoding": "gzip"}, "unsupported-content-encoding"),
    ],
)
async def test_form_is_refused_by_name_and_nothing_is_kept(
    platform: Platform, database: Database, person: Person, content: bytes, headers: dict[str, str], kind: str
) -> None:
    assert_problem(await post(platform, person, content, **headers), kind)

    assert await pending(database, person) == []


async def test_too_large_a_file_is_refused_announced_or_not(
    platform: Platform, database: Database, person: Person
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield PART
        while sent < 200_000_000:
            sent += 1_000_000
            yield b"x" * 1_000_000

    announced = await post(platform, person, PART + b"x" * 21_000_000 + END)
    assert_problem(announced, "file-too-large")
    assert "20 MB" in announced.json()["detail"]
    assert_problem(await post(platform, person, endless()), "file-too-large")
    assert await pending(database, person) == []


async def test_stranger_is_refused_before_the_body_is_read(platform: Platform) -> None:
    """A client that waits for `100 Continue`, as curl does, is answered without sending the file."""
    url = urlsplit(platform.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = (
        f"POST /api/files/upload HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {EDGE['Content-Type']}\r\n"
        "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    writer.write(head.encode())
    status = await asyncio.wait_for(reader.readline(), 30)
    writer.close()

    assert status.split()[1] == b"401"


async def test_client_that_goes_away_leaves_nothing_complete(
    platform: Platform, database: Database, person: Person
) -> None:
    url = urlsplit(platform.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    token = person.headers["Authorization"]
    head = (
        f"POST /api/files/upload/multiple HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {EDGE['Content-Type']}\r\n"
        f"Authorization: {token}\r\nContent-Length: 1000000\r\n\r\n"
    )
    part = PART.replace(b'"file"', b'"files"')
    writer.write(head.encode() + part + pdf() + b"\r\n" + part)
    await writer.drain()

    async def stored() -> bool:
        return await pending(database, person) == [True]

    await until(stored)  # the first file is there
    writer.close()

    async def gone() -> bool:
        return await pending(database, person) == []

    await until(gone)
    async with database.statements("hyderabad") as connection:
        of_person = tables.documents.c.owner_id == person.id
        assert (await connection.execute(select(func.count()).where(of_person))).scalar_one() == 0


async def test_megabytes_of_a_minute_are_counted(platform: Platform, person: Person) -> None:
    answer = await post(platform, person, PART + pdf() + END)

    assert answer.status_code == 201, answer.text
    assert '"upload-megabytes";r=' in answer.headers["ratelimit"]


@pytest.mark.parametrize("setting", ["IDLE_SECONDS", "REQUEST_SECONDS"])
async def test_body_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    async def nothing_comes() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(receiving, setting, 0.01)
    request = Request({"type": "http", "method": "POST", "headers": []}, nothing_comes)

    with pytest.raises(ApiError) as refused:
        await anext(receiving._chunks(request, 0))

    assert refused.value.kind == "too-slow"


async def test_temporary_files_take_a_limited_part_of_the_disk() -> None:
    spool = Spool()
    parts: Any = SimpleNamespace(spool=spool, settings=SimpleNamespace(upload_spool_megabytes=1))
    caller: Any = None
    began, data = FileBegan("a.pdf", "application/pdf"), FileData(b"x" * 1_100_000)
    receiver = receiving._Receiving(parts, caller, None)
    await receiver.take(began)
    with pytest.raises(ApiError) as refused:
        await receiver.take(data)
    assert (refused.value.kind, refused.value.headers) == ("unavailable", {"Retry-After": "2"})
    receiver.close()

    assert spool.take(1_000_000, 1_000_000)
    assert not spool.take(1, 1_000_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
async def test_full_disk_is_answered_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: Any = SimpleNamespace(spool=Spool(), settings=SimpleNamespace(upload_spool_megabytes=200))
    caller: Any = None
    receiver = receiving._Receiving(parts, caller, None)
    with Path("/dev/full").open("wb", buffering=0) as full:  # noqa: ASYNC230 nothing is waited for
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        await receiver.take(FileBegan("a.pdf", "application/pdf"))
        with pytest.raises(ApiError) as refused:
            await receiver.take(FileData(b"x" * 1_100_000))
        receiver.close()

    assert refused.value.kind == "unavailable"
    assert parts.spool.take(200_000_000, 200_000_000)


async def test_json_that_does_not_come_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    async def nothing_comes() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no route sees it")

    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.01)
    path = "/api/properties"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": b"", "query_string": b"", "headers": []}

    await middleware.RequestChecks(app, 1024, Origins(()))(scope, nothing_comes, send)

    assert sent[0]["status"] == 408


async def test_connection_to_the_storage_is_closed_when_the_client_goes_away() -> None:
    closed, begun = [], asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        begun.set()
        while True:
            yield b"x" * 1000

    async def gone() -> dict[str, object]:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        await asyncio.sleep(0)

    content = Content(10**9, '"etag"', chunks(), lambda: closed.append(True))
    response = files._Streamed(content, 200, {}, "image/avif")

    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, gone, send)

    assert closed == [True]
