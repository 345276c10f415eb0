"""Web Push: encryption, the outcome of each answer, and the addresses that are never called."""

import base64
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import http_ece
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from py_vapid import Vapid02
from py_vapid.jwt import decode

from adapters.providers import BadAddress, DeliveryRefused, ProviderUnavailable, PushMessage, PushSubscription
from adapters.push import MAX_PAYLOAD_BYTES, WebPush, checked_endpoint, is_public, public_key
from adapters.settings import Settings
from tests.adapters.provider_servers import Play, answer, drop, endless, error_of, half_a_head, hang, http_server

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


RAW = base64url(KEY.private_numbers().private_value.to_bytes(32))


class Browser:
    """The keys of a subscription, which decrypt its messages."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._secret = os.urandom(16)

    def subscription(self, endpoint: str) -> PushSubscription:
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return PushSubscription(endpoint, base64url(point), base64url(self._secret))

    def decrypted(self, body: bytes) -> bytes:
        plain: bytes = http_ece.decrypt(body, private_key=self._key, auth_secret=self._secret)
        return plain


BROWSER = Browser()


def settings(**more: Any) -> Settings:
    given = {"secret_key": "x" * 44, "vapid_private_key": PEM, "push_allow_private": True}
    return Settings.model_validate({**given, **more})


def message(endpoint: str, **more: Any) -> PushMessage:
    given = {"payload": b'{"title": "Sold"}', "topic": "abc", "ttl_seconds": 3600}
    return PushMessage(BROWSER.subscription(endpoint), **{**given, **more})


async def error(play: Play, seconds: float = 5) -> Exception:
    """The error of sending a message to a push service that plays so; it received the message once."""
    async with http_server(play) as server:
        pushes = WebPush(settings(), seconds)
        raised = await error_of(pushes.send(message(f"{server.url}/secret")), "secret", "Sold")
        await pushes.close()
        assert len(server.received) == 1
        return raised


@pytest.mark.parametrize("key", [PEM, PEM.replace("\n", "\\n"), RAW], ids=["PEM", "PEM on one line", "raw"])
async def test_message_is_encrypted_for_the_browser_and_signed(key: str) -> None:
    longest = os.urandom(MAX_PAYLOAD_BYTES)
    async with http_server(answer(201), answer(201)) as server:
        pushes = WebPush(settings(vapid_private_key=key))
        await pushes.send(message(f"{server.url}/push/1", payload=longest))
        await pushes.send(message(f"{server.url}/push/1", topic=None))
        await pushes.close()

    first, second = server.received
    assert server.connections == 1
    assert (first.method, first.target) == ("POST", "/push/1")
    assert BROWSER.decrypted(first.body) == longest
    assert BROWSER.decrypted(second.body) == b'{"title": "Sold"}'
    assert len(first.body) == 4096
    assert first.headers["content-encoding"] == "aes128gcm"
    assert (first.headers["ttl"], first.headers["topic"], second.headers.get("topic")) == ("3600", "abc", None)
    assert Vapid02.verify(first.headers["authorization"])
    token, _, given = first.headers["authorization"].removeprefix("vapid t=").partition(",k=")
    assert given == public_key(settings())
    claims = decode(token, given)
    assert (claims["aud"], claims["sub"]) == (server.url, "mailto:api@hyderabad-infra.example")
    assert first.headers["authorization"] == second.headers["authorization"]


@pytest.mark.parametrize(
    ("play", "expected", "wait"),
    [
        (answer(404), BadAddress, None),
        (answer(410), BadAddress, None),
        (answer(429, retry_after="7"), ProviderUnavailable, 7),
        (answer(429), ProviderUnavailable, None),
        (answer(503, retry_after="30"), ProviderUnavailable, 30),
        (answer(500, "broken", keep=0.5), ProviderUnavailable, None),
        (answer(413), DeliveryRefused, None),
        (answer(400), DeliveryRefused, None),
        (answer(401), DeliveryRefused, None),
        (answer(403), DeliveryRefused, None),
        (answer(307, location="http://127.0.0.1:1/"), DeliveryRefused, None),
        (drop, ProviderUnavailable, None),
        (half_a_head, ProviderUnavailable, None),
    ],
)
async def test_answer_decides_the_outcome(play: Play, expected: type[Exception], wait: float | None) -> None:
    raised = await error(play)

    assert isinstance(raised, expected)
    assert getattr(raised, "retry_after", None) == wait


async def test_wrong_key_is_logged_without_the_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    await error(answer(403))

    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("adapters")]
    assert line == "a push service answered 403: check VAPID_PRIVATE_KEY and VAPID_SUBJECT"


async def test_push_service_that_hangs_is_tried_later() -> None:
    assert isinstance(await error(hang, seconds=0.2), ProviderUnavailable)


@pytest.mark.parametrize("play", [endless, answer(201, "created", keep=0.5)])
async def test_message_that_was_accepted_is_sent_once_whatever_follows_in_the_answer(play: Play) -> None:
    async with http_server(play) as server:
        pushes = WebPush(settings())
        await pushes.send(message(server.url))
        await pushes.close()
        assert len(server.received) == 1


def certificate_of(host: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server with a certificate for `host`, and of a client that trusts it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    signed = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False).sign(key, SHA256())
    file = folder / "certificate.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


@pytest.mark.parametrize(("host", "accepted"), [("localhost", True), ("push.example", False)])
async def test_certificate_is_checked_for_the_name_of_the_push_service(
    tmp_path: Path, host: str, accepted: bool
) -> None:
    """Also though the connection goes to the address that was resolved and checked before."""
    server_tls, client_tls = certificate_of(host, tmp_path)
    async with http_server(answer(201), tls=server_tls) as server:
        pushes = WebPush(settings(), ssl_context=client_tls)
        if accepted:
            await pushes.send(message(f"{server.url}/push/1"))
        else:
            assert isinstance(await error_of(pushes.send(message(server.url))), ProviderUnavailable)
        await pushes.close()
    assert len(server.received) == accepted


async def test_message_that_is_too_long_is_refused() -> None:
    pushes = WebPush(settings())

    raised = await error_of(pushes.send(message("http://127.0.0.1:1", payload=bytes(MAX_PAYLOAD_BYTES + 1))))

    assert isinstance(raised, DeliveryRefused)


@pytest.mark.parametrize("change", [{"p256dh": "BA"}, {"auth": "short"}, {"p256dh": "é"}, {"endpoint": "https://"}])
async def test_subscription_that_is_not_valid_has_ended(change: dict[str, str]) -> None:
    kept = BROWSER.subscription("http://127.0.0.1:1")
    broken = PushSubscription(**{"endpoint": kept.endpoint, "p256dh": kept.p256dh, "auth": kept.auth, **change})

    raised = await error_of(WebPush(settings()).send(PushMessage(broken, b"x", None, 60)))

    assert isinstance(raised, BadAddress)


@pytest.mark.parametrize("host", ["localhost", f"{'a' * 64}.example"])
async def test_host_without_a_public_address_is_never_called(host: str) -> None:
    pushes = WebPush(settings(push_allow_private=False))

    raised = await error_of(pushes.send(message(f"https://{host}/secret")), "secret")

    assert isinstance(raised, BadAddress)
    assert "no public address" in str(raised)
    await pushes.close()


async def test_host_without_an_address_is_tried_later() -> None:
    pushes = WebPush(settings(push_allow_private=False))

    raised = await error_of(pushes.send(message("https://nowhere.invalid/secret")), "secret")

    assert isinstance(raised, ProviderUnavailable)
    await pushes.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://push.example/x",
        "https://push.example:8443/x",
        "https://push.example:0/x",
        "https://push.example:https/x",
        "https://user@push.example/x",
        "https://push.example/x#fragment",
        "https://push.example/a b",
        "https://push.example/\r\nX: y",
        "https://push.exämple/x",
        "https://127.0.0.1/x",
        "https://8.8.8.8/x",
        "https://[::1]/x",
        "file:///etc/passwd",
        "https:///x",
        "",
    ],
)
def test_endpoint_that_is_not_https_on_a_named_host_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is not shown
        checked_endpoint(endpoint, allow_private=False)


@pytest.mark.parametrize("endpoint", ["https://fcm.googleapis.com/fcm/send/a:b", "https://web.push.apple.com:443/x"])
def test_endpoint_of_a_push_service_is_accepted(endpoint: str) -> None:
    assert checked_endpoint(endpoint, allow_private=False).geturl() == endpoint


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::127.0.0.1", False),
        ("64:ff9b::8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("2002:808:808::", True),
        ("64:ff9b:1::7f00:1", False),
        ("::a00:1", False),
        ("::ffff:0:7f00:1", False),
        ("fec0::1", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("key", ["", "AAAA", "no base64url!", "é"])
def test_vapid_key_that_is_not_one_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(ValueError, match="P-256"):
        settings(vapid_private_key=key)


def test_vapid_key_of_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    with pytest.raises(ValueError, match="P-256"):
        WebPush(settings(vapid_private_key=pem))
