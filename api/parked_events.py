"""Parked events for administrators: those that a projection could not apply, of the administrator's tenant."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Row

from adapters.paging import Cursor
from adapters.redis import RedisError
from api.admin_users import AdminDep
from api.deps import NO_ENTRY, CursorText, Parts, PartsDep
from api.errors import ApiError, responses, unavailable
from api.openapi import query
from api.paging import opened
from api.projections import ADMIN_PROBLEMS, PRIVATE, NameDep, count_command, tenants_seen
from domain import fields as f
from domain.model import Model

router = APIRouter(prefix="/api/projections", tags=["projections"])

ParkedId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ParkedEvent(Model):
    """An event that could not be applied, or that waits for an earlier one of its key."""

    id: int
    topic: str
    key: str
    reason: str
    """Why it is parked."""
    parked_at: datetime


class ParkedEventContent(ParkedEvent):
    """A parked event with its message."""

    payload: Any
    """The message; null when it is not JSON."""
    text: str | None
    """The message as text when it is not JSON."""


class ParkedEventPage(Model):
    """Parked events, the oldest first."""

    items: list[ParkedEvent]
    next_cursor: str | None


class Retried(Model):
    """What came of applying the parked events of a key."""

    applied: int
    """Events that are applied and no longer parked."""
    failure: str | None
    """Why the next event of the key still fails; null when none is left."""


class DiscardedEvent(Model):
    """A parked event that an operator has deleted."""

    id: int
    topic: str
    key: str
    event_id: str
    """Empty when the message had none."""
    parked_because: str
    parked_at: datetime
    reason: str
    discarded_by: UUID | None
    """The administrator; null for an operator at the command line."""
    discarded_at: datetime


class DiscardedEventPage(Model):
    """Discarded events, the last parked first."""

    items: list[DiscardedEvent]
    next_cursor: str | None


@router.get("/{name}/parked", **query(ParkedEventPage, "forbidden", "not-found", "invalid-request", "invalid-cursor"))
async def list_parked_events(
    admin: AdminDep,
    name: NameDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: CursorText = None,
) -> Response:
    """The tenant's events that a projection could not apply, and later ones of their keys. For administrators."""
    purpose = f"parked:{admin.tenant_id}:{name}"
    after = opened(parts.signer.open, purpose, cursor)
    rows = await parts.operations.page_of_parked(
        name, tenants_seen(parts, admin), after.id.int if after else 0, limit + 1
    )
    items = [_parked(row) for row in rows[:limit]]
    shown = ParkedEventPage(items=items, next_cursor=_next(parts, purpose, rows, limit))
    return Response(shown.model_dump_json(by_alias=True), 200, PRIVATE, "application/json")


@router.get("/{name}/parked/{parked_id}", **query(ParkedEventContent, "forbidden", "not-found", "invalid-request"))
async def get_parked_event(
    admin: AdminDep, name: NameDep, parked_id: ParkedId, parts: PartsDep, response: Response
) -> ParkedEventContent:
    """A parked event of the tenant with its message and the reason. For administrators."""
    response.headers.update(PRIVATE)
    row = await parts.operations.find_parked(name, parked_id, tenants_seen(parts, admin))
    if row is None:
        raise _not_parked()
    try:
        payload, text = orjson.loads(row.payload), None
    except orjson.JSONDecodeError:
        payload, text = None, row.payload.decode(errors="replace")
    return ParkedEventContent(**dict(_parked(row)), payload=payload, text=text)


@router.post("/{name}/parked/{parked_id}/retry", response_model=Retried, responses={**responses(*ADMIN_PROBLEMS)})
async def retry_parked_events(admin: AdminDep, name: NameDep, parked_id: ParkedId, parts: PartsDep) -> Retried:
    """Apply the parked events of the key of this one, in order, until one still fails. For administrators."""
    await count_command(parts, admin)
    try:
        retried = await parts.operations.retry(name, parked_id, tenants_seen(parts, admin))
    except RedisError as error:
        raise unavailable("Redis, whose copies would lack the events,") from error
    if retried is None:
        raise _not_parked()
    return Retried(applied=retried.applied, failure=retried.failure)


@router.delete(
    "/{name}/parked/{parked_id}",
    status_code=204,
    response_class=Response,
    responses=responses(*ADMIN_PROBLEMS),
)
async def discard_parked_event(
    admin: AdminDep,
    name: NameDep,
    parked_id: ParkedId,
    parts: PartsDep,
    reason: Annotated[f.Note, Query(description="Why the event is not needed. It is kept, with who and when.")],
) -> Response:
    """Delete a parked event of the tenant, so that later ones of its key can be retried. For administrators."""
    await count_command(parts, admin)
    if not await parts.operations.discard(name, parked_id, tenants_seen(parts, admin), reason, admin.user_id):
        raise _not_parked()
    return Response(status_code=204)


@router.get(
    "/{name}/discarded", **query(DiscardedEventPage, "forbidden", "not-found", "invalid-request", "invalid-cursor")
)
async def list_discarded_events(
    admin: AdminDep,
    name: NameDep,
    parts: PartsDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: CursorText = None,
) -> Response:
    """The tenant's parked events that were discarded: by whom, when and why. For administrators."""
    purpose = f"discarded:{admin.tenant_id}:{name}"
    before = opened(parts.signer.open, purpose, cursor)
    rows = await parts.operations.page_of_discarded(
        name, tenants_seen(parts, admin), before.id.int if before else None, limit + 1
    )
    items = [DiscardedEvent(**{field: getattr(row, field) for field in DiscardedEvent.model_fields}) for row in rows]
    shown = DiscardedEventPage(items=items[:limit], next_cursor=_next(parts, purpose, rows, limit))
    return Response(shown.model_dump_json(by_alias=True), 200, PRIVATE, "application/json")


def _parked(row: Row[Any]) -> ParkedEvent:
    return ParkedEvent(id=row.id, topic=row.topic, key=row.key, reason=row.reason, parked_at=row.parked_at)


def _next(parts: Parts, purpose: str, rows: list[Row[Any]], limit: int) -> str | None:
    """The cursor after `limit` rows, if there are more."""
    if len(rows) <= limit:
        return None
    return parts.signer.sign(purpose, Cursor(NO_ENTRY.timestamp, UUID(int=rows[limit - 1].id)))


def _not_parked() -> ApiError:
    return ApiError("not-found", "No event with this id is parked: it may have been retried or discarded.")
