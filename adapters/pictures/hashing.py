"""A perceptual hash: the lowest frequencies of a picture's brightness, each above or below their median."""

import math

from PIL import Image

_SIDE = 32
"""Pixels that are compared: details are gone, whatever the resolution and compression."""
_FREQUENCIES = 8
_COSINES = [
    [math.cos(math.pi * frequency * (2 * place + 1) / (2 * _SIDE)) for place in range(_SIDE)]
    for frequency in range(_FREQUENCIES)
]


def perceptual_hash(image: Image.Image) -> int:
    """64 bits as a signed number, of a picture in RGB. Those of the same picture differ in few bits (`distance`)."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).tobytes()
    rows = [grey[start : start + _SIDE] for start in range(0, len(grey), _SIDE)]
    # The discrete cosine transform (DCT-II) of the rows, then of the columns of what that gives.
    across = [[sum(map(float.__mul__, wave, map(float, row))) for wave in _COSINES] for row in rows]
    columns = list(zip(*across, strict=True))
    values = [sum(map(float.__mul__, wave, column)) for wave in _COSINES for column in columns]
    median = sorted(values)[len(values) // 2]
    bits = sum(1 << place for place, value in enumerate(values) if value > median)
    return bits - (1 << 64) if bits >> 63 else bits


def distance(one: int, other: int) -> int:
    """In how many bits two hashes differ."""
    return ((one ^ other) & (1 << 64) - 1).bit_count()
