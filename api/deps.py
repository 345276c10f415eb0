"""Dependencies of routes: the clients and services of the process, the tenant, and the caller."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request
from pydantic import Field
from redis.asyncio import Redis
from starlette.requests import HTTPConnection
from temporalio.client import Client

from adapters.devices import device_label
from adapters.objects import Objects
from adapters.paging import Cursor
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.search.engine import SearchEngine
from adapters.settings import Settings
from api.ceremonies import Challenges
from api.commands import Commands
from api.errors import CHALLENGE, KINDS, ApiError
from api.limits import Limits
from api.live import Live
from api.observations import Observations
from api.opaque import Signer, Tampered
from api.origins import Origins
from api.passwords import Passwords
from api.polygon_searches import PolygonSearches
from api.revocations import Revocations
from api.search_observations import SearchObservations
from api.sessions import Sessions
from api.sign_in_limits import SignInLimits
from api.spool import Spool
from api.suggestion_indexes import Suggestions
from api.tickets import Tickets
from api.tokens import Caller, Tokens
from projections.history_pages import HistoryPages
from projections.history_summary import HistorySummaries
from projections.inbox import Inbox
from projections.operations import Operations
from projections.past_searches import PastSearches


@dataclass(frozen=True)
class Parts:
    """The clients and services of one API process, created at startup."""

    settings: Settings
    database: Database
    keyring: Keyring
    redis: Redis
    temporal: Client
    commands: Commands
    signer: Signer
    tokens: Tokens
    passwords: Passwords
    sessions: Sessions
    limits: Limits
    sign_ins: SignInLimits
    challenges: Challenges
    histories: HistoryPages
    summaries: HistorySummaries
    past_searches: PastSearches
    suggestions: Suggestions
    polygon_searches: PolygonSearches
    inbox: Inbox
    objects: Objects
    search_database: Database
    search: SearchEngine
    observations: Observations
    operations: Operations
    searches: SearchObservations
    revocations: Revocations
    origins: Origins
    tickets: Tickets
    live: Live
    spool: Spool = field(default_factory=Spool)
    reached: set[str] = field(default_factory=set)
    """Dependencies that were reached at least once since the process started."""


def parts_of(request: HTTPConnection) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def tenant_of(request: Request) -> str:
    """The tenant of the request's host name, or the default tenant."""
    settings = parts_of(request).settings
    return settings.tenant_hosts.get((request.url.hostname or "").rstrip("."), settings.default_tenant)


def caller_or_none(request: Request) -> Caller | None:
    """The caller of a request that has a token. Raises ApiError as `verified_caller`, or second-factor-needed."""
    caller = verified_caller(request)
    if caller and caller.limited:
        raise ApiError("second-factor-needed")
    return caller


def verified_caller(request: Request) -> Caller | None:
    """The caller of a request that has a token, also of a limited one.

    Raises ApiError expired-token, session-closed, or invalid-token, also for a token of another tenant.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        # Without an error code, as RFC 6750, section 3.1, says about a scheme that is not supported.
        raise ApiError("invalid-token", KINDS["unauthenticated"].advice, headers={"WWW-Authenticate": CHALLENGE})
    parts = parts_of(request)
    caller = parts.tokens.verify(token)
    hosts = parts.settings.tenant_hosts
    if hosts and hosts.get((request.url.hostname or "").rstrip("."), caller.tenant_id) != caller.tenant_id:
        raise ApiError("invalid-token", "The token is for another host. Sign in at this one.")
    if (caller.tenant_id, caller.session_id) in parts.revocations:
        raise ApiError("session-closed")
    return caller


def caller_of(request: Request) -> Caller:
    """The caller of a request. Raises ApiError unauthenticated without a token."""
    caller = caller_or_none(request)
    if caller is None:
        raise ApiError("unauthenticated")
    return caller


def address_of(request: HTTPConnection) -> str:
    """The client's address for rate limits: an IPv4 address, or the /64 network of an IPv6 address.

    A customer has at least a /64 (RFC 6177) and can use any address in it. An IPv4-mapped address counts as its IPv4
    address. uvicorn applies X-Forwarded-For of trusted proxies. Whatever is not an IP address counts as `unknown`.
    """
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))


def device_of(request: Request) -> str | None:
    """The label of the client's device, such as `Chrome on Windows`; None when it is not known."""
    return device_label(request.headers.get("user-agent"))


