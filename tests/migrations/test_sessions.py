"""0004: the sessions that people have are kept, open or closed."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic import command

from adapters.settings import Settings
from migrations.__main__ import alembic_config
from tests.samples import new_id, new_tenant

_TOKEN = """
    INSERT INTO user_management.refresh_tokens
        (tenant_id, token_hash, family_id, user_id, issued_at, expires_at, used_at, revoked_at)
    VALUES ($1, $2, $3, $4, now(), now() + interval '30 days', $5, $6)
"""


@pytest.fixture
async def apart(settings: Settings) -> AsyncIterator[Settings]:
    """An empty database of its own on the same server."""
    name = new_tenant()
    operator = await asyncpg.connect(settings.database_url)
    await operator.execute(f'CREATE DATABASE "{name}"')
    url = urlsplit(settings.database_url)._replace(path=f"/{name}").geturl()
    yield settings.model_copy(update={"database_url": url})
    await operator.execute(f'DROP DATABASE "{name}"')
    await operator.close()


async def test_tokens_that_are_out_belong_to_a_session_afterwards(apart: Settings) -> None:
    user, open_family, closed_family = new_id(), new_id(), new_id()
    await asyncio.to_thread(command.upgrade, alembic_config(apart), "0003")
    connection = await asyncpg.connect(apart.database_url)
    now = await connection.fetchval("SELECT now()")
    await connection.executemany(
        _TOKEN,
        [
            ("hyderabad", b"used", open_family, user, now, None),
            ("hyderabad", b"next", open_family, user, None, None),
            ("hyderabad", b"left", closed_family, user, None, now),
        ],
    )

    await asyncio.to_thread(command.upgrade, alembic_config(apart), "0004")

    rows = await connection.fetch("SELECT session_id, user_id, revoked_at FROM user_management.sessions")
    tokens = await connection.fetch("SELECT session_id FROM user_management.refresh_tokens ORDER BY token_hash")
    await connection.close()
    assert {tuple(row) for row in rows} == {(open_family, user, None), (closed_family, user, now)}
    assert [row["session_id"] for row in tokens] == [closed_family, open_family, open_family]
