"""Passkeys (WebAuthn): those of the caller, /api/users/passkeys, and sign-in without a password, /api/auth/passkeys."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from sqlalchemy import Row, select, update
from webauthn import generate_authentication_options, generate_registration_options
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json_dict
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from adapters.tables import passkeys
from api.answers import LimitedSenderDep, Sender, SenderDep, accepted, answered, command_headers
from api.auth import SignedIn, note_login, signed_in
from api.bodies import BodyOf
from api.ceremonies import (
    ALGORITHMS,
    CHALLENGE_SECONDS,
    NotVerified,
    challenge_in,
    relying_party,
    verified_authentication,
    verified_registration,
)
from api.commands import Accepted, Done
from api.credentials import CreatedCredential, CreationOptions, RequestOptions, UsedCredential
from api.deps import LimitedCallerDep, Parts, PartsDep, TenantDep, address_of, device_of
from api.errors import ApiError, FieldError, responses
from api.openapi import LIMITED, command, query
from api.second_factor import ISSUER, Proof, own_account, proven, proving, refuse_unproven, verify_code
from api.sessions import Session, note_sign_in
from domain import fields as f
from domain.model import Model
from domain.user import User
from domain.user_commands import AddPasskey, RemovePasskey

router = APIRouter(tags=["passkeys"])

_REGISTER, _SIGN_IN = "register", "sign-in"
"""The purposes of challenges."""
_ANYONE = "anyone"
"""The holder of the challenge of a sign-in: its user is not known yet."""
_MAX_PASSKEYS = 20
"""Of one account: more than somebody's devices."""
_TRANSPORTS = {transport.value for transport in AuthenticatorTransport}


class PasskeyProof(Proof):
    """The password of the account, and a code if it has a second factor."""


class NewPasskey(Model):
    """A passkey that a browser has made with the options, and a name to tell it from others."""

    credential: CreatedCredential
    name: f.Label


class PasskeySignIn(Model):
    """A sign-in by passkey."""

    credential: UsedCredential


class Passkey(Model):
    """A passkey of the caller."""

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None = None


class Passkeys(Model):
    """The passkeys of the caller, the oldest first."""

    items: tuple[Passkey, ...]


@router.post(
    "/api/users/passkeys/options",
    response_model=CreationOptions,
    responses=responses(
        *LIMITED,
        "second-factor-needed",
        "account-closed",
        "wrong-password",
        "wrong-code",
        "too-many-passkeys",
        "invalid-request",
        "too-many-requests",
        "unavailable",
    ),
)
async def passkey_options(
    body: BodyOf[PasskeyProof], request: Request, caller: LimitedCallerDep, parts: PartsDep, response: Response
) -> CreationOptions:
    """Begin to add a passkey: the options with which a browser makes it, within five minutes."""
    sender = Sender(parts, caller, None, "")
    async with proving(sender, request, body.password.get_secret_value()):
        user = await own_account(sender)
        await refuse_unproven(sender, user)
        # Otherwise who has the password, and an open session, would add a passkey and sign in without a code.
        await verify_code(sender, user, body.code)
    known = await _of_user(parts, caller.tenant_id, caller.user_id)
    if len(known) >= _MAX_PASSKEYS:
        raise ApiError("too-many-passkeys")
    options = generate_registration_options(
        rp_id=relying_party(parts.settings, _host(request)).id,
        rp_name=ISSUER,
        user_id=user.id.bytes,
        user_name=user.email,
        user_display_name=f"{user.first_name} {user.last_name}",
        challenge=await parts.challenges.create(caller.tenant_id, _REGISTER, _holder(sender, user)),
        timeout=CHALLENGE_SECONDS * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
        exclude_credentials=[_descriptor(row) for row in known],
        supported_pub_key_algs=ALGORITHMS,
    )
    response.headers["Cache-Control"] = "no-store"
    return CreationOptions.model_validate(options_to_json_dict(options))


