"""The link in mails that unsubscribes: mail programs, people, scanners of mails, and who has altered it."""

import asyncio
import base64
import hashlib
import re
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import httpx
import pytest
from sqlalchemy import func, select

from adapters.postgres import Database
from adapters.preferences import preferences_of
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import commands
from adapters.unsubscribing import ONE_CLICK, unsubscribe_headers, unsubscribe_token, unsubscribe_url
from domain.preferences import Channels, NoticeKind
from tests.api.test_contract import assert_problem
from tests.api.test_preferences import put
from tests.api.test_push import api
from tests.platform import Person, Platform, until
from tests.samples import new_id

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PRICE = NoticeKind.PRICE_DROPPED


def link_of(keyring: Keyring, person: Person, *kinds: NoticeKind, tenant: str = "hyderabad") -> str:
    return unsubscribe_url("", unsubscribe_token(keyring, tenant, UUID(person.id), *(kinds or (PRICE,))))


async def click(platform: Platform, link: str, **headers: str) -> httpx.Response:
    """What a mail program sends; the headers come from the mail."""
    return await platform.http.post(link, content=ONE_CLICK, headers={**FORM, **headers})


async def mails(database: Database, person: Person, tenant: str = "hyderabad") -> set[str]:
    """The kinds whose mails are turned off."""
    async with database.statements(tenant) as connection:
        known = (await preferences_of(connection, [UUID(person.id)]))[UUID(person.id)]
    return {kind for kind, channels in known.kinds.items() if not channels.email}


async def commands_of(database: Database, person: Person) -> int:
    query = select(func.count()).where(commands.c.user_id == UUID(person.id), commands.c.type == "unsubscribe")
    async with database.statements("hyderabad") as connection:
        return (await connection.execute(query)).scalar_one()


async def test_one_click_turns_off_the_mails_of_the_link_and_a_repetition_sends_no_command(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    token = unsubscribe_token(keyring, "hyderabad", UUID(person.id), PRICE)
    headers = unsubscribe_headers(platform.url, token)
    link = headers["List-Unsubscribe"].strip("<>")

    answers = [
        await platform.http.post(link, content=headers["List-Unsubscribe-Post"], headers=FORM) for _repeated in range(3)
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"kinds": [PRICE], "savedSearchId": None})
    ] * 3
    assert "set-cookie" not in answers[0].headers
    assert (await mails(database, person), await commands_of(database, person)) == ({PRICE}, 1)
    shown = await platform.http.get("/api/notifications/preferences", headers=person.headers)
    assert shown.json()["kinds"][PRICE] == {"email": False, "sms": False, "push": True, "inApp": True}


