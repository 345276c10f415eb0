"""Logs, metrics and the HTTP server (/livez, /readyz, /metrics) of a process without an API of its own."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from adapters.event_store import NotRenumbered, ensure_order
from adapters.postgres import Database, DatabaseUnavailable
from adapters.settings import Settings

EVENTS_APPLIED = Counter("projection_events_applied", "Events that a projection has in its sink", ["projection"])
EVENTS_PARKED = Counter("projection_events_parked", "Events set aside because they cannot be applied", ["projection"])
EVENTS_UNREADABLE = Counter(
    "events_unreadable", "Stored events that this release cannot read, each time one is skipped", ["where"]
)
PROJECTION_LAG = Gauge("projection_lag_messages", "Messages behind the newest", ["projection", "topic", "partition"])
PROJECTION_AGE = Gauge("projection_age_seconds", "Age of the newest applied event when it was applied", ["projection"])
PROJECTION_STOPPED = Gauge("projection_stopped", "1 while a projection waits, for most events failed", ["projection"])
CONSUMERS_RECREATED = Counter("projection_consumers_recreated", "Consumers replaced after a stall", ["projection"])
COMMANDS = Counter("commands", "Commands by outcome", ["command", "outcome"])
COMMAND_SECONDS = Histogram(
    "command_acknowledgement_seconds",
    "From request to saved answer",
    ["command"],
    buckets=(0.01, 0.02, 0.03, 0.05, 0.08, 0.13, 0.2, 0.35, 0.6, 1, 2, 5),
)
OBSERVATIONS = Counter("observations", "Observations by type and whether the API saw them saved", ["type", "outcome"])
REQUESTS = Counter("http_requests", "Requests by route and status", ["method", "route", "status"])

_PROBE_SECONDS = 1.0
"""Health checks wait three seconds for an answer."""


class NotAgain(logging.Filter):
    """Lets each line of one library's code speak every ten seconds: it repeats itself while a broker is unavailable."""

    def __init__(self, library: str, seconds: float = 10.0) -> None:
        super().__init__()
        self._library = library
        self._seconds = seconds
        self._said_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self._library):
            return True
        line, now = (record.pathname, record.lineno), record.created
        if now - self._said_at.get(line, float("-inf")) < self._seconds:
            return False
        self._said_at[line] = now
        return True


def set_up_logging(settings: Settings) -> None:
    """One line for each happening on standard error, with time in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    handler.addFilter(NotAgain("aiokafka"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # Libraries that tell every attempt; what matters of it we say ourselves.
    for chatty in ("aiokafka", "httpx", "botocore", "temporalio.activity"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Unattended(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process it is part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _not_renumbered(database: Database) -> list[str]:
    """What is to be done about a restored event store; empty also while Postgres cannot be asked."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS), database.statements() as connection:
            await ensure_order(connection)
    except NotRenumbered as error:
        return [str(error)]
    except (DatabaseUnavailable, TimeoutError):
        return []
    return []


def ops_server(settings: Settings, waiting_for: Callable[[], list[str]]) -> uvicorn.Server:
    """Serves /livez, /readyz and /metrics. `waiting_for` names what the process still misses; empty means ready.

    No process is ready on a restored event store that was not renumbered.
    """
    # A connection of its own: a probe does not wait for one that the work of the process holds.
    database = Database.for_all_tenants(settings.model_copy(update={"database_pool_size": 1}))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, object]:
        missing = [*waiting_for(), *await _not_renumbered(database)]
        response.status_code = 503 if missing else 200
        return {"status": "waiting" if missing else "ready", "waitingFor": missing}

    app.get("/metrics")(metrics)
    config = uvicorn.Config(app, host=settings.host, port=settings.ops_port, log_level="warning", access_log=False)
    return _Unattended(config)
