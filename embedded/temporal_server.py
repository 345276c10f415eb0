"""The production Temporal server on Postgres: `make temporal` builds it, `make run TEMPORAL=server` starts it."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from temporalio.client import Client

from embedded.cache import cached, go_install, go_module, print_line, run
from embedded.engines import binary
from embedded.paths import ROOT, Ports
from embedded.process import Spec

VERSION = "1.32.0"
NAMESPACE = "default"
_MODULE = f"go.temporal.io/server@v{VERSION}"
_SHARDS = "16"
"""Cannot be changed for an existing database; enough for a few thousand commands a second."""


def _build(folder: Path) -> None:
    print_line(f"Building the Temporal server {VERSION} (three minutes on two cores) ...")
    packages = [f"go.temporal.io/server/cmd/{name}@v{VERSION}" for name in ("server", "tools/sql")]
    go_install(folder, "the Temporal server", *packages)
    (folder / "sql").rename(folder / "temporal-sql-tool")
    (folder / "server").rename(folder / "temporal-server")
    shutil.copytree(go_module(_MODULE) / "schema" / "postgresql" / "v12", folder / "schema")
    for copied in (folder / "schema").rglob("*"):
        copied.chmod(copied.stat().st_mode | 0o200)  # files in the Go module cache are read-only


def _environment(ports: Ports, database_url: str, folder: Path) -> dict[str, str]:
    """The environment of the server and its set-up script, as in docker-compose.yml, with this machine's addresses."""
    database = urlsplit(database_url)
    services = ("frontend", "history", "matching", "worker")
    grpc = {f"{name.upper()}_GRPC_PORT": str(ports[f"temporal_{name}"]) for name in services[1:]}
    gossip = {f"{name.upper()}_MEMBERSHIP_PORT": str(ports[f"temporal_{name}_gossip"]) for name in services}
    return {
        "DB": "postgres12",
        "DB_PORT": str(database.port),
        "POSTGRES_SEEDS": str(database.hostname),
        "POSTGRES_USER": str(database.username),
        "POSTGRES_PWD": str(database.password),
        "SQL_PASSWORD": str(database.password),
        "NUM_HISTORY_SHARDS": _SHARDS,
        "DYNAMIC_CONFIG_FILE_PATH": str(ROOT / "deploy" / "temporal" / "dynamic-config.yaml"),
        "LOG_LEVEL": "warn",
        "BIND_ON_IP": "127.0.0.1",
        "FRONTEND_GRPC_PORT": str(ports["temporal"]),
        "FRONTEND_HTTP_PORT": str(ports["temporal_http"]),
        "SCHEMA_DIR": str(folder / "schema"),
        "TEMPORAL_ADDRESS": f"127.0.0.1:{ports['temporal']}",
        "TEMPORAL_NAMESPACE": NAMESPACE,
        "PATH": os.pathsep.join([str(folder), str(Path(binary("temporal")).parent), os.environ["PATH"]]),
        **grpc,
        **gossip,
    }


def prepare_schema(ports: Ports, database_url: str) -> None:
    """Bring Temporal's two databases up to date with the script that docker-compose.yml runs."""
    _setup("schema", ports, database_url)


def prepare_namespace(ports: Ports, database_url: str) -> None:
    """Register the namespace with the script that docker-compose.yml runs."""
    _setup("namespace", ports, database_url)


def _setup(step: str, ports: Ports, database_url: str) -> None:
    folder = cached(f"temporal-{VERSION}", _build)
    script = str(ROOT / "deploy" / "temporal" / "setup.sh")
    run(["sh", script, step], f"Temporal's {step}", **_environment(ports, database_url, folder))


def temporal_server(data: Path, ports: Ports, database_url: str) -> tuple[Spec, dict[str, str]]:
    """The server with all of its services in one process. Its schema must exist."""
    folder = cached(f"temporal-{VERSION}", _build)
    environment = _environment(ports, database_url, folder)
    address = environment["TEMPORAL_ADDRESS"]

    async def ready() -> None:
        client = await Client.connect(address)
        if not await client.service_client.check_health():
            raise ConnectionError("the frontend is not serving yet")

    command = [str(folder / "temporal-server"), "start"]
    spec = Spec("temporal", command, data / "logs" / "temporal.log", ready, env=environment, stop_seconds=30)
    return spec, {"TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": NAMESPACE}


def main() -> None:
    print_line(f"The Temporal server {VERSION} is in {cached(f'temporal-{VERSION}', _build)}")


if __name__ == "__main__":
    main()
