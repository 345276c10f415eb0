"""Rebuilds of projections: what an operator orders, and how far one has come."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.model import Fact


class RebuildStatus(StrEnum):
    """The state of a rebuild."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    """The old generation serves on; `detail` says why."""
    INTERRUPTED = "INTERRUPTED"
    """Its process or workflow is gone. The old generation serves on, and the next rebuild deletes the rows."""


class Signal(StrEnum):
    """What a running rebuild can be told, by the names of its workflow's signals."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


WORKFLOW = "rebuild-projection"


def workflow_id(projection: str) -> str:
    """The id of the workflow that rebuilds a projection: there is one at a time."""
    return f"{WORKFLOW}/{projection}"


class RebuildOrder(Fact):
    """The input of a rebuild's workflow and of its steps."""

    rebuild_id: UUID
    projection: str
    requested_by: UUID | None = None
    """The administrator; None from the command line."""
    paused: bool = False
    """Whether a workflow that continues as new was asked to pause."""


class RebuildProgress(Fact):
    """How far a rebuild has come."""

    rebuild_id: UUID
    projection: str
    generation: int
    status: RebuildStatus
    detail: str | None
    requested_by: UUID | None
    total: int
    """Events in the store when it began; some more may follow."""
    done: int
    applied: int
    """Those of `done` that concern this projection."""
    parked: int
    """Those that could not be applied; they are parked when the new generation serves."""
    working_seconds: float
    """Without pauses."""
    ready: bool
    """Whether the switch to the new generation is all that is left."""
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def events_per_second(self) -> float:
        return self.done / self.working_seconds if self.working_seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None while no rate is known."""
        if self.finished_at:
            return 0.0
        return max(0, self.total - self.done) / rate if (rate := self.events_per_second) else None

    def __str__(self) -> str:
        text = f"{self.status.capitalize()}: {self.done:,} of {max(self.total, self.done):,} events"
        if rate := self.events_per_second:
            text += f", {rate:,.0f} a second"
        if not self.finished_at and (left := self.seconds_left) is not None:
            text += f", {left:,.0f} s left"
        return text if self.detail is None else f"{text}. {self.detail}"
