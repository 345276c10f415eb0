"""Searching over HTTP: what is found, paging, and who finds what."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from adapters.search.engine import SearchTooSlow, SearchUnavailable
from api import errors
from api.errors import ApiError
from api.polygon_searches import PolygonSearches
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform

pytestmark = pytest.mark.search

PATH = "/api/search/properties"
POINT: dict[str, Any] = {"latitude": 17.4401, "longitude": 78.3489}
OPEN_RING = [[78, 17], [79, 17], [78, 18], [78.5, 17]]


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register(role="AGENT")


def new_place() -> str:
    """A locality that no other test has."""
    return f"Nagar {uuid4().hex}"


async def search(
    platform: Platform, token: str | None = None, headers: dict[str, str] | None = None, **query: Any
) -> dict[str, Any]:
    sent = {**(headers or {}), **({"Consistency-Token": token} if token else {})}
    answer = await platform.http.get(PATH, params=query, headers=sent)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def ids(page: dict[str, Any]) -> list[str]:
    return [item["property"]["id"] for item in page["items"]]


async def test_listing_is_found_at_once_with_the_token_of_its_command(platform: Platform, owner: Person) -> None:
    place = new_place()
    created = await platform.create(owner, location=place, contactPhone="9848022338", amenities=["Lift"], **POINT)
    token = created.headers["consistency-token"]

    page = await search(
        platform, token, location=place, q="flat lake", interpret="false", near="17.44,78.35", amenities="LIFT"
    )

    [item] = page["items"]
    without_contact = {name: value for name, value in created.json().items() if not name.startswith("contact")}
    assert item["property"] == without_contact
    assert item["property"]["postedBy"] == "AGENT"
    assert item["distanceKm"] == pytest.approx(0.117, abs=0.01)
    assert item["highlights"] == {"description": "A bright <mark>flat</mark> near the <mark>lake</mark>, with a view."}
    assert (page["nextCursor"], page["relax"]) == (None, [])
    assert page["interpretation"]["terms"] == ["flat", "lake"]
    assert page["interpretation"]["filters"]["location"] == [place]


async def test_changes_and_deletions_are_followed(platform: Platform, owner: Person) -> None:
    place = new_place()
    created = await platform.create(owner, location=place)
    path = created.headers["location"]

    changed = await platform.change(owner, "PATCH", path, {"title": "Zanzibar villa", "price": 9_000_000})
    page = await search(platform, changed.headers["consistency-token"], location=place, q="zanzibar")
    assert page["items"][0]["property"]["price"] == 9_000_000
    assert page["items"][0]["property"]["previousPrice"] == 8_500_000
    paused = await platform.change(owner, "PUT", f"{path}/status", {"status": "PAUSED"})
    assert ids(await search(platform, paused.headers["consistency-token"], location=place)) == []
    active = await platform.change(owner, "PUT", f"{path}/status", {"status": "ACTIVE"})
    [item] = (await search(platform, active.headers["consistency-token"], location=place))["items"]
    assert item["property"]["listedAt"] == created.json()["listedAt"]
    deleted = await platform.change(owner, "DELETE", path)
    assert ids(await search(platform, deleted.headers["consistency-token"], location=place)) == []


async def test_pages_follow_each_other_and_a_cursor_is_good_for_its_search_alone(
    platform: Platform, owner: Person
) -> None:
    place = new_place()
    created = [await platform.create(owner, location=place, price=price) for price in (3_000_000, 1_000_000, 2_000_000)]
    token = created[-1].headers["consistency-token"]
    for answer in created:
        await search(platform, answer.headers["consistency-token"])

    first = await search(platform, token, location=place, sort="price", limit=2)
    second = await search(platform, location=place, sort="price", limit=50, cursor=first["nextCursor"])

    assert ids(first) + ids(second) == [created[n].json()["id"] for n in (1, 2, 0)]
    assert second["nextCursor"] is None
    for change in ({"sort": "-price"}, {"location": new_place()}, {"q": "flat"}, {"cursor": first["nextCursor"] + "x"}):
        wrong = {"location": place, "sort": "price", "cursor": first["nextCursor"], **change}
        assert_problem(await platform.http.get(PATH, params=wrong), "invalid-cursor")
    same = await platform.http.post(PATH, json={"location": [place], "sort": "price", "cursor": first["nextCursor"]})
    assert ids(same.json()) == ids(second)


async def test_later_pages_are_read_as_the_first_one_although_the_vocabulary_changes(
    platform: Platform, owner: Person
) -> None:
    # Of letters alone: digits would be a word of their own.
    word = uuid4().hex.translate(str.maketrans("0123456789", "ghijklmnop"))
    misspelled = word[:9] + word[10:]
    created = [await platform.create(owner, title=f"Flat {word}", price=price) for price in (1_000_000, 2_000_000)]
    for answer in created:
        await search(platform, answer.headers["consistency-token"])
    asked: dict[str, Any] = {"q": f"under 1 cr {misspelled}", "sort": "price", "limit": 1}

    first = await search(platform, **asked)
    other = await platform.create(owner, title=f"Flat {misspelled}")
    afresh = await search(platform, other.headers["consistency-token"], **asked)
    second = await search(platform, **asked, cursor=first["nextCursor"])

    assert ids(first) + ids(second) == [answer.json()["id"] for answer in created]
    assert (afresh["interpretation"]["terms"], ids(afresh)) == ([misspelled], [other.json()["id"]])
    assert second["interpretation"] == first["interpretation"]
    assert second["nextCursor"] is None


async def test_misspelled_word_is_corrected_and_the_answer_says_so(platform: Platform, owner: Person) -> None:
    place = new_place()
    created = await platform.create(owner, location=place, title="Flat at Quthbullapur")

    page = await search(
        platform, created.headers["consistency-token"], location=place, q="quthbulapur", interpret="false"
    )

    assert ids(page) == [created.json()["id"]]
    assert page["interpretation"]["terms"] == ["quthbullapur"]
    assert page["items"][0]["highlights"] == {"title": "Flat at <mark>Quthbullapur</mark>"}


async def test_polygon_is_drawn_with_holes(platform: Platform, owner: Person) -> None:
    place = new_place()
    inside = await platform.create(owner, location=place, latitude=17.41, longitude=78.41)
    in_hole = await platform.create(owner, location=place, latitude=17.45, longitude=78.45)
    for created in (inside, in_hole):
        await search(platform, created.headers["consistency-token"])
    outer = [[78.4, 17.4], [78.5, 17.4], [78.5, 17.5], [78.4, 17.5], [78.4, 17.4]]
    hole = [[78.44, 17.44], [78.46, 17.44], [78.46, 17.46], [78.44, 17.46], [78.44, 17.44]]
    polygon = {"type": "Polygon", "coordinates": [outer, hole]}

    answer = await platform.http.post(PATH, json={"location": [place], "polygon": polygon})

    assert ids(answer.json()) == [inside.json()["id"]]
    assert answer.json()["interpretation"]["filters"]["polygon"] == polygon


async def test_search_is_for_the_tenant_of_the_host_or_the_token(platform: Platform, owner: Person) -> None:
    place, host = new_place(), {"Host": "second.localhost"}
    other = await platform.register(host="second.localhost")
    mine = await platform.create(owner, location=place)
    theirs = await platform.create(other, {**host}, location=place)
    tokens = [answer.headers["consistency-token"] for answer in (mine, theirs)]

    assert ids(await search(platform, tokens[0], location=place)) == [mine.json()["id"]]
    assert ids(await search(platform, tokens[1], host, location=place)) == [theirs.json()["id"]]
    signed_in = {**host, **other.headers}
    assert ids(await search(platform, tokens[1], signed_in, location=place)) == [theirs.json()["id"]]
    answer = await platform.http.get(PATH, headers={"Consistency-Token": tokens[1]})
    assert_problem(answer, "invalid-consistency-token")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("castle=1", "query.castle"),
        ("near=17.4", "query.near"),
        ("minPrice=10&maxPrice=9", "query.minPrice"),
        ("sort=distance", "query.near"),
        ("minPrice=cheap", "query.minPrice"),
        ("q=", "query.q"),
        ("limit=101", "query.limit"),
        ("sort=castle", "query.sort"),
        ("listedSince=0001-01-01T00:00:00%2B14:00", "query.listedSince"),
        ("bedrooms=many", "query.bedrooms.0"),
        ("sort=price&sort=area", "query.sort"),
    ],
)
async def test_invalid_parameters_are_named(platform: Platform, query: str, field: str) -> None:
    assert_problem(await platform.http.get(f"{PATH}?{query}"), "invalid-request", field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"castle": 1}, "castle"),
        ({"polygon": {"type": "Point", "coordinates": [1, 2]}}, "polygon"),
        ({"polygon": {"type": "Polygon", "coordinates": [OPEN_RING]}}, "polygon.Polygon"),
        ({"near": "here"}, "near"),
        ({"limit": 0}, "limit"),
        ({"propertyType": ["APARTMENT"] * 15_000}, "propertyType"),
    ],
)
async def test_invalid_body_is_named(platform: Platform, body: dict[str, Any], field: str) -> None:
    assert_problem(await platform.http.post(PATH, json=body), "invalid-request", field)


@pytest.mark.parametrize(
    ("raised", "advice", "seconds"),
    [
        (SearchUnavailable("no answer"), "Search is unavailable", "2"),
        (SearchTooSlow("canceling statement due to statement timeout"), "fewer vertices", "5"),
    ],
)
async def test_search_that_fails_is_answered_with_retry_after(raised: Exception, advice: str, seconds: str) -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/search")
    async def unavailable() -> None:
        raise raised

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/search")

    assert_problem(answer, "unavailable")
    assert advice in answer.json()["detail"]
    assert answer.headers["retry-after"] == seconds


async def test_searches_in_a_polygon_are_few_at_once() -> None:
    searches = PolygonSearches(at_once=1, wait_seconds=0)
    with suppress(SearchUnavailable):
        async with searches.place():
            with pytest.raises(ApiError) as refused:
                async with searches.place():
                    pass
            raise SearchUnavailable("no answer")

    assert (refused.value.kind, refused.value.headers) == ("unavailable", {"Retry-After": "2"})
    async with searches.place():
        pass


async def test_wrong_value_of_a_list_is_refused_by_the_name_of_its_parameter(platform: Platform) -> None:
    answer = await platform.http.get(PATH, params={"bedrooms": "many"})

    assert answer.json()["detail"].startswith("The query parameter `bedrooms` is not valid.")


async def test_what_people_type_is_read_as_filters(platform: Platform, owner: Person) -> None:
    # Of letters alone: digits would be a word of their own.
    word = uuid4().hex.translate(str.maketrans("0123456789", "ghijklmnop"))
    wanted: dict[str, Any] = {"location": "Gachi Bowli", "title": f"Flat {word}", "bedrooms": 2, "price": 9_000_000}
    created = await platform.create(owner, **wanted)
    for other in ({"price": 12_000_000}, {"bedrooms": 3}, {"location": "Kondapur"}, {"listingType": "RENT"}):
        token = (await platform.create(owner, **{**wanted, **other})).headers["consistency-token"]
        await search(platform, token)

    page = await search(platform, q=f"2 bhk gachibwoli under 1 cr {word}")

    assert ids(page) == [created.json()["id"]]
    assert {each["value"] for each in page["facets"]["location"]} == {"Gachibowli", "Kondapur"}
    assert page["interpretation"] == {
        "filters": {
            "q": word,
            "location": ["Gachibowli"],
            "listingType": ["SALE"],
            "maxPrice": 10_000_000,
            "bedrooms": ["2"],
        },
        "terms": [word],
        "words": {
            "location": ["gachibwoli"],
            "listingType": ["under 1 cr"],
            "maxPrice": ["under 1 cr"],
            "bedrooms": ["2 bhk"],
        },
    }


async def test_a_parameter_wins_over_what_is_read_and_reading_can_be_switched_off(platform: Platform) -> None:
    read = (await search(platform, q="2 bhk kondapur under 1 cr", bedrooms="3", minPrice=100))["interpretation"]
    assert read["filters"] == {"location": ["Kondapur"], "listingType": ["SALE"], "minPrice": 100, "bedrooms": ["3"]}
    plain = (await search(platform, q="2 bhk kondapur", interpret="false"))["interpretation"]
    assert (plain["filters"], plain["words"]) == ({"q": "2 bhk kondapur"}, {})
    body = {"q": "villa in uppal", "interpret": False}
    posted = (await platform.http.post(PATH, json=body)).json()["interpretation"]
    assert posted["filters"] == {"q": "villa in uppal"}


async def test_locality_is_found_however_it_is_spelt(platform: Platform, owner: Person) -> None:
    word = f"zebra{uuid4().hex}"
    places = ["Hi-Tech City", "HITEC City, Hyderabad", "hiteccity", "Ameerpet", "Meerpet"]
    created = [await platform.create(owner, location=place, title=f"Flat {word}") for place in places]
    for answer in created:
        await search(platform, answer.headers["consistency-token"])

    for place, wanted in (("Hitech City", created[:3]), ("ameerpet", created[3:4]), ("MEERPET", created[4:])):
        found = ids(await search(platform, q=word, location=place, interpret="false"))
        assert sorted(found) == sorted(answer.json()["id"] for answer in wanted)
