"""The projections for administrators: /api/projections. Rebuilds concern every tenant, parked events one."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field
from sqlalchemy import Row

from adapters.event_store import NotRenumbered
from adapters.paging import Cursor
from adapters.rebuild_control import NotRunning, TemporalUnavailable
from adapters.redis import RedisError
from api.admin_users import AdminDep
from api.deps import NO_ENTRY, CursorText, Parts, PartsDep
from api.errors import ApiError, header_references, responses, unavailable
from api.openapi import SIGNED_IN, query
from api.paging import opened
from api.tokens import Caller
from domain import fields as f
from domain.model import Model
from domain.rebuilds import RebuildProgress, RebuildStatus, Signal
from projections.operations import MAX_COUNTED, ProjectionState, Starting
from projections.rebuild import RebuildRunning
from projections.registry import PROJECTIONS

router = APIRouter(prefix="/api/projections", tags=["projections"])

_PRIVATE = {"Cache-Control": "private, no-store"}


class Rebuild(Model):
    """A rebuild of a projection: every stored event is applied to a new generation, while the old one serves."""

    status: RebuildStatus
    """INTERRUPTED: its workflow or process is gone; start another one."""
    detail: str | None
    """Why it failed or was interrupted."""
    generation: int | None
    """The generation that it writes; null while a worker has not begun it."""
    total: int | None
    """The events in the store when it began; some more may follow."""
    done: int
    """Events of which those that concern the projection are applied."""
    parked: int
    """Those that could not be applied; they are parked when the new generation serves."""
    events_per_second: float | None
    """Without pauses; null while it is not known."""
    seconds_left: float | None
    """At that rate; null while it is not known."""
    requested_by: UUID | None
    """The administrator who has started it; null for an operator at the command line."""
    started_at: datetime | None
    finished_at: datetime | None


class AcceptedRebuild(Model):
    """A rebuild that starts or changes within seconds."""

    projection: str
    location: str
    """The URL of the rebuild, with its progress."""


class ProjectionShown(Model):
    """A projection, which writes one read model."""

    name: str
    generation: int
    """The generation that is read: each rebuild writes a new one."""
    behind_events: Annotated[int, Field(ge=0, le=MAX_COUNTED)]
    """Stored events that may not be applied yet; 10000 means 10000 or more. They count for some ten seconds, also when
    they are applied sooner."""
    behind_seconds: Annotated[float, Field(ge=0)]
    """The age of the oldest of them; 0 without any."""
    parked: int
    """Events of the tenant that could not be applied, and later ones of the same keys."""
    rebuild: Rebuild | None
    """The rebuild that is not finished; null without one, and for administrators who may not rebuild."""


class ProjectionList(Model):
    """Every projection."""

    items: list[ProjectionShown]


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


async def _projection(name: str) -> str:
    """The name of a projection. Raises ApiError not-found."""
    if name not in PROJECTIONS:
        raise ApiError("not-found", f"There is no such projection. There are {', '.join(PROJECTIONS)}.")
    return name


async def _operator(admin: AdminDep, parts: PartsDep) -> Caller:
    """The caller, if they are an administrator of the default tenant. Raises ApiError forbidden."""
    if not _is_operator(parts, admin):
        raise ApiError(
            "forbidden",
            "A rebuild concerns the read models of every tenant: an administrator of the tenant "
            f"{parts.settings.default_tenant} may do this.",
        )
    return admin


NameDep = Annotated[str, Depends(_projection)]
OperatorDep = Annotated[Caller, Depends(_operator)]
ParkedId = Annotated[int, Field(ge=1, le=2**63 - 1)]

_ADMIN = (*SIGNED_IN, "forbidden", "not-found", "invalid-request", "too-many-requests", "unavailable")


def _is_operator(parts: Parts, admin: Caller) -> bool:
    return admin.tenant_id == parts.settings.default_tenant


def _tenants(parts: Parts, admin: Caller) -> list[str]:
    """The tenants whose parked events an administrator sees: the own one; an operator also messages without one."""
    return [admin.tenant_id, ""] if _is_operator(parts, admin) else [admin.tenant_id]


async def _count(parts: Parts, admin: Caller) -> None:
    limit = parts.settings.commands_per_minute
    await parts.limits.count(admin.tenant_id, "commands", str(admin.user_id), limit)


def _accepted(*problems: str) -> dict[str, Any]:
    """Decorator arguments of a route that has a rebuild start or change, which takes a while."""
    accepted = {"description": "Accepted; Location is the URL of the rebuild", "headers": header_references("Location")}
    return {
        "status_code": 202,
        "response_model": AcceptedRebuild,
        "responses": {202: accepted, **responses(*_ADMIN, *problems)},
    }


@router.get("", **query(ProjectionList, "forbidden"))
async def list_projections(admin: AdminDep, parts: PartsDep, response: Response) -> ProjectionList:
    """Every projection: its generation, how far it is behind, parked events, and its rebuild. For administrators."""
    response.headers.update(_PRIVATE)
    try:
        states = await parts.operations.states(_tenants(parts, admin))
    except NotRenumbered as error:
        detail = f"An operator must act: {error}."
        raise ApiError("unavailable", detail, headers={"Retry-After": "60"}) from error
    unfinished = {state.name: await _unfinished(parts, state) for state in states if _is_operator(parts, admin)}
    return ProjectionList(
        items=[ProjectionShown(**vars(state), rebuild=unfinished.get(state.name)) for state in states]
    )


async def _unfinished(parts: Parts, state: ProjectionState) -> Rebuild | None:
    found = await _find_rebuild(parts, state.name)
    return found if found and found.finished_at is None else None


@router.get("/{name}/rebuild", **query(Rebuild, "forbidden", "not-found", "invalid-request"))
async def get_rebuild(_: OperatorDep, name: NameDep, parts: PartsDep, response: Response) -> Rebuild:
    """The newest rebuild of a projection, with its progress. For administrators of the default tenant."""
    response.headers.update(_PRIVATE)
    found = await _find_rebuild(parts, name)
    if found is None:
        raise ApiError("not-found", "The projection was not rebuilt yet.")
    return found


@router.post("/{name}/rebuild", **_accepted("rebuild-running"))
async def rebuild_projection(admin: OperatorDep, name: NameDep, parts: PartsDep) -> Response:
    """Rebuild a projection from the event store, while the old generation serves. One rebuild of it at a time.

    For administrators of the default tenant.
    """
    await _count(parts, admin)
    try:
        await parts.operations.start_rebuild(name, admin.user_id)
    except RebuildRunning as error:
        raise ApiError("rebuild-running", headers=_location(name)) from error
    except TemporalUnavailable as error:
        raise unavailable("The command service") from error
    return _accept(name)


@router.post("/{name}/rebuild/pause", **_accepted("rebuild-not-running"))
async def pause_rebuild(admin: OperatorDep, name: NameDep, parts: PartsDep) -> Response:
    """Pause a rebuild within some seconds, also one that fails and tries again.

    For administrators of the default tenant.
    """
    return await _signal(parts, admin, name, Signal.PAUSE)


@router.post("/{name}/rebuild/resume", **_accepted("rebuild-not-running"))
async def resume_rebuild(admin: OperatorDep, name: NameDep, parts: PartsDep) -> Response:
    """Go on with a rebuild where it was paused. For administrators of the default tenant."""
    return await _signal(parts, admin, name, Signal.RESUME)


@router.delete("/{name}/rebuild", **_accepted("rebuild-not-running"))
async def cancel_rebuild(admin: OperatorDep, name: NameDep, parts: PartsDep) -> Response:
    """Cancel a rebuild within some seconds: its rows are deleted, and the old generation goes on serving.

    For administrators of the default tenant.
    """
    return await _signal(parts, admin, name, Signal.CANCEL)


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
    rows = await parts.operations.page_of_parked(name, _tenants(parts, admin), after.id.int if after else 0, limit + 1)
    items = [_parked(row) for row in rows[:limit]]
    shown = ParkedEventPage(items=items, next_cursor=_next(parts, purpose, rows, limit))
    return Response(shown.model_dump_json(by_alias=True), 200, _PRIVATE, "application/json")


@router.get("/{name}/parked/{parked_id}", **query(ParkedEventContent, "forbidden", "not-found", "invalid-request"))
async def get_parked_event(
    admin: AdminDep, name: NameDep, parked_id: ParkedId, parts: PartsDep, response: Response
) -> ParkedEventContent:
    """A parked event of the tenant with its message and the reason. For administrators."""
    response.headers.update(_PRIVATE)
    row = await parts.operations.find_parked(name, parked_id, _tenants(parts, admin))
    if row is None:
        raise _not_parked()
    try:
        payload, text = orjson.loads(row.payload), None
    except orjson.JSONDecodeError:
        payload, text = None, row.payload.decode(errors="replace")
    return ParkedEventContent(**dict(_parked(row)), payload=payload, text=text)


@router.post("/{name}/parked/{parked_id}/retry", response_model=Retried, responses={**responses(*_ADMIN)})
async def retry_parked_events(admin: AdminDep, name: NameDep, parked_id: ParkedId, parts: PartsDep) -> Retried:
    """Apply the parked events of the key of this one, in order, until one still fails. For administrators."""
    await _count(parts, admin)
    try:
        replayed = await parts.operations.retry(name, parked_id, _tenants(parts, admin))
    except RedisError as error:
        raise unavailable("Redis, whose copies would lack the events,") from error
    if replayed is None:
        raise _not_parked()
    return Retried(applied=replayed.applied, failure=replayed.failure)


@router.delete(
    "/{name}/parked/{parked_id}",
    status_code=204,
    response_class=Response,
    responses=responses(*_ADMIN),
)
async def discard_parked_event(
    admin: AdminDep,
    name: NameDep,
    parked_id: ParkedId,
    parts: PartsDep,
    reason: Annotated[f.Note, Query(description="Why the event is not needed. It is kept, with who and when.")],
) -> Response:
    """Delete a parked event of the tenant, so that later ones of its key can be retried. For administrators."""
    await _count(parts, admin)
    if not await parts.operations.discard(name, parked_id, _tenants(parts, admin), reason, admin.user_id):
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
        name, _tenants(parts, admin), before.id.int if before else None, limit + 1
    )
    items = [DiscardedEvent(**{field: getattr(row, field) for field in DiscardedEvent.model_fields}) for row in rows]
    shown = DiscardedEventPage(items=items[:limit], next_cursor=_next(parts, purpose, rows, limit))
    return Response(shown.model_dump_json(by_alias=True), 200, _PRIVATE, "application/json")


async def _find_rebuild(parts: Parts, name: str) -> Rebuild | None:
    try:
        found = await parts.operations.find_rebuild(name)
    except TemporalUnavailable as error:
        raise unavailable("The command service") from error
    match found:
        case RebuildProgress():
            return _shown(found)
        case Starting():
            unknown = dict.fromkeys(Rebuild.model_fields)
            return Rebuild(**{**unknown, "status": RebuildStatus.RUNNING, "done": 0, "parked": 0})
    return None


def _shown(progress: RebuildProgress) -> Rebuild:
    return Rebuild(
        status=progress.status,
        detail=progress.detail,
        generation=progress.generation,
        total=progress.total,
        done=progress.done,
        parked=progress.parked,
        events_per_second=round(progress.events_per_second, 1) if progress.working_seconds else None,
        seconds_left=None if progress.seconds_left is None else round(progress.seconds_left, 1),
        requested_by=progress.requested_by,
        started_at=progress.started_at,
        finished_at=progress.finished_at,
    )


async def _signal(parts: Parts, admin: Caller, name: str, signal: Signal) -> Response:
    await _count(parts, admin)
    try:
        await parts.operations.signal_rebuild(name, signal)
    except NotRunning as error:
        raise ApiError("rebuild-not-running") from error
    except TemporalUnavailable as error:
        raise unavailable("The command service") from error
    return _accept(name)


def _accept(name: str) -> Response:
    accepted = AcceptedRebuild(projection=name, location=_location(name)["Location"])
    return Response(accepted.model_dump_json(by_alias=True), 202, _location(name), "application/json")


def _location(name: str) -> dict[str, str]:
    return {"Location": f"/api/projections/{name}/rebuild"}


def _parked(row: Row[Any]) -> ParkedEvent:
    return ParkedEvent(id=row.id, topic=row.topic, key=row.key, reason=row.reason, parked_at=row.parked_at)


def _next(parts: Parts, purpose: str, rows: list[Row[Any]], limit: int) -> str | None:
    """The cursor after `limit` rows, if there are more."""
    if len(rows) <= limit:
        return None
    return parts.signer.sign(purpose, Cursor(NO_ENTRY.timestamp, UUID(int=rows[limit - 1].id)))


def _not_parked() -> ApiError:
    return ApiError("not-found", "No event with this id is parked: it may have been retried or discarded.")
