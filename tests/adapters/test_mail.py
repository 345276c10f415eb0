"""Mail by SMTP: the outcome of each reply, on a server that misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from adapters.mail import Smtp
from adapters.providers import BadAddress, DeliveryRefused, Mail, ProviderUnavailable
from adapters.settings import Settings
from embedded.mailbox import Mailbox
from embedded.stack import Stack
from tests.adapters.provider_servers import error_of

SETTINGS = Settings.model_validate({"secret_key": "x" * 44})


def one_mail(name: str = "ravi", **more: Any) -> Mail:
    given = {"subject": f"మీ ఇల్లు {name}", "text": "₹1", "html": "<p>₹1</p>", "message_id": f"{name}@test"}
    return Mail(to=f"{name}@example.com", **{**given, **more})


@asynccontextmanager
async def mail_server(handler: object, seconds: float = 5) -> AsyncIterator[tuple[Smtp, list[SMTP]]]:
    """A sender with a server of its own, and the server's connections."""
    connections: list[SMTP] = []

    def connected() -> SMTP:
        connections.append(SMTP(handler, hostname="here", enable_SMTPUTF8=False))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = SETTINGS.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{port}"})
    mails = Smtp(settings, mail_seconds=seconds, reply_seconds=seconds)
    try:
        yield mails, connections
    finally:
        await mails.close()
        server.close()


class Replies(Mailbox):
    """A mail server that answers a command with a fixed reply, or does something else instead of answering."""

    def __init__(self, folder: Path, **replies: str | Callable[[SMTP], Any]) -> None:
        super().__init__(folder)
        self._replies = replies
        self.received = 0

    async def _reply(self, command: str, server: SMTP) -> str | None:
        reply = self._replies.get(command)
        return await reply(server) if callable(reply) else reply

    async def handle_MAIL(
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return await self._reply("MAIL", server) or "250 OK"

    async def handle_RCPT(
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if reply := await self._reply("RCPT", server):
            return f"{reply} {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.received += 1
        accepted = await super().handle_DATA(server, session, envelope)
        return await self._reply("DATA", server) or accepted


async def hang(_: SMTP) -> str:
    await asyncio.Event().wait()
    return ""


async def drop(server: SMTP) -> str:
    assert server.transport is not None
    server.transport.close()
    return "250 too late"


@pytest.mark.parametrize(
    ("replies", "expected", "reason"),
    [
        ({"RCPT": "450 mailbox busy"}, ProviderUnavailable, "450"),
        ({"RCPT": "451 4.7.1 greylisted"}, ProviderUnavailable, "451"),
        ({"RCPT": "550 5.1.1 no such mailbox"}, BadAddress, "550 5.1.1"),
        ({"RCPT": "550 5.1.2 no such domain"}, BadAddress, "550 5.1.2"),
        ({"RCPT": "501 5.1.3 malformed"}, BadAddress, "501 5.1.3"),
        ({"RCPT": "551 5.1.6 moved"}, BadAddress, "551 5.1.6"),
        ({"RCPT": "556 5.1.10 null MX"}, BadAddress, "556 5.1.10"),
        ({"RCPT": "550 5.1.100 unknown code"}, DeliveryRefused, "550"),
        ({"RCPT": "550 no such mailbox"}, DeliveryRefused, "550"),
        ({"RCPT": "550 5.7.1 our policy"}, DeliveryRefused, "550"),
        ({"RCPT": "552 5.2.2 mailbox full"}, DeliveryRefused, "552"),
        ({"DATA": "451 4.3.0 try again later"}, ProviderUnavailable, "451"),
        ({"DATA": "554 5.7.1 spam"}, DeliveryRefused, "554"),
        ({"MAIL": "553 sender not allowed"}, ProviderUnavailable, "553 sender not allowed"),
        ({"MAIL": "421 closing"}, ProviderUnavailable, "421"),
        ({"RCPT": drop}, ProviderUnavailable, "unavailable"),
        ({"DATA": drop}, ProviderUnavailable, "unavailable"),
    ],
)
async def test_reply_decides_the_outcome(
    tmp_path: Path, replies: dict[str, Any], expected: type[Exception], reason: str
) -> None:
    async with mail_server(Replies(tmp_path, **replies)) as (mails, _):
        error = await error_of(mails.send(one_mail()), "ravi@example.com")

        assert isinstance(error, expected)
        assert reason in str(error)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_server_that_hangs_is_tried_later(tmp_path: Path, command: str) -> None:
    async with mail_server(Replies(tmp_path, **{command: hang}), seconds=0.2) as (mails, _):
        assert isinstance(await error_of(mails.send(one_mail())), ProviderUnavailable)


async def test_server_that_is_down_is_tried_later() -> None:
    mails = Smtp(SETTINGS.model_copy(update={"smtp_url": "smtp://127.0.0.1:1"}))

    assert isinstance(await error_of(mails.send(one_mail())), ProviderUnavailable)


async def test_mail_that_was_accepted_before_the_connection_ended_arrives_once(tmp_path: Path) -> None:
    """SMTP cannot tell what became of it; the second one has the same Message-ID, by which a mailbox drops it."""
    mailbox = Replies(tmp_path, DATA=drop)
    async with mail_server(mailbox) as (mails, _):
        for _attempt in range(2):
            assert isinstance(await error_of(mails.send(one_mail())), ProviderUnavailable)

    assert (mailbox.received, len(mailbox)) == (2, 1)


async def test_embedded_mailbox_drops_a_mail_with_the_same_message_id(
    settings: Settings, stack: Stack, tenant: str
) -> None:
    mails = Smtp(settings)

    for _ in range(2):
        await mails.send(one_mail(tenant))

    await mails.close()
    async with httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], trust_env=False) as mailbox:
        found = (await mailbox.get("/api/messages", params={"to": f"{tenant}@example.com"})).json()
    assert [mail["text"] for mail in found] == ["₹1"]


