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

from adapters.event_store import NotRenumbered, ensure_renumbered
from adapters.postgres import Database, DatabaseUnavailable
from adapters.settings import Settings

EVENTS_APPLIED = Counter("projection_events_applied", "Events that a projection has applied", ["projection"])
EVENTS_PARKED = Counter("projection_events_parked", "Events parked because they cannot be applied", ["projection"])
EVENTS_UNREADABLE = Counter(
    "events_unreadable", "Times a stored event was skipped because this release cannot read it", ["where"]
)
PROJECTION_LAG = Gauge(
    "projection_lag_messages",
    "Messages between the consumer position and the end of the partition",
    ["projection", "topic", "partition"],
)
PROJECTION_AGE = Gauge("projection_age_seconds", "Age of the newest applied event when it was applied", ["projection"])
PROJECTION_STOPPED = Gauge("projection_stopped", "1 while a projection is stopped by failures", ["projection"])
CONSUMERS_RECREATED = Counter("projection_consumers_recreated", "Consumers recreated after a stall", ["projection"])
COMMANDS = Counter("commands", "Commands by outcome", ["command", "outcome"])
COMMAND_SECONDS = Histogram(
    "command_acknowledgement_seconds",
    "Seconds from the request to the saved answer",
    ["command"],
    buckets=(0.01, 0.02, 0.03, 0.05, 0.08, 0.13, 0.2, 0.35, 0.6, 1, 2, 5),
)
DELIVERIES = Counter("deliveries", "Attempts to deliver a notice by channel and outcome", ["channel", "outcome"])
OBSERVATIONS = Counter("observations", "Observations by type and outcome", ["type", "outcome"])
DELIVERY_REPORTS = Counter("delivery_reports", "Reports of providers on deliveries", ["channel", "state"])
LIVE_STREAMS = Gauge("live_streams", "Open streams of live messages", ["transport"])
LIVE_MESSAGES = Counter("live_messages", "Live messages to clients by type", ["type"])
LIVE_STREAMS_ENDED = Counter("live_streams_ended", "Streams by the reason for which they ended", ["reason"])
REQUESTS = Counter("http_requests", "Requests by route and status", ["method", "route", "status"])

_PROBE_SECONDS = 1.0
"""Time limit of the query in a readiness probe; health checks time out after three seconds."""


class RateLimitFilter(logging.Filter):
    """Rate-limits one library's logging to one record per source line and interval.

    aiokafka repeats its errors while the broker is unavailable.
    """

    def __init__(self, library: str, seconds: float = 10.0) -> None:
        super().__init__()
        self._library = library
        self._seconds = seconds
        self._logged_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self._library):
            return True
        line, now = (record.pathname, record.lineno), record.created
        if now - self._logged_at.get(line, float("-inf")) < self._seconds:
            return False
        self._logged_at[line] = now
        return True


def set_up_logging(settings: Settings) -> None:
    """Log to standard error, one line per record, times in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    handler.addFilter(RateLimitFilter("aiokafka"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # These log every attempt; what an operator needs is logged by the caller.
    for library in ("aiokafka", "httpx", "botocore", "temporalio.activity"):
        logging.getLogger(library).setLevel(logging.ERROR)


def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _ServerWithoutSignalHandlers(uvicorn.Server):
    """A uvicorn server that installs no signal handlers: the process that runs it has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _not_renumbered(database: Database) -> list[str]:
    """What an operator must do about a restored event store; empty when nothing, or while Postgres is unavailable."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS), database.statements() as connection:
            await ensure_renumbered(connection)
    except NotRenumbered as error:
        return [str(error)]
    except (DatabaseUnavailable, TimeoutError):
        return []
    return []


def ops_server(settings: Settings, waiting_for: Callable[[], list[str]]) -> uvicorn.Server:
    """A server of /livez, /readyz and /metrics. `waiting_for` lists what the process still lacks; empty means ready.

    No process is ready on a restored event store that is not renumbered.
    """
    # A separate pool: a probe must not wait for a connection that the process is using.
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
    return _ServerWithoutSignalHandlers(config)
