"""The files of ../shared/data/images one by one: photos of cameras and phones, and files made to break decoders."""

import os
from pathlib import Path

import pytest

from adapters.pictures import Picture, PictureRefused, Pictures
from adapters.pictures.hashing import distance
from tests.adapters.pictures.files import REAL_FILES, avif_boxes, jpeg_segments, webp_chunks

FOLDER = Path(REAL_FILES)
SIZES = {
    "exif_thumb_Canon_40D_photoshop.jpg": (100, 77),
    "gps_45-gps_ifd.jpg": (1600, 900),
    "gps_DSCN0010.jpg": (640, 480),
    "gps_DSCN0012.jpg": (640, 480),
    "gps_DSCN0021.jpg": (640, 480),
    "heic_samplefilehub.heif": (640, 426),
    "invalid_image01137.jpg": (88, 64),
    "invalid_image01551.jpg": (61, 58),
    "orient_landscape_1.jpg": (600, 450),
    "orient_landscape_3.jpg": (600, 450),
    "orient_landscape_6.jpg": (600, 450),
    "orient_landscape_8.jpg": (600, 450),
    "orient_portrait_1.jpg": (450, 600),
    "orient_portrait_5.jpg": (450, 600),
    "orient_portrait_6.jpg": (450, 600),
    "phone_jolla.jpg": (3264, 2448),
    "pillow_decompression_bomb_extents.gif": (100, 100),
    "pillow_exif_gps.jpg": (8, 8),
    "pillow_hopper_orientation_6.jpg": (128, 128),
    "pillow_invalid-exif.jpg": (200, 200),
    "property_apartment_downtown.jpg": (800, 533),
    "property_apartment_luxury.jpg": (800, 595),
    "property_house_family.jpg": (800, 533),
    "property_studio_modern.jpg": (800, 533),
}
"""Those that become pictures, upright. The second frame of the GIF is the bomb; the EXIF of the `invalid` is broken."""
REFUSED = {
    "pillow_broken_data_stream.png": "truncated",
    "pillow_decompression_bomb.gif": "too-many-pixels",
    "pillow_png_decompression_dos.png": "decompression-bomb",
    "pillow_truncated_image.png": "truncated",
    "pillow_truncated_jpeg.jpg": "truncated",
}
WITHOUT_DATA = pytest.mark.skipif(not FOLDER.exists(), reason="the images of ../shared/data are not on this machine")


async def make(pictures: Pictures, name: str, folder: Path) -> Picture:
    return await pictures.make(FOLDER / name, folder, lambda _: None)


@WITHOUT_DATA
def test_every_file_has_an_expected_outcome() -> None:
    assert {path.name for path in FOLDER.iterdir()} == SIZES.keys() | REFUSED.keys()


@WITHOUT_DATA
@pytest.mark.parametrize("name", SIZES)
async def test_photo_becomes_variants_without_metadata(pictures: Pictures, name: str, tmp_path: Path) -> None:
    made = await make(pictures, name, tmp_path)
    assert (made.width, made.height) == SIZES[name]
    assert max(variant.width for variant in made.variants) == min(1920, made.width)
    for variant in made.variants:
        data = variant.path.read_bytes()
        match variant.path.suffix:
            case ".jpg":
                assert set(jpeg_segments(data)) <= {0xE0, 0xDB, 0xC0, 0xC4}
            case ".webp":
                assert set(webp_chunks(data)) <= {b"VP8 ", b"VP8X", b"ALPH"}
            case _:
                named = [box for box in avif_boxes(data) if box.startswith((b"infe", b"colr"))]
                assert set(named) <= {b"infe av01", b"colr nclx"}


@WITHOUT_DATA
@pytest.mark.parametrize("name", REFUSED)
async def test_hostile_file_is_refused_by_name(pictures: Pictures, name: str, tmp_path: Path) -> None:
    with pytest.raises(PictureRefused) as refused:
        await make(pictures, name, tmp_path)
    assert refused.value.code == REFUSED[name]
    assert not os.listdir(tmp_path)


@WITHOUT_DATA
@pytest.mark.parametrize("orientation", [3, 6, 8])
async def test_turned_photo_comes_out_as_the_upright_one(pictures: Pictures, orientation: int, tmp_path: Path) -> None:
    upright = await make(pictures, "orient_landscape_1.jpg", tmp_path)
    turned = await make(pictures, f"orient_landscape_{orientation}.jpg", tmp_path)
    assert {(each.width, each.height) for each in turned.variants} == {(320, 240), (600, 450)}
    assert distance(turned.perceptual_hash, upright.perceptual_hash) <= 4


@WITHOUT_DATA
async def test_photos_of_different_things_have_distant_hashes(pictures: Pictures, tmp_path: Path) -> None:
    different = [name for name in SIZES if name.startswith(("property_", "gps_DSCN", "phone_", "heic_"))]
    hashes = [(await make(pictures, name, tmp_path)).perceptual_hash for name in different]
    apart = [distance(one, other) for at, one in enumerate(hashes) for other in hashes[:at]]
    assert min(apart) >= 16
