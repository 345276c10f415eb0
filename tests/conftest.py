"""Fixtures: the engines, started once per session, and clients of them. Each test has its own tenant."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from activities.saving import CommandStore
from adapters import redis, temporal
from adapters.kafka import BrokerUnavailable, Message, Publisher
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.search import opensearch_index
from adapters.search.choice import search_engine
from adapters.search.engine import SearchEngine
from adapters.search.opensearch_index import OpenSearchIndex
from adapters.settings import Settings
from embedded import paths
from embedded.paths import Ports
from embedded.stack import EXTERNAL_URL, Stack
from projections.rebuild import RebuildRunning, rebuild
from projections.search import Search
from tests.activities.accounts import Saving
from tests.platform import Platform, until
from tests.samples import new_tenant

_TAIL = 60
"""Lines of each log in the report of a failure."""


class Logs:
    """The log output of the platform's processes during a test, for the report of its failure."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._at: dict[Path, int] = {}

    def start(self) -> None:
        """Remember the current size of each log."""
        self._at = {log: log.stat().st_size for log in self._all()}

    def since(self) -> Iterator[tuple[str, str]]:
        """Name and last lines of what each log gained since `start`."""
        for log in self._all():
            with log.open("rb") as lines:
                lines.seek(self._at.get(log, 0))
                grown = lines.read().decode(errors="replace").splitlines()[-_TAIL:]
            if grown:
                yield log.name, "\n".join(grown)

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob("*.log")) if self.folder else []


_LOGS = Logs()
_SLOWEST = Path(__file__).parent / "e2e"
_WITH_MANY_LISTINGS = ("test_imports.py", "test_real_imports.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "setup" and not report.failed:
        _LOGS.start()
    if report.failed:
        report.sections += [(f"log of {name}", lines) for name, lines in _LOGS.since()]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first: of two processes, neither then waits long for the last file of the other.

    Those that import thousands of listings come last: all others would read, replay and search them.
    """
    items.sort(key=lambda item: (item.path.name in _WITH_MANY_LISTINGS, not item.path.is_relative_to(_SLOWEST)))


# Engines of processes that start at the same moment would now and then choose the same free port: each has its own.
paths._PORT_RANGE = paths._PORT_RANGE[
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) :: int(
        os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    )
]

# How long an example takes depends on what else the machine does: the engines, and the other process of the tests.
hypothesis.settings.register_profile(
    "beside-engines", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("beside-engines")

# Tests use the embedded engines, not servers that the developer's environment names.
for name in EXTERNAL_URL.values():
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hyderabad-tests-"))
    # OpenSearch, which does not run as root, keeps its data elsewhere when it cannot enter the folder.
    folder.chmod(0o755)
    _LOGS.folder = folder / "logs"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def stack(data: Path) -> AsyncIterator[Stack]:
    """All engines; TEST_TEMPORAL=server chooses the production Temporal server, TEST_SEARCH=opensearch OpenSearch."""
    supervisor = data / "logs" / "supervisor.log"

    def say(line: str) -> None:
        with supervisor.open("a") as log:
            log.write(line + "\n")

    chosen = {name: os.environ.get(f"TEST_{name.upper()}") for name in ("temporal", "search")}
    stack = Stack(data, say, **{name: value for name, value in chosen.items() if value})
    try:
        await stack.start_engines()
        await stack.prepare()
        yield stack
    finally:
        await stack.stop()


@pytest.fixture(scope="session")
def settings(stack: Stack) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in stack.env.items()})


@pytest.fixture(scope="session")
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database.for_tenants(settings)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def all_tenants(settings: Settings) -> AsyncIterator[Database]:
    database = Database.for_all_tenants(settings)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def search_index(settings: Settings, all_tenants: Database) -> AsyncIterator[OpenSearchIndex | None]:
    """The index of the OpenSearch under test, with a generation that serves; None where Postgres is tested."""
    if settings.search_url is None:
        yield None
        return
    client = opensearch_index.connect(settings.search_url)
    index = OpenSearchIndex(client)
    # The projection of a running platform does the same.
    with suppress(RebuildRunning):
        await rebuild(all_tenants, Search(index), lambda _: None)
    yield index
    await client.close()


@pytest.fixture(scope="session")
async def engine(settings: Settings, search_index: OpenSearchIndex | None) -> AsyncIterator[SearchEngine]:
    """The search engine under test: Postgres, or OpenSearch by TEST_SEARCH=opensearch."""
    database = Database.for_searching(settings)
    engine = search_engine(settings, database)
    yield engine
    await engine.close()
    await database.close()


@pytest.fixture(scope="session")
def keyring(settings: Settings) -> Keyring:
    return Keyring(settings.secret_bytes)


@pytest.fixture(scope="session")
def store(database: Database, keyring: Keyring) -> CommandStore:
    """Without an outbox relay: enqueued mails stay in the outbox."""
    return CommandStore(database, keyring, lambda _: None)


@pytest.fixture(scope="session")
def saving(store: CommandStore, keyring: Keyring) -> Saving:
    return Saving(store, keyring)


class RetryingPublisher(Publisher):
    """Retries as workflows do.

    A wiped broker gives out the ids of producers from the beginning: a new producer may have the id of one that has
    been alive since before the wipe, and is then refused until it is replaced.
    """

    async def send(self, messages: Sequence[Message]) -> None:
        async def sent() -> bool:
            with suppress(BrokerUnavailable):
                await super(RetryingPublisher, self).send(messages)
                return True
            return False

        await until(sent)


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = RetryingPublisher(settings)
    yield publisher
    await publisher.close()


@pytest.fixture(scope="session")
async def valkey(settings: Settings) -> AsyncIterator[Redis]:
    client = redis.connect(settings)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
async def temporal_client(settings: Settings) -> Client:
    return await temporal.connect_when_up(settings)


@pytest.fixture
def tenant() -> str:
    return new_tenant()


@pytest.fixture(scope="session")
async def platform(stack: Stack) -> AsyncIterator[Platform]:
    """Workers, projections and API as processes, as `make run` starts them."""
    port = Ports(stack.data / "api-port.json")["api"]
    more = {
        "TENANT_HOSTS": '{"second.localhost": "second", "strict.localhost": "strict"}',
        "VERIFIED_EMAIL_TENANTS": "strict",
        "CORS_ORIGINS": "https://portal.example",
        "COMMANDS_PER_MINUTE": "100000",
        "REGISTRATIONS_PER_MINUTE": "100000",
        "LINKS_PER_MINUTE": "100000",
        "VIEWS_PER_MINUTE": "100000",
        "SEARCHES_PER_MINUTE": "100000",
        "SUGGESTIONS_PER_MINUTE": "100000",
        "LOGIN_ATTEMPTS_PER_MINUTE_PER_ADDRESS": "100000",
        "LOGIN_FAILURES_PER_ADDRESS": "100000",
        "RECONCILE_EVERY_SECONDS": "5",
        # Longer than a test takes that holds something back, also on a busy machine.
        "RECONCILE_AFTER_SECONDS": "10",
        "STALL_SECONDS": "5",
        # Reconcile starts the deliveries again every few seconds that tests leave behind.
        "EMAILS_PER_SECOND": "100000",
    }
    await stack.start_processes(port, more)
    platform = Platform(stack, f"http://127.0.0.1:{port}")
    yield platform
    await platform.close()
