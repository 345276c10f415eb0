"""The deliveries (mails) that an event causes: a pure function of the event."""

from dataclasses import dataclass
from uuid import UUID

from domain.events import Event
from domain.property_commands import PropertyCreated, PropertyStatusChanged
from domain.property_status import PropertyStatus

PROPERTY_LISTED = "property-listed"


@dataclass(frozen=True)
class Delivery:
    """A mail to send because of an event: its template, its recipient, and the aggregate that it is about."""

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
    """Whether a listing becomes public for the first time: created as ACTIVE, or a draft that is published."""
    match event.data:
        case PropertyCreated():
            return event.data.status is PropertyStatus.ACTIVE
        case PropertyStatusChanged():
            return event.data.from_status is PropertyStatus.DRAFT and event.data.to_status is PropertyStatus.ACTIVE
    return False
