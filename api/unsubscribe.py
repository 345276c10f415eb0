"""The link in mails that unsubscribes without sign-in (RFC 8058): /api/notifications/unsubscribe.

Mail programs post a form to it; people open a page, whose button posts the same form. Opening it changes nothing,
because scanners of mails follow every link. The tenant is that of the token: the link has the host of the API, which
several portals may share.
"""

import base64
import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid5

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adapters import saved_searches
from adapters.postgres import DatabaseUnavailable
from adapters.preferences import preferences_of
from adapters.unsubscribing import (
    ONE_CLICK,
    UNSUBSCRIBE_PATH,
    NotUnsubscribing,
    Unsubscribing,
    read_unsubscribe_token,
)
from api.commands import new_id
from api.deps import Parts, PartsDep, TenantDep, address_of
from api.errors import KINDS, ApiError, FieldError, responses
from api.pages import prefers_html
from domain.model import Model
from domain.preferences import NoticeKind, OptionalKind, Unsubscribe
from domain.saved_searches import PausedBy, PauseSavedSearch

router = APIRouter(tags=["notifications"])

_FIELD, _VALUE = ONE_CLICK.split("=")
_MAX_FORM_BYTES = 2_000
"""Several times a multipart form with the one field."""
# Name and value of a part of one line (RFC 7578). The parser of mails in the standard library takes much more.
_PART = re.compile(
    rb'^content-disposition:[^\r\n]*;[ \t]*name="?([^"\r\n;]+)"?[^\r\n]*\r?\n'
    rb"(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]*)\r?\n--",
    re.IGNORECASE | re.MULTILINE,
)
_SUBJECTS = {
    NoticeKind.LISTING_CONFIRMED: "your listings, when they become public",
    NoticeKind.STATUS_CHANGED: "a new status of your listings and favourites",
    NoticeKind.PRICE_DROPPED: "a lower price of your favourites",
    NoticeKind.SAVED_SEARCH_MATCHES: "what your saved searches find",
}
"""What mails of each kind are about."""
_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;margin:0;background:#f2f5f4;color:#1c2624}"
    "main{max-width:34rem;margin:3rem auto;padding:2rem;background:#fff;border:1px solid #dfe6e3;border-radius:12px}"
    "h1{font-size:1.4rem;line-height:1.3}.brand{font-weight:700;color:#0b6b5a}.quiet{font-size:.85rem;color:#5c6b67}"
    "button{font:inherit;padding:.6rem 1.4rem;border:0;border-radius:8px;background:#0b6b5a;color:#fff;cursor:pointer}"
)
_HEADERS = {
    # The page has no scripts and loads nothing; no other site may show it in a frame and have the button clicked.
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
    ),
    "Referrer-Policy": "no-referrer",  # the URL has the token
    "Cache-Control": "no-store",
}
_PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    auto_reload=False,
).get_template("unsubscribe.html")

_Token = Annotated[str, Query(description="Of the link in a mail; it does not expire")]
_FORM_SCHEMA = {
    "type": "object",
    "required": [_FIELD],
    "properties": {_FIELD: {"type": "string", "const": _VALUE}},
}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media: {"schema": _FORM_SCHEMA, "example": {_FIELD: _VALUE}}
            for media in ("application/x-www-form-urlencoded", "multipart/form-data")
        },
    }
}
_HTML = {"text/html": {"schema": {"type": "string"}}}


class Unsubscribed(Model):
    """The kinds of notices of which no more mails are sent, or the saved search that is paused."""

    kinds: list[OptionalKind]
    saved_search_id: UUID | None
    """Only mails of this saved search are no longer sent."""


@router.get(
    UNSUBSCRIBE_PATH,
    response_class=HTMLResponse,
    responses=responses("invalid-link", "too-many-requests", "unavailable"),
)
async def unsubscribe_page(request: Request, parts: PartsDep, tenant_id: TenantDep, token: _Token = "") -> Response:
    """A page with a button that unsubscribes. Opening it changes nothing."""
    try:
        wanted = await _opened(request, parts, tenant_id, token)
    except ApiError as error:
        return _failure(request, parts, error)
    text = "Press the button to get no more mails about:"
    return _page(parts, "Unsubscribe from mails", text, wanted, field=_FIELD)


@router.post(
    UNSUBSCRIBE_PATH,
    response_model=Unsubscribed,
    responses={200: {"content": _HTML}, **responses("invalid-link", "too-many-requests", "unavailable")},
    openapi_extra=_FORM,
)
async def unsubscribe(request: Request, parts: PartsDep, tenant_id: TenantDep, token: _Token = "") -> Response:
    """Send no more mails of the kinds of a link, as JSON or, for browsers, as a page (RFC 8058).

    The link in a mail of a saved search pauses that one. Idempotent, until the kinds are turned on again or the saved
    search is resumed. The other channels of these kinds stay as they are.
    """
    try:
        wanted = await _opened(request, parts, tenant_id, token)
        _check_form(request.headers.get("content-type", ""), await request.body())
        await _turn_off(parts, wanted)
    except ApiError as error:
        return _failure(request, parts, error)
    if prefers_html(request.headers.get("accept", "")):
        return _page(parts, "You are unsubscribed", "You get no more mails about:", wanted)
    answer = Unsubscribed(kinds=list(wanted.kinds), saved_search_id=wanted.saved_search_id)
    return Response(answer.model_dump_json(by_alias=True), 200, {"Vary": "Accept"}, "application/json")


