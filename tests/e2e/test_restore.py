"""Restoring a dump into a new cluster by the steps of docs/operations.md: it is detected, and no event is lost."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text

from activities.saving import CommandStore
from adapters import event_store
from adapters.event_store import NotRenumbered, Position
from adapters.kafka import Publisher
from adapters.postgres import Database, write_rows
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.telemetry import ops_server
from api.app import create_app
from domain.events import Event, new_events
from domain.property_commands import decide
from embedded.engines import postgres_programs
from embedded.paths import ROOT
from embedded.stack import Stack
from migrations.restore import needs_renumbering, renumber
from projections.catch_up import CatchUp
from projections.history import History
from projections.rebuild import rebuild
from projections.sink import Sink
from tests.activities.accounts import Saving
from tests.platform import until
from tests.samples import actor, create_property, new_id

TENANT = "restored"
STEP = "python -m migrations restored"
# A new cluster begins near 750; a migration and a restore use a few hundred more.
BURN = "DO $$ BEGIN FOR n IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


def documented() -> list[str]:
    """The commands of docs/operations.md, in order."""
    chapter = (ROOT / "docs" / "operations.md").read_text().split("\n## ")[1]
    return [line for block in re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL) for line in block.splitlines()]


@dataclass(frozen=True)
class Shell:
    """Runs commands as an operator would, against the database of `settings`."""

    env: dict[str, str]
    folder: Path

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join([str(postgres_programs()), str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {**os.environ, **self.env, "PATH": path, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )

    async def succeeds(self, *commands: str) -> str:
        """The output of the commands; none may fail."""
        said = ""
        for command in commands:
            done = await asyncio.to_thread(self.run, command)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            said += done.stdout
        return said

    async def fails(self, command: str) -> tuple[int, str]:
        """The code that a command ends with, and its complaint."""
        done = await asyncio.to_thread(self.run, command)
        return done.returncode, done.stderr


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[str]:
    """The URL of a Postgres cluster that has just been made."""
    stack = Stack(folder, lambda _: None)
    try:
        await stack.start_engines(["postgres"])
        yield stack.env["DATABASE_URL"]
    finally:
        await stack.stop()


@dataclass(frozen=True)
class Dump:
    """A dump, what was stored in it, and where the walk of reconcile had got to."""

    folder: Path
    event_ids: list[str]
    overtaken: str
    """An event whose id is lower than that of the checkpoint, and which the checkpoint has not passed."""


@pytest.fixture(scope="module")
async def dump(stack: Stack, settings: Settings, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """A store whose transaction ids are partly below those of a new cluster, and mostly far above."""
    folder = tmp_path_factory.mktemp("dump")
    folder.chmod(0o755)
    async with cluster(tmp_path_factory.mktemp("source")) as url:
        shell = Shell({**stack.env, "DATABASE_URL": url}, folder)
        await shell.succeeds("python -m migrations database")
        source = settings.model_copy(update={"database_url": url})
        tenants, everybody = Database.for_tenants(source), Database.for_all_tenants(source)
        saving = Saving(CommandStore(tenants, keyring, lambda _: None), keyring)
        owner = await saving.registered(TENANT)
        for _ in range(3):
            await saving.property(create_property(TENANT, owner))
        connection = await asyncpg.connect(url)
        await connection.execute(BURN)
        await connection.close()
        for _ in range(3):
            await saving.property(create_property(TENANT, owner))
        overtaken = one_event()
        async with tenants.transaction(TENANT) as slow:
            # Older by its transaction, younger by its id than the one that is stored meanwhile.
            await slow.execute(text("SELECT pg_current_xact_id()"))
            await store(tenants, overtaken)
            passed = one_event()
            await write_rows(slow, [event_store.event_row(passed, sealed(passed))])
        async with everybody.transaction() as tx:
            events = await event_store.in_order(tx, Position(), 100)
            [checkpoint] = [at for at, message in events if message["eventId"] == str(passed.event_id)]
            await tx.execute(
                text("INSERT INTO user_history.checkpoints (name, tx_id, id) VALUES ('history', :tx_id, :id)"),
                vars(checkpoint),
            )
        await tenants.close()
        await everybody.close()
        await shell.succeeds(documented()[0])
    assert [message["eventId"] for _, message in events[-2:]] == [str(passed.event_id), str(overtaken.event_id)]
    return Dump(folder, [message["eventId"] for _, message in events], str(overtaken.event_id))


def one_event() -> Event:
    command = create_property(TENANT, new_id())
    return new_events(command, command.property_id, 0, decide(None, command, actor(command.user_id)))[0]


def sealed(event: Event) -> dict[str, object]:
    data: dict[str, object] = event.data.model_dump(mode="json", by_alias=True)
    return data


async def store(database: Database, event: Event) -> str:
    """Store an event in a transaction of its own; returns its id."""
    async with database.transaction(TENANT) as tx:
        await write_rows(tx, [event_store.event_row(event, sealed(event))])
    return str(event.event_id)


@pytest.fixture(scope="module")
async def fresh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A cluster that has stored nothing yet."""
    async with cluster(tmp_path_factory.mktemp("fresh")) as url:
        yield url


