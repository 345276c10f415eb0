"""What operators do at the command line: each command prints what it did, and raises NotDone when something is left."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from uuid import UUID, uuid4

import orjson

from adapters import redis, temporal
from adapters.event_store import Position, Range
from adapters.kafka import BrokerUnavailable, Publisher
from adapters.postgres import Database
from adapters.rebuild_control import NotRunning, RebuildControl, TemporalUnavailable
from adapters.redis import RedisError
from adapters.search.choice import index_of
from adapters.settings import Settings
from domain.rebuilds import RebuildProgress, RebuildStatus, Signal
from projections.operations import MAX_COUNTED, Operations, Starting
from projections.parking import find_parked, list_parked, page_of_discarded, parked_keys
from projections.rebuild import rebuild
from projections.rebuild_record import find_rebuild
from projections.registry import PROJECTIONS, Clients
from projections.republish import Republished, republish
from projections.retrying import discard, retry
from workflows.options import MAINTENANCE

_POLL_SECONDS = 0.5
_SHOWN = 1000
"""Discarded events that are listed."""


class NotDone(Exception):
    """An operator's command failed or was done in part; the message says what is left to do."""


async def show_status(settings: Settings) -> None:
    """Print the state of each projection; parked events are those of every tenant."""
    async with _operations(settings) as (operations, database):
        states = await operations.states((), with_lag=True)
        async with database.statements() as connection:
            parked = {name: len(await list_parked(connection, name)) for name in PROJECTIONS}
    for state in states:
        lag = f"{MAX_COUNTED} or more events" if state.lag_events == MAX_COUNTED else f"{state.lag_events} events"
        _print_line(
            f"{state.name}\tgeneration {state.generation}\t{lag} behind, the oldest for {state.lag_seconds:.0f} s"
            f"\t{parked[state.name]} parked"
        )


async def rebuild_here(settings: Settings, name: str) -> None:
    """Rebuild in this process, without Temporal."""
    async with _connections(settings) as (database, clients):
        projection = PROJECTIONS[name](clients)
        rebuilt = await rebuild(database, projection, lambda done: _print_line(f"{done} events replayed"))
    _print_rebuilt(name, rebuilt.applied, rebuilt.generation, rebuilt.parked)


async def rebuild_by_workflow(settings: Settings, name: str) -> None:
    """Start the workflow of a rebuild and print its progress until it ends; it goes on when this process is stopped.

    Raises NotDone when it ends without the switch.
    """
    async with _operations(settings) as (operations, database):
        with _reaching_temporal(settings, f"`python -m projections rebuild {name} --local` does without it"):
            order = await operations.start_rebuild(name, None)
        _print_line(f"the rebuild of {name} has started; stopping this command does not stop it")
        progress = await _followed(operations, database, name, order.rebuild_id)
    if progress.status is not RebuildStatus.COMPLETED:
        raise NotDone(f"{name} was not rebuilt, and its old generation serves on. {progress}")
    _print_rebuilt(name, progress.applied, progress.generation, progress.parked)


async def _followed(operations: Operations, database: Database, name: str, rebuild_id: UUID) -> RebuildProgress:
    """Print the progress until the rebuild has ended."""
    shown = ""
    while True:
        found = await operations.find_rebuild(name)
        if isinstance(found, RebuildProgress) and found.rebuild_id != rebuild_id:
            async with database.statements() as connection:
                found = await find_rebuild(connection, rebuild_id)
        if found is None:
            raise NotDone(f"the rebuild of {name} ended before it began: see its workflow rebuild-projection/{name}")
        text = f"waiting for a worker of {MAINTENANCE}" if isinstance(found, Starting) else str(found)
        if text != shown:
            _print_line(text)
        shown = text
        if isinstance(found, RebuildProgress) and (found.finished_at or found.status is RebuildStatus.INTERRUPTED):
            return found
        await asyncio.sleep(_POLL_SECONDS)


def _print_rebuilt(name: str, applied: int, generation: int, parked: int) -> None:
    _print_line(f"{name} is rebuilt from {applied} events, generation {generation} is active")
    if parked:
        _print_line(f"{parked} events could not be applied and are parked: python -m projections parked {name}")


async def show_progress(settings: Settings, name: str) -> None:
    """Print how far the newest rebuild has come."""
    async with _operations(settings) as (operations, _):
        with _reaching_temporal(settings, "try again"):
            found = await operations.find_rebuild(name)
    if found is None:
        raise NotDone(f"{name} was not rebuilt yet")
    _print_line(f"waiting for a worker of {MAINTENANCE}" if isinstance(found, Starting) else str(found))


async def signal_rebuild(settings: Settings, name: str, signal: Signal) -> None:
    """Pause, resume or cancel a rebuild. Raises NotDone when there is none."""
    async with _operations(settings) as (operations, _):
        try:
            with _reaching_temporal(settings, "try again"):
                await operations.signal_rebuild(name, signal)
        except NotRunning as error:
            raise NotDone(f"no workflow rebuilds {name}; a rebuild with --local is stopped where it runs") from error
    _print_line(
        f"{name}: {signal.value} is sent, and takes effect within seconds: python -m projections progress {name}"
    )


