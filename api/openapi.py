"""The OpenAPI document: arguments for the decorators of routes, and what all operations have in common."""

import json
from typing import Any, Literal
from uuid import UUID

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from api.errors import KINDS, MEDIA_TYPE, Problem, example, header_references, responses
from api.examples import BODIES, RESPONSES
from api.import_models import ImportRequest
from api.middleware import MEDIA_TYPES
from domain.activity import Activity
from domain.events import Event
from domain.model import Model

DESCRIPTION = """Every change is a command: a durable workflow that stores an event and answers when it is saved.
Send an `Idempotency-Key` with a command and repeat it as often as you need; send its `Consistency-Token` with a read
to see what you wrote. Every error is an RFC 9457 problem; its `type` is the path of a page that says what to do.
`HEAD` works wherever `GET` does."""

CONTACT = {
    "name": "Hyderabad Infra",
    "url": "https://hyderabad-infra.example",
    "email": "api@hyderabad-infra.example",
}

_TAGS = {
    "auth": "Accounts and sessions: register, sign in, renew and end a session, and the public key of access tokens.",
    "commands": "The state of a command, with a link to its trace.",
    "files": "Pictures of listings and documents: uploading them, through the API or straight to the object storage, "
    "and reading them.",
    "history": "The activities of a user, newest first.",
    "imports": "Imports of files with listings: CSV and JSON Lines.",
    "notifications": "What the caller is notified of: the inbox, preferences, and the link in mails that unsubscribes.",
    "operations": "For operators and tools: health, metrics, and the meaning of each problem.",
    "passkeys": "Passkeys (WebAuthn): those of the caller, and sign-in without a password.",
    "push": "The caller's browsers, to which notices are pushed (Web Push).",
    "properties": "Listings: create, edit and delete them, change their status, feature and verify them; favourites, "
    "views, lists, and the events of a listing.",
    "projections": "The read models, for administrators: how far each is behind, rebuilds, and events that could not "
    "be applied.",
    "saved-searches": "The caller's saved searches, whose matches are mailed.",
    "second-factor": "The second factor of the caller: codes of an authenticator app, and recovery codes.",
    "search": "Search of the active listings: filters, text, a point, a box or a polygon on the map; the searches of "
    "the caller.",
    "stream": "Live updates: what happens to the caller, and to watched listings.",
    "users": "The account of the caller; for administrators, the accounts of the tenant.",
}

