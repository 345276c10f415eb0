"""Encryption of personal fields."""

import base64
import re
from uuid import uuid4

import pytest

from adapters.sealing import Keyring
from domain.property_commands import decide
from domain.property_events import evolve
from tests.samples import actor, create_property, new_id, register_user

KEYRING = Keyring(b"k" * 32)
COMMAND = create_property("hyderabad", new_id(), contactName="Lakshmi Devi", contactPhone="9848022338")
[EVENT] = decide(None, COMMAND, actor(COMMAND.user_id))


def test_personal_fields_are_sealed_and_others_are_not() -> None:
    sealed = KEYRING.seal(EVENT, KEYRING.new_wrapped_key(), uuid4())

    assert sealed["contactName"].keys() == {"sealed"}
    assert sealed["contactEmail"] is None
    assert sealed["title"] == EVENT.title
    assert "Lakshmi" not in str(sealed)


def test_sealed_value_is_decrypted_with_the_same_key() -> None:
    key, context = KEYRING.new_wrapped_key(), uuid4()

    opened = KEYRING.unseal(KEYRING.seal(EVENT, key, context), key, context)

    assert type(EVENT).model_validate(opened) == EVENT


def test_personal_fields_inside_a_command_are_sealed_on_their_way_through_temporal() -> None:
    user = register_user("hyderabad", phoneNumber="9848022338")

    for command, personal in (
        (COMMAND, ("Lakshmi", "98480")),
        (user, (user.account.email, user.account.username, user.account.first_name, "98480", "argon2id")),
    ):
        sealed = KEYRING.seal_in_transit(command, command.command_id)

        assert not [text for text in personal if text in str(sealed)]
        opened = KEYRING.unseal_in_transit(sealed, command.command_id)
        assert type(command).model_validate(opened) == command


def test_state_is_sealed_for_a_person_and_then_for_its_way_through_temporal() -> None:
    state, key, command_id = evolve(None, EVENT, 1, COMMAND.issued_at), KEYRING.new_wrapped_key(), uuid4()
    assert state is not None

    kept = KEYRING.seal(state, key, command_id)
    in_transit = KEYRING.for_transit(kept, key, command_id)

    assert "Lakshmi" not in str(kept) + str(in_transit)
    assert type(state).model_validate(KEYRING.unseal_in_transit(in_transit, command_id)) == state
    with pytest.raises(ValueError, match="another key"):
        KEYRING.unseal_in_transit(kept, command_id)
    with pytest.raises(ValueError, match="another key"):
        KEYRING.unseal_in_transit(in_transit, uuid4())


def test_answer_about_an_erased_person_has_no_personal_values() -> None:
    state, command_id = evolve(None, EVENT, 1, COMMAND.issued_at), uuid4()
    assert state is not None

    in_transit = KEYRING.for_transit(KEYRING.seal(state, KEYRING.new_wrapped_key(), command_id), None, command_id)

    assert (in_transit["contactPhone"], in_transit["title"]) == (None, EVENT.title)


def test_fields_of_an_erased_person_cannot_be_decrypted() -> None:
    context = uuid4()

    opened = KEYRING.unseal(KEYRING.seal(EVENT, KEYRING.new_wrapped_key(), context), None, context)

    assert (opened["contactName"], opened["title"]) == (None, EVENT.title)


def test_sealed_value_cannot_be_decrypted_in_another_context() -> None:
    key, context = KEYRING.new_wrapped_key(), uuid4()
    sealed = KEYRING.seal(EVENT, key, context)

    with pytest.raises(ValueError, match="contactName"):
        KEYRING.unseal(sealed, key, uuid4())
    with pytest.raises(ValueError, match="contactPhone"):
        KEYRING.unseal({"contactPhone": sealed["contactName"]}, key, context)
    with pytest.raises(ValueError, match="another key"):
        KEYRING.unseal(sealed, KEYRING.new_wrapped_key(), context)


def test_token_is_opened_for_its_purpose_only() -> None:
    token = KEYRING.seal_token("setup:ravi", b"the secret")

    assert KEYRING.open_token("setup:ravi", token) == b"the secret"
    assert b"the secret" not in base64.urlsafe_b64decode(token + "==")
    for purpose, altered in (
        ("setup:sita", token),
        ("setup:ravi", ("B" if token[0] == "A" else "A") + token[1:]),
        ("setup:ravi", "AAAA"),
        ("", "!"),
    ):
        with pytest.raises(ValueError, match=r"altered|short|base64|Only"):
            KEYRING.open_token(purpose, altered)
    with pytest.raises(ValueError, match="altered"):
        Keyring(b"l" * 32).open_token("setup:ravi", token)


def test_recovery_codes_are_those_of_their_command() -> None:
    command = uuid4()
    codes = KEYRING.recovery_codes(command)

    assert codes == KEYRING.recovery_codes(command)
    assert len(set(codes)) == 10
    assert all(re.fullmatch("[a-z2-7]{16}", code) for code in codes)
    assert not set(codes) & {*KEYRING.recovery_codes(uuid4()), *Keyring(b"l" * 32).recovery_codes(command)}
