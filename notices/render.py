"""Renders the templates of notices for every channel.

Each kind has two files in `templates/`: `<kind>.html` is the HTML part of its mail; `<kind>.txt` has a block for each
other text: `subject`, `body` (the plain part), `title` and `short` (in-app and push) and, for SMS_KINDS, `sms`. A
template that uses a value which it is not given raises `jinja2.UndefinedError`.

The values of a mail and an SMS:

- `recipient`: `firstName`, `username`;
- `event`: the event's data in camelCase, without sealed fields;
- `links`: URLs: `app` always; `verify`, `reset`, `export` or `import` for the kinds that need them; `listing`,
  `preferences` and `unsubscribe` for OPTIONAL_KINDS;
- `at`: when it happened, an aware datetime;
- `audience`: optional, an `Audience`: whether a listing's owner or somebody with it as favourite is addressed;
- `savedSearch`: of SAVED_SEARCH_MATCHES, the name that its owner has given to the saved search.

Every text but the links may be written by a user, and is treated so (`notices/user_text.py`).
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context

from domain.amounts import rupees, short_rupees
from domain.india import INDIA
from domain.preferences import OPTIONAL_KINDS, NoticeKind
from domain.property_status import PropertyStatus
from notices import gsm
from notices.samples import Sample as Sample
from notices.samples import samples as samples
from notices.user_text import harmless, harmless_values

SMS_KINDS = (NoticeKind.PASSWORD_CHANGED, NoticeKind.NEW_SIGN_IN, NoticeKind.SECURITY_CHANGED, *OPTIONAL_KINDS)
DIGEST = "DIGEST"
"""The name of the digest among the DLT template ids."""
DIGEST_ITEMS = 14
"""Notices that a digest shows; more would be a mail that nobody reads to its end."""
_SHORT_VALUES = {
    NoticeKind.NEW_SIGN_IN: ("device",),
    NoticeKind.SECURITY_CHANGED: ("fromRole", "passkeyId", "removed", "onlyRecoveryCodes", "secondFactor"),
    NoticeKind.IMPORT_FINISHED: ("status", "saved", "updated", "unchanged", "refused"),
    NoticeKind.LISTING_CONFIRMED: ("title", "location", "price"),
    NoticeKind.STATUS_CHANGED: ("title", "location", "fromStatus", "toStatus"),
    NoticeKind.PRICE_DROPPED: ("title", "location", "price", "previousPrice"),
    NoticeKind.SAVED_SEARCH_MATCHES: ("listings", "total"),
}
_LINE = 72
"""Characters of a line of a plain mail, so that it can be quoted (RFC 3676, 4.1)."""
_SMS_VALUE = 30
"""Characters of one value of an SMS: what DLT platforms allow for `{#var#}`."""
_DLT_VARIABLE = "{#var#}"
_STATUSES = {
    PropertyStatus.DRAFT: "a draft",
    PropertyStatus.PENDING_REVIEW: "waiting for review",
    PropertyStatus.ACTIVE: "available",
    PropertyStatus.PAUSED: "paused",
    PropertyStatus.UNDER_OFFER: "under offer",
    PropertyStatus.SOLD: "sold",
    PropertyStatus.RENTED: "rented out",
    PropertyStatus.EXPIRED: "expired",
    PropertyStatus.REJECTED: "rejected",
    PropertyStatus.WITHDRAWN: "withdrawn",
}
"""What follows "is now" for each status."""


@dataclass(frozen=True)
class Rendered:
    """A mail. The subject is one line."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class RenderedSms:
    """An SMS, and the id of its text at the DLT platform; None when the operator has set none."""

    text: str
    template_id: str | None = None


@dataclass(frozen=True)
class Short:
    """A notification in the app or by push, without markup: whoever shows it as HTML must escape it."""

    title: str
    body: str


@dataclass(frozen=True)
class DigestItem(Short):
    """A notice in a digest, and where it leads to."""

    url: str


def mail(kind: NoticeKind, values: Mapping[str, Any]) -> Rendered:
    """The mail of a notice."""
    return _mail(kind.value.lower(), _prepared(values))


def sms(
    kind: NoticeKind, values: Mapping[str, Any], template_ids: Mapping[str, str] = MappingProxyType({})
) -> RenderedSms:
    """The SMS of a notice of SMS_KINDS; `template_ids` is the setting SMS_DLT_TEMPLATES.

    At most 160 characters of GSM when its values are, which it cuts to 30 characters each.
    """
    return RenderedSms(_block(_TEMPLATES, kind.value.lower(), "sms", _prepared(values)), template_ids.get(kind.value))


def short(kind: NoticeKind, values: Mapping[str, Any]) -> Short:
    """The texts in the app and by push; `values` as `short_values` makes them."""
    return _short(kind.value.lower(), _prepared(values))


def short_values(kind: NoticeKind, event: Mapping[str, Any]) -> dict[str, Any]:
    """Those values of an event's data, in camelCase, that `short` needs; none of them is personal."""
    values = {name: event[name] for name in _SHORT_VALUES.get(kind, ()) if name in event}
    return {**values, "listings": event["listings"][:1]} if kind is NoticeKind.SAVED_SEARCH_MATCHES else values


