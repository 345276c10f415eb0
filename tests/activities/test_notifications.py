"""Notifications: one mail for each event and person, on a real SMTP server."""

import asyncio
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
    loop = asyncio.get_running_loop()
    unwilling = Unwilling(tmp_path, reply)
    server = await loop.create_server(lambda: SMTP(unwilling, hostname="unwilling"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mailer = Mailer(settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"}))

    with pytest.raises(error):
        await Notifications(database, mailer).confirm_property_created(what)

    server.close()


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
