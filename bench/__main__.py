"""`make bench`: measure, each figure beside its baseline from the same run; prints a table and writes bench.json."""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import uvloop
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from adapters import kafka, redis, temporal
from adapters.kafka import activity_json
from adapters.postgres import Database
from adapters.settings import Settings
from bench import images, imports, reading, rebuilds, search, streams
from bench.empty import QUEUE, EmptyStepsWorkflow, EmptyWorkflow
from bench.histories import long_history
from bench.load import Connection, Latencies, Work, concurrent, interleaved, request, sequential
from demo.listings import synthetic
from domain.activity import Activity
from domain.events import USER_ACTIVITY
from embedded.engines import http_ready
from embedded.paths import ROOT
from embedded.process import PrintLine, Process, Spec
from embedded.stack import Stack
from projections.history import History
from projections.runner import Runner

_LISTING = orjson.dumps(next(synthetic(1)))


_VIEW_CONCURRENCY = 256
"""Concurrent requests, of views and of their baseline: more than a batch, so that the next one fills."""
MEASUREMENTS = (
    "acknowledgement",
    "throughput",
    "visibility",
    "history",
    "histories",
    "views",
    "enumeration",
    "streams",
    "reading",
    "search",
    "images",
    "import",
    "projection",
    "rebuild",
)
"""In order: `projection` and `rebuild` are last, because they stop the platform's projections."""
_ACCOUNTS, _ROUNDS = 25, 4
"""Of the comparison of names with and without an account: one account may ask for five links an hour."""
_SIGN_OUTS = 40
"""Each of another person: their streams end one after the other."""
_IDLE_PAUSE = 0.1
"""Seconds between commands when idle: long enough for publishing and mail of the previous one to be done."""


