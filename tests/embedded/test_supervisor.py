"""The supervisor: restarts with exponential backoff, and leaves no processes behind."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from embedded.paths import ROOT, Ports, is_free, load_or_create_secrets
from embedded.process import Process, Spec, StartFailed, run_command
from embedded.stack import Stack
from tests.platform import until

_SLEEP = "import time; time.sleep(600)"
CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{_SLEEP}']); {_SLEEP}"


async def nothing() -> None:
    return None


def spec(tmp_path: Path, code: str, **more: object) -> Spec:
    return Spec("child", [sys.executable, "-c", code], tmp_path / "child.log", nothing, **more)  # type: ignore[arg-type]


def members(group: int) -> list[int]:
    """The processes of a group that are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(folder.name))
    return found


async def test_process_that_dies_is_restarted_and_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    process = Process(spec(tmp_path, "import time; time.sleep(600)"), lines.append)
    await process.start()
    first = process.pid
    assert first

    os.kill(first, signal.SIGKILL)

    async def another() -> bool:
        return process.pid not in {None, first} and any("is back" in line for line in lines)

    await until(another)
    assert any("SIGKILL" in line and "starts again in 0.5 s" in line for line in lines)
    await process.stop()


async def test_step_before_a_restart_runs_while_the_process_is_down(tmp_path: Path) -> None:
    lines: list[str] = []
    running: list[int | None] = []

    async def look() -> None:
        running.append(process.pid)

    process = Process(spec(tmp_path, "import time; time.sleep(600)", before_restart=look), lines.append)
    await process.start()
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)

    async def is_back() -> bool:
        return any("is back" in line for line in lines)

    await until(is_back)
    assert running == [None]
    await process.stop()


async def test_backoff_grows_while_a_process_keeps_dying(tmp_path: Path) -> None:
    lines: list[str] = []
    process = Process(spec(tmp_path, "import sys, time; time.sleep(0.1); sys.exit(3)"), lines.append)
    await process.start()

    async def three_pauses() -> bool:
        return sum("starts again" in line for line in lines) >= 3

    await until(three_pauses)
    await process.stop()
    pauses = [line.split("starts again in ")[1].split(" s")[0] for line in lines if "starts again" in line]
    assert pauses[:3] == ["0.5", "1", "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_stop_kills_grandchildren_too(tmp_path: Path) -> None:
    process = Process(spec(tmp_path, CHILD), lambda _: None)
    await process.start()
    group = process.pid
    assert group

    async def both() -> bool:
        return len(members(group)) == 2

    await until(both)

    await process.stop()

    async def gone() -> bool:
        return not members(group)

    await until(gone)


async def test_failed_start_reports_the_process_and_its_log(tmp_path: Path) -> None:
    async def never() -> None:
        raise ConnectionError("nobody there")

    process = Process(
        Spec("broken", [sys.executable, "-c", "raise SystemExit('no licence')"], tmp_path / "broken.log", never),
        lambda _: None,
    )

    with pytest.raises(StartFailed, match=r"broken ended with code 1.\n +\| no licence\n.*broken.log"):
        await process.start()
    await process.stop()


async def test_process_that_is_never_ready_is_reported_with_the_reason(tmp_path: Path) -> None:
    async def never() -> None:
        raise ConnectionError("nobody there")

    silent = Spec(
        "silent", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", never, ready_seconds=0.5
    )
    process = Process(silent, lambda _: None)

    with pytest.raises(StartFailed, match="nobody there"):
        await process.start()
    await process.stop()


async def test_failed_step_of_the_set_up_reports_its_last_lines_and_its_log(tmp_path: Path) -> None:
    log = tmp_path / "step.log"

    with pytest.raises(StartFailed, match=r"Preparing ended with code 1.\n +\| no licence\n.*step.log"):
        await run_command([sys.executable, "-c", "raise SystemExit('no licence')"], "Preparing", log)


async def test_cancelled_step_of_the_set_up_can_clean_up(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    code = f"try:\n print('begun', flush=True); {_SLEEP}\nexcept KeyboardInterrupt:\n print('cleaned up')"
    step = asyncio.create_task(run_command([sys.executable, "-c", code], "Preparing", log))

    async def begun() -> bool:
        return log.exists() and "begun" in log.read_text()

    await until(begun)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step

    assert "cleaned up" in log.read_text()


def test_ports_are_remembered_and_may_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Ports(tmp_path / "ports.json")["kafka"]
    assert Ports(tmp_path / "ports.json")["kafka"] == first
    monkeypatch.setenv("KAFKA_PORT", "not a port")
    with pytest.raises(SystemExit, match="KAFKA_PORT"):
        Ports(tmp_path / "ports.json")["kafka"]


async def test_port_in_use_is_reported_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    from embedded.paths import api_port

    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("PORT", str(port))

    assert not is_free(port)
    with pytest.raises(SystemExit, match=f"make run PORT={port + 1}"):
        api_port()
    server.close()


def test_secrets_are_created_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    made = load_or_create_secrets(tmp_path)

    assert load_or_create_secrets(tmp_path) == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


def test_secrets_of_an_earlier_release_are_kept_beside_those_that_it_did_not_have(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"SECRET_KEY": "kept"}')

    made = load_or_create_secrets(tmp_path)

    assert made["SECRET_KEY"] == "kept"
    assert made["VAPID_PRIVATE_KEY"]
    assert load_or_create_secrets(tmp_path) == made


async def test_s3_leaves_no_socket_behind(tmp_path: Path) -> None:
    def of_all() -> set[Path]:
        return set(Path("/tmp").glob("seaweedfs-*.sock"))

    before = of_all()  # of runs that were killed, maybe at the same ports

    def sockets() -> set[Path]:
        ours = {str(port) for port in json.loads((tmp_path / "ports.json").read_text()).values()}
        return {file for file in of_all() - before if file.stem.rpartition("-")[2] in ours}

    stack = Stack(tmp_path, lambda _: None)
    await stack.start_engines(["s3"])
    made = sockets()
    await stack.stop()

    assert made
    assert sockets() == set()


async def test_second_run_says_which_process_has_the_data_and_how_to_stop_it(tmp_path: Path) -> None:
    port = Ports(tmp_path / "api-port.json")["api"]
    command = [sys.executable, "-m", "embedded", "--data", str(tmp_path)]
    pipe, env = asyncio.subprocess.PIPE, {**os.environ, "PORT": str(port)}
    first = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=asyncio.subprocess.DEVNULL)
    lock = tmp_path / "lock"

    async def holds() -> bool:
        return lock.exists() and lock.read_text() != ""

    try:
        await until(holds)
        for _ in range(2):
            second = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=pipe)
            output, _ = await second.communicate()
            assert second.returncode == 1
            assert f"using {tmp_path}: process {first.pid}." in output.decode()
            assert f"`kill {first.pid}`" in output.decode()
    finally:
        first.terminate()
        await first.wait()


async def test_engine_that_a_url_replaces_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://somebody:secret@redis.example:6379/0")
    lines: list[str] = []
    stack = Stack(tmp_path, lines.append)

    await stack.start_engines(["redis"])

    assert stack.processes == {}
    assert "REDIS_URL" not in stack.env
    assert lines == ["  redis        is not started: REDIS_URL names redis.example:6379/0"]
