"""The accounts of a tenant, for its administrators: /api/users."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response

from adapters.current_state import find_user
from adapters.user_lists import accounts
from api.answers import IfMatchDep, SenderDep, answered
from api.bodies import BodyOf
from api.conditional import is_not_wanted
from api.deps import CallerDep, CursorText, PartsDep
from api.errors import ApiError
from api.openapi import CHANGE, command, query
from api.paging import opened, page
from api.tokens import Caller
from domain import fields as f
from domain.errors import NotAdmin, UserNotFound
from domain.model import Model
from domain.roles import UserRole
from domain.user import AccountSummary, User, UserStatus
from domain.user_commands import ChangeRole, ChangeUserStatus

router = APIRouter(prefix="/api/users", tags=["users"])

_PRIVATE = {"Cache-Control": "private, no-store"}


async def _admin(caller: CallerDep) -> Caller:
    """The caller, if the access token is of an administrator. Raises ApiError forbidden.

    A command is decided by the role that the caller has when it is saved.
    """
    if not caller.is_admin:
        raise ApiError("forbidden", NotAdmin.advice)
    return caller


AdminDep = Annotated[Caller, Depends(_admin)]


class AccountPage(Model):
    """Accounts, newest first."""

    items: tuple[AccountSummary, ...]
    next_cursor: str | None
    """The cursor of the next page; null on the last page."""


class RoleChange(Model):
    role: UserRole


class UserStatusChange(Model):
    """ACTIVE ends a suspension. An account whose e-mail address is not verified gets PENDING_VERIFICATION again."""

    status: Literal[UserStatus.ACTIVE, UserStatus.SUSPENDED]
    reason: f.Note | None = None


@router.get("", **query(AccountPage, "forbidden", "invalid-request", "invalid-cursor"))
async def list_users(
    admin: AdminDep,
    parts: PartsDep,
    search: Annotated[
        f.SearchText | None,
        Query(
            description="The beginning of the username, of the e-mail address, of the last name, or of first and last"
            " name with a space between them; upper and lower case are the same."
        ),
    ] = None,
    role: Annotated[UserRole | None, Query(description="Only accounts with this role.")] = None,
    status: Annotated[
        Literal[UserStatus.PENDING_VERIFICATION, UserStatus.ACTIVE, UserStatus.SUSPENDED] | None,
        Query(description="Only accounts in this status."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[CursorText, Query()] = None,
) -> Response:
    """The accounts of the tenant, newest first. For administrators."""
    purpose = f"users:{admin.tenant_id}:{role}:{status}:{search}"
    position = opened(parts.signer.open, purpose, cursor)
    async with parts.database.statements(admin.tenant_id) as connection:
        found = await accounts(connection, search, role, status, limit, position)
    items = (item.model_dump_json(by_alias=True).encode() for item in found.items)
    return page(items, parts.signer.sign(purpose, found.next) if found.next else None, _PRIVATE)


@router.get("/{user_id}", **query(User, "forbidden", "invalid-request", "not-found", etag=True))
async def get_user(
    user_id: UUID, admin: AdminDep, parts: PartsDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """An account of the tenant. For administrators."""
    async with parts.database.statements(admin.tenant_id) as connection:
        user = await find_user(connection, user_id)
    if user is None or user.status is UserStatus.DELETED:
        raise ApiError("not-found", UserNotFound.advice)
    headers = {"ETag": f'"{user.version}"', **_PRIVATE}
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(user.model_dump_json(by_alias=True), 200, headers, "application/json")


@router.put("/{user_id}/role", dependencies=[Depends(_admin)], **command(200, User, *CHANGE))
async def change_role(user_id: UUID, body: BodyOf[RoleChange], sender: SenderDep, expected: IfMatchDep) -> Response:
    """Change the role of another account. Every session of the account is closed. For administrators."""
    outcome = await sender.send(
        ChangeRole, body, f"to {body.role}", account_id=user_id, role=body.role, expected_versions=expected
    )
    return answered(sender, outcome)


@router.put("/{user_id}/status", dependencies=[Depends(_admin)], **command(200, User, *CHANGE))
async def change_user_status(
    user_id: UUID, body: BodyOf[UserStatusChange], sender: SenderDep, expected: IfMatchDep
) -> Response:
    """Suspend another account, which closes its sessions, or end the suspension. For administrators."""
    outcome = await sender.send(
        ChangeUserStatus,
        body,
        f"to {body.status}",
        account_id=user_id,
        status=body.status,
        reason=body.reason,
        expected_versions=expected,
    )
    return answered(sender, outcome)
