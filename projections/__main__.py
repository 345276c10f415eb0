"""The projections: `python -m projections [history]` runs them; without a name, all.

python -m projections rebuild history           replay the event store into a new generation, then switch to it
python -m projections parked                    list the events that were set aside, and why
python -m projections replay KEY                apply the parked events of a key, in order (`all` for every key)
python -m projections discard ID                give up one parked event
"""

import argparse
import asyncio
import logging
import signal
import sys

import uvloop

from adapters import redis
from adapters.postgres import Database
from adapters.settings import Settings, load_settings
from adapters.telemetry import ops_server, set_up_logging
from domain.activity import Activity
from domain.events import UnreadableEvent
from projections.generations import generation_of
from projections.history import History
from projections.parking import all_parked, forget
from projections.rebuild import RebuildRunning, rebuild
from projections.runner import Runner

log = logging.getLogger("projections")
NAMES = (History.name,)


async def run(settings: Settings, names: list[str]) -> None:
    """Run the projections until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    database, client = Database.for_all_tenants(settings), redis.connect(settings)
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
        await client.aclose()
        await database.close()


async def rebuild_history(settings: Settings) -> None:
    database, client = Database.for_all_tenants(settings), redis.connect(settings)
    try:
        entries, generation = await rebuild(database, History(client), lambda done: _say(f"{done} events replayed"))
        _say(f"history is rebuilt: {entries} entries, generation {generation} serves")
    finally:
        await client.aclose()
        await database.close()


async def show_parked(settings: Settings) -> None:
    database = Database.for_all_tenants(settings)
    async with database.transaction() as tx:
        rows = await all_parked(tx, History.name)
    for row in rows:
        _say(f"{row.id}\t{row.parked_at:%Y-%m-%dT%H:%M:%SZ}\t{row.topic}\t{row.key}\t{row.reason}")
    _say(f"{len(rows)} parked")
    await database.close()


async def replay(settings: Settings, key: str | None) -> None:
    """Apply parked events in their order; stops at the first that still fails."""
    database, client = Database.for_all_tenants(settings), redis.connect(settings)
    history = History(client)
    done = 0
    try:
        async with database.transaction() as tx:
            generation = await generation_of(tx, history.name, locked=True)
            rows = await all_parked(tx, history.name, key)
            stuck: set[str] = set()
            for row in rows:
                if row.key in stuck:
                    continue
                try:
                    activity = history.read(row.payload)
                except UnreadableEvent as error:
                    stuck.add(row.key)
                    _say(f"{row.id} still fails: {error}")
                    continue
                await history.apply(tx, [activity], generation)
                await forget(tx, [row.id])
                done += 1
        await history.drop_from_redis({(_tenant(row.payload), row.key) for row in rows if row.key not in stuck}, generation)
        _say(f"{done} of {len(rows)} applied")
    finally:
        await client.aclose()
        await database.close()


def _tenant(payload: bytes) -> str:
    return Activity.model_validate_json(payload).tenant_id


async def discard(settings: Settings, parked_id: int) -> None:
    database = Database.for_all_tenants(settings)
    async with database.transaction() as tx:
        await forget(tx, [parked_id])
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
                await replay(settings, None if key == "all" else key)
        case ["discard", parked_id] if parked_id.isdigit():

            async def action(settings: Settings) -> None:
                await discard(settings, int(parked_id))
        case _ if set(words) <= set(NAMES):

            async def action(settings: Settings) -> None:
                await run(settings, words or list(NAMES))
        case _:
            parser.error(f"not understood: {' '.join(words)}")
    settings = load_settings()
    set_up_logging(settings)
    try:
        uvloop.run(action(settings))
    except RebuildRunning as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
