"""The message of each constraint, which says what to send."""

from typing import Annotated, Any, get_origin

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from api.auth import Credentials
from api.history import _PageParameters
from api.push import NewPushSubscription
from domain import fields as f
from domain.property import PropertyDetails
from domain.reasons import SENTENCES, reason
from domain.user import Registration

FIELDS: dict[str, Any] = {name: value for name, value in vars(f).items() if get_origin(value) is Annotated}
_OWN = {"unprintable", "line_break", "form", "phone", "repeated", "half_a_point", "floor_above_roof"}
"""Error types whose validator raises its own message."""

_NASTY: tuple[Any, ...] = (
    None, True, 7, -(10**13), 10**13, 0.5, 1e300, float("nan"), float("inf"), [], {}, b"bytes", "", " ", "x", "7",
    "x" * 6000, "9" * 5000, "a\x00b in the text", "a\nb in the text", "\ud800", "a lone \ud800 in it", "a@b", "@",
)  # fmt: skip


def faults(type_: Any, value: Any) -> list[Any]:
    try:
        TypeAdapter(type_).validate_python(value)
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def test_every_constraint_of_a_field_has_a_message() -> None:
    found = {fault["type"] for type_ in FIELDS.values() for value in _NASTY for fault in faults(type_, value)}

    assert found <= SENTENCES.keys() | _OWN
    assert {"string_too_short", "too_short", "greater_than", "less_than_equal", "value_error", "form"} <= found


@pytest.mark.parametrize("model", [PropertyDetails, Registration, Credentials, NewPushSubscription, _PageParameters])
def test_every_constraint_of_a_request_has_a_message(model: Any) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    bodies = [*({name: value} for name in names for value in (*_NASTY, ["x"] * 101, [7], ["a", "A"])), *_NASTY]
    found = {fault["type"] for body in bodies for fault in faults(model, body)}

    assert found <= SENTENCES.keys() | _OWN


@pytest.mark.parametrize(
    ("type_", "value", "sentence"),
    [
        (f.Title, "Flat", "Use at least 5 characters."),
        (f.Place, "", "Use at least 1 character."),
        (f.Title, "x" * 201, "Use at most 200 characters."),
        (f.NewPassword, "sesame!", "Use at least 8 characters."),
        (f.Rupees, 0, "Give a number greater than 0."),
        (f.Rupees, 1.5, "Give a whole number, without quotes."),
        (f.Rupees, "8500000", "Give a whole number, without quotes."),
        (f.Latitude, 51.5, "Give 37.5 or less."),
        (f.Email, "nobody", "Give an e-mail address, such as ravi@example.com."),
        (f.Pincode, "50008", "Give six digits, of which the first is not 0."),
        (
            f.Username,
            "ravi kumar",
            "Use 3 to 50 characters: letters A to Z, digits, dots, hyphens and underscores, a letter or digit first.",
        ),
        (f.Phone, "12345", "Give a ten-digit Indian number, or an international one that begins with +."),
        (tuple[f.Label, ...], "Lift", "Give a list, in square brackets."),
        (Annotated[tuple[f.Label, ...], Field(max_length=1)], ["Lift", "Pool"], "Give at most 1 entry."),
    ],
)
def test_reason_says_what_to_send(type_: Any, value: Any, sentence: str) -> None:
    assert [reason(fault) for fault in faults(type_, value)] == [sentence]


def test_allowed_values_are_listed() -> None:
    body = {"listingType": "LEASE"}
    reasons = {fault["loc"]: reason(fault) for fault in faults(PropertyDetails, body)}

    assert reasons["listingType",] == "Give one of SALE, RENT or PG."
    assert reasons["title",] == "Send this field; it is required."