@dataclass(frozen=True)
class Restored:
    """A database of the fresh cluster into which the dump was restored, not renumbered yet."""

    settings: Settings
    shell: Shell
    owner: asyncpg.Connection

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """A pool with the role that reads every tenant."""
        database = Database.for_all_tenants(self.settings)
        try:
            yield database
        finally:
            await database.close()

    async def read(self, after: Position | None = None) -> list[str]:
        """Ids of the settled events, from the beginning or after a position."""
        async with self.database() as database, database.transaction() as tx:
            events = await event_store.in_order(tx, after or Position(), 100)
        return [message["eventId"] for _, message in events]

    async def checkpoint(self) -> Position:
        row = await self.owner.fetchrow("SELECT tx_id, id FROM user_history.checkpoints WHERE name = 'history'")
        return Position(row["tx_id"], row["id"])


@pytest.fixture
async def restored(stack: Stack, settings: Settings, dump: Dump, fresh: str) -> AsyncIterator[Restored]:
    name = f"restored_{uuid4().hex}"
    connection = await asyncpg.connect(fresh)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = fresh.rpartition("/")[0] + f"/{name}"
    shell = Shell({**stack.env, "DATABASE_URL": url}, dump.folder)
    commands = documented()
    assert commands[3] == STEP
    await shell.succeeds(*commands[1:3])
    owner = await asyncpg.connect(url)
    yield Restored(settings.model_copy(update={"database_url": url}), shell, owner)
    await owner.close()


