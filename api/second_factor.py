"""The second factor of the caller: codes of an authenticator app, and recovery codes. /api/users/second-factor"""

import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyotp
import segno
from fastapi import APIRouter, Request, Response

from adapters.current_state import find_user
from api.answers import LimitedSenderDep, Sender, SenderDep, accepted, answered, command_headers
from api.bodies import BodyOf
from api.codes import accept_code, has_passkey, matching_step, recovery_hash
from api.commands import Accepted, CommandMetadata, Done
from api.deps import LimitedCallerDep, PartsDep, address_of, device_of
from api.errors import ApiError, FieldError, responses
from api.openapi import LIMITED, command
from api.tokens import Caller
from domain import fields as f
from domain.model import Model
from domain.user import MAY_SIGN_IN, User
from domain.user_commands import DisableSecondFactor, EnableSecondFactor

router = APIRouter(prefix="/api/users/second-factor", tags=["second-factor"])

ISSUER = "Hyderabad Infra"
_SETUP_SECONDS = 600
"""Enough to install an authenticator app."""
_EXPIRY = struct.Struct(">q")
_SENT = ("account-closed", "wrong-password")


class PasswordProof(Model):
    """The password of the account."""

    password: f.Password


class Proof(PasswordProof):
    """The password of the account, and a code if it has a second factor."""

    code: f.Code | None = None


class CodeProof(Model):
    """The password of the account, and a code of its second factor."""

    password: f.Password
    code: f.Code


class SecondFactorSetup(Model):
    """What an authenticator app needs. Nothing is stored until a code is confirmed."""

    setup_token: str
    """Send it with a code to confirm. Contains the secret, encrypted."""
    secret: str
    """base32, to type into the app."""
    uri: str
    """The `otpauth:` URI, to open the app with."""
    qr_code: str
    """The URI as a QR code: a `data:` URL of an SVG image."""
    expires_in: int
    """Seconds in which the setup can be confirmed."""


class SecondFactorConfirmation(Model):
    """The token of the setup, and the six digits that the app shows."""

    setup_token: f.SetupToken
    code: f.Code


class RecoveryCodes(Model):
    """Codes that sign in when the authenticator app is lost, each once. They are shown in this answer alone."""

    recovery_codes: tuple[str, ...]


@router.post(
    "",
    response_model=SecondFactorSetup,
    responses=responses(
        *LIMITED,
        "second-factor-needed",
        *_SENT,
        "second-factor-on",
        "invalid-request",
        "too-many-requests",
        "unavailable",
    ),
)
async def begin_second_factor(
    body: BodyOf[PasswordProof], request: Request, caller: LimitedCallerDep, parts: PartsDep, response: Response
) -> SecondFactorSetup:
    """Begin to set up an authenticator app. The second factor is required once a first code is confirmed."""
    sender = Sender(parts, caller, None, "")
    async with proving(sender, request, body.password.get_secret_value()):
        pass
    user = await _without_second_factor(sender)
    secret = pyotp.random_base32(32)
    expiry = _EXPIRY.pack(int(time.time()) + _SETUP_SECONDS)
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER)
    response.headers["Cache-Control"] = "no-store"
    return SecondFactorSetup(
        setup_token=parts.keyring.seal_token(_purpose(caller), expiry + secret.encode()),
        secret=secret,
        uri=uri,
        qr_code=segno.make_qr(uri).svg_data_uri(scale=4),
        expires_in=_SETUP_SECONDS,
    )


@router.post(
    "/confirm",
    **command(
        200,
        RecoveryCodes,
        "account-closed",
        "second-factor-needed",
        "invalid-setup-token",
        "wrong-code",
        "second-factor-on",
        signed_in="limited",
    ),
)
async def confirm_second_factor(body: BodyOf[SecondFactorConfirmation], sender: LimitedSenderDep) -> Response:
    """Enable the second factor with a first code. Every other session of the account is closed.

    The same Idempotency-Key and body get the same recovery codes.
    """
    metadata = sender.metadata(body)
    outcome: Done | Accepted | None = await sender.repeated(metadata)
    if outcome is None:
        parts, caller = sender.parts, sender.caller
        who, limit = str(caller.user_id), parts.settings.login_attempts_per_minute
        await parts.limits.count(caller.tenant_id, "second-factor", who, limit, fail_closed=True)
        secret = _secret_of(sender, body.setup_token)
        await _without_second_factor(sender)
        step = matching_step(secret, body.code)
        if step is None:
            raise wrong_code()
        outcome = await _enable(sender, body, metadata, "Enable the second factor", secret=secret, step=step)
    return _recovery_codes(sender, outcome, metadata)


@router.post("/recovery-codes", **command(200, RecoveryCodes, *_SENT, "wrong-code", "second-factor-off"))
async def replace_recovery_codes(body: BodyOf[CodeProof], request: Request, sender: SenderDep) -> Response:
    """Replace the recovery codes. The same Idempotency-Key and body get the same codes."""
    metadata = sender.metadata(body)
    outcome = await _with_code(sender, request, body, metadata)
    if outcome is None:
        outcome = await _enable(sender, body, metadata, "Replace the recovery codes")
    return _recovery_codes(sender, outcome, metadata)


@router.delete("", **command(204, None, *_SENT, "wrong-code", "second-factor-off"))
async def disable_second_factor(body: BodyOf[CodeProof], request: Request, sender: SenderDep) -> Response:
    """Sign in by password alone again. The authenticator app and the recovery codes are forgotten."""
    metadata = sender.metadata(body)
    outcome = await _with_code(sender, request, body, metadata)
    if outcome is None:
        outcome = await sender.send(DisableSecondFactor, body, "Disable the second factor", metadata)
    return answered(sender, outcome, 204)


