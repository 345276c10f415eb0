"""`make run`: the whole platform on this machine until Ctrl-C."""

import argparse
import asyncio
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from adapters.settings import Settings
from embedded import texts
from embedded.paths import ROOT, api_port, write_environment
from embedded.process import StartFailed
from embedded.stack import Stack

_ENVIRONMENT = "environment"
"""File in the data folder with the environment of the running stack, for `make admin`."""


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(data: Path, temporal: str, search: str) -> int:
    port = api_port()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, stop.set)
    stack = Stack(data, _print_line, temporal=temporal, search=search)
    began = time.monotonic()
    starting = asyncio.create_task(_start(stack, port))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _print_line(_addresses(stack, port, time.monotonic() - began))
            await stopping
        return 0
    except StartFailed as error:
        _print_line(f"\nStart-up failed: {error}")
        return 1
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        _print_line("\nStopping ...")
        (data / _ENVIRONMENT).unlink(missing_ok=True)
        await stack.stop()
        _print_line("Everything is stopped; the data is kept in " + str(data))


async def _start(stack: Stack, port: int) -> None:
    _print_line("Engines:")
    await stack.start_engines()
    _print_line("Database, topics, search attributes and bucket:")
    await stack.prepare()
    _print_line("  up to date\nProcesses:")
    # Browsers take no passkey for an address.
    portal = os.environ.get("PUBLIC_URL") or f"http://localhost:{port}"
    more = {"PUBLIC_URL": portal}
    if not os.environ.get("TWILIO_ACCOUNT_SID") and "MAILBOX_URL" in stack.env:
        more |= texts.settings(stack.env["MAILBOX_URL"])
    await stack.start_processes(port, more)
    stack.env |= more
    write_environment(stack.data / _ENVIRONMENT, _environment(stack))


def _environment(stack: Stack) -> dict[str, str]:
    """The workers' settings, for operator commands: those of the stack and those of the environment."""
    given = {name: value for name, value in os.environ.items() if name.lower() in Settings.model_fields}
    return {name: value for name, value in {**given, **stack.env}.items() if name != "JWT_PRIVATE_KEY"}


def _addresses(stack: Stack, port: int, seconds: float) -> str:
    rows = [
        ("API", f"http://127.0.0.1:{port}/api"),
        ("Documentation", f"http://127.0.0.1:{port}/docs"),
        ("Temporal UI", stack.env.get("TEMPORAL_UI_URL", "of your own server")),
        ("Mailbox", stack.env.get("MAILBOX_URL", "of your own server")),
        ("Logs", str(stack.data / "logs")),
    ]
    more = f"In another terminal, `make demo PORT={port}` signs up owners and lists properties."
    table = "\n".join(f"  {name:<14} {where}" for name, where in rows)
    return f"\nHyderabad Infra is ready after {seconds:.0f} s:\n{table}\n{more}\nCtrl-C stops everything."


def _running(data: Path, pid: str) -> str:
    """The message of a second run on the same data; `pid` is empty while the first run is starting."""
    if not pid:
        return f"Another `make run` is starting in {data}. Stop it first, or run from another checkout."
    return (
        f"Another `make run` is using {data}: process {pid}. Stop it with Ctrl-C in its terminal or by `kill {pid}`, "
        "or run from another checkout."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=ROOT / ".data", help="folder of all data, logs and secrets (default: .data)"
    )
    parser.add_argument(
        "--temporal",
        choices=["development", "server"],
        default="development",
        help="Temporal's development server, or the production server on Postgres (default: development)",
    )
    parser.add_argument(
        "--search",
        choices=["postgres", "opensearch"],
        default="postgres",
        help="what answers searches: Postgres, or OpenSearch (default: postgres)",
    )
    chosen = parser.parse_args()
    data: Path = chosen.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    # Mode a+ does not truncate it: it has the pid of the process that holds the lock.
    with (data / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            _print_line(_running(data, lock.read().strip()))
            return 1
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return asyncio.run(_run(data, chosen.temporal, chosen.search))


if __name__ == "__main__":
    raise SystemExit(main())