class Bench:
    """Measures the platform and its baselines as one registered user."""

    def __init__(self, stack: Stack, settings: Settings, client: Client, seconds: float, print_line: PrintLine) -> None:
        self._stack = stack
        self._settings = settings
        self._temporal = client
        self._seconds = seconds
        self._api = f"http://127.0.0.1:{stack.ports['api']}"
        self._user = self._token = ""
        self._networks = itertools.count(1)
        self._print_line = print_line
        self.rows: list[dict[str, object]] = []

    def row(self, name: str, value: float, unit: str, baseline: float | str) -> None:
        """Add a row; the baseline is a text where it could not be measured."""
        row: dict[str, object] = {"name": name, "value": _shown(value), "unit": unit}
        if isinstance(baseline, str):
            self.rows.append({**row, "baseline": baseline, "ratio": None})
            self._print_line(f"  {name}: {_shown(value)} {unit}, {baseline}")
            return
        ratio = round(value / baseline, 2)
        self.rows.append({**row, "baseline": _shown(baseline), "ratio": ratio})
        self._print_line(f"  {name}: {_shown(value)} {unit}, baseline {_shown(baseline)}, {ratio} of it")

    async def sign_up(self, name: str) -> tuple[str, str]:
        """Register; returns the access and the refresh token."""
        body = {
            "username": name,
            "email": f"{name}@example.com",
            "password": uuid4().hex,
            "firstName": "B",
            "lastName": "M",
        }
        async with httpx.AsyncClient(base_url=self._api, trust_env=False, timeout=30) as http:
            answer = (await http.post("/api/auth/register", json=body)).raise_for_status().json()
        self._user, self._token = answer["user"]["id"], answer["accessToken"]
        return answer["accessToken"], answer["refreshToken"]

    def creating(self) -> Work:
        """Create a property over HTTP."""
        connection = Connection(self._api)
        sent = request("POST", "/api/properties", {"Authorization": f"Bearer {self._token}"}, _LISTING)

        async def create() -> bytes:
            status, _, body = await connection.send(sent)
            if status != 201:
                raise SystemExit(f"creating answered {status}: {body!r}")
            return body

        return create

    def empty(self, definition: type[EmptyWorkflow | EmptyStepsWorkflow] = EmptyWorkflow) -> Work:
        """Run an empty workflow through the client library."""

        async def start() -> None:
            operation = WithStartWorkflowOperation(
                definition.run,
                "command",
                id=f"empty/{uuid4()}",
                task_queue=QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            )
            await self._temporal.execute_update_with_start_workflow(
                definition.saved, start_workflow_operation=operation, id="saved"
            )

        return start

    async def acknowledgement(self) -> None:
        await sequential(self.creating(), 20)
        await sequential(self.empty(), 20)
        platform, bare = Latencies([]), Latencies([])
        for _ in range(3):
            platform = Latencies(
                sorted([*platform.sorted, *(await sequential(self.creating(), 60, _IDLE_PAUSE)).sorted])
            )
            bare = Latencies(sorted([*bare.sorted, *(await sequential(self.empty(), 60, _IDLE_PAUSE)).sorted]))
        self.row("create-property-ack", platform.ms(50), "ms p50", bare.ms(50))
        self.row("create-property-ack-p99", platform.ms(99), "ms p99", bare.ms(99))

    async def throughput(self) -> float:
        async def platform() -> float:
            rate = await concurrent(self.creating, 32, self._seconds)
            await self._wait_until_idle()
            return rate

        async def bare() -> float:
            return await concurrent(self.empty, 32, self._seconds)

        async def steps() -> float:
            rate = await concurrent(lambda: self.empty(EmptyStepsWorkflow), 32, self._seconds)
            await self._wait_until_idle()
            return rate

        rate, baseline, steps_rate = await interleaved(platform, bare, steps)
        self.row("create-property-throughput", rate, "commands/s", baseline)
        self.row("create-property-throughput-steps", rate, "commands/s", steps_rate)
        return rate

    async def import_rows(self, rows: int) -> None:
        """An import of another user than the one whose commands are measured meanwhile."""
        user, token = self._user, self._token
        await self.sign_up(uuid4().hex[:12])
        importer = self._user, self._token
        self._user, self._token = user, token
        await self._wait_until_idle()
        await imports.measure(self._api, self._settings, *importer, self.creating, rows, self.row)

    async def _wait_until_idle(self) -> None:
        """Wait until no workflow is running that works, so that one measurement does not load the next."""
        waiting = "'reconcile', 'email-verification'"
        working = f"ExecutionStatus = 'Running' AND WorkflowType NOT IN ({waiting})"
        while (await self._temporal.count_workflows(working)).count:
            await asyncio.sleep(0.5)

    async def history_page(self, valkey: Redis) -> None:
        path, headers = f"/api/user-history/{self._user}", {"Authorization": f"Bearer {self._token}"}
        _, _, body = await Connection(self._api).send(request("GET", path, headers))
        await valkey.set("bench:page", body)
        url, baseline = await self._baseline_api()

        def reading(base: str, sent: bytes) -> Work:
            connection = Connection(base)
            return lambda: connection.send(sent)

        async def platform() -> float:
            return await concurrent(lambda: reading(self._api, request("GET", path, headers)), 16, self._seconds / 2)

        async def bare() -> float:
            return await concurrent(lambda: reading(url, request("GET", "/page", {})), 16, self._seconds / 2)

        rate, baseline_rate = await interleaved(platform, bare)
        await baseline.stop()
        self.row("history-page", rate, "requests/s", baseline_rate)

    async def views(self) -> None:
        """Views of a public listing, each by a new visitor, beside a route that does nothing."""
        listing = orjson.loads(await self.creating()())["id"]  # type: ignore[arg-type]
        path, visitors = f"/api/properties/{listing}/views", itertools.count()
        url, baseline = await self._baseline_api()

        def viewing() -> Work:
            connection = Connection(self._api)

            async def view() -> None:
                status, _, body = await connection.send(
                    request("POST", path, {"User-Agent": f"bench {next(visitors)}"})
                )
                if status != 204:
                    raise SystemExit(f"a view answered {status}: {body!r}")

            return view

        def nothing() -> Work:
            connection = Connection(url)
            return lambda: connection.send(request("POST", "/empty", {"User-Agent": f"bench {next(visitors)}"}))

        async def platform() -> float:
            rate = await concurrent(viewing, _VIEW_CONCURRENCY, self._seconds / 2)
            await self._wait_until_idle()
            return rate

        async def bare() -> float:
            return await concurrent(nothing, _VIEW_CONCURRENCY, self._seconds / 2)

        rate, baseline_rate = await interleaved(platform, bare)
        await baseline.stop()
        self.row("views", rate, "requests/s", baseline_rate)

    async def enumeration(self) -> None:
        """Requests about a name without an account, beside the same about one with an account; the ratio tells nothing
        if it is 1."""
        names = [uuid4().hex[:12] for _ in range(_ACCOUNTS)]
        for name in names:
            await self.sign_up(name)
        await self._wait_until_idle()
        for row, path, body, expected in (
            ("login-unknown-vs-known", "/api/auth/login", '{"emailOrUsername": "%s", "password": "a guess"}', 401),
            ("forgot-password-unknown-vs-known", "/api/auth/forgot-password", '{"email": "%s@example.com"}', 202),
        ):
            known: list[float] = []
            unknown: list[float] = []
            connection = Connection(self._api)
            for round_, name in itertools.product(range(_ROUNDS), names):
                pair = [(known, name), (unknown, uuid4().hex[:12])]
                for times, asked in pair if round_ % 2 else reversed(pair):
                    # Each from an address of its own, which no limit has counted.
                    headers = {"X-Forwarded-For": f"2001:db8:{next(self._networks):x}::1"}
                    sent = request("POST", path, headers, (body % asked).encode())
                    began = time.perf_counter()
                    status, _, answer = await connection.send(sent)
                    times.append(time.perf_counter() - began)
                    if status != expected:
                        raise SystemExit(f"{path} answered {status}: {answer!r}")
                    await asyncio.sleep(_IDLE_PAUSE)
            await self._wait_until_idle()
            self.row(row, Latencies(sorted(unknown)).ms(50), "ms p50", Latencies(sorted(known)).ms(50))

    async def _baseline_api(self) -> tuple[str, Process]:
        """Start the baseline FastAPI application; returns its URL and its process."""
        port = self._stack.ports["bench_api"]
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "bench.baseline", "api", str(port), "bench:page"]
        log = self._stack.data / "logs" / "bench-api.log"
        spec = Spec("baseline", command, log, http_ready(f"{url}/openapi.json"), env=self._stack.env, cwd=ROOT)
        baseline = Process(spec, lambda _: None)
        await baseline.start()
        return url, baseline

    async def visible(self, rate: float) -> None:
        """From the acknowledgement until a page of the history shows the entry, at half of the highest load."""
        sent: dict[str, float] = {}
        acknowledged: dict[str, float] = {}
        seen: dict[str, float] = {}
        page = request("GET", f"/api/user-history/{self._user}?limit=100", {"Authorization": f"Bearer {self._token}"})
        done = asyncio.Event()

        async def watch() -> None:
            connection = Connection(self._api)
            while not done.is_set() or acknowledged.keys() - seen.keys():
                _, _, body = await connection.send(page)
                now = time.perf_counter()
                for entry in orjson.loads(body)["items"]:
                    seen.setdefault(entry["activityData"].get("propertyId", ""), now)
                await asyncio.sleep(0.005)

        idle: asyncio.Queue[Work] = asyncio.Queue()
        for _ in range(32):
            idle.put_nowait(self.creating())

        async def create() -> None:
            work, began = await idle.get(), time.perf_counter()
            body = orjson.loads(await work())  # type: ignore[arg-type]
            sent[body["id"]], acknowledged[body["id"]] = began, time.perf_counter()
            idle.put_nowait(work)

        async with streams.watching(self._api, self._token) as shown:
            watching = asyncio.create_task(watch())
            async with asyncio.TaskGroup() as group:
                for _ in range(int(rate / 2 * self._seconds)):
                    group.create_task(create())
                    await asyncio.sleep(2 / rate)
            done.set()
            await asyncio.wait_for(watching, 60)
            await self._wait_until_idle()
        if missed := acknowledged.keys() - shown.keys():
            raise SystemExit(f"the stream has not shown {len(missed)} of {len(acknowledged)} entries")
        times = Latencies(sorted(max(0.0, seen[made] - at) for made, at in acknowledged.items()))
        bare = await self._through_kafka()
        self.row("visible", times.ms(99), "ms p99", bare.ms(99))
        self.row("visible-p50", times.ms(50), "ms p50", bare.ms(50))
        live = Latencies(sorted(max(0.0, shown[made] - at) for made, at in acknowledged.items()))
        self.row("stream-visible", live.ms(99), "ms p99", times.ms(99))
        self.row("stream-visible-p50", live.ms(50), "ms p50", times.ms(50))
        by_stream = Latencies(sorted(shown[made] - at for made, at in sent.items()))
        by_page = Latencies(sorted(seen[made] - at for made, at in sent.items()))
        self.row("stream-command-to-screen", by_stream.ms(99), "ms p99", by_page.ms(99))
        self.row("stream-command-to-screen-p50", by_stream.ms(50), "ms p50", by_page.ms(50))

    async def idle_streams(self, valkey: Redis) -> None:
        """Memory of each of 2,000 idle streams of as many users, beside streams of a route that sends nothing."""
        streams.allow_many_files()

        async def ours(count: int) -> AsyncIterator[str]:
            for _ in range(0, count, 100):  # tickets are good for 30 s
                for ticket in await streams.issue_tickets(valkey, 100):
                    yield f"/api/stream?ticket={ticket}"

        async def empty(count: int) -> AsyncIterator[str]:
            for _ in range(count):
                yield "/stream"

        url, baseline = await self._baseline_api()
        api = self._stack.processes["api"]
        assert api.pid
        assert baseline.pid
        platform = await streams.memory_of_idle(self._api, ours, api.pid)
        bare = await streams.memory_of_idle(url, empty, baseline.pid)
        await baseline.stop()
        self.row("stream-memory", platform, "kB a stream, of 2,000 idle", bare)

    async def signed_out_streams(self) -> None:
        """From a sign-out until the end of the session's stream, beside the time until its access token is refused."""
        user, token = self._user, self._token
        sessions = [await self.sign_up(uuid4().hex[:12]) for _ in range(_SIGN_OUTS)]
        self._user, self._token = user, token
        ended, refused = await streams.signed_out(self._api, sessions)
        self.row("stream-sign-out", ended.ms(99), "ms p99", refused.ms(99))
        self.row("stream-sign-out-p50", ended.ms(50), "ms p50", refused.ms(50))

    async def _through_kafka(self) -> Latencies:
        """The baseline of visibility: one message sent to Kafka and read by a bare consumer."""
        consumer = kafka.consumer(self._settings, None, USER_ACTIVITY)
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka_bootstrap_servers, acks="all")
        await asyncio.gather(consumer.start(), producer.start())
        while await consumer.getmany(timeout_ms=500):
            pass
        times = []
        for _ in range(300):
            sent = _activity(uuid4().hex)
            began = time.perf_counter()
            await producer.send_and_wait(USER_ACTIVITY, activity_json(sent), str(sent.user_id).encode())
            await consumer.getone()
            times.append(time.perf_counter() - began)
        await asyncio.gather(consumer.stop(), producer.stop())
        return Latencies(sorted(times))

    async def projection(self, valkey: Redis, count: int) -> None:
        """Events per second into Postgres and Redis, beside a consumer that only parses the same messages."""
        await self._stack.processes["projections"].stop()
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers, acks="all", linger_ms=20, max_batch_size=500_000
        )
        await producer.start()
        tenant = f"bench-{uuid4().hex[:8]}"
        users = [uuid4() for _ in range(200)]
        sent = [_activity(tenant).model_copy(update={"user_id": users[n % 200]}) for n in range(count)]
        await asyncio.gather(
            *[await producer.send(USER_ACTIVITY, activity_json(one), str(one.user_id).encode()) for one in sent]
        )
        await producer.stop()
        database = Database.for_all_tenants(self._settings)
        stop, runner = asyncio.Event(), Runner(self._settings, database, History(valkey))
        running = asyncio.create_task(runner.run(stop))

        async def there() -> int:
            async with database.transaction() as tx:
                query = text("SELECT count(*) FROM user_history.user_activity WHERE tenant_id = :tenant")
                found: int = (await tx.execute(query, {"tenant": tenant})).scalar_one()
                return found

        while not (first := await there()):
            await asyncio.sleep(0.005)
        began = time.perf_counter()
        while (last := await there()) < count:
            await asyncio.sleep(0.02)
        rate = (last - first) / (time.perf_counter() - began)
        stop.set()
        await running
        await database.close()
        self.row("projection", rate, "events/s", await self._bare_consumer(tenant, count))

    async def _bare_consumer(self, tenant: str, count: int) -> float:
        consumer = kafka.consumer(self._settings, None, USER_ACTIVITY)
        await consumer.start()
        heard, began = 0, 0.0
        while heard < count:
            batches = await consumer.getmany(timeout_ms=1000, max_records=500)
            for record in (record for batch in batches.values() for record in batch):
                heard += orjson.loads(record.value)["tenantId"] == tenant
                began = began or (time.perf_counter() if heard else 0.0)
        await consumer.stop()
        return heard / (time.perf_counter() - began)


