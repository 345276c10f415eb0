"""Sealing of personal fields: one AES-256-GCM key for each person, itself wrapped by a key from SECRET_KEY.

Erasing a person deletes the wrapped key; what was sealed with it stays in the log and says nothing any more.
"""

import base64
import secrets
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


def derived_key(secret: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose (HKDF, RFC 5869), so that no key serves two."""
    return HKDF(SHA256(), 32, None, purpose.encode()).derive(secret)


class Keyring:
    """Makes, wraps and uses the keys of persons."""

    def __init__(self, secret: bytes) -> None:
        wrapping_key = derived_key(secret, "person-keys")
        self._wrapping_key = wrapping_key
        # Wrapping is deterministic (RFC 3394): the cache holds no plain key for longer than its person is busy.
        self._opened = lru_cache(maxsize=4096)(lambda wrapped: AESGCM(aes_key_unwrap(wrapping_key, wrapped)))

    def new_wrapped_key(self) -> bytes:
        return aes_key_wrap(self._wrapping_key, secrets.token_bytes(32))

    def seal(self, value: Model, wrapped_key: bytes, context: UUID) -> dict[str, Any]:
        """`value` as JSON with each personal field sealed; `context` ties it to one event or command."""
        return self._sealed(value, value.model_dump(mode="json", by_alias=True), self._opened(wrapped_key), context)

    def unseal(self, data: Any, wrapped_key: bytes | None, context: UUID) -> Any:
        """JSON with each sealed field opened, or None in its place where the person was erased."""
        return _opened(data, self._opened(wrapped_key) if wrapped_key else None, context, "")

    def _sealed(self, value: Model, data: dict[str, Any], key: AESGCM, context: UUID) -> dict[str, Any]:
        for name, field in type(value).model_fields.items():
            wire = field.alias or name
            if any(isinstance(mark, Personal) for mark in field.metadata):
                if data[wire] is not None:
                    nonce = secrets.token_bytes(_NONCE_BYTES)
                    sealed = nonce + key.encrypt(nonce, str(data[wire]).encode(), _bound_to(context, wire))
                    data[wire] = {"sealed": base64.urlsafe_b64encode(sealed).decode()}
            elif isinstance(inner := getattr(value, name), Model):
                self._sealed(inner, data[wire], key, context)
        return data


def _bound_to(context: UUID, field: str) -> bytes:
    return context.bytes + field.encode()


def _opened(data: Any, key: AESGCM | None, context: UUID, field: str) -> Any:
    if isinstance(data, dict):
        if data.keys() == {"sealed"}:
            return _open_one(data["sealed"], key, context, field)
        return {name: _opened(value, key, context, name) for name, value in data.items()}
    return data


def _open_one(sealed: str, key: AESGCM | None, context: UUID, field: str) -> str | None:
    if key is None:
        return None
    raw = base64.urlsafe_b64decode(sealed)
    try:
        return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(context, field)).decode()
    except InvalidTag as error:
        raise ValueError(f"{field} of {context} was sealed with another key, or altered") from error
