"""Images of a listing over HTTP: from files to pictures, and who sees which."""

import io
import random
from typing import Any

import httpx
import pytest
from PIL import ExifTags, Image

from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.samples import new_id

ORIENTATION, GPS = ExifTags.Base.Orientation, ExifTags.IFD.GPSInfo


def photo(of: str = "a flat", size: tuple[int, int] = (800, 600)) -> bytes:
    """A JPEG as a phone makes it: on its side, with the place where it was taken. Each name has another picture."""
    noise = random.Random(of).randbytes(8 * 6 * 3)
    picture = Image.frombytes("RGB", (8, 6), noise).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[ExifTags.GPS.GPSLatitude] = (17.0, 26.0, 24.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    return file.getvalue()


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (name, content, "image/jpeg")) for name, content in files]


async def send(
    platform: Platform, person: Person, path: str, *files: tuple[str, bytes], if_match: str = "*", **headers: str
) -> httpx.Response:
    sent = {**person.headers, "If-Match": if_match, **headers}
    return await platform.http.post(f"{path}/images", files=form(*files), headers=sent)


async def settled(platform: Platform, owner: Person, path: str) -> list[dict[str, Any]]:
    """The images of a listing once none is being processed."""

    async def images() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await platform.http.get(path, headers=owner.headers)).json()["images"]
        return [] if any(image["status"] == "PROCESSING" for image in found) else found

    return await until(images)


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture
async def path(platform: Platform, owner: Person) -> str:
    """The path of a new listing."""
    location: str = (await platform.create(owner)).headers["location"]
    return location


async def test_files_become_pictures_and_one_bad_file_fails_alone(platform: Platform, owner: Person, path: str) -> None:
    bad = photo("navy")[:400]
    answer = await send(platform, owner, path, ("flat.jpg", photo()), ("broken.jpg", bad), if_match='"1"')
    assert answer.status_code == 201, answer.text
    added = answer.json()
    assert answer.headers["etag"] == f'"{added["version"]}"' == '"2"'
    assert [(image["fileName"], image["status"]) for image in added["images"]] == [
        ("flat.jpg", "PROCESSING"),
        ("broken.jpg", "PROCESSING"),
    ]

    ready, refused = await settled(platform, owner, path)

    assert [ready["id"], refused["id"]] == [image["id"] for image in added["images"]]
    assert (ready["status"], ready["width"], ready["height"], ready["isPrimary"]) == ("READY", 600, 800, True)
    made = {(each["format"], each["width"], each["height"]) for each in ready["variants"]}
    assert made == {("jpeg", 600, 800), *((f, w, round(w * 4 / 3)) for f in ("avif", "webp") for w in (320, 600))}
    assert (refused["status"], refused["reasonCode"]) == ("REFUSED", "truncated")
    assert refused["reason"].endswith(".")

    [shown] = (await platform.http.get(path)).json()["images"]
    private = ("fileName", "size", "addedAt")
    assert shown == {**ready, **dict.fromkeys(private)}
    state = (await platform.http.get(f"/api/commands/{answer.headers['command-id']}", headers=owner.headers)).json()
    assert [(image["fileName"], image["status"], image["step"]) for image in state["images"]] == [
        ("flat.jpg", "READY", None),
        ("broken.jpg", "REFUSED", None),
    ]

    events = (await platform.http.get(f"{path}/history", headers=owner.headers)).json()["items"]
    assert sorted(event["eventType"] for event in events[1:]) == [
        "PROPERTY_IMAGES_UPLOADED",
        "PROPERTY_IMAGE_ADDED",
        "PROPERTY_IMAGE_REFUSED",
    ]
    assert "flat.jpg" not in str(events), "the name of a file may be that of a person"


async def test_pictures_are_found_by_searches(platform: Platform, owner: Person) -> None:
    name = new_id().hex[-10:]
    path = (await platform.create(owner, title=f"Flat {name}")).headers["location"]
    await send(platform, owner, path, ("a.jpg", photo()))
    [ready] = await settled(platform, owner, path)

    async def found() -> list[dict[str, Any]]:
        items = (await platform.http.get("/api/search/properties", params={"q": name})).json()["items"]
        return [image for item in items for image in item["property"]["images"]]

    assert [(image["id"], image["variants"]) for image in await until(found)] == [(ready["id"], ready["variants"])]


async def test_same_bytes_are_made_once(platform: Platform, owner: Person, path: str) -> None:
    other: str = (await platform.create(owner)).headers["location"]
    content = photo("maroon")
    await send(platform, owner, path, ("a.jpg", content))
    [first] = await settled(platform, owner, path)
    await send(platform, owner, other, ("b.jpg", content))
    [second] = await settled(platform, owner, other)

    assert second["variants"] == first["variants"]
    assert second["id"] != first["id"]


