"""Live updates: /api/stream as server-sent events, and /api/stream/ws as a WebSocket with the same messages."""

import asyncio
import re
from collections import deque
from collections.abc import Collection
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from adapters.current_state import find_properties
from adapters.live import property_stream, user_stream
from adapters.postgres import DatabaseUnavailable
from api.deps import CallerDep, Parts, PartsDep, address_of, parts_of
from api.errors import ApiError, document, responses, unavailable
from api.live_client import Client, Transport
from api.live_messages import Subscribed
from api.openapi import SIGNED_IN
from api.tickets import Ticket
from api.tokens import Caller
from domain.model import Model

router = APIRouter(prefix="/api/stream", tags=["stream"])

MAX_PROPERTIES = 20
"""Listings that one stream watches: more than a page shows."""
_RETRY_MILLISECONDS = 2000
"""After which a browser reconnects: about the time that a replica takes to stop and another one to take over."""
_REQUESTS_PER_MINUTE = 60
"""Messages that a client of a WebSocket may send, each of which reads listings: more than somebody who scrolls."""
_CLOSE_CODES = {
    "session-closed": 4401,
    "token-expired": 4401,
    "restart": 1012,
    "slow": 1013,
    "too-many-messages": 1008,
    "disconnected": 1000,
}
_ID = r"^[0-9]{1,15}-[0-9]{1,10}$"

PropertyIds = Annotated[tuple[UUID, ...], Field(max_length=MAX_PROPERTIES)]


class StreamTicket(Model):
    """Opens one stream, once, until `expiresAt`. The stream has what happens from the time of the ticket on."""

    ticket: str
    expires_at: datetime


class SubscriptionChange(Model):
    """What a client of a WebSocket sends: the listings whose changes it wants, or no longer wants."""

    type: Literal["subscribe", "unsubscribe"]
    properties: Annotated[tuple[UUID, ...], Field(min_length=1, max_length=MAX_PROPERTIES)]


@router.post(
    "/tickets",
    status_code=201,
    response_model=StreamTicket,
    responses=responses(*SIGNED_IN, "too-many-requests", "unavailable"),
)
async def create_stream_ticket(caller: CallerDep, parts: PartsDep) -> Response:
    """A ticket for one stream, because browsers send no access token with a stream, and URLs are logged."""
    limit = parts.settings.commands_per_minute
    await parts.limits.count(caller.tenant_id, "stream-tickets", str(caller.user_id), limit)
    position = await parts.live.position(user_stream(caller.tenant_id, caller.user_id))
    ticket, expires_at = await parts.tickets.issue(caller, position)
    body = StreamTicket(ticket=ticket, expires_at=expires_at).model_dump_json(by_alias=True)
    return Response(body, 201, {"Cache-Control": "no-store"}, "application/json")


class EventStream(Response):
    """Sends the messages of a client until it ends."""

    media_type = "text/event-stream"

    def __init__(self, parts: Parts, client: Client, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._parts, self._client = parts, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def disconnected() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._parts.live.remove(self._client)

        listening = asyncio.create_task(disconnected())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            body = b"retry: %d\n\n" % _RETRY_MILLISECONDS
            while True:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                messages = await self._client.take()
                if not messages:
                    break
                body = b"".join(message.as_event for message in messages)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            listening.cancel()
            self._parts.live.remove(self._client)


@router.get(
    "",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {"description": "The stream, until it ends with an event `end` or the connection breaks"},
        **responses(
            "invalid-request", "invalid-ticket", "session-closed", "not-found", "too-many-streams", "unavailable"
        ),
    },
)
async def stream(
    request: Request,
    parts: PartsDep,
    ticket: Annotated[str, Query(max_length=200, description="Of POST /api/stream/tickets; each opens one stream")],
    property: Annotated[
        tuple[UUID, ...],
        Query(max_length=MAX_PROPERTIES, description="Listings whose changes are wanted; may be sent several times"),
    ] = (),
    last_event_id: Annotated[
        str | None,
        Query(
            alias="lastEventId",
            pattern=_ID,
            description="Id of the last message that was received, to go on from there: for clients that cannot send"
            " the header Last-Event-ID",
        ),
    ] = None,
    last_event_header: Annotated[str | None, Header(alias="Last-Event-ID", pattern=_ID)] = None,
) -> Response:
    """New history entries, notifications, the progress of commands, and changes of listings, as server-sent events.

    Types: `history`, `notification`, `command` and `property`; `ready` once what was missed is sent, `reset` when
    messages may be lost and everything shown should be read again, `end` with the reason.
    docs/reference/asyncapi.json describes their data. A stream ends with its access token or session.
    """
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    if request.scope.get("is_head"):
        return Response(None, 200, headers, EventStream.media_type)
    client = await _open_stream(request, parts, "sse", ticket, property, last_event_header or last_event_id)
    return EventStream(parts, client, headers)


class _Parameters(BaseModel):
    """The query of a WebSocket."""

    model_config = {"extra": "forbid"}

    ticket: Annotated[str, Field(max_length=200)]
    property: PropertyIds = ()
    lastEventId: Annotated[str, Field(pattern=_ID)] | None = None


