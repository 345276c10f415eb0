"""The ceremonies of WebAuthn (Level 3): the relying party, challenges, and the verification of what browsers send."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from redis.asyncio import Redis
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import base64url_to_bytes, decode_credential_public_key, parse_client_data_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.decoded_public_key_to_cryptography import decoded_public_key_to_cryptography
from webauthn.registration.verify_registration_response import VerifiedRegistration

from adapters.redis import AutoPipeline, RedisError
from adapters.settings import Settings
from api.errors import ApiError, unavailable

log = logging.getLogger(__name__)

CHALLENGE_SECONDS = 300
"""As long as WebAuthn recommends that a browser waits for its user (section 15.1)."""
ALGORITHMS = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
"""Of telephones and most keys, of some keys, and of Windows Hello."""
_MAX_KEY_BYTES = 1100
"""Twice an RSA key of 4096 bits; the time of a verification grows with the cube of the length."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class RelyingParty:
    """The domain to which passkeys are bound, and the origins of the pages that may use them."""

    id: str
    origins: list[str]


def relying_party(settings: Settings, host: str) -> RelyingParty:
    """The relying party of a portal: the one of TENANT_HOSTS at `host`, otherwise that of PUBLIC_URL.

    A portal has its own, because browsers use a passkey only at its domain and the hosts below it.
    """
    public = urlsplit(settings.public_url)
    name = host if host in settings.tenant_hosts else public.hostname or ""
    port = "" if public.port in {None, _DEFAULT_PORTS[public.scheme]} else f":{public.port}"
    shared = (domain for domain in settings.webauthn_rp_ids if name == domain or name.endswith(f".{domain}"))
    return RelyingParty(next(shared, name), [f"{public.scheme}://{name}{port}", *settings.webauthn_origins])


class Challenges:
    """Challenges in Redis, each for one ceremony of one tenant. Without Redis there are none."""

    def __init__(self, redis: Redis) -> None:
        self._pipeline = AutoPipeline(redis)

    async def create(self, tenant_id: str, purpose: str, holder: str) -> bytes:
        """A challenge that `holder` may answer once, within five minutes. Raises ApiError unavailable."""
        challenge = secrets.token_bytes(32)
        await self._execute("SET", _key(tenant_id, purpose, holder, challenge), 1, "EX", CHALLENGE_SECONDS)
        return challenge

    async def use(self, tenant_id: str, purpose: str, holder: str, challenge: bytes) -> None:
        """Use up a challenge. Raises ApiError invalid-challenge or unavailable."""
        if await self._execute("GETDEL", _key(tenant_id, purpose, holder, challenge)) is None:
            raise ApiError("invalid-challenge")

    async def _execute(self, *command: str | int) -> Any:
        try:
            return await self._pipeline.execute(*command)
        except RedisError as error:
            raise unavailable("The store of challenges") from error


def _key(tenant_id: str, purpose: str, holder: str, challenge: bytes) -> str:
    """It names its holder, so that an erasure finds it."""
    return f"{tenant_id}:passkey-challenge:{purpose}:{holder}:{challenge.hex()}"


def challenge_in(client_data: str) -> bytes:
    """The challenge that a browser has answered. Raises ApiError invalid-challenge."""
    try:
        challenge = parse_client_data_json(base64url_to_bytes(client_data)).challenge
    except Exception as error:
        # The library raises what json, base64 and its own code do; whatever it is, there is no challenge.
        raise ApiError("invalid-challenge") from error
    if len(challenge) != 32:
        raise ApiError("invalid-challenge")
    return challenge


class NotVerified(Exception):
    """What the browser has sent does not verify. The text says why, for the log."""


def verified_registration(credential: Mapping[str, Any], challenge: bytes, party: RelyingParty) -> VerifiedRegistration:
    """Verify a new passkey. Raises NotVerified."""
    try:
        _refuse_frames(credential)
        verified = verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origins,
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        if verified.credential_id != base64url_to_bytes(credential["rawId"]):
            raise NotVerified("the id is not that of the authenticator's data")
        if len(verified.credential_public_key) > _MAX_KEY_BYTES:
            raise NotVerified("the public key is too long")
        # The library verifies no signature with the key here, so it would accept one that is on no curve.
        decoded_public_key_to_cryptography(decode_credential_public_key(verified.credential_public_key))
    except Exception as error:
        # The library raises what the parsers of CBOR, certificates and keys do; whatever it is, nothing is verified.
        raise _not_verified(error) from error
    return verified


def verified_authentication(
    credential: Mapping[str, Any],
    challenge: bytes,
    party: RelyingParty,
    *,
    user_id: UUID,
    public_key: bytes,
    sign_count: int,
) -> VerifiedAuthentication:
    """Verify a sign-in by a passkey of `user_id`. Raises NotVerified."""
    try:
        _refuse_frames(credential)
        if base64url_to_bytes(credential["response"].get("userHandle") or "") != user_id.bytes:
            raise NotVerified("the passkey was made for another account")
        return verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origins,
            credential_public_key=public_key,
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except Exception as error:
        # As above.
        raise _not_verified(error) from error


def _refuse_frames(credential: Mapping[str, Any]) -> None:
    """A page of another origin, in whose frame ours is, could have its user click on what they do not see."""
    if parse_client_data_json(base64url_to_bytes(credential["response"]["clientDataJSON"])).cross_origin:
        raise NotVerified("the page is in a frame of another origin")


def _not_verified(error: Exception) -> NotVerified:
    log.info("a passkey does not verify: %s: %s", type(error).__name__, error)
    return error if isinstance(error, NotVerified) else NotVerified(str(error))
