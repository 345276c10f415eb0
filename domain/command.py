"""The base classes of commands, and the answer to a command."""

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.model import Fact, Model
from domain.roles import UserRole

FAILED = "command-failed"
"""The type of the error of a command that is neither done nor refused: its workflow fails."""
SealedCommand = dict[str, Any]
"""A command as the JSON that Temporal stores: each personal value is encrypted, as `{"sealed": ...}`."""


class Command(Model):
    """A request to change one aggregate. Ids and time are chosen before its workflow starts.

    A subclass sets `type`: the name of the workflow, the prefix of its id, and the type in the table `commands`.
    """

    command_id: UUID
    tenant_id: str
    user_id: UUID
    issued_at: datetime
    fingerprint: str | None = None
    """HMAC of the body sent with an `Idempotency-Key`: the key may be repeated with the same body only."""
    type: str

    @property
    def aggregate_id(self) -> UUID:
        """The aggregate that the command changes."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a person that the command claims for a new account. An erasure finds its workflow by them."""
        return ()


class Change(Command):
    """A command on an existing aggregate."""

    expected_versions: tuple[int, ...] | None = None
    """The versions that the sender accepts (`If-Match`); None accepts any."""


class Actor(Model):
    """The user who sends a command, with the role they have when the command is saved."""

    user_id: UUID
    role: UserRole

    @property
    def is_admin(self) -> bool:
        return self.role is UserRole.ADMIN


class SavedEvent(Fact):
    """A reference to a stored event; its data is in the event store only."""

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
    """Of the aggregate after the command."""
    events: tuple[SavedEvent, ...]
    """Empty when the command changed nothing."""
    resource: dict[str, Any] | None
    """The state as the API returns it, personal values encrypted; None when the aggregate is deleted."""
