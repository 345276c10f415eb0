"""Observations: facts in large numbers that change no aggregate, and the batches in which they are recorded."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from domain import fields as f
from domain.model import Fact

ANONYMOUS = UUID(int=0)
"""The user id of an observation of somebody without an account: the nil UUID (RFC 9562, section 5.9)."""


class PropertyViewed(Fact):
    """PROPERTY_VIEWED: somebody looked at a listing. It says nothing of them beyond the event's user id."""

    property_id: UUID
    owner_id: UUID
    title: f.Title
    location: f.Place


class UserLoggedIn(Fact):
    """USER_LOGGED_IN: a user gave the right password."""

    user_id: UUID


class _Observed(Fact):
    """One fact to be stored. A repetition carries the same event id and is stored once."""

    event_id: UUID
    aggregate_id: UUID
    """What was observed: the listing, or the user who signed in."""
    user_id: UUID
    """Who did it; ANONYMOUS for somebody without an account."""
    timestamp: datetime


class View(_Observed):
    """A view of a listing."""

    event_type: Literal["PROPERTY_VIEWED"] = "PROPERTY_VIEWED"
    data: PropertyViewed


class Login(_Observed):
    """A login of a user."""

    event_type: Literal["USER_LOGGED_IN"] = "USER_LOGGED_IN"
    data: UserLoggedIn


# By the name of the event: each model passes over fields that it does not know, so one could be taken for the other.
Observation = Annotated[View | Login, Field(discriminator="event_type")]


class RecordActivity(Fact):
    """Record observations of one tenant that were made at about the same time."""

    command_id: UUID
    tenant_id: str
    observations: tuple[Observation, ...]


class RecordedActivity(Fact):
    """A batch of observations that is saved; what it says is in the event store."""

    tenant_id: str
    command_id: UUID
