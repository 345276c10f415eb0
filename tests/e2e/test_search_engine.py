"""OpenSearch unavailable and wiped: searches say so, everything else goes on, and all is found again by itself."""

import asyncio
import os
import signal

import pytest

from tests.e2e.wiping import Wiping
from tests.platform import Person, Platform, until

pytestmark = [
    pytest.mark.search,
    pytest.mark.skipif(os.environ.get("TEST_SEARCH") != "opensearch", reason="OpenSearch: make test-search"),
]


@pytest.fixture
async def owner(platform: Platform) -> Person:
    return await platform.register()


def unread(owner: Person) -> str:
    """A word of the owner's own that is read as no filter: digits in it might be a price."""
    return "word" + owner.username.translate(str.maketrans("0123456789", "ghijklmnop"))


async def find(platform: Platform, word: str) -> set[str] | None:
    """The ids of the listings with a word; None while the search is unavailable."""
    answer = await platform.http.get("/api/search/properties", params={"q": word})
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["type"].endswith("/unavailable")
        return None
    assert answer.status_code == 200, answer.text
    return {item["property"]["id"] for item in answer.json()["items"]}


async def state(platform: Platform) -> str:
    found: str = (await platform.http.get("/readyz")).json()["dependencies"]["opensearch"]
    return found


async def test_searches_are_unavailable_without_opensearch_and_everything_else_goes_on(
    platform: Platform, owner: Person
) -> None:
    word, created = unread(owner), []
    before = await platform.create(owner, title=f"A flat {word}")
    created.append(before.json()["id"])

    async def all_are_found() -> bool:
        return await find(platform, word) == set(created)

    await until(all_are_found)
    pid = platform.stack.processes["opensearch"].pid
    assert pid
    # Halted, it neither answers nor refuses.
    os.kill(pid, signal.SIGSTOP)
    try:
        meanwhile = await platform.create(owner, title=f"Another flat {word}")
        created.append(meanwhile.json()["id"])
        assert meanwhile.status_code == 201
        assert (await platform.http.get(meanwhile.headers["location"])).status_code == 200
        assert await platform.history(owner, meanwhile.headers["consistency-token"])
        assert await find(platform, word) is None
        assert await state(platform) == "unavailable (TimeoutError)"
    finally:
        os.kill(pid, signal.SIGCONT)

    await until(all_are_found)
    assert await state(platform) == "reached"


async def test_wiped_opensearch_is_filled_again(platform: Platform, owner: Person) -> None:
    word = unread(owner)
    before = (await platform.create(owner, title=f"A flat {word}")).json()["id"]
    wiping = asyncio.create_task(Wiping(platform.stack).wipe("opensearch"))

    async def is_wiped() -> bool:
        return await find(platform, word) is None

    await until(is_wiped)
    meanwhile = (await platform.create(owner, title=f"Another flat {word}")).json()["id"]
    await wiping

    async def both_are_found() -> bool:
        return await find(platform, word) == {before, meanwhile}

    await until(both_are_found, seconds=60)
