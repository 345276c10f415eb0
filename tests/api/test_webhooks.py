"""Reports of SendGrid and Twilio: signatures, the states of a delivery in any order, and bad addresses."""

import base64
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr
from sqlalchemy import select

from adapters import bad_addresses, delivery_reports, tables
from adapters.delivery_reports import Report, Reported
from adapters.postgres import Database
from adapters.providers import DeliveryKey
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import deliveries, users
from domain.preferences import Channel
from tests.api.test_contract import assert_problem
from tests.api.test_push import api
from tests.samples import new_id, new_tenant

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
URL, TOKEN = "https://api.example/api/webhooks/twilio", "token"
EMAIL, NUMBER = "Ravi@example.com", "+919876543210"


@pytest.fixture(scope="module")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    more = {
        "sendgrid_webhook_key": PUBLIC,
        "twilio_auth_token": SecretStr(TOKEN),
        "public_api_url": "https://api.example",
    }
    async with api(settings, **more) as (client, _):
        yield client


async def delivered(
    database: Database, tenant: str, channel: Channel, provider_id: str | None = None, *, erased: bool = False
) -> DeliveryKey:
    """The key of a delivery that the provider has accepted; its recipient has an account unless it is erased."""
    key = DeliveryKey(tenant, new_id(), channel, new_id())
    async with database.transaction(tenant) as tx:
        name, now = key.recipient_id.hex, datetime.now(UTC)
        account = {"username": name, "email": f"{name}@example.com", "password_hash": "", "role": "USER"}
        owner = {"tenant_id": tenant, "user_id": key.recipient_id, "version": 1, "status": "ACTIVE"}
        if not erased:
            await tx.execute(users.insert().values(**owner, **account, created_at=now, updated_at=now))
        row = {
            "tenant_id": tenant,
            "event_id": key.event_id,
            "channel": channel.value,
            "recipient_id": key.recipient_id,
        }
        await tx.execute(
            deliveries.insert().values(
                **row, command_id=new_id(), template="x", sent_at=datetime.now(UTC), provider_id=provider_id
            )
        )
    return key


async def reported(database: Database, key: DeliveryKey) -> tuple[str | None, datetime | None]:
    async with database.statements(key.tenant_id) as connection:
        d = deliveries.c
        query = select(d.reported, d.reported_at).where(d.event_id == key.event_id, d.channel == key.channel.value)
        row = (await connection.execute(query)).one()
    return row.reported, row.reported_at


async def is_bad(database: Database, keyring: Keyring, tenant: str, channel: Channel, address: str) -> bool:
    digest = keyring.address_digest(channel, address)
    async with database.statements(tenant) as connection:
        return await bad_addresses.bad_ones(connection, channel, [digest, b"another"]) == {digest}


def event(key: DeliveryKey, name: str, **more: Any) -> dict[str, Any]:
    at = int(time.time()) - 60
    return {"email": EMAIL, "timestamp": at, "event": name, "sg_event_id": new_id().hex, **key.tags, **more}


def signed(body: bytes, at: float | None = None) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    signature = KEY.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
    }


async def sendgrid(client: httpx.AsyncClient, *events: Any) -> None:
    body = orjson.dumps(events)
    answer = await client.post("/api/webhooks/sendgrid", content=body, headers=signed(body))
    assert answer.status_code == 204, answer.text


def twilio_signature(url: str, form: dict[str, str], token: str = TOKEN) -> str:
    text = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


async def twilio(
    client: httpx.AsyncClient, key: DeliveryKey, form: dict[str, str], signature: str | None = None
) -> httpx.Response:
    query = urlencode(key.tags)
    signature = twilio_signature(f"{URL}?{query}", form) if signature is None else signature
    return await client.post(f"/api/webhooks/twilio?{query}", data=form, headers={"X-Twilio-Signature": signature})


