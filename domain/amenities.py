"""Amenities by all the ways they are written: `Gym` and `Gymnasium` are one."""

from domain.place_names import words_of

_WRITTEN = {
    "Lift": "lifts|elevator|elevators|lift available",
    "Power backup": "power back up|generator|generator backup|inverter backup|full power backup",
    "Swimming pool": "pool|swiming pool|swimmingpool",
    "Gymnasium": "gym|fitness centre|fitness center",
    "Children's play area": "play area|childrens play area|children play area|childrensplayarea|kids play area"
    "|playground|kids play zone|childrens playarea",
    "Gated community": "gated|gated society|gated complex",
    "Club house": "clubhouse|club",
    "Semi-gated community": "semi gated|semigated",
    "Security": "24x7 security|24 x 7 security|24 7 security|24 hours security|security guard|watchman",
    "CCTV": "cctv cameras|cctv camera|cc cameras|cctv surveillance",
    "Landscaped gardens": "landscaped garden|garden|gardens|landscaping",
    "Jogging track": "walking track|jogging tracks|walking area",
    "Rain water harvesting": "rainwater harvesting|rain water",
    "Indoor games": "indoor game|games room",
    "Sports facility": "sports|sports facilities|sports court|sports complex",
    "Intercom": "intercom facility",
    "Vaastu compliant": "vastu|vaastu|vasthu|vastu compliant|vaasthu|100 vastu|vaastucompliant",
    "Gas connection": "piped gas|gas pipeline|gasconnection|gas line|gas pipe line",
    "Wi-Fi": "wifi|internet",
    "Air conditioning": "ac|acs|air conditioner|air conditioned|air conditioners",
    "Car parking": "parking|1 car parking|2 car parking|3 car parking|2 parking"
    "|covered parking|reserved parking|carparking|car park|parking space|parking spaces",
    "Visitor parking": "visitors parking|guest parking",
    "Servant room": "maid room|servants room|maids room|servant quarters|staff quarter|staffquarter",
    "Pooja room": "puja room|prayer room|pooja",
    "Modular kitchen": "modular kitchens",
    "Party hall": "banquet hall|community hall|function hall|multipurpose room|multipurpose hall|multipurposeroom",
    "Pet friendly": "pets allowed|pet allowed",
    "EV charging": "ev charging point|electric charging|ev charger",
    "Borewell": "bore well|bore water|borewell water",
    "Manjeera water": "manjira water|municipal water",
    "Solar": "solar power|solar panels|solar heater",
    "Badminton court": "shuttle court",
    "Tennis court": "lawn tennis",
    "Basketball court": "basketball",
    "Cafeteria": "canteen|cafe",
    "Washing machine": "",
    "Refrigerator": "fridge",
    "Terrace garden": "roof garden",
    "Library": "",
    "Spa": "",
    "Sauna": "",
    "Amphitheatre": "amphitheater",
}


def _phrase(label: str) -> str:
    return " ".join(words_of(label))


LABELS = {
    _phrase(written): label for label, others in _WRITTEN.items() for written in (label, *others.split("|")) if written
}
"""The amenity that each way to write one means."""


def amenity_key(label: str) -> str:
    """What all ways to write an amenity have in common, for those known here; for others, the label's words."""
    phrase = _phrase(label)
    return _phrase(LABELS.get(phrase, phrase)) or label.casefold().strip()
