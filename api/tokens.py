"""Access tokens: short-lived JWTs signed with EdDSA, the only accepted algorithm (RFC 8725)."""

import base64
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from api.errors import ApiError
from domain.roles import UserRole
from domain.user import User

LIFETIME_SECONDS = 900
"""The longest time for which a stolen token, or that of a suspended account, is valid."""
_ALGORITHM = "EdDSA"
_ISSUER = "hyderabad-infra"
_AUDIENCE = "hyderabad-infra-api"
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Caller:
    """The claims of a verified access token."""

    user_id: UUID
    tenant_id: str
    role: UserRole
    session_id: UUID
    limited: bool = False
    """Whether the token is good only for setting up a second factor."""
    expires: int = 0
    """When the token expires, in seconds since 1970."""

    @property
    def is_admin(self) -> bool:
        return self.role is UserRole.ADMIN


class Tokens:
    """Issues and verifies access tokens with one Ed25519 key."""

    def __init__(self, private_pem: bytes) -> None:
        key = load_pem_private_key(private_pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("JWT_PRIVATE_KEY is not an Ed25519 key. Create one: openssl genpkey -algorithm ed25519")
        self._private = key
        self._public = key.public_key()
        self._raw_public = self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = hashlib.sha256(self._raw_public).hexdigest()[:16]
        # A cache: verifying a signature takes longer than the rest of a history page. Expiry is checked each time.
        self._verified: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def issue(self, tenant_id: str, user: User, session_id: UUID, *, limited: bool = False) -> str:
        """An access token of a session; `limited` for an administrator who has yet to set up a second factor."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(user.id),
            "tenant": tenant_id,
            "role": user.role.value,
            "sid": str(session_id),
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": uuid4().hex,
            **({"limited": True} if limited else {}),
        }
        return jwt.encode(claims, self._private, algorithm=_ALGORITHM, headers={"kid": self.key_id})

    def verify(self, token: str) -> Caller:
        """The caller that a token identifies. Raises ApiError invalid-token or expired-token."""
        known = self._verified.get(token)
        if known:
            expires, caller = known
            if time.time() >= expires:
                del self._verified[token]
                raise ApiError("expired-token")
            return caller
        try:
            if jwt.get_unverified_header(token).get("kid") != self.key_id:
                raise ApiError("invalid-token")
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
            caller = Caller(
                user_id=UUID(claims["sub"]),
                tenant_id=str(claims["tenant"]),
                role=UserRole(claims["role"]),
                session_id=UUID(claims["sid"]),
                limited=bool(claims.get("limited", False)),
                expires=int(claims["exp"]),
            )
        except jwt.ExpiredSignatureError as error:
            raise ApiError("expired-token") from error
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise ApiError("invalid-token") from error
        self._verified[token] = (float(claims["exp"]), caller)
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return caller

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public key as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        x = base64.urlsafe_b64encode(self._raw_public).decode().rstrip("=")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.key_id, "use": "sig", "alg": _ALGORITHM}]}
