"""Tokens of the links that unsubscribe from mails without sign-in (RFC 8058).

A token contains tenant, user and kinds of notices, with an HMAC. It does not expire, because a mail may be read years
later, and it can do nothing but turn off mails of these kinds.
"""

import base64
import hmac
from dataclasses import dataclass
from uuid import UUID

from adapters.sealing import Keyring
from domain.preferences import OPTIONAL_KINDS, NoticeKind

_TAG_BYTES = 16


class NotUnsubscribing(ValueError):
    """The text is no token of a link to unsubscribe."""


@dataclass(frozen=True)
class Unsubscribing:
    """What a link turns off: the mails of these kinds to a user."""

    tenant_id: str
    user_id: UUID
    kinds: tuple[NoticeKind, ...]


def unsubscribe_token(keyring: Keyring, tenant_id: str, user_id: UUID, *kinds: NoticeKind) -> str:
    """The token of the link in a mail of `kinds`; a digest may have several. base64url."""
    content = f"{user_id.hex}|{','.join(sorted(kinds))}|{tenant_id}".encode()
    return base64.urlsafe_b64encode(keyring.unsubscribe_tag(content) + content).decode().rstrip("=")


def read_unsubscribe_token(keyring: Keyring, token: str) -> Unsubscribing:
    """What a token turns off. Raises NotUnsubscribing."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        tag, content = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(keyring.unsubscribe_tag(content), tag):
            raise NotUnsubscribing("the signature is not valid")
        user, kinds, tenant_id = content.decode().split("|", 2)
        found = Unsubscribing(tenant_id, UUID(user), tuple(NoticeKind(kind) for kind in kinds.split(",")))
    except ValueError as error:
        raise NotUnsubscribing("not a token of a link to unsubscribe") from error
    if not set(found.kinds) <= set(OPTIONAL_KINDS):
        raise NotUnsubscribing("mails about the account cannot be turned off")
    return found
