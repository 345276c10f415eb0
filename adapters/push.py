"""Messages to browsers by Web Push (RFC 8030), encrypted (RFC 8291) and signed (VAPID, RFC 8292).

An endpoint is a URL that a user gives, so a request goes only to HTTPS on public addresses. Therefore only the parts of
pywebpush that encrypt and sign are used here (http_ece, py_vapid): pywebpush itself posts to any address.
"""

import asyncio
import base64
import logging
import socket
import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import http_ece
import httpcore
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from py_vapid import Vapid02

from adapters.provider_http import retry_after
from adapters.providers import BadAddress, DeliveryRefused, ProviderUnavailable, PushMessage, PushSubscription
from adapters.settings import Settings

log = logging.getLogger(__name__)

PUSH_SECONDS = 10.0
"""Time limit for one message; a push service answers before the browser has it."""
MAX_PAYLOAD_BYTES = 3_993
"""RFC 8291, section 4."""
_MAX_ANSWER_BYTES = 16_384
"""Read so that the connection can be used again; push services answer with less."""
_SIGNED_FOR = 12 * 3600
"""Validity of a VAPID token in seconds; push services accept up to 24 hours (RFC 8292, section 2)."""
_MAX_TOKENS = 256
"""Cached tokens, one for each push service; users name the services, so there may be any number."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


class WebPush:
    """Sends messages to push services.

    An answer that was lost is repeated; a message with a topic then replaces the first one, unless it is delivered.
    """

    provider = "webpush"

    def __init__(
        self, settings: Settings, seconds: float = PUSH_SECONDS, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Raises ValueError without VAPID_PRIVATE_KEY, or when it is not a P-256 key."""
        self._vapid = Vapid02(vapid_key(settings))
        self._subject = settings.vapid_subject
        self._allow_private = settings.push_allow_private
        self._seconds = seconds
        self._tokens: dict[str, tuple[float, str]] = {}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=100,
            keepalive_expiry=60,  # for the few push services of all browsers
            network_backend=_Network(settings.push_allow_private),
        )

    async def send(self, message: PushMessage) -> None:
        """Raises ProviderUnavailable, DeliveryRefused, and BadAddress when the subscription has ended."""
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            raise DeliveryRefused(f"the message has more than {MAX_PAYLOAD_BYTES} bytes")
        try:
            url = checked_endpoint(message.subscription.endpoint, self._allow_private)
            body = _encrypted(message)
        except ValueError:
            raise BadAddress("the subscription is not valid") from None
        status, headers = await self._post(url, self._headers(url, message), body)
        if 200 <= status < 300:
            return
        raise _error(status, headers)

    def _headers(self, url: SplitResult, message: PushMessage) -> dict[str | bytes, str | bytes]:
        headers: dict[str | bytes, str | bytes] = {
            "Authorization": self._token(_origin(url)),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(message.ttl_seconds),
            "Urgency": "normal",
        }
        if message.topic:
            headers["Topic"] = message.topic
        return headers

    def _token(self, origin: str) -> str:
        now = time.time()
        expires, token = self._tokens.get(origin, (0.0, ""))
        if expires - now < _SIGNED_FOR / 2:
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens.clear()
            expires = now + _SIGNED_FOR
            claims = {"aud": origin, "sub": self._subject, "exp": int(expires)}
            token = self._vapid.sign(claims)["Authorization"]
            self._tokens[origin] = (expires, token)
        return token

    async def _post(
        self, url: SplitResult, headers: dict[str | bytes, str | bytes], body: bytes
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer. The status decides, whatever happens to the rest of the answer."""
        status, answered = 0, dict[str, str]()
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._pool.stream("POST", url.geturl(), headers=headers, content=body) as response,
            ):
                status = response.status
                answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                length = 0
                async for chunk in response.aiter_stream():
                    length += len(chunk)
                    if length > _MAX_ANSWER_BYTES:
                        break
        except _NotPublicError:
            raise BadAddress("the push service has no public address") from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            # `from None`: the URL is the secret of the subscription.
            if not status:
                raise ProviderUnavailable(f"the push service is unavailable: {type(error).__name__}") from None
        return status, answered

    async def close(self) -> None:
        await self._pool.aclose()


def _error(status: int, headers: dict[str, str]) -> Exception:
    if status in {404, 410}:
        return BadAddress(f"the push service answered {status}: the subscription has ended")
    if status == 429 or status >= 500:
        return ProviderUnavailable(f"the push service answered {status}", retry_after(headers, datetime.now(UTC)))
    if status in {401, 403}:
        # Not retried: a subscription that was made with an earlier key is refused like this for ever.
        log.error("a push service answered %d: check VAPID_PRIVATE_KEY and VAPID_SUBJECT", status)
    return DeliveryRefused(f"the push service answered {status}")


def vapid_key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """The private key of VAPID_PRIVATE_KEY. Raises ValueError when it is missing, or not a P-256 key."""
    if settings.vapid_private_key is None:
        raise ValueError("VAPID_PRIVATE_KEY is not set")
    text = settings.vapid_private_key.get_secret_value().strip()
    if not text.startswith("-----BEGIN"):
        return ec.derive_private_key(int.from_bytes(from_base64url(text)), ec.SECP256R1())
    key = load_pem_private_key(text.replace("\\n", "\n").encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("VAPID_PRIVATE_KEY is not a P-256 key")
    return key


def public_key(settings: Settings) -> str:
    """The `applicationServerKey` with which browsers subscribe: base64url of the public key. Raises ValueError."""
    point = vapid_key(settings).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).decode().rstrip("=")


def checked_endpoint(endpoint: str, allow_private: bool) -> SplitResult:
    """The parts of an endpoint's URL. Raises ValueError unless it is HTTPS on the standard port of a named host."""
    url = urlsplit(endpoint)
    if not url.hostname or url.username is not None or url.fragment or ":" in url.hostname:
        raise ValueError("not the URL of a push service")
    if not endpoint.isascii() or any(character <= " " for character in endpoint):
        raise ValueError("not a URL in ASCII")
    if allow_private and url.scheme in {"http", "https"} and url.port != 0:
        return url
    if url.scheme != "https" or url.port not in {None, 443} or _is_literal(url.hostname):
        raise ValueError("not HTTPS on the standard port of a named host")
    return url


def checked_keys(subscription: PushSubscription) -> tuple[bytes, bytes]:
    """The browser's public key and its authentication secret. Raises ValueError when one is not valid (RFC 8291)."""
    point, secret = from_base64url(subscription.p256dh), from_base64url(subscription.auth)
    if len(secret) != 16:
        raise ValueError("the authentication secret has not 16 bytes")
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return point, secret


def from_base64url(text: str) -> bytes:
    """Decode base64url with or without padding. Raises ValueError."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)


def _encrypted(message: PushMessage) -> bytes:
    point, secret = checked_keys(message.subscription)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    body: bytes = http_ece.encrypt(message.payload, private_key=ephemeral, dh=point, auth_secret=secret)
    return body


def _origin(url: SplitResult) -> str:
    """The audience of a VAPID token: the origin without the standard port (RFC 6454, section 6.2)."""
    port = "" if url.port in {None, {"http": 80, "https": 443}[url.scheme]} else f":{url.port}"
    return f"{url.scheme}://{url.hostname}{port}"


class _NotPublicError(Exception):
    """A host has an address that is not public."""


class _Network(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that it has resolved and checked itself, so that a name cannot change in between."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore declares it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise _NotPublicError from None  # a label of more than 63 characters
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise _NotPublicError
        failed: Exception = httpcore.ConnectError()
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failed = error
        raise failed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def is_public(text: str) -> bool:
    """Whether an IP address is on the internet, also the IPv4 address that an IPv6 address is translated to."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        # Not is_global alone: it is true for local NAT64 (RFC 8215) and for forms that some networks translate.
        if address not in _GLOBAL_UNICAST and address not in _NAT64 and address.ipv4_mapped is None:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        address = inner or (IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address)
    return address.is_global and not address.is_multicast


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
