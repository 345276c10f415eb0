"""Clusters: the listings of a map, counted by tile."""

from dataclasses import dataclass
from math import asinh, pi, radians, tan
from uuid import UUID

from domain import fields as f
from domain.geometry import Box
from domain.model import Model

MAX_TILES = 1_000
"""Of an answer: a screen of 2,560 x 1,440 pixels has 920 tiles of 64 pixels."""
MAX_COUNTED = 50_000
"""Listings that are counted for one map: a tenth of a second or two, and more than the tiles of a screen can tell."""
MAX_ZOOM = 22
_FINER = 2
"""Levels between the zoom of a map and its clusters: a tile of the map, 256 pixels wide, has 4 x 4 of them."""


class Cluster(Model):
    """The listings in a tile of the map (Web Mercator, numbered as in `/{z}/{x}/{y}.png`)."""

    tile: str
    """`z/x/y`."""
    count: int
    latitude: f.Latitude
    """Of the middle of the listings."""
    longitude: f.Longitude
    min_price: f.Rupees
    max_price: f.Rupees
    property_id: UUID | None = None
    """The listing, where there is only one."""


@dataclass(frozen=True)
class Counted:
    """The clusters of a map, the fullest first."""

    clusters: tuple[Cluster, ...]
    exact: bool
    """Whether every listing was counted; if not, the counts are lower bounds."""


@dataclass(frozen=True)
class Tiles:
    """The tiles of one level that a box touches."""

    level: int
    west: int
    north: int
    east: int
    south: int

    @property
    def count(self) -> int:
        return (self.east - self.west + 1) * (self.south - self.north + 1)


def tile_of(latitude: float, longitude: float, level: int) -> tuple[int, int]:
    """Column and row of the tile with a point, counted from the north-western corner of the map."""
    across = (longitude + 180) / 360
    down = (1 - asinh(tan(radians(latitude))) / pi) / 2
    return int(across * 2**level), int(down * 2**level)


def tiles_of(box: Box, zoom: int) -> Tiles:
    """The tiles in which a map of `box` at `zoom` is counted: finer than its own, and at most MAX_TILES."""
    for level in range(zoom + _FINER, -1, -1):
        (west, north), (east, south) = tile_of(box.north, box.west, level), tile_of(box.south, box.east, level)
        tiles = Tiles(level, west, north, east, south)
        if tiles.count <= MAX_TILES:
            return tiles
    raise AssertionError("the whole map is one tile at level 0")
