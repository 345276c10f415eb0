"""Pagination of the embedded mailbox."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

from adapters.providers import Sms
from adapters.settings import Settings
from adapters.sms import Twilio
from embedded import texts
from embedded.mailbox import Mailbox, pages
from tests.platform import until


@pytest.fixture
async def mailbox(tmp_path: Path) -> Mailbox:
    """130 mails, `mail 1` to `mail 130`, to two people in turn."""
    mailbox = Mailbox(tmp_path)
    for n in range(1, 131):
        await receive(mailbox, f"mail {n}", "sana@example.com" if n % 2 else "ravi@example.com")
    return mailbox


@pytest.fixture
async def http(mailbox: Mailbox) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(pages(mailbox))
    async with httpx.AsyncClient(transport=transport, base_url="http://mailbox.example") as client:
        yield client


async def receive(mailbox: Mailbox, subject: str, to: str) -> None:
    mail = EmailMessage()
    mail["Message-ID"], mail["To"], mail["Subject"] = f"<{subject.replace(' ', '-')}@example.com>", to, subject
    mail.set_content("Hello <everybody>.")
    envelope = Envelope()
    envelope.content = mail.as_bytes()
    await mailbox.handle_DATA(cast(SMTP, None), cast(Session, None), envelope)


def subjects(mails: list[dict[str, Any]]) -> list[str]:
    return [mail["subject"] for mail in mails]


async def test_messages_are_paged_by_the_id_of_the_last(http: httpx.AsyncClient) -> None:
    found: list[dict[str, Any]] = []
    parameters: dict[str, str | int] = {"limit": 50}
    while page := (await http.get("/api/messages", params=parameters)).json():
        found += page
        parameters["before"] = page[-1]["id"]

    assert subjects(found) == [f"mail {n}" for n in range(130, 0, -1)]


async def test_mail_that_arrives_meanwhile_does_not_shift_pages(http: httpx.AsyncClient, mailbox: Mailbox) -> None:
    first = (await http.get("/api/messages", params={"limit": 2})).json()
    await receive(mailbox, "the newest", "ravi@example.com")
    second = (await http.get("/api/messages", params={"limit": 2, "before": first[-1]["id"]})).json()

    assert subjects(first + second) == ["mail 130", "mail 129", "mail 128", "mail 127"]


async def test_messages_to_one_address_are_paged_too(http: httpx.AsyncClient) -> None:
    to = {"to": "ravi@example.com", "limit": "2"}
    first = (await http.get("/api/messages", params=to)).json()
    second = (await http.get("/api/messages", params={**to, "before": first[-1]["id"]})).json()

    assert subjects(first + second) == ["mail 130", "mail 128", "mail 126", "mail 124"]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "all"])
async def test_limit_is_a_number_between_1_and_1000(http: httpx.AsyncClient, limit: str) -> None:
    assert (await http.get("/api/messages", params={"limit": limit})).status_code == 422


async def test_page_leads_to_the_oldest_mail(http: httpx.AsyncClient) -> None:
    shown: list[str] = []
    path: str | None = "/"
    while path:
        page = (await http.get(path)).text
        assert ("refresh" in page) == (path == "/")
        assert "Hello &lt;everybody&gt;." in page
        shown += re.findall(r"<h2>(.*?)</h2>", page)
        older = re.search(r'href="(/\?before=[^"]+)">older', page)
        path = older[1] if older else None

    assert shown == [f"mail {n}" for n in range(130, 0, -1)]
    assert '<a href="/">newest</a>' in page


async def test_html_part_is_shown_without_scripts(http: httpx.AsyncClient, mailbox: Mailbox) -> None:
    mail = EmailMessage()
    mail["Message-ID"], mail["To"], mail["Subject"] = "<html@example.com>", "ravi@example.com", "With HTML"
    mail.set_content("Hello.")
    mail.add_alternative("<p>Hello <b>Ravi</b>.</p>", subtype="html")
    envelope = Envelope()
    envelope.content = mail.as_bytes()
    await mailbox.handle_DATA(cast(SMTP, None), cast(Session, None), envelope)

    [newest] = (await http.get("/api/messages", params={"limit": 1})).json()
    shown = await http.get(f"/messages/{newest['id']}")

    assert (newest["text"].strip(), newest["html"].strip()) == ("Hello.", "<p>Hello <b>Ravi</b>.</p>")
    assert shown.text == newest["html"]
    assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert (await http.get("/")).text.count("as HTML") == 1


async def test_text_is_kept_as_twilio_would_and_found_again(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    server = uvicorn.Server(uvicorn.Config(pages(mailbox), host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: _started(server))
    port = server.servers[0].sockets[0].getsockname()[1]
    sender = Twilio(
        Settings.model_validate({"secret_key": "x" * 44, **_lower(texts.settings(f"http://127.0.0.1:{port}"))})
    )
    sms = Sms("+919848022338", "Your listing is public: क", "1107000000000000001")

    sid = await sender.send(sms)
    found = await sender.send(replace(sms, tried_since=datetime.now(UTC)))

    await sender.close()
    server.should_exit = True
    await serving
    assert found == sid
    [kept] = mailbox.newest(10, to="+919848022338")
    assert kept["text"].strip() == "Your listing is public: क"


async def _started(server: uvicorn.Server) -> bool:
    return server.started


def _lower(env: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in env.items()}