@router.post(
    "/api/users/passkeys",
    **command(
        201,
        Passkey,
        "account-closed",
        "second-factor-needed",
        "invalid-challenge",
        "passkey-taken",
        signed_in="limited",
    ),
)
async def add_passkey(body: BodyOf[NewPasskey], request: Request, sender: LimitedSenderDep) -> Response:
    """Add a passkey that a browser has made with the options: it signs in without a password."""
    metadata = sender.metadata(body)
    outcome: Done | Accepted | None = await sender.repeated(metadata)
    if outcome is None:
        parts, caller = sender.parts, sender.caller
        who, limit = str(caller.user_id), parts.settings.login_attempts_per_minute
        await parts.limits.count(caller.tenant_id, "passkey", who, limit, fail_closed=True)
        challenge = challenge_in(body.credential.response.client_data_json)
        user = await own_account(sender)
        await parts.challenges.use(caller.tenant_id, _REGISTER, _holder(sender, user), challenge)
        await refuse_unproven(sender, user)
        try:
            made = verified_registration(
                _as_sent(body.credential), challenge, relying_party(parts.settings, _host(request))
            )
        except NotVerified as error:
            fault = FieldError(field="credential", reason="It does not verify. Make a passkey with the options.")
            raise ApiError("invalid-request", errors=[fault]) from error
        outcome = await sender.send(
            AddPasskey,
            body,
            "Add a passkey",
            metadata,
            passkey_id=metadata.command_id,
            credential_id=bytes_to_base64url(made.credential_id),
            public_key=bytes_to_base64url(made.credential_public_key),
            sign_count=made.sign_count,
            transports=tuple(
                dict.fromkeys(kind for kind in body.credential.response.transports if kind in _TRANSPORTS)
            ),
            name=body.name,
            session_id=caller.session_id,
        )
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    passkey = Passkey(id=metadata.command_id, name=body.name, created_at=outcome.saved.events[0].timestamp)
    headers = command_headers(sender.parts, sender.caller.user_id, outcome)
    headers |= {"ETag": f'"{outcome.saved.version}"', "Location": "/api/users/passkeys"}
    return Response(passkey.model_dump_json(by_alias=True), 201, headers, "application/json")


@router.get("/api/users/passkeys", **query(Passkeys, signed_in="limited"))
async def list_passkeys(caller: LimitedCallerDep, parts: PartsDep, response: Response) -> Passkeys:
    """The passkeys of the caller."""
    response.headers["Cache-Control"] = "private, no-store"
    return Passkeys(
        items=tuple(
            Passkey(id=row.passkey_id, name=row.name, created_at=row.created_at, last_used_at=row.last_used_at)
            for row in await _of_user(parts, caller.tenant_id, caller.user_id)
        )
    )


@router.delete(
    "/api/users/passkeys/{passkey_id}",
    **command(204, None, "account-closed", "not-found", "wrong-password", "wrong-code"),
)
async def remove_passkey(passkey_id: UUID, body: BodyOf[PasskeyProof], request: Request, sender: SenderDep) -> Response:
    """Remove a passkey of the caller: it no longer signs in."""
    metadata = sender.metadata(body)
    outcome: Done | Accepted | None = await proven(sender, request, body, metadata)
    if outcome is None:
        outcome = await sender.send(RemovePasskey, body, "Remove a passkey", metadata, passkey_id=passkey_id)
    return answered(sender, outcome, 204)