async def _opened(request: Request, parts: Parts, tenant_id: str, token: str) -> Unsubscribing:
    """What a link turns off. Raises ApiError too-many-requests or invalid-link."""
    limit = parts.settings.unsubscribes_per_minute
    await parts.limits.count(tenant_id, "unsubscribe", address_of(request), limit)
    try:
        return read_unsubscribe_token(parts.keyring, token)
    except NotUnsubscribing as error:
        detail = "Open the link as it is in the mail, or sign in and change your preferences."
        raise ApiError("invalid-link", detail) from error


def _check_form(content_type: str, body: bytes) -> None:
    """Raises ApiError invalid-request for another form than that of RFC 8058, section 3.2."""
    fields: dict[str, str] = {}
    if len(body) <= _MAX_FORM_BYTES:
        is_multipart = content_type.lower().startswith("multipart/form-data")
        fields = _multipart(body) if is_multipart else dict(parse_qsl(body.decode("latin-1")))
    if fields.get(_FIELD) != _VALUE:
        fault = FieldError(field=_FIELD, reason=f"Send {_VALUE}.")
        raise ApiError("invalid-request", f"Send the form {ONE_CLICK}.", errors=[fault])


def _multipart(body: bytes) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in _PART.findall(body)}


async def _turn_off(parts: Parts, wanted: Unsubscribing) -> None:
    """Send the command, unless there is nothing to turn off. Raises ApiError."""
    sent = await (_pausing(parts, wanted) if wanted.saved_search_id else _unsubscribing(parts, wanted))
    if sent is None:
        return
    try:
        await parts.commands.run(sent, "Unsubscribe from mails")
    except ApiError as error:
        # A closed account gets no mails; and a command that is running is that of another click.
        if error.kind not in {"account-closed", "command-running"}:
            raise


async def _unsubscribing(parts: Parts, wanted: Unsubscribing) -> Unsubscribe | None:
    """The command that turns off the kinds of a link; None when they are off.

    Its id is a function of link and version of the preferences: clicks at once are one command, and a click after
    the kinds were turned on again is another.
    """
    try:
        async with parts.database.statements(wanted.tenant_id) as connection:
            known = (await preferences_of(connection, [wanted.user_id]))[wanted.user_id]
    except DatabaseUnavailable:
        # Mail programs do not try again, so the command waits for Postgres in Temporal. A second one changes nothing.
        command_id = new_id()
    else:
        if not any(known.channels_of(kind).email for kind in wanted.kinds):
            return None
        command_id = uuid5(wanted.user_id, f"unsubscribe/{','.join(wanted.kinds)}/{known.version}")
    return Unsubscribe(
        command_id=command_id,
        tenant_id=wanted.tenant_id,
        user_id=wanted.user_id,
        issued_at=datetime.now(UTC),
        kinds=wanted.kinds,
    )


async def _pausing(parts: Parts, wanted: Unsubscribing) -> PauseSavedSearch | None:
    """The command that pauses the saved search of a link; None when it is paused or deleted."""
    assert wanted.saved_search_id is not None
    try:
        async with parts.database.statements(wanted.tenant_id) as connection:
            known = await saved_searches.find(connection, wanted.user_id, wanted.saved_search_id)
    except DatabaseUnavailable:
        command_id = new_id()
    else:
        if known is None or known.paused:
            return None
        command_id = uuid5(wanted.saved_search_id, f"unsubscribe/{known.version}")
    return PauseSavedSearch(
        command_id=command_id,
        tenant_id=wanted.tenant_id,
        user_id=wanted.user_id,
        issued_at=datetime.now(UTC),
        saved_search_id=wanted.saved_search_id,
        by=PausedBy.LINK,
    )


def _page(parts: Parts, title: str, text: str, wanted: Unsubscribing, field: str = "") -> Response:
    subjects = ["this saved search"] if wanted.saved_search_id else [_SUBJECTS[kind] for kind in wanted.kinds]
    return _html(parts, 200, title=title, text=text, subjects=subjects, field=field)


def _failure(request: Request, parts: Parts, error: ApiError) -> Response:
    """The page of an error, if the client prefers one. Raises `error` otherwise."""
    if not prefers_html(request.headers.get("accept", "")):
        raise error
    kind = KINDS[error.kind]
    return _html(parts, kind.status, error.headers, title=kind.title, text=error.detail, subjects=(), field="")


def _html(parts: Parts, status: int, headers: Any = None, **texts: Any) -> Response:
    preferences = f"{parts.settings.public_url}/notifications/preferences"
    content = _PAGE.render(style=Markup(_STYLE), value=_VALUE, preferences=preferences, **texts)
    return HTMLResponse(content, status, {"Vary": "Accept", **_HEADERS, **(headers or {})})
