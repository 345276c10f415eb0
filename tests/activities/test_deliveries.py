"""Deliveries by mail: one for each event and person, on a real SMTP server."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import func, text

from adapters import outbox
from adapters.outbox import Target
from adapters.postgres import Database
from adapters.settings import Settings
from adapters.tables import deliveries, notices, preferences, properties
from adapters.telemetry import DELIVERIES
from domain import ids
from domain.command import Command
from domain.preferences import Channel, Channels
from domain.property_commands import CreateProperty
from domain.user_commands import RequestPasswordReset, RequestVerification
from embedded.mailbox import Mailbox
from embedded.stack import Stack
from tests.activities.accounts import Saving
from tests.activities.pipeline import API, APP, Pipeline, on_account
from tests.adapters.test_mail import Slow, mail_server
from tests.samples import create_property


async def listed(saving: Saving, tenant: str, *emails: str) -> list[CreateProperty]:
    """List a property for each owner; the notices to them are pending."""
    owners = [await saving.registered(tenant, email=email) for email in emails]
    commands = [create_property(tenant, owner) for owner in owners]
    for command in commands:
        await saving.property(command)
    return commands


def event_ids(*commands: CreateProperty) -> list[UUID]:
    return [ids.event_id(command.command_id, 1) for command in commands]


@pytest.fixture
def pipeline(database: Database, settings: Settings, tenant: str) -> Pipeline:
    return Pipeline(database, settings, tenant)


async def mails_to(stack: Stack, email: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        mails: list[dict[str, Any]] = (await mailbox.get("/api/messages", params={"to": email})).json()
    return mails


async def test_owner_is_notified_once(pipeline: Pipeline, saving: Saving, stack: Stack, tenant: str) -> None:
    email = f"{tenant}@example.com"
    [command] = await listed(saving, tenant, email)

    done = [await pipeline.mail(*event_ids(command)) for _ in range(2)]

    assert done == ["1 sent", "1 sent"]
    [mail] = await mails_to(stack, email)
    assert mail["subject"] == "Your listing is public: 3BHK Apartment in Gachibowli"
    assert "₹85,00,000" in mail["text"]
    assert f"{APP}/properties/{command.property_id}" in mail["html"]


async def give_up(database: Database, tenant: str) -> None:
    """So that reconcile of the platform beside the tests does not try what can never be sent."""
    async with database.transaction(tenant) as tx:
        await tx.execute(deliveries.update().where(deliveries.c.sent_at.is_(None)).values(given_up="the test is over"))


class Keeps(Mailbox):
    """A mail server that keeps each mail as it came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return await super().handle_DATA(server, session, envelope)


