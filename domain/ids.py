"""Identifiers: pure functions of their arguments, so that a retry computes the same ids."""

from uuid import NAMESPACE_URL, UUID, uuid5

_COMMANDS = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:command")
_FAVORITES = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:favorite")
_IMPORTS = uuid5(NAMESPACE_URL, "urn:hyderabad-infra:import")


def uuid7(unix_ms: int, randomness: bytes) -> UUID:
    """A time-ordered UUID (RFC 9562, section 5.7) from milliseconds since 1970 and 10 random bytes."""
    if len(randomness) != 10:
        raise ValueError("uuid7 needs exactly 10 random bytes")
    value = (unix_ms & (2**48 - 1)) << 80 | int.from_bytes(randomness, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def keyed_command_id(tenant_id: str, caller: str, route: str, idempotency_key: str) -> UUID:
    """The id of a command sent with an `Idempotency-Key`: the same caller, route and key give the same id."""
    return uuid5(_COMMANDS, _joined(tenant_id, caller, route, idempotency_key))


def imported_id(what: str, *parts: str) -> UUID:
    """The id of the listing or the command of a row of an import; `parts` identify the row."""
    return uuid5(_IMPORTS, _joined(what, *parts))


def _joined(*parts: str) -> str:
    # Each part is prefixed with its length: without it, two different sets of parts could join to the same text.
    return "".join(f"{len(part)}:{part}" for part in parts)


def favorite_id(tenant_id: str, user_id: UUID, property_id: UUID) -> UUID:
    """The id of a user's favourite of a listing."""
    return uuid5(_FAVORITES, f"{user_id}{property_id}{tenant_id}")


def event_id(command_id: UUID, n: int) -> UUID:
    """The id of a command's `n`th event, counted from 1."""
    return uuid5(command_id, str(n))


def record_id(of: UUID) -> UUID:
    """The id of the command that records what was made of an image or a document."""
    return uuid5(of, "record")


def traceparent(command_id: UUID, of_event: UUID) -> str:
    """The W3C Trace Context of an event: the trace id is the command's id, the span id is from the event's."""
    return f"00-{command_id.hex}-{of_event.hex[:16]}-01"
