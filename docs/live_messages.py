"""The live messages in the AsyncAPI document: what a WebSocket at /api/stream/ws sends and takes.

Server-sent events of /api/stream have the same types and data, with the id and the type as fields of the event.
"""

from collections.abc import Callable
from typing import Any

from api.errors import Problem
from api.live_messages import CommandProgress, PropertyChange, StreamEnd, Subscribed
from api.shown_notifications import ShownNotification
from api.streams import SubscriptionChange
from domain.activity import Activity

CHANNEL = "live"
SERVER = "api"
_ADDRESS = "/api/stream/ws"
_NOTHING: dict[str, Any] = {"type": "object", "maxProperties": 0}
_DATA: dict[str, tuple[Any, str]] = {
    "history": (Activity, "A new entry of the user's history, as /api/user-history shows it, without tenantId."),
    "notification": (ShownNotification, "A new notification, as /api/notifications shows it."),
    "command": (CommandProgress, "A command of the user is saved, published, refused or has failed."),
    "property": (PropertyChange, "A watched listing has changed."),
    "ready": (None, "What was missed is sent; later messages come as they happen."),
    "reset": (None, "Messages may be lost: read again what is shown, then go on."),
    "end": (StreamEnd, "The last message of the stream."),
    "heartbeat": (None, "Sent after 15 silent seconds. Go on from its id, as from that of every message."),
    "subscribed": (Subscribed, "The answer to a message of the client: the listings that the stream watches."),
    "error": (Problem, "The answer to a message of the client that is refused."),
}

Schema = Callable[[Any, str], dict[str, str]]


def servers() -> dict[str, Any]:
    return {
        SERVER: {
            "host": "{host}",
            "protocol": "wss",
            "variables": {"host": {"description": "The host of PUBLIC_API_URL"}},
        }
    }


def messages(schema: Schema) -> dict[str, Any]:
    """The messages by name; `schema` adds a model to the document and returns a reference to it."""
    made = {
        _name(type): _message(type, schema(model, model.__name__) if model else _NOTHING, summary)
        for type, (model, summary) in _DATA.items()
    }
    wanted = {"summary": "The listings whose changes are wanted, or no longer.", "contentType": "application/json"}
    return {**made, "SUBSCRIPTION_CHANGE": {**wanted, "payload": schema(SubscriptionChange, "SubscriptionChange")}}


def channel() -> dict[str, Any]:
    names = [*map(_name, _DATA), "SUBSCRIPTION_CHANGE"]
    return {
        "address": _ADDRESS,
        "servers": [{"$ref": f"#/servers/{SERVER}"}],
        "description": "Opened with `?ticket=` of POST /api/stream/tickets, `property` (several times) for listings and"
        " `lastEventId` to go on from a message. It closes with 4401 with its session or access token, 1012 when the"
        " replica stops, 1008 after too many messages of the client.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def operations() -> dict[str, Any]:
    def of(action: str, names: list[str], description: str) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{CHANNEL}"},
            "messages": [{"$ref": f"#/channels/{CHANNEL}/messages/{name}"} for name in names],
            "description": description,
        }

    return {
        "send-live": of("send", list(map(_name, _DATA)), "The API sends what happens as it happens."),
        "receive-live": of("receive", ["SUBSCRIPTION_CHANGE"], "A client says which listings it watches."),
    }


def _name(type: str) -> str:
    return f"LIVE_{type.upper()}"


def _message(type: str, data: dict[str, Any], summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["id", "type", "data"],
            "properties": {
                "id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": "Ids rise over all messages"},
                "type": {"const": type},
                "data": data,
            },
        },
    }
