from hypothesis import given
from hypothesis import strategies as st

from domain.clusters import MAX_TILES, MAX_ZOOM, tile_of, tiles_of
from domain.geometry import Box

LATITUDES = st.floats(min_value=6.5, max_value=37.4)
LONGITUDES = st.floats(min_value=68, max_value=97.4)
SIZES = st.floats(min_value=0.0001, max_value=0.1)


def test_tiles_are_numbered_as_those_of_maps() -> None:
    # Charminar: https://tile.openstreetmap.org/16/47053/29557.png
    assert tile_of(17.3616, 78.4747, 16) == (47053, 29557)
    assert tile_of(17.3616, 78.4747, 0) == (0, 0)


@given(LATITUDES, LONGITUDES, SIZES, SIZES, st.integers(min_value=0, max_value=MAX_ZOOM))
def test_a_box_has_the_tiles_of_its_corners_and_not_too_many(
    south: float, west: float, height: float, width: float, zoom: int
) -> None:
    box = Box(west=west, south=south, east=west + width, north=south + height)
    tiles = tiles_of(box, zoom)
    assert 1 <= tiles.count <= MAX_TILES
    assert tiles.level <= zoom + 2
    assert (tiles.west, tiles.south) == tile_of(box.south, box.west, tiles.level)
    assert (tiles.east, tiles.north) == tile_of(box.north, box.east, tiles.level)


def test_a_screen_is_counted_in_tiles_of_64_pixels() -> None:
    hyderabad = Box(west=78.2, south=17.2, east=78.7, north=17.6)
    assert tiles_of(hyderabad, 11).level == 13
    assert tiles_of(hyderabad, 20).level == 14, "no finer than the answer may be long"
