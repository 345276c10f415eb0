"""Sending a command for the caller of a request, and the HTTP response to its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from fastapi import Depends, Header, Request, Response

from adapters.paging import Cursor
from api.commands import Accepted, CommandMetadata, Done
from api.conditional import versions_in
from api.deps import NO_ENTRY, CallerDep, KeyDep, LimitedCallerDep, Parts, PartsDep, consistency_token
from api.errors import ApiError
from api.openapi import AcceptedCommand
from api.tokens import Caller
from domain.command import Command
from domain.model import Model

C = TypeVar("C", bound=Command)


class NoBody(Model):
    """The body of a command that has none."""


@dataclass(frozen=True)
class Sender:
    """Sends commands for the caller of a request."""

    parts: Parts
    caller: Caller
    key: str | None
    route: str

    def metadata(self, body: Model, expected_versions: Sequence[int] | None = None) -> CommandMetadata:
        """The metadata of a command; without an Idempotency-Key of another command at each call."""
        caller = self.caller
        return self.parts.commands.metadata(
            caller.tenant_id, str(caller.user_id), self.route, self.key, body, expected_versions
        )

    async def repeated(self, metadata: CommandMetadata) -> Done | None:
        """The answer to an earlier request with the same Idempotency-Key, whose proof may have been used up by it.

        Raises ApiError idempotency-key-reused, or the refusal of the earlier request.
        """
        if metadata.fingerprint is None:
            return None
        return await self.parts.commands.recorded_answer(self.caller.tenant_id, metadata)

    async def send(
        self, command: type[C], body: Model, summary: str, metadata: CommandMetadata | None = None, **fields: Any
    ) -> Done | Accepted:
        """Run a command. Raises ApiError too-many-requests, or as `Commands.run` does."""
        tenant_id, user_id = self.caller.tenant_id, str(self.caller.user_id)
        await self.parts.limits.count(tenant_id, "commands", user_id, self.parts.settings.commands_per_minute)
        metadata = metadata or self.metadata(body, fields.get("expected_versions"))
        sent = command(
            command_id=metadata.command_id,
            tenant_id=tenant_id,
            user_id=self.caller.user_id,
            issued_at=metadata.issued_at,
            fingerprint=metadata.fingerprint,
            **fields,
        )
        return await self.parts.commands.run(sent, summary)


async def _sender(request: Request, parts: PartsDep, caller: CallerDep, key: KeyDep) -> Sender:
    return Sender(parts, caller, key, f"{request.method} {request.url.path}")


async def _limited_sender(request: Request, parts: PartsDep, caller: LimitedCallerDep, key: KeyDep) -> Sender:
    return Sender(parts, caller, key, f"{request.method} {request.url.path}")


SenderDep = Annotated[Sender, Depends(_sender)]
LimitedSenderDep = Annotated[Sender, Depends(_limited_sender)]
"""Like SenderDep, for the commands that set up a second factor."""


async def expected_versions(
    if_match: Annotated[
        str | None,
        Header(description='The ETag that the change is based on, such as `"1"`; `*` accepts any version.'),
    ] = None,
) -> tuple[int, ...] | None:
    """The versions that `If-Match` names; None for `*`.

    Raises ApiError precondition-required without the header, and invalid-if-match.
    """
    if if_match is None:
        raise ApiError("precondition-required")
    if if_match.strip() == "*":
        return None
    try:
        return versions_in(if_match)
    except ValueError as error:
        raise ApiError("invalid-if-match") from error


IfMatchDep = Annotated[tuple[int, ...] | None, Depends(expected_versions)]


def accepted(outcome: Accepted, token: str = "") -> Response:
    """202: the command is durable, and Location is the URL of its state.

    With a `token` (`progress_token`) the URL can be read without signing in.
    """
    location = f"/api/commands/{outcome.command_id}" + (f"?token={token}" if token else "")
    body = AcceptedCommand(command_id=outcome.command_id, status="RUNNING", location=location)
    headers = {"Location": location, "Command-Id": str(outcome.command_id), "Retry-After": "1"}
    return Response(body.model_dump_json(by_alias=True), 202, headers, "application/json")


def answered(
    sender: Sender,
    outcome: Done | Accepted,
    status: int = 200,
    location: str = "",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """The response to a command: the resource with its ETag; 204 without a body if it is deleted; or 202.

    `location` is the path of a created resource, with `{id}` in it; `more` are fields to add to the resource.
    """
    if isinstance(outcome, Accepted):
        return accepted(outcome)
    headers = command_headers(sender.parts, sender.caller.user_id, outcome)
    if outcome.resource is None or status == 204:
        return Response(status_code=204, headers=headers)
    headers["ETag"] = f'"{outcome.saved.version}"'
    if location:
        headers["Location"] = location.format(id=outcome.saved.aggregate_id)
    return Response(orjson.dumps({**outcome.resource, **more}), status, headers, "application/json")


def command_headers(parts: Parts, user_id: UUID, outcome: Done) -> dict[str, str]:
    """The headers of every response to a saved command of a user."""
    saved = outcome.saved
    newest = saved.events[-1] if saved.events else None
    cursor = Cursor(newest.timestamp, newest.event_id) if newest else NO_ENTRY
    token = consistency_token(parts, saved.tenant_id, user_id, cursor)
    headers = {"Command-Id": str(saved.command_id), "Consistency-Token": token}
    return headers | ({"Idempotency-Replayed": "true"} if outcome.repeated else {})
