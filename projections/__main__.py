"""The projections: `python -m projections [NAME ...]` runs them; without a name, all.

python -m projections status                    generation, lag and parked events of each projection
python -m projections rebuild NAME              replay the event store into a new generation, then switch to it
python -m projections progress NAME             how far the newest rebuild has come
python -m projections pause|resume|cancel NAME  pause a rebuild, go on where it was, or delete what it has written
python -m projections parked [NAME]             list the parked events, each with the reason
python -m projections show ID                   one parked event with its message
python -m projections retry NAME KEY            apply the parked events of a key, in order (`all` for every key)
python -m projections discard ID REASON         delete one parked event; then retry its key for the later ones
python -m projections discarded [NAME]          list the discarded events: who, when and why
python -m projections republish ...             publish stored events to Kafka again: a range, an aggregate or types

`python -m projections COMMAND --help` explains a command.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import uvloop

from adapters import redis
from adapters.event_store import NotRenumbered, Position, Range
from adapters.postgres import Database, DatabaseUnavailable
from adapters.search.choice import index_of
from adapters.search.engine import SearchUnavailable
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from domain.events import KINDS
from domain.rebuilds import Signal
from projections import commands
from projections.commands import NotDone
from projections.rebuild import RebuildRunning
from projections.registry import PROJECTIONS, Clients
from projections.runner import Runner
from projections.sink import TooManyFailures

log = logging.getLogger("projections")

Action = Callable[[Settings], Coroutine[Any, Any, None]]


async def run(settings: Settings, names: list[str]) -> None:
    """Run the projections until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    database, clients = Database.for_all_tenants(settings), Clients(redis.connect(settings), index_of(settings))
    try:
        runners = [Runner(settings, database, PROJECTIONS[name](clients)) for name in names]
        ops = ops_server(settings, lambda: _waiting_for(runners))
        serving = asyncio.create_task(ops.serve()) if settings.ops_port else None
        log.info("running projections %s on %s", ", ".join(names), settings.kafka_bootstrap_servers)
        try:
            async with asyncio.TaskGroup() as group:
                for runner in runners:
                    group.create_task(runner.run(stop))
        finally:
            if serving:
                ops.should_exit = True
                await serving
    finally:
        await clients.close()
        await database.close()


def _waiting_for(runners: list[Runner[Any]]) -> list[str]:
    return list(dict.fromkeys(missing for runner in runners for missing in runner.waiting_for))