@router.websocket("/ws")
async def stream_by_websocket(websocket: WebSocket) -> None:
    """The same messages as `stream`, as `{"id", "type", "data"}`; a SubscriptionChange chooses listings later."""
    parts, headers = parts_of(websocket), websocket.headers
    origin = headers.get("origin")
    if origin is not None and not parts.origins.may_connect(origin, headers.get("host", "")):
        raise ApiError("origin-not-allowed")
    parameters = _parameters(websocket)
    client = await _open_stream(
        websocket, parts, "websocket", parameters.ticket, parameters.property, parameters.lastEventId
    )
    try:
        await websocket.accept()
        tasks = [asyncio.create_task(each) for each in (_send(websocket, client), _listen(websocket, parts, client))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        parts.live.remove(client)


def _parameters(websocket: WebSocket) -> _Parameters:
    """Raises RequestValidationError, which is answered as that of a request."""
    sent = websocket.query_params
    values: dict[str, Any] = {name: sent.getlist(name) for name in sent}
    values |= {name: values[name][0] for name in ("ticket", "lastEventId") if len(values.get(name, ())) == 1}
    try:
        return _Parameters.model_validate(values)
    except ValidationError as error:
        found = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(found) from error


async def _send(websocket: WebSocket, client: Client) -> None:
    """Send the messages of a client, and close the connection after the last one."""
    try:
        while messages := await client.take():
            for message in messages:
                await websocket.send_text(message.as_text)
        reason = client.ended or "disconnected"
        await websocket.close(_CLOSE_CODES[reason], reason)
    except (WebSocketDisconnect, RuntimeError):
        return  # the connection is closed


async def _listen(websocket: WebSocket, parts: Parts, client: Client) -> None:
    """Answer the messages of a client until it disconnects."""
    times: deque[float] = deque(maxlen=_REQUESTS_PER_MINUTE)
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if len(times) == _REQUESTS_PER_MINUTE and monotonic() - times[0] < 60:
            parts.live.end(client, "too-many-messages")
            await asyncio.Event().wait()  # until the last message is sent
        times.append(monotonic())
        try:
            await _answer(parts, client, message.get("text") or "")
        except ApiError as error:
            parts.live.reply(client, "error", orjson.dumps(document(error, websocket.url.path)))


async def _answer(parts: Parts, client: Client, text: str) -> None:
    try:
        change = SubscriptionChange.model_validate_json(text)
    except ValidationError as error:
        detail = 'Send {"type": "subscribe", "properties": ["<id>"]}, or "unsubscribe", with 1 to 20 ids of listings.'
        raise ApiError("invalid-request", detail) from error
    streams = {property_stream(client.caller.tenant_id, property_id) for property_id in change.properties}
    if change.type == "unsubscribe":
        parts.live.unsubscribe(client, streams & client.streams)
    else:
        if len(client.streams | streams) > MAX_PROPERTIES + 1:
            detail = f"A stream watches up to {MAX_PROPERTIES} listings. Unsubscribe from others first."
            raise ApiError("invalid-request", detail)
        await _check_visible(parts, client.caller, change.properties)
        await parts.live.subscribe(client, streams - client.streams)
    parts.live.reply(client, "subscribed", _properties_of(client))


def _properties_of(client: Client) -> bytes:
    found = {match[1] for stream in client.streams if (match := re.match(r"\{.*:(.*)\}:live:property$", stream))}
    return Subscribed(properties=tuple(UUID(id) for id in sorted(found))).model_dump_json(by_alias=True).encode()


async def _open_stream(
    connection: HTTPConnection,
    parts: Parts,
    transport: Transport,
    ticket: str,
    properties: Collection[UUID],
    last_event_id: str | None,
) -> Client:
    """An open stream, which must be removed. Raises ApiError."""
    hosts, host = parts.settings.tenant_hosts, (connection.url.hostname or "").rstrip(".")
    used: Ticket = await parts.tickets.use(ticket, hosts.get(host))
    caller = used.caller
    if (caller.tenant_id, caller.session_id) in parts.revocations:
        raise ApiError("session-closed")
    await _check_visible(parts, caller, properties)
    client = Client(caller, address_of(connection), transport, connection.scope.get("abort", _cannot_abort))
    parts.live.admit(client)
    try:
        await parts.live.begin(
            client,
            user_stream(caller.tenant_id, caller.user_id),
            {property_stream(caller.tenant_id, property_id) for property_id in properties},
            last_event_id or used.position,
            resumed=last_event_id is not None,
        )
    except BaseException:
        parts.live.remove(client)
        raise
    return client


def _cannot_abort() -> None:
    """Of a server that is not ours (api/server.py): such a connection ends when it is written to."""


async def _check_visible(parts: Parts, caller: Caller, properties: Collection[UUID]) -> None:
    """Raises ApiError not-found unless the caller may see every listing."""
    if not properties:
        return
    try:
        async with parts.database.statements(caller.tenant_id) as connection:
            found = await find_properties(connection, list(properties))
    except DatabaseUnavailable as error:
        raise unavailable("The database") from error
    for property_id in properties:
        listing = found.get(property_id)
        if listing is None or not (listing.is_public or caller.is_admin or caller.user_id == listing.owner_id):
            raise ApiError("not-found", f"There is no listing {property_id}, or it is not public.")
