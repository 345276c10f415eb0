"""The application: its parts, its routers, its documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from adapters import redis, temporal
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from api import auth, command_states, errors, history, operations, properties, users, views
from api.commands import Commands
from api.deps import Parts
from api.limits import Limits
from api.middleware import Doorkeeper
from api.observations import Observations
from api.opaque import Signer
from api.passwords import Passwords
from api.sessions import Sessions
from api.tokens import Tokens
from domain.activity import Activity
from domain.events import Event
from projections.history import HistoryPages

# In the order of their traffic, for they are asked in turn.
ROUTERS = {
    "history": history.router,
    "views": views.router,
    "properties": properties.router,
    "users": users.router,
    "auth": auth.router,
    "commands": command_states.router,
}
_DESCRIPTION = """Every change is a command: a durable workflow that stores an event and answers when it is saved.
Send an `Idempotency-Key` with a command and repeat it as often as you need; send its `Consistency-Token` with a read to
see what you wrote. Every error is an RFC 9457 problem whose `type` is a page that says what to do."""


def create_app(settings: Settings) -> FastAPI:
    """The API with the routers of `settings.api_services`. Raises ValueError for a service that there is none of."""
    unknown = set(settings.api_services) - ROUTERS.keys()
    if unknown:
        raise ValueError(f"API_SERVICES: there is no {', '.join(sorted(unknown))}; there are {', '.join(ROUTERS)}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts = await _parts(settings)
        app.state.parts = parts
        yield
        await parts.observations.close()
        parts.passwords.close()
        await parts.redis.aclose()
        await parts.database.close()

    app = FastAPI(
        title="Hyderabad Infra",
        version="0.1.0",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nobody here sets OpenTelemetry up, and looking for it took 6 % of the time of a history page.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(Doorkeeper, max_body_bytes=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Command-Id", "Consistency-Token", "ETag", "Location", "Retry-After"],
        )
    errors.install(app)
    for name, router in ROUTERS.items():
        if not settings.api_services or name in settings.api_services:
            # Taken over rather than included: FastAPI matches an included router's address twice.
            app.router.routes.extend(router.routes)
    app.router.routes.extend(operations.router.routes)
    operations.install_docs(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _parts(settings: Settings) -> Parts:
    database, client = Database.for_tenants(settings), redis.connect(settings)
    keyring, signer, passwords = Keyring(settings.secret_bytes), Signer(settings.secret_bytes), Passwords()
    workflows = await temporal.connect(settings)
    return Parts(
        settings=settings,
        database=database,
        redis=client,
        temporal=workflows,
        commands=Commands(workflows, database, keyring, signer, settings),
        signer=signer,
        tokens=Tokens(settings.jwt_private_pem),
        passwords=passwords,
        sessions=Sessions(database, passwords),
        limits=Limits(client),
        histories=HistoryPages(database, client, settings.consistency_wait_seconds),
        observations=Observations(workflows, database, client, settings),
    )


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with our problems in place of its own, and the pages that we write as bytes."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "accessToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "accessToken of register, login or refresh",
        }
    }
    for path in document["paths"].values():
        for operation in path.values():
            if "401" in operation["responses"] and operation["tags"] != ["auth"]:
                operation["security"] = [{"accessToken": []}]
            found = operation["responses"].get("422", {}).get("content", {})
            if found.pop("application/json", None) and not found:
                del operation["responses"]["422"]  # a route whose parameters take every text
    reference = "#/components/schemas/{model}"
    for model in (errors.Problem, Event, Activity):
        schema = model.model_json_schema(ref_template=reference)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    entry = schemas.pop("Activity")
    del entry["properties"]["tenantId"]
    entry["required"].remove("tenantId")
    schemas["HistoryEntry"] = {**entry, "title": "HistoryEntry"}
    schemas["HistoryPage"] = _page("HistoryEntry")
    schemas["EventPage"] = _page("Event")
    app.openapi_schema = document
    return document


def _page(item: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["items", "nextCursor"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}},
            "nextCursor": {"type": ["string", "null"]},
        },
    }
