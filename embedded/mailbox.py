"""The embedded mailbox: keeps each mail and text message as a file, with a web page and a JSON API."""

import asyncio
import html
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import uvicorn
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse

from embedded import texts

_PAGE = """<!doctype html><meta charset="utf-8">{refresh}<title>Mailbox</title>
<style>body{{font:15px system-ui;margin:2rem auto;max-width:60rem}}article{{border:1px solid #ccc;border-radius:8px;
padding:.5rem 1rem;margin:.7rem 0}}h2{{font-size:1rem;margin:.2rem 0}}pre{{white-space:pre-wrap}}small{{color:#666}}
</style><h1>Mailbox</h1><p>{count} mails and texts, newest first. Nothing leaves this machine.</p>
{mails}<p>{links}</p>"""
_REFRESH = '<meta http-equiv="refresh" content="5">'
_PAGE_SIZE = 50
_MAIL = "<article><h2>{subject}</h2><small>to {to}, {date}{link}</small><pre>{text}</pre></article>"
_HTML_LINK = ', <a href="/messages/{id}">as HTML</a>'
_HARMLESS = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'"}
"""A mail is shown as mail programs do: it runs no script and loads nothing."""


class Mailbox:
    """A folder of mails, one file each, numbered in order of arrival."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files = sorted(folder.glob("*.eml"))
        self._to: dict[Path, str] = {}
        """The recipient of each mail: a search by address parses only the mails that it finds."""
        self._by_message_id: dict[str, Path] = {}
        for file in self._files:
            self._add(file, file.read_bytes())

    def __len__(self) -> int:
        return len(self._files)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """aiosmtpd calls this with each mail. A mail with a known Message-ID is a duplicate and is dropped."""
        self.store(cast(bytes, envelope.content))
        return "250 OK"

    def store(self, content: bytes) -> None:
        """Keep a mail, unless it is a duplicate."""
        if _headers(content)["Message-ID"] not in self._by_message_id:
            file = self._folder / f"{len(self._files) + 1:08}.eml"
            file.write_bytes(content)
            self._add(file, content)
            self._files.append(file)

    def _add(self, file: Path, content: bytes) -> None:
        headers = _headers(content)
        self._to[file] = str(headers["To"])
        if message_id := headers["Message-ID"]:
            self._by_message_id[message_id] = file

    def newest(
        self, limit: int, to: str | None = None, before: str | None = None, after: str | None = None
    ) -> list[dict[str, Any]]:
        """Up to `limit` mails, newest first, optionally only those to one address, and between two mails."""
        end = len(self._files) if before is None else bisect_left(self._files, before, key=lambda file: file.stem)
        begin = 0 if after is None else bisect_right(self._files, after, key=lambda file: file.stem)
        return [_shown(file, _parsed(file)) for file in islice(self._sent_to(to, self._files[begin:end]), limit)]

    def newest_to(self, limit: int, to: str) -> list[EmailMessage]:
        """Up to `limit` mails to one address, newest first."""
        return [_parsed(file) for file in islice(self._sent_to(to, self._files), limit)]

    def _sent_to(self, to: str | None, files: list[Path]) -> Iterator[Path]:
        return (file for file in reversed(files) if to is None or to in self._to[file])

    def find(self, mail_id: str) -> dict[str, Any] | None:
        return next((_shown(file, _parsed(file)) for file in self._files if file.stem == mail_id), None)


def _headers(content: bytes) -> Message:
    return BytesHeaderParser(policy=policy.default).parsebytes(content)


def _parsed(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def _shown(file: Path, mail: EmailMessage) -> dict[str, Any]:
    texts = {kind: body.get_content() if (body := mail.get_body((kind,))) else "" for kind in ("plain", "html")}
    headers = {name: mail[header] for name, header in (("messageId", "Message-ID"), ("to", "To"), ("date", "Date"))}
    return {"id": file.stem, **headers, "subject": mail["Subject"], "text": texts["plain"], "html": texts["html"]}


def _article(mail: dict[str, Any]) -> str:
    fields = {key: html.escape(str(value)) for key, value in mail.items()}
    return _MAIL.format(link=_HTML_LINK.format(**fields) if mail["html"] else "", **fields)


def pages(mailbox: Mailbox) -> FastAPI:
    app = FastAPI(title="Mailbox", docs_url=None, redoc_url=None)
    app.include_router(texts.routes(mailbox.store, mailbox.newest_to))

    @app.get("/api/messages")
    def messages(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        to: str | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> list[dict[str, Any]]:
        """For the next page set `before` to the id of the last mail of this one; `after` leaves out older mails."""
        return mailbox.newest(limit, to, before, after)

    @app.get("/api/messages/{mail_id}")
    def message(mail_id: str) -> dict[str, Any]:
        mail = mailbox.find(mail_id)
        if mail is None:
            raise HTTPException(404, "There is no such mail")
        return mail

    @app.get("/messages/{mail_id}", response_class=HTMLResponse)
    def html_part(mail_id: str) -> HTMLResponse:
        return HTMLResponse(message(mail_id)["html"], headers=_HARMLESS)

    @app.get("/", response_class=HTMLResponse)
    def page(before: str | None = None) -> str:
        mails = mailbox.newest(_PAGE_SIZE + 1, before=before)
        shown = mails[:_PAGE_SIZE]
        links = ['<a href="/">newest</a>'] if before else []
        if len(mails) > len(shown):
            links.append(f'<a href="/?before={shown[-1]["id"]}">older</a>')
        return _PAGE.format(
            count=len(mailbox),
            # Older pages do not refresh: their mails do not change.
            refresh="" if before else _REFRESH,
            mails="".join(map(_article, shown)),
            links=" | ".join(links),
        )

    return app


async def main(folder: str, smtp_port: int, http_port: int) -> None:
    mailbox = Mailbox(Path(folder))
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(lambda: SMTP(mailbox, hostname="mailbox"), "127.0.0.1", smtp_port)
    async with smtp:
        await uvicorn.Server(
            uvicorn.Config(pages(mailbox), host="127.0.0.1", port=http_port, log_level="warning")
        ).serve()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
