"""The AsyncAPI document describes the messages that are published."""

from typing import Any, get_args
from uuid import UUID

import jsonschema_rs
import orjson
import pytest
from redis.asyncio import Redis

from activities.progress import Progress
from adapters import kafka
from adapters.kafka import Message
from adapters.live import Entry, LiveMessage, LiveStreams
from api.live_messages import Type, render
from api.shown_images import FileUrls
from api.tokens import Caller
from docs.asyncapi import asyncapi
from domain.events import KINDS, TOPICS, USER_ACTIVITY
from domain.roles import UserRole
from projections.live import messages_of
from tests.samples import OBSERVED, create_property, event_of_each_kind, new_id, new_tenant

DOCUMENT = asyncapi()


def published() -> list[tuple[str, Message]]:
    """The messages of an event of each type, each with its name in the document."""
    messages = []
    for event in event_of_each_kind(new_tenant(), new_id(), new_id()):
        stored = orjson.loads(event.model_dump_json(by_alias=True))
        for message in kafka.messages_of(stored):
            messages.append(("ACTIVITY" if message.topic == USER_ACTIVITY else event.event_type, message))
    return messages


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]}, validate_formats=True)


@pytest.mark.parametrize(("name", "message"), published())
def test_published_message_is_as_documented(name: str, message: Message) -> None:
    described = DOCUMENT["components"]["messages"][name]
    headers = {header: value.decode() for header, value in message.headers}

    validator(described["headers"]).validate(headers)
    validator(described["payload"]).validate(orjson.loads(message.value))
    validator(described["bindings"]["kafka"]["key"]).validate(message.key.decode())
    assert list(headers) == DOCUMENT["components"]["schemas"]["Headers"]["required"]
    assert name in DOCUMENT["channels"][message.topic]["messages"]


def test_every_topic_has_an_operation_that_sends_all_its_messages() -> None:
    sent = {
        operation["channel"]["$ref"].rpartition("/")[2]: [message["$ref"] for message in operation["messages"]]
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "send" and not operation["channel"]["$ref"].endswith("/live")
    }

    assert sent == {
        topic: [f"#/channels/{topic}/messages/{name}" for name in DOCUMENT["channels"][topic]["messages"]]
        for topic in TOPICS
    }


@pytest.mark.parametrize("name", KINDS)
def test_observations_have_version_0_and_other_events_do_not(name: str) -> None:
    [event] = [made for made in event_of_each_kind("t", UUID(int=1), UUID(int=2)) if made.event_type == name]
    payload = validator(DOCUMENT["components"]["messages"][name]["payload"])
    message = orjson.loads(event.model_dump_json(by_alias=True))

    assert payload.is_valid({**message, "version": 0}) == (name in OBSERVED)
    assert payload.is_valid({**message, "version": 1}) == (name not in OBSERVED)


def live_entries() -> list[Entry]:
    """Live messages of each type, as they are in Redis."""
    progress = Progress(LiveStreams(Redis()))
    sent: list[LiveMessage] = []
    progress._batcher.add = lambda *messages: sent.extend(messages)  # type: ignore[method-assign]
    command = create_property("t", UUID(int=1))
    progress.refused(command, "email-taken", "Sign in instead.", "email")
    progress.failed(
        {"tenantId": "t", "userId": str(UUID(int=1)), "commandId": str(new_id()), "type": "create-property"}
    )
    made = event_of_each_kind("t", UUID(int=1), UUID(int=2))
    sent += [message for event in made for message in messages_of(event)]
    return [Entry(f"{n}-0", one.stream, one.type, one.data) for n, one in enumerate(sent, start=1)]


@pytest.mark.parametrize("entry", live_entries())
def test_live_message_is_as_documented(entry: Entry) -> None:
    caller = Caller(UUID(int=1), "t", UserRole.USER, new_id())
    message = orjson.loads(render(entry, lambda _: FileUrls("https://cdn.example"))(caller).as_text)
    described = DOCUMENT["components"]["messages"][f"LIVE_{entry.type.upper()}"]["payload"]
    if entry.type == "history":
        message["data"]["tenantId"] = "t"  # of the schema of Kafka's messages

    validator(described).validate(message)


def test_every_type_of_live_message_is_documented() -> None:
    documented = {name for name in DOCUMENT["channels"]["live"]["messages"] if name.startswith("LIVE_")}
    assert documented == {f"LIVE_{type.upper()}" for type in get_args(Type)}
