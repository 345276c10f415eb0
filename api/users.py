"""The account of the caller: /api/users."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.current_state import find_user
from adapters.postgres import DatabaseUnavailable
from api import exports, security_events
from api.answers import IfMatchDep, SenderDep, accepted, answered
from api.bodies import BodyOf
from api.command_states import progress_token
from api.commands import Accepted, Done
from api.conditional import is_not_wanted
from api.deps import LimitedCallerDep, PartsDep, address_of
from api.errors import ApiError
from api.openapi import CHANGE, AcceptedCommand, command, query
from api.second_factor import Proof, proven, proving
from domain import fields as f
from domain.model import Model
from domain.user import MAY_SIGN_IN, ProfilePatch, User
from domain.user_commands import ChangePassword, EraseUser, UpdateProfile
from projections.counts import Kind, counts_of

router = APIRouter(prefix="/api/users", tags=["users"])
router.routes.extend(security_events.router.routes)
router.routes.extend(exports.router.routes)


class Profile(User):
    """The account, with its number of properties, which is updated within about a second."""

    property_count: int
    """Properties that the user has listed and not deleted."""


class PasswordChange(Model):
    current_password: f.Password
    new_password: f.NewPassword


class Erasure(Proof):
    """The password of the account, and a code if it has a second factor, because erasing cannot be undone."""


@router.get("/profile", **query(Profile, "account-closed", signed_in="limited", etag=True))
async def own_profile(
    caller: LimitedCallerDep, parts: PartsDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """The account of the caller."""
    async with parts.database.statements(caller.tenant_id) as connection:
        user = await find_user(connection, caller.user_id)
        owned = await _property_count(connection, caller.user_id)
    if user is None or user.status not in MAY_SIGN_IN:
        raise ApiError("account-closed")
    headers = {"ETag": f'"{user.version}"', "Cache-Control": "private, no-store"}
    if is_not_wanted(if_none_match):
        return Response(status_code=304, headers=headers)
    profile = Profile(**dict(user), property_count=owned)
    return Response(profile.model_dump_json(by_alias=True), 200, headers, "application/json")


@router.patch("/profile", **command(200, Profile, *CHANGE))
async def update_profile(body: BodyOf[ProfilePatch], sender: SenderDep, expected: IfMatchDep) -> Response:
    """Change some fields of the caller's profile (JSON Merge Patch, RFC 7396): absent fields stay, `null` removes."""
    summary = ", ".join(sorted(body.model_fields_set)) or "nothing"
    outcome = await sender.send(UpdateProfile, body, summary, changes=body, expected_versions=expected)
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    try:
        async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
            count = await _property_count(connection, sender.caller.user_id)
    except DatabaseUnavailable:
        # The profile is saved.
        return accepted(Accepted(outcome.saved.command_id))
    return answered(sender, outcome, more={"propertyCount": count})


@router.post("/password", **command(204, None, "account-closed", "wrong-password", "weak-password"))
async def change_password(body: BodyOf[PasswordChange], request: Request, sender: SenderDep) -> Response:
    """Change the password. Every other session of the account is closed."""
    parts, caller, address = sender.parts, sender.caller, address_of(request)
    current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
    # With a key, it may repeat a request that has changed the password, whose recorded answer is sent again.
    async with proving(sender, request, *((current, new) if sender.key else (current,)), field="currentPassword"):
        pass
    hashed = await parts.sessions.hash_of_new(caller.tenant_id, caller.user_id, new, address)
    outcome = await sender.send(
        ChangePassword, body, "Change the password", password_hash=hashed, session_id=caller.session_id
    )
    # Passwords are not part of what is stored with the key.
    is_repeated = isinstance(outcome, Done) and outcome.repeated
    if is_repeated and not await parts.sessions.password_matches(caller.tenant_id, caller.user_id, new, address):
        raise ApiError("idempotency-key-reused")
    return answered(sender, outcome, 204)


@router.delete(
    "/profile",
    **command(
        202,
        AcceptedCommand,
        "not-found",
        "account-closed",
        "wrong-password",
        "second-factor-required",
        "invalid-code",
    ),
)
async def erase_user(body: BodyOf[Erasure], request: Request, sender: SenderDep) -> Response:
    """Erase the account and the person's data. This cannot be undone.

    Sessions are closed at once; listings, personal data and the key that encrypts it follow within minutes. The URL in
    Location shows the progress without signing in.
    """
    parts, caller = sender.parts, sender.caller
    metadata = sender.metadata(body)
    outcome: Done | Accepted | None
    try:
        outcome = await proven(sender, request, body, metadata)
    except ApiError as error:
        if error.kind != "wrong-code":
            raise
        # As at sign-in.
        raise ApiError("invalid-code" if body.code else "second-factor-required") from error
    if outcome is None:
        outcome = await sender.send(EraseUser, body, "Erase the account", metadata)
    command_id = outcome.command_id if isinstance(outcome, Accepted) else outcome.saved.command_id
    token = progress_token(parts, caller.tenant_id, caller.user_id, command_id)
    return accepted(Accepted(command_id), token)


async def _property_count(connection: AsyncConnection, user_id: UUID) -> int:
    """The listings of a user, without deleted ones."""
    [(owned,)] = (await counts_of(connection, [user_id], Kind.PROPERTY)).values()
    return owned
