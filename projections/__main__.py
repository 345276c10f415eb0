"""The projections: `python -m projections [history]` runs them; without a name, all.

python -m projections rebuild history           replay the event store into a new generation, then switch to it
python -m projections parked                    list the parked events, each with the reason
python -m projections replay KEY                apply the parked events of a key, in order (`all` for every key)
python -m projections discard ID                give up one parked event; replay its key for those that came after it
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop
from redis.asyncio import Redis

from adapters import redis
from adapters.event_store import NotRenumbered
from adapters.postgres import Database, DatabaseAway
from adapters.redis import RedisError
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from projections.history import History
from projections.parking import all_parked, parked_keys
from projections.rebuild import RebuildRunning, rebuild
from projections.replay import discard, replay
from projections.runner import Runner

log = logging.getLogger("projections")
NAMES = (History.name,)


class NotDone(Exception):
    """What the operator asked for is not done, or only in part; the message says what is left to do."""


async def run(settings: Settings, names: list[str]) -> None:
    """Run the projections until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with _connections(settings) as (database, client):
        runners = [Runner(settings, database, History(client)) for _ in names]
        ops = ops_server(settings, lambda: [] if all(runner.ready for runner in runners) else ["Kafka"])
        serving = asyncio.create_task(ops.serve()) if settings.ops_port else None
        log.info("projecting %s from %s", ", ".join(names), settings.kafka_bootstrap_servers)
        try:
            async with asyncio.TaskGroup() as group:
                for runner in runners:
                    group.create_task(runner.run(stop))
        finally:
            if serving:
                ops.should_exit = True
                await serving


async def rebuild_history(settings: Settings) -> None:
    async with _connections(settings) as (database, client):
        entries, generation = await rebuild(database, History(client), lambda done: _say(f"{done} events replayed"))
        _say(f"history is rebuilt: {entries} entries, generation {generation} serves")


async def show_parked(settings: Settings) -> None:
    async with _connections(settings) as (database, _), database.transaction() as tx:
        rows = await all_parked(tx, History.name)
    for row in rows:
        _say(f"{row.id}\t{row.parked_at:%Y-%m-%dT%H:%M:%SZ}\t{row.topic}\t{row.key}\t{row.reason}")
    _say(f"{len(rows)} parked")


async def replay_keys(settings: Settings, key: str) -> None:
    """Replay one key, or `all`. Raises NotDone when an event still fails or Redis is unavailable."""
    async with _connections(settings) as (database, client):
        async with database.transaction() as tx:
            keys = await parked_keys(tx, History.name) if key == "all" else [key]
        failing = 0
        for each in keys:
            try:
                replayed = await replay(database, History(client), each)
            except RedisError as error:
                raise NotDone(
                    f"Redis is unavailable ({type(error).__name__}): events of {each} are applied, but stay parked, "
                    "for the history in Redis lacks them; replay again when it is back"
                ) from error
            _say(f"{each}: {replayed.applied} applied")
            if replayed.failure:
                failing += 1
                _say(f"{each}: still fails: {replayed.failure}")
    if failing:
        raise NotDone(f"{failing} of {len(keys)} keys stay parked")


async def discard_one(settings: Settings, parked_id: int) -> None:
    """Give up one parked event. Raises NotDone when there is none of this id."""
    async with _connections(settings) as (database, _):
        discarded = await discard(database, History.name, parked_id)
    if discarded is None:
        raise NotDone(f"no parked event has the id {parked_id}")
    _say(f"{parked_id} of {discarded.key} is given up")
    if discarded.still_parked:
        _say(f"{discarded.still_parked} more of this key stay parked: python -m projections replay {discarded.key}")


@asynccontextmanager
async def _connections(settings: Settings) -> AsyncIterator[tuple[Database, Redis]]:
    database, client = Database.for_all_tenants(settings), redis.connect(settings)
    try:
        yield database, client
    finally:
        await client.aclose()
        await database.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m projections", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="NAME", help=f"projections to run: {', '.join(NAMES)}")
    words: list[str] = parser.parse_args().words
    match words:
        case ["rebuild", "history"]:
            action = rebuild_history
        case ["parked"]:
            action = show_parked
        case ["replay", key]:

            async def action(settings: Settings) -> None:
                await replay_keys(settings, key)
        case ["discard", parked_id] if parked_id.isdigit():

            async def action(settings: Settings) -> None:
                await discard_one(settings, int(parked_id))
        case _ if set(words) <= set(NAMES):

            async def action(settings: Settings) -> None:
                await run(settings, words or list(NAMES))
        case _:
            parser.error(f"not understood: {' '.join(words)}")
    settings = load_settings()
    set_up_logging(settings)
    try:
        uvloop.run(action(settings))
    except (NotDone, RebuildRunning, NotRenumbered) as error:
        sys.exit(str(error))
    except DatabaseAway as error:
        sys.exit(f"Postgres is unavailable ({error}): what was done so far is kept; run the same command again.")


if __name__ == "__main__":
    main()
