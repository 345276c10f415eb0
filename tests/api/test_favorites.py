"""Favourites over HTTP: idempotent, also under concurrency."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, select

from adapters.postgres import Database
from adapters.tables import event_store
from projections.counts import Kind
from tests.platform import Person, Platform, until
from tests.projections.messages import counted_versions


async def favor(platform: Platform, person: Person, property_id: str, method: str = "PUT") -> httpx.Response:
    return await platform.http.request(method, f"/api/properties/{property_id}/favorite", headers=person.headers)


async def favorites(platform: Platform, person: Person, **query: object) -> dict[str, object]:
    answer = await platform.http.get(
        "/api/properties/favorites", params={key: str(value) for key, value in query.items()}, headers=person.headers
    )
    assert answer.status_code == 200, answer.text
    page: dict[str, object] = answer.json()
    return page


async def favorite_ids(platform: Platform, person: Person) -> list[str]:
    return [item["id"] for item in (await favorites(platform, person))["items"]]  # type: ignore[attr-defined]


async def test_favourite_is_added_listed_and_removed(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    created = await platform.create(owner)
    property_id = created.json()["id"]

    added = [await favor(platform, fan, property_id) for _ in range(2)]
    page = await favorites(platform, fan)
    removed = [await favor(platform, fan, property_id, "DELETE") for _ in range(2)]

    assert [(answer.status_code, answer.content) for answer in added + removed] == [(204, b"")] * 4
    assert "etag" not in added[0].headers
    assert added[0].headers["Command-Id"] != added[1].headers["Command-Id"]
    # The count is updated by a projection.
    assert [{**item, "favoritesCount": 0} for item in page["items"]] == [created.json()]  # type: ignore[attr-defined]
    assert page["nextCursor"] is None
    assert await favorites(platform, fan) == {"items": [], "nextCursor": None}
    got = await platform.http.get(f"/api/properties/{property_id}")
    assert got.headers["ETag"] == created.headers["ETag"]


async def test_favourite_is_in_the_history_and_the_command_has_its_stages(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    property_id = (await platform.create(owner)).json()["id"]

    added = await favor(platform, fan, property_id)
    removed = await favor(platform, fan, property_id, "DELETE")
    history = await platform.history(fan, removed.headers["Consistency-Token"])

    assert [entry["activityType"] for entry in history[:2]] == ["PROPERTY_UNFAVORITED", "PROPERTY_FAVORITED"]
    assert history[1]["description"] == "User added property to favourites: 3BHK Apartment in Gachibowli"
    assert history[1]["activityData"]["propertyId"] == property_id

    async def published() -> bool:
        answer = await platform.http.get(f"/api/commands/{added.headers['Command-Id']}", headers=fan.headers)
        return [stage["status"] for stage in answer.json()["stages"]] == ["DONE", "DONE"]

    await until(published)


async def test_twenty_people_and_ten_repetitions_at_once_are_all_answered(platform: Platform) -> None:
    owner, *crowd = [await platform.register() for _ in range(21)]
    created = await platform.create(owner)
    property_id = created.json()["id"]
    people = crowd + [crowd[0]] * 9

    answers = await asyncio.gather(*(favor(platform, person, property_id) for person in people))

    assert {answer.status_code for answer in answers} == {204}
    assert [await favorite_ids(platform, person) for person in crowd] == [[property_id]] * 20
    got = await platform.http.get(f"/api/properties/{property_id}")
    assert got.headers["ETag"] == created.headers["ETag"]


async def newest_versions(database: Database, property_id: str) -> dict[str, int]:
    """The version of the last stored event of each favourite of a listing."""
    event_of_it = event_store.c.event_data["propertyId"].astext == property_id
    query = (
        select(event_store.c.aggregate_id, func.max(event_store.c.version).label("version"))
        .where(event_store.c.event_type.in_(["PROPERTY_FAVORITED", "PROPERTY_UNFAVORITED"]), event_of_it)
        .group_by(event_store.c.aggregate_id)
    )
    async with database.transaction() as tx:
        return {row.aggregate_id: row.version for row in await tx.execute(query)}


async def test_count_is_right_after_people_race_to_like_and_unlike(platform: Platform, all_tenants: Database) -> None:
    owner, *crowd = [await platform.register() for _ in range(21)]
    created = await platform.create(owner)
    path, property_id = created.headers["location"], created.json()["id"]
    fans, others = crowd[:13], crowd[13:]
    racing = [(person, method) for person in crowd for method in ("PUT", "DELETE", "PUT")]

    answers = await asyncio.gather(*(favor(platform, person, property_id, method) for person, method in racing))
    settling = [favor(platform, person, property_id) for person in fans for _ in range(2)]
    settling += [favor(platform, person, property_id, "DELETE") for person in others for _ in range(2)]
    answers += await asyncio.gather(*settling)
    stored = await newest_versions(all_tenants, property_id)

    async def projection_has_every_event() -> bool:
        return await counted_versions(all_tenants, Kind.FAVORITE, UUID(property_id)) == stored

    # Not until the count is the expected one, which a wrong count may be for a moment.
    await until(projection_has_every_event)
    read = await platform.http.get(path)
    assert {answer.status_code for answer in answers} == {204}
    assert (len(stored), read.json()["favoritesCount"]) == (len(crowd), len(fans))
    assert read.headers["etag"] == created.headers["etag"]


async def test_concurrent_adding_and_removing_has_no_version_conflict(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    property_id = (await platform.create(owner)).json()["id"]

    answers = await asyncio.gather(
        *(favor(platform, fan, property_id, method) for method in ("PUT", "DELETE") for _ in range(10))
    )

    assert {answer.status_code for answer in answers} == {204}
    assert (await favor(platform, fan, property_id)).status_code == 204
    assert await favorite_ids(platform, fan) == [property_id]


async def test_favourites_are_paged_with_the_newest_first(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    listed = [(await platform.create(owner)).json()["id"] for _ in range(5)]
    for property_id in listed:
        await favor(platform, fan, property_id)
    await favor(platform, fan, listed[0], "DELETE")
    await favor(platform, fan, listed[0])
    await favor(platform, fan, listed[1])  # a repetition, so its place in the list stays

    found: list[str] = []
    page = await favorites(platform, fan, limit=2)
    found += [item["id"] for item in page["items"]]  # type: ignore[attr-defined]
    while page["nextCursor"]:
        page = await favorites(platform, fan, limit=2, cursor=page["nextCursor"])
        found += [item["id"] for item in page["items"]]  # type: ignore[attr-defined]

    assert found == [listed[0], listed[4], listed[3], listed[2], listed[1]]


async def test_hidden_and_deleted_listings_are_not_in_the_list_of_favourites(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    paused, sold, deleted = [(await platform.create(owner)).json()["id"] for _ in range(3)]
    for person in (owner, fan):
        for property_id in (paused, sold, deleted):
            assert (await favor(platform, person, property_id)).status_code == 204
    headers = {**owner.headers, "If-Match": "*"}
    for property_id, status in ((paused, "PAUSED"), (sold, "SOLD")):
        answer = await platform.http.put(
            f"/api/properties/{property_id}/status", json={"status": status}, headers=headers
        )
        assert answer.status_code == 200, answer.text
    assert (await platform.http.delete(f"/api/properties/{deleted}", headers=headers)).status_code == 204

    assert await favorite_ids(platform, fan) == [sold]
    assert await favorite_ids(platform, owner) == [sold, paused]
    for property_id in (paused, deleted):
        assert (await favor(platform, fan, property_id)).status_code == 404
        removed = [await favor(platform, fan, property_id, "DELETE") for _ in range(2)]
        assert [answer.status_code for answer in removed] == [204, 204]


async def test_listing_that_is_unknown_or_hidden_is_not_found(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    draft = (await platform.create(owner, status="DRAFT")).json()["id"]

    for property_id in (draft, str(uuid4())):
        for method in ("PUT", "DELETE"):
            answer = await favor(platform, fan, property_id, method)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert (await favor(platform, owner, draft)).status_code == 204


async def test_same_key_gives_the_first_answer(platform: Platform) -> None:
    owner, fan = await platform.register(), await platform.register()
    path = f"/api/properties/{(await platform.create(owner)).json()['id']}/favorite"
    headers = {**fan.headers, "Idempotency-Key": "liked"}

    first = await platform.http.put(path, headers=headers)
    again = await platform.http.put(path, headers=headers)

    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["Command-Id"] == first.headers["Command-Id"]
    assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_favourites_need_a_token(platform: Platform, method: str) -> None:
    path = "/api/properties/favorites" if method == "GET" else f"/api/properties/{uuid4()}/favorite"

    answer = await platform.http.request(method, path)

    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
