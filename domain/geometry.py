"""Shapes on the map: points, boxes and polygons, with longitude and latitude in degrees (WGS 84)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from domain import fields as f
from domain.model import Model

MAX_VERTICES = 1_000
"""Of a drawn polygon, its holes included; a ward of Hyderabad has some 200."""

Position = Annotated[
    tuple[Annotated[float, Field(ge=-180, le=180)], Annotated[float, Field(ge=-90, le=90)]],
    Field(json_schema_extra={"items": {"type": "number"}}),  # `prefixItems` alone is not known to every tool
]
"""Longitude and latitude, in the order of GeoJSON (RFC 7946, section 3.1.1)."""
# The first wrong part of a shape is enough to refuse it: an error for each of 40,000 would take pydantic half a second.
Ring = Annotated[tuple[Position, ...], Field(min_length=4, fail_fast=True)]
_Rings = Annotated[tuple[Ring, ...], Field(min_length=1, fail_fast=True)]


class Point(Model):
    """A point in India."""

    latitude: f.Latitude
    longitude: f.Longitude


class Box(Model):
    """What a map shows, from its south-western to its north-eastern corner."""

    west: f.Longitude
    south: f.Latitude
    east: f.Longitude
    north: f.Latitude

    @model_validator(mode="after")
    def _check_corners(self) -> Self:
        if self.west >= self.east or self.south >= self.north:
            raise PydanticCustomError(
                "empty_box", "Give west,south,east,north, with west below east and south below north."
            )
        return self


class _Shape(Model):
    @property
    def polygons(self) -> tuple[tuple[Ring, ...], ...]:
        """Each polygon as its outer ring and its holes."""
        raise NotImplementedError

    @property
    def vertices(self) -> int:
        """The number of vertices, those of holes included."""
        return sum(len(ring) - 1 for polygon in self.polygons for ring in polygon)

    @model_validator(mode="after")
    def _check_rings(self) -> Self:
        if self.vertices > MAX_VERTICES:
            advice = f"Draw it with at most {MAX_VERTICES:,} vertices; it has {self.vertices:,}."
            raise PydanticCustomError("too_many_vertices", advice)
        if any(ring[0] != ring[-1] for polygon in self.polygons for ring in polygon):
            raise PydanticCustomError("open_ring", "End each ring where it begins (RFC 7946, section 3.1.6).")
        return self


class Polygon(_Shape):
    """A GeoJSON Polygon: the outer ring, then holes."""

    type: Literal["Polygon"]
    coordinates: _Rings

    @property
    def polygons(self) -> tuple[tuple[Ring, ...], ...]:
        return (self.coordinates,)


class MultiPolygon(_Shape):
    """A GeoJSON MultiPolygon."""

    type: Literal["MultiPolygon"]
    coordinates: Annotated[tuple[_Rings, ...], Field(min_length=1, fail_fast=True)]

    @property
    def polygons(self) -> tuple[tuple[Ring, ...], ...]:
        return self.coordinates


Polygons = Annotated[Polygon | MultiPolygon, Field(discriminator="type")]
"""A GeoJSON geometry that was drawn on the map."""
