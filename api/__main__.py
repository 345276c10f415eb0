"""`python -m api`: serve the API with uvicorn; every setting comes from the environment."""

import argparse
import sys

import uvicorn

from adapters.settings import WHERE_SETTINGS_ARE, load_settings
from adapters.telemetry import set_up_logging
from api.app import create_app
from api.server import BoundedHttp

GRACEFUL_SHUTDOWN_SECONDS = 15
"""For requests that are being answered: longer than a command waits for its answer."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than the gateway and usual clients keep theirs, so that it is they who
close it. A request over a connection that we have just closed would fail, and a POST is not sent again by itself."""


def main() -> None:
    argparse.ArgumentParser(prog="python -m api", description=__doc__).parse_args()
    settings = load_settings()
    set_up_logging(settings)
    try:
        app = create_app(settings)
        _ = settings.jwt_private_pem
    except ValueError as error:
        sys.stderr.write(f"{error}\nSet it in the environment; {WHERE_SETTINGS_ARE}\n")
        raise SystemExit(2) from error
    uvicorn.run(
        app,
        http=BoundedHttp,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # counted in /metrics; a line for each request costs more than many a request
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


if __name__ == "__main__":
    main()
