"""The Kafka messages and the live messages as an AsyncAPI 3.0 document."""

from typing import Any, get_args

from api.openapi import CONTACT
from docs import live_messages
from domain.activity import Activity
from domain.events import KINDS, TOPICS, USER_ACTIVITY, Event, EventKind
from domain.observations import Observation

_UUID = {"type": "string", "format": "uuid"}
_HEADERS: dict[str, dict[str, Any]] = {
    "ce_specversion": {"const": "1.0", "description": "The version of CloudEvents, whose attributes are `ce_*`"},
    "ce_id": {**_UUID, "description": "The id of the event. A message may arrive twice: this tells its copies"},
    "ce_type": {"type": "string", "enum": list(KINDS), "description": "The type of the event"},
    "ce_source": {
        "type": "string",
        "pattern": "^/hyderabad-infra/.+$",
        "description": "The platform and the tenant",
    },
    "ce_time": {"type": "string", "format": "date-time", "description": "The time of the event"},
    "traceparent": {
        "type": "string",
        "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$",
        "description": "W3C Trace Context: the trace id is the command's id, the parent id is from the event's id",
    },
}
_REPLAY = {
    "ce_replay": {
        **_UUID,
        "description": "The id of the replay by which an operator has published stored events once more; absent from"
        " other messages",
    }
}
_OBSERVED: frozenset[str] = frozenset(
    model.model_fields["event_type"].default for model in get_args(get_args(Observation)[0])
)
"""The types of events that change no aggregate."""
_AGGREGATE_KEY = (
    "The id of the aggregate, whose events stay in order: of the listing, the favourite, the user or preferences"
)


def asyncapi() -> dict[str, Any]:
    """A channel and an operation for each topic, and messages for each type of event, activities and live updates."""
    schemas: dict[str, Any] = {
        "Headers": {"type": "object", "required": list(_HEADERS), "properties": {**_HEADERS, **_REPLAY}}
    }

    def schema(model: Any, name: str) -> dict[str, str]:
        made = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
        schemas.update(made.pop("$defs", {}))
        schemas[name] = made
        return _reference("schemas", name)

    envelope = schema(Event, "Event")
    messages = {
        kind.name: _message(
            {"properties": {"ce_type": {"const": kind.name}}},
            {"allOf": [envelope, {"properties": {"data": schema(kind.model, kind.model.__name__), **_values(kind)}}]},
            _AGGREGATE_KEY,
            str(kind.model.__doc__).partition(": ")[2],
        )
        for kind in KINDS.values()
    }
    messages["ACTIVITY"] = _message(
        {},
        schema(Activity, "Activity"),
        "The id of the user, whose activities stay in order",
        "An entry of the user's history, made of the event that the headers name.",
    )
    live = live_messages.messages(schema)
    names = {topic: [kind.name for kind in KINDS.values() if kind.topic == topic] for topic in TOPICS}
    names[USER_ACTIVITY] = ["ACTIVITY"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hyderabad Infra",
            "version": "0.1.0",
            "description": "Events, published after they are stored: each at least once, in the order of its key.",
            "contact": CONTACT,
            "license": {"name": "Apache License 2.0"},
            "tags": [{"name": "events", "description": "What has happened, by aggregate and by user"}],
        },
        "servers": {
            "kafka": {
                "host": "{bootstrapServers}",
                "protocol": "kafka",
                "variables": {"bootstrapServers": {"description": "KAFKA_BOOTSTRAP_SERVERS of the installation"}},
            },
            **live_messages.servers(),
        },
        "channels": {
            **{
                topic: {
                    "address": topic,
                    "servers": [{"$ref": "#/servers/kafka"}],
                    "messages": {name: _reference("messages", name) for name in of_topic},
                }
                for topic, of_topic in names.items()
            },
            live_messages.CHANNEL: live_messages.channel(),
        },
        "operations": {
            f"publish-{topic}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic}"},
                "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in of_topic],
                "description": f"Workers publish to `{topic}` once an event is stored.",
            }
            for topic, of_topic in names.items()
        }
        | live_messages.operations(),
        "components": {"messages": messages | live, "schemas": schemas},
    }


def _message(headers: dict[str, Any], payload: dict[str, Any], key: str, summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "contentType": "application/json",
        "headers": {"type": "object", "allOf": [_reference("schemas", "Headers")], **headers},
        "payload": payload,
        "bindings": {"kafka": {"key": {**_UUID, "description": key}, "bindingVersion": "0.5.0"}},
    }


def _values(kind: EventKind) -> dict[str, Any]:
    """The schemas of what is particular to the type of an event in the fields that all events have."""
    observed = {"const": 0, "description": "An observation changes no aggregate, so it has no version: it is 0"}
    counted = {"minimum": 1, "description": "Numbers the events of the aggregate from 1"}
    return {"eventType": {"const": kind.name}, "version": observed if kind.name in _OBSERVED else counted}


def _reference(components: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{components}/{name}"}
