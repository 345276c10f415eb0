"""Preferences of notices: what may be set, what an unsubscribed mail changes, and when quiet hours end."""

from datetime import UTC, datetime, time
from typing import Any

import pytest
from pydantic import ValidationError

from domain.errors import VersionConflict
from domain.events import read_event
from domain.preferences import (
    ACCOUNT_KINDS,
    OPTIONAL_KINDS,
    Channels,
    NewPreferences,
    NoticeKind,
    Preferences,
    PreferencesChanged,
    QuietHours,
    SetPreferences,
    Unsubscribe,
    decide,
    evolve,
    preferences_id,
    quiet_end,
)
from tests.samples import event_of_each_kind, new_id

USER = new_id()
NIGHT = {"from": "22:00", "to": "07:00"}


def setting(body: dict[str, Any], **more: Any) -> SetPreferences:
    who = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": USER, "issued_at": datetime.now(UTC)}
    return SetPreferences(**who, preferences=NewPreferences.model_validate(body), **more)


def unsubscribing(*kinds: NoticeKind) -> Unsubscribe:
    who = {"command_id": new_id(), "tenant_id": "hyderabad", "user_id": USER, "issued_at": datetime.now(UTC)}
    return Unsubscribe.model_validate({**who, "kinds": kinds})


def after(*commands: SetPreferences | Unsubscribe) -> Preferences:
    """The preferences after these commands."""
    state: Preferences | None = None
    for command in commands:
        for fact in decide(state, command, None):
            state = evolve(state, fact, (state.version if state else 0) + 1, command.issued_at)
    assert state is not None
    return state


def quiet(start: str, end: str) -> QuietHours:
    return QuietHours.model_validate({"from": start, "to": end})


