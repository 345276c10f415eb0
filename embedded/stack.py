"""The whole platform on this machine: the engines, the migrations, then the platform's processes."""

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from adapters.temporal import SEARCH_ATTRIBUTES
from embedded import engines
from embedded.kafka import kafka
from embedded.opensearch import opensearch
from embedded.paths import ROOT, Ports, load_or_create_secrets
from embedded.process import PrintLine, Process, Spec, run_command
from embedded.temporal_server import prepare_namespace, prepare_schema, temporal_server
from embedded.temporal_ui import temporal_ui
from workflows import options

EXTERNAL_URL = {
    "postgres": "DATABASE_URL",
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "redis": "REDIS_URL",
    "temporal": "TEMPORAL_ADDRESS",
    "s3": "S3_ENDPOINT_URL",
    "mailbox": "SMTP_URL",
    "opensearch": "SEARCH_URL",
}
"""The variable of each engine. It is not started when its URL is in the environment: then that server is used."""
ENGINES = tuple(name for name in EXTERNAL_URL if name != "opensearch")
"""Those of a plain installation, which searches in Postgres."""


class Stack:
    """Starts, supervises and stops everything that `make run` runs. `env` is the environment of its processes."""

    def __init__(
        self, data: Path, print_line: PrintLine, *, temporal: str = "development", search: str = "postgres"
    ) -> None:
        self.data = data
        self.engines = {"postgres": ENGINES, "opensearch": (*ENGINES, "opensearch")}[search]
        self._print_line = print_line
        self._production_temporal = {"development": False, "server": True}[temporal]
        data.mkdir(parents=True, exist_ok=True)
        (data / "logs").mkdir(exist_ok=True)
        self.ports = Ports(data / "ports.json")
        self._secrets = load_or_create_secrets(data)
        self.env = {name: value for name, value in self._secrets.items() if name != "POSTGRES_PASSWORD"}
        self.processes: dict[str, Process] = {}

    async def start_engines(self, names: Iterable[str] = ()) -> None:
        """Start the engines of `names`, by default all, that no URL replaces, concurrently. Raises StartFailed."""
        names = list(names or self.engines)
        first = [name for name in names if not (self._production_temporal and name == "temporal")]
        await self._start([spec for name in first if (spec := await self._engine(name))])
        if first != names and (spec := await self._engine("temporal")):
            # The production server stores its state in Postgres, so it starts after it.
            database = self._database_url()
            await asyncio.to_thread(prepare_schema, self.ports, database)
            ui, env = temporal_ui(self.data, self.ports, self.env["TEMPORAL_ADDRESS"])
            self.env |= env
            await self._start([spec, ui])
            await asyncio.to_thread(prepare_namespace, self.ports, database)

    async def _engine(self, name: str) -> Spec | None:
        if replaced := os.environ.get(EXTERNAL_URL[name]):
            self._print_line(f"  {name:<12} is not started: {EXTERNAL_URL[name]} names {_without_password(replaced)}")
            return None
        if name == "postgres":
            spec, env = await engines.postgres(self.data, self.ports, self._secrets["POSTGRES_PASSWORD"])
        elif name == "kafka":
            spec, env = await kafka(self.data, self.ports, self._print_line)
        elif name == "opensearch":
            spec, env = await opensearch(self.data, self.ports, self._print_line)
        elif name == "temporal" and self._production_temporal:
            spec, env = temporal_server(self.data, self.ports, self._database_url())
        elif name == "temporal":
            spec, env = engines.temporal(self.data, self.ports, SEARCH_ATTRIBUTES)
        else:
            make = {"redis": engines.redis, "s3": engines.objects, "mailbox": engines.mailbox}
            spec, env = make[name](self.data, self.ports)
        self.env |= env
        return spec

    def _database_url(self) -> str:
        return os.environ.get("DATABASE_URL") or self.env["DATABASE_URL"]

    async def prepare(self) -> None:
        """Bring database, topics, search attributes and bucket up to date. Raises StartFailed."""
        log = self.data / "logs" / "migrations.log"
        await run_command([sys.executable, "-m", "migrations"], "python -m migrations", log, self.env, ROOT)

    async def start_processes(self, api_port: int, more: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start the platform's processes with production's command lines and `more` settings. Raises StartFailed."""
        commands = {
            # The rows of an import are read and validated for minutes, in a process that no command waits for.
            "worker": ["worker.py", *(queue for queue in options.QUEUES if queue != options.IMPORTS)],
            "imports": ["worker.py", options.IMPORTS],
            "projections": ["-m", "projections"],
            "api": ["-m", "api"],
        }
        api = f"http://127.0.0.1:{api_port}"
        self.env |= {name: os.environ.get(name) or api for name in ("PUBLIC_URL", "PUBLIC_API_URL")}
        specs = []
        for name in commands:
            port = api_port if name == "api" else self.ports[f"{name}_ops"]
            env = {key: value for key, value in self.env.items() if name == "api" or key != "JWT_PRIVATE_KEY"}
            own = {"PORT": str(port)} if name == "api" else {"OPS_PORT": str(port)}
            specs.append(
                Spec(
                    name,
                    [sys.executable, *commands[name]],
                    self.data / "logs" / f"{name}.log",
                    engines.http_ready(f"http://127.0.0.1:{port}/readyz"),
                    env={**env, **own, **more},
                    cwd=ROOT,
                    stop_seconds=20,
                )
            )
        await self._start(specs)

    async def _start(self, specs: list[Spec]) -> None:
        for spec in specs:
            self.processes[spec.name] = Process(spec, self._print_line)
        starting = [asyncio.create_task(self.processes[spec.name].start()) for spec in specs]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            # Cancel the other starts: `stop` must not run while they are in progress.
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            raise

    async def stop(self) -> None:
        """Stop the platform's processes, then the engines, so that the former can finish their work."""
        platform = [process for name, process in self.processes.items() if name not in EXTERNAL_URL]
        engine_processes = [process for name, process in self.processes.items() if name in EXTERNAL_URL]
        for group in (platform, engine_processes):
            await asyncio.gather(*(process.stop() for process in group))


def _without_password(url: str) -> str:
    return url.rsplit("@", 1)[-1]
