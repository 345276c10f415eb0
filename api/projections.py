"""The projections for administrators: /api/projections. Rebuilds concern every tenant, parked events one."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from adapters.event_store import NotRenumbered
from adapters.rebuild_control import NotRunning, TemporalUnavailable
from api.admin_users import AdminDep
from api.deps import Parts, PartsDep
from api.errors import ApiError, header_references, responses, unavailable
from api.openapi import SIGNED_IN, query
from api.tokens import Caller
from domain.model import Model
from domain.rebuilds import RebuildProgress, RebuildStatus, Signal
from projections.operations import MAX_COUNTED, ProjectionState, Starting
from projections.rebuild import RebuildRunning
from projections.registry import PROJECTIONS

router = APIRouter(prefix="/api/projections", tags=["projections"])

PRIVATE = {"Cache-Control": "private, no-store"}


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
    lag_events: Annotated[int, Field(ge=0, le=MAX_COUNTED)] | None
    """Stored events of every tenant that may not be applied yet; 10000 means 10000 or more. They count for some ten
    seconds, also when they are applied sooner. Null for administrators who may not rebuild."""
    lag_seconds: Annotated[float, Field(ge=0)] | None
    """The age of the oldest of them; 0 without any."""
    parked: int
    """Events of the tenant that could not be applied, and later ones of the same keys."""
    rebuild: Rebuild | None
    """The rebuild that is not finished; null without one, and for administrators who may not rebuild."""


class ProjectionList(Model):
    """Every projection."""

    items: list[ProjectionShown]


async def _projection(name: str) -> str:
    """The name of a projection. Raises ApiError not-found."""
    if name not in PROJECTIONS:
        raise ApiError("not-found", f"There is no such projection. There are {', '.join(PROJECTIONS)}.")
    return name


async def _operator(admin: AdminDep, parts: PartsDep) -> Caller:
    """The caller, if they are an administrator of the default tenant. Raises ApiError forbidden."""
    if not is_operator(parts, admin):
        raise ApiError(
            "forbidden",
            "A rebuild concerns the read models of every tenant: an administrator of the tenant "
            f"{parts.settings.default_tenant} may do this.",
        )
    return admin


NameDep = Annotated[str, Depends(_projection)]
OperatorDep = Annotated[Caller, Depends(_operator)]

ADMIN_PROBLEMS = (*SIGNED_IN, "forbidden", "not-found", "invalid-request", "too-many-requests", "unavailable")


def is_operator(parts: Parts, admin: Caller) -> bool:
    return admin.tenant_id == parts.settings.default_tenant


def tenants_seen(parts: Parts, admin: Caller) -> list[str]:
    """The tenants whose parked events an administrator sees: the own one; an operator also messages without one."""
    return [admin.tenant_id, ""] if is_operator(parts, admin) else [admin.tenant_id]


async def count_command(parts: Parts, admin: Caller) -> None:
    limit = parts.settings.commands_per_minute
    await parts.limits.count(admin.tenant_id, "commands", str(admin.user_id), limit)


def _accepted(*problems: str) -> dict[str, Any]:
    """Decorator arguments of a route that has a rebuild start or change, which takes a while."""
    accepted = {"description": "Accepted; Location is the URL of the rebuild", "headers": header_references("Location")}
    return {
        "status_code": 202,
        "response_model": AcceptedRebuild,
        "responses": {202: accepted, **responses(*ADMIN_PROBLEMS, *problems)},
    }


@router.get("", **query(ProjectionList, "forbidden"))
async def list_projections(admin: AdminDep, parts: PartsDep, response: Response) -> ProjectionList:
    """Every projection: its generation, its lag, parked events, and its rebuild. For administrators.

    Lag and rebuild concern every tenant, so that those of the default tenant alone see them.
    """
    response.headers.update(PRIVATE)
    try:
        states = await parts.operations.states(tenants_seen(parts, admin), with_lag=is_operator(parts, admin))
    except NotRenumbered as error:
        detail = f"An operator must act: {error}."
        raise ApiError("unavailable", detail, headers={"Retry-After": "60"}) from error
    unfinished = {state.name: await _unfinished(parts, state) for state in states if is_operator(parts, admin)}
    return ProjectionList(
        items=[ProjectionShown(**vars(state), rebuild=unfinished.get(state.name)) for state in states]
    )


async def _unfinished(parts: Parts, state: ProjectionState) -> Rebuild | None:
    found = await _find_rebuild(parts, state.name)
    return found if found and found.finished_at is None else None


@router.get("/{name}/rebuild", **query(Rebuild, "forbidden", "not-found", "invalid-request"))
async def get_rebuild(_: OperatorDep, name: NameDep, parts: PartsDep, response: Response) -> Rebuild:
    """The newest rebuild of a projection, with its progress. For administrators of the default tenant."""
    response.headers.update(PRIVATE)
    found = await _find_rebuild(parts, name)
    if found is None:
        raise ApiError("not-found", "The projection was not rebuilt yet.")
    return found


@router.post("/{name}/rebuild", **_accepted("rebuild-running"))
async def rebuild_projection(admin: OperatorDep, name: NameDep, parts: PartsDep) -> Response:
    """Rebuild a projection from the event store, while the old generation serves. One rebuild of it at a time.

    For administrators of the default tenant.
    """
    await count_command(parts, admin)
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
    await count_command(parts, admin)
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
