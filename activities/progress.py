"""Publishes how far commands are to their senders' streams, once each is saved, refused or failed.

Postgres has the state of each command: streams that lack a message are reset, so that it is read from there.
"""

import asyncio
import logging
from typing import Any
from uuid import UUID

import orjson

from activities.batching import Batcher
from adapters.live import LiveMessage, LiveStreams, reset_message, user_stream
from adapters.redis import RedisError
from domain.command import Command, Saved, SealedCommand

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.005
"""Commands that are saved at about the same time share a round trip."""
_RETRY_SECONDS = 1.0
"""Between two attempts to reset streams while Redis is unavailable."""


class Progress:
    """Publishes the progress of commands, without delaying them."""

    def __init__(self, streams: LiveStreams) -> None:
        self._streams = streams
        self._batcher = Batcher(_BATCH_SECONDS, self._send)
        self._incomplete: set[str] = set()
        """Streams that lack a message."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def saved(self, command: Command, saved: Saved) -> None:
        """A command is saved."""
        self._add(command.tenant_id, command.user_id, command.command_id, command.type, "saved", saved.aggregate_id)

    def refused(self, command: Command, code: str, detail: str, field: str | None) -> None:
        """A command is refused."""
        problem = {"code": code, "detail": detail, "field": field}
        self._add(command.tenant_id, command.user_id, command.command_id, command.type, "refused", problem=problem)

    def failed(self, command: SealedCommand) -> None:
        """A command has failed; one that does not say whose it is concerns nobody."""
        try:
            tenant_id, user_id, command_id = str(command["tenantId"]), UUID(command["userId"]), command["commandId"]
            self._add(tenant_id, user_id, UUID(command_id), str(command["type"]), "failed")
        except (KeyError, ValueError, TypeError, AttributeError):
            log.warning("a command has failed that cannot be read")

    def _add(
        self,
        tenant_id: str,
        user_id: UUID,
        command_id: UUID,
        type: str,
        stage: str,
        aggregate_id: UUID | None = None,
        problem: dict[str, Any] | None = None,
    ) -> None:
        data = {
            "commandId": str(command_id),
            "type": type,
            "stage": stage,
            "aggregateId": str(aggregate_id) if aggregate_id else None,
            "problem": problem,
        }
        stream = user_stream(tenant_id, user_id)
        self._batcher.add(LiveMessage(stream, "command", f"{stage}:{command_id}", orjson.dumps(data)))

    async def _send(self, messages: list[LiveMessage]) -> None:
        try:
            await self._streams.publish(messages)
        except RedisError as error:
            log.warning("the progress of %d commands is not sent: %r", len(messages), error)
            self._incomplete |= {message.stream for message in messages}
            if self._timer is None and not self._is_closed:
                self._timer = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._reset)

    def _reset(self) -> None:
        """Reset the streams that lack a message, when Redis is available again."""
        streams, self._incomplete, self._timer = self._incomplete, set(), None
        self._batcher.add(*map(reset_message, streams))

    async def close(self) -> None:
        """Send the current batch without waiting for its interval."""
        self._is_closed = True
        if self._timer:
            self._timer.cancel()
        await self._batcher.close()
