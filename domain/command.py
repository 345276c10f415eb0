"""What every command and every answer to one carry."""

from datetime import datetime
from uuid import UUID

from domain.model import Fact, Model


class Command(Model):
    """A request to change something: who asks, in which portal, when. Ids and time were chosen before the workflow."""

    command_id: UUID
    tenant_id: str
    user_id: UUID
    issued_at: datetime
    fingerprint: str | None = None
    """A keyed hash of the body sent with an `Idempotency-Key`: tells the same request from another."""


class SavedEvent(Fact):
    """Where one stored event is to be found; what it says stays in the event store."""

    event_id: UUID
    aggregate_id: UUID
    user_id: UUID
    version: int
    timestamp: datetime


class Saved(Fact):
    """The answer to a command: the events it stored, in order. A subclass adds the resource."""

    events: tuple[SavedEvent, ...]
    published: bool = False
    """Whether they were published before the answer was given; if not, the workflow sees to it."""
