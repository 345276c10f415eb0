"""Tokens of the links that unsubscribe from mails without sign-in (RFC 8058).

A token contains tenant, user, and kinds of notices or one saved search, with an HMAC. It does not expire, because a
mail may be read years later, and it can do nothing but turn off mails of these kinds, or of this saved search.
"""

import base64
import hmac
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from adapters.sealing import Keyring
from domain.preferences import OPTIONAL_KINDS, NoticeKind

UNSUBSCRIBE_PATH = "/api/notifications/unsubscribe"
ONE_CLICK = "List-Unsubscribe=One-Click"
"""The form that a mail program posts to the link (RFC 8058, section 3.2), which is also the value of a header."""
_TAG_BYTES = 16


class NotUnsubscribing(ValueError):
    """The text is no token of a link to unsubscribe."""


@dataclass(frozen=True)
class Unsubscribing:
    """What a link turns off: the mails of these kinds to a user."""

    tenant_id: str
    user_id: UUID
    kinds: tuple[NoticeKind, ...]
    saved_search_id: UUID | None = None
    """The saved search that it pauses; it leaves the kind as it is then."""


def unsubscribe_token(
    keyring: Keyring, tenant_id: str, user_id: UUID, *kinds: NoticeKind, saved_search_id: UUID | None = None
) -> str:
    """The token of the link in a mail of `kinds` (a digest may have several), or of a saved search. base64url."""
    of = f":{saved_search_id.hex}" if saved_search_id else ""
    content = f"{user_id.hex}|{','.join(sorted(kinds))}{of}|{tenant_id}".encode()
    return base64.urlsafe_b64encode(keyring.unsubscribe_tag(content) + content).decode().rstrip("=")


def unsubscribe_url(public_api_url: str, token: str) -> str:
    """The link of a mail: a page with a button for people, and what mail programs post ONE_CLICK to."""
    return f"{public_api_url}{UNSUBSCRIBE_PATH}?{urlencode({'token': token})}"


def unsubscribe_headers(public_api_url: str, token: str) -> dict[str, str]:
    """The headers of a mail that let a mail program unsubscribe its reader with one click (RFC 8058, section 3.1).

    A signature by DKIM must cover both, or mail programs ignore them.
    """
    return {"List-Unsubscribe": f"<{unsubscribe_url(public_api_url, token)}>", "List-Unsubscribe-Post": ONE_CLICK}


def read_unsubscribe_token(keyring: Keyring, token: str) -> Unsubscribing:
    """What a token turns off. Raises NotUnsubscribing."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        tag, content = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(keyring.unsubscribe_tag(content), tag):
            raise NotUnsubscribing("the signature is not valid")
        user, which, tenant_id = content.decode().split("|", 2)
        kinds, _, of = which.partition(":")
        saved_search_id = UUID(of) if of else None
        found = Unsubscribing(
            tenant_id, UUID(user), tuple(NoticeKind(kind) for kind in kinds.split(",")), saved_search_id
        )
    except ValueError as error:
        raise NotUnsubscribing("not a token of a link to unsubscribe") from error
    if not set(found.kinds) <= set(OPTIONAL_KINDS):
        raise NotUnsubscribing("mails about the account cannot be turned off")
    return found
