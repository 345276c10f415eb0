"""The embedded broker: its log survives restarts."""

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from embedded.kafka import kafka
from embedded.paths import Ports
from embedded.process import PrintLine
from embedded.stack import Stack
from tests.platform import until


@asynccontextmanager
async def broker(data: Path, print_line: PrintLine) -> AsyncIterator[Stack]:
    stack = Stack(data, print_line)
    try:
        await stack.start_engines(["kafka"])
        yield stack
    finally:
        await stack.stop()


async def test_messages_and_offsets_survive_a_kill_and_a_restart(tmp_path: Path) -> None:
    lines: list[str] = []
    read: list[bytes] = []

    async def is_back() -> bool:
        return any("is back" in line for line in lines)

    async with broker(tmp_path, lines.append) as stack:
        address = stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic("facts", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True) as producer:
            for value in (b"first", b"second", b"third"):
                await producer.send_and_wait("facts", value)
        read.append(await next_message(address))
        pid = stack.processes["kafka"].pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await until(is_back, seconds=60)
        read.append(await next_message(address))
    async with broker(tmp_path, lines.append) as stack:
        read.append(await next_message(stack.env["KAFKA_BOOTSTRAP_SERVERS"]))

    assert read == [b"first", b"second", b"third"]


async def test_broker_whose_folder_is_deleted_comes_back_empty(tmp_path: Path) -> None:
    lines: list[str] = []

    async def is_back() -> bool:
        return any("is back" in line for line in lines)

    async with broker(tmp_path, lines.append) as stack:
        pid = stack.processes["kafka"].pid
        assert pid
        shutil.rmtree(tmp_path / "kafka")
        os.kill(pid, signal.SIGKILL)
        await until(is_back, seconds=60)


async def next_message(address: str) -> bytes:
    """The first message that a group has not read yet, which it then commits."""
    async with (
        asyncio.timeout(60),
        AIOKafkaConsumer(
            "facts",
            bootstrap_servers=address,
            group_id="readers",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        ) as reader,
    ):
        value: bytes = (await reader.getone()).value
        await reader.commit()
    return value


async def test_folder_is_formatted_whatever_the_id_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One random id in 64 begins with a dash, as an option does."""
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    (tmp_path / "logs").mkdir()

    await kafka(tmp_path, Ports(tmp_path / "ports.json"), lambda _: None)

    assert "\ncluster.id=-" in (tmp_path / "kafka" / "meta.properties").read_text()
