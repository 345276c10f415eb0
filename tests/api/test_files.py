"""Reading files over HTTP: who may read which, in parts, and only if they have changed."""

import hashlib
import os
import signal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from adapters.postgres import Database
from tests.api.test_admin_users import administrator
from tests.api.test_contract import assert_problem
from tests.api.test_images import photo, send, settled
from tests.files import pdf
from tests.platform import Person, Platform, until
from tests.samples import new_id

PUBLIC = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture(scope="module")
async def other(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture(scope="module")
async def admin(platform: Platform, database: Database) -> Person:
    return await administrator(platform, database)


@pytest.fixture(scope="module")
async def listed(platform: Platform, owner: Person) -> str:
    """The path of a listing with a picture."""
    path: str = (await platform.create(owner)).headers["location"]
    await send(platform, owner, path, ("a.jpg", photo("olive")))
    return path


def jpeg_of(image: dict[str, Any]) -> str:
    """The path of the JPEG of an image."""
    [url] = [each["url"] for each in image["variants"] if each["format"] == "jpeg"]
    return str(urlsplit(url).path)


@pytest.fixture(scope="module")
async def picture(platform: Platform, owner: Person, listed: str) -> str:
    """The path of the picture."""
    [image] = await settled(platform, owner, listed)
    assert image["status"] == "READY", image
    return jpeg_of(image)


async def get(platform: Platform, path: str, person: Person | None = None, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await platform.http.get(path, headers={**(person.headers if person else {}), **sent})


async def upload(
    platform: Platform, person: Person, content: bytes, name: str = "deed.pdf", query: str = "", **headers: str
) -> httpx.Response:
    files = {"file": (name, content, "application/pdf")}
    return await platform.http.post(f"/api/files/upload{query}", files=files, headers={**person.headers, **headers})


async def ready(platform: Platform, person: Person, file_id: str) -> dict[str, Any]:
    """A document once it is checked."""

    async def found() -> list[dict[str, Any]]:
        items = (await get(platform, "/api/files", person)).json()["items"]
        return [item for item in items if item["id"] == file_id and item["status"] != "PROCESSING"]

    [document] = await until(found)
    return document


async def test_picture_is_served_to_everybody(platform: Platform, picture: str) -> None:
    answer = await get(platform, picture)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content[:2] == b"\xff\xd8"
    assert answer.headers["cache-control"] == PUBLIC
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["etag"].startswith('"')
    assert "content-disposition" not in answer.headers


async def test_variants_have_the_type_that_they_are(platform: Platform, owner: Person, listed: str) -> None:
    [image] = await settled(platform, owner, listed)
    for variant in image["variants"]:
        answer = await get(platform, urlsplit(variant["url"]).path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{variant['format']}")
        assert {"avif": b"ftypavif", "webp": b"WEBP", "jpeg": b"\xff\xd8"}[variant["format"]] in answer.content[:16]


async def test_file_is_served_in_ranges_and_only_if_it_has_changed(platform: Platform, picture: str) -> None:
    whole = await get(platform, picture)
    etag, size = whole.headers["etag"], len(whole.content)

    first = await get(platform, picture, range="bytes=0-99")
    assert (first.status_code, first.content) == (206, whole.content[:100])
    assert first.headers["content-range"] == f"bytes 0-99/{size}"
    last = await get(platform, picture, range="bytes=-10", if_range=etag)
    assert (last.status_code, last.content) == (206, whole.content[-10:])
    assert (await get(platform, picture, range="bytes=0-9", if_range='"old"')).content == whole.content
    outside = await get(platform, picture, range=f"bytes={size}-")
    assert_problem(outside, "range-not-satisfiable")
    assert outside.headers["content-range"] == f"bytes */{size}"

    unchanged = await get(platform, picture, if_none_match=f'"x", W/{etag}')
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert unchanged.headers["cache-control"] == PUBLIC
    assert (await get(platform, picture, if_none_match='"x"')).status_code == 200
    head = await platform.http.head(picture)
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers[name] for name in ("etag", "content-length", "content-type")} == {
        name: whole.headers[name] for name in ("etag", "content-length", "content-type")
    }


async def test_picture_of_a_hidden_listing_is_served_to_its_owner_and_administrators_only(
    platform: Platform, owner: Person, other: Person, admin: Person
) -> None:
    path = (await platform.create(owner)).headers["location"]
    await send(platform, owner, path, ("a.jpg", photo("purple")))
    [image] = await settled(platform, owner, path)
    file = jpeg_of(image)
    assert (await get(platform, file)).headers["cache-control"] == PUBLIC

    await platform.change(owner, "PUT", f"{path}/status", {"status": "WITHDRAWN"})

    for person in (None, other):
        assert_problem(await get(platform, file, person), "not-found")
    for person in (owner, admin):
        answer = await get(platform, file, person)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")

    await platform.change(owner, "DELETE", path)
    for person in (None, owner, admin):
        assert_problem(await get(platform, file, person), "not-found")


async def test_original_is_served_to_its_owner_and_administrators_only(
    platform: Platform, owner: Person, other: Person, admin: Person, picture: str
) -> None:
    original = f"{picture.rpartition('-')[0]}-original"

    for person in (None, other):
        assert_problem(await get(platform, original, person), "not-found")
    for person in (owner, admin):
        answer = await get(platform, original, person)
        assert answer.content == photo("olive")
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    "key",
    [
        "nothing",
        "00" * 32 + "-640.avif",
        "00" * 32 + "-original",
        "..%2F..%2Fetc%2Fpasswd",
        "00" * 32 + "-640.exe",
        "0199c9a4-1f00-7000-8000-000000000001",
        "uploads",
        "%00",
    ],
)
async def test_what_does_not_exist_is_not_found(platform: Platform, owner: Person, key: str) -> None:
    for person in (None, owner):
        assert_problem(await get(platform, f"/api/files/{key}", person), "not-found")


async def test_width_that_was_not_made_is_not_found(platform: Platform, picture: str) -> None:
    missing = f"{picture.rpartition('-')[0]}-7.avif"

    assert_problem(await get(platform, missing), "not-found")
    assert_problem(await get(platform, missing, range="bytes=0-4"), "not-found")


async def test_document_is_private_to_its_owner_and_administrators(
    platform: Platform, owner: Person, other: Person, admin: Person
) -> None:
    content = pdf(b"4 0 obj <<>> endobj\n")
    answer = await upload(platform, owner, content, "विक्रय विलेख.pdf")
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert (added["status"], added["url"], added["fileName"]) == ("PROCESSING", None, "विक्रय विलेख.pdf")
    assert answer.headers["location"] == f"/api/files/{added['id']}"

    document = await ready(platform, owner, added["id"])

    assert (document["status"], document["contentType"], document["size"]) == (
        "READY",
        "application/pdf",
        len(content),
    )
    file = urlsplit(document["url"]).path
    for person in (None, other):
        assert_problem(await get(platform, file, person), "not-found")
    for person in (owner, admin):
        read = await get(platform, file, person)
        assert (read.content, read.headers["content-type"]) == (content, "application/pdf")
        assert read.headers["content-disposition"].endswith(
            "filename*=UTF-8''%E0%A4%B5%E0%A4%BF%E0%A4%95%E0%A5%8D"
            "%E0%A4%B0%E0%A4%AF%20%E0%A4%B5%E0%A4%BF%E0%A4%B2%E0%A5%87%E0%A4%96.pdf"
        )
        assert read.headers["content-disposition"].startswith("attachment; ")
        assert read.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert read.headers["x-content-type-options"] == "nosniff"
        assert read.headers["cache-control"] == "private, no-cache"
    history = await platform.history(owner, answer.headers["consistency-token"])
    assert added["id"] in str(history)
    assert "विक्रय" not in str(history)


async def test_document_of_a_listing_is_read_by_who_may_see_the_listing(
    platform: Platform, owner: Person, other: Person
) -> None:
    path = (await platform.create(owner)).headers["location"]
    listing = path.rpartition("/")[2]
    added = (await upload(platform, owner, pdf(), query=f"?propertyId={listing}")).json()
    assert added["propertyId"] == listing
    document = await ready(platform, owner, added["id"])
    file = urlsplit(document["url"]).path
    for person in (None, other, owner):
        assert (await get(platform, file, person)).status_code == 200
        assert (await get(platform, f"{path}/documents", person)).json() == {"items": [document], "nextCursor": None}

    await platform.change(owner, "PUT", f"{path}/status", {"status": "PAUSED"})

    for person in (None, other):
        assert_problem(await get(platform, file, person), "not-found")
        assert_problem(await get(platform, f"{path}/documents", person), "not-found")
    for one in (file, f"{path}/documents"):
        assert (await get(platform, one, owner)).status_code == 200


async def test_documents_of_a_listing_are_those_that_can_be_read(platform: Platform, owner: Person) -> None:
    listed = (await platform.create(owner)).headers["location"]
    listing = listed.rpartition("/")[2]
    sent = [
        (await upload(platform, owner, content, query=f"?propertyId={listing}")).json()["id"]
        for content in (pdf(), b"no PDF", pdf(b"\n"))
    ]
    await upload(platform, owner, pdf())
    for each in sent:
        await ready(platform, owner, each)

    first = (await get(platform, f"{listed}/documents?limit=1", None)).json()
    second = (await get(platform, f"{listed}/documents?limit=1&cursor={first['nextCursor']}", None)).json()

    assert [each["id"] for each in (*first["items"], *second["items"])] == [sent[2], sent[0]]
    assert second["nextCursor"] is None
    assert_problem(await get(platform, f"/api/properties/{new_id()}/documents", owner), "not-found")
    assert_problem(await get(platform, f"{listed}/documents?cursor=none", owner), "invalid-cursor")


async def test_document_is_attached_to_an_own_listing_only(
    platform: Platform, owner: Person, other: Person, listed: str
) -> None:
    listing = listed.rpartition("/")[2]

    for key in ({}, {"Idempotency-Key": str(new_id())}):
        answer = await upload(platform, other, pdf(), query=f"?propertyId={listing}", **key)
        assert_problem(answer, "forbidden")
    assert_problem(await upload(platform, other, pdf(), query=f"?propertyId={new_id()}"), "not-found")


async def test_each_of_several_documents_has_its_command_while_the_worker_is_stopped(platform: Platform) -> None:
    person = await platform.register()
    sent = [("files", (f"{n}.pdf", pdf(), "application/pdf")) for n in range(2)]
    worker = platform.stack.processes["worker"].pid
    assert worker
    os.kill(worker, signal.SIGSTOP)
    try:
        answer = await platform.http.post("/api/files/upload/multiple", files=sent, headers=person.headers)
    finally:
        os.kill(worker, signal.SIGCONT)

    assert answer.status_code == 202
    assert len(set(answer.json()["commandIds"])) == 2

    async def both() -> bool:
        items = (await get(platform, "/api/files", person)).json()["items"]
        return {each["fileName"] for each in items} == {"0.pdf", "1.pdf"}

    await until(both)


async def test_several_documents_are_sent_at_once(platform: Platform, owner: Person) -> None:
    sent = [("files", (f"{n}.pdf", pdf(b"%d 0 obj <<>> endobj\n" % n), "application/pdf")) for n in (5, 6)]
    sent.append(("files", ("bad.pdf", b"no PDF", "application/pdf")))
    key = {"Idempotency-Key": str(new_id())}
    first = await platform.http.post("/api/files/upload/multiple", files=sent, headers={**owner.headers, **key})
    again = await platform.http.post("/api/files/upload/multiple", files=sent, headers={**owner.headers, **key})
    assert first.status_code == 201, first.text
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"

    documents = [await ready(platform, owner, each["id"]) for each in first.json()["items"]]

    assert [(each["fileName"], each["status"]) for each in documents] == [
        ("5.pdf", "READY"),
        ("6.pdf", "READY"),
        ("bad.pdf", "REFUSED"),
    ]
    assert documents[2]["refused"]["code"] == "unknown-type"
    assert documents[2]["url"] is None
    refused = await get(platform, f"/api/files/{documents[2]['id']}", owner)
    assert_problem(refused, "document-not-ready")
    assert refused.json()["detail"] == documents[2]["refused"]["detail"]


async def test_documents_are_listed_in_pages(platform: Platform) -> None:
    person = await platform.register()
    sent = [(await upload(platform, person, pdf())).json()["id"] for _ in range(3)]

    first = (await get(platform, "/api/files?limit=2", person)).json()
    second = (await get(platform, f"/api/files?limit=2&cursor={first['nextCursor']}", person)).json()

    assert [each["id"] for each in (*first["items"], *second["items"])] == sent[::-1]
    assert second["nextCursor"] is None
    assert_problem(await get(platform, "/api/files?cursor=none", person), "invalid-cursor")


async def test_repeated_upload_is_answered_as_the_first(platform: Platform, owner: Person) -> None:
    key = {"Idempotency-Key": str(new_id())}
    first, again = [await upload(platform, owner, pdf(), **key) for _ in range(2)]

    assert first.status_code == 201, first.text
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    for content, name in ((pdf(b"\n"), "deed.pdf"), (pdf(), "other.pdf")):
        assert_problem(await upload(platform, owner, content, name, **key), "idempotency-key-reused")
    assert_problem(
        await upload(platform, owner, pdf(), query=f"?propertyId={new_id()}", **key), "idempotency-key-reused"
    )


async def test_document_is_deleted_by_its_owner_only(platform: Platform, owner: Person, other: Person) -> None:
    added = (await upload(platform, owner, pdf())).json()
    path = f"/api/files/{added['id']}"
    await ready(platform, owner, added["id"])
    assert_problem(await platform.http.delete(path, headers=other.headers), "not-found")

    deleted = await platform.http.delete(path, headers=owner.headers)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_problem(await get(platform, path, owner), "not-found")
    assert added["id"] not in str((await get(platform, "/api/files", owner)).json())
    assert_problem(await platform.http.delete(path, headers=owner.headers), "not-found")


async def test_files_of_another_portal_are_not_found(platform: Platform, owner: Person, picture: str) -> None:
    """Also with the same bytes there, and with the right key."""
    document = await ready(platform, owner, (await upload(platform, owner, pdf())).json()["id"])
    second = await platform.register("second.localhost")
    theirs = (await upload(platform, second, pdf(), Host="second.localhost")).json()
    await until(lambda: _is_ready(platform, second, theirs["id"]))
    headers = {**second.headers, "Host": "second.localhost"}
    digest = hashlib.sha256(pdf()).hexdigest()

    own = await platform.http.get(f"/api/files/{digest}-original", headers=headers)
    assert own.content == pdf()
    for path in (picture, urlsplit(document["url"]).path, f"{picture.rpartition('-')[0]}-original"):
        assert_problem(await platform.http.get(path, headers=headers), "not-found")
        assert_problem(await platform.http.get(path, headers={"Host": "second.localhost"}), "not-found")


async def _is_ready(platform: Platform, person: Person, file_id: str) -> bool:
    headers = {**person.headers, "Host": "second.localhost"}
    items = (await platform.http.get("/api/files", headers=headers)).json()["items"]
    return any(item["id"] == file_id and item["status"] == "READY" for item in items)


async def test_picture_of_another_portal_is_read_at_the_same_host_without_a_token(platform: Platform) -> None:
    """As an element `img` does: its URL says whose it is."""
    second = await platform.register("second.localhost")
    headers = {**second.headers, "Host": "second.localhost"}
    path = (await platform.create(second, headers)).headers["location"]
    added = await send(platform, second, path, ("a.jpg", photo("rust")), Host="second.localhost")
    assert added.status_code == 201, added.text

    async def image() -> dict[str, Any]:
        [found] = (await platform.http.get(path, headers=headers)).json()["images"]
        return found if found["status"] == "READY" else {}

    url = urlsplit(next(each["url"] for each in (await until(image))["variants"]))
    answer = await platform.http.get(f"{url.path}?{url.query}")
    assert (answer.status_code, url.query) == (200, "tenant=second")
    assert_problem(await platform.http.get(url.path), "not-found")
