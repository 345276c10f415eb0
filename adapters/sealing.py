"""Field-level encryption ("sealing") of personal data: an AES-256-GCM key per person, wrapped by a key from SECRET_KEY.

Erasing a person deletes their wrapped key (crypto-shredding): sealed values stay in the log and cannot be decrypted.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from domain.fields import Personal
from domain.model import Model

_NONCE_BYTES = 12
_RECOVERY_CODES = 10
"""Enough for years of lost telephones, and few enough to keep on a sheet of paper."""


def derived_key(secret: bytes, purpose: str) -> bytes:
    """A 32-byte key derived from `secret` for one purpose (HKDF, RFC 5869)."""
    return HKDF(SHA256(), 32, None, purpose.encode()).derive(secret)


def token_hash(token: str) -> bytes:
    """The hash under which a token is stored. A token has 256 random bits, so a fast hash is safe."""
    return hashlib.sha256(token.encode()).digest()


class Keyring:
    """Creates, wraps and uses the persons' keys, and the server's own key for values in transit."""

    def __init__(self, secret: bytes) -> None:
        wrapping_key = derived_key(secret, "person-keys")
        self._wrapping_key = wrapping_key
        self._transit_key = AESGCM(derived_key(secret, "transit"))
        self._link_key = derived_key(secret, "links")
        self._address_key = derived_key(secret, "addresses")
        self._unsubscribe_key = derived_key(secret, "unsubscribe")
        self._recovery_key = derived_key(secret, "recovery-codes")
        self._token_key = AESGCM(derived_key(secret, "sealed-tokens"))
        # Wrapping is deterministic (RFC 3394), so a wrapped key identifies its cached plain key.
        self._opened = lru_cache(maxsize=4096)(lambda wrapped: AESGCM(aes_key_unwrap(wrapping_key, wrapped)))
        self._search_key = lru_cache(maxsize=4096)(
            lambda wrapped: derived_key(aes_key_unwrap(wrapping_key, wrapped), "searches")
        )

    def new_wrapped_key(self) -> bytes:
        return aes_key_wrap(self._wrapping_key, secrets.token_bytes(32))

    def link_token(self, event_id: UUID) -> str:
        """The secret token of the link in the mail of an event; a repeated mail has the same. 256 bits, base64url."""
        return base64.urlsafe_b64encode(hmac.digest(self._link_key, event_id.bytes, "sha256")).decode().rstrip("=")

    def address_digest(self, channel: str, address: str) -> bytes:
        """Identifies an address without storing it; a plain hash of a phone number could be reversed by guessing."""
        return hmac.digest(self._address_key, f"{channel}:{address.strip().lower()}".encode(), "sha256")

    def client_digest(self, address: str) -> bytes:
        """Identifies the address of a client (`address_of`) in sessions and in limits of sign-in."""
        return self.address_digest("client", address)

    def name_digest(self, name: str) -> str:
        """Identifies an e-mail address or username without storing it. 128 bits, in hexadecimal digits.

        Redis keys and workflows that are about a name contain it, so that an erasure finds them.
        """
        return self.address_digest("name", name).hex()[:32]

    def search_id(self, wrapped_key: bytes, search: str) -> UUID:
        """Identifies a search of a person without storing what was asked: a UUIDv8 (RFC 9562, section 5.8).

        It is an HMAC with a key of the person, so that nobody can test guesses once that is destroyed.
        """
        digest = hmac.digest(self._search_key(wrapped_key), search.encode(), "sha256")
        value = int.from_bytes(digest[:16], "big")
        return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)

    def recovery_codes(self, command_id: UUID) -> tuple[str, ...]:
        """The recovery codes that a command sets; a repeated command has the same. 80 bits each, as base32."""
        return tuple(
            base64.b32encode(hmac.digest(self._recovery_key, command_id.bytes + bytes([n]), "sha256")[:10])
            .decode()
            .lower()
            for n in range(_RECOVERY_CODES)
        )

    def seal_token(self, purpose: str, content: bytes) -> str:
        """`content` as an opaque text, which a client cannot read, and cannot use for another purpose."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._token_key.encrypt(nonce, content, purpose.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open_token(self, purpose: str, token: str) -> bytes:
        """Decrypt what `seal_token` sealed. Raises ValueError when it was altered, or sealed for another purpose."""
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        if len(raw) < _NONCE_BYTES:
            raise ValueError("the token is too short")
        try:
            return self._token_key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())
        except InvalidTag as error:
            raise ValueError("the token was altered, or sealed for another purpose") from error

    def unsubscribe_tag(self, content: bytes) -> bytes:
        """The HMAC of what a link to unsubscribe contains. 128 bits."""
        return hmac.digest(self._unsubscribe_key, content, "sha256")[:16]

    def seal_text(self, text: str, wrapped_key: bytes, context: UUID, field: str) -> dict[str, str]:
        """One personal value as it is stored in a column; `unseal` decrypts `{field: value}`."""
        return _seal_one(text, self._opened(wrapped_key), context, field)

    def seal(self, value: Model, wrapped_key: bytes, context: UUID) -> dict[str, Any]:
        """`value` as JSON with each personal field sealed; `context` (event or command id) is authenticated."""
        return self._sealed(value, value.model_dump(mode="json", by_alias=True), self._opened(wrapped_key), context)

    def unseal(self, data: Any, wrapped_key: bytes | None, context: UUID) -> Any:
        """JSON with each sealed field decrypted; None in its place when the person was erased (no key)."""
        key = self._opened(wrapped_key) if wrapped_key else None
        return _map_sealed(data, lambda sealed, field: _open_one(sealed, key, context, field))

    def seal_in_transit(self, value: Model, context: UUID) -> dict[str, Any]:
        """`value` as JSON for a Temporal payload: each personal field sealed with the server's own key."""
        return self._sealed(value, value.model_dump(mode="json", by_alias=True), self._transit_key, context)

    def unseal_in_transit(self, data: Any, context: UUID) -> Any:
        """Decrypt what `seal_in_transit` sealed. Raises ValueError when it was sealed for another context."""
        return _map_sealed(data, lambda sealed, field: _open_one(sealed, self._transit_key, context, field))

    def for_transit(self, data: Any, wrapped_key: bytes | None, context: UUID) -> Any:
        """Re-encrypt: JSON whose fields are sealed with a person's key, sealed with the server's key instead."""
        key = self._opened(wrapped_key) if wrapped_key else None

        def replace(sealed: str, field: str) -> Any:
            value = _open_one(sealed, key, context, field)
            return None if value is None else _seal_one(value, self._transit_key, context, field)

        return _map_sealed(data, replace)

    def _sealed(self, value: Model, data: dict[str, Any], key: AESGCM, context: UUID) -> dict[str, Any]:
        for name, field in type(value).model_fields.items():
            wire = field.alias or name
            if any(isinstance(marker, Personal) for marker in field.metadata):
                if data.get(wire) is not None:
                    data[wire] = _seal_one(data[wire], key, context, wire)
            elif wire in data and isinstance(inner := getattr(value, name), Model):
                self._sealed(inner, data[wire], key, context)
        return data


def _seal_one(value: Any, key: AESGCM, context: UUID, field: str) -> dict[str, str]:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = nonce + key.encrypt(nonce, str(value).encode(), _associated_data(context, field))
    return {"sealed": base64.urlsafe_b64encode(sealed).decode()}


def _associated_data(context: UUID, field: str) -> bytes:
    return context.bytes + field.encode()


def _map_sealed(data: Any, replace: Callable[[str, str], Any], field: str = "") -> Any:
    """`data` with each sealed value replaced by `replace(ciphertext, field name)`."""
    if isinstance(data, dict):
        if data.keys() == {"sealed"}:
            return replace(data["sealed"], field)
        return {name: _map_sealed(value, replace, name) for name, value in data.items()}
    return data


def _open_one(sealed: str, key: AESGCM | None, context: UUID, field: str) -> str | None:
    if key is None:
        return None
    raw = base64.urlsafe_b64decode(sealed)
    try:
        return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _associated_data(context, field)).decode()
    except InvalidTag as error:
        raise ValueError(f"{field} of {context} was sealed with another key, or altered") from error
