"""Notifications: one mail for each event and person, on a real SMTP server."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select, text
from temporalio.testing import ActivityEnvironment

from activities.notifications import Notifications, OverdueDeliveries
from activities.outbox_relay import DeliveryBatch, OutboxRelay
from adapters import outbox
from adapters.mail import Smtp
from adapters.outbox import PendingDelivery
from adapters.postgres import Database
from adapters.providers import MailSender, ProviderUnavailable
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import deliveries, properties
from domain import ids
from domain.command import Command, Saved
from domain.property_commands import CreateProperty
from domain.user_commands import RequestPasswordReset, RequestVerification
from embedded.mailbox import Mailbox
from embedded.stack import Stack
from tests.activities.accounts import Saving
from tests.adapters.test_mail import Slow, mail_server
from tests.samples import create_property, new_id


async def enqueued(saving: Saving, tenant: str, *emails: str) -> list[CreateProperty]:
    """List a property for each owner; their deliveries are pending."""
    owners = [await saving.registered(tenant, email=email) for email in emails]
    commands = [create_property(tenant, owner) for owner in owners]
    for command in commands:
        await saving.property(command)
    return commands


def outgoing(*commands: CreateProperty) -> DeliveryBatch:
    events = tuple(ids.event_id(command.command_id, 1) for command in commands)
    return DeliveryBatch(tenant_id=commands[0].tenant_id, event_ids=events)


KEYRING = Keyring(b"k" * 32)


async def send(database: Database, mailer: MailSender, what: DeliveryBatch) -> str:
    notifications = Notifications(database, mailer, KEYRING, "https://homes.example")
    return await ActivityEnvironment().run(notifications.send_deliveries, what)


async def stage(database: Database, command: CreateProperty) -> str:
    async with database.transaction(command.tenant_id) as tx:
        outcome = await outbox.outcome_of(tx, command.command_id)
    return "sent" if outcome.sent_at else "given up" if outcome.given_up else "pending"


async def test_owner_is_notified_once(
    database: Database, saving: Saving, settings: Settings, stack: Stack, tenant: str
) -> None:
    email = f"{tenant}@example.com"
    [command] = await enqueued(saving, tenant, email)

    done = [await send(database, Smtp(settings), outgoing(command)) for _ in range(2)]

    assert done == ["1 mailed", "1 mailed"]
    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        [mail] = (await mailbox.get("/api/messages", params={"to": email})).json()
        page = (await mailbox.get("/")).text
    assert mail["subject"] == "Your property is listed: 3BHK Apartment in Gachibowli"
    assert "₹85,00,000" in mail["text"]
    assert email in page


class FixedReply(Mailbox):
    """A mail server that answers every mail with the same reply."""

    def __init__(self, folder: Path, reply: str) -> None:
        super().__init__(folder)
        self._reply = reply

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        return self._reply


@pytest.mark.parametrize(
    ("reply", "expected"), [("451 try again later", "pending"), ("554 never", "given up"), ("250 OK", "sent")]
)
async def test_reply_of_the_mail_server_decides_the_outcome_of_a_delivery(
    database: Database,
    saving: Saving,
    settings: Settings,
    tmp_path: Path,
    tenant: str,
    reply: str,
    expected: str,
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")

    async with mail_server(FixedReply(tmp_path, reply)) as (mailer, _):
        with (
            nullcontext()
            if expected != "pending"
            else pytest.raises(ProviderUnavailable, match=r"1 of 1 mails are pending: .*451")
        ):
            await send(database, mailer, outgoing(command))

    assert await stage(database, command) == expected


class RefusesSender(Mailbox):
    """A mail server that refuses the sender, as with a wrong MAIL_FROM."""

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _address: str, _options: list[str]
    ) -> str:
        return "553 sender not allowed"


async def test_mails_stay_pending_until_the_settings_are_fixed(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")

    async with mail_server(RefusesSender(tmp_path)) as (mailer, _):
        with pytest.raises(ProviderUnavailable, match="553 sender not allowed"):
            await send(database, mailer, outgoing(command))

    assert await stage(database, command) == "pending"


class ByRecipient(Mailbox):
    """A mail server that defers some recipients, refuses others, and accepts the rest."""

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("later"):
            return "450 mailbox busy"
        if address.startswith("never"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"


async def test_deferred_mail_does_not_delay_the_others(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    names = ("later", "never", *(f"at-once-{n}" for n in range(12)))
    commands = await enqueued(saving, tenant, *(f"{name}-{tenant}@example.com" for name in names))

    async with mail_server(ByRecipient(tmp_path)) as (mailer, _):
        with pytest.raises(ProviderUnavailable, match="1 of 14 mails are pending"):
            await send(database, mailer, outgoing(*commands))

    expected = [await stage(database, command) for command in commands]
    assert expected == ["pending", "given up", *["sent"] * 12]
    async with mail_server(Mailbox(tmp_path / "later")) as (mailer, _):
        assert await send(database, mailer, outgoing(*commands)) == "13 mailed, 1 given up"
    assert len(Mailbox(tmp_path / "later")) == 1


async def test_mail_that_another_worker_is_sending_is_not_sent_again(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")
    mailbox = Slow(tmp_path)
    async with mail_server(mailbox) as (mailer, _):
        first = asyncio.create_task(send(database, mailer, outgoing(command)))
        await mailbox.received.wait()

        with pytest.raises(ProviderUnavailable, match="another worker has claimed them"):
            await send(database, mailer, outgoing(command))

        mailbox.answer.set()
        assert await first == "1 mailed"
    assert len(mailbox) == 1


async def test_claim_of_a_dead_worker_expires(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        claimed = await tx.execute(select(outbox.CLAIMED), {"event_ids": list(outgoing(command).event_ids)})
        assert len(claimed.all()) == 1
        await tx.execute(deliveries.update().values(claimed_until=text("now() - interval '1 second'")))

    async with mail_server(Mailbox(tmp_path)) as (mailer, _):
        assert await send(database, mailer, outgoing(command)) == "1 mailed"


async def test_template_of_a_newer_release_waits_for_it(
    database: Database, saving: Saving, settings: Settings, tmp_path: Path, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        await tx.execute(deliveries.update().values(template="property-praised"))

    async with mail_server(Mailbox(tmp_path)) as (mailer, _):
        with pytest.raises(ProviderUnavailable, match="no template 'property-praised'"):
            await send(database, mailer, outgoing(command))

    assert await stage(database, command) == "pending"


class Starts(OutboxRelay):
    """Records started workflows; a workflow id can be started once, as in Temporal."""

    def __init__(self) -> None:
        self.started: dict[str, list[PendingDelivery]] = {}

    async def start(self, pending: Sequence[PendingDelivery], name: str) -> bool:
        if name in self.started:
            return False
        self.started[name] = list(pending)
        return True

    def of(self, tenant: str) -> list[UUID]:
        return [one.event_id for group in self.started.values() for one in group if one.tenant_id == tenant]


async def test_lost_deliveries_are_started_again_and_running_ones_are_not(
    database: Database, all_tenants: Database, saving: Saving, tenant: str
) -> None:
    names = ("lost", "new", "tried", "abandoned", "sent")
    lost, new, tried, abandoned, sent = await enqueued(
        saving, tenant, *(f"{name}-{tenant}@example.com" for name in names)
    )
    ages = {
        lost: {"enqueued_at": "1 hour"},
        tried: {"enqueued_at": "3 hours", "claimed_until": "30 minutes"},
        abandoned: {"enqueued_at": "3 hours", "claimed_until": "2 hours"},
        sent: {"enqueued_at": "3 hours", "sent_at": "2 hours"},
    }
    async with database.transaction(tenant) as tx:
        for command, columns in ages.items():
            changed = {name: text(f"now() - interval '{age}'") for name, age in columns.items()}
            await tx.execute(deliveries.update().where(deliveries.c.command_id == command.command_id).values(changed))
    starts = Starts()
    overdue = OverdueDeliveries(all_tenants, starts, after_seconds=600)

    for _ in range(2):
        await ActivityEnvironment().run(overdue.start_overdue)

    assert sorted(starts.of(tenant)) == sorted(outgoing(lost, abandoned).event_ids)
    assert await stage(database, new) == "pending"


async def test_delivery_whose_workflow_was_wiped_is_started_again_within_minutes(
    database: Database, all_tenants: Database, saving: Saving, tenant: str
) -> None:
    """One was tried for half a minute. The other was tried for half an hour, so its retry interval may be as long."""
    gone, pausing = await enqueued(saving, tenant, f"1-{tenant}@example.com", f"2-{tenant}@example.com")
    ages = {gone: ("12 minutes", "11 minutes 30 seconds"), pausing: ("40 minutes", "11 minutes 30 seconds")}
    async with database.transaction(tenant) as tx:
        for command, (enqueued_at, claimed_until) in ages.items():
            changed = {
                "enqueued_at": text(f"now() - interval '{enqueued_at}'"),
                "claimed_until": text(f"now() - interval '{claimed_until}'"),
            }
            await tx.execute(deliveries.update().where(deliveries.c.command_id == command.command_id).values(changed))
    starts = Starts()

    await ActivityEnvironment().run(OverdueDeliveries(all_tenants, starts, after_seconds=600).start_overdue)

    assert starts.of(tenant) == list(outgoing(gone).event_ids)


async def test_mail_that_is_pending_for_four_days_is_given_up(
    database: Database, all_tenants: Database, saving: Saving, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        await tx.execute(deliveries.update().values(enqueued_at=text("now() - interval '97 hours'")))
    starts = Starts()

    await ActivityEnvironment().run(OverdueDeliveries(all_tenants, starts, after_seconds=600).start_overdue)

    assert await stage(database, command) == "given up"
    assert starts.of(tenant) == []


async def test_mail_about_a_listing_that_is_gone_is_given_up(
    database: Database, saving: Saving, settings: Settings, tenant: str
) -> None:
    [command] = await enqueued(saving, tenant, f"{tenant}@example.com")
    async with database.transaction(tenant) as tx:
        await tx.execute(properties.delete().where(properties.c.property_id == command.property_id))

    assert await send(database, Smtp(settings), outgoing(command)) == "0 mailed, 1 given up"


async def mail_of(
    database: Database, settings: Settings, stack: Stack, keyring: Keyring, saved: Saved, email: str
) -> tuple[str, list[dict[str, Any]]]:
    """Send the mail of a command's event twice; returns the outcome, and the mails with its link or subject."""
    event_id = saved.events[0].event_id
    notifications = Notifications(database, Smtp(settings), keyring, "https://homes.example")
    batch = DeliveryBatch(tenant_id=saved.tenant_id, event_ids=(event_id,))
    for _ in range(2):
        done = await ActivityEnvironment().run(notifications.send_deliveries, batch)
    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        mails: list[dict[str, Any]] = (await mailbox.get("/api/messages", params={"to": email})).json()
    return done, mails


