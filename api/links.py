"""Links that mails contain: ask for one, and use it: /api/auth."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from adapters.sealing import token_hash
from adapters.tables import account_tokens, users
from api.answers import Sender, answered
from api.bodies import BodyOf
from api.commands import Done, new_id
from api.deps import KeyDep, Parts, PartsDep, TenantDep, address_of
from api.errors import ApiError, responses
from api.openapi import command
from api.tokens import Caller
from domain import fields as f
from domain.model import Model
from domain.roles import UserRole
from domain.user_commands import (
    RequestPasswordReset,
    RequestVerification,
    ResetPassword,
    VerifyEmail,
)

router = APIRouter(prefix="/api/auth", tags=["auth"])

_NO_SESSION = UUID(int=0)
_LINKS_PER_HOUR = 5
"""Mails with a link to one address: enough for someone who looks in the wrong folder, too few to fill a mailbox."""
_HOUR = 3600


class EmailAddress(Model):
    email: f.Email


class NewPasswordByLink(Model):
    """The token of the link in the mail, and the password to set."""

    token: f.Token
    new_password: f.NewPassword


class LinkToken(Model):
    """The token of the link in the mail."""

    token: f.Token


class LinkRequested(Model):
    """The same answer whether the address has an account or not."""

    status: Literal["ACCEPTED"] = "ACCEPTED"


_LINK_REQUEST: dict[str, Any] = {
    "status_code": 202,
    "response_model": LinkRequested,
    "responses": responses("invalid-request", "too-many-requests", "unavailable"),
}


@router.post("/forgot-password", **_LINK_REQUEST)
async def forgot_password(
    body: BodyOf[EmailAddress], request: Request, parts: PartsDep, tenant_id: TenantDep
) -> LinkRequested:
    """Ask for a mail with a link that sets a new password. The answer does not say whether the address has an account.

    The link works once, for an hour.
    """
    return await _request_link(RequestPasswordReset, body, request, parts, tenant_id)


@router.post("/resend-verification", **_LINK_REQUEST)
async def resend_verification(
    body: BodyOf[EmailAddress], request: Request, parts: PartsDep, tenant_id: TenantDep
) -> LinkRequested:
    """Ask for another mail with a link that verifies the address. The answer does not say whether it has an account."""
    return await _request_link(RequestVerification, body, request, parts, tenant_id)


async def _request_link(
    kind: type[RequestPasswordReset | RequestVerification],
    body: EmailAddress,
    request: Request,
    parts: Parts,
    tenant_id: str,
) -> LinkRequested:
    """Start the command without waiting for it, also for an unknown address: it is refused when it is saved.

    So the same work is done before the answer, whether the address has an account or not.
    """
    # Not by name: a digest says nothing about the address to somebody who reads Redis.
    target = parts.keyring.name_digest(body.email)
    await parts.limits.count(
        tenant_id, "link-address", address_of(request), parts.settings.links_per_minute, fail_closed=True
    )
    await parts.limits.count(tenant_id, "link", target, _LINKS_PER_HOUR, seconds=_HOUR, fail_closed=True)
    query = select(users.c.user_id).where(users.c.email_key == body.email)
    async with parts.database.statements(tenant_id) as connection:
        user_id = (await connection.execute(query)).scalar_one_or_none()
    metadata = parts.commands.metadata(tenant_id, "", "", None, body)
    wanted = kind(
        command_id=metadata.command_id,
        tenant_id=tenant_id,
        user_id=user_id or new_id(),
        issued_at=metadata.issued_at,
    )
    await parts.commands.start(wanted, "Send a link")
    return LinkRequested()


@router.post("/reset-password", **command(204, None, "invalid-link", "weak-password", signed_in="no"))
async def reset_password(
    body: BodyOf[NewPasswordByLink], request: Request, parts: PartsDep, tenant_id: TenantDep, key: KeyDep
) -> Response:
    """Set a new password by the link of a mail. Every session of the account is closed."""
    sender = await _owner_of(body.token.get_secret_value(), request, parts, tenant_id, key)
    user_id, address = sender.caller.user_id, address_of(request)
    hashed = await parts.sessions.hash_of_new(tenant_id, user_id, body.new_password.get_secret_value(), address)
    used = token_hash(body.token.get_secret_value()).hex()
    outcome = await sender.send(
        ResetPassword, body, "Set a new password by a link", password_hash=hashed, token_hash=used
    )
    if isinstance(outcome, Done):
        if outcome.repeated and not await parts.sessions.password_matches(
            tenant_id, user_id, body.new_password.get_secret_value(), address
        ):
            # Passwords are not part of what is stored with the key.
            raise ApiError("idempotency-key-reused")
        await parts.sign_ins.trust(tenant_id, user_id, address)
    return answered(sender, outcome, 204)


@router.post("/verify-email", **command(204, None, "invalid-link", signed_in="no"))
async def verify_email(
    body: BodyOf[LinkToken], request: Request, parts: PartsDep, tenant_id: TenantDep, key: KeyDep
) -> Response:
    """Verify the e-mail address of an account by the link of a mail."""
    sender = await _owner_of(body.token.get_secret_value(), request, parts, tenant_id, key)
    used = token_hash(body.token.get_secret_value()).hex()
    outcome = await sender.send(VerifyEmail, body, "Verify the e-mail address", token_hash=used)
    return answered(sender, outcome, 204)


async def _owner_of(token: str, request: Request, parts: Parts, tenant_id: str, key: str | None) -> Sender:
    """Sends commands for the account of a link. Raises ApiError invalid-link for an unknown token.

    Whether the token was used or has expired is decided when the command is saved.
    """
    await parts.limits.count(
        tenant_id, "link-token", address_of(request), parts.settings.links_per_minute, fail_closed=True
    )
    query = select(account_tokens.c.user_id).where(account_tokens.c.token_hash == token_hash(token))
    async with parts.database.statements(tenant_id) as connection:
        user_id = (await connection.execute(query)).scalar_one_or_none()
    if user_id is None:
        raise ApiError("invalid-link")
    owner = Caller(user_id=user_id, tenant_id=tenant_id, role=UserRole.USER, session_id=_NO_SESSION)
    return Sender(parts, owner, key, f"{request.method} {request.url.path}")
