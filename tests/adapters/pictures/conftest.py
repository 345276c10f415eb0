"""Processes that make pictures, for all tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from adapters.pictures import Pictures


@pytest.fixture(scope="session")
async def pictures() -> AsyncIterator[Pictures]:
    made = Pictures(2)
    yield made
    await made.close()
