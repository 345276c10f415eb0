"""Objects on a real S3: ranges, copies, deletion by prefix, and URLs to which clients write."""

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from adapters.objects import Content, Objects, ObjectsUnavailable
from adapters.settings import Settings


@pytest.fixture(scope="module")
def objects(settings: Settings) -> Objects:
    return Objects(settings)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def put(objects: Objects, key: str, content: bytes) -> None:
    await objects.put(key, io.BytesIO(content), "image/jpeg")


async def read(content: Content | None) -> bytes | None:
    return None if content is None else b"".join([chunk async for chunk in content.chunks])


async def test_object_is_read_whole_and_in_ranges(objects: Objects, tenant: str) -> None:
    await put(objects, f"{tenant}/a", b"0123456789")

    assert await read(await objects.get(f"{tenant}/a")) == b"0123456789"
    assert await read(await objects.get(f"{tenant}/a", 2, 4)) == b"234"
    assert await read(await objects.get(f"{tenant}/a", 7)) == b"789"
    assert await read(await objects.get(f"{tenant}/a", 0, 0)) == b"0"
    ranged, whole = await objects.get(f"{tenant}/a", 2, 4), await objects.find(f"{tenant}/a")
    assert ranged
    assert whole
    assert (ranged.size, whole.size) == (3, 10)
    assert ranged.etag == whole.etag
    ranged.close()


async def test_etag_is_of_the_bytes(objects: Objects, tenant: str) -> None:
    for key, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        await put(objects, f"{tenant}/{key}", content)

    a, b, c = [await objects.find(f"{tenant}/{key}") for key in "abc"]

    assert a == b
    assert a
    assert c
    assert a.etag != c.etag


async def test_missing_object_is_none(objects: Objects, tenant: str, tmp_path: Path) -> None:
    key = f"{tenant}/nothing"

    assert await objects.get(key) is None
    assert await objects.find(key) is None
    assert not await objects.copy(key, f"{tenant}/copy")
    assert not await objects.download(key, tmp_path / "file")
    await objects.delete(key)
    await objects.delete_keys([key])


async def test_object_is_copied_and_downloaded(objects: Objects, tenant: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    await put(objects, f"{tenant}/a", content)
    parts = []

    assert await objects.copy(f"{tenant}/a", f"{tenant}/b")
    assert await objects.download(f"{tenant}/b", tmp_path / "file", lambda: parts.append(1))

    assert (tmp_path / "file").read_bytes() == content
    assert parts


async def test_objects_are_deleted_by_prefix_only(objects: Objects, tenant: str) -> None:
    for key in ("a/1", "a/2", "ab/1"):
        await put(objects, f"{tenant}/{key}", b"x")

    assert await objects.folders(f"{tenant}/") == [f"{tenant}/a/", f"{tenant}/ab/"]
    assert await objects.delete_prefix(f"{tenant}/a/") == 2
    assert await objects.delete_prefix(f"{tenant}/a/") == 0
    assert [key async for key in objects.keys(f"{tenant}/")] == [f"{tenant}/ab/1"]


async def test_young_objects_are_not_listed_as_old(objects: Objects, tenant: str) -> None:
    await put(objects, f"{tenant}/a", b"x")
    now = datetime.now(UTC)

    assert [key async for key in objects.keys(f"{tenant}/", older_than=now - timedelta(hours=1))] == []
    assert [key async for key in objects.keys(f"{tenant}/", older_than=now + timedelta(hours=1))] == [f"{tenant}/a"]


async def test_client_writes_exactly_what_was_signed(objects: Objects, client: httpx.AsyncClient, tenant: str) -> None:
    key, headers = f"{tenant}/upload", {"Content-Type": "image/jpeg"}
    url = await objects.presigned_put(key, 5, "image/jpeg", 60)

    async def chunked() -> AsyncIterator[bytes]:
        yield b"12345"

    refused = [
        await client.put(url, content=b"123456", headers=headers),
        await client.put(url, content=b"1234", headers=headers),
        await client.put(url, content=chunked(), headers=headers),
        await client.put(url, content=b"12345", headers={"Content-Type": "text/html"}),
        await client.put(url.replace("/upload?", "/other?"), content=b"12345", headers=headers),
        await client.get(url),
    ]

    assert {answer.status_code for answer in refused} == {403}
    assert await objects.find(key) is None
    taken = await client.put(url, content=b"12345", headers=headers)
    assert taken.status_code == 200, taken.text
    assert await read(await objects.get(key)) == b"12345"


async def test_url_ends(objects: Objects, client: httpx.AsyncClient, tenant: str) -> None:
    url = await objects.presigned_put(f"{tenant}/late", 5, "image/jpeg", 60)
    signed = httpx.URL(url)
    old = signed.copy_set_param("X-Amz-Date", "20200101T000000Z")

    assert (await client.put(old, content=b"12345", headers={"Content-Type": "image/jpeg"})).status_code == 403


async def test_url_is_at_the_public_endpoint(settings: Settings) -> None:
    public = settings.model_copy(update={"s3_public_url": "https://files.example"})

    assert (await Objects(public).presigned_put("a", 1, "text/csv", 60)).startswith("https://files.example/")


async def test_storage_that_does_not_answer_is_unavailable(settings: Settings) -> None:
    nowhere = Objects(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))

    with pytest.raises(ObjectsUnavailable):
        await nowhere.find("a")
    with pytest.raises(ObjectsUnavailable):
        await nowhere.get("a")