@asynccontextmanager
async def proving(sender: Sender, request: Request, *passwords: str, field: str = "password") -> AsyncIterator[None]:
    """Verifies that the caller's password is one of `passwords`; the body may verify a code.

    Failures of both are limited like those of sign-in, and recorded like them. `field` is that of the password in the
    request. Raises ApiError wrong-password, too-many-requests or unavailable.
    """
    parts, caller, address = sender.parts, sender.caller, address_of(request)
    limit = parts.settings.login_attempts_per_minute
    with parts.passwords.attempt(address):
        await parts.limits.count(caller.tenant_id, "password", str(caller.user_id), limit, fail_closed=True)
        try:
            # No name of an account has a capital letter here: a stranger who fails to sign in pauses no owner.
            async with parts.sign_ins.attempt(caller.tenant_id, f"Account {caller.user_id}", address):
                for password in passwords:
                    if await parts.sessions.password_matches(caller.tenant_id, caller.user_id, password, address):
                        break
                else:
                    fault = FieldError(field=field, reason="This is not the password of your account.")
                    raise ApiError("wrong-password", errors=[fault])
                yield
        except ApiError as error:
            if error.kind in {"wrong-password", "wrong-code"}:
                parts.observations.login_failed(caller.tenant_id, caller.user_id, device_of(request))
            raise


async def proven(sender: Sender, request: Request, body: Proof, metadata: CommandMetadata) -> Done | None:
    """Verify the password, and the code of an account with a second factor.

    Returns the answer of an earlier request with the same key, which has used up the code. Raises ApiError
    wrong-password, wrong-code or account-closed.
    """
    async with proving(sender, request, body.password.get_secret_value()):
        if repeated := await sender.repeated(metadata):
            return repeated
        await verify_code(sender, await own_account(sender), body.code)
    return None


async def verify_code(sender: Sender, user: User, code: str | None) -> None:
    """Use up a code of the account if it has a second factor. Raises ApiError wrong-code or too-many-requests."""
    if not user.second_factor:
        return
    if code is None:
        raise wrong_code()
    parts, tenant_id = sender.parts, sender.caller.tenant_id
    async with parts.sign_ins.code(tenant_id, user.id), parts.database.transaction(tenant_id) as tx:
        if not await accept_code(tx, parts.keyring, user.id, code):
            raise wrong_code()


def wrong_code() -> ApiError:
    fault = FieldError(field="code", reason="Send the code that the authenticator app shows now, or a recovery code.")
    return ApiError("wrong-code", errors=[fault])


async def own_account(sender: Sender) -> User:
    """The account of the caller. Raises ApiError account-closed."""
    async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
        user = await find_user(connection, sender.caller.user_id)
    if user is None or user.status not in MAY_SIGN_IN:
        raise ApiError("account-closed")
    return user


async def refuse_unproven(sender: Sender, user: User) -> None:
    """Raises ApiError second-factor-needed for a limited session of an account that has a second factor.

    Who has the password alone would set up one of their own in it.
    """
    if not sender.caller.limited:
        return
    async with sender.parts.database.statements(sender.caller.tenant_id) as connection:
        has_one = user.second_factor or await has_passkey(connection, user.id)
    if has_one:
        raise ApiError("second-factor-needed", "Your account has a second factor. Sign in again, with it.")


async def _without_second_factor(sender: Sender) -> User:
    """The account of the caller. Raises ApiError second-factor-on, second-factor-needed or account-closed."""
    user = await own_account(sender)
    if user.second_factor:
        raise ApiError("second-factor-on")
    await refuse_unproven(sender, user)
    return user


async def _with_code(
    sender: Sender, request: Request, body: CodeProof, metadata: CommandMetadata
) -> Done | Accepted | None:
    """Verify password and code; the answer of an earlier request with the same key, which has used up the code.

    Raises ApiError wrong-password, wrong-code or second-factor-off.
    """
    async with proving(sender, request, body.password.get_secret_value()):
        if repeated := await sender.repeated(metadata):
            return repeated
        user = await own_account(sender)
        if not user.second_factor:
            raise ApiError("second-factor-off")
        await verify_code(sender, user, body.code)
    return None


async def _enable(
    sender: Sender, body: Model, metadata: CommandMetadata, summary: str, secret: str | None = None, step: int = 0
) -> Done | Accepted:
    codes = sender.parts.keyring.recovery_codes(metadata.command_id)
    return await sender.send(
        EnableSecondFactor,
        body,
        summary,
        metadata,
        secret=secret,
        step=step,
        recovery_code_hashes=tuple(recovery_hash(code).hex() for code in codes),
        session_id=sender.caller.session_id,
    )


def _recovery_codes(sender: Sender, outcome: Done | Accepted, metadata: CommandMetadata) -> Response:
    """The recovery codes that the command has set; they are derived from its id, so that they can be shown again."""
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    codes = RecoveryCodes(recovery_codes=sender.parts.keyring.recovery_codes(metadata.command_id))
    headers = command_headers(sender.parts, sender.caller.user_id, outcome)
    headers |= {"ETag": f'"{outcome.saved.version}"', "Cache-Control": "no-store"}
    return Response(codes.model_dump_json(by_alias=True), 200, headers, "application/json")


def _secret_of(sender: Sender, token: str) -> str:
    """The secret of a setup. Raises ApiError invalid-setup-token."""
    try:
        content = sender.parts.keyring.open_token(_purpose(sender.caller), token)
    except ValueError as error:
        raise ApiError("invalid-setup-token") from error
    (expires,) = _EXPIRY.unpack_from(content)
    if expires < time.time():
        raise ApiError("invalid-setup-token")
    return content[_EXPIRY.size :].decode()


def _purpose(caller: Caller) -> str:
    return f"second-factor:{caller.tenant_id}:{caller.user_id}"
