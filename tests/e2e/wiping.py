"""Wiping engines while everything else runs: kills them and deletes their data before they restart."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import asyncpg

from embedded.process import Process
from embedded.stack import Stack
from embedded.temporal_server import prepare_namespace, prepare_schema
from tests.platform import until

_PRODUCTION_TEMPORAL = os.environ.get("TEST_TEMPORAL") == "server"
_DATA = {"kafka": "kafka", "redis": "*.rdb", "temporal": "temporal.db*", "opensearch": "opensearch"}
"""The data of each engine, as a pattern in the stack's folder; the production Temporal server's is in Postgres."""


class Wiping:
    """Wipes engines of a stack, and prepares Temporal again as an operator would."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._database_url = stack.env["DATABASE_URL"]

    async def wipe(self, *names: str) -> None:
        """Kill processes together and delete the data of engines; returns when all of them are ready again.

        The production Temporal server has neither namespace nor search attributes then.
        """
        await restart_empty({self._stack.processes[name]: partial(self._delete_data_of, name) for name in names})

    async def prepare_namespace(self) -> None:
        """Register the namespace, as compose's set-up job does; the development server creates its own."""
        if _PRODUCTION_TEMPORAL:
            await asyncio.to_thread(prepare_namespace, self._stack.ports, self._database_url)

    async def prepare_temporal(self) -> None:
        """Register the namespace and the search attributes on an empty Temporal server."""
        await self.prepare_namespace()
        await self._stack.prepare()

    async def _delete_data_of(self, name: str) -> None:
        if name not in _DATA:
            return
        await delete(self._stack.data, _DATA[name])
        if name == "temporal" and _PRODUCTION_TEMPORAL:
            await self._empty_databases_of_temporal()

    async def _empty_databases_of_temporal(self) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            for database in ("temporal", "temporal_visibility"):
                await connection.execute(f"DROP DATABASE {database} WITH (FORCE)")
        finally:
            await connection.close()
        await asyncio.to_thread(prepare_schema, self._stack.ports, self._database_url)


async def delete(folder: Path, pattern: str) -> None:
    """Delete files and folders."""

    def delete_all() -> None:
        for kept in folder.glob(pattern):
            if kept.is_dir():
                shutil.rmtree(kept)
            else:
                kept.unlink()

    await asyncio.to_thread(delete_all)


async def restart_empty(processes: Mapping[Process, Callable[[], Awaitable[None]]]) -> None:
    """Kill processes together and run what deletes their state while they are down; returns when all serve again."""
    pids = {process: process.pid for process in processes}
    specs = {process: process.spec for process in processes}

    async def delete_and_prepare(process: Process) -> None:
        await processes[process]()
        if prepare := specs[process].before_restart:
            await prepare()

    for process, spec in specs.items():
        process.spec = replace(spec, before_restart=partial(delete_and_prepare, process))
    for pid in pids.values():
        assert pid
        os.kill(pid, signal.SIGKILL)
    for process, pid in pids.items():
        await until(partial(_serves_again, process, pid), seconds=60)
        process.spec = specs[process]


async def _serves_again(process: Process, killed: int | None) -> bool:
    if process.pid in {None, killed}:
        return False
    try:
        await process.spec.ready()
    except Exception:  # whatever the probe raises means the same: not ready yet
        return False
    return True
