"""Supervises a child process: starts it, waits until it is ready, restarts it when it dies and stops it."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

PrintLine = Callable[[str], None]

MIN_BACKOFF, MAX_BACKOFF = 0.5, 30.0
"""Seconds before a restart: exponential backoff, which is reset once the process has run for a while."""
_BACKOFF_RESET_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """A process ended or timed out before it was ready; the message has its name and its log."""


@dataclass(frozen=True)
class Spec:
    """The command line of a process, its readiness probe and how it is stopped."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[object]]
    """The readiness probe; raises while the process is not ready."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    ready_seconds: float = 60.0
    before_restart: Callable[[], Awaitable[None]] | None = None
    """Runs while the process is down, before it is started again. Raises StartFailed."""
    leftover_files: Sequence[Path] = ()
    """Files outside the data folder that the process does not remove; deleted when it is stopped."""


async def run_command(
    command: Sequence[str], what: str, log: Path, env: Mapping[str, str] = MappingProxyType({}), cwd: Path | None = None
) -> None:
    """Run a command to its end, with its output in `log`. Raises StartFailed unless it exits with code 0."""
    with log.open("ab") as out:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **env},
            cwd=cwd,
            preexec_fn=_restore_sigint,
        )
    try:
        code = await child.wait()
    except asyncio.CancelledError:
        # Ctrl-C is sent to the child too, SIGTERM is not. On SIGINT the child cleans up.
        child.send_signal(signal.SIGINT)
        await child.wait()
        raise
    if code != 0:
        raise StartFailed(f"{what} ended with code {code}.{_tail(log)}")


def _restore_sigint() -> None:
    """Restore the default action of SIGINT, which children of a process that a shell started with `&` ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    return "".join(f"\n      | {line[:300]}" for line in lines) + f"\n    Its whole log: {log}"


def _die_with_parent(by: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by)


class Process:
    """One supervised child process."""

    def __init__(self, spec: Spec, print_line: PrintLine) -> None:
        self.spec = spec
        self._print_line = print_line
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.returncode is None else None

    async def start(self) -> None:
        """Start the process, wait until it is ready, then restart it whenever it ends. Raises StartFailed."""
        began = time.monotonic()
        await self._spawn()
        await self._until_ready()
        self._print_line(f"  {self.spec.name:<12} ready after {time.monotonic() - began:.1f} s")
        self._watch = asyncio.create_task(self._keep_running(), name=f"watch {self.spec.name}")

    async def stop(self) -> None:
        """Stop the process and its process group."""
        self._stopping = True
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        child = self._child
        if child is None:
            return
        if child.returncode is None:
            child.send_signal(self.spec.stop_signal)
            try:
                await asyncio.wait_for(child.wait(), self.spec.stop_seconds)
            except TimeoutError:
                self._print_line(f"  {self.spec.name:<12} did not end within {self.spec.stop_seconds:.0f} s: killed")
        self._kill_group(child.pid)
        await child.wait()
        for file in self.spec.leftover_files:
            file.unlink(missing_ok=True)

    async def _spawn(self) -> None:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.env},
                cwd=self.spec.cwd,
                start_new_session=True,  # so that Ctrl-C is not sent to it, and `stop` stops processes in order
                preexec_fn=partial(_die_with_parent, self.spec.stop_signal),
            )

    async def _until_ready(self) -> None:
        assert self._child is not None
        deadline = time.monotonic() + self.spec.ready_seconds
        last: Exception | None = None
        while time.monotonic() < deadline:
            if self._child.returncode is not None:
                raise StartFailed(f"{self.spec.name} ended with code {self._child.returncode}.{_tail(self.spec.log)}")
            try:
                await asyncio.wait_for(self.spec.ready(), 5)
                return
            except Exception as error:  # any error of the probe means that the process is not ready
                last = error
            await asyncio.sleep(0.1)
        raise StartFailed(
            f"{self.spec.name} was not ready within {self.spec.ready_seconds:.0f} s ({last!r}).{_tail(self.spec.log)}"
        )

    async def _keep_running(self) -> None:
        backoff = MIN_BACKOFF
        while True:
            assert self._child is not None
            began = time.monotonic()
            code = await self._child.wait()
            self._kill_group(self._child.pid)
            if time.monotonic() - began > _BACKOFF_RESET_SECONDS:
                backoff = MIN_BACKOFF
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            self._print_line(
                f"  {self.spec.name:<12} ended ({how}); starts again in {backoff:g} s; log: {self.spec.log}"
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)
            try:
                if self.spec.before_restart:
                    await self.spec.before_restart()
                await self._spawn()
                await self._until_ready()
                self._print_line(f"  {self.spec.name:<12} is back")
            except StartFailed as error:
                self._print_line(f"  {error}")
                if self.pid:
                    self._kill_group(self._child.pid)

    def _kill_group(self, pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # the group is gone, or its id was reused