async def test_order_caption_and_primary_image(platform: Platform, owner: Person, path: str) -> None:
    await send(platform, owner, path, ("a.jpg", photo("red")), ("b.jpg", photo("blue")))
    first, second = [image["id"] for image in await settled(platform, owner, path)]

    ordered = await platform.change(owner, "PUT", f"{path}/images/order", {"imageIds": [second, first]})
    assert [image["id"] for image in ordered.json()["images"]] == [second, first]
    etag = ordered.headers["etag"]
    details = {"caption": "The garden", "isPrimary": True}
    changed = await platform.change(owner, "PUT", f"{path}/images/{first}", details, if_match=etag)
    assert [(image["caption"], image["isPrimary"]) for image in changed.json()["images"]] == [
        (None, False),
        ("The garden", True),
    ]
    stale = await platform.change(owner, "DELETE", f"{path}/images/{first}", if_match=etag)
    assert_problem(stale, "version-conflict")
    removed = await platform.change(owner, "DELETE", f"{path}/images/{first}", if_match=changed.headers["etag"])
    assert [(image["id"], image["isPrimary"]) for image in removed.json()["images"]] == [(second, True)]
    assert_problem(await platform.change(owner, "DELETE", f"{path}/images/{first}"), "not-found")
    incomplete = await platform.change(owner, "PUT", f"{path}/images/order", {"imageIds": [first]})
    assert_problem(incomplete, "invalid-request")
    assert incomplete.json()["errors"][0]["field"] == "imageIds"


async def test_only_the_owner_adds_images_to_the_version_that_they_know(
    platform: Platform, owner: Person, path: str
) -> None:
    stranger = await platform.register()
    assert_problem(await send(platform, stranger, path, ("a.jpg", photo())), "forbidden")
    assert_problem(await send(platform, owner, path, ("a.jpg", photo()), if_match='"7"'), "version-conflict")
    missing = await platform.http.post(f"{path}/images", files=form(("a.jpg", photo())), headers=owner.headers)
    assert_problem(missing, "precondition-required")
    nowhere = await send(platform, owner, f"/api/properties/{new_id()}", ("a.jpg", photo()))
    assert_problem(nowhere, "not-found")
    draft: str = (await platform.create(owner, status="DRAFT")).headers["location"]
    assert_problem(await send(platform, stranger, draft, ("a.jpg", photo())), "not-found")
    sold = await platform.change(owner, "PUT", f"{path}/status", {"status": "SOLD"})
    assert sold.status_code == 200
    assert_problem(await send(platform, owner, path, ("a.jpg", photo())), "listing-closed")


async def test_listing_has_ten_images_at_most(platform: Platform, owner: Person, path: str) -> None:
    eight = [(f"{n}.jpg", photo(size=(40, 30))) for n in range(8)]
    assert (await send(platform, owner, path, *eight)).status_code == 201
    refused = await send(platform, owner, path, *eight[:3])
    assert_problem(refused, "too-many-images")
    assert "8 images" in refused.json()["detail"]


async def test_repeated_request_gets_the_first_answer(platform: Platform, owner: Person, path: str) -> None:
    key, content = {"Idempotency-Key": str(new_id())}, photo("olive")
    first = await send(platform, owner, path, ("a.jpg", content), **key)
    again = await send(platform, owner, path, ("a.jpg", content), **key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert [image["id"] for image in again.json()["images"]] == [image["id"] for image in first.json()["images"]]
    assert len(await settled(platform, owner, path)) == 1
    other = await send(platform, owner, path, ("a.jpg", photo("lime")), **key)
    assert_problem(other, "idempotency-key-reused")


async def test_same_photo_is_flagged_for_the_owner(platform: Platform, owner: Person, path: str) -> None:
    """Also smaller, for the owner's own; for others' public listings, only the same."""
    content = photo(str(new_id()), (900, 500))
    with Image.open(io.BytesIO(content)) as picture:
        smaller = io.BytesIO()
        picture.resize((450, 250)).save(smaller, "JPEG", exif=picture.getexif(), quality=70)
    other: str = (await platform.create(owner, title="Another flat", areaSqft=1000)).headers["location"]
    thief = await platform.register()
    stolen: str = (await platform.create(thief)).headers["location"]
    await send(platform, owner, path, ("a.jpg", content))
    await send(platform, owner, other, ("b.jpg", smaller.getvalue()))
    await send(platform, thief, stolen, ("c.jpg", content))
    for person, of in ((owner, path), (owner, other), (thief, stolen)):
        assert [image["status"] for image in await settled(platform, person, of)] == ["READY"]

    async def flagged(person: Person | None, of: str) -> set[str]:
        answer = await platform.http.get(of, headers=person.headers if person else {})
        return {f"/api/properties/{id}" for id in answer.json().get("possibleDuplicates") or ()}

    assert {other, stolen} <= await flagged(owner, path)
    assert path in await flagged(owner, other)
    assert path in await flagged(thief, stolen)
    assert await flagged(None, path) == set()
    await platform.change(owner, "PUT", f"{path}/status", {"status": "PAUSED"})
    assert path not in await flagged(thief, stolen)
