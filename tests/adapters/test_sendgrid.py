"""SendGrid: the outcome of each answer, on a server that misbehaves."""

import time
from typing import Any

import orjson
import pytest

from adapters.providers import BadAddress, DeliveryKey, DeliveryRefused, Mail, ProviderUnavailable
from adapters.sendgrid import SendGrid
from adapters.settings import Settings
from domain.preferences import Channel
from tests.adapters.provider_servers import Play, answer, drop, endless, error_of, half_a_head, hang, http_server
from tests.samples import new_id, new_tenant

ADDRESS, SECRET = "ravi@example.com", "the-token-of-the-link"
KEY = DeliveryKey(new_tenant(), new_id(), Channel.EMAIL, new_id())


def one_mail(**more: Any) -> Mail:
    given = {
        "to": ADDRESS,
        "subject": "Confirm",
        "text": f"http://x/{SECRET}",
        "html": f"<a href='http://x/{SECRET}'>Confirm</a>",
        "message_id": "1@test",
        "headers": {"List-Unsubscribe": "<https://x/u>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        "tags": KEY.tags,
    }
    return Mail(**{**given, **more})


def sender(url: str, seconds: float = 5) -> SendGrid:
    settings = Settings.model_validate({"secret_key": "x" * 44, "sendgrid_api_key": "SG.key", "sendgrid_url": url})
    return SendGrid(settings, seconds)


async def error(play: Play, seconds: float = 5) -> Exception:
    """The error of sending a mail to a server that plays so; it received the mail once."""
    async with http_server(play) as server:
        mails = sender(server.url, seconds)
        raised = await error_of(mails.send(one_mail()), ADDRESS, SECRET)
        await mails.close()
        assert len(server.received) == 1
        return raised


def refusal(field: str | None) -> dict[str, Any]:
    return {"errors": [{"message": f"{ADDRESS} is wrong", "field": field, "help": None}]}


async def test_mail_is_sent_with_text_html_headers_and_the_key_of_its_delivery() -> None:
    async with http_server(answer(202, x_message_id="abc.def")) as server:
        mails = sender(server.url)

        assert await mails.send(one_mail()) == "abc.def"

        await mails.close()
    [request] = server.received
    assert (request.method, request.target) == ("POST", "/v3/mail/send")
    assert request.headers["authorization"] == "Bearer SG.key"
    sent = orjson.loads(request.body)
    assert sent["personalizations"] == [{"to": [{"email": ADDRESS}]}]
    assert sent["from"] == {"email": "no-reply@hyderabad-infra.example", "name": "Hyderabad Infra"}
    assert [part["type"] for part in sent["content"]] == ["text/plain", "text/html"]
    assert sent["headers"]["Message-ID"] == "<1@test>"
    assert sent["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert DeliveryKey.from_tags(sent["custom_args"]) == KEY
    assert not any(setting["enable"] for setting in sent["tracking_settings"].values())


@pytest.mark.parametrize(
    ("play", "expected", "wait"),
    [
        (answer(429, retry_after="7"), ProviderUnavailable, 7),
        (answer(429), ProviderUnavailable, None),
        (answer(429, retry_after="soon"), ProviderUnavailable, None),
        (answer(429, retry_after="999999999"), ProviderUnavailable, 3600),
        (answer(429, retry_after="0"), ProviderUnavailable, 1),
        (answer(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), ProviderUnavailable, 1),
        (answer(429, x_ratelimit_reset="1"), ProviderUnavailable, 1),
        (answer(503, retry_after="30"), ProviderUnavailable, 30),
        (answer(500, {"errors": []}), ProviderUnavailable, None),
        (answer(500, "broken", keep=0.5), ProviderUnavailable, None),
        (answer(302, location="http://127.0.0.1:1/"), ProviderUnavailable, None),
        (answer(401, refusal(None)), ProviderUnavailable, None),
        (answer(403, refusal("from")), ProviderUnavailable, None),
        (answer(400, refusal("from.email")), ProviderUnavailable, None),
        (answer(400, refusal("personalizations.0.to.0.email")), BadAddress, None),
        (answer(400, refusal("content.0.value")), DeliveryRefused, None),
        (answer(400, refusal(None)), DeliveryRefused, None),
        (answer(400, ["not", "as", "documented"]), DeliveryRefused, None),
        (answer(413), DeliveryRefused, None),
        (drop, ProviderUnavailable, None),
        (half_a_head, ProviderUnavailable, None),
    ],
)
async def test_answer_decides_the_outcome(play: Play, expected: type[Exception], wait: float | None) -> None:
    raised = await error(play)

    assert isinstance(raised, expected)
    assert getattr(raised, "retry_after", None) == wait


async def test_wrong_settings_are_logged_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    await error(answer(401, refusal(None)))

    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("adapters")]
    assert "check SENDGRID_API_KEY" in line
    assert ADDRESS not in line


async def test_reset_of_the_rate_limit_is_waited_for() -> None:
    raised = await error(answer(429, x_ratelimit_reset=str(int(time.time()) + 120)))

    assert isinstance(raised, ProviderUnavailable)
    assert 60 < (raised.retry_after or 0) <= 120


async def test_server_that_hangs_is_tried_later() -> None:
    assert isinstance(await error(hang, seconds=0.2), ProviderUnavailable)


async def test_server_that_is_down_has_received_nothing() -> None:
    mails = sender("http://127.0.0.1:1")

    with pytest.raises(ProviderUnavailable, match="SendGrid is unavailable: ConnectError"):
        await mails.send(one_mail())


@pytest.mark.parametrize("play", [answer(202, "body", keep=0.5, x_message_id="endless"), endless])
async def test_mail_that_was_accepted_is_sent_once_whatever_follows_in_the_answer(play: Play) -> None:
    async with http_server(play) as server:
        mails = sender(server.url)

        assert await mails.send(one_mail()) == "endless"

        await mails.close()
        assert len(server.received) == 1


def test_texts_and_addresses_of_a_mail_are_not_shown() -> None:
    shown = repr(one_mail())

    assert ADDRESS not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("tags", [{}, {**KEY.tags, "event_id": "1"}, {**KEY.tags, "channel": "pigeon"}])
def test_key_that_is_not_ours_is_none(tags: dict[str, object]) -> None:
    assert DeliveryKey.from_tags(tags) is None
