"""Commands of an operator while a service cannot be reached: one line for each, and code 1."""

import asyncio
import os
import sys

import pytest

from embedded.paths import ROOT
from embedded.stack import Stack

NOBODY = "127.0.0.1:1"
NO_POSTGRES = f"postgresql://owner:secret@{NOBODY}/hyderabad"


async def run(stack: Stack, command: str, **env: str) -> tuple[int | None, list[str]]:
    """How `python -m command` ends with the settings of the stack and `env`: its code, and what it writes to stderr."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *command.split()),
        cwd=ROOT,
        env={**os.environ, **stack.env, **env},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate()
    return child.returncode, errors.decode().splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "migrations",
        "migrations database",
        "migrations check",
        "migrations roles",
        "migrations restored",
        "projections parked",
        "projections rebuild counts",
    ],
)
async def test_command_without_postgres_says_where_it_looked_and_keeps_the_password(stack: Stack, command: str) -> None:
    code, told = await run(stack, command, DATABASE_URL=NO_POSTGRES)

    assert (code, len(told)) == (1, 1), told
    assert told[0].startswith(f"Postgres at {NOBODY} ")
    assert "DATABASE_URL" in told[0]
    assert "secret" not in told[0]


async def test_database_that_does_not_let_us_in_is_told_in_one_line(stack: Stack) -> None:
    url = stack.env["DATABASE_URL"]

    for wrong in (f"{url}-missing", url.replace("hyderabad:", "hyderabad:x", 1)):
        code, told = await run(stack, "migrations", DATABASE_URL=wrong)
        assert (code, len(told)) == (1, 1), told
        assert told[0].startswith(f"Postgres at 127.0.0.1:{stack.ports['postgres']} ")


async def test_migrations_say_each_service_that_they_did_not_reach(stack: Stack) -> None:
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": NOBODY, "TEMPORAL_ADDRESS": NOBODY, "S3_ENDPOINT_URL": f"http://{NOBODY}"}

    code, told = await run(stack, "migrations", **nowhere)

    assert code == 1
    assert [line.partition(" cannot be used")[0] for line in told] == [
        f"{service} at {NOBODY}" for service in ("Kafka", "Temporal", "S3")
    ]
    assert all(setting in line for setting, line in zip(nowhere, told, strict=True))
