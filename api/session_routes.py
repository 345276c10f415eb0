"""The open sessions of the caller: /api/auth/sessions."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Response

from adapters import user_sessions
from api.deps import CallerDep, PartsDep
from api.errors import ApiError, responses
from api.openapi import SIGNED_IN, query
from domain.model import Model

router = APIRouter(prefix="/api/auth/sessions", tags=["auth"])


class OpenSession(Model):
    """A device on which the caller is signed in."""

    id: UUID
    device: str | None
    """Browser and operating system at sign-in, as the device says; null when they are not known."""
    opened_at: datetime
    last_seen_at: datetime
    """When it was renewed last: while it is used, that is every 15 minutes."""
    current: bool
    """Whether it is the session of this request."""


class OpenSessions(Model):
    """The open sessions of the caller, the last seen first; at most 100."""

    items: list[OpenSession]


@router.get("", **query(OpenSessions))
async def list_sessions(caller: CallerDep, parts: PartsDep, response: Response) -> OpenSessions:
    """The open sessions of the caller: the devices on which they are signed in."""
    async with parts.database.statements(caller.tenant_id) as connection:
        found = await user_sessions.of_user(connection, caller.user_id)
    response.headers["Cache-Control"] = "private, no-store"
    return OpenSessions(items=[OpenSession(**vars(one), current=one.id == caller.session_id) for one in found])


@router.delete("", status_code=204, response_class=Response, responses=responses(*SIGNED_IN, "unavailable"))
async def close_other_sessions(caller: CallerDep, parts: PartsDep) -> Response:
    """Sign out everywhere else. The access tokens of those sessions are refused within a second."""
    async with parts.database.statements(caller.tenant_id) as connection:
        await user_sessions.close_others(connection, caller.user_id, caller.session_id)
    return Response(status_code=204)


@router.delete(
    "/{session_id}",
    status_code=204,
    response_class=Response,
    responses=responses(*SIGNED_IN, "not-found", "invalid-request", "unavailable"),
)
async def close_session(session_id: UUID, caller: CallerDep, parts: PartsDep) -> Response:
    """Sign out one device, also the current one. Its access tokens are refused within a second."""
    async with parts.database.statements(caller.tenant_id) as connection:
        if not await user_sessions.close(connection, caller.user_id, session_id):
            raise ApiError("not-found")
    return Response(status_code=204)
