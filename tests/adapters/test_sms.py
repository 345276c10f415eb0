"""Text messages by Twilio: the outcome of each answer, on a server that misbehaves."""

import base64
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from adapters.providers import BadAddress, DeliveryKey, DeliveryRefused, ProviderUnavailable, Sms
from adapters.settings import Settings
from adapters.sms import Twilio
from domain.preferences import Channel
from tests.adapters.provider_servers import Play, answer, drop, error_of, half_a_head, hang, http_server
from tests.samples import new_id, new_tenant

NUMBER, TEXT = "+919876543210", "Your home in Gachibowli is sold."
KEY = DeliveryKey(new_tenant(), new_id(), Channel.SMS, new_id())
PATH = "/2010-04-01/Accounts/AC1/Messages.json"
NOTHING = answer(200, {"messages": []})


def one_sms(**more: Any) -> Sms:
    return Sms(**{"to": NUMBER, "text": TEXT, "template_id": "1107", "tags": KEY.tags, **more})


def sender(url: str, seconds: float = 5, **more: Any) -> Twilio:
    given = {
        "secret_key": "x" * 44,
        "twilio_account_sid": "AC1",
        "twilio_auth_token": "token",
        "twilio_messaging_service_sid": "MG1",
        "twilio_url": url,
        "sms_dlt_entity_id": "1101",
        "public_api_url": "https://api.example",
    }
    return Twilio(Settings.model_validate({**given, **more}), seconds)


async def error(*plays: Play, seconds: float = 5, **more: Any) -> tuple[Exception, int]:
    """The error of sending a text to a server that plays so, and the number of requests."""
    async with http_server(*plays) as server:
        texts = sender(server.url, seconds)
        raised = await error_of(texts.send(one_sms(**more)), NUMBER, TEXT)
        await texts.close()
        return raised, len(server.received)


def accepted(at: datetime, **more: Any) -> Play:
    """Twilio's list of messages with one that it has accepted."""
    message = {"sid": "SM1", "to": NUMBER, "body": TEXT, "date_created": format_datetime(at), **more}
    return answer(200, {"messages": [{"sid": "SM0", "body": "another", "date_created": format_datetime(at)}, message]})


async def test_text_is_sent_with_the_ids_of_the_registry_and_the_url_of_reports() -> None:
    async with http_server(answer(201, {"sid": "SM1"})) as server:
        texts = sender(server.url)

        assert await texts.send(one_sms()) == "SM1"

        await texts.close()
    [request] = server.received
    assert (request.method, request.target) == ("POST", PATH)
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"AC1:token").decode()
    callback = request.form.pop("StatusCallback")
    assert {name: value for name, value in request.form.items() if name != "StatusCallback"} == {
        "To": NUMBER,
        "Body": TEXT,
        "MessagingServiceSid": "MG1",
        "DltPEId": "1101",
        "DltTemplateId": "1107",
    }
    assert callback.startswith("https://api.example/api/webhooks/twilio?tenant=")
    assert NUMBER[1:] not in callback


async def test_settings_choose_sender_and_credentials() -> None:
    more: dict[str, Any] = {
        "twilio_messaging_service_sid": None,
        "twilio_from": "HYDINF",
        "twilio_api_key_sid": "SK1",
        "twilio_api_key_secret": "secret",
        "public_api_url": "http://127.0.0.1:8080",
    }
    async with http_server(answer(201, {"sid": "SM1"})) as server:
        texts = sender(server.url, **more)
        await texts.send(one_sms(to="+14155550100", template_id=None))
        await texts.close()

    [request] = server.received
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"SK1:secret").decode()
    assert request.form == {"To": "+14155550100", "Body": TEXT, "From": "HYDINF"}


