"""Lists over HTTP: which listings each user gets, their order, and paging."""

from typing import Any

import httpx
import pytest

from tests.platform import Person, Platform


async def get(platform: Platform, path: str, person: Person | None = None, **query: object) -> httpx.Response:
    return await platform.http.get(
        path, params={key: str(value) for key, value in query.items()}, headers=person.headers if person else {}
    )


async def walk(platform: Platform, path: str, person: Person | None = None, **query: object) -> list[dict[str, Any]]:
    """Every item of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, object] = {}
    while True:
        answer = await get(platform, path, person, **query, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        assert len(page["items"]) == query["limit"]
        cursor = {"cursor": page["nextCursor"]}


async def move(platform: Platform, owner: Person, property_id: str, status: str) -> None:
    answer = await platform.http.put(
        f"/api/properties/{property_id}/status",
        json={"status": status},
        headers={**owner.headers, "If-Match": "*"},
    )
    assert answer.status_code == 200, answer.text


async def test_public_list_has_the_active_listings_newest_first(platform: Platform) -> None:
    owner = await platform.register()
    listed = [(await platform.create(owner, contactPhone="9848022338")).json() for _ in range(4)]
    draft = (await platform.create(owner, status="DRAFT")).json()
    await move(platform, owner, listed[1]["id"], "SOLD")

    items = await walk(platform, "/api/properties", limit=3)

    own = [item for item in items if item["ownerId"] == owner.id]
    assert own == [listed[3], listed[2], listed[0]]
    assert {item["status"] for item in items} == {"ACTIVE"}
    assert draft["id"] not in {item["id"] for item in items}
    assert [item["listedAt"] for item in items] == sorted((item["listedAt"] for item in items), reverse=True)
    assert len({item["id"] for item in items}) == len(items)


async def test_draft_is_ordered_by_its_publication(platform: Platform) -> None:
    owner = await platform.register()
    draft = (await platform.create(owner, status="DRAFT")).json()
    oldest, newest = [(await platform.create(owner)).json()["id"] for _ in range(2)]
    assert draft["listedAt"] is None

    await move(platform, owner, draft["id"], "ACTIVE")
    await move(platform, owner, oldest, "PAUSED")
    await move(platform, owner, oldest, "ACTIVE")

    public = await walk(platform, "/api/properties", limit=2)
    assert [item["id"] for item in public if item["ownerId"] == owner.id] == [draft["id"], newest, oldest]
    own = await walk(platform, "/api/properties/my-properties", owner, limit=2)
    assert [item["id"] for item in own] == [newest, oldest, draft["id"]]


async def test_listing_created_between_two_pages_moves_no_item(platform: Platform) -> None:
    owner = await platform.register()
    oldest, middle, newest = [(await platform.create(owner)).json()["id"] for _ in range(3)]

    first = (await get(platform, "/api/properties", limit=2)).json()
    await platform.create(owner)
    second = (await get(platform, "/api/properties", limit=1, cursor=first["nextCursor"])).json()

    assert [item["id"] for item in first["items"]] == [newest, middle]
    assert [item["id"] for item in second["items"]] == [oldest]


async def test_owner_lists_their_own_in_every_status_or_in_one(platform: Platform) -> None:
    owner, other = await platform.register(), await platform.register()
    active, draft, paused = [
        (await platform.create(owner, status=status)).json()["id"] for status in ("ACTIVE", "DRAFT", "ACTIVE")
    ]
    await move(platform, owner, paused, "PAUSED")
    await platform.create(other)

    path = "/api/properties/my-properties"
    assert [item["id"] for item in await walk(platform, path, owner, limit=2)] == [paused, draft, active]
    assert [item["id"] for item in await walk(platform, path, owner, limit=2, status="DRAFT")] == [draft]
    assert await walk(platform, path, owner, limit=2, status="SOLD") == []
    answer = await get(platform, path, owner)
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert (await get(platform, path)).status_code == 401


async def test_tenants_list_their_own_listings_only(platform: Platform) -> None:
    owner = await platform.register()
    await platform.create(owner)
    guest = await platform.register(host="second.localhost")
    host = {"Host": "second.localhost"}
    created = await platform.create(guest, headers=host)
    assert created.status_code == 201, created.text

    page = (await platform.http.get("/api/properties", params={"limit": "100"}, headers=host)).json()

    assert created.json() in page["items"]
    assert owner.id not in {item["ownerId"] for item in page["items"]}


@pytest.mark.parametrize("path", ["", "/featured", "/my-properties", "/favorites"])
async def test_invalid_limit_and_cursor_are_refused(platform: Platform, path: str) -> None:
    person = await platform.register()

    for query in ({"limit": 0}, {"limit": 101}, {"limit": "many"}, {"cursor": "x" * 201}):
        answer = await get(platform, f"/api/properties{path}", person, **query)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    answer = await get(platform, f"/api/properties{path}", person, cursor="bm90IG91cnM")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor")


async def test_cursor_of_one_list_is_refused_by_another(platform: Platform) -> None:
    owner, other = await platform.register(), await platform.register()
    for _ in range(2):
        await platform.create(owner)
    own = "/api/properties/my-properties"
    cursor = (await get(platform, own, owner, limit=1)).json()["nextCursor"]

    assert (await get(platform, own, owner, limit=1, cursor=cursor)).status_code == 200
    for path, person, query in (
        (own, other, {}),
        (own, owner, {"status": "ACTIVE"}),
        ("/api/properties", owner, {}),
        ("/api/properties/featured", owner, {}),
        ("/api/properties/favorites", owner, {}),
    ):
        answer = await get(platform, path, person, cursor=cursor, **query)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-cursor")


async def test_unknown_status_is_refused(platform: Platform) -> None:
    person = await platform.register()

    answer = await get(platform, "/api/properties/my-properties", person, status="GONE")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.status"
