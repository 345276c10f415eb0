"""Where a page of a list begins: keyset pagination by time and id, newest first."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, order=True)
class Cursor:
    """Where an item stands in a list: newest first, by time, then by id."""

    timestamp: datetime
    id: UUID

    @property
    def score(self) -> int:
        """Microseconds since 1970: below 2**53, so exact as Redis' floating-point score."""
        return round(self.timestamp.timestamp() * 1_000_000)