async def test_clicks_at_once_are_one_command(platform: Platform, database: Database, keyring: Keyring) -> None:
    person = await platform.register()
    link = link_of(keyring, person)

    answers = await asyncio.gather(*(click(platform, link) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {200}
    assert (await mails(database, person), await commands_of(database, person)) == ({PRICE}, 1)


async def test_click_after_turning_mails_on_again_turns_them_off_again(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    link = link_of(keyring, person)

    for _ in range(2):
        assert (await click(platform, link)).status_code == 200
        assert await mails(database, person) == {PRICE}
        assert (await put(platform, person, {"kinds": {PRICE: Channels().model_dump(by_alias=True)}})).is_success
        assert await mails(database, person) == set()


async def test_link_of_a_digest_turns_off_each_of_its_kinds(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()

    answer = await click(platform, link_of(keyring, person, PRICE, NoticeKind.STATUS_CHANGED))

    assert set(answer.json()["kinds"]) == {PRICE, NoticeKind.STATUS_CHANGED}
    assert await mails(database, person) == {PRICE, NoticeKind.STATUS_CHANGED}


async def test_multipart_form_is_taken_too(platform: Platform, database: Database, keyring: Keyring) -> None:
    person = await platform.register()

    answer = await platform.http.post(link_of(keyring, person), files={"List-Unsubscribe": (None, "One-Click")})

    assert answer.status_code == 200
    assert await mails(database, person) == {PRICE}


async def test_opening_the_link_changes_nothing_and_its_button_unsubscribes(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    link = link_of(keyring, person)

    page = await platform.http.get(link, headers=BROWSER)
    scanned = [await platform.http.get(link), await platform.http.head(link)]

    assert [answer.status_code for answer in (page, *scanned)] == [200, 200, 200]
    assert (await mails(database, person), await commands_of(database, person)) == (set(), 0)
    [form] = ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<(meta|input)[^>]*>", "", page.text)).iter("form")
    assert (form.get("method"), form.get("action")) == ("post", None)
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', page.text))
    confirmed = await platform.http.post(link, data=fields, headers={**BROWSER, "Origin": platform.url})
    assert (confirmed.status_code, "You are unsubscribed" in confirmed.text) == (200, True)
    assert "a lower price of your favourites" in page.text
    assert "a lower price of your favourites" in confirmed.text
    assert "<form" not in confirmed.text
    assert await mails(database, person) == {PRICE}


async def test_page_loads_nothing_runs_nothing_and_is_shown_in_no_frame(platform: Platform, keyring: Keyring) -> None:
    page = await platform.http.get(link_of(keyring, await platform.register()), headers=BROWSER)

    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    [style] = re.findall("<style>(.*)</style>", page.text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "style-src": f"'sha256-{digest}'",
    }
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall("<script|src=|<link", page.text) == []


@pytest.mark.parametrize("token", ["", "x", "A" * 80, "<script>alert(1)</script>"])
async def test_altered_link_is_refused_as_problem_or_page(platform: Platform, token: str) -> None:
    link = unsubscribe_url("", token)

    for answer in (await platform.http.get(link), await click(platform, link)):
        assert_problem(answer, "invalid-link")
    for page in (await platform.http.get(link, headers=BROWSER), await click(platform, link, **BROWSER)):
        assert (page.status_code, "The link is not valid" in page.text) == (400, True)
        assert "Open the link as it is in the mail" in page.text
        assert "<script" not in page.text
        assert "content-security-policy" in page.headers


async def test_link_for_a_mail_about_the_account_is_refused(platform: Platform, keyring: Keyring) -> None:
    person = await platform.register()

    assert_problem(await click(platform, link_of(keyring, person, NoticeKind.PASSWORD_RESET)), "invalid-link")


@pytest.mark.parametrize(
    "body", ["", "List-Unsubscribe=Maybe", "unsubscribe=1", f"{ONE_CLICK}&x=" + "x" * 2000, "\xff=%ff"]
)
async def test_other_form_changes_nothing(platform: Platform, database: Database, keyring: Keyring, body: str) -> None:
    person = await platform.register()
    link = link_of(keyring, person)

    refused = await platform.http.post(link, content=body.encode("latin-1"), headers=FORM)
    as_json = await platform.http.post(link, json={"List-Unsubscribe": "One-Click"})

    assert_problem(refused, "invalid-request", "List-Unsubscribe")
    assert_problem(as_json, "unsupported-media-type")
    assert await mails(database, person) == set()


async def test_tenant_is_that_of_the_link_and_not_of_the_host(
    platform: Platform, database: Database, keyring: Keyring
) -> None:
    person = await platform.register(host="second.localhost")

    assert (await click(platform, link_of(keyring, person, tenant="second"))).status_code == 200
    assert (await mails(database, person, "second"), await mails(database, person)) == ({PRICE}, set())


async def test_link_of_an_account_that_is_gone_is_answered_as_any_other(platform: Platform, keyring: Keyring) -> None:
    link = unsubscribe_url("", unsubscribe_token(keyring, "hyderabad", new_id(), PRICE))

    for _ in range(2):
        answer = await click(platform, link)
        assert (answer.status_code, answer.json()) == (200, {"kinds": [PRICE], "savedSearchId": None})


async def test_unknown_parameter_of_the_link_is_refused(platform: Platform, keyring: Keyring) -> None:
    link = link_of(keyring, await platform.register())

    assert_problem(await platform.http.get(f"{link}&utm_source=mail"), "invalid-request", "query.utm_source")


async def test_clicks_of_one_address_are_limited(settings: Settings, keyring: Keyring) -> None:
    link = unsubscribe_url("", unsubscribe_token(keyring, "hyderabad", new_id(), PRICE))
    async with api(settings, unsubscribes_per_minute=2, default_tenant=f"t-{new_id().hex[-12:]}") as (client, _):
        opened: list[Any] = [await client.get(link, headers=BROWSER) for _ in range(3)]
        refused = await client.post(link, content=ONE_CLICK, headers=FORM)

    assert [answer.status_code for answer in opened] == [200, 200, 429]
    assert "Too many requests" in opened[-1].text
    assert opened[-1].headers["retry-after"]
    assert_problem(refused, "too-many-requests")


async def test_click_is_durable_while_the_api_does_not_reach_postgres(
    platform: Platform, settings: Settings, database: Database, keyring: Keyring
) -> None:
    person = await platform.register()
    async with api(settings, database_url="postgresql://nobody@127.0.0.1:1/nothing") as (client, _):
        answer = await client.post(link_of(keyring, person), content=ONE_CLICK, headers=FORM)

    assert (answer.status_code, answer.json()) == (200, {"kinds": [PRICE], "savedSearchId": None})

    async def is_off() -> bool:
        return await mails(database, person) == {PRICE}

    await until(is_off)


async def test_link_of_a_mail_that_was_sent_unsubscribes_and_the_inbox_goes_on(
    platform: Platform, database: Database
) -> None:
    owner = await platform.register()
    await platform.create(owner)

    async def links() -> list[str]:
        texts = " ".join(mail["text"] for mail in await platform.mails(owner, "Your listing is public"))
        return re.findall(r"/api/notifications/unsubscribe\?token=[\w-]+", texts)

    async def inbox() -> list[str]:
        items = (await platform.http.get("/api/notifications", headers=owner.headers)).json()["items"]
        return [item["title"] for item in items if item["kind"] == NoticeKind.LISTING_CONFIRMED]

    [link] = await until(links)
    assert (await click(platform, link)).json() == {"kinds": [NoticeKind.LISTING_CONFIRMED], "savedSearchId": None}
    assert await mails(database, owner) == {NoticeKind.LISTING_CONFIRMED}
    await platform.create(owner)

    async def both_arrived() -> bool:
        return await inbox() == ["Your listing is public"] * 2

    await until(both_arrived)
    assert await links() == [link]