@router.post(
    "/api/auth/passkeys/options",
    response_model=RequestOptions,
    responses=responses("invalid-request", "too-many-requests", "unavailable"),
)
async def passkey_sign_in_options(
    request: Request, parts: PartsDep, tenant_id: TenantDep, response: Response
) -> RequestOptions:
    """Begin to sign in by passkey: the options for the browser, whose user chooses the account, within five minutes."""
    await _count_sign_in(parts, tenant_id, request)
    options = generate_authentication_options(
        rp_id=relying_party(parts.settings, _host(request)).id,
        challenge=await parts.challenges.create(tenant_id, _SIGN_IN, _ANYONE),
        timeout=CHALLENGE_SECONDS * 1000,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    response.headers["Cache-Control"] = "no-store"
    return RequestOptions.model_validate(options_to_json_dict(options))


@router.post(
    "/api/auth/passkeys",
    response_model=SignedIn,
    responses=responses(
        "invalid-request", "invalid-challenge", "invalid-passkey", "account-closed", "too-many-requests", "unavailable"
    ),
)
async def sign_in_by_passkey(
    body: BodyOf[PasskeySignIn], request: Request, parts: PartsDep, tenant_id: TenantDep
) -> Response:
    """Sign in by passkey. The authenticator has verified its user, so no code is needed."""
    await _count_sign_in(parts, tenant_id, request)
    challenge = challenge_in(body.credential.response.client_data_json)
    await parts.challenges.use(tenant_id, _SIGN_IN, _ANYONE, challenge)
    session = await _opened(body.credential, challenge, request, parts, tenant_id)
    await note_login(parts, tenant_id, session, device_of(request))
    return signed_in(parts, tenant_id, session, 200, {})


async def _opened(
    credential: UsedCredential, challenge: bytes, request: Request, parts: Parts, tenant_id: str
) -> Session:
    """The session of a passkey's account. Raises ApiError invalid-passkey or account-closed."""
    query = select(passkeys).where(passkeys.c.credential_id == base64url_to_bytes(credential.raw_id))
    async with parts.database.statements(tenant_id) as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise ApiError("invalid-passkey")
    try:
        verified = verified_authentication(
            _as_sent(credential),
            challenge,
            relying_party(parts.settings, _host(request)),
            user_id=row.user_id,
            public_key=row.public_key,
            sign_count=row.sign_count,
        )
    except NotVerified as error:
        parts.observations.login_failed(tenant_id, row.user_id, device_of(request))
        raise ApiError("invalid-passkey") from error
    count = verified.new_sign_count
    # Authenticators that do not count send 0 always.
    is_newer = passkeys.c.sign_count < count if count else passkeys.c.sign_count == 0
    used = (
        update(passkeys)
        .where(passkeys.c.passkey_id == row.passkey_id, is_newer)
        .values(sign_count=count, last_used_at=datetime.now(UTC))
    )
    async with parts.database.transaction(tenant_id) as tx:
        await note_sign_in(tx, row.user_id)
        # Not if the passkey was removed since it was read, or has signed in with this count or a higher one.
        if (await tx.execute(used)).rowcount != 1:
            raise ApiError("invalid-passkey")
        address, device = address_of(request), device_of(request)
        return await parts.sessions.open(tx, tenant_id, row.user_id, address, device, second_factor=True)


async def _count_sign_in(parts: Parts, tenant_id: str, request: Request) -> None:
    limit = parts.settings.login_attempts_per_minute_per_address
    await parts.limits.count(tenant_id, "passkey-address", address_of(request), limit, fail_closed=True)


async def _of_user(parts: Parts, tenant_id: str, user_id: UUID) -> Sequence[Row[Any]]:
    query = select(passkeys).where(passkeys.c.user_id == user_id).order_by(passkeys.c.created_at)
    async with parts.database.statements(tenant_id) as connection:
        return (await connection.execute(query)).all()


def _descriptor(row: Row[Any]) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(
        id=row.credential_id, transports=[AuthenticatorTransport(kind) for kind in row.transports]
    )


def _as_sent(credential: CreatedCredential | UsedCredential) -> dict[str, Any]:
    return credential.model_dump(mode="json", by_alias=True)


def _holder(sender: Sender, user: User) -> str:
    """Who may answer a challenge: the session in which the password was given, and a code if the account needs one.

    A challenge that was made before a second factor was enabled was made without its code.
    """
    return f"{sender.caller.user_id}:{sender.caller.session_id}:{user.second_factor}"


def _host(request: Request) -> str:
    return (request.url.hostname or "").rstrip(".")