def stored(folder: Path) -> tuple[EmailMessage, list[bytes]]:
    """The only mail of a mailbox, and its lines."""
    [file] = folder.glob("*.eml")
    written = file.read_bytes()
    return message_from_bytes(written, policy=policy.default), written.split(b"\r\n")


async def test_mail_has_text_html_and_unfolded_headers(tmp_path: Path) -> None:
    url = f"<https://homes.example/api/notifications/unsubscribe?token={'abc-_,;' * 40}>"
    headers = {"List-Unsubscribe": url, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    subject = "మీ ఇల్లు " * 20
    async with mail_server(Mailbox(tmp_path)) as (mails, _):
        await mails.send(one_mail(subject=f"{subject}\r\nBcc: all@example.com", headers=headers))

    mail, lines = stored(tmp_path)
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert [part.get_content() for part in mail.iter_parts()] == ["₹1", "<p>₹1</p>"]
    assert (mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"]) == (url, "List-Unsubscribe=One-Click")
    assert mail["Subject"] == f"{subject}Bcc: all@example.com"
    assert (mail["Message-ID"], mail["Bcc"]) == ("<ravi@test>", None)
    assert max(map(len, lines)) <= 998


async def test_mail_without_html_has_one_part(tmp_path: Path) -> None:
    async with mail_server(Mailbox(tmp_path)) as (mails, _):
        await mails.send(one_mail(html=None))

    assert stored(tmp_path)[0].get_content_type() == "text/plain"


@pytest.mark.parametrize(
    ("to", "expected"),
    [("रवि@example.com", DeliveryRefused), ("ravi\x01@example.com", BadAddress), ("ravi kumar@x", BadAddress)],
)
async def test_address_that_smtp_cannot_carry_is_refused(tmp_path: Path, to: str, expected: type[Exception]) -> None:
    async with mail_server(Mailbox(tmp_path)) as (mails, _):
        assert isinstance(await error_of(mails.send(Mail(to, "s", "t", None, "1@test")), to), expected)


async def test_mails_share_a_connection_until_the_server_ends_it(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    async with mail_server(mailbox) as (mails, connections):
        await mails.send(one_mail("first"))
        await mails.send(one_mail("second"))
        assert len(connections) == 1

        assert connections[0].transport is not None
        connections[0].transport.close()
        await mails.send(one_mail("third"))

        assert len(connections) == 2
    assert [mail["subject"] for mail in mailbox.newest(9)] == ["మీ ఇల్లు third", "మీ ఇల్లు second", "మీ ఇల్లు first"]


class OneMailPerConnection(Mailbox):
    """A mail server that accepts one mail per connection and answers 421 to the next."""

    async def handle_MAIL(
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if getattr(session, "used", False):
            return "421 closing"
        envelope.mail_from, session.used = address, True  # type: ignore[attr-defined]
        return "250 OK"


async def test_mail_that_is_answered_421_is_sent_over_a_new_connection(tmp_path: Path) -> None:
    mailbox = OneMailPerConnection(tmp_path)
    async with mail_server(mailbox) as (mails, connections):
        for name in ("first", "second"):
            await mails.send(one_mail(name))

        assert (len(connections), len(mailbox)) == (2, 2)


class Slow(Mailbox):
    """A mail server that answers the first mail once `answer` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.received, self.answer = asyncio.Event(), asyncio.Event()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not self.received.is_set():
            self.received.set()
            await self.answer.wait()
        return await super().handle_DATA(server, session, envelope)


async def test_mail_after_a_cancelled_one_is_sent_over_a_new_connection(tmp_path: Path) -> None:
    mailbox = Slow(tmp_path)
    async with mail_server(mailbox) as (mails, connections):
        first = asyncio.create_task(mails.send(one_mail("first")))
        await mailbox.received.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        mailbox.answer.set()

        await mails.send(one_mail("second"))

        assert len(connections) == 2
