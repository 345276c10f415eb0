"""A listing as the projection `search` hands it to the writer of an engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.amenities import amenity_key
from domain.events import Event
from domain.gazetteer import locality_key
from domain.property_events import PropertyDeleted
from domain.property_status import PUBLIC_STATUSES, PropertyStatus
from domain.search import ListingCard
from domain.words import words

_CARD_FIELDS = [
    name for name in ListingCard.model_fields if name not in {"id", "version", "created_at", "updated_at", "listed_at"}
]
LATE_AFTER = timedelta(minutes=10)
"""A change that the read model applies so much later than its event's time may come after newer ones.

Far longer than a projection is late while all is well, and than its transactions are open.
"""
SEARCHED = {"title": "A", "location": "A", "address": "B", "description": "D"}
"""The texts that a search looks in, with the weight of their words in a tsvector."""


@dataclass(frozen=True)
class IndexedListing:
    """A version of a listing, as its event tells."""

    tenant_id: str
    property_id: UUID
    version: int
    """The newest wins, in whatever order they come."""
    timestamp: datetime
    changed_at: datetime
    """The time of the event; of several that are applied together, that of the first."""
    status: PropertyStatus | None
    """None when the listing is deleted."""
    created_at: datetime
    """As far as this event knows: the earliest of all events is right."""
    listed_at: datetime | None
    """When it was public for the first time, likewise."""
    card: ListingCard | None
    """What is searched and shown; None unless the listing is active."""

    @property
    def key(self) -> tuple[str, int]:
        return self.tenant_id, self.property_id.int


def indexed(event: Event) -> IndexedListing:
    """The listing in an event that has its whole state, or says that it is deleted."""
    fact = event.data
    deleted = isinstance(fact, PropertyDeleted)
    # Older releases wrote neither time.
    listed_at = getattr(fact, "listed_at", None)
    if listed_at is None and not deleted and fact.status in PUBLIC_STATUSES:
        listed_at = event.timestamp
    created_at = getattr(fact, "created_at", None) or event.timestamp
    active = not deleted and fact.status is PropertyStatus.ACTIVE
    return IndexedListing(
        tenant_id=event.tenant_id,
        property_id=event.aggregate_id,
        version=event.version,
        timestamp=event.timestamp,
        changed_at=event.timestamp,
        status=None if deleted else fact.status,
        created_at=created_at,
        listed_at=listed_at,
        card=_card(event, created_at, listed_at) if active else None,
    )


def row_of(listing: IndexedListing) -> dict[str, Any]:
    """The values of `search.property_search`, without those that Postgres computes, from them."""
    card = listing.card
    shown: dict[str, Any] = {name: getattr(card, name, None) for name in _SAME}
    if card is not None:
        shown |= {
            "locality": locality_key(card.location, card.latitude, card.longitude),
            "amenities": sorted({amenity_key(label) for label in card.amenities}),
            "has_rera": card.rera_id is not None,
            "words": tsvector(card),
            # The times are columns: an older event may correct them.
            "card": card.model_dump_json(by_alias=True, exclude={"created_at", "listed_at"}).encode(),
        }
    return {
        "tenant_id": listing.tenant_id,
        "property_id": listing.property_id,
        "version": listing.version,
        "status": listing.status,
        "created_at": listing.created_at,
        "listed_at": listing.listed_at,
        "changed_at": listing.changed_at,
        **dict.fromkeys(("locality", "amenities", "has_rera", "words", "card")),
        **shown,
    }


_SAME = (
    "owner_id",
    "posted_by",
    "property_type",
    "listing_type",
    "price",
    "area_sqft",
    "bedrooms",
    "bathrooms",
    "pincode",
    "furnished_status",
    "facing",
    "floor_number",
    "age_of_property",
    "is_featured",
    "is_verified",
    "latitude",
    "longitude",
)
"""The columns that have a field of the card as it is."""


def searched_texts(card: ListingCard) -> Mapping[str, str]:
    """The texts that a search looks in, by field."""
    return {name: text for name in SEARCHED if (text := getattr(card, name))}


def tsvector(card: ListingCard) -> str:
    """The words of a listing as the text of a tsvector, with their places and weights."""
    places: dict[str, list[str]] = {}
    n = 0
    for name, text in searched_texts(card).items():
        for word in words(text):
            n += 1
            places.setdefault(word.text, []).append(f"{n}{SEARCHED[name]}")
    return " ".join(f"{quoted(word)}:{','.join(at)}" for word, at in places.items())


def quoted(word: str) -> str:
    """A word as a lexeme in the text of a tsvector or tsquery."""
    doubled = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def _card(event: Event, created_at: datetime, listed_at: datetime | None) -> ListingCard:
    fact = event.data
    return ListingCard.model_construct(
        id=event.aggregate_id,
        version=event.version,
        created_at=created_at,
        updated_at=event.timestamp,
        listed_at=listed_at,
        **{name: getattr(fact, name) for name in _CARD_FIELDS},
    )
