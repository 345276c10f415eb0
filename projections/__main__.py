"""The projections: `python -m projections [NAME ...]` runs them; without a name, all.

python -m projections rebuild NAME              replay the event store into a new generation, then switch to it
python -m projections parked [NAME]             list the parked events, each with the reason
python -m projections replay NAME KEY           apply the parked events of a key, in order (`all` for every key)
python -m projections discard ID                delete one parked event; then replay its key for the later ones
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import uvloop

from adapters import redis
from adapters.event_store import NotRenumbered
from adapters.postgres import Database, DatabaseUnavailable
from adapters.redis import RedisError
from adapters.search import opensearch_index
from adapters.search.engine import SearchUnavailable
from adapters.search.opensearch_index import OpenSearchIndex
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from projections.parking import list_parked, parked_keys
from projections.rebuild import RebuildRunning, rebuild
from projections.registry import PROJECTIONS, Clients
from projections.replay import discard, replay
from projections.runner import Runner
from projections.sink import TooManyFailures

log = logging.getLogger("projections")


class NotDone(Exception):
    """An operator's command failed or was done in part; the message says what is left to do."""


async def run(settings: Settings, names: list[str]) -> None:
    """Run the projections until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with _connections(settings) as (database, clients):
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


def _waiting_for(runners: list[Runner[Any]]) -> list[str]:
    return list(dict.fromkeys(missing for runner in runners for missing in runner.waiting_for))


async def rebuild_one(settings: Settings, name: str) -> None:
    async with _connections(settings) as (database, clients):
        projection = PROJECTIONS[name](clients)
        rebuilt = await rebuild(database, projection, lambda done: _print_line(f"{done} events replayed"))
        _print_line(f"{name} is rebuilt from {rebuilt.applied} events, generation {rebuilt.generation} is active")
        if rebuilt.parked:
            _print_line(
                f"{rebuilt.parked} events could not be applied and are parked: python -m projections parked {name}"
            )


async def show_parked(settings: Settings, names: list[str]) -> None:
    async with _connections(settings) as (database, _), database.transaction() as tx:
        rows = [row for name in names for row in await list_parked(tx, name)]
    for row in rows:
        _print_line(
            f"{row.id}\t{row.projection}\t{row.parked_at:%Y-%m-%dT%H:%M:%SZ}\t{row.topic}\t{row.key}\t{row.reason}"
        )
    _print_line(f"{len(rows)} parked")


async def replay_keys(settings: Settings, name: str, key: str) -> None:
    """Replay one key, or `all`. Raises NotDone when an event still fails or Redis is unavailable."""
    async with _connections(settings) as (database, clients):
        async with database.transaction() as tx:
            keys = await parked_keys(tx, name) if key == "all" else [key]
        failing = 0
        for each in keys:
            try:
                replayed = await replay(database, PROJECTIONS[name](clients), each)
            except RedisError as error:
                raise NotDone(
                    f"Redis is unavailable ({type(error).__name__}): the events of {each} are applied but stay parked, "
                    f"because the cache of {name} lacks them; replay again when Redis is back"
                ) from error
            _print_line(f"{each}: {replayed.applied} applied")
            if replayed.failure:
                failing += 1
                _print_line(f"{each}: still fails: {replayed.failure}")
    if failing:
        raise NotDone(f"{failing} of {len(keys)} keys stay parked")


async def discard_one(settings: Settings, parked_id: int) -> None:
    """Delete one parked event. Raises NotDone when there is none with this id."""
    async with _connections(settings) as (database, _):
        discarded = await discard(database, parked_id)
    if discarded is None:
        raise NotDone(f"there is no parked event with the id {parked_id}")
    name, key = discarded.projection, discarded.key
    _print_line(f"parked event {parked_id} of {key} is deleted")
    if discarded.still_parked:
        _print_line(f"{discarded.still_parked} more of this key stay parked: python -m projections replay {name} {key}")


@asynccontextmanager
async def _connections(settings: Settings) -> AsyncIterator[tuple[Database, Clients]]:
    database, client = Database.for_all_tenants(settings), redis.connect(settings)
    search = opensearch_index.connect(settings.search_url) if settings.search_url else None
    try:
        yield database, Clients(client, OpenSearchIndex(search) if search else None)
    finally:
        if search:
            await search.close()
        await client.aclose()
        await database.close()


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def _action(words: list[str]) -> Callable[[Settings], Coroutine[Any, Any, None]] | None:
    """The action that the arguments name; None when they name none."""
    match words:
        case ["rebuild", name] if name in PROJECTIONS:
            return lambda settings: rebuild_one(settings, name)
        case ["parked", *names] if len(names) < 2 and set(names) <= PROJECTIONS.keys():
            return lambda settings: show_parked(settings, names or list(PROJECTIONS))
        case ["replay", name, key] if name in PROJECTIONS:
            return lambda settings: replay_keys(settings, name, key)
        case ["discard", parked_id] if parked_id.isdigit():
            return lambda settings: discard_one(settings, int(parked_id))
        case names if set(names) <= PROJECTIONS.keys():
            return lambda settings: run(settings, list(dict.fromkeys(names)) or list(PROJECTIONS))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m projections", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="NAME", help=f"projections to run: {', '.join(PROJECTIONS)}")
    words: list[str] = parser.parse_args().words
    action = _action(words)
    if action is None:
        parser.error(f"unknown command or projection: {' '.join(words)} (projections: {', '.join(PROJECTIONS)})")
    settings = load_settings()
    set_up_logging(settings)
    try:
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
