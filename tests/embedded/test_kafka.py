"""The broker on this machine: its log outlives it."""

import os
import signal
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from embedded.kafka import kafka
from embedded.paths import Ports
from embedded.stack import Stack
from tests.platform import until


async def test_messages_and_offsets_outlive_a_kill_and_a_restart(tmp_path: Path) -> None:
    said: list[str] = []
    stack = Stack(tmp_path, said.append)
    await stack.start_engines(["kafka"])
    address = stack.env["KAFKA_BOOTSTRAP_SERVERS"]
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic("facts", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True) as producer:
        for value in (b"first", b"second"):
            await producer.send_and_wait("facts", value)
    partition = TopicPartition("facts", 0)
    async with AIOKafkaConsumer(bootstrap_servers=address, group_id="readers", enable_auto_commit=False) as reader:
        reader.assign([partition])
        await reader.commit({partition: 1})

    async def next_message() -> tuple[int, bytes]:
        async with AIOKafkaConsumer(
            bootstrap_servers=stack.env["KAFKA_BOOTSTRAP_SERVERS"], group_id="readers", enable_auto_commit=False
        ) as reader:
            reader.assign([partition])
            record = await reader.getone()
            return record.offset, record.value

    async def is_back() -> bool:
        return any("is back" in line for line in said)

    pid = stack.processes["kafka"].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    await until(is_back)
    after_kill = await next_message()
    await stack.stop()
    stack = Stack(tmp_path, said.append)
    await stack.start_engines(["kafka"])
    after_restart = await next_message()
    await stack.stop()

    assert after_kill == after_restart == (1, b"second")


async def test_folder_is_formatted_whatever_the_id_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One random id in 64 begins with a dash, as an option does."""
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    (tmp_path / "logs").mkdir()

    await kafka(tmp_path, Ports(tmp_path / "ports.json"), lambda _: None)

    assert "\ncluster.id=-" in (tmp_path / "kafka" / "meta.properties").read_text()
