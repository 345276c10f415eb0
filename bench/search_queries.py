"""Ten kinds of query that people make, and the same by plain SQL on a table without indexes."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.search_listings import WORDS, word
from demo.listings import LOCALITIES
from domain.search import SearchQuery


@dataclass(frozen=True)
class Asked:
    """A query, and what it is in SQL on the columns of `search_baselines.PlainTable`."""

    query: SearchQuery
    where: str
    order: str = "listed_at DESC"
    words: tuple[str, ...] = ()
    """Of a query of text."""
    misspelled: bool = False


def _asked(query: dict[str, Any], where: str, order: str = "listed_at DESC", words: tuple[str, ...] = ()) -> Asked:
    return Asked(SearchQuery.model_validate(query), where, order, words)


def _having(*words: str) -> str:
    return " AND ".join(f"body ILIKE '%{word}%'" for word in words)


def _newest(_: random.Random) -> Asked:
    return _asked({}, "true")


def _locality(chance: random.Random) -> Asked:
    """Apartments of a locality up to a price, the cheapest first."""
    name, most = chance.choice(LOCALITIES)[0], chance.randrange(6_000_000, 12_000_000, 500_000)
    filters = {"location": [name], "propertyType": ["APARTMENT"], "listingType": ["SALE"], "maxPrice": most}
    where = f"location ILIKE '{name}' AND property_type = 'APARTMENT' AND listing_type = 'SALE' AND price <= {most}"
    return _asked({**filters, "sort": "price"}, where, "price")


def _rooms(chance: random.Random) -> Asked:
    """Homes with so many rooms between two areas."""
    rooms, least = chance.randint(2, 5), chance.randrange(1_000, 2_000, 100)
    filters = {"bedrooms": [str(rooms)], "minArea": least, "maxArea": least + 500}
    return _asked(filters, f"bedrooms = {rooms} AND area BETWEEN {least} AND {least + 500}")


def _text(chance: random.Random) -> Asked:
    """Words that many listings have."""
    words = (chance.choice(("apartment", "villa", "house")), chance.choice(LOCALITIES)[0].lower())
    return _asked({"q": " ".join(words)}, _having(*words), words=words)


def _rare_text(chance: random.Random) -> Asked:
    """A word that few listings have, beside one that many have."""
    words = (word(chance.randrange(1_000, WORDS)), "bedrooms")
    return _asked({"q": " ".join(words)}, _having(*words), words=words)


def _typing_error(chance: random.Random) -> Asked:
    """A word with two letters the wrong way round."""
    right = word(chance.randrange(200, WORDS))
    at = chance.randrange(1, len(right) - 2)
    wrong = right[:at] + right[at + 1] + right[at] + right[at + 2 :]
    return replace(_asked({"q": wrong}, _having(wrong), words=(wrong,)), misspelled=True)


def _near(chance: random.Random) -> Asked:
    """Homes within three kilometres, the nearest first."""
    _, latitude, longitude = chance.choice(LOCALITIES)
    rooms = chance.randint(2, 5)
    near = {"near": {"latitude": latitude, "longitude": longitude}, "radiusKm": 3, "bedrooms": [str(rooms)]}
    east = 111.195 * math.cos(math.radians(latitude))
    distance = f"sqrt(((latitude - {latitude}) * 111.195)^2 + ((longitude - {longitude}) * {east})^2)"
    return _asked({**near, "sort": "distance"}, f"bedrooms = {rooms} AND {distance} <= 3", distance)


def _polygon(chance: random.Random) -> Asked:
    """A shape of twelve corners drawn around a locality, the cheapest first."""
    _, latitude, longitude = chance.choice(LOCALITIES)
    corners = [
        (
            longitude + chance.uniform(0.015, 0.03) * math.cos(turn),
            latitude + chance.uniform(0.015, 0.03) * math.sin(turn),
        )
        for turn in (n * math.pi / 6 for n in range(12))
    ]
    shape = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
    plain = ",".join(f"({east},{north})" for east, north in corners)
    return _asked({"polygon": shape, "sort": "price"}, f"point(longitude, latitude) <@ '({plain})'::polygon", "price")


def _amenities(chance: random.Random) -> Asked:
    """Villas or apartments with two amenities."""
    kind = chance.choice(("VILLA", "APARTMENT"))
    wanted = sorted(chance.sample(("Lift", "Gymnasium", "Swimming pool", "Gated community"), 2))
    has = ", ".join(f"'{label}'" for label in wanted)
    return _asked(
        {"amenities": wanted, "propertyType": [kind]}, f"amenities @> ARRAY[{has}] AND property_type = '{kind}'"
    )


def _nothing(chance: random.Random) -> Asked:
    """What no listing is: the answer says what to drop."""
    name = chance.choice(LOCALITIES)[0]
    filters = {"location": [name], "propertyType": ["OFFICE"], "maxPrice": 5_000_000, "bedrooms": ["3"]}
    where = f"location ILIKE '{name}' AND property_type = 'OFFICE' AND price <= 5000000 AND bedrooms = 3"
    return _asked(filters, where)


KINDS: dict[str, Callable[[random.Random], Asked]] = {
    "newest": _newest,
    "locality": _locality,
    "rooms": _rooms,
    "text": _text,
    "rare-text": _rare_text,
    "typing-error": _typing_error,
    "near": _near,
    "polygon": _polygon,
    "amenities": _amenities,
    "nothing": _nothing,
}
