"""`python -m api`: serve the API with uvicorn; every setting comes from the environment."""

import argparse
import resource
import sys

import uvicorn

from adapters.settings import WHERE_SETTINGS_ARE, load_settings
from adapters.telemetry import set_up_logging
from api.app import create_app
from api.server import AbortableWebSocket, BoundedHttp, DrainingServer

GRACEFUL_SHUTDOWN_SECONDS = 15
"""The time to finish running requests; longer than `command_wait_seconds`."""
_LARGEST_MESSAGE = 16_384
"""Bytes of a message of a WebSocket: twenty ids of listings have 900."""


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
    # An open stream is an open file, and the soft limit is often 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws=AbortableWebSocket,
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # it would take more memory than all else of a connection
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # requests are counted in /metrics; a log line may cost more than the request
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        timeout_keep_alive=settings.keep_alive_seconds,
    )
    server = DrainingServer(config, lambda: app.state.parts.live.drain())
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        raise SystemExit(3)  # as `uvicorn.run` does


if __name__ == "__main__":
    main()
