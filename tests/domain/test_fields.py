"""Field types: the JSON schema allows the values that the validators accept, and no others."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from domain import fields as f

SECRETS = {"NewPassword", "Password", "Token"}
TEXTS = {
    name: TypeAdapter[Any](getattr(f, name))
    for name in (
        "Title", "Description", "Note", "Place", "Address", "PersonName", "Label", "SignInName", "Pincode", "ReraId",
        "Phone", "Username", *SECRETS,
    )
}  # fmt: skip
# More often than other characters: whitespace, control characters, and those of phone numbers and names.
_PIECES = st.sampled_from(" \n\t\x00\x85()+-._09Paé😀")
_SOME_TEXT = st.text(_PIECES | st.characters(exclude_categories=["Cs"]), max_size=20)
_PHONES = st.from_regex(r"[+0]{0,2}[ -]?[0-9]{8,12}[)]?", fullmatch=True)


def is_accepted(adapter: TypeAdapter[Any], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def is_allowed(adapter: TypeAdapter[Any], text: str) -> bool:
    schema = adapter.json_schema()
    if not schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 10**6):
        return False
    return re.search(schema["pattern"].replace("$", r"\Z"), text) is not None


@given(text=_SOME_TEXT | _PHONES)
def test_schema_allows_accepted_values_and_no_others(text: str) -> None:
    for name, adapter in TEXTS.items():
        if is_allowed(adapter, text):
            assert is_accepted(adapter, text), name
        if is_accepted(adapter, text):
            # Surrounding whitespace is removed before the length is checked, which a JSON schema cannot express.
            assert is_allowed(adapter, text if name in SECRETS else text.strip()), name


@pytest.mark.parametrize(
    ("type_", "given_", "normalized"),
    [
        (f.Title, "  A house by the lake \n", "A house by the lake"),
        (f.Description, "Two floors,\nand a garden.", "Two floors,\nand a garden."),
        (f.SignInName, " Ravi@Example.com ", "ravi@example.com"),
        (f.Phone, "098480 12345", "+919848012345"),
        (f.Phone, "+1 (212) 555-0100", "+12125550100"),
        (f.Username, "ravi.kumar_7", "ravi.kumar_7"),
        (f.NewPassword, " eight chars ", SecretStr(" eight chars ")),
    ],
)
def test_text_is_normalized(type_: Any, given_: str, normalized: Any) -> None:
    assert TypeAdapter(type_).validate_python(given_) == normalized
    assert is_allowed(TypeAdapter(type_), given_.strip())


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (f.Title, "    A    "),
        (f.Title, "two\nlines of it"),
        (f.Description, "a \x00 in the text"),
        (f.Place, " "),
        (f.Phone, "12345"),
        (f.Phone, "++919848012345"),
        (f.Username, "ab"),
        (f.Username, "ravi\n"),
        (f.Pincode, "012345"),
    ],
)
def test_invalid_text_is_refused_by_validator_and_schema(type_: Any, text: str) -> None:
    assert not is_accepted(TypeAdapter(type_), text)
    assert not is_allowed(TypeAdapter(type_), text)
