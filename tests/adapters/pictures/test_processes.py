"""The processes: their limits, their deaths, and that they live on."""

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from PIL import Image

from adapters.pictures import PictureRefused, Pictures
from tests.adapters.pictures.files import drawing, encoded, many_scans
from tests.platform import until


class Own:
    """Pictures with processes of their own, and these."""

    def __init__(self, pictures: Pictures, folder: Path) -> None:
        self.pictures = pictures
        self.folder = folder / "variants"
        self.folder.mkdir()
        self._others = set(multiprocessing.active_children())
        self._source = folder / "source"

    def processes(self) -> list[BaseProcess]:
        return [each for each in multiprocessing.active_children() if each not in self._others]

    def kill(self) -> None:
        for each in self.processes():
            assert each.pid
            os.kill(each.pid, signal.SIGKILL)

    async def make(self, data: bytes, step: Callable[[str], None] = lambda _: None) -> int:
        """How many variants were made."""
        self._source.write_bytes(data)
        return len((await self.pictures.make(self._source, self.folder, step)).variants)

    async def refused(self, data: bytes, step: Callable[[str], None] = lambda _: None) -> str:
        with pytest.raises(PictureRefused) as refused:
            await self.make(data, step)
        return refused.value.code


@asynccontextmanager
async def own(folder: Path, **limits: int) -> AsyncIterator[Own]:
    pictures = Pictures(1, **limits)
    made = Own(pictures, folder)
    yield made
    await pictures.close()
    assert not made.processes()


@pytest.fixture(scope="module")
def slow() -> bytes:
    """25 megapixels in as many scans as are allowed: half a second of decoding."""
    return many_scans(5000, 50)


SMALL = encoded(drawing())
HUGE = encoded(Image.new("RGBA", (7000, 7000), (1, 2, 3, 4)), "PNG", compress_level=1)


async def test_steps_reach_the_event_loop_while_the_process_works(tmp_path: Path) -> None:
    steps: list[str] = []
    async with own(tmp_path) as it:
        await it.make(SMALL, steps.append)
    assert steps == [
        "checking",
        "decoding",
        "avif 400",
        "webp 400",
        "jpeg 400",
        "avif 320",
        "webp 320",
    ]


async def test_file_that_kills_its_process_twice_is_refused_and_the_pool_lives_on(slow: bytes, tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        tries: list[str] = []

        def step(name: str) -> None:
            tries.append(name)
            if name == "decoding":
                it.kill()

        assert await it.refused(slow, step) == "kills-its-process"
        assert tries.count("decoding") == 2
        assert await it.make(SMALL) == 5


async def test_process_that_dies_once_costs_a_second_try(slow: bytes, tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        tries: list[str] = []

        def step(name: str) -> None:
            tries.append(name)
            if tries == ["checking", "decoding"]:
                it.kill()

        assert await it.make(slow, step) == 9
        assert tries.count("decoding") == 2


async def test_process_that_dies_between_two_pictures_is_replaced(tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        assert await it.make(SMALL) == 5
        it.kill()
        assert await it.make(SMALL) == 5


async def test_picture_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    async with own(tmp_path, memory=64 * 1024 * 1024) as it:
        assert await it.refused(HUGE) == "needs-too-much-memory"
        assert await it.make(SMALL) == 5


async def test_largest_pictures_have_enough_memory(pictures: Pictures, tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        assert await it.make(HUGE) == 9


async def test_picture_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    os.mkfifo(hangs)  # reading it waits for somebody who writes
    steps: list[str] = []
    async with own(tmp_path, seconds=1) as it:
        with pytest.raises(PictureRefused) as refused:
            await it.pictures.make(hangs, it.folder, steps.append)
        assert refused.value.code == "takes-too-long"
        assert steps == ["checking"] * 2
        assert await it.make(SMALL) == 5


async def test_picture_that_computes_for_too_long_is_refused(tmp_path: Path) -> None:
    # Its largest variant has 20 megapixels, because it is so high.
    noise = encoded(Image.effect_noise((610, 3276), 80).resize((3050, 16_380)))
    async with own(tmp_path, cpu_seconds=0) as it:
        assert await it.refused(noise) == "takes-too-long"
        assert await it.make(SMALL) == 5


async def test_damaged_file_is_tried_again_in_a_fresh_process(tmp_path: Path) -> None:
    without_tables = SMALL.replace(b"\xff\xdb", b"\xff\xef")
    steps: list[str] = []
    async with own(tmp_path) as it:
        assert await it.refused(without_tables, steps.append) == "damaged"
    assert steps == ["checking", "decoding"] * 2


async def test_cancelled_picture_stops_its_process(slow: bytes, tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        decoding = asyncio.Event()
        making = asyncio.create_task(it.make(slow, lambda name: decoding.set() if name == "decoding" else None))
        await decoding.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert not it.processes()
        assert await it.make(SMALL) == 5


async def test_closing_cancels_what_is_being_made(slow: bytes, tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        decoding = asyncio.Event()
        making = asyncio.create_task(it.make(slow, lambda name: decoding.set() if name == "decoding" else None))
        await decoding.wait()
        await it.pictures.close()
        with pytest.raises(asyncio.CancelledError):
            await making


_WORKER = """
import asyncio, multiprocessing, sys
from pathlib import Path
from adapters.pictures import Pictures

def step(name):
    if name == "decoding":
        print(multiprocessing.active_children()[0].pid, flush=True)

asyncio.run(Pictures(1).make(Path(sys.argv[1]), Path(sys.argv[2]), step))
"""


async def test_processes_end_with_a_worker_that_is_killed(slow: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(slow)
    command = sys.executable, "-c", _WORKER, str(source), str(tmp_path)
    # What it leaves behind is removed; a pytest folder would be too deep for the socket in it.
    with tempfile.TemporaryDirectory() as left_behind:
        env = {**os.environ, "TMPDIR": left_behind}
        worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env)
        assert worker.stdout
        process = Path("/proc") / (await worker.stdout.readline()).decode().strip()
        assert process.exists()
        worker.kill()

        async def ended() -> bool:
            return not process.exists()

        await until(ended)
        await worker.wait()


async def test_file_that_cannot_be_read_is_no_refusal(tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        with pytest.raises(FileNotFoundError):
            await it.pictures.make(tmp_path / "missing", it.folder, lambda _: None)


async def test_folder_that_cannot_be_written_is_no_refusal(pictures: Pictures, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(SMALL)
    with pytest.raises(FileNotFoundError):
        await pictures.make(source, tmp_path / "missing", lambda _: None)


async def test_each_process_makes_one_picture_at_a_time(tmp_path: Path) -> None:
    async with own(tmp_path) as it:
        busy = 0
        most = 0

        def step(name: str) -> None:
            nonlocal busy, most
            busy += (name == "checking") - (name == "webp 320")
            most = max(most, busy)

        await asyncio.gather(*(it.make(SMALL, step) for _ in range(4)))
        assert most == 1
        assert len(it.processes()) == 1
