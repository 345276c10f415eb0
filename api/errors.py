"""The table of errors with their HTTP status, and the handlers that answer each as an RFC 9457 problem document."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from adapters.postgres import DatabaseUnavailable
from adapters.search.engine import SearchTooSlow, SearchUnavailable
from domain.model import Model
from domain.reasons import reason

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

MAX_URI_BYTES = 8_000
"""The minimum that RFC 9110, section 4.1, recommends to support."""
MAX_HEADER_BYTES = 32_768
"""Of names and values together: 8 times what a browser sends with an access token and a few cookies."""


@dataclass(frozen=True)
class Kind:
    """One kind of error: its status, its title, and what the client can do about it."""

    status: int
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "invalid-request": Kind(
        422, "The request is not valid", "Fix the fields listed in errors and send the request again."
    ),
    "malformed-request": Kind(400, "The request is not valid HTTP", "Send a request that follows RFC 9112."),
    "malformed-json": Kind(400, "The body is not valid JSON", "Send one JSON document in UTF-8."),
    "duplicate-name": Kind(400, "An object in the body has a duplicate name", "Send each name of an object once."),
    "repeated-header": Kind(400, "A header is sent twice", "Send this header once."),
    "unsupported-media-type": Kind(415, "The media type of the body is not supported", "Send application/json."),
    "unsupported-content-encoding": Kind(
        415,
        "The Content-Encoding of the body is not supported",
        "Send the body uncompressed, without Content-Encoding.",
    ),
    "body-too-large": Kind(413, "The body is too large", "Send a smaller body."),
    "missing-boundary": Kind(
        400,
        "The Content-Type has no boundary",
        "Let your HTTP library set the Content-Type of the form: `multipart/form-data` with its `boundary`.",
    ),
    "malformed-multipart": Kind(400, "The form is not valid", "Send multipart/form-data as RFC 7578 says."),
    "truncated-body": Kind(400, "The form is not complete", "Send the request again, with its last boundary."),
    "too-slow": Kind(408, "The body comes too slowly", "Send the request again over a better connection."),
    "wrong-field": Kind(422, "A field of the form is not the right one", "Send the fields that `detail` names."),
    "no-file": Kind(422, "There is no file", "Send the file in the field that `detail` names."),
    "too-many-files": Kind(413, "There are too many files", "Send them in several requests."),
    "file-too-large": Kind(413, "The file is too large", "Choose a smaller file."),
    "uri-too-long": Kind(414, "The URL is too long", f"Send a URL of at most {MAX_URI_BYTES} bytes."),
    "range-not-satisfiable": Kind(
        416, "The range is not in the file", "Ask for bytes that the file has, or for the whole file, without Range."
    ),
    "upload-incomplete": Kind(
        409, "The file is not there yet", "Send it to the URL of the upload first, with its exact size."
    ),
    "document-not-ready": Kind(
        409, "The document cannot be read", "Wait while it is PROCESSING. Of a REFUSED one, send another file."
    ),
    "headers-too-large": Kind(
        431, "The headers are too large", f"Send headers of at most {MAX_HEADER_BYTES} bytes in all."
    ),
    "origin-not-allowed": Kind(
        403, "The origin is not allowed to use the API", "Ask the operator to add the origin to CORS_ORIGINS."
    ),
    "invalid-if-match": Kind(
        400, "If-Match is not valid", 'Send the ETag of the resource with its double quotes, such as `"1"`, or `*`.'
    ),
    "invalid-cursor": Kind(
        400,
        "The cursor is not valid",
        "Send nextCursor of a page of the same list, unchanged, or leave it out for the first page.",
    ),
    "invalid-consistency-token": Kind(
        400, "The Consistency-Token is not valid", "Send the header of an earlier response unchanged, or leave it out."
    ),
    "invalid-idempotency-key": Kind(
        400,
        "The Idempotency-Key is not valid",
        "Send 1 to 255 printable ASCII characters, such as a UUID, with or without double quotes.",
    ),
    "unauthenticated": Kind(401, "Sign in first", "Send `Authorization: Bearer <accessToken>`."),
    "invalid-token": Kind(401, "The access token is not valid", "Sign in again."),
    "expired-token": Kind(401, "The access token has expired", "Use the refresh token, or sign in again."),
    "session-closed": Kind(
        401,
        "The session is closed",
        "Sign in again. A session ends by signing out, here or from another device, by a new password or role, or with "
        "the account.",
    ),
    "invalid-credentials": Kind(401, "Wrong name or password", "Check both and sign in again."),
    "wrong-password": Kind(403, "Wrong password", "Send the password of your account, or reset it by a link."),
    "second-factor-required": Kind(
        401,
        "The account has a second factor",
        "Send the six digits of the authenticator app, or a recovery code, as `code`.",
    ),
    "invalid-code": Kind(
        401,
        "The code is not valid",
        "Send the code that the authenticator app shows now, or another recovery code. Each works once: after one that "
        "has confirmed or signed in, wait for the next, up to 30 seconds.",
    ),
    "wrong-code": Kind(
        403,
        "The code is not valid",
        "Send the code that the authenticator app shows now, or another recovery code. Each works once: after one that "
        "was accepted, wait for the next, up to 30 seconds.",
    ),
    "second-factor-needed": Kind(
        403,
        "Administrators need a second factor",
        "Set one up with POST /api/users/second-factor, or add a passkey, and then refresh the session. If your account"
        " has one, sign in again with it.",
    ),
    "invalid-challenge": Kind(
        400, "The challenge is not valid", "It was used before, or has expired. Ask for new options and begin again."
    ),
    "invalid-passkey": Kind(
        401, "The passkey does not sign in", "Choose another passkey of this portal, or sign in with the password."
    ),
    "invalid-setup-token": Kind(
        400, "The setup has expired", "Begin again with POST /api/users/second-factor, and confirm it in ten minutes."
    ),
    "weak-password": Kind(422, "The password is easy to guess", "Choose another one; `detail` says why."),
    "invalid-refresh-token": Kind(401, "The refresh token is not valid", "Sign in again."),
    "refresh-token-reused": Kind(
        401, "The refresh token was used before", "It may be stolen, so its session is closed. Sign in again."
    ),
    "invalid-link": Kind(400, "The link is not valid", "It was used before, or has expired. Ask for a new one."),
    "invalid-ticket": Kind(
        401,
        "The ticket is not valid",
        "It has opened a stream, or has expired after 30 seconds. Get a new one with POST /api/stream/tickets.",
    ),
    "account-closed": Kind(403, "The account is suspended or deleted", "Contact support."),
    "invalid-signature": Kind(
        403,
        "The signature of the webhook is not valid",
        "Check the key of the provider in the settings, and the URL that the provider calls.",
    ),
    "forbidden": Kind(403, "You may not do this", "Sign in as the owner, or ask an administrator."),
    "not-found": Kind(404, "Not found", "Check the URL and the id. Resources of other users are not shown."),
    "method-not-allowed": Kind(405, "The method is not allowed for this URL", "Use a method listed in Allow."),
    "email-taken": Kind(409, "The e-mail address has an account", "Sign in instead."),
    "passkey-taken": Kind(409, "The passkey is registered already", "Use another authenticator."),
    "second-factor-on": Kind(409, "The account has a second factor", "Disable it before you set up another one."),
    "second-factor-off": Kind(
        409, "The account has no second factor", "Set one up with POST /api/users/second-factor."
    ),
    "export-running": Kind(409, "An export is being written", "Wait for the mail with the link of the last export."),
    "too-many-imports": Kind(
        409, "Three imports are not finished", "Wait for one, or cancel one with DELETE /api/imports/{id}."
    ),
    "import-finished": Kind(
        409,
        "The import is finished",
        "Send the file again to import it anew: what is listed already is not listed twice.",
    ),
    "unreadable-file": Kind(
        422, "The file cannot be read", "Send a CSV with a header, or one JSON object on each line, in UTF-8."
    ),
    "too-many-passkeys": Kind(409, "The account has 20 passkeys", "Remove one first."),
    "too-many-streams": Kind(409, "Too many streams are open", "Close one first."),
    "too-many-images": Kind(409, "The listing has 10 images", "Remove some first."),
    "too-many-documents": Kind(409, "The account has 200 documents", "Delete one first."),
    "too-many-saved-searches": Kind(409, "The account has 50 saved searches", "Delete one first."),
    "username-taken": Kind(409, "The username is taken", "Choose another."),
    "listing-closed": Kind(409, "The property is sold or rented", "Set its status to ACTIVE first."),
    "email-not-verified": Kind(
        409, "The e-mail address of the owner is not verified", "Verify it by the link in the mail, then send it again."
    ),
    "status-refused": Kind(409, "The status cannot be changed to this one", "Choose a status that `detail` lists."),
    "gone": Kind(410, "The listing was deleted", "Its events can still be read, at /history below its URL."),
    "version-conflict": Kind(
        412,
        "The resource has changed",
        "Read the resource again and repeat your change with its ETag in If-Match, and with a new Idempotency-Key.",
    ),
    "precondition-required": Kind(428, "If-Match is missing", 'Send the ETag that your change is based on, or "*".'),
    "rebuild-running": Kind(
        409,
        "The projection is being rebuilt",
        "Read how far it has come with GET at the URL in Location; to begin again, cancel it first with DELETE.",
    ),
    "rebuild-not-running": Kind(
        409, "The projection is not being rebuilt", "Start a rebuild with POST /api/projections/{name}/rebuild."
    ),
    "idempotency-key-reused": Kind(
        422, "The Idempotency-Key was used with another request", "Use a new key for a new command."
    ),
    "command-running": Kind(409, "The command is still running", "Read its state at the URL in Location."),
    "command-failed": Kind(409, "The command failed", "Send it again with a new Idempotency-Key."),
    "too-many-requests": Kind(429, "Too many requests", "Send it again after Retry-After seconds."),
    "internal": Kind(
        500, "Server error", "Try again later. If it fails again, report the time and the URL to support."
    ),
    "unavailable": Kind(503, "A part of the platform is unavailable", "Send it again after Retry-After seconds."),
}


CHALLENGE = 'Bearer realm="hyderabad-infra"'
"""`WWW-Authenticate` of every 401 (RFC 9110, section 15.5.2), also of a sign-in that fails, because it is about no
access token: it says what the API takes otherwise. Browsers ask for no password, as they do for `Basic`."""
REFUSED_TOKENS = frozenset({"invalid-token", "expired-token", "session-closed"})
"""The problems of an access token, whose challenge has an error code (RFC 6750, section 3.1)."""


class FieldError(Model):
    """An invalid field (`price`, `header.Idempotency-Key`, `query.limit`) and what to send instead."""

    field: str
    reason: str


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = Field(examples=["/problems/invalid-request"])
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()


class ApiError(Exception):
    """An error of the table `KINDS`."""

    def __init__(
        self,
        kind: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail or KINDS[kind].advice
        self.errors = errors
        self.headers = dict(headers or {})


def unavailable(what: str) -> ApiError:
    return ApiError(
        "unavailable",
        f"{what} is unavailable. Send the request again after Retry-After seconds.",
        headers={"Retry-After": "2"},
    )


def too_slow() -> ApiError:
    return ApiError(
        "unavailable",
        "The search takes too long. Ask for less, such as a smaller area, or a polygon with fewer vertices; or send it "
        "again after Retry-After seconds.",
        headers={"Retry-After": "5"},
    )


def document(error: ApiError, instance: str | None = None) -> dict[str, Any]:
    """The problem document of an error; `instance` is the path of the request."""
    kind = KINDS[error.kind]
    return {
        "type": f"/problems/{error.kind}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "instance": instance,
        "errors": [fault.model_dump() for fault in error.errors],
    }


def answer(error: ApiError, instance: str | None = None) -> Response:
    """The response of an error."""
    status, headers = KINDS[error.kind].status, error.headers
    if status == 401:
        headers = {"WWW-Authenticate": _challenge(error.kind), **headers}
    return Response(orjson.dumps(document(error, instance)), status, headers, MEDIA_TYPE)


def _challenge(kind: str) -> str:
    if kind not in REFUSED_TOKENS:
        return CHALLENGE
    return f'{CHALLENGE}, error="invalid_token", error_description="{KINDS[kind].title}"'


def example(kind: str) -> dict[str, Any]:
    """An example of a problem document."""
    faults = [FieldError(field="price", reason="Give a whole number, without quotes.")]
    return document(ApiError(kind, errors=faults if kind == "invalid-request" else ()), "/api/properties")


_MAX_FAULTS = 50
"""The most invalid fields of one answer: more than any body has fields."""
_WITHOUT_BODY = {"path": "In the URL,", "query": "The query parameter", "header": "The header"}
"""The beginning of the detail about a single fault outside of the body, by its place."""
_PLACES = {"body": "", "query": "query.", "path": "path.", "header": "header.", "cookie": "cookie."}


def _field(location: Sequence[Any]) -> str:
    # pydantic's `[key]` says that the name itself is not valid.
    place, *rest = [str(part) for part in location if part != "[key]"] or ["body"]
    return (_PLACES.get(place, "") + ".".join(rest)) or "body"


def _validation(error: RequestValidationError) -> ApiError:
    faults = error.errors()
    detail = None
    if len(faults) > _MAX_FAULTS:
        detail = f"Fix these fields and send the request again; {len(faults) - _MAX_FAULTS} more are not listed."
    elif len(faults) == 1 and faults[0]["loc"][0] in _WITHOUT_BODY:
        [fault] = faults
        place, *name = fault["loc"]
        # Of one value of a list, the last part is its number.
        detail = f"{_WITHOUT_BODY[place]} `{name[0] if name else place}` is not valid. {reason(fault)}"
    return ApiError(
        "invalid-request",
        detail,
        errors=[FieldError(field=_field(fault["loc"]), reason=reason(fault)) for fault in faults[:_MAX_FAULTS]],
    )


def _http(error: HTTPException, request: Request) -> ApiError:
    path = request.scope["path"]
    if error.status_code == 404:
        without = re.sub("/{2,}", "/", path).rstrip("/") or "/"
        if without != path and _methods(request, without):
            return ApiError("not-found", f"Remove the extra slash: the URL is {without}")
        return ApiError("not-found")
    if error.status_code == 405:
        allowed = sorted(_methods(request, path))
        detail = f"Use {' or '.join(allowed)}."
        return ApiError("method-not-allowed", detail, headers={"Allow": ", ".join(allowed)})
    if error.status_code == 400:
        # FastAPI cannot parse a body that RequestChecks could: it is nested too deeply for the rest of the stack.
        return ApiError("malformed-json", headers=error.headers)
    log.error("HTTP error that is not in the table of errors: %s", error)
    return ApiError("internal")


def _methods(request: Request, path: str) -> set[str]:
    """The methods of all routes at `path`; Starlette's own `Allow` has those of the first route only."""
    scope = {**request.scope, "path": path, "raw_path": path.encode()}
    found = {
        method
        for route in request.app.routes
        if route.matches(scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or {"GET"}
    }
    return found | ({"HEAD"} if "GET" in found else set())


def install(app: FastAPI) -> None:
    """Register handlers that answer the errors of routes; RequestChecks answers unexpected ones."""

    async def handle(request: Request, error: Exception) -> Response:
        path = request.url.path
        match error:
            case ApiError():
                return answer(error, path)
            case RequestValidationError():
                return answer(_validation(error), path)
            case HTTPException():
                return answer(_http(error, request), path)
            case DatabaseUnavailable():
                log.warning("Postgres is unavailable: %s", error)
                return answer(unavailable("The database"), path)
            case SearchTooSlow():
                log.warning("a search was cancelled: %s", error)
                return answer(too_slow(), path)
            case SearchUnavailable():
                log.warning("the search engine is unavailable: %s", error)
                return answer(unavailable("Search"), path)
        raise error

    for kind in (ApiError, RequestValidationError, HTTPException, DatabaseUnavailable, SearchUnavailable):
        app.add_exception_handler(kind, handle)


_HEADERS: dict[str, tuple[str, ...]] = {
    "command-running": ("Location", "Retry-After"),
    "method-not-allowed": ("Allow",),
    "rebuild-running": ("Location",),
    "too-many-requests": ("Retry-After",),
    "unavailable": ("Retry-After",),
}
"""Response headers of a problem; every 401 has WWW-Authenticate."""


def responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route's problems, each with its example and headers."""
    by_status: dict[int | str, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(KINDS[kind].status, []).append(kind)
    return {status: _response(int(status), names) for status, names in by_status.items()}


def _response(status: int, kinds: Sequence[str]) -> dict[str, Any]:
    headers = [header for kind in kinds for header in _HEADERS.get(kind, ())]
    headers += ["WWW-Authenticate"] if status == 401 else []
    described: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: " + "; ".join(KINDS[kind].title for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {kind: {"$ref": f"#/components/examples/{kind}"} for kind in kinds},
            }
        },
    }
    return described | ({"headers": header_references(*headers)} if headers else {})


def header_references(*names: str) -> dict[str, Any]:
    """OpenAPI references to response headers, which api/openapi.py describes."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