# A bare key, or a quoted string (RFC 8941), as draft-ietf-httpapi-idempotency-key-header requires; most clients send
# a bare one.
_BARE_KEY = r"[!#-~](?:[ -~]{0,253}[!-~])?"
_QUOTED_KEY = r'"(?:[ !#-\[\]-~]|\\["\\]){1,255}"'
_KEY = re.compile(f"{_BARE_KEY}|{_QUOTED_KEY}")


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="A repetition with the same key and body gets the first answer. 1 to 255 printable ASCII"
            " characters; double quotes around them are not part of the key.",
            examples=["7d1f0a3e-6c1b-4b6e-9a55-2f0f8f6f3c11"],
            json_schema_extra={"pattern": f"^(?:{_KEY.pattern})$"},
        ),
    ] = None,
) -> str | None:
    """The key without its quotes. Raises ApiError invalid-idempotency-key."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise ApiError("invalid-idempotency-key")
    return re.sub(r"\\(.)", r"\1", key[1:-1]) if key.startswith('"') else key


CursorText = Annotated[
    str | None,
    Field(
        max_length=200,
        description="nextCursor of the previous page of the same list; leave it out for the first page",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]
"""The cursor of a page. The route verifies its signature (invalid-cursor)."""


NO_ENTRY = Cursor(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
"""The Consistency-Token of a command without events: a read does not wait for it."""


def consistency_cursor(parts: Parts, tenant_id: str, user_id: str, token: str | None) -> Cursor | None:
    """The history entry that a Consistency-Token names; None if it is in another user's history or there is none.

    Raises ApiError invalid-consistency-token.
    """
    if token is None:
        return None
    owner, _, signed = token.partition(".")
    try:
        entry = parts.signer.open(_consistency_purpose(tenant_id, owner), signed)
    except Tampered as error:
        raise ApiError("invalid-consistency-token") from error
    return entry if owner == user_id and entry != NO_ENTRY else None


def consistency_token(parts: Parts, tenant_id: str, user_id: UUID, entry: Cursor) -> str:
    """The Consistency-Token of what a user wrote; NO_ENTRY if it was nothing."""
    return f"{user_id}.{parts.signer.sign(_consistency_purpose(tenant_id, str(user_id)), entry)}"


def _consistency_purpose(tenant_id: str, user_id: str) -> str:
    return f"consistency:{tenant_id}:{user_id}"


# `async`, because FastAPI runs other functions in a thread pool, which costs more than these functions do.
async def _parts(request: Request) -> Parts:
    return parts_of(request)


async def _caller(request: Request) -> Caller:
    return caller_of(request)


async def _caller_or_none(request: Request) -> Caller | None:
    return caller_or_none(request)


async def _tenant(request: Request) -> str:
    return tenant_of(request)


async def _limited_caller(request: Request) -> Caller:
    caller = verified_caller(request)
    if caller is None:
        raise ApiError("unauthenticated")
    return caller


PartsDep = Annotated[Parts, Depends(_parts)]
CallerDep = Annotated[Caller, Depends(_caller)]
LimitedCallerDep = Annotated[Caller, Depends(_limited_caller)]
"""Like CallerDep, for the routes that a token is good for which is limited to setting up a second factor."""
MaybeCallerDep = Annotated[Caller | None, Depends(_caller_or_none)]
TenantDep = Annotated[str, Depends(_tenant)]
KeyDep = Annotated[str | None, Depends(idempotency_key)]