def digest(items: Sequence[DigestItem], values: Mapping[str, Any]) -> Rendered:
    """The mail with what has waited until the end of quiet hours, newest first; `values` as of an optional kind."""
    shown = [DigestItem(harmless(item.title), harmless(item.body), item.url) for item in items[:DIGEST_ITEMS]]
    more = {"items": shown, "count": len(items), "rest": len(items) - len(shown)}
    return _mail("digest", {**_prepared(values), **more})


def digest_short(count: int) -> Short:
    """The notification by push of what has waited until the end of quiet hours."""
    return _short("digest", {"count": count})


def digest_sms(count: int, template_ids: Mapping[str, str] = MappingProxyType({})) -> RenderedSms:
    """The SMS about what has waited until the end of quiet hours."""
    return RenderedSms(_block(_TEMPLATES, "digest", "sms", {"count": count}), template_ids.get(DIGEST))


def dlt_texts() -> dict[str, str]:
    """The text of each SMS as it has to be registered with a DLT platform, by the name of its template id."""
    texts = {}
    for sample in samples():
        if sample.kind in SMS_KINDS:
            texts[sample.kind.value] = _block(_DLT, sample.kind.value.lower(), "sms", _prepared(sample.values))
    return {**texts, DIGEST: _block(_DLT, "digest", "sms", {"count": 2})}


def preview_page(previews: Sequence[Mapping[str, Any]]) -> str:
    """The page of `make mails`, in HTML."""
    return _TEMPLATES.get_template("preview.html").render(previews=previews)


def _mail(name: str, values: Mapping[str, Any]) -> Rendered:
    subject = _block(_TEMPLATES, name, "subject", values)
    text = _TEMPLATES.get_template(f"{name}.txt").render(values)
    html = _TEMPLATES.get_template(f"{name}.html").render(values, subject=subject)
    return Rendered(subject, _wrapped(text), html)


def _short(name: str, values: Mapping[str, Any]) -> Short:
    return Short(*(_block(_TEMPLATES, name, block, values) for block in ("title", "short")))


def _block(templates: Environment, name: str, block: str, values: Mapping[str, Any]) -> str:
    """One block of a kind's text file, as one line."""
    template = templates.get_template(f"{name}.txt")
    return " ".join("".join(template.blocks[block](template.new_context(dict(values)))).split())


def _prepared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with harmless texts. The links are our own, and stay as they are."""
    return {key: value if key == "links" else harmless_values(value) for key, value in values.items()}


def _wrapped(text: str) -> str:
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    # A URL must stay whole: broken over two lines it is no link.
    filled = (textwrap.fill(part, _LINE, break_long_words=False, break_on_hyphens=False) for part in paragraphs if part)
    return "\n\n".join(filled) + "\n"


def _when(at: datetime) -> str:
    """A moment in India: 25 November 2026, 7:06 pm."""
    there = at.astimezone(INDIA)
    return f"{there:%-d %B %Y}, {_clock(there)}"


def _when_short(at: datetime) -> str:
    there = at.astimezone(INDIA)
    return f"{there:%-d %b %Y}, {_clock(there)}"


def _clock(there: datetime) -> str:
    return f"{there.hour % 12 or 12}:{there:%M} {'am' if there.hour < 12 else 'pm'}"


def _status(status: str) -> str:
    try:
        return _STATUSES[PropertyStatus(status)]
    except ValueError:  # an event of a later release
        return status.replace("_", " ").lower()


@pass_context
def _security_change(values: Context) -> str:
    """What an event has changed of an account's security; at most 30 characters, as a value of an SMS."""
    event = values.get("event", values)
    if event.get("fromRole"):
        return "your role was changed"
    if event.get("passkeyId"):
        return f"a passkey was {'removed' if event.get('removed') else 'added'}"
    if event.get("onlyRecoveryCodes"):
        return "recovery codes were replaced"
    return f"the second factor was {'enabled' if event.get('secondFactor') else 'disabled'}"


@pass_context
def _import_outcome(values: Context) -> str:
    """What follows "Your import" in its notice."""
    status = values.get("event", values)["status"]
    return {"COMPLETED": "is complete", "CANCELLED": "was cancelled"}.get(status, "has failed")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _sms_value(value: object) -> str:
    text = gsm.plain(str(value)).strip()
    return text if len(text) <= _SMS_VALUE else text[: _SMS_VALUE - 3].rstrip() + "..."


def _environment(sms_value: Callable[[object], str]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: Iterable[tuple[str, Callable[..., str]]] = (
        ("rupees", rupees),
        ("short_rupees", short_rupees),
        ("when", _when),
        ("when_short", _when_short),
        ("status", _status),
        ("cut", _cut),
        ("var", sms_value),
    )
    environment.filters.update(filters)
    environment.globals["security_change"] = _security_change
    environment.globals["import_outcome"] = _import_outcome
    return environment


_TEMPLATES = _environment(_sms_value)
_DLT = _environment(lambda _: _DLT_VARIABLE)