def india(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+05:30")


def test_kind_that_was_never_set_has_the_defaults() -> None:
    state = after(setting({"kinds": {"PRICE_DROPPED": {"email": False}}}))

    assert state.channels_of(NoticeKind.PRICE_DROPPED) == Channels(email=False)
    assert state.channels_of(NoticeKind.STATUS_CHANGED) == Channels()


def test_preferences_replace_the_earlier_ones() -> None:
    state = after(
        setting({"kinds": {"PRICE_DROPPED": {"sms": True}}, "quietHours": NIGHT}),
        setting({"kinds": {"STATUS_CHANGED": {"push": False}}}),
    )

    assert (set(state.kinds), state.quiet_hours, state.version) == ({"STATUS_CHANGED"}, None, 2)


def test_same_preferences_again_are_no_event() -> None:
    command = setting({"kinds": {"PRICE_DROPPED": {"sms": True}}, "quietHours": NIGHT})

    assert decide(after(command), command, None) == []
    assert decide(None, setting({}), None) == []


def test_other_version_than_expected_is_refused() -> None:
    state = after(setting({"quietHours": NIGHT}))

    with pytest.raises(VersionConflict):
        decide(state, setting({}, expected_versions=(0,)), None)
    with pytest.raises(VersionConflict):
        decide(None, setting({}, expected_versions=(1,)), None)
    assert decide(state, setting({}, expected_versions=(1,)), None)


def test_unsubscribing_turns_off_the_mails_of_these_kinds_and_nothing_else() -> None:
    before = setting({"kinds": {"PRICE_DROPPED": {"sms": True}}, "quietHours": NIGHT})
    command = unsubscribing(NoticeKind.PRICE_DROPPED, NoticeKind.STATUS_CHANGED)

    state = after(before, command)

    assert state.kinds == {
        "PRICE_DROPPED": Channels(email=False, sms=True),
        "STATUS_CHANGED": Channels(email=False),
    }
    assert state.quiet_hours == quiet("22:00", "07:00")
    assert decide(state, unsubscribing(NoticeKind.PRICE_DROPPED), None) == []


@pytest.mark.parametrize("kind", sorted(ACCOUNT_KINDS))
def test_account_kind_cannot_be_set(kind: NoticeKind) -> None:
    with pytest.raises(ValidationError) as refused:
        NewPreferences.model_validate({"kinds": {kind.value: {"email": False}}})

    assert [error["type"] for error in refused.value.errors()] == ["account_kind"]
    with pytest.raises(ValidationError):
        unsubscribing(kind)


@pytest.mark.parametrize(
    "text", ["24:00", "7:00", "07:60", "07:00:30", "07:00Z", " 07:00", "\u0660\u0667:\u0660\u0660", "", 420, None, True]
)
def test_time_of_day_is_hours_and_minutes(text: object) -> None:
    with pytest.raises(ValidationError) as refused:
        NewPreferences.model_validate({"quietHours": {"from": text, "to": "23:15"}})

    assert [error["type"] for error in refused.value.errors()] == ["time_of_day"]


def test_quiet_hours_of_no_length_are_refused() -> None:
    with pytest.raises(ValidationError) as refused:
        quiet("22:00", "22:00")

    assert [error["type"] for error in refused.value.errors()] == ["no_length"]


def test_times_are_written_and_stored_without_seconds() -> None:
    state = after(setting({"quietHours": NIGHT}))

    assert state.model_dump(mode="json", by_alias=True)["quietHours"] == NIGHT
    assert state.quiet_hours == QuietHours(from_=time(22), to=time(7))
    [event] = [
        one
        for one in event_of_each_kind("hyderabad", USER, new_id())
        if one.event_type == "NOTIFICATION_PREFERENCES_CHANGED"
    ]
    fact = PreferencesChanged(user_id=USER, kinds={}, quiet_hours=quiet("22:00", "07:00"))
    stored = event.model_copy(update={"data": fact}).model_dump(mode="json", by_alias=True)
    assert stored["data"]["quietHours"] == NIGHT
    assert read_event(stored).data == fact


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        (("22:00", "07:00"), "2025-10-09T21:59:59", None),
        (("22:00", "07:00"), "2025-10-09T22:00:00", "2025-10-10T07:00:00"),
        (("22:00", "07:00"), "2025-10-09T23:59:59", "2025-10-10T07:00:00"),
        (("22:00", "07:00"), "2025-10-10T00:00:00", "2025-10-10T07:00:00"),
        (("22:00", "07:00"), "2025-10-10T06:59:59", "2025-10-10T07:00:00"),
        (("22:00", "07:00"), "2025-10-10T07:00:00", None),
        (("13:00", "15:30"), "2025-10-09T12:59:00", None),
        (("13:00", "15:30"), "2025-10-09T13:00:00", "2025-10-09T15:30:00"),
        (("13:00", "15:30"), "2025-10-09T15:30:00", None),
        (("21:00", "00:00"), "2025-10-09T23:00:00", "2025-10-10T00:00:00"),
        (("21:00", "00:00"), "2025-10-10T00:00:00", None),
        (("00:00", "06:00"), "2025-10-10T00:00:00", "2025-10-10T06:00:00"),
        (("22:00", "07:00"), "2025-12-31T23:30:00", "2026-01-01T07:00:00"),
        (("22:00", "21:59"), "2025-10-09T21:58:59", "2025-10-09T21:59:00"),
    ],
)
def test_quiet_hours_end(hours: tuple[str, str], now: str, end: str | None) -> None:
    found = quiet_end(quiet(*hours), india(now))

    assert found == (india(end) if end else None)
    assert found is None or found.tzinfo is UTC


def test_quiet_hours_are_those_of_india_whatever_zone_the_time_has() -> None:
    # 18:00 UTC is 23:30 in India.
    assert quiet_end(quiet("22:00", "07:00"), datetime(2025, 10, 9, 18, 0, tzinfo=UTC)) == datetime(
        2025, 10, 10, 1, 30, tzinfo=UTC
    )
    assert quiet_end(None, datetime.now(UTC)) is None


def test_preferences_have_an_id_of_their_own_for_each_user() -> None:
    assert preferences_id(USER) != preferences_id(new_id())
    assert preferences_id(USER) != USER


def test_every_kind_is_of_the_account_or_optional() -> None:
    assert set(NoticeKind) == ACCOUNT_KINDS | set(OPTIONAL_KINDS)
