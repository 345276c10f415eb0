"""Uploads past the API: to a URL of the object storage, and then used once."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from adapters.objects import Objects
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.uploads import find_upload, lock_upload
from tests.api.test_contract import assert_problem
from tests.api.test_files import ready
from tests.api.test_images import photo, settled
from tests.files import pdf
from tests.platform import Person, Platform, until
from tests.samples import new_id


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


async def begin(platform: Platform, person: Person, content: bytes, **more: Any) -> httpx.Response:
    body = {"fileName": "deed.pdf", "contentType": "application/pdf", "size": len(content), **more}
    return await platform.http.post("/api/files/uploads", json=body, headers=person.headers)


async def put(begun: dict[str, Any], content: bytes) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.request(begun["method"], begun["url"], content=content, headers=begun["headers"])
    return answer.status_code


async def complete(platform: Platform, person: Person, upload_id: str, **more: str) -> httpx.Response:
    headers = {**person.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
    return await platform.http.post(f"/api/files/uploads/{upload_id}/complete", headers=headers)


async def sent(platform: Platform, person: Person, content: bytes, **more: Any) -> dict[str, Any]:
    """An upload whose file is at the object storage."""
    answer = await begin(platform, person, content, **more)
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    assert await put(begun, content) == 200
    return begun


async def test_pdf_becomes_a_document_once(platform: Platform, owner: Person) -> None:
    begun = await sent(platform, owner, pdf(), fileName="घर.pdf")
    pending = await platform.http.get(f"/api/files/uploads/{begun['uploadId']}", headers=owner.headers)
    assert (pending.json()["status"], pending.json()["fileName"]) == ("PENDING", "घर.pdf")

    first = await complete(platform, owner, begun["uploadId"])
    assert first.status_code == 201, first.text
    document = await ready(platform, owner, first.json()["id"])
    again = await complete(platform, owner, begun["uploadId"])  # its upload is deleted by then

    assert (document["status"], document["fileName"]) == ("READY", "घर.pdf")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    read = await platform.http.get(f"/api/files/{document['id']}", headers=owner.headers)
    assert read.content == pdf()


async def test_image_becomes_a_picture_of_its_listing_once(platform: Platform, owner: Person) -> None:
    path = (await platform.create(owner)).headers["location"]
    content = photo("maroon")
    about = {"contentType": "image/jpeg", "fileName": "a.jpg", "propertyId": path.rpartition("/")[2]}
    begun = await sent(platform, owner, content, **about)

    assert_problem(await complete(platform, owner, begun["uploadId"]), "precondition-required")
    assert_problem(await complete(platform, owner, begun["uploadId"], If_Match='"7"'), "version-conflict")
    first, again = [await complete(platform, owner, begun["uploadId"], If_Match='"1"') for _ in range(2)]

    assert first.status_code == 201, first.text
    assert again.json() == first.json()
    [image] = await settled(platform, owner, path)
    assert (image["status"], image["fileName"]) == ("READY", "a.jpg")


async def test_file_to_import_waits_for_its_import(platform: Platform, owner: Person) -> None:
    begun = await sent(platform, owner, b"title,price\n", contentType="text/csv", fileName="flats.csv")
    assert begun["maxBytes"] == 200_000_000

    completed = await complete(platform, owner, begun["uploadId"])

    assert completed.status_code == 201, completed.text
    assert (completed.json()["status"], completed.json()["size"]) == ("COMPLETED", 12)
    assert completed.headers["location"] == f"/api/files/uploads/{begun['uploadId']}"


async def test_completed_file_cannot_be_replaced(
    platform: Platform, database: Database, settings: Settings, owner: Person
) -> None:
    begun = await sent(platform, owner, b"first", contentType="text/csv")
    await complete(platform, owner, begun["uploadId"])

    assert await put(begun, b"other") == 200  # the URL is good for 15 minutes
    async with database.statements("hyderabad") as connection:
        upload = await find_upload(connection, UUID(begun["uploadId"]))
    assert upload
    content = await Objects(settings).get(upload.key)
    assert content
    assert b"".join([chunk async for chunk in content.chunks]) == b"first"


async def test_upload_that_is_completed_several_times_at_once_is_copied_once(
    platform: Platform, database: Database, owner: Person
) -> None:
    begun = await sent(platform, owner, b"first", contentType="text/csv")
    async with database.transaction("hyderabad") as tx:
        assert await lock_upload(tx, UUID(begun["uploadId"]))
        completing = [asyncio.create_task(complete(platform, owner, begun["uploadId"])) for _ in range(3)]

        async def all_wait() -> bool:
            blocked = text("SELECT count(*) FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid))")
            me = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with database.statements() as connection:
                return bool((await connection.execute(blocked, {"me": me})).scalar_one() >= 1)

        await until(all_wait)

    answers = await asyncio.gather(*completing)

    assert [answer.status_code for answer in answers] == [201] * 3, [answer.text for answer in answers]
    assert len({answer.text for answer in answers}) == 1


async def test_upload_is_completed_only_once_its_file_is_there(platform: Platform, owner: Person) -> None:
    begun = (await begin(platform, owner, pdf())).json()

    assert_problem(await complete(platform, owner, begun["uploadId"]), "upload-incomplete")
    assert await put(begun, pdf() + b"more") == 403
    assert_problem(await complete(platform, owner, begun["uploadId"]), "upload-incomplete")
    assert await put(begun, pdf()) == 200
    assert (await complete(platform, owner, begun["uploadId"])).status_code == 201


async def test_upload_is_of_who_began_it(platform: Platform, owner: Person) -> None:
    other = await platform.register()
    begun = await sent(platform, owner, pdf())

    for upload_id in (begun["uploadId"], str(new_id())):
        assert_problem(await complete(platform, other, upload_id), "not-found")
        answer = await platform.http.get(f"/api/files/uploads/{upload_id}", headers=other.headers)
        assert_problem(answer, "not-found")


@pytest.mark.parametrize(
    ("more", "kind", "field"),
    [
        ({"contentType": "text/html"}, "invalid-request", "contentType"),
        ({"contentType": "video/mp4"}, "invalid-request", "contentType"),
        ({"size": 0}, "invalid-request", "size"),
        ({"size": 200_000_001}, "invalid-request", "size"),
        ({"fileName": ""}, "invalid-request", "fileName"),
        ({"fileName": "x" * 256}, "invalid-request", "fileName"),
        ({"size": 20_000_001}, "file-too-large", None),
        ({"propertyId": str(new_id())}, "not-found", None),
        ({"propertyId": "none"}, "invalid-request", "propertyId"),
    ],
)
async def test_upload_that_cannot_be_used_does_not_begin(
    platform: Platform, owner: Person, more: dict[str, Any], kind: str, field: str | None
) -> None:
    assert_problem(await begin(platform, owner, pdf(), **more), kind, field)


async def test_upload_for_a_listing_is_for_its_owner_and_has_its_limits(platform: Platform, owner: Person) -> None:
    listing = (await platform.create(owner)).headers["location"].rpartition("/")[2]
    other = await platform.register()
    about = {"propertyId": listing, "contentType": "image/jpeg"}

    assert_problem(await begin(platform, other, b"x", **about), "forbidden")
    assert_problem(await begin(platform, owner, b"x", **about, size=10_000_001), "file-too-large")
    assert_problem(await begin(platform, owner, b"x", propertyId=listing, contentType="text/csv"), "invalid-request")
