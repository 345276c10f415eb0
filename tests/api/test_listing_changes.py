"""Commands on a listing over HTTP: preconditions, permissions, and what is readable afterwards."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from adapters.postgres import Database
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.samples import listing

CHANGES: dict[str, tuple[str, str, Any]] = {
    "update": ("PUT", "", listing(title="Villa by the lake", price=9)),
    "patch": ("PATCH", "", {"bedrooms": 4}),
    "status": ("PUT", "/status", {"status": "PAUSED", "reason": "Under repair"}),
    "delete": ("DELETE", "", None),
}
FLAGS: dict[str, tuple[str, str, Any]] = {
    "feature": ("PUT", "/featured", {"value": True}),
    "verify": ("PUT", "/verified", {"value": True}),
}


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture(scope="module")
async def stranger(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture(scope="module")
async def admin(platform: Platform, database: Database) -> Person:
    person = await platform.register()
    async with database.transaction("hyderabad") as tx:
        made = text("UPDATE user_management.users SET role = 'ADMIN' WHERE user_id = :id")
        await tx.execute(made, {"id": person.id})
    return await platform.login(person)


async def listed(platform: Platform, owner: Person, **more: Any) -> str:
    """The path of a new listing."""
    created = await platform.create(owner, **more)
    assert created.status_code == 201, created.text
    return created.headers["location"]


async def events_of(platform: Platform, owner: Person, path: str) -> list[dict[str, Any]]:
    answer = await platform.http.get(f"{path}/history", params={"limit": 100}, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    events: list[dict[str, Any]] = answer.json()["items"]
    return events


async def test_put_replaces_all_details(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner, bedrooms=3, contactPhone="9848022338")

    changed = await platform.change(owner, "PUT", path, listing(title="Villa by the lake", price=9), if_match='"1"')

    assert (changed.status_code, changed.headers["etag"]) == (200, '"3"')
    home = changed.json()
    assert (home["title"], home["price"], home["previousPrice"]) == ("Villa by the lake", 9, 8_500_000)
    assert (home["bedrooms"], home["contactPhone"], home["version"]) == (None, None, 3)
    read = await platform.http.get(path)
    assert (read.content, read.headers["etag"]) == (changed.content, changed.headers["etag"])
    assert [event["eventType"] for event in await events_of(platform, owner, path)] == [
        "PROPERTY_CREATED",
        "PROPERTY_UPDATED",
        "PROPERTY_PRICE_CHANGED",
    ]
    entries = await platform.history(owner, changed.headers["consistency-token"], limit=2)
    assert [entry["activityType"] for entry in entries] == ["PROPERTY_PRICE_CHANGED", "PROPERTY_UPDATED"]


async def test_patch_changes_the_fields_it_has_and_null_removes(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner, bedrooms=3, contactPhone="9848022338", city="Secunderabad")

    patch = {"contactPhone": None, "city": None, "facing": "EAST"}
    changed = await platform.change(owner, "PATCH", path, patch, if_match='"1"')

    home = changed.json()
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (home["contactPhone"], home["city"], home["facing"], home["bedrooms"]) == (None, "Hyderabad", "EAST", 3)
    assert (await platform.http.get(path)).json() == home


async def test_deleted_listing_is_gone_for_its_owner_and_not_found_for_others(
    platform: Platform, owner: Person, stranger: Person
) -> None:
    path = await listed(platform, owner)

    deleted = await platform.change(owner, "DELETE", path, if_match='"1"')

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert "etag" not in deleted.headers
    [entry] = await platform.history(owner, deleted.headers["consistency-token"], limit=1)
    assert entry["activityType"] == "PROPERTY_DELETED"
    gone = assert_problem(await platform.http.get(path, headers=owner.headers), "gone")
    assert f"{path}/history" in gone["detail"]
    assert_problem(await platform.http.get(path, headers=stranger.headers), "not-found")
    assert_problem(await platform.http.get(path), "not-found")
    assert [event["eventType"] for event in await events_of(platform, owner, path)][-1] == "PROPERTY_DELETED"
    for method, part, body in CHANGES.values():
        assert_problem(await platform.change(owner, method, path + part, body), "not-found")


async def test_history_of_a_deleted_listing_is_for_its_owner_and_administrators(
    platform: Platform, owner: Person, stranger: Person, admin: Person
) -> None:
    path = await listed(platform, owner)
    deleted = await platform.change(owner, "DELETE", path)

    events = await events_of(platform, owner, path)

    assert deleted.status_code == 204
    assert [event["eventType"] for event in events] == ["PROPERTY_CREATED", "PROPERTY_DELETED"]
    assert await events_of(platform, admin, path) == events
    assert_problem(await platform.http.get(path, headers=admin.headers), "not-found")
    assert_problem(await platform.http.get(f"{path}/history", headers=stranger.headers), "not-found")
    assert_problem(await platform.http.get(f"{path}/history"), "unauthenticated")


@pytest.mark.parametrize("kind", [*CHANGES, *FLAGS])
async def test_change_without_if_match_is_refused(platform: Platform, owner: Person, kind: str) -> None:
    method, part, body = (CHANGES | FLAGS)[kind]
    path = await listed(platform, owner)

    assert_problem(await platform.change(owner, method, path + part, body, if_match=None), "precondition-required")

    assert (await platform.http.get(path)).headers["etag"] == '"1"'


@pytest.mark.parametrize("kind", [*CHANGES, *FLAGS])
async def test_change_of_a_stale_version_is_refused(
    platform: Platform, owner: Person, admin: Person, kind: str
) -> None:
    method, part, body = (CHANGES | FLAGS)[kind]
    path = await listed(platform, owner)
    await platform.change(owner, "PATCH", path, {"bedrooms": 2}, if_match='"1"')

    sender = admin if kind in FLAGS else owner
    refused = await platform.change(sender, method, path + part, body, if_match='"1"')

    assert "version 2" in assert_problem(refused, "version-conflict")["detail"]
    assert (await platform.http.get(path)).headers["etag"] == '"2"'


@pytest.mark.parametrize("tag", ["*", '"1"', '"1-gzip"', '"1-zstd"', '"1-br"', '"7", "1"', '"1" ,W/"1"', '"x", "1"'])
async def test_tag_of_this_version_is_accepted(platform: Platform, owner: Person, tag: str) -> None:
    path = await listed(platform, owner)

    changed = await platform.change(owner, "PATCH", path, {"bedrooms": 2}, if_match=tag)

    assert (changed.status_code, changed.headers.get("etag")) == (200, '"2"'), changed.text


@pytest.mark.parametrize("tag", ['""', 'W/"1"', '"2"', '"1-gzip-gzip"', '"-1"', '"999999999999999999999"'])
async def test_tag_of_no_version_or_a_weak_one_matches_nothing(platform: Platform, owner: Person, tag: str) -> None:
    path = await listed(platform, owner)

    assert_problem(await platform.change(owner, "PATCH", path, {"bedrooms": 2}, if_match=tag), "version-conflict")


@pytest.mark.parametrize("kind", [*CHANGES, *FLAGS])
async def test_only_its_owner_and_administrators_change_a_listing(
    platform: Platform, owner: Person, stranger: Person, kind: str
) -> None:
    method, part, body = (CHANGES | FLAGS)[kind]
    public, draft = await listed(platform, owner), await listed(platform, owner, status="DRAFT")

    assert_problem(await platform.change(stranger, method, public + part, body), "forbidden")
    assert_problem(await platform.change(stranger, method, draft + part, body), "not-found")
    anonymous = await platform.http.request(method, public + part, json=body, headers={"If-Match": "*"})
    assert_problem(anonymous, "unauthenticated")
    for path in (public, draft):
        assert len(await events_of(platform, owner, path)) == 1


async def test_listing_of_another_tenant_is_not_found(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner)
    other = await platform.register(host="second.localhost")

    for method, part, body in CHANGES.values():
        assert_problem(await platform.change(other, method, path + part, body), "not-found")


@pytest.mark.parametrize(("kind", "field"), [("feature", "isFeatured"), ("verify", "isVerified")])
async def test_flags_are_for_administrators(
    platform: Platform, owner: Person, admin: Person, kind: str, field: str
) -> None:
    method, part, body = FLAGS[kind]
    path = await listed(platform, owner)

    assert_problem(await platform.change(owner, method, path + part, body), "forbidden")
    flagged = await platform.change(admin, method, path + part, body, if_match='"1"')
    cleared = await platform.change(admin, method, path + part, {"value": False}, if_match='"2"')

    assert (flagged.status_code, flagged.json()[field], cleared.json()[field]) == (200, True, False)
    assert (flagged.headers["etag"], cleared.headers["etag"]) == ('"2"', '"3"')


@pytest.mark.parametrize("part", ["/featured", "/verified"])
async def test_flag_that_has_the_value_already_answers_the_same_version(
    platform: Platform, owner: Person, admin: Person, part: str
) -> None:
    path = await listed(platform, owner)
    before = await platform.http.get(path)

    same = await platform.change(admin, "PUT", path + part, {"value": False}, if_match='"1"')

    assert (same.status_code, same.headers["etag"], same.content) == (200, '"1"', before.content)
    assert len(await events_of(platform, owner, path)) == 1


async def test_change_of_an_administrator_is_in_their_history_and_leaves_the_owner(
    platform: Platform, owner: Person, admin: Person
) -> None:
    path = await listed(platform, owner, contactPhone="9848022338")

    changed = await platform.change(admin, "PATCH", path, {"price": 1}, if_match='"1"')

    assert (changed.json()["ownerId"], changed.json()["contactPhone"]) == (owner.id, "+919848022338")
    [entry] = await platform.history(admin, changed.headers["consistency-token"], limit=1)
    assert entry["activityType"] == "PROPERTY_PRICE_CHANGED"
    assert (await events_of(platform, owner, path))[-1]["userId"] == admin.id


@pytest.mark.parametrize(
    ("method", "part", "body"),
    [
        ("PATCH", "", {"bedrooms": 3}),
        ("PATCH", "", {}),
        ("PUT", "", listing(bedrooms=3)),
        ("PUT", "/status", {"status": "ACTIVE"}),
    ],
    ids=["patch", "empty patch", "update", "status"],
)
async def test_change_that_changes_nothing_answers_the_same_version(
    platform: Platform, owner: Person, method: str, part: str, body: object
) -> None:
    path = await listed(platform, owner, bedrooms=3)
    before = await platform.http.get(path)

    same = await platform.change(owner, method, path + part, body, if_match='"1"')

    assert (same.status_code, same.headers["etag"], same.content) == (200, '"1"', before.content)
    assert len(await events_of(platform, owner, path)) == 1
    assert await platform.history(owner, same.headers["consistency-token"])
    state = (await platform.http.get(f"/api/commands/{same.headers['command-id']}", headers=owner.headers)).json()
    assert (state["status"], [stage["name"] for stage in state["stages"]]) == ("COMPLETED", ["saved"])


async def test_owner_gets_a_mail_when_a_draft_is_published_first(platform: Platform) -> None:
    person = await platform.register()
    drafted = await platform.create(person, status="DRAFT")
    path, home = drafted.headers["location"], drafted.json()["id"]
    assert drafted.json()["status"] == "DRAFT"
    assert_problem(await platform.http.get(path), "not-found")

    async def stages(command_id: str) -> dict[str, str]:
        state = await platform.http.get(f"/api/commands/{command_id}", headers=person.headers)
        return {stage["name"]: stage["status"] for stage in state.json()["stages"]}

    async def has_stages(answer: httpx.Response, expected: set[str]) -> bool:
        return await stages(answer.headers["command-id"]) == dict.fromkeys(expected, "DONE")

    await until(lambda: has_stages(drafted, {"saved", "published"}))
    assert await platform.mails(person, "is public") == []

    published = await platform.change(person, "PUT", f"{path}/status", {"status": "ACTIVE"}, if_match='"1"')
    await until(lambda: has_stages(published, {"saved", "published", "notified"}))
    paused = await platform.change(person, "PUT", f"{path}/status", {"status": "PAUSED"})
    again = await platform.change(person, "PUT", f"{path}/status", {"status": "ACTIVE"})
    await until(lambda: has_stages(paused, {"saved", "published"}))
    await until(lambda: has_stages(again, {"saved", "published"}))

    [mail] = await platform.mails(person, "is public")
    assert home in mail["text"]
    assert (await platform.http.get(path)).json() == again.json()


async def test_same_key_gives_the_first_answer_after_later_changes(platform: Platform, owner: Person) -> None:
    path, key = await listed(platform, owner, contactName="Lakshmi Devi"), {"Idempotency-Key": str(uuid4())}
    first = await platform.change(owner, "PATCH", path, {"price": 1}, if_match='"1"', headers=key)
    after_one = await platform.change(owner, "PATCH", path, {"price": 1}, if_match='"1"', headers=key)
    later = await platform.change(owner, "PATCH", path, {"price": 2}, if_match='"2"')
    after_a_change = await platform.change(owner, "PATCH", path, {"price": 1}, if_match='"1"', headers=key)
    await platform.change(owner, "DELETE", path)
    after_the_end = await platform.change(owner, "PATCH", path, {"price": 1}, if_match='"1"', headers=key)

    assert (first.status_code, first.json()["price"], later.json()["price"]) == (200, 1, 2)
    assert "idempotency-replayed" not in first.headers
    for repeated in (after_one, after_a_change, after_the_end):
        assert (repeated.status_code, repeated.content) == (200, first.content)
        assert repeated.headers["idempotency-replayed"] == "true"
        for header in ("etag", "command-id", "consistency-token"):
            assert repeated.headers[header] == first.headers[header]
    assert_problem(await platform.change(owner, "PATCH", path, {"price": 3}, headers=key), "idempotency-key-reused")
    assert len(await events_of(platform, owner, path)) == 4


async def test_repeated_deletion_with_a_key_gives_the_first_answer(platform: Platform, owner: Person) -> None:
    path, key = await listed(platform, owner), {"Idempotency-Key": str(uuid4())}

    answers = [await platform.change(owner, "DELETE", path, headers=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[0].headers["command-id"] == answers[1].headers["command-id"]


async def test_key_belongs_to_one_listing_and_one_kind_of_change(platform: Platform, owner: Person) -> None:
    key = {"Idempotency-Key": "one for all"}
    paths = [await listed(platform, owner) for _ in range(2)]

    answers = [
        await platform.change(owner, method, path + part, body, headers=key)
        for path in paths
        for method, part, body in CHANGES.values()
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 204] * 2
    assert len({answer.headers["command-id"] for answer in answers}) == 8


async def test_refused_change_under_a_key_stays_refused(platform: Platform, owner: Person) -> None:
    path, key = await listed(platform, owner), {"Idempotency-Key": str(uuid4())}

    for _ in range(2):
        refused = await platform.change(owner, "PATCH", path, {"price": 1}, if_match='"2"', headers=key)
        assert_problem(refused, "version-conflict")


async def test_one_of_concurrent_changes_of_a_version_wins(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner)

    answers = await asyncio.gather(
        *(platform.change(owner, "PATCH", path, {"price": n + 1}, if_match='"1"') for n in range(5))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    [made] = [answer for answer in answers if answer.status_code == 200]
    assert (await platform.http.get(path)).content == made.content


async def test_concurrent_changes_of_any_version_are_all_made(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner)

    answers = await asyncio.gather(*(platform.change(owner, "PATCH", path, {"price": n + 1}) for n in range(12)))

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 14))


async def test_listing_that_is_sold_is_closed_to_changes_until_it_is_active_again(
    platform: Platform, owner: Person
) -> None:
    path = await listed(platform, owner)
    await platform.change(owner, "PUT", f"{path}/status", {"status": "SOLD"})

    assert_problem(await platform.change(owner, "PATCH", path, {"price": 1}), "listing-closed")
    assert_problem(await platform.change(owner, "PUT", path, listing(price=1)), "listing-closed")
    assert (await platform.change(owner, "PUT", f"{path}/status", {"status": "ACTIVE"})).status_code == 200
    assert (await platform.change(owner, "PATCH", path, {"price": 1})).status_code == 200


async def test_refused_status_lists_the_allowed_ones(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner)

    for status in ("DRAFT", "RENTED", "PENDING_REVIEW"):
        refused = await platform.change(owner, "PUT", f"{path}/status", {"status": status})
        assert "PAUSED" in assert_problem(refused, "status-refused", "status")["detail"]
    assert_problem(await platform.change(owner, "PUT", f"{path}/status", {"status": "REJECTED"}), "forbidden")


@pytest.mark.parametrize(
    ("method", "part", "body", "field"),
    [
        ("PATCH", "", {"price": "8500000"}, "price"),
        ("PATCH", "", {"price": None}, "price"),
        ("PATCH", "", {"title": None}, "title"),
        ("PATCH", "", {"castle": True}, "castle"),
        ("PATCH", "", {"ownerId": str(uuid4())}, "ownerId"),
        ("PATCH", "", {"status": "SOLD"}, "status"),
        ("PATCH", "", {"contactEmail": "nobody"}, "contactEmail"),
        ("PUT", "", {"title": "A flat in Uppal"}, "price"),
        ("PUT", "", listing(version=2), "version"),
        ("PUT", "/status", {"status": "CASTLE"}, "status"),
        ("PUT", "/status", {}, "status"),
        ("PUT", "/status", {"status": "PAUSED", "reason": ""}, "reason"),
        ("PUT", "/featured", {"value": "maybe"}, "value"),
    ],
)
async def test_invalid_field_of_a_change_is_named(
    platform: Platform, owner: Person, method: str, part: str, body: object, field: str
) -> None:
    path = await listed(platform, owner)

    assert_problem(await platform.change(owner, method, path + part, body), "invalid-request", field)

    assert (await platform.http.get(path)).headers["etag"] == '"1"'


async def test_patch_whose_result_is_invalid_is_refused(platform: Platform, owner: Person) -> None:
    path = await listed(platform, owner, totalFloors=5, latitude=17.4, longitude=78.4)

    above = assert_problem(await platform.change(owner, "PATCH", path, {"floorNumber": 6}), "invalid-request")
    assert_problem(await platform.change(owner, "PATCH", path, {"latitude": None}), "invalid-request")

    assert "not above totalFloors" in above["detail"]
    assert (await platform.change(owner, "PATCH", path, {"floorNumber": 5})).status_code == 200


async def test_suspended_account_changes_nothing(platform: Platform, database: Database) -> None:
    person = await platform.register()
    path = await listed(platform, person)
    async with database.transaction("hyderabad") as tx:
        suspend = text("UPDATE user_management.users SET status = 'SUSPENDED' WHERE user_id = :id")
        await tx.execute(suspend, {"id": person.id})

    for method, part, body in CHANGES.values():
        assert_problem(await platform.change(person, method, path + part, body), "account-closed")
