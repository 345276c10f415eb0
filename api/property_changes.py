"""Sending a command that changes a listing."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Response

from api.answers import IfMatchDep, SenderDep
from api.property_answers import answered_property
from domain.command import Change
from domain.model import Model


@dataclass(frozen=True)
class Changer:
    """Sends the command of a request that changes a listing."""

    property_id: UUID
    sender: SenderDep
    expected: IfMatchDep

    async def send(self, command: type[Change], body: Model, summary: str, **fields: Any) -> Response:
        """The response with the changed listing. Raises ApiError as `Sender.send` does."""
        outcome = await self.sender.send(
            command, body, summary, property_id=self.property_id, expected_versions=self.expected, **fields
        )
        return await answered_property(self.sender, outcome)


ChangerDep = Annotated[Changer, Depends()]
