"""A picture as a client gets it, and the reasons why a file becomes none."""

from dataclasses import dataclass
from pathlib import Path

MOST_PIXELS = 50_000_000
"""More than phones take (12 to 50 megapixels), and decoded within the memory of a process."""
LONGEST_SIDE = 16_383
"""Pixels: the most that WebP can store."""
MOST_SCANS = 50
"""Of a JPEG; encoders make up to 10, optimizers some 20, and each one decodes the whole picture again."""

_AS_NEW_JPEG = "Open it in a photo app, save it as a new JPEG, and send that."

REFUSALS = {
    "not-an-image": "This file is not a picture of a known type. Send a JPEG, PNG, WebP, AVIF, GIF or HEIC file.",
    "too-many-pixels": f"This picture has more than {MOST_PIXELS // 1_000_000} megapixels. Send a smaller version.",
    "too-long-side": f"A side of this picture has more than {LONGEST_SIDE:,} pixels. Send a smaller version.",
    "too-many-scans": f"This JPEG is stored in more than {MOST_SCANS} layers, as no camera does. {_AS_NEW_JPEG}",
    "decompression-bomb": f"This file unpacks to far more data than a picture needs. {_AS_NEW_JPEG}",
    "truncated": "This file ends before its picture does: it was not copied to the end. Send the original file again.",
    "damaged": f"The content of this file is damaged, so its picture cannot be shown. {_AS_NEW_JPEG}",
    "several-files-in-one": f"This file contains something else beside its picture. {_AS_NEW_JPEG}",
    "needs-too-much-memory": f"This picture needs too much memory. {_AS_NEW_JPEG}",
    "takes-too-long": "This picture takes too long to process. Send a smaller version.",
    "kills-its-process": f"This file stops the program that reads it. {_AS_NEW_JPEG}",
}
"""What to do about each reason, for the owner of the file."""
OF_THE_MACHINE = frozenset(("needs-too-much-memory", "takes-too-long", "kills-its-process"))
"""Refusals that a machine without memory or time may cause too."""


class PictureRefused(Exception):
    """The file becomes no picture, however often it is tried."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        """One of REFUSALS."""

    @property
    def detail(self) -> str:
        """For the owner of the file: what is wrong, and what to do."""
        return REFUSALS[self.code]


@dataclass(frozen=True)
class Variant:
    """A picture in one width and one format, without metadata."""

    width: int
    height: int
    media_type: str
    """image/avif, image/webp or image/jpeg."""
    path: Path
    """The file; its name is the width, and avif, webp or jpg as its suffix."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Picture:
    """What was made from a file."""

    media_type: str
    """Of the file, by its bytes."""
    width: int
    """Pixels of the file, upright."""
    height: int
    thumbhash: str
    """A blurred preview, in base64."""
    perceptual_hash: int
    """Signed, 64 bits; pictures that look alike differ in few of them."""
    variants: tuple[Variant, ...]
    """The smallest first."""
