"""Who is notified of what: a pure function of the event."""

from dataclasses import dataclass
from uuid import UUID

from domain.events import Event
from domain.property_commands import PropertyCreated, PropertyStatusChanged
from domain.property_status import PropertyStatus

PROPERTY_LISTED = "property-listed"


@dataclass(frozen=True)
class Delivery:
    """A mail to be sent because of an event: its template, to whom, about which aggregate."""

    event_id: UUID
    template: str
    recipient_id: UUID
    about_id: UUID


def deliveries_of(event: Event) -> list[Delivery]:
    """The deliveries that an event causes."""
    if _is_listed(event):
        owner, listing = event.data.owner_id, event.data.property_id
        return [Delivery(event.event_id, PROPERTY_LISTED, recipient_id=owner, about_id=listing)]
    return []


def _is_listed(event: Event) -> bool:
    """Whether a listing is public for the first time: as it is created, or when a draft is published."""
    match event.data:
        case PropertyCreated():
            return event.data.status is PropertyStatus.ACTIVE
        case PropertyStatusChanged():
            return event.data.from_status is PropertyStatus.DRAFT and event.data.to_status is PropertyStatus.ACTIVE
    return False
