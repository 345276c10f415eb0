"""Preferences of notices over HTTP."""

from typing import Any

import httpx
import pytest

from domain.preferences import ACCOUNT_KINDS, OPTIONAL_KINDS, NoticeKind
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform

PATH = "/api/notifications/preferences"
DEFAULTS = {"email": True, "sms": False, "push": True, "inApp": True}
NIGHT = {"from": "22:00", "to": "07:00"}


async def get(platform: Platform, person: Person) -> httpx.Response:
    return await platform.http.get(PATH, headers=person.headers)


async def put(
    platform: Platform, person: Person, body: Any, if_match: str | None = "*", **headers: str
) -> httpx.Response:
    return await platform.change(person, "PUT", PATH, body, if_match=if_match, headers=headers)


@pytest.fixture(scope="module")
async def person(platform: Platform) -> Person:
    return await platform.register()


async def test_preferences_that_were_never_set_are_the_defaults(platform: Platform, person: Person) -> None:
    answer = await get(platform, person)

    assert (answer.status_code, answer.headers["ETag"], answer.headers["Cache-Control"]) == (
        200,
        '"0"',
        "private, no-store",
    )
    shown = answer.json()
    assert shown["kinds"] == {kind.value: DEFAULTS for kind in OPTIONAL_KINDS}
    assert {NoticeKind(kind) for kind in shown["accountKinds"]} == ACCOUNT_KINDS
    assert shown["quietHours"] is None
    assert (await platform.http.get(PATH, headers={**person.headers, "If-None-Match": "*"})).status_code == 304


async def test_preferences_are_set_read_and_in_the_history(platform: Platform) -> None:
    person = await platform.register()
    wanted = {"kinds": {"PRICE_DROPPED": {"email": False, "sms": True}}, "quietHours": NIGHT}

    answer = await put(platform, person, wanted, '"0"')

    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert answer.json()["kinds"] == {
        "LISTING_CONFIRMED": DEFAULTS,
        "STATUS_CHANGED": DEFAULTS,
        "PRICE_DROPPED": {**DEFAULTS, "email": False, "sms": True},
        "SAVED_SEARCH_MATCHES": DEFAULTS,
    }
    assert answer.json()["quietHours"] == NIGHT
    assert (await get(platform, person)).json() == answer.json()
    history = await platform.history(person, answer.headers["Consistency-Token"])
    assert history[0]["description"] == "User changed their notification preferences"

    shown = answer.json()
    same = {"kinds": shown["kinds"], "quietHours": shown["quietHours"]}
    for _ in range(2):
        again = await put(platform, person, same)
        assert (again.status_code, again.json()["kinds"]) == (200, shown["kinds"])
    conflict = await put(platform, person, {}, '"0"')
    assert_problem(conflict, "version-conflict")


async def test_defaults_set_by_a_user_who_has_none_stay_in_version_0(platform: Platform) -> None:
    person = await platform.register()

    answer = await put(platform, person, {})

    assert (answer.status_code, answer.headers["ETag"], answer.json()["version"]) == (200, '"0"', 0)
    assert answer.json() == (await get(platform, person)).json()


async def test_repetition_with_the_same_key_is_answered_alike(platform: Platform) -> None:
    person = await platform.register()
    key = {"Idempotency-Key": "quiet nights"}

    first, again = [await put(platform, person, {"quietHours": NIGHT}, '"0"', **key) for _ in range(2)]
    other = await put(platform, person, {"quietHours": None}, '"0"', **key)

    assert (first.status_code, again.json(), again.headers["Idempotency-Replayed"]) == (200, first.json(), "true")
    assert_problem(other, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (
            {"kinds": {"PASSWORD_CHANGED": {"email": False}}},
            "kinds.PASSWORD_CHANGED",
            "Remove this kind: notices about the account are always sent.",
        ),
        (
            {"kinds": {"CASTLES": {}}},
            "kinds.CASTLES",
            "Give one of LISTING_CONFIRMED, STATUS_CHANGED, PRICE_DROPPED or SAVED_SEARCH_MATCHES.",
        ),
        ({"kinds": {"PRICE_DROPPED": {"fax": True}}}, "kinds.PRICE_DROPPED.fax", "Remove this field; it is not known."),
        (
            {"kinds": {"PRICE_DROPPED": {"email": "yes"}}},
            "kinds.PRICE_DROPPED.email",
            "Give true or false, without quotes.",
        ),
        ({"quietHours": {"from": "22:00"}}, "quietHours.to", "Send this field; it is required."),
        (
            {"quietHours": {"from": "10 pm", "to": "07:00"}},
            "quietHours.from",
            "Give hours and minutes, such as 22:00.",
        ),
        (
            {"quietHours": {"from": "07:00", "to": "07:00"}},
            "quietHours",
            "Give two different times, or null for no quiet hours.",
        ),
    ],
)
async def test_preferences_that_are_not_valid_are_refused_with_their_field(
    platform: Platform, person: Person, body: Any, field: str, reason: str
) -> None:
    answer = await put(platform, person, body)

    assert_problem(answer, "invalid-request", field)
    assert {fault["field"]: fault["reason"] for fault in answer.json()["errors"]}[field] == reason


async def test_change_needs_if_match_and_a_token(platform: Platform, person: Person) -> None:
    assert_problem(await put(platform, person, {}, None), "precondition-required")
    assert_problem(await put(platform, person, {}, "1"), "invalid-if-match")
    assert_problem(await platform.http.get(PATH), "unauthenticated")
    assert_problem(await platform.http.put(PATH, json={}, headers={"If-Match": "*"}), "unauthenticated")


async def test_preferences_of_two_users_are_apart(platform: Platform) -> None:
    first, second = await platform.register(), await platform.register(host="second.localhost")
    await put(platform, first, {"quietHours": NIGHT})

    shown = await platform.http.get(PATH, headers={**second.headers, "Host": "second.localhost"})

    assert (shown.status_code, shown.json()["quietHours"]) == (200, None)
