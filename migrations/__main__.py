"""`python -m migrations`: bring database, topics, search attributes and bucket up to date.

`python -m migrations database` does the first only; `python -m migrations check` tells whether the migrations make the
tables of adapters/tables.py.
"""

import asyncio
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from adapters import kafka, objects, temporal
from adapters.settings import Settings, load_settings


def alembic_config(settings: Settings) -> Config:
    config = Config(attributes={"database_url": settings.database_url})
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


async def _prepare(settings: Settings) -> None:
    await asyncio.gather(
        kafka.ensure_topics(settings), temporal.ensure_search_attributes(settings), objects.ensure_bucket(settings)
    )


def main() -> None:
    settings = load_settings()
    match sys.argv[1:]:
        case []:
            command.upgrade(alembic_config(settings), "head")
            asyncio.run(_prepare(settings))
        case ["database"]:
            command.upgrade(alembic_config(settings), "head")
        case ["check"]:
            try:
                command.check(alembic_config(settings))
            except CommandError as error:
                raise SystemExit(f"The migrations do not make the tables of adapters/tables.py: {error}") from error
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
