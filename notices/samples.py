"""Invented values for a preview of every notice."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain.notifications import Audience
from domain.preferences import OPTIONAL_KINDS, NoticeKind

_AT = datetime(2026, 11, 25, 13, 36, tzinfo=UTC)
_APP = "https://homes.example"
_TOKEN = "dGhpcy1pcy1ub3QtYS10b2tlbi1idXQtYXMtbG9uZw"
_FLAT = {
    "propertyId": "0193a0c4-9d5e-7c3a-8f21-5a1d0f7c2b11",
    "ownerId": "0193a0c4-1b2c-7d11-9c55-0e6f2a9d4c10",
    "title": "Bright 3BHK flat by the lake",
    "location": "Gachibowli",
    "price": 8_250_000,
    "status": "ACTIVE",
}


@dataclass(frozen=True)
class Sample:
    """The values of one preview. A kind whose words depend on its values has several."""

    name: str
    kind: NoticeKind
    values: Mapping[str, Any]


def samples() -> tuple[Sample, ...]:
    """At least one sample of every kind of notice."""
    verify = {"verify": f"{_APP}/verify-email?token={_TOKEN}"}
    reset = {"reset": f"{_APP}/reset-password?token={_TOKEN}"}
    export = {"export": f"{_APP}/api/users/export?token=hyderabad.{_TOKEN}"}
    account = {"role": "ADMIN", "secondFactor": True}
    passkey = {**account, "passkeyId": "0193a0c4-2c3d-7e22-8d66-1f7a3b0e5d21"}
    factor = {**account, "onlyRecoveryCodes": False}
    counts = {"read": 2518, "saved": 1970, "updated": 21, "unchanged": 0, "refused": 527}
    page = {"import": f"{_APP}/imports/0193a0c4-5f6a-7b55-8c88-3b9c5d2e7f43"}
    imported = {"importId": "0193a0c4-5f6a-7b55-8c88-3b9c5d2e7f43", "status": "COMPLETED", "reason": None, **counts}
    reason = "No column is recognized. Send a mapping of the columns to fields."
    failed = {**imported, **dict.fromkeys(counts, 0), "status": "FAILED", "reason": reason}
    dropped = {**_FLAT, "previousPrice": 8_500_000}
    rejected = {**_FLAT, "fromStatus": "ACTIVE", "toStatus": "REJECTED", "reason": "The photos are of another flat."}
    offer = {**_FLAT, "fromStatus": "ACTIVE", "toStatus": "UNDER_OFFER", "reason": None}
    return (
        _sample("verify: on registering", NoticeKind.VERIFY_EMAIL, {}, verify),
        _sample("verify: on request", NoticeKind.VERIFY_EMAIL, {"reminder": 0}, verify),
        _sample("verify: first reminder", NoticeKind.VERIFY_EMAIL, {"reminder": 1}, verify),
        _sample("verify: last reminder", NoticeKind.VERIFY_EMAIL, {"reminder": 2}, verify),
        _sample("welcome", NoticeKind.WELCOME, {}),
        _sample("password reset", NoticeKind.PASSWORD_RESET, {}, reset),
        _sample("password changed: by its owner", NoticeKind.PASSWORD_CHANGED, {"wasReset": False}),
        _sample("password changed: by a link", NoticeKind.PASSWORD_CHANGED, {"wasReset": True}),
        _sample("new sign-in", NoticeKind.NEW_SIGN_IN, {"device": "Chrome on Windows", "newDevice": True}),
        _sample("new sign-in: unknown device", NoticeKind.NEW_SIGN_IN, {"device": None, "newDevice": True}),
        _sample("security: passkey added", NoticeKind.SECURITY_CHANGED, passkey),
        _sample("security: passkey removed", NoticeKind.SECURITY_CHANGED, {**passkey, "removed": True}),
        _sample("security: second factor enabled", NoticeKind.SECURITY_CHANGED, factor),
        _sample("security: second factor disabled", NoticeKind.SECURITY_CHANGED, {**factor, "secondFactor": False}),
        _sample("security: recovery codes", NoticeKind.SECURITY_CHANGED, {**factor, "onlyRecoveryCodes": True}),
        _sample("security: role", NoticeKind.SECURITY_CHANGED, {**account, "fromRole": "USER"}),
        _sample("export ready", NoticeKind.EXPORT_READY, {"exportId": "0193a0c4-3d4e-7f33-9e77-2a8b4c1f6e32"}, export),
        _sample("import finished", NoticeKind.IMPORT_FINISHED, imported, page),
        _sample("import finished: cancelled", NoticeKind.IMPORT_FINISHED, {**imported, "status": "CANCELLED"}, page),
        _sample("import finished: failed", NoticeKind.IMPORT_FINISHED, failed, page),
        _sample("account erased", NoticeKind.ACCOUNT_ERASED, {}),
        _sample("listing confirmed", NoticeKind.LISTING_CONFIRMED, _FLAT),
        _sample("status changed: to the owner", NoticeKind.STATUS_CHANGED, rejected, audience=Audience.USER),
        _sample("status changed: of a favourite", NoticeKind.STATUS_CHANGED, offer, audience=Audience.FAVORITES),
        _sample("price dropped: of a favourite", NoticeKind.PRICE_DROPPED, dropped, audience=Audience.FAVORITES),
        _saved_search("saved search: one listing", 1, 1, 0),
        _saved_search("saved search: more than a mail shows, after five unread mails", 14, 86, 5),
    )


def digest_values() -> dict[str, Any]:
    """The values of a digest's preview."""
    return dict(_sample("digest", NoticeKind.PRICE_DROPPED, {}).values)


def _saved_search(name: str, shown: int, total: int, unread: int) -> Sample:
    """A mail of a saved search with listings of every reason."""
    reasons: tuple[Mapping[str, Any], ...] = (
        {"because": "NEW", "previousPrice": None},
        {"because": "CHEAPER", "previousPrice": 8_500_000},
        {"because": "BACK", "previousPrice": None},
    )
    listing = {"propertyId": _FLAT["propertyId"], "version": 3, "title": _FLAT["title"], "location": "Gachibowli"}
    listings = [{**listing, "price": _FLAT["price"], **reasons[n % len(reasons)]} for n in range(shown)]
    event = {
        "savedSearchId": "0193a0c4-4e5f-7a44-9b77-2a8b4c1d6e31",
        "userId": _FLAT["ownerId"],
        "total": total,
        "listings": listings,
        "unread": unread,
    }
    return _sample(name, NoticeKind.SAVED_SEARCH_MATCHES, event, savedSearch="Flats near the lake")


def _sample(
    name: str, kind: NoticeKind, event: Mapping[str, Any], links: Mapping[str, str] | None = None, **more: Any
) -> Sample:
    optional = {
        "listing": f"{_APP}/properties/{_FLAT['propertyId']}",
        "preferences": f"{_APP}/notifications/preferences",
        "unsubscribe": f"{_APP}/api/notifications/unsubscribe?token={_TOKEN}",
    }
    values = {
        "recipient": {"firstName": "Ravi", "username": "ravi"},
        "event": event,
        "links": {"app": _APP, **(optional if kind in OPTIONAL_KINDS else {}), **(links or {})},
        "at": _AT,
        **more,
    }
    return Sample(name, kind, values)
