"""Totals, facets, what to drop, and clusters over HTTP."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.platform import Platform

HYDERABAD = "78.2,17.2,78.7,17.6"


class Place:
    """A made-up locality with listings."""

    def __init__(self, platform: Platform, name: str, token: str) -> None:
        self.name = name
        self._platform = platform
        self._headers = {"Consistency-Token": token}

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        answer = await self._platform.http.get(f"/api/search/{path}", params=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
async def place(platform: Platform) -> Place:
    owner = await platform.register()
    name = f"Place {uuid4().hex[:12]}"
    created: httpx.Response | None = None
    made: tuple[dict[str, Any], ...] = (
        {"propertyType": "VILLA", "price": 20_000_000, "bedrooms": 4, "latitude": 17.41, "longitude": 78.35},
        {"propertyType": "VILLA", "price": 25_000_000, "bedrooms": 3, "latitude": 17.41, "longitude": 78.35},
        {"price": 8_000_000, "bedrooms": 3, "amenities": ["Lift", "Swimming Pool"], "facing": "EAST"},
        {"price": 30_000, "listingType": "RENT", "bedrooms": 2, "latitude": 17.5, "longitude": 78.6},
    )
    for more in made:
        created = await platform.create(owner, location=name, **more)
        assert created.status_code == 201, created.text
    assert created is not None
    return Place(platform, name, created.headers["Consistency-Token"])


def counts(found: dict[str, Any], facet: str) -> dict[str, int]:
    assert all(each["exact"] for each in found["facets"][facet])
    return {each["value"]: each["count"] for each in found["facets"][facet]}


async def test_first_page_has_total_and_facets_under_the_other_filters(place: Place) -> None:
    found = await place.get("properties", location=place.name, propertyType="VILLA", limit="1")

    assert found["total"] == {"value": 2, "exact": True}
    assert counts(found, "propertyType") == {"VILLA": 2, "APARTMENT": 2}
    assert counts(found, "bedrooms") == {"3": 1, "4": 1}
    assert counts(found, "price") == {"15000001-20000000": 1, "20000001-30000000": 1}
    assert counts(found, "listingType") == {"SALE": 2}
    assert found["relax"] == []
    assert {item["property"]["propertyType"] for item in found["items"]} == {"VILLA"}

    second = await place.get(
        "properties", location=place.name, propertyType="VILLA", limit="1", cursor=found["nextCursor"]
    )
    assert (second["total"], second["facets"], second["relax"]) == (None, {}, [])


async def test_choosing_a_value_finds_as_many_as_its_facet_says(place: Place) -> None:
    found = await place.get("properties", location=place.name)
    assert counts(found, "amenities") == {"lift": 1, "swimming pool": 1}
    for facet in ("propertyType", "listingType", "bedrooms", "facing", "postedBy", "amenities"):
        assert found["facets"][facet]
        for value, count in counts(found, facet).items():
            chosen = await place.get("properties", location=place.name, **{facet: value})
            assert chosen["total"]["value"] == len(chosen["items"]) == count, (facet, value)
    for band, count in counts(found, "price").items():
        low, _, high = band.partition("-")
        limits = {name: limit for name, limit in (("minPrice", low), ("maxPrice", high)) if limit}
        assert (await place.get("properties", location=place.name, **limits))["total"]["value"] == count


async def test_search_without_a_result_says_what_to_drop(place: Place) -> None:
    found = await place.get(
        "properties", location=place.name, propertyType="VILLA", maxPrice="10000000", minBedrooms="3", limit="5"
    )

    assert found["items"] == []
    assert found["total"] == {"value": 0, "exact": True}
    by_name = {each["drop"]: each["total"]["value"] for each in found["relax"]}
    assert by_name["maxPrice"] == 2
    assert by_name["propertyType"] == 1
    assert "minBedrooms" not in by_name, "the flat for rent is no villa either"
    assert [each["total"]["value"] for each in found["relax"]] == sorted(by_name.values(), reverse=True)


async def test_clusters_of_a_map(place: Place) -> None:
    shown = await place.get("clusters", bbox=HYDERABAD, zoom="12", location=place.name)
    found = shown["items"]

    assert shown["exact"]
    assert [each["count"] for each in found] == [2, 1], "a listing without a point is on no map"
    assert (found[0]["minPrice"], found[0]["maxPrice"]) == (20_000_000, 25_000_000)
    assert (found[0]["latitude"], found[0]["longitude"]) == pytest.approx((17.41, 78.35))
    assert found[0]["propertyId"] is None
    [alone] = (await place.get("properties", location=place.name, listingType="RENT"))["items"]
    assert found[1]["propertyId"] == alone["property"]["id"]
    assert found[1]["tile"].startswith("14/")

    rents = await place.get("clusters", bbox=HYDERABAD, zoom="12", location=place.name, listingType="RENT")
    assert rents["items"] == found[1:]


async def test_another_tenant_sees_no_counts(platform: Platform, place: Place) -> None:
    host = {"Host": "second.localhost"}
    query = {"location": place.name}
    page = (await platform.http.get("/api/search/properties", params=query, headers=host)).json()
    assert page["total"] == {"value": 0, "exact": True}
    # Other tests list something in other places of that tenant.
    places = {facet["value"] for facet in page["facets"].pop("location")}
    assert place.name not in places
    assert not any(page["facets"].values())
    on_map = {**query, "bbox": HYDERABAD, "zoom": "9"}
    assert (await platform.http.get("/api/search/clusters", params=on_map, headers=host)).json() == {
        "items": [],
        "exact": True,
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"bbox": HYDERABAD}, "query.zoom"),
        ({"zoom": "9"}, "query.bbox"),
        ({"bbox": HYDERABAD, "zoom": "23"}, "query.zoom"),
        ({"bbox": "78.7,17.2,78.2,17.6", "zoom": "9"}, "query.bbox"),
        ({"bbox": "here", "zoom": "9"}, "query.bbox"),
        ({"bbox": HYDERABAD, "zoom": "9", "limit": "5"}, "query.limit"),
    ],
)
async def test_invalid_maps_are_refused_by_field(platform: Platform, query: dict[str, str], field: str) -> None:
    answer = await platform.http.get("/api/search/clusters", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field, answer.text
