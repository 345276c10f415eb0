"""Notifications: one mail for each event and person, on a real SMTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from temporalio.exceptions import ApplicationError

from activities.notifications import Confirmation, Notifications, rupees
from activities.properties import Properties
from activities.saving import Ledger
from adapters.mail import MailAway, Mailer
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.settings import Settings
from embedded.mailbox import Mailbox
from embedded.stack import Stack
from tests.activities.accounts import registered
from tests.samples import create_property, new_id


async def confirmation(ledger: Ledger, keyring: Keyring, tenant: str, email: str) -> Confirmation:
    owner = await registered(ledger, keyring, tenant, email=email)
    command = create_property(tenant, owner)
    saved = await Properties(ledger).save_property(command)
    return Confirmation(
        tenant_id=tenant,
        command_id=command.command_id,
        event_id=saved.events[0].event_id,
        owner_id=owner,
        property_id=command.property_id,
    )


async def test_owner_is_told_once(
    database: Database, ledger: Ledger, keyring: Keyring, settings: Settings, stack: Stack, tenant: str
) -> None:
    email = f"{tenant}@example.com"
    what = await confirmation(ledger, keyring, tenant, email)
    notifications = Notifications(database, Mailer(settings))

    done = [await notifications.confirm_property_created(what) for _ in range(2)]

    assert done == ["mailed", "mailed before"]
    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        [mail] = (await mailbox.get("/api/messages", params={"to": email})).json()
        page = (await mailbox.get("/")).text
    assert mail["subject"] == "Your property is listed: 3BHK Apartment in Gachibowli"
    assert "₹85,00,000" in mail["text"]
    assert email in page


async def test_worker_that_dies_before_recording_sends_under_the_same_message_id(
    settings: Settings, stack: Stack, tenant: str
) -> None:
    mailer, email = Mailer(settings), f"{tenant}@example.com"

    for _ in range(2):
        await mailer.send(to=email, subject="Twice", text="once", message_id=f"{tenant}@test")

    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        assert len((await mailbox.get("/api/messages", params={"to": email})).json()) == 1


@asynccontextmanager
async def mail_server(handler: object, settings: Settings) -> AsyncIterator[tuple[Mailer, list[SMTP]]]:
    """A mailer with a server of its own, and the server's connections."""
    connections: list[SMTP] = []

    def connected() -> SMTP:
        connections.append(SMTP(handler, hostname="here"))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mailer = Mailer(settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"}))
    yield mailer, connections
    mailer.close()
    server.close()


def one_mail(name: str) -> dict[str, str]:
    return {"to": f"{name}@example.com", "subject": f"మీ ఇల్లు {name}", "text": "₹1", "message_id": f"{name}@test"}


async def test_mails_share_a_connection_until_the_server_ends_it(settings: Settings, tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    async with mail_server(mailbox, settings) as (mailer, connections):
        await mailer.send(**one_mail("first"))
        await mailer.send(**one_mail("second"))
        assert len(connections) == 1

        assert connections[0].transport is not None
        connections[0].transport.close()
        await mailer.send(**one_mail("third"))

        assert len(connections) == 2
    assert [mail["subject"] for mail in mailbox.newest(9)] == ["మీ ఇల్లు third", "మీ ఇల్లు second", "మీ ఇల్లు first"]


class Tired(Mailbox):
    """A mail server that takes one mail over each connection, and says so at the next."""

    async def handle_MAIL(
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if getattr(session, "used", False):
            return "421 closing"
        envelope.mail_from, session.used = address, True  # type: ignore[attr-defined]
        return "250 OK"


async def test_mail_that_meets_a_tired_server_goes_over_a_new_connection(settings: Settings, tmp_path: Path) -> None:
    mailbox = Tired(tmp_path)
    async with mail_server(mailbox, settings) as (mailer, connections):
        for name in ("first", "second"):
            await mailer.send(**one_mail(name))

        assert (len(connections), len(mailbox)) == (2, 2)


class Slow(Mailbox):
    """A mail server that thinks about the first mail until it is allowed to answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.thinking, self.answer = asyncio.Event(), asyncio.Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not self.thinking.is_set():
            self.thinking.set()
            await self.answer.wait()
        return await super().handle_DATA(server, session, envelope)


async def test_mail_that_was_broken_off_leaves_nothing_to_the_next(settings: Settings, tmp_path: Path) -> None:
    mailbox = Slow(tmp_path)
    async with mail_server(mailbox, settings) as (mailer, connections):
        first = asyncio.create_task(mailer.send(**one_mail("first")))
        await mailbox.thinking.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        mailbox.answer.set()

        await mailer.send(**one_mail("second"))

        assert len(connections) == 2


class Unwilling(Mailbox):
    """A mail server that answers every mail with one code."""

    def __init__(self, folder: Path, reply: str) -> None:
        super().__init__(folder)
        self._reply = reply

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        return self._reply


@pytest.mark.parametrize(("reply", "error"), [("451 try again later", MailAway), ("554 never", ApplicationError)])
async def test_reply_of_the_mail_server_decides_whether_to_try_again(
    database: Database,
    ledger: Ledger,
    keyring: Keyring,
    settings: Settings,
    tmp_path: Path,
    tenant: str,
    reply: str,
    error: type[Exception],
) -> None:
    what = await confirmation(ledger, keyring, tenant, f"{tenant}@example.com")
    async with mail_server(Unwilling(tmp_path, reply), settings) as (mailer, _):
        with pytest.raises(error):
            await Notifications(database, mailer).confirm_property_created(what)


async def test_mail_server_that_is_away_is_told_as_such(settings: Settings) -> None:
    mailer = Mailer(settings.model_copy(update={"smtp_url": "smtp://127.0.0.1:1"}))

    with pytest.raises(MailAway):
        await mailer.send(to="ravi@example.com", subject="s", text="t", message_id="m")


async def test_owner_who_is_gone_is_not_told(database: Database, settings: Settings, tenant: str) -> None:
    nobody = Confirmation(
        tenant_id=tenant, command_id=new_id(), event_id=new_id(), owner_id=new_id(), property_id=new_id()
    )

    told = await Notifications(database, Mailer(settings)).confirm_property_created(nobody)

    assert told == "the account or the property is gone"


@pytest.mark.parametrize(
    ("amount", "written"), [(1, "₹1"), (999, "₹999"), (1000, "₹1,000"), (100000, "₹1,00,000"), (8500000, "₹85,00,000")]
)
def test_rupees_are_written_as_in_india(amount: int, written: str) -> None:
    assert rupees(amount) == written