@pytest.mark.parametrize("missing", ["twilio_auth_token", "twilio_messaging_service_sid"])
def test_setting_that_is_missing_is_named(missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    with pytest.raises(ValueError, match=missing.upper()):
        sender("http://127.0.0.1:1", **without)


@pytest.mark.parametrize(("entity", "template"), [(None, "1107"), ("1101", None)])
async def test_text_to_india_without_registered_ids_is_not_sent(entity: str | None, template: str | None) -> None:
    async with http_server() as server:
        texts = sender(server.url, sms_dlt_entity_id=entity)
        refused = await error_of(texts.send(one_sms(template_id=template)), NUMBER)
        await texts.close()

    assert isinstance(refused, DeliveryRefused)
    assert server.received == []


def refusal(code: int | None) -> dict[str, Any]:
    return {"code": code, "message": f"{NUMBER} is wrong", "status": 400}


@pytest.mark.parametrize(
    ("play", "expected", "wait"),
    [
        (answer(429, refusal(20429), retry_after="7"), ProviderUnavailable, 7),
        (answer(429, refusal(20429)), ProviderUnavailable, None),
        (answer(400, refusal(21611)), ProviderUnavailable, None),
        (answer(500, {"broken": True}, keep=0.5), ProviderUnavailable, None),
        (answer(503, retry_after="30"), ProviderUnavailable, 30),
        (answer(401, refusal(20003)), ProviderUnavailable, None),
        (answer(404, refusal(20404)), ProviderUnavailable, None),
        (answer(400, refusal(21606)), ProviderUnavailable, None),
        (answer(400, refusal(21901)), ProviderUnavailable, None),
        (answer(400, refusal(21211)), BadAddress, None),
        (answer(400, refusal(21610)), BadAddress, None),
        (answer(400, refusal(21614)), BadAddress, None),
        (answer(400, refusal(21635)), BadAddress, None),
        (answer(400, refusal(21617)), DeliveryRefused, None),
        (answer(400, refusal(21408)), DeliveryRefused, None),
        (answer(400, refusal(None)), DeliveryRefused, None),
        (answer(400, refusal(21211), keep=0.5), DeliveryRefused, None),
    ],
)
async def test_answer_decides_the_outcome(play: Play, expected: type[Exception], wait: float | None) -> None:
    raised, requests = await error(play)

    assert isinstance(raised, expected)
    assert getattr(raised, "retry_after", None) == wait
    assert requests == 1


async def test_wrong_settings_are_logged_without_the_number(caplog: pytest.LogCaptureFixture) -> None:
    await error(answer(401, refusal(20003)))

    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("adapters")]
    assert "Twilio answered 401 (20003): check the settings" in line
    assert NUMBER not in line


@pytest.mark.parametrize("lost", [drop, half_a_head])
@pytest.mark.parametrize("listed", [NOTHING, answer(503), drop, answer(200, {"messages": []}, keep=0.5)])
async def test_text_whose_answer_was_lost_is_tried_later_unless_twilio_has_it(lost: Play, listed: Play) -> None:
    raised, requests = await error(lost, listed)

    assert isinstance(raised, ProviderUnavailable)
    assert requests == 2


async def test_server_that_hangs_is_tried_later() -> None:
    raised, _ = await error(hang, hang, seconds=0.2)

    assert isinstance(raised, ProviderUnavailable)


@pytest.mark.parametrize("lost", [drop, half_a_head])
async def test_text_that_was_accepted_before_the_connection_ended_is_not_sent_again(lost: Play) -> None:
    async with http_server(lost, accepted(datetime.now(UTC), body=f"Sent from a trial account - {TEXT}")) as server:
        texts = sender(server.url)

        assert await texts.send(one_sms()) == "SM1"

        await texts.close()
    assert [request.method for request in server.received] == ["POST", "GET"]
    assert server.received[1].query == {"To": NUMBER, "PageSize": "50"}


@pytest.mark.parametrize("body", [{"sid": "SM1"}, None, ["not", "as", "documented"]])
async def test_text_that_was_accepted_is_not_sent_again_when_its_id_is_lost(body: object) -> None:
    async with http_server(answer(201, body, keep=0.5)) as server:
        texts = sender(server.url)

        assert await texts.send(one_sms()) is None

        await texts.close()
    assert len(server.received) == 1


async def test_text_of_a_worker_that_died_is_looked_for_before_it_is_sent() -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    async with http_server(accepted(since + timedelta(minutes=1))) as server:
        texts = sender(server.url)

        assert await texts.send(one_sms(tried_since=since)) == "SM1"

        await texts.close()
    assert [request.method for request in server.received] == ["GET"]


@pytest.mark.parametrize(
    "listed",
    [accepted(datetime.now(UTC) - timedelta(minutes=30)), NOTHING, answer(200, {"messages": [{"body": TEXT}]})],
)
async def test_text_that_twilio_does_not_have_is_sent(listed: Play) -> None:
    since = datetime.now(UTC) - timedelta(minutes=10)
    async with http_server(listed, answer(201, {"sid": "SM2"})) as server:
        texts = sender(server.url)

        assert await texts.send(one_sms(tried_since=since)) == "SM2"

        await texts.close()
    assert [request.method for request in server.received] == ["GET", "POST"]


async def test_text_is_not_sent_again_while_twilio_cannot_tell() -> None:
    raised, requests = await error(answer(503), tried_since=datetime.now(UTC))

    assert isinstance(raised, ProviderUnavailable)
    assert requests == 1
