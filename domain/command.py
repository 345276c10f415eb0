"""What every command and every answer to one carry."""

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.model import Fact, Model
from domain.roles import UserRole

FAILED = "CommandFailed"
"""The type of the error of a command that is neither done nor refused: its workflow fails."""
SealedCommand = dict[str, Any]
"""A command as JSON on its way through Temporal: `{"sealed": ...}` stands in place of each personal value."""


class Command(Model):
    """A request to change something: who asks, in which portal, when. Ids and time were chosen before the workflow.

    A subclass adds `type`, the one word of the command: in the trace, in the record of commands, in the workflow's id.
    """

    command_id: UUID
    tenant_id: str
    user_id: UUID
    issued_at: datetime
    fingerprint: str | None = None
    """A keyed hash of the body sent with an `Idempotency-Key`: tells the same request from another."""
    type: str

    @property
    def aggregate_id(self) -> UUID:
        """The one aggregate that the command changes."""
        raise NotImplementedError


class Change(Command):
    """A command on an aggregate that exists."""

    expected_versions: tuple[int, ...] | None = None
    """The versions that the sender has seen (`If-Match`); None accepts any."""


class Actor(Model):
    """Who sends a command, as the platform knows them when the command is saved."""

    user_id: UUID
    role: UserRole

    @property
    def is_admin(self) -> bool:
        return self.role is UserRole.ADMIN


class SavedEvent(Fact):
    """Where one stored event is to be found; what it says stays in the event store."""

    event_id: UUID
    event_type: str
    user_id: UUID
    timestamp: datetime


class Saved(Fact):
    """The answer to a command: the events it stored, in order, and the aggregate after them."""

    tenant_id: str
    command_id: UUID
    aggregate_id: UUID
    version: int
    """Of the aggregate; as before where the command changed nothing."""
    events: tuple[SavedEvent, ...]
    """Empty where the command changed nothing."""
    resource: dict[str, Any] | None
    """The state as the API answers it, personal values sealed; None when the aggregate is gone."""
