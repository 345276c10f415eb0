"""Twilio's API as far as `adapters/sms.py` uses it: text messages that `make run` sends are kept in the mailbox."""

import json
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from fastapi import APIRouter, Request

from notices.render import dlt_texts

_SID = "X-Text-Sid"


def settings(mailbox_url: str) -> dict[str, str]:
    """The settings with which the platform sends its text messages here, with invented ids of the DLT registry."""
    return {
        "TWILIO_URL": mailbox_url,
        "TWILIO_ACCOUNT_SID": "ACembedded",
        "TWILIO_AUTH_TOKEN": "embedded",
        "TWILIO_FROM": "HYDINF",
        "SMS_DLT_ENTITY_ID": "1101000000000000001",
        "SMS_DLT_TEMPLATES": json.dumps(dict.fromkeys(dlt_texts(), "1107000000000000001")),
    }


def routes(store: Callable[[bytes], None], newest: Callable[[int, str], list[EmailMessage]]) -> APIRouter:
    """The routes; `store` takes a text as a mail, and `newest` are the latest mails to an address."""
    router = APIRouter(prefix="/2010-04-01/Accounts/{account}")

    @router.post("/Messages.json", status_code=201)
    async def send(account: str, request: Request) -> dict[str, Any]:
        form = dict(parse_qsl((await request.body()).decode()))
        mail, sid = EmailMessage(), f"SM{uuid4().hex}"
        mail["Message-ID"], mail[_SID] = f"<{sid}@embedded>", sid
        mail["From"], mail["To"], mail["Subject"] = form["From"], form["To"], f"Text message to {form['To']}"
        mail["Date"] = format_datetime(localtime())
        mail.set_content(form["Body"])
        store(mail.as_bytes())
        return _message(mail)

    @router.get("/Messages.json")
    def messages(To: str, PageSize: int = 50) -> dict[str, Any]:
        return {"messages": [_message(mail) for mail in newest(PageSize, To) if mail[_SID]]}

    return router


def _message(mail: EmailMessage) -> dict[str, Any]:
    body = mail.get_content().rstrip("\n")
    return {"sid": mail[_SID], "to": mail["To"], "body": body, "date_created": mail["Date"], "status": "sent"}
