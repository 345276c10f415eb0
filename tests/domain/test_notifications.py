"""Who is notified of what, on which channels, and what waits for the end of quiet hours."""

from datetime import UTC, datetime, time

import pytest

from domain.notifications import Audience, Reach, channels_of, held_until, notices_of
from domain.preferences import ACCOUNT_KINDS, OPTIONAL_KINDS, Channel, Channels, NoticeKind, Preferences, QuietHours
from tests.samples import event_of_each_kind, new_id

EVERYTHING = Channels(email=True, sms=True, push=True, in_app=True)
NOTHING = Channels(email=False, sms=False, push=False, in_app=False)


def reach(
    channels: Channels | None = None, *, may_sign_in: bool = True, phone: bool = True, browser: bool = True
) -> Reach:
    kinds = {kind.value: channels for kind in OPTIONAL_KINDS} if channels else {}
    return Reach(Preferences(user_id=new_id(), kinds=kinds), may_sign_in, phone, browser)


@pytest.mark.parametrize("kind", OPTIONAL_KINDS)
def test_preferences_choose_the_channels_of_a_kind(kind: NoticeKind) -> None:
    assert channels_of(kind, reach(EVERYTHING)) == set(Channel)
    assert channels_of(kind, reach(NOTHING)) == set()
    assert channels_of(kind, reach()) == {Channel.EMAIL, Channel.PUSH, Channel.IN_APP}


@pytest.mark.parametrize("kind", OPTIONAL_KINDS)
def test_channels_that_do_not_reach_the_user_are_left_out(kind: NoticeKind) -> None:
    assert channels_of(kind, reach(EVERYTHING, phone=False, browser=False)) == {Channel.EMAIL, Channel.IN_APP}
    assert channels_of(kind, reach(EVERYTHING, may_sign_in=False)) == set()


@pytest.mark.parametrize("kind", sorted(ACCOUNT_KINDS))
def test_notices_of_the_account_are_mailed_whatever_the_preferences_are(kind: NoticeKind) -> None:
    assert Channel.EMAIL in channels_of(kind, reach(NOTHING, may_sign_in=False))


def test_texts_about_security_go_to_those_who_have_asked_for_texts() -> None:
    for kind in (NoticeKind.PASSWORD_CHANGED, NoticeKind.NEW_SIGN_IN, NoticeKind.SECURITY_CHANGED):
        assert Channel.SMS not in channels_of(kind, reach())
        assert channels_of(kind, reach(EVERYTHING)) == set(Channel)


def test_owner_is_notified_of_every_change_of_the_accounts_security() -> None:
    user = new_id()
    caused = {event.event_type: notices_of(event) for event in event_of_each_kind("hyderabad", user, new_id())}

    about = {name: one for name, found in caused.items() for one in found if one.kind is NoticeKind.SECURITY_CHANGED}

    assert about.keys() == {
        "USER_ROLE_CHANGED",
        "USER_SECOND_FACTOR_CHANGED",
        "USER_PASSKEY_ADDED",
        "USER_PASSKEY_REMOVED",
    }
    assert {(one.audience, one.audience_id) for one in about.values()} == {(Audience.USER, user)}


def test_links_are_shown_to_nobody_but_the_owner_of_the_mailbox() -> None:
    for kind in (NoticeKind.VERIFY_EMAIL, NoticeKind.PASSWORD_RESET, NoticeKind.ACCOUNT_ERASED):
        assert channels_of(kind, reach(EVERYTHING)) == {Channel.EMAIL}


NIGHT = QuietHours(from_=time(22), to=time(7))
AT_NIGHT = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)  # 23:30 in Hyderabad


def test_quiet_hours_hold_what_is_sent_but_not_what_is_in_the_app_or_about_the_account() -> None:
    quiet = Preferences(user_id=new_id(), quiet_hours=NIGHT)

    held = {channel: held_until(NoticeKind.PRICE_DROPPED, channel, quiet, AT_NIGHT) for channel in Channel}

    end = datetime(2026, 11, 26, 1, 30, tzinfo=UTC)
    assert held == {Channel.EMAIL: end, Channel.SMS: end, Channel.PUSH: end, Channel.IN_APP: None}
    assert held_until(NoticeKind.NEW_SIGN_IN, Channel.EMAIL, quiet, AT_NIGHT) is None
    assert held_until(NoticeKind.PRICE_DROPPED, Channel.EMAIL, Preferences(user_id=new_id()), AT_NIGHT) is None
