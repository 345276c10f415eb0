"""Suggestions over HTTP: what is listed, one's own searches, and nothing of other tenants."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import httpx
import pytest

from adapters.postgres import Database
from api.suggestion_indexes import Suggestions
from tests.platform import Person, Platform, until
from tests.projections.test_search import project
from tests.samples import new_id
from tests.search_model import event_of, listed

PATH = "/api/search/suggestions"


@pytest.fixture(scope="module")
async def owners(platform: Platform) -> list[Person]:
    return [await platform.register(role="AGENT") for _ in range(3)]


async def suggested(
    platform: Platform, typed: str, headers: dict[str, str] | None = None, **query: Any
) -> list[dict[str, Any]]:
    answer = await platform.http.get(PATH, params={"q": typed, **query}, headers=headers or {})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_locality_is_suggested_with_its_point_also_with_an_error(platform: Platform) -> None:
    gachibowli = {"text": "Gachibowli", "kind": "LOCALITY", "latitude": 17.44, "longitude": 78.349}
    for typed in ("gachib", "gahcib", "Gachi Bow"):
        assert (await suggested(platform, typed, limit=1)) == [gachibowli]


async def test_what_is_listed_is_suggested_to_its_tenant_alone(
    platform: Platform, owners: list[Person], database: Database, tenant: str
) -> None:
    name = "Zephyr" + "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:12])
    for flat, owner in enumerate(owners):
        shown = {"title": f"Flat {flat} at {name} Towers", "address": f"{name} Towers, Main Road"}
        created = await platform.create(owner, None, location=f"{name}pally", **shown)
        token = {"Consistency-Token": created.headers["consistency-token"]}
        assert (await platform.http.get("/api/search/properties", headers=token)).status_code == 200

    indexes = Suggestions(database)
    found = (await indexes.index("hyderabad")).complete(name)
    of_another = (await indexes.index(tenant)).complete(name)

    assert {(one.text, one.kind) for one in found} == {(f"{name}pally", "LOCALITY"), (f"{name} Towers", "PROJECT")}
    assert of_another == []


async def test_what_one_owner_writes_in_many_listings_is_not_suggested(
    all_tenants: Database, database: Database, tenant: str
) -> None:
    chance, owner = random.Random(1), new_id()
    shown = {"location": "Zirconpally", "title": "Flat at Zircon Towers", "address": "Zircon Towers, Main Road"}
    cards = [listed(chance, n, ownerId=owner, **shown) for n in range(6)]
    await project(all_tenants, [event_of(card, tenant) for card in cards])
    alone = (await Suggestions(database).index(tenant)).complete("zirc")
    await project(all_tenants, [event_of(listed(chance, 9 + n, **shown), tenant) for n in range(2)])
    together = (await Suggestions(database).index(tenant)).complete("zirc")

    assert alone == []
    assert {one.text for one in together} == {"Zirconpally", "Zircon Towers"}


async def test_own_searches_are_suggested_to_oneself_alone(platform: Platform) -> None:
    person, stranger = await platform.register(), await platform.register()
    host = {"Host": "second.localhost"}
    elsewhere = await platform.register(host["Host"])
    typed = f"zinnia{uuid4().hex}"
    answer = await platform.http.get("/api/search/properties", params={"q": typed}, headers=person.headers)
    assert answer.status_code == 200

    async def mine() -> bool:
        return {"text": typed, "kind": "SEARCH"} in await suggested(platform, typed[:12], person.headers)

    await until(mine)
    assert await suggested(platform, typed[:12], stranger.headers) == []
    assert await suggested(platform, typed[:12], {**elsewhere.headers, **host}) == []
    assert await suggested(platform, typed[:12]) == []


@pytest.mark.parametrize("query", [{}, {"q": ""}, {"q": "a", "limit": 21}, {"q": "a", "other": 1}])
async def test_invalid_question_is_refused(platform: Platform, query: dict[str, Any]) -> None:
    answer: httpx.Response = await platform.http.get(PATH, params=query)
    assert answer.status_code in {400, 422}
    assert answer.json()["type"].endswith("invalid-request")


async def test_index_is_built_once_for_requests_that_come_together(database: Database, tenant: str) -> None:
    indexes = Suggestions(database)

    first, second = await asyncio.gather(indexes.index(tenant), indexes.index(tenant))

    assert first is second is await indexes.index(tenant)
    await indexes.close()
