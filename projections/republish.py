"""Publish stored events to Kafka once more, for consumers outside of the platform.

Each message is marked by the header `ce_replay`. The platform's projections recognize what they have applied.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from adapters import event_store
from adapters.event_store import Position, Range
from adapters.kafka import Message, Publisher, messages_of
from adapters.postgres import Database
from adapters.telemetry import EVENTS_UNREADABLE
from domain.events import UnreadableEvent

_BATCH = 500
"""Events per send: the publisher allows a second for a batch, which takes some 0.1 s."""
REPLAY_HEADER = "ce_replay"
"""Header with the id of the replay, an extension attribute of CloudEvents."""


@dataclass(frozen=True)
class Republished:
    """What was published so far: events, those that this release cannot read, the last place and the seconds."""

    events: int
    unreadable: int
    position: Position
    seconds: float

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


async def republish(
    database: Database,
    publisher: Publisher,
    which: Range,
    replay_id: UUID,
    progress: Callable[[Republished], None],
) -> Republished:
    """Publish the settled events of a range in the order in which they were stored; returns what was published.

    `progress` is called after each batch; its position is where an interrupted replay can go on.

    Raises BrokerUnavailable, DatabaseUnavailable, NotRenumbered.
    """
    began, events, unreadable, position = time.monotonic(), 0, 0, which.after
    mark = (REPLAY_HEADER, str(replay_id).encode())
    next_position: Position | None = position
    while next_position is not None:
        async with database.statements() as connection:
            page, next_position = await event_store.of_range(connection, which, position, _BATCH)
        messages: list[Message] = []
        for _, stored in page:
            try:
                made = messages_of(stored)
            except UnreadableEvent:
                EVENTS_UNREADABLE.labels("republish").inc()
                unreadable += 1
            else:
                events += 1
                messages += [Message(one.topic, one.key, one.value, [*one.headers, mark]) for one in made]
        await publisher.send(messages)
        position = next_position or (page[-1][0] if page else position)
        done = Republished(events, unreadable, position, time.monotonic() - began)
        progress(done)
    return done
