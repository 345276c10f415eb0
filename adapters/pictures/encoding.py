"""From a picture to its variants and its thumbhash."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

from fast_thumbhash import rgba_to_thumb_hash
from PIL import Image

from adapters.pictures.picture import Variant

WIDTHS = (320, 640, 1280, 1920)
"""Pixels of an upright picture from left to right, also where it is higher than wide: what `srcset` calls `640w`."""
_FALLBACK_WIDTH = 1280
"""Of the JPEG, for mails and old browsers."""
_PREVIEW_SIDE = 100
"""Pixels: the most that a thumbhash is made from."""

_AVIF = {"quality": 50, "speed": 9, "max_threads": 1}
"""Speed 6 takes eight times as long for 13 % fewer bytes."""
_WEBP = {"quality": 78, "method": 2}
_JPEG = {"quality": 80}


def widths_of(width: int) -> tuple[int, ...]:
    """The widths of the variants of a picture, which is never enlarged: a smaller one has its own as the largest."""
    return tuple(sorted({min(width, each) for each in WIDTHS}))


def fitting(size: tuple[int, int], width: int) -> tuple[int, int]:
    """The size of a picture in another width."""
    return width, max(1, round(size[1] * width / size[0]))


def encode(
    image: Image.Image, size: tuple[int, int], folder: Path, step: Callable[[str], None]
) -> tuple[tuple[Variant, ...], Image.Image]:
    """Write the variants of a picture to files; returns them, and the picture in the smallest width.

    `size` is that of the source, from which heights follow. Raises OSError where a file cannot be written.
    """
    made: list[Variant] = []
    widths = widths_of(size[0])
    fallback = max((width for width in widths if width <= _FALLBACK_WIDTH), default=widths[0])
    for width in reversed(widths):
        wanted = fitting(size, width)
        if image.size != wanted:
            image = image.resize(wanted, Image.Resampling.LANCZOS)
        made.extend(reversed(list(_written(image, folder, step, fallback=width == fallback))))
    return tuple(reversed(made)), image


def _written(image: Image.Image, folder: Path, step: Callable[[str], None], *, fallback: bool) -> Iterator[Variant]:
    width, height = image.size
    formats = [("avif", _AVIF), ("webp", _WEBP), *([("jpeg", _JPEG)] if fallback else [])]
    for name, settings in formats:
        step(f"{name} {width}")
        path = folder / f"{width}.{'jpg' if name == 'jpeg' else name}"
        (flat(image) if name == "jpeg" else image).save(path, name.upper(), **settings)
        yield Variant(width, height, f"image/{name}", path, path.stat().st_size)


def flat(image: Image.Image) -> Image.Image:
    """The picture on white, where it is transparent."""
    if image.mode != "RGBA":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def thumbhash(image: Image.Image) -> str:
    """A preview of some 25 bytes in base64 (https://evanw.github.io/thumbhash/)."""
    small = image.convert("RGBA")
    small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    return base64.b64encode(bytes(rgba_to_thumb_hash(small.width, small.height, small.tobytes()))).decode()
