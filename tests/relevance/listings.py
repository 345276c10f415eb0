"""Made listings whose relevance to a query is known, because each says what it was made of."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LOCALITIES: dict[str, tuple[float, float, float, tuple[str, ...]]] = {
    "Gachibowli": (17.4401, 78.3489, 1.2, ("Kondapur", "Financial District", "Nanakramguda")),
    "Kondapur": (17.4622, 78.3568, 1.1, ("Gachibowli", "Hafeezpet", "Hitech City")),
    "Hitech City": (17.4474, 78.3762, 1.3, ("Madhapur", "Kondapur")),
    "Madhapur": (17.4483, 78.3915, 1.2, ("Hitech City", "Jubilee Hills")),
    "Financial District": (17.4150, 78.3420, 1.3, ("Gachibowli", "Nanakramguda", "Kokapet")),
    "Nanakramguda": (17.4180, 78.3490, 1.2, ("Financial District", "Gachibowli")),
    "Kokapet": (17.3960, 78.3310, 1.3, ("Financial District", "Narsingi")),
    "Narsingi": (17.3870, 78.3570, 1.1, ("Kokapet", "Manikonda")),
    "Manikonda": (17.4050, 78.3774, 0.9, ("Narsingi", "Nanakramguda")),
    "Banjara Hills": (17.4126, 78.4392, 1.6, ("Jubilee Hills", "Somajiguda")),
    "Jubilee Hills": (17.4325, 78.4071, 1.8, ("Banjara Hills", "Madhapur")),
    "Somajiguda": (17.4230, 78.4590, 1.2, ("Banjara Hills", "Begumpet", "Ameerpet")),
    "Begumpet": (17.4440, 78.4630, 1.1, ("Somajiguda", "Ameerpet")),
    "Ameerpet": (17.4375, 78.4483, 1.0, ("Begumpet", "Somajiguda")),
    "Meerpet": (17.3190, 78.5290, 0.5, ("LB Nagar",)),
    "LB Nagar": (17.3457, 78.5522, 0.7, ("Meerpet", "Uppal")),
    "Uppal": (17.4018, 78.5602, 0.7, ("LB Nagar",)),
    "Miyapur": (17.4969, 78.3548, 0.8, ("Hafeezpet", "Bachupally", "Lingampally")),
    "Hafeezpet": (17.4850, 78.3610, 0.8, ("Miyapur", "Kondapur")),
    "Lingampally": (17.4930, 78.3170, 0.8, ("Miyapur", "Tellapur")),
    "Bagh Lingampally": (17.3990, 78.4950, 0.8, ()),
    "Tellapur": (17.4680, 78.2860, 0.9, ("Lingampally",)),
    "Bachupally": (17.5440, 78.3860, 0.7, ("Miyapur", "Kukatpally")),
    "Kukatpally": (17.4948, 78.3996, 0.8, ("Bachupally", "Miyapur")),
    "Kompally": (17.5350, 78.4820, 0.7, ()),
    "Shamshabad": (17.2500, 78.4000, 0.5, ()),
}
"""Latitude, longitude, how dear, and what is near enough to be offered instead."""

PROJECTS = (
    "Lotus Meadows", "Silver Oak Residency", "Aurora Heights", "Palm Grove Enclave", "Sunrise Towers", "Green Valley",
    "Pearl Lakeside", "Maple Court", "Golden Leaf Villas", "Sapphire Sky", "Cedar Park", "Orchid Gardens",
)  # fmt: skip
TRAITS = {
    "lake view": "It has a lake view from the balcony.",
    "metro": "The metro station is a short walk away.",
    "corner": "It is a corner unit with light from two sides.",
    "duplex": "This is a duplex with stairs inside.",
    "penthouse": "A penthouse on the top floor with its own terrace.",
    "pet friendly": "The society is pet friendly.",
    "bachelors": "Bachelors are welcome.",
    "school": "An international school is next door.",
    "ready to move": "It is ready to move into.",
    "under construction": "It is under construction and will be handed over next year.",
    "vastu": "It is built by the rules of vastu.",
    "modular kitchen": "It comes with a modular kitchen.",
    "servant room": "There is a servant room.",
    "garden": "It has a private garden.",
    "airport": "The airport is twenty minutes by car.",
}
"""A word that people search by, and the sentence of a listing that has the trait."""
AMENITIES = ("Lift", "Power Backup", "Gymnasium", "Swimming Pool", "Clubhouse", "Security", "Covered Parking")
FACINGS = ("EAST", "WEST", "NORTH", "SOUTH", "NORTH_EAST")

_FURNISHED = ("FURNISHED", "SEMI_FURNISHED", "UNFURNISHED")
_NOUNS = {
    "APARTMENT": ("Flat", "Apartment"), "VILLA": ("Villa",), "HOUSE": ("Independent House",), "PLOT": ("Plot",),
    "OFFICE": ("Office Space",), "STUDIO": ("Studio",),
}  # fmt: skip
_RATE = {"APARTMENT": 6500, "VILLA": 8500, "HOUSE": 6000, "PLOT": 3000, "OFFICE": 9000, "STUDIO": 7000}
"""Rupees per square foot of a sale, where a locality is as dear as 1."""
_FILLER = (
    "A well kept home in a quiet lane.", "Bright rooms and good cross ventilation.", "Water day and night.",
    "Close to shops and hospitals.", "The papers are clear and loans are available.", "Wide road in front.",
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A listing, and what it was made of."""

    facts: dict[str, Any]
    """As a client sends it."""
    project: str
    traits: frozenset[str]
    mentions: str
    """Another locality that the description names; empty for none."""


