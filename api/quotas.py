"""The headers `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) of a limited response.

Limits report what they have counted; the middleware adds the headers to the response, whether it is refused or not.
"""

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """One limit after it has counted a request."""

    name: str
    limit: int
    window_seconds: int
    left: int
    """Requests that are left until the quota is restored."""
    seconds: int
    """Until the quota is restored."""


_OF_REQUEST: ContextVar[dict[str, Quota]] = ContextVar("quotas of the request")


def collected() -> dict[str, Quota]:
    """A dictionary that receives the quotas by name that are reported in the present context, which is the request's.

    It is filled by tasks of the context too, because they inherit it.
    """
    quotas: dict[str, Quota] = {}
    _OF_REQUEST.set(quotas)
    return quotas


def report(quota: Quota) -> None:
    """Have the response tell of a quota. A later report of the same name replaces it. Ignored outside a request."""
    quotas = _OF_REQUEST.get(None)
    if quotas is not None:
        quotas[quota.name] = quota


def headers(quotas: Collection[Quota]) -> list[tuple[bytes, bytes]]:
    """Both headers: lists of structured fields (RFC 9651), one item for each quota."""
    policies = ", ".join(f'"{quota.name}";q={quota.limit};w={quota.window_seconds}' for quota in quotas)
    states = ", ".join(f'"{quota.name}";r={quota.left};t={quota.seconds}' for quota in quotas)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", states.encode())] if quotas else []
