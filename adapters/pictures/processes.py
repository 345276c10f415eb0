"""Processes that make pictures: each file has limits of memory and time, and one that kills its process harms no other.

Each process is a pool of one (`pebble`): it can be replaced by itself, and a file is tried again in a fresh one.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import spawn
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pebble import ProcessExpired, ProcessPool

from adapters.pictures.making import make_picture, prepare_process
from adapters.pictures.picture import Picture, PictureRefused

MEMORY = 1024 * 1024 * 1024
"""Bytes of a process beyond what it starts with: 50 megapixels take up to 800 MB, in a WebP."""
CPU_SECONDS = 30
"""Several times what 50 megapixels take: up to 7 s on a busy core."""
SECONDS = 120
"""Of the wall clock, for what hangs without computing; long, because a busy machine is not the file's fault."""
_PICTURES_OF_A_PROCESS = 200
"""Before it is replaced, so that what a decoder leaks stays small; a process starts in 0.03 s."""
_UNCERTAIN = frozenset(("damaged", "needs-too-much-memory"))
"""A process whose memory is used up by earlier pictures may see the same."""


class Pictures:
    """Makes pictures, at most one at a time on each of `processes`, which start when they are needed."""

    def __init__(
        self,
        processes: int | None = None,
        *,
        memory: int = MEMORY,
        cpu_seconds: int = CPU_SECONDS,
        seconds: float = SECONDS,
    ) -> None:
        """`processes` is by default the number of cores that this process may use; `memory` is in bytes."""
        self._cpu_seconds = cpu_seconds
        self._seconds = seconds
        self._processes = [_Process(memory) for _ in range(processes or cores())]
        # The last one used is the next: where one is enough, the others never start.
        self._idle: asyncio.LifoQueue[_Process] = asyncio.LifoQueue()
        for process in self._processes:
            self._idle.put_nowait(process)

    async def make(self, source: Path, folder: Path, step: Callable[[str], None]) -> Picture:
        """Make the variants of a file in a folder that exists.

        `step` is called by the event loop with what happens next: `checking`, `decoding`, `avif 1920`, ... Raises
        PictureRefused, OSError where a file cannot be read or written, and BrokenProcessPool where processes end before
        they begin. When it is cancelled, or raises, nothing writes to the folder any more.
        """
        process = await self._idle.get()
        try:
            try:
                return await self._attempt(process, source, folder, step)
            except PictureRefused as refused:
                if refused.code not in _UNCERTAIN:
                    raise
            except (ProcessExpired, BrokenProcessPool, TimeoutError) as error:
                _refuse_if_certain(error)
            await process.replace()
            try:
                return await self._attempt(process, source, folder, step)
            except TimeoutError:
                raise PictureRefused("takes-too-long") from None
            except ProcessExpired as error:
                _refuse_if_certain(error)
                raise PictureRefused("kills-its-process") from error
        finally:
            self._idle.put_nowait(process)

    async def _attempt(self, process: "_Process", source: Path, folder: Path, step: Callable[[str], None]) -> Picture:
        with _steps(step) as pipe:
            return await process.run(make_picture, source, folder, pipe, self._cpu_seconds, seconds=self._seconds)

    async def close(self) -> None:
        """End the processes; pictures that are being made are cancelled."""
        await asyncio.gather(*(process.stop() for process in self._processes))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class _Process:
    """One process at a time, which starts with the first call."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._pool = self._new()
        self._called: Future[Picture] | None = None

    def _new(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=_PICTURES_OF_A_PROCESS,
            initializer=prepare_process,
            initargs=(self._memory,),
            context=_context(),
        )

    async def run(self, function: Callable[..., Picture], *args: object, seconds: float) -> Picture:
        """Call a function in the process.

        Raises what it raises; ProcessExpired when the process dies, BrokenProcessPool when there is none, and
        TimeoutError.
        """
        # In a thread: starting the process takes a moment. A pool is broken when its process died between two calls.
        if not await asyncio.to_thread(lambda: self._pool.active):
            await self.replace()
            await asyncio.to_thread(lambda: self._pool.active)
        self._called = self._pool.schedule(function, args=args, timeout=seconds)
        try:
            return await asyncio.wrap_future(self._called)
        except asyncio.CancelledError:
            await self.replace()
            raise

    async def replace(self) -> None:
        """End the process, whatever it does; the next call starts another."""
        ended, self._pool = self._pool, self._new()
        await asyncio.shield(asyncio.to_thread(_end, ended))

    async def stop(self) -> None:
        """End the process, and cancel the call that waits for it: pebble does not answer it any more."""
        if self._called:
            self._called.cancel()
        await self.replace()


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _refuse_if_certain(error: Exception) -> None:
    """Raise PictureRefused if the process has computed for as long as a file may."""
    if isinstance(error, ProcessExpired) and error.exitcode == -signal.SIGXCPU:
        raise PictureRefused("takes-too-long") from error


@contextmanager
def _steps(step: Callable[[str], None]) -> Iterator[Path]:
    """A named pipe; the event loop calls `step` with each line that is written to it.

    Unlike a queue of multiprocessing it has no lock, which a process that is killed would keep for ever.
    """
    loop = asyncio.get_running_loop()
    with TemporaryDirectory(prefix="picture-") as folder:
        path = Path(folder) / "steps"
        os.mkfifo(path, 0o600)
        # For reading and writing: it has no end while the process opens it, or has died.
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

        def read() -> None:
            with suppress(BlockingIOError):
                for name in os.read(pipe, 4096).decode().splitlines():
                    step(name)

        loop.add_reader(pipe, read)
        try:
            yield path
        finally:
            loop.remove_reader(pipe)
            read()
            os.close(pipe)


def _context() -> Any:
    """Processes are forked from one that has imported this package and has no threads, as this one has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["adapters.pictures.making"])
    return context


_prepared = spawn.get_preparation_data


def _without_main(name: str) -> dict[str, Any]:
    """What a process is told to import: not the program that started it, unlike others of multiprocessing.

    That of the worker takes 2 s and 150 MB, and a picture needs nothing of it.
    """
    prepared: dict[str, Any] = _prepared(name)
    if name == "pebble_pool_worker":
        prepared.pop("init_main_from_name", None)
        prepared.pop("init_main_from_path", None)
    return prepared


setattr(spawn, "get_preparation_data", _without_main)  # noqa: B010