async def readyz(app: FastAPI, status: int) -> str:
    """The body of a process's readiness probe, once it has this status: a process that starts is not ready at once."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://process") as client,
    ):

        async def answered() -> str:
            answer = await client.get("/readyz")
            return answer.text if answer.status_code == status else ""

        return await until(answered)


async def both_readyz(settings: Settings, status: int) -> list[str]:
    """Of the API, and of a process without one."""
    app = ops_server(settings, lambda: []).config.app
    assert isinstance(app, FastAPI)
    return [await readyz(create_app(settings), status), await readyz(app, status)]


async def test_restored_store_is_detected_and_not_read(
    restored: Restored, dump: Dump, publisher: Publisher, valkey: Redis
) -> None:
    before = await restored.checkpoint()

    code, complaint = await restored.shell.fails("python -m migrations")

    assert (code, STEP in complaint) == (2, True)
    assert all(STEP in said for said in await both_readyz(restored.settings, 503))
    with pytest.raises(NotRenumbered, match=STEP):
        await restored.read()
    async with restored.database() as database:
        with pytest.raises(NotRenumbered, match=STEP):
            await rebuild(database, History(valkey), lambda _: None)
        with pytest.raises(NotRenumbered, match=STEP):
            await CatchUp(database, History(valkey), Sink(database, History(valkey))).round(asyncio.Event())
    assert await restored.checkpoint() == before


async def test_renumbered_store_is_read_completely(
    restored: Restored, dump: Dump, keyring: Keyring, valkey: Redis
) -> None:
    # An event saved in the new cluster before renumbering: its transaction id is lower than the stored ones.
    tenants = Database.for_tenants(restored.settings)
    early = await store(tenants, one_event())
    await tenants.close()

    said = await restored.shell.succeeds(*documented()[3:])
    again = await restored.shell.succeeds(STEP)

    everything = {*dump.event_ids, early}
    assert f"{len(everything)} events renumbered, id " in said
    assert again == "0 events renumbered; the events of this database are in order\n"
    assert set(await restored.read()) == everything
    # Projections rebuild what they keep outside Postgres, which may have events from after the dump.
    assert await restored.owner.fetchval(
        "SELECT bool_and(unstored_generation >= generation) FROM user_history.read_models"
    )
    assert {dump.overtaken, early} <= set(await restored.read(await restored.checkpoint())) < everything
    async with restored.database() as database:
        assert (await rebuild(database, History(valkey), lambda _: None)).applied == len(everything)
    assert not any(STEP in said for said in await both_readyz(restored.settings, 200))

    newest = (await restored.read())[-1]
    tenants = Database.for_tenants(restored.settings)
    saving = Saving(CommandStore(tenants, keyring, lambda _: None), keyring)
    owner = await saving.registered(TENANT)
    answer = await saving.property(create_property(TENANT, owner))
    await tenants.close()
    found = await restored.read()
    assert found.index(newest) == len(everything) - 1
    assert found[-1] == str(answer.events[0].event_id)
    assert len(found) == len(everything) + 2


async def test_interrupted_renumbering_can_be_repeated(restored: Restored, dump: Dump) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await renumber(restored.owner, interrupt, batch=2)
    moved = await restored.checkpoint()
    with pytest.raises(NotRenumbered):
        await restored.read()

    assert await renumber(restored.owner, lambda _: None, batch=2) == len(dump.event_ids) - 2

    assert await restored.checkpoint() == moved
    assert set(await restored.read()) == set(dump.event_ids)
    assert dump.overtaken in await restored.read(moved)


async def test_renumbering_refuses_while_a_process_is_connected(restored: Restored) -> None:
    before = await restored.checkpoint()

    async with restored.database() as database, database.statements():
        code, complaint = await restored.shell.fails(STEP)

    assert (code, complaint) == (
        2,
        "1 sessions of the platform are connected to this database: stop its processes first\n",
    )
    assert await restored.checkpoint() == before
    assert await needs_renumbering(restored.owner)


async def test_login_without_superuser_restores_a_dump(
    stack: Stack, settings: Settings, dump: Dump, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with cluster(tmp_path_factory.mktemp("managed")) as url:
        superuser = await asyncpg.connect(url)
        await superuser.execute("CREATE ROLE landlord LOGIN CREATEROLE PASSWORD 'landlord'")
        await superuser.execute("CREATE DATABASE estate OWNER landlord")
        await superuser.close()
        owned = f"postgresql://landlord:landlord@{url.rpartition('@')[2].rpartition('/')[0]}/estate"
        shell = Shell({**stack.env, "DATABASE_URL": owned}, dump.folder)

        await shell.succeeds(documented()[1], *documented()[1:])

        tenants = Database.for_tenants(settings.model_copy(update={"database_url": owned}))
        async with tenants.statements(TENANT) as connection:
            await event_store.ensure_renumbered(connection)
            count = await connection.execute(text("SELECT count(*) FROM user_history.event_store"))
            assert count.scalar_one() == len(dump.event_ids)
        await tenants.close()


async def test_database_that_was_not_restored_needs_no_renumbering(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database_url)
    try:
        assert not await needs_renumbering(connection)
        assert await renumber(connection, lambda _: None) == 0
    finally:
        await connection.close()
