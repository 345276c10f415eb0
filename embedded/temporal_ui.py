"""The web UI of the production Temporal server; the development server includes its own."""

from pathlib import Path

from embedded.cache import cached, go_install, go_module, print_line
from embedded.engines import http_ready
from embedded.paths import Ports
from embedded.process import Spec

VERSION = "2.54.1"
_MODULE = f"github.com/temporalio/ui-server/v2@v{VERSION}"


def _build(folder: Path) -> None:
    print_line(f"Building the Temporal UI {VERSION} (a quarter of a minute on two cores) ...")
    go_install(folder, "the Temporal UI", _MODULE.replace("@", "/cmd/server@"))
    (folder / "server").rename(folder / "ui-server")
    # The image's own configuration, which listens on every address; here only on localhost.
    image = go_module(_MODULE) / "config" / "docker.yaml"
    (folder / "config").mkdir()
    (folder / "config" / "docker.yaml").write_text(image.read_text() + "\nhost: 127.0.0.1\n")


def temporal_ui(data: Path, ports: Ports, temporal_address: str) -> tuple[Spec, dict[str, str]]:
    """The UI for the server at `temporal_address`, configured by the variables that docker-compose.yml sets."""
    folder = cached(f"temporal-ui-{VERSION}", _build)
    url = f"http://127.0.0.1:{ports['temporal_ui']}"
    environment = {
        "TEMPORAL_ADDRESS": temporal_address,
        "TEMPORAL_CORS_ORIGINS": url,
        "TEMPORAL_DISABLE_NEWS_FETCH": "true",
        "TEMPORAL_UI_PORT": str(ports["temporal_ui"]),
    }
    command = [str(folder / "ui-server"), "--root", str(folder), "--env", "docker", "start"]
    spec = Spec("temporal-ui", command, data / "logs" / "temporal-ui.log", http_ready(url), env=environment)
    return spec, {"TEMPORAL_UI_URL": url}


def main() -> None:
    print_line(f"The Temporal UI {VERSION} is in {cached(f'temporal-ui-{VERSION}', _build)}")


if __name__ == "__main__":
    main()
