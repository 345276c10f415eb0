"""Searching every store of the platform, its topics, its workflows and its logs for texts."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from google.protobuf.message import Message
from redis.asyncio import Redis
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.service import RPCError

from adapters import kafka, objects
from adapters.settings import Settings
from domain.events import TOPICS

_HISTORIES_AT_ONCE = 20

Found = dict[str, set[str]]
"""The texts that were found, by where."""


class Everywhere:
    """Looks for texts in everything that the platform keeps; a mailbox is its owner's."""

    def __init__(self, settings: Settings, temporal: Client, redis: Redis, data: Path) -> None:
        self._settings = settings
        self._temporal = temporal
        self._redis = redis
        self._data = data
        self._since = datetime.now(UTC)

    async def find(self, texts: Iterable[str]) -> Found:
        """Where each of the texts is in the clear: names of tables, topics, workflows, keys, objects and logs."""
        wanted = [str(text) for text in texts]
        assert all(len(text) > 7 for text in wanted), "a short text is found by accident"
        found = [
            await self.in_tables(wanted),
            await self.in_topics(wanted),
            await self.in_workflows(wanted),
            await self.in_redis(wanted),
            await asyncio.to_thread(self._in_objects, wanted),
            await asyncio.to_thread(self._in_logs, wanted),
        ]
        return {where: texts for part in found for where, texts in part.items()}

    async def in_tables(self, wanted: list[str]) -> Found:
        """Every table of the database; binary columns too."""
        found: Found = defaultdict(set)
        connection = await asyncpg.connect(self._settings.database_url)
        try:
            tables = await connection.fetch(
                "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
            assert len(tables) > 20
            for table in tables:
                # Row-level security does not apply to the login, which owns the tables.
                for text in wanted:
                    # A binary column is in hexadecimal digits.
                    spellings = [f"%{text}%", f"%{text.encode().hex()}%"]
                    query = f"SELECT EXISTS (SELECT FROM {table['name']} t WHERE row_to_json(t)::text ILIKE ANY ($1))"
                    if await connection.fetchval(query, [_escaped(spelling) for spelling in spellings]):
                        found[table["name"]].add(text)
        finally:
            await connection.close()
        return found

    async def in_topics(self, wanted: list[str]) -> Found:
        """Keys, headers and values of every message."""
        found: Found = defaultdict(set)
        consumer = kafka.consumer(self._settings, None, *TOPICS)
        await consumer.start()
        heard = 0
        try:
            while batch := await consumer.getmany(timeout_ms=1500):
                for record in (record for records in batch.values() for record in records):
                    heard += 1
                    _note(found, record.topic, f"{record.key} {record.headers} ".encode() + record.value, wanted)
        finally:
            await consumer.stop()
        assert heard
        return found

    async def in_workflows(self, wanted: list[str]) -> Found:
        """Inputs, results, failures, memos, search attributes and summaries of every workflow of the namespace.

        Those that were closed before this object was made are left out: they cannot have what was made up since.
        """
        found: Found = defaultdict(set)
        recent = f"ExecutionStatus = 'Running' OR CloseTime >= '{self._since.isoformat()}'"
        ids = {(one.id, one.run_id) async for one in self._temporal.list_workflows(recent)}
        assert ids
        allowed = asyncio.Semaphore(_HISTORIES_AT_ONCE)

        async def search(id: str, run_id: str) -> None:
            async with allowed:
                handle = self._temporal.get_workflow_handle(id, run_id=run_id)
                try:
                    history, described = await handle.fetch_history(), await handle.describe()
                except RPCError:
                    return  # deleted in the meantime
            messages: list[Message] = [*history.events, described.raw_description]
            for message in messages:
                payloads = b" ".join(payload.data for payload in payloads_of(message))
                _note(found, id, str(message).encode() + payloads, wanted)

        await asyncio.gather(*(search(id, run_id) for id, run_id in ids))
        return found

    async def in_redis(self, wanted: list[str]) -> Found:
        """Every key and its value."""
        found: Found = defaultdict(set)
        async for key in self._redis.scan_iter(count=1000):
            value = await self._value(key)
            _note(found, f"redis {key.decode()}", key + b" " + repr(value).encode(), wanted)
        return found

    async def _value(self, key: bytes) -> object:
        redis: Any = self._redis
        match await redis.type(key):
            case b"string":
                return await redis.get(key)
            case b"zset":
                return await redis.zrange(key, 0, -1)
            case b"hash":
                return await redis.hgetall(key)
            case b"set":
                return await redis.smembers(key)
            case b"list":
                return await redis.lrange(key, 0, -1)
            case b"none":
                return None  # expired in the meantime
        raise AssertionError(f"{key!r} has a type that is not searched")

    def _in_objects(self, wanted: list[str]) -> Found:
        found: Found = defaultdict(set)
        client = objects.connect(self._settings)
        for bucket in client.list_buckets()["Buckets"]:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
                for item in page.get("Contents", ()):
                    content = client.get_object(Bucket=bucket["Name"], Key=item["Key"])["Body"].read()
                    _note(found, f"object {item['Key']}", item["Key"].encode() + content, wanted)
        return found

    def _in_logs(self, wanted: list[str]) -> Found:
        found: Found = defaultdict(set)
        logs = list((self._data / "logs").glob("*.log"))
        assert logs
        for log in logs:
            _note(found, log.name, log.read_bytes(), wanted)
        return found


def payloads_of(message: Message) -> list[Payload]:
    """Every payload in a protobuf message, however deep."""
    found: list[Payload] = []

    def walk(message: Message) -> None:
        if isinstance(message, Payload):
            found.append(message)
            return
        for _, value in message.ListFields():
            if isinstance(value, Message | str | bytes | int | float):
                inner = [value]
            else:  # a repeated field or a map, neither of which needs to have `__iter__`
                inner = list(value.values() if isinstance(value, Mapping) else value)
            for one in inner:
                if isinstance(one, Message):
                    walk(one)

    walk(message)
    return found


def _note(found: Found, where: str, content: bytes, wanted: list[str]) -> None:
    lower = content.lower()
    for text in wanted:
        if text.lower().encode() in lower:
            found[where].add(text)


def _escaped(pattern: str) -> str:
    """Underscores of a token as themselves."""
    return pattern.replace("_", r"\_")
