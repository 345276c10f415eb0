"""Activities: the entries of a user's history, each a pure function of one event."""

from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from domain.events import AnyFact, Event
from domain.favorite_commands import FavoriteFact, PropertyFavorited, PropertyUnfavorited
from domain.model import Fact
from domain.observations import ANONYMOUS, PropertyViewed, UserLoggedIn
from domain.property_commands import (
    PropertyCreated,
    PropertyDeleted,
    PropertyFact,
    PropertyPriceChanged,
    PropertyStatusChanged,
    PropertyUpdated,
)
from domain.user_commands import UserRegistered, UserUpdated


class Activity(Fact):
    """One entry of a user's history and one message of `user-activity`. It holds no personal data."""

    event_id: UUID
    user_id: UUID
    tenant_id: str
    activity_type: str
    description: str
    timestamp: datetime
    activity_data: dict[str, Any]


def activity_of(event: Event) -> Activity | None:
    """The history entry of an event, for the user who caused it; None for a visitor without an account."""
    if event.user_id == ANONYMOUS:
        return None
    description, data = _description_and_data(event.data)
    return Activity(
        event_id=event.event_id,
        user_id=event.user_id,
        tenant_id=event.tenant_id,
        activity_type=event.event_type,
        description=description,
        timestamp=event.timestamp,
        activity_data=data,
    )


def _description_and_data(fact: AnyFact) -> tuple[str, dict[str, Any]]:
    match fact:
        case PropertyCreated():
            return f"User created property: {fact.title}", {
                **_property(fact),
                "price": fact.price,
                "propertyType": fact.property_type,
                "listingType": fact.listing_type,
                "status": fact.status,
            }
        case PropertyPriceChanged():
            prices = {"price": fact.price, "previousPrice": fact.previous_price}
            return f"User changed the price of property: {fact.title}", {**_property(fact), **prices}
        case PropertyUpdated():
            return f"User updated property: {fact.title}", {**_property(fact), "changed": list(fact.changed)}
        case PropertyStatusChanged():
            change = {"fromStatus": fact.from_status, "toStatus": fact.to_status, "reason": fact.reason}
            return f"User changed the status of property: {fact.title} ({fact.to_status})", {
                **_property(fact),
                **change,
            }
        case PropertyDeleted():
            return f"User deleted property: {fact.title}", _property(fact)
        case PropertyFavorited():
            return f"User added property to favourites: {fact.title}", _property(fact)
        case PropertyUnfavorited():
            return f"User removed property from favourites: {fact.title}", _property(fact)
        case PropertyViewed():
            return f"User viewed property: {fact.title}", _property(fact)
        case UserLoggedIn():
            return "User logged in", {}
        case UserRegistered():
            return "User registered", {}
        case UserUpdated():
            return "User's account changed", {"changed": list(fact.changed)}
    assert_never(fact)


def _property(fact: PropertyFact | FavoriteFact | PropertyViewed) -> dict[str, Any]:
    return {"propertyId": str(fact.property_id), "title": fact.title, "location": fact.location}
