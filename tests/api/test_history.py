"""A user's history, searches and exports over HTTP."""

import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from adapters.exports import file_of
from adapters.objects import Objects
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import exports
from projections.history import cache_keys_of
from tests.api.test_admin_users import administrator
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.samples import new_id

SECOND = "second.localhost"
ROUTES = ("", "/recent", "/properties", "/searches", "/activities/USER_LOGGED_IN", "/summary")


@pytest.fixture(scope="module")
async def person(platform: Platform) -> Person:
    """A user with two listings, a view and a login."""
    person = await platform.login(await platform.register())
    for title in ("A flat by the lake", "A flat by the park"):
        answer = await platform.create(person, title=title)
    await platform.http.delete(answer.headers["Location"], headers={**person.headers, "If-Match": "*"})

    async def is_there() -> bool:
        return {"USER_LOGGED_IN", "PROPERTY_DELETED"} <= {
            entry["activityType"] for entry in await platform.history(person)
        }

    await until(is_there)
    return person


async def get(platform: Platform, person: Person, path: str, **query: Any) -> Any:
    answer = await platform.http.get(f"/api/user-history/{person.id}{path}", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def types(page: dict[str, Any]) -> list[str]:
    return [entry["activityType"] for entry in page["items"]]


async def test_each_route_has_its_part_of_the_history(platform: Platform, person: Person) -> None:
    whole = types(await get(platform, person, ""))
    of_properties = [one for one in whole if one.startswith("PROPERTY_")]

    assert types(await get(platform, person, "/recent", hours=1)) == whole
    assert types(await get(platform, person, "/properties")) == of_properties
    assert types(await get(platform, person, "/activities/PROPERTY_CREATED")) == ["PROPERTY_CREATED"] * 2
    assert types(await get(platform, person, "/searches")) == []
    both = ("USER_REGISTERED", "USER_LOGGED_IN")
    assert types(await get(platform, person, "", type=both)) == [one for one in whole if one in both]


async def test_page_is_limited_to_a_time_and_one_cursor_goes_on_in_every_route(
    platform: Platform, person: Person
) -> None:
    whole = (await get(platform, person, ""))["items"]
    since, before = whole[-2]["timestamp"], whole[0]["timestamp"]

    between = await get(platform, person, "", **{"from": since, "to": before})
    first = await get(platform, person, "", limit=1)
    rest = await get(platform, person, "/recent", cursor=first["nextCursor"])
    listed = await get(platform, person, "/properties", cursor=first["nextCursor"])

    assert between["items"] == [one for one in whole if since <= one["timestamp"] < before]
    assert [*first["items"], *rest["items"]] == whole
    assert listed["items"] == [one for one in whole[1:] if one["activityType"].startswith("PROPERTY_")]
    assert (await get(platform, person, "", **{"to": "2020-01-01T00:00:00Z"}))["items"] == []


async def test_summary_counts_what_the_pages_have(platform: Platform, person: Person) -> None:
    whole = (await get(platform, person, ""))["items"]

    summary = await get(platform, person, "/summary")

    assert summary["total"] == summary["last30Days"]["total"] == len(whole)
    assert summary["countsByType"]["PROPERTY_CREATED"] == 2
    assert summary["last30Days"]["countsByType"] == summary["countsByType"]
    assert summary["lastActivity"] == whole[0]
    assert 0 < summary["mostActiveDay"]["count"] <= len(whole)


@pytest.mark.parametrize("path", ROUTES)
async def test_history_is_shown_to_its_user_and_administrators_of_the_tenant_alone(
    platform: Platform, database: Database, person: Person, path: str
) -> None:
    url = f"/api/user-history/{person.id}{path}"
    other, admin = await platform.register(), await administrator(platform, database)
    foreign = await administrator(platform, database, SECOND, "second")

    assert (await platform.http.get(url, headers=admin.headers)).status_code == 200
    assert_problem(await platform.http.get(url, headers=other.headers), "not-found")
    assert_problem(await platform.http.get(url), "unauthenticated")
    elsewhere = await platform.http.get(url, headers={**foreign.headers, "Host": SECOND})
    assert elsewhere.json().get("items", []) == []
    assert elsewhere.json().get("total", 0) == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/recent?hours=0", "query.hours"),
        ("/recent?hours=745", "query.hours"),
        ("?from=yesterday", "query.from"),
        ("?to=2026-11-30T00:00:00", "query.to"),
        ("?from=0001-01-01T00:00:00Z", "query.from"),
        ("?type=USER_NOTIFIED", "query.type.0"),
        ("/activities/HOUSE_BUILT", "path.type"),
    ],
)
async def test_invalid_parameter_is_refused_by_its_name(
    platform: Platform, person: Person, path: str, field: str
) -> None:
    answer = await platform.http.get(f"/api/user-history/{person.id}{path}", headers=person.headers)

    assert_problem(answer, "invalid-request")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_sign_in_caches_the_history_for_the_session(platform: Platform, person: Person, valkey: Redis) -> None:
    keys = [key async for key in valkey.scan_iter(f"*{person.id}*:history:*")]
    await valkey.unlink(*keys)
    before = datetime.now(UTC)

    again = await platform.login(person)

    async def has_the_login() -> bool:
        newest: list[Any] = await valkey.zrange(key, 0, 0, desc=True)
        return bool(newest) and json.loads(newest[0])["timestamp"] >= before.isoformat()

    [key] = [key async for key in valkey.scan_iter(f"*{person.id}*:history:*") if not key.endswith(b":lease")]
    await until(has_the_login)
    end = str(new_id())
    async with valkey.monitor() as monitor:
        await platform.history(again)
        await valkey.echo(end)
        commands = []
        async for one in monitor.listen():
            if end in one["command"]:
                break
            commands.append(one["command"])
    assert [command.split()[0] for command in commands if person.id in command] == ["ZRANGE"]
    assert cache_keys_of("hyderabad", person.id, 1)[0].encode().rpartition(b":")[0] in key


