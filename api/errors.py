"""THE table from error to HTTP, and the handlers that answer every error as an RFC 9457 problem document."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException

from adapters.postgres import DatabaseAway
from domain.model import Model

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of error: its status, its title, and what whoever meets it can do."""

    status: int
    title: str
    advice: str


KINDS: dict[str, Kind] = {
    "invalid-request": Kind(
        422, "The request is not valid", "Fix the fields listed in errors and send the request again."
    ),
    "malformed-json": Kind(400, "The body is not JSON", "Send one JSON document in UTF-8."),
    "unsupported-media-type": Kind(415, "The body has a type that is not taken here", "Send application/json."),
    "body-too-large": Kind(413, "The body is too large", "Send a smaller body."),
    "invalid-cursor": Kind(400, "The cursor is not one of ours", "Take nextCursor from a page of this very list."),
    "invalid-consistency-token": Kind(
        400, "The Consistency-Token is not one of ours", "Send the header of an earlier answer as it came, or none."
    ),
    "invalid-idempotency-key": Kind(
        400, "The Idempotency-Key is not usable", "Send 1 to 255 printable ASCII characters, such as a UUID."
    ),
    "unauthenticated": Kind(401, "Sign in first", "Send `Authorization: Bearer <accessToken>`."),
    "invalid-token": Kind(401, "The access token is not valid", "Sign in again."),
    "expired-token": Kind(401, "The access token has expired", "Use the refresh token, or sign in again."),
    "invalid-credentials": Kind(401, "Wrong name or password", "Check both and try again."),
    "invalid-refresh-token": Kind(401, "The refresh token is not valid", "Sign in again."),
    "refresh-token-reused": Kind(
        401, "The refresh token was used before", "Somebody else may have it: all its sessions are closed. Sign in."
    ),
    "account-closed": Kind(403, "The account is suspended or deleted", "Ask support."),
    "forbidden": Kind(403, "You may not do this", "Ask somebody with the right role."),
    "not-found": Kind(404, "There is no such thing", "Check the address; it may exist and not be yours."),
    "method-not-allowed": Kind(405, "This address does not take this method", "See /docs."),
    "email-taken": Kind(409, "The e-mail address has an account", "Sign in instead."),
    "username-taken": Kind(409, "The username is taken", "Choose another."),
    "listing-closed": Kind(409, "The property is sold or rented", "Set its status to ACTIVE first."),
    "status-refused": Kind(409, "The status may not follow the present one", "Choose one that `detail` names."),
    "gone": Kind(410, "The listing was deleted", "Its events are at /api/properties/{id}/history."),
    "version-conflict": Kind(412, "It has changed since", "Read it again and repeat your change with its new ETag."),
    "precondition-required": Kind(428, "If-Match is missing", 'Send the ETag that your change is based on, or "*".'),
    "idempotency-key-reused": Kind(
        422, "The Idempotency-Key was used with another body", "Use a new key for a new command."
    ),
    "command-running": Kind(409, "The command is still running", "Ask its Location for its state."),
    "command-failed": Kind(409, "The command failed", "Send it again with a new Idempotency-Key."),
    "too-many-requests": Kind(429, "Too many requests", "Wait as long as Retry-After says."),
    "internal": Kind(500, "Server error", "Try again later; tell support the time and the address."),
    "unavailable": Kind(503, "A part of the platform is unavailable", "Try again after Retry-After seconds."),
}


class FieldError(Model):
    """One thing to fix: where it is (`price`, `header.Idempotency-Key`, `query.limit`) and why it is refused."""

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
    """An error of the table above."""

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


def away(what: str) -> ApiError:
    return ApiError(
        "unavailable", f"{what} cannot be reached. Nothing was lost; try again.", headers={"Retry-After": "2"}
    )


def answer(error: ApiError, instance: str | None = None) -> Response:
    """The problem document of an error."""
    kind = KINDS[error.kind]
    document: dict[str, Any] = {
        "type": f"/problems/{error.kind}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "instance": instance,
        "errors": [fault.model_dump() for fault in error.errors],
    }
    headers = error.headers
    if kind.status == 401:
        headers = {"WWW-Authenticate": 'Bearer realm="hyderabad-infra"', **headers}
    return Response(orjson.dumps(document), kind.status, headers, MEDIA_TYPE)


_PLACES = {"body": "", "query": "query.", "path": "path.", "header": "header.", "cookie": "cookie."}


def _field(location: Sequence[Any]) -> str:
    place, *rest = [str(part) for part in location] or ["body"]
    return (_PLACES.get(place, "") + ".".join(rest)) or "body"


def _validation(error: RequestValidationError) -> ApiError:
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return ApiError("malformed-json", f"{faults[0]['msg']} at {_field(faults[0]['loc'][1:])}")
    # The input itself is not repeated: it may be a password.
    return ApiError(
        "invalid-request", errors=[FieldError(field=_field(fault["loc"]), reason=fault["msg"]) for fault in faults]
    )


def _http(error: HTTPException) -> ApiError:
    kinds = {400: "malformed-json", 404: "not-found", 405: "method-not-allowed", 401: "unauthenticated"}
    if error.status_code in kinds:
        return ApiError(kinds[error.status_code], headers=error.headers)
    log.error("an HTTP error without a row in the table: %s", error)
    return ApiError("internal")


def install(app: FastAPI) -> None:
    """Answer every error of `app` by the table."""

    async def handle(request: Request, error: Exception) -> Response:
        path = request.url.path
        match error:
            case ApiError():
                return answer(error, path)
            case RequestValidationError():
                return answer(_validation(error), path)
            case HTTPException():
                return answer(_http(error), path)
            case DatabaseAway():
                log.warning("Postgres is away: %s", error)
                return answer(away("The database"), path)
        log.error("unforeseen at %s %s", request.method, path, exc_info=error)
        return answer(ApiError("internal"), path)

    for kind in (ApiError, RequestValidationError, HTTPException, DatabaseAway, Exception):
        app.add_exception_handler(kind, handle)


def responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer, for OpenAPI."""
    by_status: dict[int | str, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(KINDS[kind].status, []).append(kind)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": f"{HTTPStatus(int(status)).phrase}: " + "; ".join(KINDS[kind].title for kind in names),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status, names in by_status.items()
    }