def status(name: str, code: int | None = None) -> dict[str, str]:
    more = {"ErrorCode": str(code)} if code else {}
    return {"MessageSid": "SM1", "MessageStatus": name, "To": NUMBER, "AccountSid": "AC1", "Empty": "", **more}


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (("processed", "deferred", "delivered", "open"), "delivered"),
        (("deferred", "processed"), "sent"),
        (("processed", "delivered", "bounce"), "bounced"),
        (("processed", "delivered", "spamreport"), "spam"),
        (("processed", "dropped"), "dropped"),
        (("open", "click"), None),
    ],
)
async def test_state_of_a_mail_does_not_depend_on_the_order_of_reports(
    client: httpx.AsyncClient, database: Database, tenant: str, reports: Sequence[str], expected: str | None
) -> None:
    for ordered in permutations(reports):
        together, apart = [await delivered(database, tenant, Channel.EMAIL) for _ in range(2)]
        await sendgrid(client, *(event(together, name) for name in ordered))
        for name in ordered:
            await sendgrid(client, event(apart, name))

        assert (await reported(database, together))[0] == expected
        assert (await reported(database, apart))[0] == expected


async def test_repeated_report_changes_nothing(client: httpx.AsyncClient, database: Database, tenant: str) -> None:
    key = await delivered(database, tenant, Channel.EMAIL)
    at = int(time.time()) - 3600
    await sendgrid(client, event(key, "delivered", timestamp=at))
    first = await reported(database, key)

    await sendgrid(client, event(key, "delivered", timestamp=at), event(key, "processed"))
    await sendgrid(client, event(key, "delivered"))

    assert first == ("delivered", datetime.fromtimestamp(at, UTC))
    assert await reported(database, key) == first


@pytest.mark.parametrize(
    ("given", "state", "bad"),
    [
        ({"event": "bounce", "type": "bounce", "reason": f"550 5.1.1 <{EMAIL}>"}, "bounced", True),
        ({"event": "bounce", "type": "blocked"}, "failed", False),
        ({"event": "dropped", "reason": "Bounced Address"}, "dropped", True),
        ({"event": "dropped", "reason": "Spam Reporting Address"}, "dropped", True),
        ({"event": "dropped", "reason": "Spam Content"}, "dropped", False),
        ({"event": "spamreport"}, "spam", True),
        ({"event": "delivered"}, "delivered", False),
        ({"event": "bounce", "email": None}, "bounced", False),
        ({"event": "bounce", "timestamp": "soon"}, "bounced", True),
        ({"event": "bounce", "timestamp": 10**12}, "bounced", True),
    ],
)
async def test_address_of_a_mail_that_bounced_is_not_tried_again(
    client: httpx.AsyncClient,
    database: Database,
    keyring: Keyring,
    tenant: str,
    given: dict[str, Any],
    state: str,
    bad: bool,
) -> None:
    key = await delivered(database, tenant, Channel.EMAIL)

    for _ in range(2):
        await sendgrid(client, event(key, "", **given))

    assert (await reported(database, key))[0] == state
    assert await is_bad(database, keyring, tenant, Channel.EMAIL, EMAIL.lower()) is bad
    assert not await is_bad(database, keyring, new_tenant(), Channel.EMAIL, EMAIL)
    assert not await is_bad(database, keyring, tenant, Channel.SMS, EMAIL)


async def test_late_report_about_an_erased_account_brings_back_no_digest_of_its_address(
    client: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: str
) -> None:
    key = await delivered(database, tenant, Channel.EMAIL, erased=True)
    body = orjson.dumps([event(key, "bounce", type="bounce")])

    answer = await client.post("/api/webhooks/sendgrid", content=body, headers=signed(body))

    assert answer.status_code == 204
    assert (await reported(database, key))[0] == "bounced"
    assert not await is_bad(database, keyring, tenant, Channel.EMAIL, EMAIL)