async def show_parked(settings: Settings, names: list[str]) -> None:
    async with _connections(settings) as (database, _), database.transaction() as tx:
        rows = [row for name in names for row in await list_parked(tx, name)]
    for row in rows:
        _print_line(
            f"{row.id}\t{row.projection}\t{row.parked_at:%Y-%m-%dT%H:%M:%SZ}\t{row.topic}\t{row.key}\t{row.reason}"
        )
    _print_line(f"{len(rows)} parked")


async def show_one(settings: Settings, parked_id: int) -> None:
    """Print a parked event with its message. Raises NotDone when there is none with this id."""
    async with _connections(settings) as (database, _), database.statements() as connection:
        row = await find_parked(connection, parked_id)
    if row is None:
        raise NotDone(f"there is no parked event with the id {parked_id}")
    _print_line(f"{row.projection}, parked at {row.parked_at:%Y-%m-%dT%H:%M:%SZ}, tenant {row.tenant_id or 'unknown'}")
    _print_line(f"{row.topic}, key {row.key}")
    _print_line(row.reason)
    try:
        _print_line(orjson.dumps(orjson.loads(row.payload), option=orjson.OPT_INDENT_2).decode())
    except orjson.JSONDecodeError:
        _print_line(repr(row.payload))


async def retry_keys(settings: Settings, name: str, key: str) -> None:
    """Retry one key, or `all`. Raises NotDone when an event still fails or Redis is unavailable."""
    async with _connections(settings) as (database, clients):
        async with database.transaction() as tx:
            keys = await parked_keys(tx, name) if key == "all" else [key]
        failing = 0
        for each in keys:
            try:
                retried = await retry(database, PROJECTIONS[name](clients), each)
            except RedisError as error:
                raise NotDone(
                    f"Redis is unavailable ({type(error).__name__}): the events of {each} are applied but stay parked, "
                    f"because the cache of {name} lacks them; retry again when Redis is back"
                ) from error
            _print_line(f"{each}: {retried.applied} applied")
            if retried.failure:
                failing += 1
                _print_line(f"{each}: still fails: {retried.failure}")
    if failing:
        raise NotDone(f"{failing} of {len(keys)} keys stay parked")


async def discard_one(settings: Settings, parked_id: int, reason: str) -> None:
    """Delete one parked event. Raises NotDone when there is none with this id."""
    async with _connections(settings) as (database, _):
        discarded = await discard(database, parked_id, reason)
    if discarded is None:
        raise NotDone(f"there is no parked event with the id {parked_id}")
    name, key = discarded.projection, discarded.key
    _print_line(f"parked event {parked_id} of {key} is deleted")
    if discarded.still_parked:
        _print_line(f"{discarded.still_parked} more of this key stay parked: python -m projections retry {name} {key}")


async def show_discarded(settings: Settings, names: list[str]) -> None:
    async with _connections(settings) as (database, _), database.statements() as connection:
        for name in names:
            for row in await page_of_discarded(connection, name, None, None, _SHOWN):
                by = row.discarded_by or "the command line"
                _print_line(
                    f"{row.id}\t{name}\t{row.discarded_at:%Y-%m-%dT%H:%M:%SZ}\tby {by}\t{row.key}\t{row.reason}"
                )


async def publish_again(settings: Settings, which: Range) -> None:
    """Publish stored events of a range again. Raises NotDone when Kafka is unavailable, with where to go on."""
    publisher, replay_id, last = Publisher(settings), uuid4(), Republished(0, 0, which.after, 0.0)

    def show(done: Republished) -> None:
        nonlocal last
        last = done
        _print_line(f"{done.events:,} events published, {done.events_per_second:,.0f} a second, up to {_place(done)}")

    _print_line(f"each message has the header ce_replay: {replay_id}")
    async with _connections(settings) as (database, _):
        try:
            done = await republish(database, publisher, which, replay_id, show)
        except BrokerUnavailable as error:
            raise NotDone(f"Kafka is unavailable ({error}): go on with --after {_place(last)}") from error
        finally:
            await publisher.close()
    _print_line(f"{done.events} events are published again")
    if done.unreadable:
        raise NotDone(f"{done.unreadable} events cannot be read by this release and were skipped")


def _place(done: Republished) -> str:
    return f"{done.position.tx_id},{done.position.id}"


def place(text: str) -> Position:
    """A place in the event store as `publish_again` prints it. Raises ValueError."""
    tx_id, id = text.split(",")
    return Position(int(tx_id), int(id))


def moment(text: str) -> datetime:
    """A time with its zone. Raises ValueError."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("without a time zone")
    return found


@asynccontextmanager
async def _operations(settings: Settings) -> AsyncIterator[tuple[Operations, Database]]:
    async with _connections(settings) as (database, clients):
        control = RebuildControl(await temporal.connect(settings), MAINTENANCE)
        yield Operations(database, clients, control), database


@asynccontextmanager
async def _connections(settings: Settings) -> AsyncIterator[tuple[Database, Clients]]:
    database, clients = Database.for_all_tenants(settings), Clients(redis.connect(settings), index_of(settings))
    try:
        yield database, clients
    finally:
        await clients.close()
        await database.close()


@contextmanager
def _reaching_temporal(settings: Settings, advice: str) -> Iterator[None]:
    """Raises NotDone when Temporal does not answer."""
    try:
        yield
    except TemporalUnavailable as error:
        raise NotDone(f"Temporal at {settings.temporal_address} is unavailable ({error}): {advice}") from error


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
