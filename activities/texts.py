"""The values of the texts of a delivery, from its row, its event and its recipient."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from activities.users import LINK_LIFETIMES, RESET
from adapters.exports import export_url
from adapters.outbox import Target
from adapters.providers import DeliveryRefused, ProviderUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.unsubscribing import unsubscribe_headers, unsubscribe_token, unsubscribe_url
from domain.notifications import Audience
from domain.preferences import OPTIONAL_KINDS, NoticeKind
from notices import render
from notices.render import DigestItem, Rendered, RenderedSms, Short

_OLD_TEMPLATES = {"property-listed": NoticeKind.LISTING_CONFIRMED.value}
"""Templates of releases without notices, whose deliveries may still be pending."""

Row = Mapping[str, Any]
"""A claimed delivery, see `outbox.claim`."""


class Texts:
    """Renders deliveries; each method raises DeliveryRefused for one that is no longer of use.

    Raises ProviderUnavailable for one whose kind only a later release knows.
    """

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._app, self._api = settings.public_url, settings.public_api_url
        self._template_ids = settings.sms_dlt_templates
        self._keyring = keyring

    def check(self, target: Target, row: Row) -> NoticeKind:
        """The kind of a delivery that is of use."""
        kind = _kind(row)
        self._values(kind, target, row)
        return kind

    def mail(self, target: Target, row: Row) -> tuple[Rendered, Mapping[str, str]]:
        """The mail and its further headers."""
        kind = _kind(row)
        if kind not in OPTIONAL_KINDS:
            return render.mail(kind, self._values(kind, target, row)), {}
        values = self._values(kind, target, row)
        return render.mail(kind, values), unsubscribe_headers(self._api, self._unsubscribe_token(kind, target, row))

    def sms(self, target: Target, row: Row) -> RenderedSms:
        kind = _kind(row)
        return render.sms(kind, self._values(kind, target, row), self._template_ids)

    def push(self, target: Target, row: Row) -> bytes:
        """The payload of a message to a browser, JSON: `title`, `body`, `url`."""
        kind = self.check(target, row)
        return _payload(self._short(kind, row), self._page(row))

    def digest(self, rows: Sequence[Row]) -> tuple[Rendered, Mapping[str, str]]:
        """The mail with all that was held for a user, and its further headers."""
        kinds = {_kind(row) for row in rows}
        token = unsubscribe_token(self._keyring, rows[0]["tenant_id"], rows[0]["recipient_id"], *kinds)
        items = [DigestItem(short.title, short.body, self._page(row)) for row, short in self._shorts(rows)]
        values = {
            "recipient": _recipient(rows[0]),
            "at": rows[0]["timestamp"],
            "links": {**self._common_links(), "unsubscribe": unsubscribe_url(self._api, token)},
        }
        return render.digest(items, values), unsubscribe_headers(self._api, token)

    def digest_push(self, rows: Sequence[Row]) -> bytes:
        [(_, short)] = self._shorts(rows) if len(rows) == 1 else [(None, render.digest_short(len(rows)))]
        return _payload(short, self._page(rows[0]) if len(rows) == 1 else self._app)

    def digest_sms(self, rows: Sequence[Row]) -> RenderedSms:
        return render.digest_sms(len(rows), self._template_ids)

    def _shorts(self, rows: Sequence[Row]) -> list[tuple[Row, Short]]:
        return [(row, self._short(_kind(row), row)) for row in rows]

    def _short(self, kind: NoticeKind, row: Row) -> Short:
        return render.short(kind, render.short_values(kind, row["event_data"]))

    def _page(self, row: Row) -> str:
        """The page of the listing, saved search or import that a delivery is about, or the portal."""
        event = row["event_data"]
        if saved_search := event.get("savedSearchId"):
            return f"{self._app}/saved-searches/{saved_search}"
        if imported := event.get("importId"):
            return f"{self._app}/imports/{imported}"
        listing = event.get("propertyId")
        return f"{self._app}/properties/{listing}" if listing else self._app

    def _unsubscribe_token(self, kind: NoticeKind, target: Target, row: Row) -> str:
        """Of a link that turns off mails of a kind, or of the one saved search that a mail is about."""
        saved_search = row["event_data"].get("savedSearchId")
        of = UUID(saved_search) if saved_search else None
        return unsubscribe_token(self._keyring, row["tenant_id"], target.recipient_id, kind, saved_search_id=of)

    def _common_links(self) -> dict[str, str]:
        return {"app": self._app, "preferences": f"{self._app}/notifications/preferences"}

    def _values(self, kind: NoticeKind, target: Target, row: Row) -> dict[str, Any]:
        """The values that `notices/render.py` describes."""
        event = row["event_data"]
        if row["email"] is None:
            raise DeliveryRefused("the account is deleted")
        # That a listing is withdrawn is news for those who have it as favourite, also once it is deleted.
        if "propertyId" in event and row["property_id"] is None and kind is not NoticeKind.STATUS_CHANGED:
            raise DeliveryRefused("the listing is deleted")
        if kind is NoticeKind.SAVED_SEARCH_MATCHES:
            if row["saved_search"] is None:
                raise DeliveryRefused("the saved search is deleted")
            if row["saved_search_paused"]:
                raise DeliveryRefused("the saved search was paused in the meantime")
        if kind is NoticeKind.VERIFY_EMAIL and row["email_verified"]:
            raise DeliveryRefused("the address is verified already")
        if kind is NoticeKind.PASSWORD_RESET and row["timestamp"] + LINK_LIFETIMES[RESET] <= datetime.now(UTC):
            raise DeliveryRefused("the link has expired")
        if kind is NoticeKind.EXPORT_READY and datetime.fromisoformat(event["expiresAt"]) <= datetime.now(UTC):
            raise DeliveryRefused("the file is deleted")
        token = self._keyring.link_token(target.event_id)
        links = self._common_links()
        if kind is NoticeKind.VERIFY_EMAIL:
            links["verify"] = f"{self._app}/verify-email?token={token}"
        elif kind is NoticeKind.PASSWORD_RESET:
            links["reset"] = f"{self._app}/reset-password?token={token}"
        elif kind is NoticeKind.EXPORT_READY:
            links["export"] = export_url(self._api, row["tenant_id"], token)
        elif kind is NoticeKind.IMPORT_FINISHED:
            links["import"] = self._page(row)
        elif kind in OPTIONAL_KINDS:
            links["listing"] = self._page(row)
            links["unsubscribe"] = unsubscribe_url(self._api, self._unsubscribe_token(kind, target, row))
        is_owner = event.get("ownerId") == str(target.recipient_id)
        return {
            "recipient": _recipient(row),
            # Personal values are sealed, and no template needs one.
            "event": {name: value for name, value in event.items() if not isinstance(value, dict)},
            "links": links,
            "at": row["timestamp"],
            "audience": Audience.USER if is_owner else Audience.FAVORITES,
            **({"savedSearch": row["saved_search"]} if kind is NoticeKind.SAVED_SEARCH_MATCHES else {}),
        }


def _recipient(row: Row) -> dict[str, str]:
    return {"firstName": row["first_name"], "username": row["username"]}


def _kind(row: Row) -> NoticeKind:
    stored: str = row["template"]
    template = _OLD_TEMPLATES.get(stored, stored)
    if template not in NoticeKind.__members__:
        raise ProviderUnavailable(f"this release has no template {template!r}")
    return NoticeKind(template)


def _payload(short: Short, url: str) -> bytes:
    return json.dumps({"title": short.title, "body": short.body, "url": url}, ensure_ascii=False).encode()


def message_id(event_id: UUID, recipient_id: UUID) -> str:
    """The Message-ID of a mail, the same whenever it is sent."""
    return f"{event_id}.{recipient_id}@hyderabad-infra"
