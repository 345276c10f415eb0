"""The strength of new passwords."""

import sys

import pytest

from api.errors import ApiError
from api.strength import check_strength, weakness_of

RAVI = ["ravi.kumar", "ravi.kumar@example.com", "Ravi", "Kumar", "+919848022338", None]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("password123", "It is one of the most common passwords"),
        ("P4$$w0rd", "It is one of the most common passwords"),
        ("drowssap", "It is one of the most common passwords"),
        ("qwertyuiop", "It is one of the most common passwords"),
        ("abcdefgh1", "It is a sequence"),
        ("98765432", "It is"),
        ("19900612", "It is mostly a date"),
        ("hyderabad2024", "It is easy to guess"),
        ("ravi.kumar", "It is mostly your name"),
        ("Ravi.Kumar@1990", "It is mostly your name"),
        ("kumar ravi kumar ravi", "It is mostly your name"),
        ("ivarramuk", "It is mostly your name"),
        ("9848022338", "It is mostly your name"),
        ("RAVI.KUMAR@EXAMPLE.COM", "It is mostly your name"),
        ("a" * 128, "It repeats"),
        ("abcabcabc" * 14, "It repeats"),
        ("zsedcftgb", "Its keys are neighbours"),
        ("Vk9x2", "It is easy to guess"),
        ("        ", "It repeats"),
    ],
)
def test_password_that_is_easy_to_guess_is_explained(password: str, reason: str) -> None:
    weakness = weakness_of(password, RAVI)

    assert weakness is not None
    assert weakness.startswith(reason)
    assert weakness.split(". ")[1].startswith(("Choose", "Add"))  # what to do
    assert password.strip() == "" or password not in weakness


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "Xk9$mQ2p",
        "ravi likes purple elephants",
        "नीला हाथी पहाड़ पर",
        "x" * 30 + "lamp orbit nine",
    ],
)
def test_password_that_is_hard_to_guess_is_accepted(password: str) -> None:
    assert weakness_of(password, RAVI) is None


def test_words_of_one_user_do_not_weaken_the_password_of_another() -> None:
    assert weakness_of("sita.raghunathan", ["sita.raghunathan"]) is not None
    assert weakness_of("sita.raghunathan", RAVI) is None
    assert weakness_of("sita.raghunathan", ()) is None


def test_weakness_is_the_detail_and_the_reason_of_the_field() -> None:
    with pytest.raises(ApiError) as refused:
        check_strength("password123", RAVI, "newPassword")

    assert [(fault.field, fault.reason) for fault in refused.value.errors] == [("newPassword", refused.value.detail)]


@pytest.mark.parametrize(
    "password", ["4@8({[<3691!|70$5+%2" * 6, "(.+)\\1+" * 18, "aab" * 42, "1" * 128, "password" * 16, "é" * 128]
)
def test_longest_password_is_analysed_in_few_steps(password: str) -> None:
    """zxcvbn itself makes millions of calls for the first one, which take minutes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        weakness_of(password, RAVI)
    finally:
        sys.setprofile(None)

    assert 0 < calls < 20_000


def test_many_long_names_are_analysed() -> None:
    assert weakness_of("correct horse battery", ["x" * 254, "-." * 100, "(((", "a+b@example.com"]) is None
