"""Migrates database, topics, search attributes and bucket; run before the processes of a release start.

python -m migrations              all of it
python -m migrations database     the database only
python -m migrations check        check that the migrations create the tables of adapters/tables.py
python -m migrations roles        before a dump is restored into a new cluster: create the roles that it uses
python -m migrations restored     after a dump was restored into a new cluster: renumber the stored events

It exits with code 2 when a restored database is not renumbered.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from adapters import kafka, objects, temporal
from adapters.event_store import NotRenumbered
from adapters.settings import Settings, load_settings
from migrations.restore import InUse, make_roles, needs_renumbering, renumber

T = TypeVar("T")


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
    await asyncio.gather(
        kafka.ensure_topics(settings), temporal.ensure_search_attributes(settings), objects.ensure_bucket(settings)
    )


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
    connection = await asyncpg.connect(settings.database_url)
    try:
        return await do(connection)
    finally:
        await connection.close()


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
                raise SystemExit(f"The migrations do not create the tables of adapters/tables.py: {error}") from error
        case "roles":
            asyncio.run(_as_owner(settings, make_roles))
        case "restored":
            restored(settings)


if __name__ == "__main__":
    main()
