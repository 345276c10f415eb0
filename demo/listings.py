"""A synthetic sample of listings."""

import random
from collections.abc import Iterator
from typing import Any

LOCALITIES = (
    ("Gachibowli", 17.4401, 78.3489), ("Kondapur", 17.4622, 78.3568), ("Madhapur", 17.4483, 78.3915),
    ("Banjara Hills", 17.4126, 78.4392), ("Miyapur", 17.4969, 78.3548), ("Uppal", 17.4018, 78.5602),
    ("Kukatpally", 17.4948, 78.3996), ("Begumpet", 17.4440, 78.4630), ("Manikonda", 17.4050, 78.3774),
    ("LB Nagar", 17.3457, 78.5522),
)  # fmt: skip
_KINDS = (("APARTMENT", 900, 2400, 6500), ("VILLA", 2200, 5200, 8500), ("HOUSE", 1100, 3600, 6000))
_AMENITIES = ("Lift", "Power backup", "Gymnasium", "Swimming pool", "Children's play area", "Gated community")


def synthetic(count: int, seed: int = 1591) -> Iterator[dict[str, Any]]:
    """`count` invented listings, the same ones for the same seed. Prices in rupees, areas in square feet."""
    chance = random.Random(seed)
    for _ in range(count):
        locality, latitude, longitude = chance.choice(LOCALITIES)
        kind, smallest, largest, rate = chance.choice(_KINDS)
        bedrooms = chance.randint(2, 5)
        area = chance.randrange(smallest, largest, 25)
        floors = chance.randint(3, 20)
        yield {
            "title": f"{bedrooms} BHK {kind.title()} in {locality}",
            "description": f"A {kind.lower()} of {area} square feet with {bedrooms} bedrooms in {locality}, Hyderabad.",
            "price": round(area * rate * chance.uniform(0.8, 1.3), -4).__trunc__(),
            "location": locality,
            "propertyType": kind,
            "listingType": "SALE",
            "bedrooms": bedrooms,
            "bathrooms": max(1, bedrooms - chance.randint(0, 1)),
            "areaSqft": area,
            "totalFloors": floors,
            "floorNumber": chance.randint(0, floors),
            "amenities": sorted(chance.sample(_AMENITIES, 3)),
            "latitude": round(latitude + chance.uniform(-0.01, 0.01), 6),
            "longitude": round(longitude + chance.uniform(-0.01, 0.01), 6),
        }
