"""Routes for operators and documentation: /livez, /readyz, /metrics, /problems and /docs."""

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from adapters.event_store import NotRenumbered, ensure_renumbered
from adapters.postgres import Database
from adapters.search.engine import IndexMissing
from adapters.telemetry import metrics
from adapters.temporal import NotPrepared, ensure_prepared
from api import pages
from api.deps import Parts, PartsDep
from api.errors import KINDS, ApiError, Problem, example, responses
from domain.model import Model

router = APIRouter(tags=["operations"])

_PROBE_SECONDS = 2.0
_INDEXING = "indexing the listings"
"""State of an OpenSearch that was reached and does not answer searches yet."""


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process is alive: its event loop answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Starting: a dependency was not reached yet"}})
async def readyz(parts: PartsDep, response: Response) -> dict[str, Any]:
    """The state of each dependency.

    503 until every dependency was reached once, then always 200: without one of them most routes still work, so no
    replica should be taken out of service; `status` is `degraded` then. `eventStore` reports a database that was
    restored from a dump and needs its events renumbered, `temporal` a missing namespace or search attribute,
    `opensearch`, where one answers searches, that the listings are being indexed,
    `closedSessions` that this process does not know which access tokens to refuse.
    """
    states = await _states(parts)
    parts.reached.update(name for name, state in states.items() if state in ("reached", _INDEXING))
    if parts.reached != states.keys():
        response.status_code = 503
        return {"status": "starting", "dependencies": states}
    degraded = any(state != "reached" for state in states.values())
    return {"status": "degraded" if degraded else "ready", "dependencies": states}


async def _states(parts: Parts) -> dict[str, str]:
    probes: dict[str, Awaitable[Any]] = {
        "postgres": parts.database.ping(),
        "eventStore": _ensure_order(parts.database),
        "redis": parts.redis.ping(),
        "temporal": ensure_prepared(parts.temporal),
    }
    if parts.settings.search_url:
        probes["opensearch"] = parts.search.ping()
    results = await asyncio.gather(
        *(asyncio.wait_for(probe, _PROBE_SECONDS) for probe in probes.values()), return_exceptions=True
    )
    states = {name: _state(result) for name, result in zip(probes, results, strict=True)}
    return {**states, "closedSessions": "reached" if parts.revocations.is_current else "unavailable (not read)"}


async def _ensure_order(database: Database) -> None:
    async with database.statements() as connection:
        await ensure_renumbered(connection)


def _state(result: object) -> str:
    if result is None or result is True:
        return "reached"
    if isinstance(result, IndexMissing):
        return _INDEXING
    return str(result) if isinstance(result, (NotRenumbered, NotPrepared)) else f"unavailable ({type(result).__name__})"


router.get(
    "/metrics",
    response_class=PlainTextResponse,
    description="Metrics in the text format of Prometheus.",
)(metrics)


class ProblemKind(Model):
    """The meaning of a problem's `type`, what to do about it, and an example."""

    type: str
    title: str
    status: int
    advice: str
    example: Problem


class ProblemLink(Model):
    """A kind of problem, and the URL of its page."""

    type: str
    title: str
    status: int


class ProblemList(Model):
    """Every kind of problem."""

    items: list[ProblemLink]


@router.get("/problems", response_model=ProblemList)
async def problems(request: Request) -> Response:
    """Every `type` of a problem, as JSON or, for browsers, as HTML."""
    items = [{"type": f"/problems/{kind}", "title": row.title, "status": row.status} for kind, row in KINDS.items()]
    content = pages.links({f"{item['status']} {item['title']}": str(item["type"]) for item in items})
    return pages.answer(request, {"items": items}, "Problems", content)


@router.get("/problems/{kind}", response_model=ProblemKind, responses=responses("not-found"))
async def problem(kind: str, request: Request) -> Response:
    """The meaning of a problem's `type` and what to do about it, as JSON or, for browsers, as HTML."""
    if kind not in KINDS:
        raise ApiError("not-found", f"There is no such problem type. Choose one of {', '.join(KINDS)}.")
    row, shown = KINDS[kind], example(kind)
    value = {"type": f"/problems/{kind}", **vars(row), "example": shown}
    content = [
        pages.paragraph(f"Status {row.status} {HTTPStatus(row.status).phrase}. {row.advice}"),
        pages.paragraph("Example of a response, with the Content-Type application/problem+json (RFC 9457):"),
        pages.sample(shown),
        pages.links({"All problems": "/problems", "Documentation of the API": "/docs"}),
    ]
    return pages.answer(request, value, row.title, "".join(content))


@router.get("/", include_in_schema=False)
@router.get("/api", include_in_schema=False)
async def home(request: Request) -> Response:
    """Links to the documentation."""
    links = {
        "Documentation": "/docs",
        "OpenAPI document": "/openapi.json",
        "Problems": "/problems",
        "Health": "/readyz",
    }
    value = {"name": "Hyderabad Infra", "documentation": "/docs", "openapi": "/openapi.json", "health": "/readyz"}
    return pages.answer(request, value, "Hyderabad Infra", pages.links(links))


def install_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /docs from local files, so that it works without the internet."""
    app.mount("/static/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            swagger_js_url="/static/swagger/swagger-ui-bundle.js",
            swagger_css_url="/static/swagger/swagger-ui.css",
            swagger_favicon_url="/static/swagger/favicon.png",
        )