def _shown(value: float) -> float:
    """A figure with one decimal, or with three where it is small."""
    return round(value, 1 if value >= 10 else 3)


def _activity(tenant: str) -> Activity:
    return Activity(
        event_id=uuid4(),
        user_id=uuid4(),
        tenant_id=tenant,
        activity_type="PROPERTY_CREATED",
        description="User created property: 3BHK Apartment in Gachibowli",
        timestamp=datetime.now(UTC),
        activity_data={"propertyId": str(uuid4()), "location": "Gachibowli"},
    )


async def measure(
    measurements: Sequence[str],
    engine: str,
    seconds: float,
    events: int,
    entries: int,
    listings: int,
    rebuilt: int,
    imported: int,
) -> list[dict[str, object]]:
    console = Console(stderr=True)
    unlimited = ("COMMANDS", "LINKS", "REGISTRATIONS", "VIEWS", "SEARCHES", "SUGGESTIONS")
    names = (*(f"{name}_PER_MINUTE" for name in unlimited), "STREAMS_PER_ADDRESS")
    limits = dict.fromkeys(names, "100000000")
    async with AsyncExitStack() as ending:
        stack = Stack(
            Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="hyderabad-bench-"))),
            console.print,
            search=engine,
        )
        ending.push_async_callback(stack.stop)
        await stack.start_engines()
        await stack.prepare()
        await stack.start_processes(stack.ports["api"], limits)
        settings = Settings.model_validate({name.lower(): value for name, value in stack.env.items()})
        client, valkey = await temporal.connect_when_up(settings), redis.connect(settings)
        ending.push_async_callback(valkey.aclose)
        log = stack.data / "logs" / "bench-worker.log"
        command = [sys.executable, "-m", "bench.baseline", "worker"]

        async def ready() -> None:
            await asyncio.wait_for(bench.empty()(), 3)

        bench = Bench(stack, settings, client, seconds, console.print)
        worker = Process(Spec("baseline", command, log, ready, env=stack.env, cwd=ROOT), console.print)
        await worker.start()
        ending.push_async_callback(worker.stop)
        await bench.sign_up(uuid4().hex[:12])
        rate = 0.0
        for measurement in measurements:
            console.print(f"{measurement} ...")
            match measurement:
                case "acknowledgement":
                    await bench.acknowledgement()
                case "throughput":
                    rate = await bench.throughput()
                case "visibility":
                    await bench.visible(rate or await bench.throughput())
                case "history":
                    await bench.history_page(valkey)
                case "histories":
                    for name, long, short in await long_history(settings, valkey, entries):
                        bench.row(f"history-million-{name}", long, "ms p50", short)
                case "views":
                    await bench.views()
                case "enumeration":
                    await bench.enumeration()
                case "reading":
                    reading.measure(bench.row)
                case "search":
                    await search.measure(settings, bench.row, listings)
                case "images":
                    await asyncio.to_thread(images.measure, bench.row)
                case "import":
                    await bench.import_rows(imported)
                case "streams":
                    await bench.signed_out_streams()
                    await bench.idle_streams(valkey)
                case "projection":
                    await bench.projection(valkey, events)
                case "rebuild":
                    await stack.processes["projections"].stop()
                    await rebuilds.measure(settings, valkey, rebuilt, bench.row)
        return bench.rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "measurements",
        nargs="*",
        metavar="MEASUREMENT",
        help=f"what to measure: {', '.join(MEASUREMENTS)} (default: everything)",
    )
    parser.add_argument(
        "--seconds", type=float, default=10, help="of each measurement under load (default: %(default)s)"
    )
    parser.add_argument("--events", type=int, default=20_000, help="for the projection (default: %(default)s)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the longest history (default: %(default)s)")
    parser.add_argument(
        "--search",
        choices=["postgres", "opensearch"],
        default="postgres",
        help="with opensearch, the rows of its searches stand beside those of Postgres (default: postgres)",
    )
    parser.add_argument("--listings", type=int, default=100_000, help="for the search (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=10_000, help="of the import (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "bench.json", help="where the rows go (default: bench.json)"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="search 1,000,000 listings, import 100,000 rows, and rebuild from 1,000,000 events instead of 50,000",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.measurements) - set(MEASUREMENTS):
        parser.error(f"unknown measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    listings = 1_000_000 if arguments.full else arguments.listings
    rebuilt = 1_000_000 if arguments.full else 50_000
    imported = 100_000 if arguments.full else arguments.rows
    sizes = arguments.events, arguments.entries, listings, rebuilt, imported
    rows = uvloop.run(measure(arguments.measurements or MEASUREMENTS, arguments.search, arguments.seconds, *sizes))
    arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table("what", "value", "unit", "baseline", "value / baseline")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("name", "value", "unit", "baseline", "ratio")))
    Console().print(table)


if __name__ == "__main__":
    main()
