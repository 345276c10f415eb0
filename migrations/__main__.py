"""Migrates database, topics, search attributes and bucket; run before the processes of a release start.

python -m migrations              all of it
python -m migrations database     the database only
python -m migrations check        check that the migrations create the tables of adapters/tables
python -m migrations roles        before a dump is restored into a new cluster: create the roles that it uses
python -m migrations restored     after a dump was restored into a new cluster: renumber the stored events

It exits with code 1 and names the service that is unavailable, and with code 2 when a restored database is not
renumbered.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import asyncpg
from aiokafka.errors import KafkaError
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from botocore.exceptions import BotoCoreError, ClientError
from temporalio.service import RPCError

from adapters import kafka, objects, temporal
from adapters.event_store import NotRenumbered
from adapters.settings import Settings, load_settings
from migrations.restore import InUse, make_roles, needs_renumbering, renumber

T = TypeVar("T")

_CONNECT_SECONDS = 10
"""Time limit of a connection attempt, for a server that drops packets; asyncpg's default is a minute."""


class NotReached(Exception):
    """Services are unavailable or reject our credentials; the message has one line for each, with advice."""


def alembic_config(settings: Settings) -> Config:
    config = Config(attributes={"database_url": settings.database_url})
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def migrate_database(settings: Settings) -> None:
    """Migrate the database. Exits with code 2 when its events must be renumbered."""
    command.upgrade(alembic_config(settings), "head")
    if asyncio.run(_as_owner(settings, needs_renumbering)):
        _end(str(NotRenumbered()))


async def _prepare(settings: Settings) -> None:
    """Create topics, search attributes and bucket, each also when another one fails. Raises NotReached."""
    servers, temporal_address = settings.kafka_bootstrap_servers, settings.temporal_address
    done = await asyncio.gather(
        _reached("Kafka", "KAFKA_BOOTSTRAP_SERVERS", servers, kafka.ensure_topics(settings)),
        _reached("Temporal", "TEMPORAL_ADDRESS", temporal_address, temporal.ensure_search_attributes(settings)),
        _reached("S3", "S3_ENDPOINT_URL", _address(settings.s3_endpoint_url), objects.ensure_bucket(settings)),
        return_exceptions=True,
    )
    failed = [error for error in done if error is not None]
    for error in failed:
        if not isinstance(error, NotReached):
            raise error
    if failed:
        raise NotReached("\n".join(map(str, failed)))


async def _reached(service: str, setting: str, address: str, doing: Awaitable[None]) -> None:
    """Raises NotReached."""
    try:
        await doing
    except (OSError, KafkaError, RPCError, BotoCoreError, ClientError) as error:
        raise _not_reached(service, setting, address, error) from error


def _not_reached(service: str, setting: str, address: str, error: Exception) -> NotReached:
    reason = (str(error) or type(error).__name__).removesuffix(".")
    return NotReached(
        f"{service} at {address} cannot be used: {reason}. Check that it runs and that {setting} is right, then run "
        "this again."
    )


def _address(url: str) -> str:
    """Host and port of a URL, without user name and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def restored(settings: Settings) -> None:
    """Migrate a restored database and renumber its events."""
    command.upgrade(alembic_config(settings), "head")

    async def run(connection: asyncpg.Connection) -> int:
        return await renumber(connection, _print_line)

    try:
        done = asyncio.run(_as_owner(settings, run))
    except InUse as error:
        _end(str(error))
    _print_line(f"{done} events renumbered; the events of this database are in order")


async def _as_owner(settings: Settings, do: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Raises NotReached."""
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=_CONNECT_SECONDS)
    except (OSError, asyncpg.PostgresError) as error:
        raise _not_reached("Postgres", "DATABASE_URL", _address(settings.database_url), error) from error
    try:
        return await do(connection)
    finally:
        await connection.close()


async def _answers(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT 1")


def _end(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    raise SystemExit(2)


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m migrations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", nargs="?", choices=["database", "check", "roles", "restored"])
    step: str | None = parser.parse_args().step
    settings = load_settings()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # NotReached reports its connection errors
    try:
        # Checked first, because Alembic reports an unavailable database by a long traceback.
        asyncio.run(_as_owner(settings, _answers))
        _run(step, settings)
    except NotReached as error:
        sys.exit(str(error))


def _run(step: str | None, settings: Settings) -> None:
    match step:
        case None:
            migrate_database(settings)
            asyncio.run(_prepare(settings))
        case "database":
            migrate_database(settings)
        case "check":
            try:
                command.check(alembic_config(settings))
            except CommandError as error:
                raise SystemExit(f"The migrations do not create the tables of adapters/tables: {error}") from error
        case "roles":
            asyncio.run(_as_owner(settings, make_roles))
        case "restored":
            restored(settings)


if __name__ == "__main__":
    main()
