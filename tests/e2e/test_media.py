"""Pictures survive the death of their worker and of the object storage: each is there exactly once."""

import asyncio
import io
import os
import random
import signal
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from tests.api.test_images import send, settled
from tests.e2e.test_kills import load
from tests.platform import Person, Platform, until

UNAVAILABLE_SECONDS = 60
SECONDS = 240
"""A worker counts as dead after 20 s; the suite's other processes take the machine too."""


def large(n: int) -> bytes:
    """A photo that takes a process some seconds."""
    chance = random.Random(n)
    small = Image.frombytes("RGB", (150, 100), chance.randbytes(150 * 100 * 3))
    file = io.BytesIO()
    small.resize((4500, 3000), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


async def command_images(platform: Platform, person: Person, command_id: str) -> list[dict[str, Any]]:
    state = (await platform.http.get(f"/api/commands/{command_id}", headers=person.headers)).json()
    images: list[dict[str, Any]] = state["images"]
    return images


async def added_events(platform: Platform, person: Person, path: str) -> Counter[str]:
    answer = await platform.http.get(f"{path}/history", params={"limit": 100}, headers=person.headers)
    return Counter(event["data"]["image"]["id"] for event in answer.json()["items"] if "image" in event["data"])


async def assert_whole(platform: Platform, person: Person, path: str, images: list[dict[str, Any]]) -> None:
    """Each image is ready, was recorded once, and each of its files is served."""
    assert [image["status"] for image in images] == ["READY"] * len(images)
    assert await added_events(platform, person, path) == Counter(image["id"] for image in images)
    for image in images:
        assert len(image["variants"]) == 9
        for each in image["variants"]:
            served = await platform.http.get(urlsplit(each["url"]).path)
            assert (served.status_code, len(served.content)) == (200, each["bytes"])
            with Image.open(io.BytesIO(served.content)) as made:
                assert (made.width, made.height) == (each["width"], each["height"])


async def test_pictures_survive_the_death_of_their_worker(platform: Platform) -> None:
    person = await platform.register()
    path: str = (await platform.create(person)).headers["location"]
    sent = await send(platform, person, path, *((f"{n}.jpg", large(n)) for n in range(4)))
    command_id = sent.headers["command-id"]

    async def in_the_middle() -> bool:
        steps = [image["step"] or "" for image in await command_images(platform, person, command_id)]
        return any(step.startswith(("avif", "webp", "storing")) for step in steps)

    await until(in_the_middle, SECONDS)
    async with load(platform, person) as acknowledged:
        worker = platform.stack.processes["worker"].pid
        assert worker
        os.kill(worker, signal.SIGKILL)
        await until(lambda: enough(acknowledged), SECONDS)

    async def done() -> list[dict[str, Any]]:
        return await settled(platform, person, path)

    images = await until(done, SECONDS)
    await assert_whole(platform, person, path, images)


async def enough(acknowledged: dict[str, str]) -> bool:
    return len(acknowledged) >= 20


async def test_pictures_wait_for_the_object_storage(platform: Platform) -> None:
    """It fails while they are made; nothing is lost, and other commands are answered meanwhile."""
    person = await platform.register()
    path: str = (await platform.create(person)).headers["location"]
    storage = platform.stack.processes["s3"].pid
    assert storage
    sent = await send(platform, person, path, *((f"{n}.jpg", large(10 + n)) for n in range(2)))
    begun = time.monotonic()
    os.kill(storage, signal.SIGSTOP)
    try:
        assert sent.status_code == 201
        refused = await send(platform, person, path, ("late.jpg", large(20)))
        assert refused.status_code == 503
        assert (await platform.create(person)).status_code == 201
        while time.monotonic() < begun + UNAVAILABLE_SECONDS:
            assert (await platform.create(person)).status_code == 201
            images = await command_images(platform, person, sent.headers["command-id"])
            assert {image["status"] for image in images} <= {"PROCESSING", "READY"}
            await asyncio.sleep(1)
    finally:
        os.kill(storage, signal.SIGCONT)

    images = await until(lambda: settled(platform, person, path), SECONDS)
    assert len(images) == 2
    await assert_whole(platform, person, path, images)