async def test_mail_that_may_be_turned_off_is_unsubscribed_by_one_click(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    user_id = await saving.registered(tenant, email=f"{tenant}@example.com")
    command = create_property(tenant, user_id)
    await saving.property(command)
    reset = await on_account(saving, tenant, user_id, RequestPasswordReset)

    async with mail_server(keeps := Keeps(tmp_path)) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        assert await pipeline.mail(*event_ids(command), reset.events[0].event_id) == "2 sent"

    about_listing, about_account = sorted(keeps.mails, key=lambda mail: "Your listing" not in str(mail["Subject"]))
    assert about_listing["List-Unsubscribe"].startswith(f"<{API}/api/notifications/unsubscribe?token=")
    assert about_listing["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert about_account["List-Unsubscribe"] is None


class FixedReply(Mailbox):
    """A mail server that answers every mail with the same reply."""

    def __init__(self, folder: Path, reply: str) -> None:
        super().__init__(folder)
        self._reply = reply

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        return self._reply


@pytest.mark.parametrize(
    ("reply", "expected"), [("451 try again later", "postponed"), ("554 never", "given_up"), ("250 OK", "sent")]
)
async def test_reply_of_the_mail_server_decides_the_outcome_of_a_delivery(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str, reply: str, expected: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    counted = DELIVERIES.labels("email", expected)
    before = counted._value.get()

    async with mail_server(FixedReply(tmp_path, reply)) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        done = await pipeline.mail(*event_ids(command))

    assert (await pipeline.outcomes(*event_ids(command)))["email"] == expected
    assert counted._value.get() == before + 1
    assert ("1 of 1 are pending" in done and "451" in done) == (expected == "postponed")


class RefusesSender(Mailbox):
    """A mail server that refuses the sender, as with a wrong MAIL_FROM."""

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _address: str, _options: list[str]
    ) -> str:
        return "553 sender not allowed"


async def test_mails_stay_pending_until_the_settings_are_fixed(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")

    async with mail_server(RefusesSender(tmp_path)) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        assert "553 sender not allowed" in await pipeline.mail(*event_ids(command))

    assert (await pipeline.outcomes(*event_ids(command)))["email"] == "postponed"
    assert await Pipeline(database, settings, tenant).mail(*event_ids(command)) == "1 sent"


class ByRecipient(Mailbox):
    """A mail server that defers some recipients, refuses others for good, and accepts the rest."""

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("later"):
            return "450 mailbox busy"
        if address.startswith("never"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"


async def test_deferred_mail_does_not_delay_the_others(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    names = ("later", "never", *(f"at-once-{n}" for n in range(12)))
    commands = await listed(saving, tenant, *(f"{name}-{tenant}@example.com" for name in names))

    async with mail_server(ByRecipient(tmp_path)) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        assert "1 of 14 are pending" in await pipeline.mail(*event_ids(*commands))

    outcomes = [(await pipeline.outcomes(*event_ids(command)))["email"] for command in commands]
    assert outcomes == ["postponed", "bad_address", *["sent"] * 12]
    async with mail_server(Mailbox(tmp_path / "later")) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        assert await pipeline.mail(*event_ids(*commands)) == "13 sent, 1 given up"
    assert len(Mailbox(tmp_path / "later")) == 1


async def test_delivery_that_meets_a_defect_does_not_have_the_others_sent_again(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    """Its kind does not fit its event, so that its template lacks a value."""
    commands = await listed(saving, tenant, *(f"{n}-{tenant}@example.com" for n in range(10)))

    async with mail_server(Mailbox(tmp_path)) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        await pipeline.expand(*event_ids(*commands))
        async with database.transaction(tenant) as tx:
            of_first = deliveries.c.event_id == event_ids(commands[0])[0]
            await tx.execute(deliveries.update().where(of_first).values(template="STATUS_CHANGED"))
        for _ in range(2):
            assert "1 of 10 are pending: server error" in await pipeline.mail(*event_ids(*commands))

    assert len(Mailbox(tmp_path)) == 9
    await give_up(database, tenant)


async def test_mail_that_was_turned_off_while_it_was_postponed_is_not_sent(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"later-{tenant}@example.com")
    async with mail_server(ByRecipient(tmp_path)) as (mailer, _):
        await Pipeline(database, settings, tenant, mail=mailer).mail(*event_ids(command))
    off = {"LISTING_CONFIRMED": Channels(email=False).model_dump(by_alias=True)}
    row = {"tenant_id": tenant, "user_id": command.user_id, "version": 1, "kinds": off, "updated_at": func.now()}
    async with database.transaction(tenant) as tx:
        await tx.execute(preferences.insert().values(row))

    assert await Pipeline(database, settings, tenant).mail(*event_ids(command)) == "0 sent, 1 given up"


class _RolledBack(Exception):
    """Ends a transaction without a commit."""


async def test_event_with_many_deliveries_leaves_room_for_those_of_others(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    """As reconcile starts them: in one workflow, the oldest first. Rolled back, so that the platform sends none."""
    large, small = await listed(saving, tenant, f"1-{tenant}@example.com", f"2-{tenant}@example.com")
    await pipeline.expand(*event_ids(large, small))
    copied = """
        INSERT INTO notification.deliveries
          (tenant_id, event_id, channel, recipient_id, command_id, template, enqueued_at)
        SELECT tenant_id, event_id, channel, gen_random_uuid(), command_id, template, now() - interval '1 hour'
        FROM notification.deliveries, generate_series(1, 1000)
        WHERE event_id = :event AND channel = 'email'
    """

    with suppress(_RolledBack):
        async with database.transaction(tenant) as tx:
            await tx.execute(text(copied), {"event": event_ids(large)[0]})
            first = (await outbox.pending_of(tx, event_ids(large, small)))[Channel.EMAIL]
            await outbox.claim(tx, Channel.EMAIL, first)
            second = (await outbox.pending_of(tx, event_ids(large, small)))[Channel.EMAIL]
            raise _RolledBack

    assert Target(event_ids(small)[0], small.user_id) in first
    assert len(first) == 251
    assert (len(second), set(second) & set(first)) == (250, set())  # what is being sent is left to its workflow


async def test_nothing_more_is_sent_to_a_bad_address(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    user_id = await saving.registered(tenant, email=f"never-{tenant}@example.com")
    first, second = [await on_account(saving, tenant, user_id, RequestPasswordReset) for _ in range(2)]

    async with mail_server(ByRecipient(tmp_path / "refuses")) as (mailer, _):
        await Pipeline(database, settings, tenant, mail=mailer).mail(first.events[0].event_id)
    async with mail_server(Mailbox(tmp_path / "accepts")) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        assert await pipeline.mail(second.events[0].event_id) == "0 sent, 1 given up"

    assert len(Mailbox(tmp_path / "accepts")) == 0
    [row] = await pipeline.rows(second.events[0].event_id)
    assert (row.outcome, "an earlier delivery" in row.given_up) == ("bad_address", True)


async def test_mail_that_another_worker_is_sending_is_not_sent_again(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    mailbox = Slow(tmp_path)
    async with mail_server(mailbox) as (mailer, _):
        pipeline = Pipeline(database, settings, tenant, mail=mailer)
        first = asyncio.create_task(pipeline.mail(*event_ids(command)))
        await mailbox.received.wait()

        assert "another worker has claimed them" in await pipeline.mail(*event_ids(command))

        mailbox.answer.set()
        assert await first == "1 sent"
    assert len(mailbox) == 1


async def test_claim_of_a_dead_worker_expires(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    await pipeline.expand(*event_ids(command))
    targets = await pipeline.targets(Channel.EMAIL, *event_ids(command))
    async with database.transaction(tenant) as tx:
        claimed = await outbox.claim(tx, Channel.EMAIL, targets)
        again = await outbox.claim(tx, Channel.EMAIL, targets)
        await tx.execute(deliveries.update().values(claimed_until=text("now() - interval '1 second'")))
        late = await outbox.claim(tx, Channel.EMAIL, targets)

    assert ([row["tried"] for row in claimed.values()], again) == ([False], {})
    assert [row["tried"] for row in late.values()] == [True]


async def test_kind_of_a_newer_release_waits_for_it(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        await tx.execute(notices.update().where(notices.c.event_id.in_(event_ids(command))).values(kind="PRAISED"))
    assert (await pipeline.expand(*event_ids(command))).channels == {}
    async with database.transaction(tenant) as tx:
        await tx.execute(notices.update().where(notices.c.kind == "PRAISED").values(kind="LISTING_CONFIRMED"))
    await pipeline.expand(*event_ids(command))
    async with database.transaction(tenant) as tx:
        await tx.execute(deliveries.update().values(template="PRAISED"))

    assert "no template 'PRAISED'" in await pipeline.mail(*event_ids(command))

    assert (await pipeline.outcomes(*event_ids(command)))["email"] == "postponed"
    await give_up(database, tenant)


async def test_mail_about_a_listing_that_is_gone_is_given_up(
    database: Database, pipeline: Pipeline, saving: Saving, tenant: str
) -> None:
    [command] = await listed(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        await tx.execute(properties.delete().where(properties.c.property_id == command.property_id))

    assert await pipeline.mail(*event_ids(command)) == "0 sent, 1 given up"


async def test_mail_of_an_earlier_release_is_sent_by_its_workflow(
    database: Database, pipeline: Pipeline, saving: Saving, stack: Stack, tenant: str
) -> None:
    """It has stored a delivery and no notice."""
    email = f"{tenant}@example.com"
    [command] = await listed(saving, tenant, email)
    async with database.transaction(tenant) as tx:
        await tx.execute(notices.delete().where(notices.c.event_id.in_(event_ids(command))))
        row = {
            "tenant_id": tenant,
            "event_id": event_ids(command)[0],
            "channel": "email",
            "recipient_id": command.user_id,
            "command_id": command.command_id,
            "template": "property-listed",
            "about_id": command.property_id,
        }
        await tx.execute(deliveries.insert().values(row))

    done = [await pipeline.send_old(*event_ids(command)) for _ in range(2)]

    assert done == ["1 mailed or given up", "0 mailed or given up"]
    assert len(await mails_to(stack, email)) == 1


@pytest.mark.parametrize(
    ("command", "fields", "path"),
    [(RequestVerification, {"reminder": 1}, "verify-email"), (RequestPasswordReset, {}, "reset-password")],
)
async def test_mail_contains_the_link_of_its_event_in_text_and_html(
    pipeline: Pipeline,
    saving: Saving,
    stack: Stack,
    tenant: str,
    command: type[Command],
    fields: dict[str, Any],
    path: str,
) -> None:
    email = f"{tenant}@example.com"
    user_id = await saving.registered(tenant, email=email)
    event_id = (await on_account(saving, tenant, user_id, command, **fields)).events[0].event_id

    assert await pipeline.mail(event_id) == "1 sent"

    [mail] = await mails_to(stack, email)
    link = f"{APP}/{path}?token={pipeline.keyring.link_token(event_id)}"
    assert link in mail["text"]
    assert link in mail["html"]
    assert ("Reminder" in mail["subject"]) == (path == "verify-email")


@pytest.mark.parametrize(
    ("command", "statement", "reason"),
    [
        (RequestVerification, "UPDATE user_management.users SET email_verified = true", "verified already"),
        (RequestPasswordReset, "", "expired"),
        (RequestVerification, "UPDATE notification.deliveries SET recipient_id = gen_random_uuid()", "deleted"),
    ],
)
async def test_link_of_no_use_is_given_up(
    database: Database,
    pipeline: Pipeline,
    saving: Saving,
    stack: Stack,
    tenant: str,
    command: type[Command],
    statement: str,
    reason: str,
) -> None:
    email = f"{tenant}@example.com"
    user_id = await saving.registered(tenant, email=email)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    event_id = (await on_account(saving, tenant, user_id, command, issued_at=an_hour_ago)).events[0].event_id
    await pipeline.expand(event_id)
    if statement:
        async with database.statements(tenant) as connection:
            await connection.execute(text(statement))

    assert await pipeline.mail(event_id) == "0 sent, 1 given up"

    assert await mails_to(stack, email) == []
    assert reason in (await pipeline.rows(event_id))[0].given_up
