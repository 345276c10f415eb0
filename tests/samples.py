"""Commands and listings to test with."""

import os
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from domain import ids
from domain.command import Actor, Command, SealedCommand
from domain.observations import ANONYMOUS, Observation, PropertyViewed, RecordActivity, UserLoggedIn
from domain.property import PropertyDetails
from domain.property_commands import CreateProperty
from domain.roles import UserRole
from domain.user_commands import Account, RegisterUser


def new_tenant() -> str:
    return f"t-{uuid4().hex[:16]}"


def new_id() -> UUID:
    return ids.uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def listing(**more: Any) -> dict[str, Any]:
    """A listing as a client sends it."""
    return {
        "title": "3BHK Apartment in Gachibowli",
        "description": "A bright flat near the lake, with a view.",
        "price": 8_500_000,
        "location": "Gachibowli",
        "propertyType": "APARTMENT",
        "listingType": "SALE",
        **more,
    }


def create_property(tenant: str, owner: UUID, **more: Any) -> CreateProperty:
    return CreateProperty(
        command_id=new_id(),
        tenant_id=tenant,
        user_id=owner,
        issued_at=datetime.now(UTC),
        property_id=new_id(),
        details=PropertyDetails.model_validate(listing(**more)),
    )


def register_user(tenant: str, **more: Any) -> RegisterUser:
    name = f"u{uuid4().hex[:12]}"
    person = {"username": name, "email": f"{name}@example.com", "firstName": "Ravi", "lastName": "Kumar", **more}
    return RegisterUser(
        command_id=new_id(),
        tenant_id=tenant,
        user_id=new_id(),
        issued_at=datetime.now(UTC),
        account=Account.model_validate(person),
        password_hash="$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
    )


def view(property_id: UUID, user_id: UUID = ANONYMOUS) -> Observation:
    """A view of somebody else's listing."""
    return Observation(
        event_id=new_id(),
        aggregate_id=property_id,
        user_id=user_id,
        timestamp=datetime.now(UTC),
        data=PropertyViewed(property_id=property_id, owner_id=new_id(), title="A flat by the lake", location="Uppal"),
    )


def login(user_id: UUID) -> Observation:
    return Observation(
        event_id=new_id(),
        aggregate_id=user_id,
        user_id=user_id,
        timestamp=datetime.now(UTC),
        data=UserLoggedIn(user_id=user_id),
    )


def record_activity(tenant: str, *observations: Observation) -> RecordActivity:
    return RecordActivity(command_id=new_id(), tenant_id=tenant, observations=observations)


def actor(user_id: UUID, role: UserRole = UserRole.USER) -> Actor:
    return Actor(user_id=user_id, role=role)


def sent(command: Command) -> SealedCommand:
    """A command as it passes through Temporal, with nothing sealed."""
    return command.model_dump(mode="json", by_alias=True)
