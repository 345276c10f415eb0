"""Personal fields: sealed for good, opened with the person's key only."""

from uuid import uuid4

import pytest

from adapters.sealing import Keyring
from domain.property import PropertySaved, decide, evolve
from tests.samples import create_property, new_id

KEYRING = Keyring(b"k" * 32)
COMMAND = create_property("hyderabad", new_id(), contactName="Lakshmi Devi", contactPhone="9848022338")
[EVENT] = decide(None, COMMAND)


def test_personal_fields_are_sealed_and_others_are_not() -> None:
    sealed = KEYRING.seal(EVENT, KEYRING.new_wrapped_key(), uuid4())

    assert sealed["contactName"].keys() == {"sealed"}
    assert sealed["contactEmail"] is None
    assert sealed["title"] == EVENT.title
    assert "Lakshmi" not in str(sealed)


def test_what_was_sealed_opens_with_the_same_key() -> None:
    key, context = KEYRING.new_wrapped_key(), uuid4()

    opened = KEYRING.unseal(KEYRING.seal(EVENT, key, context), key, context)

    assert type(EVENT).model_validate(opened) == EVENT


def test_personal_fields_inside_an_answer_are_sealed() -> None:
    answer = PropertySaved(events=(), property=evolve(None, EVENT, 1, COMMAND.issued_at))

    sealed = KEYRING.seal(answer, KEYRING.new_wrapped_key(), uuid4())

    assert sealed["property"]["contactPhone"].keys() == {"sealed"}


def test_erased_person_leaves_nothing_to_read() -> None:
    context = uuid4()

    opened = KEYRING.unseal(KEYRING.seal(EVENT, KEYRING.new_wrapped_key(), context), None, context)

    assert (opened["contactName"], opened["title"]) == (None, EVENT.title)


def test_sealed_value_does_not_open_elsewhere() -> None:
    key, context = KEYRING.new_wrapped_key(), uuid4()
    sealed = KEYRING.seal(EVENT, key, context)

    with pytest.raises(ValueError, match="contactName"):
        KEYRING.unseal(sealed, key, uuid4())
    with pytest.raises(ValueError, match="contactPhone"):
        KEYRING.unseal({"contactPhone": sealed["contactName"]}, key, context)
    with pytest.raises(ValueError, match="another key"):
        KEYRING.unseal(sealed, KEYRING.new_wrapped_key(), context)