def made_listings(count: int = 2_600, seed: int = 1591) -> Iterator[Made]:
    """The same listings for the same seed, evenly over the localities."""
    chance = random.Random(seed)
    names = list(LOCALITIES)
    for n in range(count):
        yield _made(chance, names[n % len(names)])


def _made(chance: random.Random, locality: str) -> Made:
    latitude, longitude, dear, _ = LOCALITIES[locality]
    kind = chance.choices(list(_NOUNS), (50, 14, 12, 12, 7, 5))[0]
    renting = kind != "PLOT" and chance.random() < 0.4
    homes = kind not in {"PLOT", "OFFICE"}
    bedrooms = {"STUDIO": 1, "VILLA": chance.randint(3, 5)}.get(kind, chance.randint(1, 4)) if homes else None
    area = {
        "PLOT": chance.randrange(100, 600, 50) * 9,
        "OFFICE": chance.randrange(500, 5000, 100),
        "STUDIO": chance.randrange(350, 600, 10),
        "VILLA": chance.randrange(2200, 5200, 50),
    }.get(kind, 350 + (bedrooms or 1) * chance.randrange(350, 520, 5))
    worth = area * _RATE[kind] * dear * chance.uniform(0.8, 1.25)
    price = round(worth * 0.0028, -2 if renting else 0) if renting else round(worth, -5)
    furnished = chance.choice(_FURNISHED) if homes or kind == "OFFICE" else None
    facing = chance.choice(FACINGS) if chance.random() < 0.7 else None
    project = chance.choice(PROJECTS) if kind in {"APARTMENT", "VILLA"} and chance.random() < 0.7 else ""
    possible = set(TRAITS) - (set() if kind == "APARTMENT" else {"penthouse"}) - (set() if renting else {"bachelors"})
    traits = frozenset(chance.sample(sorted(possible), chance.randint(0, 3)))
    others = [name for name in LOCALITIES if name != locality and name not in locality and locality not in name]
    mentions = chance.choice(others) if chance.random() < 0.25 else ""
    noun = chance.choice(_NOUNS[kind])
    title = " ".join(
        part
        for part in (
            f"{bedrooms} BHK" if bedrooms and kind != "STUDIO" else "",
            noun,
            "for rent" if renting and chance.random() < 0.5 else "",
            f"in {project}," if project and chance.random() < 0.5 else "in",
            locality,
        )
        if part
    )
    sentences = [
        chance.choice(_FILLER),
        *(f"Part of {project}." for _ in (0,) if project),
        *(TRAITS[trait] for trait in sorted(traits)),
        *(f"Only fifteen minutes from {mentions}." for _ in (0,) if mentions),
        chance.choice(_FILLER),
    ]
    facts = {
        "title": title,
        "description": " ".join(sentences),
        "price": int(price),
        "location": locality,
        "address": f"{project}, {locality}" if project else None,
        "propertyType": kind,
        "listingType": "RENT" if renting else "SALE",
        "bedrooms": bedrooms,
        "bathrooms": max(1, bedrooms - chance.randint(0, 1)) if bedrooms else None,
        "areaSqft": area,
        "furnishedStatus": furnished,
        "facing": facing,
        "amenities": sorted(chance.sample(AMENITIES, chance.randint(0, 4))) if kind != "PLOT" else [],
        "latitude": round(latitude + chance.uniform(-0.008, 0.008), 6),
        "longitude": round(longitude + chance.uniform(-0.008, 0.008), 6),
    }
    return Made({name: value for name, value in facts.items() if value is not None}, project, traits, mentions)
