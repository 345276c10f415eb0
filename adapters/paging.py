"""Keyset pagination by time and id, newest first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, order=True)
class Cursor:
    """The sort key of an item; a page has the items with a lower one."""

    timestamp: datetime
    id: UUID

    @property
    def score(self) -> int:
        """Microseconds since 1970; below 2**53, so a Redis score (a double) holds it exactly."""
        return round(self.timestamp.timestamp() * 1_000_000)
