"""From the bytes of a file to an upright picture in sRGB, without metadata, and no wider than the largest variant."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pi_heif
from PIL import AvifImagePlugin, ExifTags, Image, ImageCms

from adapters.pictures.containers import Container, read_container
from adapters.pictures.encoding import WIDTHS, fitting
from adapters.pictures.other_files import refuse_other_files
from adapters.pictures.picture import LONGEST_SIDE, MOST_PIXELS, MOST_SCANS, PictureRefused

# By their own limits Pillow only warns up to twice of it.
Image.MAX_IMAGE_PIXELS = None
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a process for each core

_FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation in EXIF."""
_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True)
class Decoded:
    media_type: str
    width: int
    """Pixels of the file, upright."""
    height: int
    image: Image.Image
    """RGB, or RGBA where something is transparent."""


def decode(source: Path, step: Callable[[str], None]) -> Decoded:
    """Check and decode a file. Raises PictureRefused, and OSError where the file cannot be read."""
    step("checking")
    data = source.read_bytes()
    container = read_container(data)
    if container is None:
        raise PictureRefused("not-an-image")
    if container.inflates:
        raise PictureRefused("decompression-bomb")
    if container.size:
        _check_size(*container.size)
    image = _open(data, container)
    _check_size(*image.size)
    if container.scans > MOST_SCANS:
        raise PictureRefused("too-many-scans")
    if container.end is None:
        raise PictureRefused("truncated")
    if container.damaged:
        raise PictureRefused("damaged")
    refuse_other_files(data, container, from_camera=bool(_exif(image, ExifTags.Base.Make)))
    step("decoding")
    return _decode(image, container.media_type)


def _open(data: bytes, container: Container) -> Image.Image:
    """The picture of a file, of which only the header is read."""
    try:
        return Image.open(BytesIO(data), formats=[_FORMATS[container.media_type]])
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like: SyntaxError, struct.error, IndexError, ...
        raise PictureRefused("damaged" if container.end else "truncated") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise PictureRefused("too-many-pixels")
    if max(width, height) > LONGEST_SIDE:
        raise PictureRefused("too-long-side")


def _exif(image: Image.Image, tag: ExifTags.Base) -> object:
    """A value of the metadata; None where there is none, or where they are damaged: the picture itself may be good."""
    try:
        return image.getexif().get(tag)
    except MemoryError:
        raise
    except Exception:  # the reader of EXIF trusts what it reads
        return None


def _decode(opened: Image.Image, media_type: str) -> Decoded:
    try:
        if media_type == "image/png":
            opened.load()  # its metadata may follow its pixels
        orientation = _exif(opened, ExifTags.Base.Orientation)
        turned = orientation in (5, 6, 7, 8)
        size = (opened.height, opened.width) if turned else opened.size
        largest = fitting(size, min(size[0], WIDTHS[-1]))
        if turned:
            largest = largest[::-1]
        # A JPEG is decoded at a half, quarter or eighth of its size, as long as that is enough.
        opened.draft(None, largest)
        opened.load()
        image = _eight_bits(opened)
        if image.size != largest:
            image = image.resize(largest, Image.Resampling.BICUBIC)
    except (MemoryError, PictureRefused):
        raise
    except Exception as error:  # as above
        if _is_out_of_memory(error):
            raise MemoryError from error
        raise PictureRefused("damaged") from error
    image = _srgb(image, opened.info.get("icc_profile"))
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    image.info = {}
    return Decoded(media_type, *size, image)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a decoder says in its own words that it got no memory."""
    return "memory" in str(error).lower()


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture as L, RGB, CMYK or RGBA."""
    if image.mode.startswith("I"):
        # 16 bits of grey, which conversion would cut off above 255.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("L", "RGB", "CMYK", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _srgb(image: Image.Image, profile: object) -> Image.Image:
    """The picture as RGB in sRGB, or as RGBA where something is transparent."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha and alpha.getextrema() == (255, 255):
        alpha = None
    plain = image.convert("RGB") if image.mode == "RGBA" else image
    if isinstance(profile, bytes) and profile:
        plain = _by_profile(plain, profile)
    plain = plain.convert("RGB")
    if alpha:
        plain.putalpha(alpha)
    return plain


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """The colours of a profile as sRGB. A profile that is damaged, or for another kind of picture, is ignored."""
    try:
        read = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(read):
            return image
        made = ImageCms.profileToProfile(image, read, _SRGB, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError, ValueError):
        return image
    return made or image
