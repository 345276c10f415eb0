"""Observations: high-volume events that change no aggregate, and the batches in which they are saved."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.model import Fact

ANONYMOUS = UUID(int=0)
"""The user id of an observation without an account: the nil UUID (RFC 9562, section 5.9)."""


class PropertyViewed(Fact):
    """PROPERTY_VIEWED: a listing was viewed. The viewer is known by the event's user id only."""

    property_id: UUID
    owner_id: UUID
    title: f.Title
    location: f.Place


class UserLoggedIn(Fact):
    """USER_LOGGED_IN: a user has signed in with their password."""

    user_id: UUID


class _Observed(Fact):
    """One event to store. A repetition has the same event id and is stored once."""

    event_id: UUID
    aggregate_id: UUID
    """The listing that was viewed, or the user who signed in."""
    user_id: UUID
    """The user who caused it; ANONYMOUS for a visitor without an account."""
    timestamp: datetime


class View(_Observed):
    """A view of a listing."""

    event_type: Literal["PROPERTY_VIEWED"] = "PROPERTY_VIEWED"
    data: PropertyViewed


class Login(_Observed):
    """A login of a user."""

    event_type: Literal["USER_LOGGED_IN"] = "USER_LOGGED_IN"
    data: UserLoggedIn


# Discriminated by event type: both models ignore unknown fields, so one would be read as the other.
Observation = Annotated[View | Login, Field(discriminator="event_type")]


class RecordActivity(Fact):
    """The input of one `record-activity` workflow: a batch of observations of one tenant."""

    command_id: UUID
    tenant_id: str
    observations: tuple[Observation, ...]


class RecordedActivity(Fact):
    """A reference to a saved batch of observations; its data is in the event store only."""

    tenant_id: str
    command_id: UUID
