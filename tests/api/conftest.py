"""Fixtures of the API's tests: more processes of the API than the platform's."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest

from embedded.engines import http_ready
from embedded.paths import Ports
from embedded.process import Process
from embedded.stack import Stack
from tests.platform import Platform


@dataclass(frozen=True)
class Replica:
    """One more process of the API, and a client of it."""

    process: Process
    http: httpx.AsyncClient


async def replica(stack: Stack, name: str, **more: str) -> AsyncIterator[Replica]:
    first, port = stack.processes["api"].spec, Ports(stack.data / f"{name}-port.json")[name]
    url = f"http://127.0.0.1:{port}"
    spec = replace(
        first,
        name=name,
        log=first.log.with_name(f"{name}.log"),
        env={**first.env, "PORT": str(port), **more},
        ready=http_ready(f"{url}/readyz"),
    )
    process = Process(spec, lambda _: None)
    await process.start()
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        yield Replica(process, client)
    await process.stop()


@pytest.fixture(scope="module")
async def second(platform: Platform, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a second API process of the same platform."""
    async for one in replica(stack, "second-api"):
        yield one.http


@pytest.fixture
async def victim(platform: Platform, stack: Stack) -> AsyncIterator[Replica]:
    """An API process that a test may stop or kill, with low limits."""
    async for one in replica(stack, "victim-api", STREAMS_PER_USER="3", STREAMS_PER_ADDRESS="5"):
        yield one
