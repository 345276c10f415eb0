"""What the clients of providers with an HTTP API share: one request with a time limit, and the wait for the next one.

No exception has a cause or a text of the other side: both may contain addresses, and Temporal stores them.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from adapters.providers import ProviderUnavailable

PROVIDER_SECONDS = 20.0
"""Time limit for one message: less than the lease on a claimed delivery (adapters/outbox.py)."""
_MAX_BODY_BYTES = 65_536
"""More than any answer of these providers has."""
_MAX_RETRY_SECONDS = 3600.0
"""The longest wait that is honoured, so that one odd answer does not delay mails for days."""


class AnswerLost(ProviderUnavailable):
    """The request was sent and no answer came: the message may have been accepted."""


@dataclass(frozen=True)
class Answer:
    """An answer of a provider; `body` is None when it is not JSON, or broke off."""

    status: int
    headers: Mapping[str, str]
    body: Any


class ProviderHttp:
    """A client of one provider. Redirects are not followed."""

    def __init__(
        self, name: str, url: str, seconds: float, *, token: str | None = None, auth: tuple[str, str] | None = None
    ) -> None:
        self._name = name
        self._seconds = seconds
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, auth=auth, timeout=seconds, trust_env=False)

    async def request(self, method: str, path: str, **content: Any) -> Answer:
        """Send one request. The status is the answer, also when the body breaks off or is too long.

        Raises ProviderUnavailable when it was not sent, AnswerLost when it was sent and no status came.
        """
        status, headers, body = 0, httpx.Headers(), b""
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream(method, path, **content) as response,
            ):
                status, headers = response.status_code, response.headers
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BODY_BYTES:
                        break
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ProviderUnavailable(f"{self._name} is unavailable: {type(error).__name__}") from None
        except (httpx.HTTPError, TimeoutError) as error:
            if not status:
                raise AnswerLost(f"{self._name} did not answer: {type(error).__name__}") from None
        try:
            return Answer(status, headers, orjson.loads(body))
        except orjson.JSONDecodeError:
            return Answer(status, headers, None)

    async def close(self) -> None:
        await self._client.aclose()


def unavailable(name: str, answer: Answer) -> ProviderUnavailable:
    """The error for an answer after which the message is sent again."""
    wait = retry_after(answer.headers, datetime.now(UTC))
    return ProviderUnavailable(f"{name} answered {answer.status}", wait)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds to wait: by Retry-After (RFC 9110, section 10.2.3), otherwise by SendGrid's X-RateLimit-Reset.

    At least one second and at most an hour; None when neither header is there or can be read.
    """
    wait, reset = headers.get("retry-after", "").strip(), headers.get("x-ratelimit-reset", "").strip()
    seconds: float | None = None
    if _is_number(wait):
        seconds = float(wait)
    elif wait:
        try:
            at = parsedate_to_datetime(wait)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    elif _is_number(reset):
        seconds = float(reset) - now.timestamp()
    return None if seconds is None else min(max(seconds, 1.0), _MAX_RETRY_SECONDS)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16
