"""Similar and recommended listings over HTTP."""

from typing import Any

import httpx
import pytest

from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, until
from tests.samples import new_id

PATH = "/api/search/recommendations"


class Place:
    """A locality of a test's own with listings of an owner."""

    def __init__(self, platform: Platform, owner: Person, name: str) -> None:
        self._platform, self.owner, self.name = platform, owner, name

    async def listed(self, **more: Any) -> Any:
        facts = {"location": self.name, "bedrooms": 3, "areaSqft": 1500, "price": 9_000_000, **more}
        answer = await self._platform.create(self.owner, **facts)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def paused(self, listing: Any) -> None:
        path = f"/api/properties/{listing['id']}/status"
        assert (await self._platform.change(self.owner, "PUT", path, {"status": "PAUSED"})).status_code == 200

    async def found(self, count: int) -> None:
        """Wait until search has so many active listings of the place."""

        async def found() -> bool:
            answer = await self._platform.http.get("/api/search/properties", params={"location": self.name})
            return len(answer.json()["items"]) == count

        await until(found)


@pytest.fixture
async def place(platform: Platform) -> Place:
    return Place(platform, await platform.register(), f"Place {new_id().hex[-10:]}")


async def similar(platform: Platform, listing: Any, person: Person | None = None, **params: Any) -> httpx.Response:
    path = f"/api/properties/{listing['id']}/similar"
    return await platform.http.get(path, params=params, headers=person.headers if person else {})


def reasons(answer: httpx.Response) -> dict[str, tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return {one["property"]["id"]: (one["reason"]["kind"], one["reason"]["text"]) for one in answer.json()["items"]}


async def test_similar_listings_come_in_order_with_reasons(platform: Platform, place: Place) -> None:
    flat = await place.listed()
    twin = await place.listed(price=9_100_000)
    smaller = await place.listed(bedrooms=2, price=7_000_000)
    for_rent = await place.listed(listingType="RENT", price=30_000)
    paused = await place.listed()
    await place.found(5)
    await place.paused(paused)
    await place.found(4)

    found = await similar(platform, flat, limit=2)
    mine = await similar(platform, flat, place.owner)

    assert list(reasons(found)) == [twin["id"], smaller["id"]]
    assert reasons(found)[smaller["id"]] == ("SAME_LOCALITY", f"Also in {place.name}, ₹20,00,000 less")
    assert "contactPhone" not in found.json()["items"][0]["property"]
    assert found.json()["items"][0]["property"]["viewsCount"] == 0
    assert not {flat["id"], for_rent["id"], paused["id"]} & reasons(await similar(platform, flat, limit=50)).keys()
    assert not {twin["id"], smaller["id"]} & reasons(mine).keys()


async def test_nothing_is_similar_to_what_the_caller_may_not_see(platform: Platform, place: Place) -> None:
    draft = (await platform.create(place.owner, location=place.name, status="DRAFT")).json()

    assert_problem(await similar(platform, draft), "not-found")
    assert_problem(await similar(platform, draft, await platform.register()), "not-found")
    assert_problem(await similar(platform, {"id": new_id()}), "not-found")
    assert (await similar(platform, draft, place.owner)).status_code == 200


async def test_nothing_is_similar_for_another_tenant(platform: Platform, place: Place) -> None:
    flat, host = await place.listed(), "second.localhost"
    stranger = await platform.register(host)
    path = f"/api/properties/{flat['id']}/similar"

    for headers in ({"Host": host}, {"Host": host, **stranger.headers}):
        assert_problem(await platform.http.get(path, headers=headers), "not-found")


async def test_what_a_user_liked_viewed_and_saved_is_recommended_with_its_reason(
    platform: Platform, place: Place
) -> None:
    person, host = await platform.register(), f"Place {new_id().hex[-10:]}"
    far = Place(platform, place.owner, host)
    liked, alike = await place.listed(), await place.listed(price=9_200_000)
    viewed = await far.listed(propertyType="VILLA", price=40_000_000, bedrooms=5)
    villa = await far.listed(propertyType="VILLA", price=41_000_000, bedrooms=5)
    shop = await far.listed(propertyType="SHOP", bedrooms=None, price=3_000_000)
    office = await far.listed(propertyType="OFFICE", bedrooms=None, price=3_000_000)
    await platform.change(person, "PUT", f"/api/properties/{liked['id']}/favorite", if_match=None)
    await platform.http.post(f"/api/properties/{viewed['id']}/views", headers=person.headers)
    search = {"name": "Shops", "filters": {"location": [host], "propertyType": ["SHOP"]}}
    await platform.http.post("/api/search/saved", json=search, headers=person.headers)
    await place.found(2)
    await far.found(4)
    asked = {"location": host, "propertyType": "OFFICE"}
    await platform.http.get("/api/search/properties", params=asked, headers=person.headers)

    async def recommended() -> dict[str, tuple[str, str]] | None:
        answer = reasons(await platform.http.get(PATH, params={"limit": 50}, headers=person.headers))
        return answer if {villa["id"], office["id"]} <= answer.keys() and has_reasons(answer) else None

    def has_reasons(answer: dict[str, tuple[str, str]]) -> bool:
        """Whether the view and the search, which are recorded in batches, are known."""
        return (answer[villa["id"]][0], answer[office["id"]][0]) == ("VIEWED", "SEARCHED")

    found = await until(recommended)

    assert found is not None
    assert found[alike["id"]] == ("FAVORITE", f"Similar to your favourite: {liked['title']}")
    assert found[villa["id"]] == ("VIEWED", f"Similar to a listing that you viewed: {viewed['title']}")
    assert found[shop["id"]] == ("SEARCHED", "Matches your saved search “Shops”")
    assert found[office["id"]] == ("SEARCHED", "Matches a search of yours")
    assert not {liked["id"], viewed["id"]} & found.keys()
    own = reasons(await platform.http.get(PATH, params={"limit": 50}, headers=place.owner.headers))
    assert not {alike["id"], villa["id"], shop["id"]} & own.keys()
    await place.paused(viewed)
    after = reasons(await platform.http.get(PATH, params={"limit": 50}, headers=person.headers))
    assert "VIEWED" not in {kind for kind, _ in after.values()}, "it would show the title of a paused listing"


async def test_somebody_unknown_sees_the_most_viewed_and_the_newest_of_the_tenant(
    platform: Platform, place: Place
) -> None:
    host = "second.localhost"
    owner = await platform.register(host)
    elsewhere = await place.listed()
    viewed = (await platform.create(owner, {"Host": host}, location=place.name)).json()
    newest = (await platform.create(owner, {"Host": host}, location=place.name)).json()
    await platform.http.post(f"/api/properties/{viewed['id']}/views", headers={"Host": host})

    async def known() -> dict[str, tuple[str, str]] | None:
        answer = reasons(await platform.http.get(PATH, params={"limit": 50}, headers={"Host": host}))
        return answer if answer.get(viewed["id"], ("", ""))[0] == "POPULAR" and newest["id"] in answer else None

    found = await until(known)

    assert found is not None
    assert (found[viewed["id"]], found[newest["id"]]) == (("POPULAR", "Viewed once"), ("NEWEST", "Recently listed"))
    assert elsewhere["id"] not in found
