"""The plans that Postgres has for the statements of the code."""

from typing import Any

import asyncpg
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg as dialect


class Explained(Exception):
    """The plan of the statement that would have been executed."""


class Explaining:
    """A connection that explains a query instead of executing it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def execute(self, query: Select[Any], _: object = None) -> None:
        """Raises Explained: the plan for any value of the parameters, which a statement has that is executed often."""
        postgres = dialect.dialect()  # type: ignore[no-untyped-call]
        compiled = query.compile(dialect=postgres, compile_kwargs={"render_postcompile": True})
        await self._connection.execute("SET plan_cache_mode = force_generic_plan")
        await self._connection.execute(f"PREPARE explained AS {compiled}")
        nulls = ", ".join(["NULL"] * len(compiled.params))
        plan = await self._connection.fetch(f"EXPLAIN EXECUTE explained({nulls})")
        await self._connection.execute("DEALLOCATE explained")
        await self._connection.execute("RESET plan_cache_mode")
        raise Explained("\n".join(row[0] for row in plan))