async def test_deliveries_of_one_mail_are_found_by_the_id_of_the_provider(
    client: httpx.AsyncClient, database: Database, tenant: str
) -> None:
    """A digest is one mail; its tags name one of its deliveries."""
    message = f"a.b-{new_id().hex}"
    first, second = [await delivered(database, tenant, Channel.EMAIL, message) for _ in range(2)]
    other = await delivered(database, tenant, Channel.EMAIL, f"{message}c")

    await sendgrid(client, event(first, "delivered", sg_message_id=f"{message}.filter0001.16648.5515E0B88.0"))

    assert [(await reported(database, key))[0] for key in (first, second, other)] == ["delivered", "delivered", None]


async def test_reports_of_unknown_deliveries_are_ignored(
    client: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: str
) -> None:
    known = await delivered(database, tenant, Channel.EMAIL)
    unknown = DeliveryKey(tenant, new_id(), Channel.EMAIL, new_id())
    elsewhere = DeliveryKey(new_tenant(), known.event_id, Channel.EMAIL, known.recipient_id)

    await sendgrid(client, event(unknown, "bounce"), event(elsewhere, "bounce"), {"event": "bounce"}, "text", 7, None)
    await sendgrid(client)

    assert await reported(database, known) == (None, None)
    for key in (unknown, elsewhere):
        assert not await is_bad(database, keyring, key.tenant_id, Channel.EMAIL, EMAIL)


async def test_batch_of_a_thousand_events_of_several_tenants_is_recorded(
    client: httpx.AsyncClient, database: Database, tenant: str
) -> None:
    mine, theirs = (
        await delivered(database, tenant, Channel.EMAIL),
        await delivered(database, new_tenant(), Channel.EMAIL),
    )
    padding = [event(DeliveryKey(tenant, new_id(), Channel.EMAIL, new_id()), "delivered") for _ in range(998)]

    await sendgrid(client, event(mine, "delivered"), *padding, event(theirs, "dropped"))

    assert (await reported(database, mine))[0] == "delivered"
    assert (await reported(database, theirs))[0] == "dropped"


@pytest.mark.parametrize(
    "forged",
    [
        {"X-Twilio-Email-Event-Webhook-Signature": ""},
        {"X-Twilio-Email-Event-Webhook-Signature": "é"},
        {"X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(b"x" * 70).decode()},
        {"X-Twilio-Email-Event-Webhook-Timestamp": "soon"},
        {"X-Twilio-Email-Event-Webhook-Timestamp": str(int(time.time()) + 1)},
        signed(b"[]"),
        signed(b"[1]", time.time() - 660),
        signed(b"[1]", time.time() + 86_400),  # signed when the tests are collected, long before this one runs
    ],
)
async def test_events_that_sendgrid_did_not_sign_are_refused(client: httpx.AsyncClient, forged: dict[str, str]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in {**signed(b"[1]"), **forged}.items()]

    answer = await client.post("/api/webhooks/sendgrid", content=b"[1]", headers=headers)

    assert_problem(answer, "invalid-signature")


async def test_body_of_sendgrid_is_limited_and_is_a_list(client: httpx.AsyncClient) -> None:
    large = b'["' + b"x" * 1_048_576 + b'"]'
    answer = await client.post("/api/webhooks/sendgrid", content=large, headers=signed(large))
    assert_problem(answer, "body-too-large")
    answer = await client.post("/api/webhooks/sendgrid", content=b"{}", headers=signed(b"{}"))
    assert_problem(answer, "malformed-json")


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(("queued", "sent", "delivered"), "delivered"), (("sent", "undelivered"), "failed"), (("queued",), None)],
)
async def test_state_of_a_text_does_not_depend_on_the_order_of_reports(
    client: httpx.AsyncClient, database: Database, tenant: str, statuses: Sequence[str], expected: str | None
) -> None:
    for ordered in permutations(statuses):
        key = await delivered(database, tenant, Channel.SMS)
        for name in [*ordered, *ordered]:
            assert (await twilio(client, key, status(name))).status_code == 204

        assert (await reported(database, key))[0] == expected


