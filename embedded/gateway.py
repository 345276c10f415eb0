"""Caddy, the gateway of docker-compose.yml: `make gateway` builds it, `make test-gateway` sends requests through it."""

from pathlib import Path

from embedded.cache import cached, go_install, print_line
from embedded.engines import http_ready
from embedded.paths import ROOT
from embedded.process import Spec

VERSION = "2.10.2"


def _build(folder: Path) -> None:
    print_line(f"Building Caddy {VERSION} (a minute and a half on two cores) ...")
    go_install(folder, "Caddy", f"github.com/caddyserver/caddy/v2/cmd/caddy@v{VERSION}")


def gateway(logs: Path, port: int, api_port: int, **environment: str) -> Spec:
    """A gateway on 127.0.0.1:`port` to an API on `api_port`, with the Caddyfile that docker-compose.yml mounts.

    `environment` has further variables of that file.
    """
    program = cached(f"caddy-{VERSION}", _build) / "caddy"
    command = [str(program), "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy" / "gateway.Caddyfile")]
    environment = {
        "GATEWAY_ADDRESS": f":{port}",
        "GATEWAY_BIND": "127.0.0.1",
        "API_HOST": "localhost",
        "API_PORT": str(api_port),
        **environment,
    }
    return Spec("gateway", command, logs / "gateway.log", http_ready(f"http://127.0.0.1:{port}/livez"), env=environment)


def main() -> None:
    print_line(f"Caddy {VERSION} is in {cached(f'caddy-{VERSION}', _build)}")


if __name__ == "__main__":
    main()
