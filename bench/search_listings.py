"""Listings to search: the demo's synthetic ones, with the variety of text and fields that indexes meet in use."""

import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from demo.listings import synthetic
from domain.property import Facing, FurnishedStatus

WORDS = 20_000
"""Of the vocabulary: DESIGN section 12 counted 20,764 in a million listings."""
_SYLLABLES = (
    "ba", "cha", "da", "gu", "hi", "ja", "ka", "li", "ma", "na", "pa", "ra", "sa", "ta", "va", "ya", "ku", "lo", "me",
    "ni", "po", "ri", "su", "te", "vi",
)  # fmt: skip


def word(rank: int) -> str:
    """A made-up word of the vocabulary; the lower its rank, the more listings have it."""
    syllables = [_SYLLABLES[rank // 25**place % 25] for place in range(4)]
    return "".join(syllables)


def listings(count: int, seed: int = 1591) -> Iterator[dict[str, Any]]:
    """`count` listings in the shape that a client sends, the same ones for the same seed.

    Each has twelve words of the vocabulary, drawn by Zipf's law.
    """
    chance = random.Random(seed)
    ranks, weights = range(WORDS), list(accumulate(1 / (rank + 1) for rank in range(WORDS)))
    for made in synthetic(count, seed):
        renting = chance.random() < 0.35
        words = [word(rank) for rank in chance.choices(ranks, cum_weights=weights, k=12)]
        yield {
            **made,
            "description": f"{made['description']} {' '.join(words)}.",
            "price": max(5_000, int(made["price"] * 0.003)) if renting else made["price"],
            "listingType": "RENT" if renting else "SALE",
            "address": f"{words[0].title()} Residency, {made['location']}",
            "furnishedStatus": chance.choice(list(FurnishedStatus)),
            "facing": chance.choice([*Facing, None]),
            "ageOfProperty": chance.choice((None, *range(20))),
            "pincode": f"5000{chance.randint(10, 99)}",
            "latitude": round(made["latitude"] + chance.gauss(0, 0.03), 6),
            "longitude": round(made["longitude"] + chance.gauss(0, 0.03), 6),
        }