class Searcher:
    """A user who searches."""

    def __init__(self, platform: Platform, person: Person, host: str = "localhost") -> None:
        self.platform, self.person = platform, person
        self.headers = {**person.headers, "Host": host}

    async def search(self, **query: Any) -> None:
        answer = await self.platform.http.get("/api/search/properties", params=query, headers=self.headers)
        assert answer.status_code == 200, answer.text

    async def searches(self, token: str | None = None, **query: Any) -> dict[str, Any]:
        headers = self.headers | ({"Consistency-Token": token} if token else {})
        answer = await self.platform.http.get("/api/search/history", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def delete(self, path: str = "") -> httpx.Response:
        return await self.platform.http.delete(f"/api/search/history{path}", headers=self.headers)

    def remembers(self, *texts: str) -> Callable[[], Awaitable[bool]]:
        async def does() -> bool:
            return [search["filters"].get("q") for search in (await self.searches())["items"]] == list(texts)

        return does


@pytest.fixture
async def searcher(platform: Platform) -> Searcher:
    return Searcher(platform, await platform.register())


async def test_searches_are_remembered_once_and_not_their_further_pages(searcher: Searcher) -> None:
    await searcher.search(q="villa kokapet", maxPrice=90_000_000)
    await until(searcher.remembers("villa kokapet"))
    await searcher.search(q="2 bhk uppal")
    await until(searcher.remembers("2 bhk uppal", "villa kokapet"))
    await searcher.search(q="Villa  Kokapet", maxPrice=90_000_000, sort="newest")
    await searcher.search()
    await until(searcher.remembers("Villa  Kokapet", "2 bhk uppal"))

    first = await searcher.searches(limit=1)
    second = await searcher.searches(limit=1, cursor=first["nextCursor"])

    assert first["items"][0]["filters"] == {"q": "Villa  Kokapet", "maxPrice": 90_000_000}
    assert second["items"][0]["filters"] == {"q": "2 bhk uppal"}
    assert second["nextCursor"] is None


async def test_searches_of_a_history_say_what_was_asked_to_their_user_alone(
    platform: Platform, database: Database, searcher: Searcher
) -> None:
    await searcher.search(q="canary gardens")
    await until(searcher.remembers("canary gardens"))
    person, admin = searcher.person, await administrator(platform, database)

    async def is_there() -> list[Any]:
        items: list[Any] = (await get(platform, person, "/searches"))["items"]
        return items

    [entry] = await until(is_there)
    url = f"/api/user-history/{person.id}"
    shown = await platform.http.get(f"{url}/searches", headers=admin.headers)
    [remembered] = (await searcher.searches())["items"]

    assert entry["activityData"]["filters"] == {"q": "canary gardens"}
    assert entry["activityData"]["searchId"] == remembered["id"]
    assert len(shown.json()["items"]) == 1
    assert "canary" not in shown.text
    assert "canary" not in (await platform.http.get(url, headers=person.headers)).text

    await searcher.delete()
    await until(searcher.remembers())
    [entry] = (await get(platform, person, "/searches"))["items"]
    assert entry["activityData"]["filters"] is None


async def test_one_search_or_all_are_deleted(searcher: Searcher) -> None:
    for text in ("plot", "villa", "flat"):
        await searcher.search(q=text)
    page = await until(lambda: _complete(searcher, 3))
    villa = next(search for search in page if search["filters"]["q"] == "villa")

    one = await searcher.delete(f"/{villa['id']}")
    left = (await searcher.searches(one.headers["Consistency-Token"]))["items"]
    everything = await searcher.delete()
    none = (await searcher.searches(everything.headers["Consistency-Token"]))["items"]

    assert (one.status_code, everything.status_code) == (204, 204)
    assert {search["filters"]["q"] for search in left} == {"plot", "flat"}
    assert none == []
    await until(searcher.remembers())
    assert_problem(await searcher.delete(f"/{villa['id']}"), "not-found")
    await searcher.search(q="villa")
    await until(searcher.remembers("villa"))


async def _complete(searcher: Searcher, count: int) -> list[Any]:
    items: list[Any] = (await searcher.searches())["items"]
    return items if len(items) == count else []


async def test_searches_of_another_user_or_tenant_are_neither_shown_nor_deleted(
    platform: Platform, searcher: Searcher
) -> None:
    await searcher.search(q="plot")
    [mine] = await until(lambda: _complete(searcher, 1))

    for host in ("localhost", SECOND):
        other = Searcher(platform, await platform.register(host=host), host)
        assert (await other.searches())["items"] == []
        assert_problem(await other.delete(f"/{mine['id']}"), "not-found")
        await other.delete()

    assert (await searcher.searches())["items"] == [mine]
    assert_problem(await platform.http.get("/api/search/history"), "unauthenticated")


async def export(platform: Platform, person: Person, host: str = "localhost") -> httpx.Response:
    return await platform.http.post("/api/users/export", headers={**person.headers, "Host": host})


async def link_to(platform: Platform, person: Person) -> str:
    """The token of the link in the mail about an export."""

    async def mail() -> list[Any]:
        return await platform.mails(person, "history and data")

    [found] = await until(mail)
    [url] = [word for word in found["text"].split() if "/api/users/export?token=" in word]
    return str(parse_qs(urlsplit(url).query)["token"][0])


async def test_export_is_mailed_and_downloaded_by_its_link_until_it_ends(
    platform: Platform, database: Database, settings: Settings
) -> None:
    person = await platform.register()
    await platform.create(person, title="A canary by the lake")

    accepted = await export(platform, person)
    token = await link_to(platform, person)
    file = await platform.http.get("/api/users/export", params={"token": token})

    assert (accepted.status_code, accepted.json()["status"]) == (202, "RUNNING")
    state = await platform.http.get(accepted.headers["Location"], headers=person.headers)
    stages = {stage["name"]: stage["status"] for stage in state.json()["stages"]}
    assert stages["exported"] == "DONE"
    assert file.status_code == 200
    assert file.headers["content-type"] == "application/x-ndjson"
    assert "attachment" in file.headers["content-disposition"]
    lines = [json.loads(line) for line in file.text.splitlines()]
    assert lines[0]["data"]["email"] == person.email
    assert {"account", "preferences", "session", "listing", "activity"} <= {line["kind"] for line in lines}

    # An attempt that was slower than the one that was recorded writes the same file.
    key = file_of("hyderabad", UUID(person.id), UUID(accepted.json()["commandId"]))
    await Objects(settings).put(key, io.BytesIO(file.content + b"{}\n"), "application/x-ndjson")
    later = await platform.http.get("/api/users/export", params={"token": token})
    assert later.content == file.content + b"{}\n"

    other_host = await platform.http.get("/api/users/export", params={"token": token}, headers={"Host": SECOND})
    assert_problem(other_host, "invalid-link")
    other_tenant = await platform.http.get("/api/users/export", params={"token": token.replace("hyderabad", "second")})
    assert_problem(other_tenant, "invalid-link")
    assert_problem(await platform.http.get("/api/users/export", params={"token": token[:-1]}), "invalid-link")
    assert_problem(await platform.http.get("/api/users/export", params={"token": "a b"}), "invalid-request")

    async with database.statements("hyderabad") as connection:
        ended = update(exports).where(exports.c.export_id == accepted.json()["commandId"])
        await connection.execute(ended.values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert_problem(await platform.http.get("/api/users/export", params={"token": token}), "invalid-link")


async def test_export_with_the_same_key_is_one_and_a_sixth_in_a_day_is_refused(platform: Platform) -> None:
    person = await platform.register()
    key = {**person.headers, "Idempotency-Key": str(new_id())}

    first, again = [await platform.http.post("/api/users/export", headers=key) for _ in range(2)]
    await link_to(platform, person)
    more = [await platform.http.post("/api/users/export", headers=key) for _ in range(4)]

    assert first.json() == again.json()
    assert len(await platform.mails(person, "history and data")) == 1
    assert_problem(more[-1], "too-many-requests")


async def test_export_while_another_is_written_is_refused(platform: Platform, database: Database) -> None:
    person = await platform.register()
    async with database.statements("hyderabad") as connection:
        row = {"tenant_id": "hyderabad", "export_id": new_id(), "user_id": person.id, "requested_at": datetime.now(UTC)}
        await connection.execute(exports.insert().values(row))

    assert_problem(await export(platform, person), "export-running")
