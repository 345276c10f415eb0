"""The table of transitions of a listing's status as Markdown, from `TRANSITIONS` of domain/property_status.py."""

from collections.abc import Set

from domain.property import ListingType
from domain.property_commands import transitions_of
from domain.property_status import PUBLIC_STATUSES, TRANSITIONS, Party, PropertyStatus

_HEAD = """# Statuses of a listing

Made by `python -m docs` from `TRANSITIONS` of `domain/property_status.py`; `make check` compares them.

`PUT /api/properties/{id}/status` changes the status, for the owner of the listing and for ADMIN. A transition that is
not in the table is 409 `status-refused`, and one that is for ADMIN alone is 403 for the owner. A listing is created as
ACTIVE or DRAFT. Transitions of the platform are reserved for it: no command makes them yet.

Everybody sees a listing that is {public}; in every other status its owner and ADMIN alone do.

| from | to | who may | `listingType` |
|---|---|---|---|
"""


def statuses() -> str:
    *most, last = sorted(PUBLIC_STATUSES, key=list(PropertyStatus).index)
    rows = [
        f"| {start} | {to} | {_who(parties)} | {_which(start, to)} |"
        for start, following in TRANSITIONS.items()
        for to, parties in following.items()
    ]
    return _HEAD.replace("{public}", f"{', '.join(most)} or {last}") + "\n".join(rows) + "\n"


def _who(parties: Set[Party]) -> str:
    names = {
        Party.OWNER: "owner",
        Party.ADMIN: "ADMIN",
        Party.PLATFORM: "the platform (no command yet)",
    }
    return ", ".join(name for party, name in names.items() if party in parties)


def _which(start: PropertyStatus, to: PropertyStatus) -> str:
    allowed = [kind for kind in ListingType if to in transitions_of(start, kind)]
    return "all" if len(allowed) == len(ListingType) else ", ".join(allowed)
