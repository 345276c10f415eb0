"""The codes of a second factor: of an authenticator app (TOTP, RFC 6238), and recovery codes. Each is accepted once."""

import hmac
import re
import time
from uuid import UUID

import pyotp
from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sealing import Keyring, token_hash
from adapters.tables import passkeys, person_keys, recovery_codes, totp

_STEP_SECONDS = 30
_DRIFT = 1
"""Steps by which the clock of a telephone may be wrong; RFC 6238, section 5.2, recommends at most one."""
_SEPARATORS = re.compile("[ -]")


def matching_step(secret: str, code: str) -> int | None:
    """The time step whose code this is, of the present one and its neighbours; None if it is wrong."""
    typed, present = _SEPARATORS.sub("", code), int(time.time()) // _STEP_SECONDS
    app = pyotp.TOTP(secret, interval=_STEP_SECONDS)
    steps = range(present - _DRIFT, present + _DRIFT + 1)
    return next((step for step in steps if hmac.compare_digest(app.generate_otp(step), typed)), None)


def recovery_hash(code: str) -> bytes:
    """The hash under which a recovery code is stored, whatever separators and case it was typed with."""
    return token_hash(_SEPARATORS.sub("", code).lower())


async def accept_code(tx: AsyncConnection, keyring: Keyring, user_id: UUID, code: str) -> bool:
    """Use up a code of the account; False if it is wrong, was used, or is older than one that was used."""
    typed = _SEPARATORS.sub("", code)
    if not (len(typed) == 6 and typed.isdigit()):
        unused = (
            recovery_codes.c.user_id == user_id,
            recovery_codes.c.code_hash == recovery_hash(code),
            recovery_codes.c.used_at.is_(None),
        )
        used = await tx.execute(update(recovery_codes).where(*unused).values(used_at=func.now()))
        return used.rowcount == 1
    query = (
        select(totp.c.secret, person_keys.c.wrapped_key)
        .join(person_keys, person_keys.c.user_id == totp.c.user_id)
        .where(totp.c.user_id == user_id)
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return False
    secret = keyring.unseal({"secret": row.secret}, row.wrapped_key, user_id)["secret"]
    step = matching_step(secret, typed)
    if step is None:
        return False
    fresh = (totp.c.user_id == user_id, totp.c.last_step < step)
    return (await tx.execute(update(totp).where(*fresh).values(last_step=step))).rowcount == 1


async def has_passkey(connection: AsyncConnection, user_id: UUID) -> bool:
    """Whether the account has a passkey, which is a second factor too: its authenticator verifies the user."""
    return bool((await connection.execute(select(exists().where(passkeys.c.user_id == user_id)))).scalar_one())
