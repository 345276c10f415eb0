"""A user's activity: one line of their history, computed from an event and from nothing else."""

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.events import Event
from domain.model import Fact
from domain.property import PropertyCreated


class Activity(Fact):
    """One entry of a user's history and one message of `user-activity`. It holds no personal data."""

    event_id: UUID
    user_id: UUID
    tenant_id: str
    activity_type: str
    description: str
    timestamp: datetime
    activity_data: dict[str, Any]


def activity_of(event: Event) -> Activity:
    """What `event` looks like in the history of the user who caused it."""
    description, data = _told(event.data)
    return Activity(
        event_id=event.event_id,
        user_id=event.user_id,
        tenant_id=event.tenant_id,
        activity_type=event.event_type,
        description=description,
        timestamp=event.timestamp,
        activity_data=data,
    )


def _told(fact: Fact) -> tuple[str, dict[str, Any]]:
    if isinstance(fact, PropertyCreated):
        return f"User created property: {fact.title}", {
            "propertyId": str(fact.property_id),
            "title": fact.title,
            "location": fact.location,
            "price": fact.price,
            "propertyType": fact.property_type,
            "listingType": fact.listing_type,
        }
    return "User registered", {}
