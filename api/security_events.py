"""The events of an account that are about its security: /api/users/.../security-events."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from adapters import security_events
from adapters.current_state import find_user
from adapters.paging import Cursor
from adapters.sealing import Keyring
from adapters.telemetry import EVENTS_UNREADABLE
from api.deps import CallerDep, CursorText, Parts, PartsDep
from api.errors import ApiError
from api.openapi import query
from api.paging import opened
from domain.events import Event, UnreadableEvent, read_event
from domain.fields import Sealed
from domain.model import Model
from domain.observations import LoginFailed, RefreshTokenReused, UserLoggedIn
from domain.roles import UserRole
from domain.user import UserStatus
from domain.user_events import UserPasskeyAdded, UserPasskeyRemoved, UserRoleChanged, UserStatusChanged

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/users", tags=["users"])

SecurityEventType = Literal[
    "LOGIN_FAILED",
    "REFRESH_TOKEN_REUSED",
    "USER_LOGGED_IN",
    "USER_PASSWORD_CHANGED",
    "USER_PASSWORD_RESET_REQUESTED",
    "USER_ROLE_CHANGED",
    "USER_STATUS_CHANGED",
    "USER_SECOND_FACTOR_CHANGED",
    "USER_PASSKEY_ADDED",
    "USER_PASSKEY_REMOVED",
]


class SecurityEvent(Model):
    """An event of an account that is about its security. Fields that its type does not have are null."""

    id: UUID
    type: SecurityEventType
    at: datetime
    user_id: UUID
    """Who caused it: the account's own id, or that of an administrator."""
    device: str | None = None
    """Browser and operating system of a sign-in or an attempt, as the device says; null when they are not known."""
    new_device: bool | None = None
    """Whether nobody had signed in from such a device before."""
    session_id: UUID | None = None
    """The session that a sign-in has opened, or that was closed because its refresh token was used twice."""
    from_role: UserRole | None = None
    to_role: UserRole | None = None
    from_status: UserStatus | None = None
    to_status: UserStatus | None = None
    passkey: str | None = None
    """The name of the passkey that was added or removed; null once the account is erased."""


class SecurityEventPage(Model):
    """Security events of an account, newest first."""

    items: tuple[SecurityEvent, ...]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""


LimitQuery = Annotated[int, Query(ge=1, le=100)]
CursorQuery = Annotated[CursorText, Query()]
_PAGE = query(SecurityEventPage, "invalid-request", "invalid-cursor")
_PAGE_OF_ANY = query(SecurityEventPage, "invalid-request", "invalid-cursor", "not-found")


@router.get("/profile/security-events", **_PAGE)
async def own_security_events(
    caller: CallerDep, parts: PartsDep, response: Response, limit: LimitQuery = 20, cursor: CursorQuery = None
) -> SecurityEventPage:
    """Sign-ins, failed ones, and changes of password, second factor, role and status of the caller's account."""
    response.headers["Cache-Control"] = "private, no-store"
    return await _page(parts, caller.tenant_id, caller.user_id, limit, cursor)


@router.get("/{user_id}/security-events", **_PAGE_OF_ANY)
async def security_events_of(
    user_id: UUID,
    caller: CallerDep,
    parts: PartsDep,
    response: Response,
    limit: LimitQuery = 20,
    cursor: CursorQuery = None,
) -> SecurityEventPage:
    """The same of any account of the portal, also of an erased one. For administrators and the account's owner."""
    if not (caller.is_admin or caller.user_id == user_id):
        raise ApiError("not-found")
    found = await _page(parts, caller.tenant_id, user_id, limit, cursor)
    if not found.items:
        async with parts.database.statements(caller.tenant_id) as connection:
            if await find_user(connection, user_id) is None:
                raise ApiError("not-found")
    response.headers["Cache-Control"] = "private, no-store"
    return found


async def _page(parts: Parts, tenant_id: str, account_id: UUID, limit: int, cursor: str | None) -> SecurityEventPage:
    """Raises ApiError invalid-cursor."""
    purpose = f"security:{tenant_id}:{account_id}"
    after = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(tenant_id) as connection:
        found = await security_events.of_account(connection, account_id, cursor=after, limit=limit + 1)
        key = await security_events.key_of_account(connection, account_id)
    next_cursor = parts.signer.sign(purpose, _cursor(found[limit - 1])) if len(found) > limit else None
    shown = (_shown(message, parts.keyring, key) for message in found[:limit])
    return SecurityEventPage(items=tuple(filter(None, shown)), next_cursor=next_cursor)


def _cursor(message: Mapping[str, Any]) -> Cursor:
    return Cursor(datetime.fromisoformat(message["timestamp"]), UUID(message["eventId"]))


def _shown(message: Mapping[str, Any], keyring: Keyring, key: bytes | None) -> SecurityEvent | None:
    """What is shown of an event; None, and logged and counted, when this release cannot read it."""
    try:
        event = read_event(message)
    except UnreadableEvent as error:
        EVENTS_UNREADABLE.labels("security_events").inc()
        log.error("the list of security events skips event %s: %s", message["eventId"], error)
        return None
    shown = {"id": event.event_id, "type": event.event_type, "at": event.timestamp, "user_id": event.user_id}
    return SecurityEvent(**shown, **_details(event, keyring, key))


def _details(event: Event, keyring: Keyring, key: bytes | None) -> dict[str, Any]:
    match event.data:
        case UserLoggedIn(device=device, new_device=is_new, session_id=opened):
            return {"device": device, "new_device": is_new, "session_id": opened}
        case LoginFailed(device=device):
            return {"device": device}
        case RefreshTokenReused(session_id=closed):
            return {"session_id": closed}
        case UserRoleChanged(from_role=before, role=after):
            return {"from_role": before, "to_role": after}
        case UserStatusChanged(from_status=was, status=becomes):
            return {"from_status": was, "to_status": becomes}
        case UserPasskeyAdded(name=name) | UserPasskeyRemoved(name=name):
            # The rest of the event, which is sealed as well, is not shown.
            sealed = name.model_dump() if isinstance(name, Sealed) else name
            return {"passkey": keyring.unseal({"name": sealed}, key, event.event_id)["name"]}
    return {}
