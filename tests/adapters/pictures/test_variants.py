"""What is made from a picture: sizes, colours, orientation, previews."""

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from adapters.pictures import Picture, Pictures
from adapters.pictures.decoding import decode
from adapters.pictures.encoding import widths_of
from adapters.pictures.hashing import distance, perceptual_hash
from tests.adapters.pictures.files import drawing, encoded, exif, jpeg_segments, webp_chunks, with_segment


def decoded(data: bytes, folder: Path) -> Image.Image:
    source = folder / "source"
    source.write_bytes(data)
    return decode(source, lambda _: None).image


async def made(pictures: Pictures, data: bytes, folder: Path) -> Picture:
    source = folder / "source"
    source.write_bytes(data)
    variants = folder / "variants"
    variants.mkdir(exist_ok=True)
    return await pictures.make(source, variants, lambda _: None)


def middle(image: Image.Image) -> tuple[int, ...]:
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        (4000, (320, 640, 1280, 1920)),
        (1920, (320, 640, 1280, 1920)),
        (1300, (320, 640, 1280, 1300)),
        (320, (320,)),
        (8, (8,)),
    ],
)
def test_no_variant_is_wider_than_its_source(width: int, widths: tuple[int, ...]) -> None:
    assert widths_of(width) == widths


async def test_portrait_has_the_same_widths_and_is_higher(pictures: Pictures, tmp_path: Path) -> None:
    picture = await made(pictures, encoded(drawing(1500, 2000)), tmp_path)
    assert [(each.path.name, each.height, each.media_type) for each in picture.variants] == [
        ("320.avif", 427, "image/avif"),
        ("320.webp", 427, "image/webp"),
        ("640.avif", 853, "image/avif"),
        ("640.webp", 853, "image/webp"),
        ("1280.avif", 1707, "image/avif"),
        ("1280.webp", 1707, "image/webp"),
        ("1280.jpg", 1707, "image/jpeg"),
        ("1500.avif", 2000, "image/avif"),
        ("1500.webp", 2000, "image/webp"),
    ]
    for each in picture.variants:
        assert each.size == each.path.stat().st_size
        with Image.open(each.path) as image:
            assert (image.get_format_mimetype(), image.size) == (each.media_type, (each.width, each.height))


async def test_same_bytes_become_the_same_files(pictures: Pictures, tmp_path: Path) -> None:
    source = encoded(drawing(700, 500), "PNG")
    outcomes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        picture = await made(pictures, source, tmp_path / name)
        files = [each.path.read_bytes() for each in picture.variants]
        outcomes.append((files, picture.thumbhash, picture.perceptual_hash))
    assert outcomes[0] == outcomes[1]
    assert 5 <= len(base64.b64decode(outcomes[0][1])) <= 25


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_becomes_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    upright = drawing()
    # What a camera stores that was held in this way: the inverse of what makes it upright.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = upright.transpose(stored[orientation]) if orientation in stored else upright
    source = encoded(turned, kind, exif=exif(orientation=orientation).tobytes(), quality=90)
    image = decoded(source, tmp_path)
    assert image.size == upright.size
    assert distance(perceptual_hash(image), perceptual_hash(upright)) <= 4


async def test_no_metadata_are_in_any_output(pictures: Pictures, tmp_path: Path) -> None:
    source = encoded(
        drawing(),
        exif=exif(make="Canary", orientation=6, gps=True).tobytes(),
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        comment=b"Canary",
        xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>Canary</x:xmpmeta>",
    )
    source = with_segment(source, 0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06Canary")
    assert source.count(b"Canary") == 4
    picture = await made(pictures, source, tmp_path)
    assert (picture.width, picture.height) == (300, 400)
    for each in picture.variants:
        data = each.path.read_bytes()
        assert not [word for word in (b"Canary", b"Exif", b"ICC", b"xmp", b"GPS") if word in data]
    outputs = {each.path.suffix: each.path.read_bytes() for each in picture.variants}
    assert set(jpeg_segments(outputs[".jpg"])) == {0xE0, 0xDB, 0xC0, 0xC4}
    assert webp_chunks(outputs[".webp"]) == [b"VP8 "]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_damaged_metadata_do_not_spoil_a_picture(damage: bytes, tmp_path: Path) -> None:
    assert decoded(with_segment(encoded(drawing()), 0xE1, damage), tmp_path).size == (400, 300)


def test_colours_of_a_profile_become_srgb(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Another profile of the same form: red and green are swapped, and its name is another.
    swapped = profile.replace(b"rXYZ", b"xXYZ").replace(b"gXYZ", b"rXYZ").replace(b"xXYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        source = encoded(red, kind, icc_profile=swapped)
        assert middle(decoded(source, tmp_path)) == pytest.approx((0, 255, 0), abs=12)
        unread = encoded(red, kind, icc_profile=b"not a profile, which is longer than a header of 128 bytes" * 4)
        assert middle(decoded(unread, tmp_path)) == pytest.approx((255, 0, 0), abs=12)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("L", (50, 50), 128), "JPEG"),
        (Image.new("RGB", (50, 50), (128, 128, 128)).convert("CMYK"), "JPEG"),
        (Image.new("I;16", (50, 50), 128 * 257), "PNG"),
        (Image.new("LA", (50, 50), (128, 255)), "PNG"),
        (Image.new("RGB", (50, 50), (128, 128, 128)).quantize(4), "PNG"),
        (Image.new("RGB", (50, 50), (128, 128, 128)).quantize(4), "GIF"),
        (Image.new("RGBA", (50, 50), (128, 128, 128, 255)), "WEBP"),
    ],
    ids=["grey", "cmyk", "16 bits", "grey with alpha", "palette", "gif", "opaque alpha"],
)
def test_every_kind_of_pixels_becomes_rgb(image: Image.Image, kind: str, tmp_path: Path) -> None:
    colour = middle(decoded(encoded(image, kind), tmp_path))
    assert len(colour) == 3
    assert colour == pytest.approx((128, 128, 128), abs=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF"])
async def test_transparent_picture_stays_so_and_is_white_as_jpeg(pictures: Pictures, kind: str, tmp_path: Path) -> None:
    source = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    source.paste((200, 0, 0, 255), (0, 0, 16, 16))
    picture = await made(pictures, encoded(source, kind), tmp_path)
    for each in picture.variants:
        with Image.open(each.path) as image:
            if each.path.suffix == ".jpg":
                assert middle(image) == pytest.approx((255, 255, 255), abs=3)
            else:
                assert middle(image.convert("RGBA"))[3] == 0


def test_only_the_first_frame_is_used(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (50, 50), "red"), Image.new("RGB", (50, 50), "blue")
    for kind in ("GIF", "WEBP", "PNG", "AVIF"):
        source = encoded(first, kind, save_all=True, append_images=[second], duration=100)
        assert middle(decoded(source, tmp_path)) == pytest.approx((255, 0, 0), abs=5)


def test_near_duplicates_have_near_hashes() -> None:
    original = drawing(800, 600)
    hashed = perceptual_hash(original)
    assert -(1 << 63) <= hashed < 1 << 63
    for other in (
        original.resize((320, 240)),
        original.resize((1100, 825)),
        Image.open(BytesIO(encoded(original, quality=25))),
        original.point(lambda value: min(255, value * 1.1)),
    ):
        assert distance(hashed, perceptual_hash(other)) <= 4
    for different in (original.rotate(180), original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        assert distance(hashed, perceptual_hash(different)) >= 16