async def on_account(saving: Saving, tenant: str, user_id: UUID, command: type[Command], **fields: Any) -> Saved:
    by: dict[str, Any] = {"command_id": new_id(), "tenant_id": tenant, "user_id": user_id}
    return await saving.user(command(**by, issued_at=datetime.now(UTC), **fields))


@pytest.mark.parametrize(
    ("command", "fields", "path"),
    [(RequestVerification, {"reminder": 1}, "verify-email"), (RequestPasswordReset, {}, "reset-password")],
)
async def test_mail_contains_the_link_of_its_event_in_text_and_html(
    database: Database,
    saving: Saving,
    settings: Settings,
    stack: Stack,
    keyring: Keyring,
    tenant: str,
    command: type[Command],
    fields: dict[str, Any],
    path: str,
) -> None:
    email = f"{tenant}@example.com"
    user_id = await saving.registered(tenant, email=email)
    saved = await on_account(saving, tenant, user_id, command, **fields)

    done, [mail] = await mail_of(database, settings, stack, keyring, saved, email)

    assert done == "1 mailed"
    link = f"https://homes.example/{path}?token={keyring.link_token(saved.events[0].event_id)}"
    assert link in mail["text"]
    assert link in mail["html"]
    assert ("Reminder" in mail["subject"]) == (path == "verify-email")


@pytest.mark.parametrize(
    ("command", "statement", "reason"),
    [
        (RequestVerification, "UPDATE user_management.users SET email_verified = true", "verified already"),
        (RequestPasswordReset, "", "expired"),
        (RequestVerification, "DELETE FROM user_management.users", "deleted"),
    ],
)
async def test_link_of_no_use_is_given_up(
    database: Database,
    saving: Saving,
    settings: Settings,
    stack: Stack,
    keyring: Keyring,
    tenant: str,
    command: type[Command],
    statement: str,
    reason: str,
) -> None:
    email = f"{tenant}@example.com"
    user_id = await saving.registered(tenant, email=email)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    saved = await saving.user(command(command_id=new_id(), tenant_id=tenant, user_id=user_id, issued_at=an_hour_ago))
    if statement:
        async with database.statements(tenant) as connection:
            await connection.execute(text(statement))

    done, mails = await mail_of(database, settings, stack, keyring, saved, email)

    assert (done, mails) == ("0 mailed, 1 given up", [])
    async with database.statements(tenant) as connection:
        query = select(deliveries.c.given_up).where(deliveries.c.event_id == saved.events[0].event_id)
        assert reason in (await connection.execute(query)).scalar_one()
