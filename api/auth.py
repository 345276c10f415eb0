"""Registration and sessions, /api/auth, and the public key of access tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from api import links, session_routes
from api.answers import accepted, command_headers
from api.bodies import BodyOf
from api.commands import Accepted, new_id
from api.deps import KeyDep, Parts, PartsDep, TenantDep, address_of, device_of
from api.errors import ApiError, responses
from api.openapi import command
from api.sessions import Session, SignInRefused, TokenReused
from api.tokens import LIFETIME_SECONDS
from domain import fields as f
from domain.model import Model
from domain.user import Registration, User
from domain.user_commands import Account, RegisterUser

router = APIRouter(tags=["auth"])
router.routes.extend(links.router.routes)
router.routes.extend(session_routes.router.routes)


_BODY = ("invalid-request", "unavailable")


class SignedIn(Model):
    """A session: the access token for requests, and the refresh token that renews it."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int
    """Seconds until the access token expires."""
    user: User


class Credentials(Model):
    email_or_username: f.SignInName
    password: f.Password
    code: f.Code | None = None
    """Of an account with a second factor: the six digits of the authenticator app, or a recovery code."""


class RefreshToken(Model):
    refresh_token: f.Token


@router.post(
    "/api/auth/register",
    **command(
        201, SignedIn, "email-taken", "username-taken", "weak-password", "second-factor-required", signed_in="no"
    ),
)
async def register(
    body: BodyOf[Registration], request: Request, parts: PartsDep, tenant_id: TenantDep, key: KeyDep
) -> Response:
    """Open an account and sign in. The same Idempotency-Key and body open no second account and sign in again.

    No hash of the password is stored with the key: a repetition is checked against the password of the account.
    """
    address, device = address_of(request), device_of(request)
    per_address = parts.settings.registrations_per_minute
    await parts.limits.count(tenant_id, "register", address, per_address, fail_closed=True)
    account = Account(**{name: value for name, value in body if name != "password"})
    password = body.password.get_secret_value()
    # There is no user id yet, so the e-mail address separates the keys of different users.
    metadata = parts.commands.metadata(tenant_id, account.email, "POST /api/auth/register", key, body)
    user_id = new_id()
    register = RegisterUser(
        command_id=metadata.command_id,
        tenant_id=tenant_id,
        user_id=user_id,
        issued_at=metadata.issued_at,
        fingerprint=metadata.fingerprint,
        account=account,
        password_hash=await parts.passwords.hash(
            password,
            address=address,
            personal=[account.username, account.email, account.first_name, account.last_name, account.phone_number],
            field="password",
        ),
    )
    outcome = await parts.commands.run(register, f"Register a {account.role.value}")
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    # Another account id: an earlier request with the same key has opened the account.
    is_again = outcome.repeated or outcome.saved.aggregate_id != user_id
    if is_again:
        user_id = outcome.saved.aggregate_id
        async with attempt(parts, tenant_id, address, account.email):
            if not await parts.sessions.password_matches(tenant_id, user_id, password, address):
                raise ApiError("idempotency-key-reused")
    try:
        session = await parts.sessions.begin(tenant_id, user_id, address, device)
    except SignInRefused as refused:
        parts.observations.login_failed(tenant_id, refused.user_id, device)
        raise
    if is_again:
        await note_login(parts, tenant_id, session, device)
    headers = command_headers(parts, outcome.saved.aggregate_id, outcome)
    headers |= {"Location": "/api/users/profile", "ETag": f'"{outcome.saved.version}"'}
    return signed_in(parts, tenant_id, session, 201, headers)


@router.post(
    "/api/auth/login",
    response_model=SignedIn,
    responses=responses(
        *_BODY, "invalid-credentials", "second-factor-required", "invalid-code", "account-closed", "too-many-requests"
    ),
)
async def login(body: BodyOf[Credentials], request: Request, parts: PartsDep, tenant_id: TenantDep) -> Response:
    """Sign in by e-mail address or username, and with `code` if the account has a second factor."""
    name, address, device = body.email_or_username, address_of(request), device_of(request)
    password = body.password.get_secret_value()
    try:
        async with attempt(parts, tenant_id, address, name):
            session = await parts.sessions.sign_in(tenant_id, name, password, address, device, body.code)
    except SignInRefused as refused:
        parts.observations.login_failed(tenant_id, refused.user_id, device)
        raise
    await note_login(parts, tenant_id, session, device)
    return signed_in(parts, tenant_id, session, 200, {})


@router.post(
    "/api/auth/refresh",
    response_model=SignedIn,
    responses=responses(*_BODY, "invalid-refresh-token", "refresh-token-reused", "account-closed"),
)
async def refresh(body: BodyOf[RefreshToken], parts: PartsDep, tenant_id: TenantDep) -> Response:
    """Renew a session. A refresh token can be used once; using it again closes the session."""
    try:
        session = await parts.sessions.renew(tenant_id, body.refresh_token.get_secret_value())
    except TokenReused as reused:
        if reused.closed:
            parts.observations.token_reused(tenant_id, *reused.closed)
        raise
    return signed_in(parts, tenant_id, session, 200, {})


@router.post("/api/auth/logout", status_code=204, response_class=Response, responses=responses(*_BODY))
async def logout(body: BodyOf[RefreshToken], parts: PartsDep, tenant_id: TenantDep) -> Response:
    """Close the session of a refresh token. Its access tokens are refused within a second."""
    await parts.sessions.end(tenant_id, body.refresh_token.get_secret_value())
    return Response(status_code=204)


@router.get("/.well-known/jwks.json")
async def jwks(parts: PartsDep) -> dict[str, Any]:
    """The public key that verifies access tokens, as a JSON Web Key Set."""
    return parts.tokens.jwks()


@asynccontextmanager
async def attempt(parts: Parts, tenant_id: str, address: str, name: str) -> AsyncIterator[None]:
    """Surrounds the verification of a password, see `SignInLimits.attempt`. Raises ApiError too-many-requests."""
    limit = parts.settings.login_attempts_per_minute_per_address
    with parts.passwords.attempt(address):
        # Successes too: each costs a hash.
        await parts.limits.count(tenant_id, "login-address", address, limit, fail_closed=True)
        async with parts.sign_ins.attempt(tenant_id, name, address):
            yield


async def note_login(parts: Parts, tenant_id: str, session: Session, device: str | None) -> None:
    """Record a login, and cache the user's history for the session. Raises no error, so that the login succeeds."""
    # First, because the entry of the login is added to a set that is there, and has one that is being filled discarded.
    await parts.histories.warm(tenant_id, str(session.user.id))
    await parts.observations.logged_in(tenant_id, session.user.id, device, session.is_new_device, session.id)


def signed_in(parts: Parts, tenant_id: str, session: Session, status: int, headers: dict[str, str]) -> Response:
    body = SignedIn(
        access_token=parts.tokens.issue(tenant_id, session.user, session.id, limited=session.limited),
        refresh_token=session.refresh_token,
        expires_in=LIFETIME_SECONDS,
        user=session.user,
    )
    content = body.model_dump_json(by_alias=True)
    return Response(content, status, {"Cache-Control": "no-store", **headers}, "application/json")
