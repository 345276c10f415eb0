"""Tokens that unsubscribe: read by the same key only, and for no account mail."""

import base64

import pytest

from adapters.sealing import Keyring
from adapters.unsubscribing import (
    NotUnsubscribing,
    Unsubscribing,
    read_unsubscribe_token,
    unsubscribe_headers,
    unsubscribe_token,
    unsubscribe_url,
)
from domain.preferences import NoticeKind
from tests.samples import new_id

USER = new_id()
KEYRING = Keyring(b"a secret of thirty-two bytes....")


def test_token_says_what_it_turns_off() -> None:
    token = unsubscribe_token(KEYRING, "hyderabad", USER, NoticeKind.STATUS_CHANGED, NoticeKind.PRICE_DROPPED)

    assert read_unsubscribe_token(KEYRING, token) == Unsubscribing(
        "hyderabad", USER, (NoticeKind.PRICE_DROPPED, NoticeKind.STATUS_CHANGED)
    )
    assert token == unsubscribe_token(KEYRING, "hyderabad", USER, NoticeKind.PRICE_DROPPED, NoticeKind.STATUS_CHANGED)


def test_tokens_differ_by_tenant_user_and_kind() -> None:
    tokens = {
        unsubscribe_token(KEYRING, tenant, user, kind)
        for tenant in ("hyderabad", "second")
        for user in (USER, new_id())
        for kind in (NoticeKind.PRICE_DROPPED, NoticeKind.STATUS_CHANGED)
    }

    assert len(tokens) == 8


def test_altered_token_is_refused() -> None:
    token = unsubscribe_token(KEYRING, "hyderabad", USER, NoticeKind.PRICE_DROPPED)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    for n in range(len(raw)):
        altered = raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]
        with pytest.raises(NotUnsubscribing):
            read_unsubscribe_token(KEYRING, base64.urlsafe_b64encode(altered).decode())


@pytest.mark.parametrize("token", ["", "x", "AAAA", "é", "a b", "A" * 200, "%00"])
def test_text_that_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(NotUnsubscribing):
        read_unsubscribe_token(KEYRING, token)


def test_token_of_another_key_is_refused() -> None:
    token = unsubscribe_token(Keyring(b"another secret, thirty-two bytes"), "hyderabad", USER, NoticeKind.PRICE_DROPPED)

    with pytest.raises(NotUnsubscribing):
        read_unsubscribe_token(KEYRING, token)


def test_token_of_a_mail_about_the_account_is_refused() -> None:
    with pytest.raises(NotUnsubscribing):
        read_unsubscribe_token(KEYRING, unsubscribe_token(KEYRING, "hyderabad", USER, NoticeKind.PASSWORD_RESET))


def test_headers_of_a_mail_contain_the_link_and_the_form_of_one_click() -> None:
    token = unsubscribe_token(KEYRING, "hyderabad", USER, NoticeKind.PRICE_DROPPED)
    link = unsubscribe_url("https://api.example", token)

    assert link == f"https://api.example/api/notifications/unsubscribe?token={token}"
    assert unsubscribe_headers("https://api.example", token) == {
        "List-Unsubscribe": f"<{link}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
