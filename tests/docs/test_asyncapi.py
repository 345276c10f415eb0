"""The AsyncAPI document describes the messages that are published."""

from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson
import pytest

from adapters.kafka import Message, messages_of
from docs.asyncapi import asyncapi
from domain.events import KINDS, TOPICS, USER_ACTIVITY
from tests.samples import OBSERVED, event_of_each_kind, new_id, new_tenant

DOCUMENT = asyncapi()


def published() -> list[tuple[str, Message]]:
    """The messages of an event of each type, each with its name in the document."""
    messages = []
    for event in event_of_each_kind(new_tenant(), new_id(), new_id()):
        stored = orjson.loads(event.model_dump_json(by_alias=True))
        for message in messages_of(stored):
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
        if operation["action"] == "send"
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