def _commands() -> argparse.ArgumentParser:
    """The parser of the operators' commands; each sets `action`."""
    parser = argparse.ArgumentParser(
        prog="python -m projections",
        usage="python -m projections [NAME ...] | COMMAND ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"projections: {', '.join(PROJECTIONS)}",
    )
    known = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="python -m projections")

    def add(
        name: str, text: str, make: Callable[[argparse.Namespace], Action], *aliases: str
    ) -> argparse.ArgumentParser:
        command = known.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", aliases=aliases)
        command.set_defaults(action=make)
        return command

    def one(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command.add_argument("name", metavar="NAME", choices=PROJECTIONS, help=", ".join(PROJECTIONS))
        return command

    def all_or_one(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "name", metavar="NAME", nargs="?", choices=PROJECTIONS, help="without it: every projection"
        )

    def names(given: argparse.Namespace) -> list[str]:
        return [given.name] if given.name else list(PROJECTIONS)

    add("status", "generation, lag and parked events of each projection", lambda _: commands.show_status)
    rebuilding = one(add("rebuild", "replay the event store into a new generation, then switch to it", _rebuild))
    rebuilding.add_argument(
        "--local", action="store_true", help="in this process, without Temporal; stopping it ends the rebuild"
    )
    one(add("progress", "how far the newest rebuild has come", lambda given: _of(commands.show_progress, given.name)))
    for what, text in {
        Signal.PAUSE: "pause a rebuild, also one whose step fails and is tried again",
        Signal.RESUME: "go on with a rebuild where it was paused",
        Signal.CANCEL: "delete what a rebuild has written; the old generation goes on serving",
    }.items():
        one(add(what.value, text, _signal(what)))
    all_or_one(
        add(
            "parked",
            "list the parked events, each with the reason",
            lambda given: _of(commands.show_parked, names(given)),
        )
    )
    add("show", "print one parked event with its message", lambda given: _of(commands.show_one, given.id)).add_argument(
        "id", metavar="ID", type=int
    )
    retrying = one(
        add(
            "retry",
            "apply the parked events of a key, in order",
            lambda given: _of(commands.retry_keys, given.name, given.key),
            "replay",  # its name in earlier releases
        )
    )
    retrying.add_argument("key", metavar="KEY", help="the key of a parked event; `all` for every key")
    discarding = add(
        "discard",
        "delete one parked event and record the reason; then retry its key",
        lambda given: _of(commands.discard_one, given.id, given.reason),
    )
    discarding.add_argument("id", metavar="ID", type=int)
    discarding.add_argument("reason", metavar="REASON", type=_reason, help="why it is not needed; it is kept")
    all_or_one(add("discarded", "list the discarded events", lambda given: _of(commands.show_discarded, names(given))))
    _add_range(add("republish", "publish stored events to Kafka again, marked by the header ce_replay", _republish))
    return parser


def _of(action: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> Action:
    return lambda settings: action(settings, *arguments)


def _rebuild(given: argparse.Namespace) -> Action:
    return _of(commands.rebuild_here if given.local else commands.rebuild_by_workflow, given.name)


def _signal(what: Signal) -> Callable[[argparse.Namespace], Action]:
    return lambda given: _of(commands.signal_rebuild, given.name, what)


def _add_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", type=commands.moment, metavar="TIME", help="such as 2026-11-30T00:00:00+05:30")
    command.add_argument("--until", type=commands.moment, metavar="TIME", help="up to but without this time")
    command.add_argument("--aggregate", type=UUID, metavar="ID", help="of this listing, user, ...")
    command.add_argument("--type", action="append", choices=KINDS, default=[], metavar="TYPE", help="can be repeated")
    command.add_argument(
        "--after", type=commands.place, default=Position(), metavar="TX,ID", help="a place, as printed"
    )
    command.add_argument("--up-to", type=commands.place, metavar="TX,ID", help="a place, as printed")
    command.add_argument("--all", action="store_true", help="every stored event, when nothing else is given")


def _republish(given: argparse.Namespace) -> Action:
    which = Range(given.after, given.up_to, given.since, given.until, given.aggregate, tuple(given.type))
    if which == Range() and not given.all:
        raise NotDone("say which events: --since, --until, --aggregate, --type, --after, --up-to, or --all")
    return _of(commands.publish_again, which)


def _reason(text: str) -> str:
    if not 1 <= len(text.strip()) <= 1000:
        raise ValueError("1 to 1000 characters")
    return text.strip()


def _action(words: list[str]) -> Action:
    """The action that the arguments name: running projections, or a command. Raises NotDone."""
    if set(words) <= PROJECTIONS.keys():
        return _of(run, list(dict.fromkeys(words)) or list(PROJECTIONS))
    given = _commands().parse_args(words)
    made: Action = given.action(given)
    return made


def main() -> None:
    try:
        action = _action(sys.argv[1:])
        settings = load_settings()
        set_up_logging(settings)
        uvloop.run(action(settings))
    except (NotDone, RebuildRunning, NotRenumbered, TooManyFailures) as error:
        sys.exit(str(error))
    except SearchUnavailable as error:
        sys.exit(f"{error}. Check that it runs and that SEARCH_URL is right, then run the same command again.")
    except DatabaseUnavailable as error:
        where = urlsplit(settings.database_url).netloc.rpartition("@")[2]
        sys.exit(
            f"Postgres at {where} is unavailable ({error}): completed work is kept. Check that it runs and that "
            "DATABASE_URL is right, then run the same command again."
        )


if __name__ == "__main__":
    main()
