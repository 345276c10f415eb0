"""What a request to search asks, by URL and as JSON."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from api.bodies import BodyOf
from api.search_parameters import SearchBody, SearchParameters
from domain.search import SearchQuery, Sort


def by_url(**values: Any) -> SearchQuery:
    return SearchParameters.model_validate(values).query


def as_json(**values: Any) -> SearchQuery:
    return SearchBody.model_validate(values).query


READERS = pytest.mark.parametrize("read", [by_url, as_json])


@READERS
def test_lists_are_separated_by_commas_or_repeated(read: Any) -> None:
    together = read(propertyType=["VILLA,HOUSE"], bedrooms=["2,4+"], location=["Uppal , Kondapur"])
    repeated = read(propertyType=["VILLA", "HOUSE"], bedrooms=["2", "4+"], location=["Uppal", "Kondapur"])

    assert together == repeated
    assert together.bedrooms == ("2", "4+")
    assert together.location == ("Uppal", "Kondapur")


@READERS
def test_plus_that_a_client_has_not_encoded_is_read(read: Any) -> None:
    assert read(bedrooms=["2,4 "]).bedrooms == ("2", "4+")
    assert read(listedSince="2026-11-01T00:00:00 05:30").listed_since == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)


@READERS
def test_time_without_offset_is_in_utc(read: Any) -> None:
    assert read(listedSince="2026-11-01").listed_since == datetime(2026, 11, 1, tzinfo=UTC)
    assert read(listedSince="2026-11-01T10:00:00Z").listed_since == datetime(2026, 11, 1, 10, tzinfo=UTC)


@READERS
@pytest.mark.parametrize(
    ("unit", "area", "least", "most"),
    [
        ("SQFT", 1200, 1200, 1200),
        ("SQM", 100, 1076, 1077),
        ("SQYD", 200, 1800, 1800),
        ("ACRE", 1.5, 65_340, 65_340),
        ("GUNTA", 40, 43_560, 43_560),
        ("SQM", 0.01, 1, 1),
    ],
)
def test_areas_are_converted_to_square_feet_and_rounded_outwards(
    read: Any, unit: str, area: float, least: int, most: int
) -> None:
    query = read(minArea=area, maxArea=area, areaUnit=unit)

    assert (query.min_area, query.max_area) == (least, most)


@READERS
def test_points_and_boxes_are_numbers_separated_by_commas(read: Any) -> None:
    query = read(near="17.44,78.34", radiusKm=2.5, bbox="78.3, 17.3, 78.5, 17.5", sort="distance")

    assert query.near is not None
    assert (query.near.latitude, query.near.longitude) == (17.44, 78.34)
    assert query.bbox is not None
    assert (query.bbox.west, query.bbox.north) == (78.3, 17.5)
    assert (query.radius_km, query.sort) == (2.5, Sort.DISTANCE)


def test_json_takes_numbers_objects_and_a_polygon() -> None:
    ring = [[78.3, 17.3], [78.5, 17.3], [78.4, 17.5], [78.3, 17.3]]
    query = as_json(
        bedrooms=[2, "4+"],
        near={"latitude": 17.44, "longitude": 78.34},
        polygon={"type": "Polygon", "coordinates": [ring]},
    )

    assert query.bedrooms == ("2", "4+")
    assert query.polygon is not None
    assert len(query.polygon.polygons[0][0]) == 4


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"near": "17.44"}, "near"),
        ({"near": "here,there"}, "near"),
        ({"near": "78.34,17.44"}, "near"),
        ({"bbox": "78.5,17.3,78.3,17.5"}, "bbox"),
        ({"bbox": "1,2,3"}, "bbox"),
        ({"bedrooms": ["two"]}, "bedrooms"),
        ({"propertyType": ["CASTLE"]}, "propertyType"),
        ({"pincode": ["5000"]}, "pincode"),
        ({"minPrice": 10, "maxPrice": 9}, "minPrice"),
        ({"minPrice": 0}, "minPrice"),
        ({"sort": "distance"}, "near"),
        ({"radiusKm": 101, "near": "17.44,78.34"}, "radiusKm"),
        ({"amenities": [","]}, "amenities"),
    ],
)
def test_invalid_values_are_named(values: dict[str, Any], place: str) -> None:
    with pytest.raises(RequestValidationError) as refused:
        by_url(**values)

    [fault, *_] = refused.value.errors()
    assert fault["loc"][:2] == ("query", place)


def test_polygon_of_too_many_vertices_is_refused_with_the_reason() -> None:
    ring = [[78.3 + n / 10_000, 17.3] for n in range(1_000)] + [[78.4, 17.5], [78.3, 17.3]]

    with pytest.raises(ValidationError, match="at most 1,000 vertices; it has 1,001"):
        as_json(polygon={"type": "Polygon", "coordinates": [ring]})


def test_body_has_no_other_names() -> None:
    for extra in ({"castle": 1}, {"property_type": ["VILLA"]}):
        with pytest.raises(ValidationError):
            _read_body(extra)


def _read_body(values: dict[str, Any]) -> SearchBody:
    adapter: TypeAdapter[SearchBody] = TypeAdapter(BodyOf[SearchBody])
    return adapter.validate_python(values)
