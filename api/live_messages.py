"""Live messages as clients get them, on an event stream and on a WebSocket alike."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

import orjson
from fastapi.sse import format_sse_event

from adapters.live import Entry, order_of, tenant_of_stream
from api.commands import problem_of
from api.errors import Problem
from api.shown_images import FileUrls, shown_card
from api.shown_notifications import shown_notification
from api.tokens import Caller
from domain.model import Model
from projections.inbox import Notification

Type = Literal[
    "history", "notification", "command", "property", "ready", "reset", "end", "heartbeat", "subscribed", "error"
]

_STATUS = {"saved": "COMPLETED", "published": "COMPLETED", "refused": "REFUSED", "failed": "FAILED"}


class CommandProgress(Model):
    """How far a command of the user is. `GET /api/commands/{id}` says more."""

    command_id: UUID
    type: str | None
    """The type of the command; null once it is published."""
    status: Literal["COMPLETED", "REFUSED", "FAILED"]
    stage: Literal["saved", "published", "refused", "failed"]
    aggregate_id: UUID | None
    problem: Problem | None
    at: datetime
    location: str
    """The URL of its state."""


class PropertyChange(Model):
    """A watched listing has changed."""

    property_id: UUID
    version: int
    change: str
    """The type of the event, such as `PROPERTY_PRICE_CHANGED`."""
    listing: dict[str, Any] | None
    """Its fields without contact data; null when the listing is deleted, or no longer public and another user's. Of the
    latter no further change is sent until it is public again.
    """


class StreamEnd(Model):
    """Why a stream ends. Get a new ticket and open another one, which goes on where this one ended."""

    reason: Literal["session-closed", "token-expired", "restart", "slow", "too-many-messages"]


class Subscribed(Model):
    """The listings that the stream watches."""

    properties: tuple[UUID, ...]


@dataclass(frozen=True)
class ClientMessage:
    """A message as a client gets it: its id, to go on from later, its type and its data as JSON."""

    id: str
    type: Type
    data: bytes = b"{}"
    stream: str = ""
    """Of a change of a listing: its stream."""
    is_hidden: bool = False
    """Whether the listing is not for the client to see. It gets the first such message, which says so, and no other."""

    @cached_property
    def order(self) -> tuple[int, int]:
        return order_of(self.id)

    @cached_property
    def as_event(self) -> bytes:
        """As a server-sent event. A heartbeat is a comment, with the id for the browser's Last-Event-ID."""
        if self.type == "heartbeat":
            return format_sse_event(comment="heartbeat", id=self.id)
        return format_sse_event(event=self.type, data_str=self.data.decode(), id=self.id)

    @cached_property
    def as_text(self) -> str:
        """As a message of a WebSocket."""
        return orjson.dumps({"id": self.id, "type": self.type, "data": orjson.Fragment(self.data)}).decode()


def render(entry: Entry, urls: Callable[[str], FileUrls]) -> Callable[[Caller], ClientMessage]:
    """A message of a stream, as each caller may see it; `urls` are those of a tenant's files.

    Raises LookupError, TypeError or ValueError for one that this release cannot read.
    """
    data = orjson.loads(entry.data)
    if entry.type == "property":
        if data["state"]:
            data["state"] = shown_card(data["state"], urls(tenant_of_stream(entry.stream)))
        to_all = _property(entry, data, is_own=False)
        to_owner = _property(entry, data, is_own=True)
        owner = UUID(data["ownerId"])
        return lambda caller: to_owner if caller.is_admin or caller.user_id == owner else to_all
    if entry.type == "history":
        same = ClientMessage(entry.id, "history", entry.data)
    elif entry.type == "notification":
        same = ClientMessage(entry.id, "notification", _notification(data))
    elif entry.type == "command":
        same = ClientMessage(entry.id, "command", _command(entry, data))
    elif entry.type == "reset":
        same = ClientMessage(entry.id, "reset")
    else:
        raise ValueError(f"unknown type {entry.type}")
    return lambda _: same


def _property(entry: Entry, data: dict[str, Any], *, is_own: bool) -> ClientMessage:
    is_hidden = not data["isPublic"] and not is_own
    change = PropertyChange(
        property_id=data["propertyId"],
        version=data["version"],
        change=data["change"],
        listing=None if is_hidden else data["state"],
    )
    return ClientMessage(entry.id, "property", _json(change), entry.stream, is_hidden)


def _notification(data: dict[str, Any]) -> bytes:
    notification = Notification(
        id=UUID(data["id"]),
        kind=data["kind"],
        property_id=UUID(data["propertyId"]) if data["propertyId"] else None,
        values=data["values"],
        created_at=datetime.fromisoformat(data["createdAt"]),
        is_read=False,
    )
    return _json(shown_notification(notification))


def _command(entry: Entry, data: dict[str, Any]) -> bytes:
    stage, problem = data["stage"], data.get("problem")
    if stage == "failed":
        problem = {"code": "command-failed", "detail": None, "field": None}
    progress = CommandProgress(
        command_id=data["commandId"],
        type=data.get("type"),
        status=_STATUS[stage],
        stage=stage,
        aggregate_id=data["aggregateId"],
        problem=Problem.model_validate(problem_of(**problem)) if problem else None,
        at=datetime.fromtimestamp(entry.order[0] / 1000, UTC),
        location=f"/api/commands/{data['commandId']}",
    )
    return _json(progress)


def _json(model: Model) -> bytes:
    return model.model_dump_json(by_alias=True).encode()