@pytest.mark.parametrize(("code", "bad"), [(30005, True), (30006, True), (30003, False), (30007, False), (None, False)])
async def test_number_that_does_not_exist_is_not_tried_again(
    client: httpx.AsyncClient, database: Database, keyring: Keyring, tenant: str, code: int | None, bad: bool
) -> None:
    key = await delivered(database, tenant, Channel.SMS)

    assert (await twilio(client, key, status("undelivered", code))).status_code == 204

    assert await is_bad(database, keyring, tenant, Channel.SMS, NUMBER) is bad


async def test_url_is_signed_with_or_without_its_standard_port(
    client: httpx.AsyncClient, database: Database, tenant: str
) -> None:
    key = await delivered(database, tenant, Channel.SMS)
    with_port = f"https://api.example:443/api/webhooks/twilio?{urlencode(key.tags)}"

    answer = await twilio(client, key, status("sent"), twilio_signature(with_port, status("sent")))

    assert answer.status_code == 204


async def test_status_that_twilio_did_not_sign_is_refused(
    client: httpx.AsyncClient, database: Database, tenant: str
) -> None:
    key, other = [await delivered(database, tenant, Channel.SMS) for _ in range(2)]
    form, own = status("failed", 30005), f"{URL}?{urlencode(key.tags)}"
    for signature in (
        "",
        "garbage",
        twilio_signature(own, form, "another token"),
        twilio_signature(own, status("delivered")),
        twilio_signature(f"{URL}?{urlencode(other.tags)}", form),
    ):
        assert_problem(await twilio(client, key, form, signature), "invalid-signature")
    for body in (b"\xff=\xff", urlencode({str(n): "x" for n in range(201)}).encode(), b""):
        answer = await client.post(
            "/api/webhooks/twilio", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert_problem(answer, "invalid-signature")

    assert await reported(database, key) == (None, None)


async def test_other_routes_take_no_forms(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/api/auth/login", data={"a": "b"}), "unsupported-media-type")
    assert_problem(await client.post("/api/webhooks/sendgrid", data={"a": "b"}), "unsupported-media-type")
    assert_problem(await client.post("/api/webhooks/twilio", json={}), "unsupported-media-type")


async def test_webhooks_that_are_not_configured_are_not_found(settings: Settings) -> None:
    async with api(settings) as (client, _):
        assert_problem(await client.post("/api/webhooks/sendgrid", json=[]), "not-found")
        assert_problem(await client.post("/api/webhooks/twilio", data={"a": "b"}), "not-found")


async def test_bad_address_is_remembered_once_with_its_first_reason(
    database: Database, keyring: Keyring, tenant: str
) -> None:
    digest = keyring.address_digest(Channel.EMAIL, EMAIL)
    async with database.statements(tenant) as connection:
        for reason in ("first", "second"):
            await bad_addresses.add(connection, tenant, Channel.EMAIL, digest, reason)
        [row] = (
            await connection.execute(select(tables.bad_addresses.c.reason, tables.bad_addresses.c.address_digest))
        ).all()
        assert await bad_addresses.bad_ones(connection, Channel.EMAIL, []) == set()
    assert row.reason == "first"
    assert EMAIL.lower().encode() not in row.address_digest


async def test_reports_that_are_recorded_twice_change_nothing(
    database: Database, keyring: Keyring, tenant: str
) -> None:
    key = await delivered(database, tenant, Channel.EMAIL)
    now = datetime.now(UTC)
    digest = keyring.address_digest(Channel.EMAIL, EMAIL)
    bounced = Report(key, None, Reported.BOUNCED, now, digest, "SendGrid reported bounced")
    later = Report(key, None, Reported.DELIVERED, now + timedelta(seconds=1))
    for _ in range(2):
        async with database.transaction(tenant) as tx:
            await delivery_reports.record(tx, [bounced, later])

    assert await reported(database, key) == ("bounced", now)