_HEADERS: dict[str, dict[str, Any]] = {
    "Allow": {"description": "The methods that the URL allows", "schema": {"type": "string"}},
    "Command-Id": {
        "description": "The id of the command; its state is at /api/commands/{id}",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    },
    "Consistency-Token": {
        "description": "Send it with a read to see what this command wrote",
        "required": True,
        "schema": {"type": "string", "maxLength": 200},
    },
    "ETag": {
        "description": "The version of the resource, for If-Match. Counts change without it",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Idempotency-Replayed": {
        "description": "Present when the response repeats that of an earlier request with the same Idempotency-Key",
        "schema": {"type": "string", "const": "true"},
    },
    "Location": {
        "description": "The URL of the resource, or of the state of the command",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "RateLimit": {
        "description": "Of each limit that has counted the request: `r`, what is left, and `t`, the seconds until it is"
        " restored (draft-ietf-httpapi-ratelimit-headers)",
        "schema": {"type": "string"},
        "example": '"commands";r=599;t=60',
    },
    "RateLimit-Policy": {
        "description": "Of each limit that has counted the request: `q`, the requests or failures that it allows"
        " in `w` seconds",
        "schema": {"type": "string"},
        "example": '"commands";q=600;w=60',
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme; about an access token also what is wrong with it (RFC 6750)",
        "schema": {"type": "string"},
        "example": 'Bearer realm="hyderabad-infra", error="invalid_token",'
        ' error_description="The access token has expired"',
    },
}

LIMITED = ("unauthenticated", "invalid-token", "expired-token", "session-closed")
"""The problems of a route that a token is good for which is limited to setting up a second factor."""
SIGNED_IN = (*LIMITED, "second-factor-needed")
_MAYBE_SIGNED_IN = SIGNED_IN[1:]
_COMMAND = (
    "invalid-request",
    "invalid-idempotency-key",
    "idempotency-key-reused",
    "command-running",
    "command-failed",
    "too-many-requests",
    "unavailable",
)
CHANGE = (
    "account-closed",
    "forbidden",
    "not-found",
    "invalid-if-match",
    "precondition-required",
    "version-conflict",
)
"""The problems of a command on an existing resource, which requires `If-Match`."""
_OF_EVERY_REQUEST = ("malformed-request", "repeated-header")
_OF_A_BODY = (
    "malformed-json",
    "duplicate-name",
    "unsupported-media-type",
    "unsupported-content-encoding",
    "body-too-large",
)
"""The problems of the methods whose body is read, also by routes that need none."""
_SHARED = {"uri-too-long": "UriTooLong", "headers-too-large": "HeadersTooLarge", "internal": "ServerError"}
"""The only problems of their statuses, which every operation has, with the names of their shared responses."""

SignedIn = Literal["required", "limited", "optional", "no"]
_CALLER: dict[SignedIn, tuple[str, ...]] = {
    "required": SIGNED_IN,
    "limited": LIMITED,
    "optional": _MAYBE_SIGNED_IN,
    "no": (),
}


class AcceptedCommand(Model):
    """A command that is durable, and was not saved within the time that the API waits."""

    command_id: UUID
    status: Literal["RUNNING"]
    location: str
    """The URL of its state."""


def command(
    status: Literal[200, 201, 202, 204],
    model: type[Model] | None,
    *problems: str,
    signed_in: SignedIn = "required",
) -> dict[str, Any]:
    """Decorator arguments for the route of a command: `@router.post("", **command(201, Property, "account-closed"))`.

    The response has `status` and a `model` as its body, or none with 204. `problems` are those of this command; the
    problems of all commands, the response 202 and the headers are added. A command with `status` 202 and `model`
    AcceptedCommand goes on after it is saved, and is answered so in any case.
    """
    headers = ["Command-Id", "Consistency-Token", "Idempotency-Replayed"]
    headers += ["ETag"] if model else []
    headers += ["Location"] if status == 201 else []
    accepted = {
        "model": AcceptedCommand,
        "description": "The command is durable but not saved yet; Location is the URL of its state",
        "headers": header_references("Command-Id", "Location", "Retry-After"),
    }
    return {
        "status_code": status,
        "response_model": model,
        **({} if model else {"response_class": Response}),
        "responses": {
            status: {"headers": header_references(*headers)},
            202: accepted if status != 202 else accepted | {"description": "The command is durable, and goes on"},
            **responses(*_CALLER[signed_in], *_COMMAND, *problems),
        },
    }


def query(
    model: type[Model] | str, *problems: str, signed_in: SignedIn = "required", etag: bool = False
) -> dict[str, Any]:
    """Decorator arguments for the route of a query: `@router.get("/{id}", **query(Property, "not-found", etag=True))`.

    The body is a `model`, or the page schema of this name (`_add_schemas`); with `etag` the response may be 304.
    """
    ok: dict[str, Any] = {"headers": header_references("ETag")} if etag else {}
    if isinstance(model, str):
        schema = {"$ref": f"#/components/schemas/{model}"}
        ok |= {"description": "One page of the list", "content": {"application/json": {"schema": schema}}}
    unchanged: dict[int | str, dict[str, Any]] = {
        304: {"description": "If-None-Match is *", "headers": header_references("ETag")}
    }
    return {
        **({} if isinstance(model, str) else {"response_model": model}),
        "responses": {
            200: ok,
            **(unchanged if etag else {}),
            **responses(*_CALLER[signed_in], "unavailable", *problems),
        },
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`: FastAPI's, with this API's problems, operation ids and page schemas."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        servers=[{"url": "/", "description": "The host that serves this document"}],
        contact=CONTACT,
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    )
    made["info"]["license"].pop("url", None)
    components = made.setdefault("components", {})
    components["responses"] = {name: responses(kind)[KINDS[kind].status] for kind, name in _SHARED.items()}
    components["securitySchemes"] = {
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "accessToken of register, login or refresh; it expires after 15 minutes",
        }
    }
    _add_schemas(components.setdefault("schemas", {}))
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = made["paths"][route.path_format][method.lower()]
                operation["operationId"] = to_camel(route.name)
                _finish(operation, method, route.path)
    _add_used(components, json.dumps(made))
    tags = {tag for path in made["paths"].values() for operation in path.values() for tag in operation["tags"]}
    made["tags"] = [{"name": tag, "description": _TAGS[tag]} for tag in sorted(tags)]
    app.openapi_schema = made
    return made


def _finish(operation: dict[str, Any], method: str, path: str) -> None:
    """Add security, examples, the media types of the body, and the problems of every operation."""
    answers = operation["responses"]
    kinds = _problems(answers)
    token: dict[str, list[str]] = {"accessToken": []}
    if "unauthenticated" in kinds:
        operation["security"] = [token]
    else:
        operation["security"] = [{}, token] if "invalid-token" in kinds else []
    if answers.get("422", {}).get("content", {}).keys() == {"application/json"}:
        del answers["422"]  # FastAPI's, of a route without constraints on its parameters
    kinds += [*_OF_EVERY_REQUEST, *(_OF_A_BODY if method in MEDIA_TYPES else ())]
    kinds += ["invalid-request"] if path.startswith("/api/") else []  # for an unknown query parameter at least
    answers |= {str(status): described for status, described in responses(*kinds).items()}
    if "too-many-requests" in kinds:
        for described in answers.values():
            described["headers"] = {
                **described.get("headers", {}),
                **header_references("RateLimit", "RateLimit-Policy"),
            }
    for kind, name in _SHARED.items():
        answers[str(KINDS[kind].status)] = {"$ref": f"#/components/responses/{name}"}
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    for status in filter(lambda status: status.startswith("2"), answers):
        for media in answers[status].get("content", {}).values():
            media["schema"].pop("title", None)  # made up by FastAPI; generated types would get this name
            media["example"] = RESPONSES[_model(media) or operation["operationId"]]
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        media = operation["requestBody"]["content"]["application/json"]
        media["schema"] = _without_null(media["schema"])
        described = {**media, "example": BODIES[_model(media)]} if _model(media) in BODIES else media
        content = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = content | dict.fromkeys(sorted(MEDIA_TYPES[method]), described)


def _problems(answers: dict[str, Any]) -> list[str]:
    """The kinds of the problems that a route documents."""
    return [
        kind
        for answer in answers.values()
        for kind in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", ())
    ]


def _model(media: dict[str, Any]) -> str:
    """The name of the model in a body; empty if it has none."""
    return str(media["schema"].get("$ref", "")).rpartition("/")[2]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter without null: an optional parameter may be absent, but not null."""
    given = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "title"}}
    return {**given[0], **rest} if len(given) == 1 else {key: value for key, value in schema.items() if key != "title"}


def _add_used(components: dict[str, Any], text: str) -> None:
    """Add the header and example components that the document `text` refers to."""
    components["headers"] = {
        name: header for name, header in _HEADERS.items() if f'"#/components/headers/{name}"' in text
    }
    components["examples"] = {
        kind: {"summary": row.title, "description": row.advice, "value": example(kind)}
        for kind, row in KINDS.items()
        if f'"#/components/examples/{kind}"' in text
    }


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Add the schemas of problems, and of pages whose routes return bytes."""
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (Problem, Event, Activity, ImportRequest):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    entry = schemas.pop("Activity")
    del entry["properties"]["tenantId"]
    entry["required"].remove("tenantId")
    schemas["HistoryEntry"] = {**entry, "title": "HistoryEntry"}
    schemas["HistoryPage"] = _page("HistoryEntry")
    schemas["EventPage"] = _page("Event")


def _page(item: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "nextCursor"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}},
            "nextCursor": {"type": ["string", "null"]},
        },
    }
