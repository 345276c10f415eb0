"""The provider of each channel, by the settings."""

from typing import Any

import pytest

from adapters.senders import mail_sender, push_sender, sms_sender
from adapters.settings import Settings
from tests.adapters.test_push import RAW

TWILIO = {"twilio_account_sid": "AC1", "twilio_auth_token": "token", "twilio_from": "HYDINF"}


def chosen(**given: Any) -> list[str | None]:
    settings = Settings.model_validate({"secret_key": "x" * 44, **given})
    senders = (mail_sender(settings), sms_sender(settings), push_sender(settings))
    return [sender.provider if sender else None for sender in senders]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["smtp", None, None]),
        ({"sendgrid_api_key": "SG.key"}, ["sendgrid", None, None]),
        (TWILIO, ["smtp", "twilio", None]),
        ({"vapid_private_key": RAW}, ["smtp", None, "webpush"]),
    ],
)
def test_settings_choose_the_provider_of_each_channel(given: dict[str, Any], expected: list[str | None]) -> None:
    assert chosen(**given) == expected


def test_account_of_twilio_without_a_sender_stops_the_start() -> None:
    with pytest.raises(ValueError, match="TWILIO_MESSAGING_SERVICE_SID or TWILIO_FROM"):
        chosen(**{**TWILIO, "twilio_from": None})
