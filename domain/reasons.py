"""The error message of each pydantic error type, which says what to send instead.

A message never contains the value, which may be a password.
"""

import re
from collections.abc import Mapping
from typing import Any

_MEMBER = re.compile(r"<\w+\.\w+: (\w+)>")
"""How pydantic writes a member of an enumeration in a `Literal`."""

SENTENCES: dict[str, str] = {
    "missing": "Send this field; it is required.",
    "missing_body": "Send a JSON object as the body; it is required.",
    "unknown_parameter": "Remove this parameter. The URL has these: {known}.",
    "repeated_parameter": "Send this parameter once.",
    "extra_forbidden": "Remove this field; it is not known.",
    "string_type": "Give a text, in quotes.",
    "string_too_short": "Use at least {min_length} {characters}.",
    "string_too_long": "Use at most {max_length} {characters}.",
    "string_unicode": "Give a text of valid Unicode, without lone surrogates.",
    "too_short": "Give at least {min_length} {entries}.",
    "too_long": "Give at most {max_length} {entries}.",
    "int_type": "Give a whole number, without quotes.",
    "int_from_float": "Give a whole number, without a fraction.",
    "int_parsing": "Give a whole number.",
    "int_parsing_size": "Give a whole number of fewer digits.",
    "float_type": "Give a number, without quotes.",
    "float_parsing": "Give a number.",
    "finite_number": "Give a finite number.",
    "greater_than": "Give a number greater than {gt}.",
    "greater_than_equal": "Give {ge} or more.",
    "less_than": "Give a number less than {lt}.",
    "less_than_equal": "Give {le} or less.",
    "bool_type": "Give true or false, without quotes.",
    "bool_parsing": "Give true or false.",
    "enum": "Give one of {expected}.",
    "literal_error": "Give one of {expected}.",
    "uuid_type": "Give a UUID, in quotes.",
    "uuid_parsing": "It must be a UUID: 32 hexadecimal digits with four hyphens.",
    "date_type": "Give a date, such as 1990-12-31.",
    "date_parsing": "Give a date, such as 1990-12-31.",
    "date_from_datetime_inexact": "Give a date without a time, such as 1990-12-31.",
    "date_from_datetime_parsing": "Give a date, such as 1990-12-31.",
    "union_tag_not_found": "Give a GeoJSON geometry with its type, Polygon or MultiPolygon.",
    "union_tag_invalid": "Give a GeoJSON geometry of type Polygon or MultiPolygon.",
    "datetime_type": "Give a time, such as 2026-11-01T00:00:00Z, or a date.",
    "datetime_parsing": "Give a time, such as 2026-11-01T00:00:00Z, or a date.",
    "tuple_type": "Give a list, in square brackets.",
    "list_type": "Give a list, in square brackets.",
    "dict_type": "Give a JSON object, in braces.",
    "model_type": "Give a JSON object, in braces.",
    "model_attributes_type": "Give a JSON object, in braces.",
    "string_pattern_mismatch": "Give a text of the form {pattern}.",
    # Only pydantic's check of e-mail addresses raises a plain ValueError.
    "value_error": "Give an e-mail address, such as ravi@example.com.",
}
"""Every error type of the constraints of fields and requests, except those whose validator raises its own message."""


def reason(fault: Mapping[str, Any]) -> str:
    """The message of one pydantic error, an item of `errors()`."""
    kind = fault["type"]
    if kind in {"too_short", "too_long"} and isinstance(fault["input"], str):
        kind = f"string_{kind}"  # pydantic reports the length of a SecretStr as a number of items
    if tuple(fault["loc"]) == ("body",) and fault["input"] is None:
        kind = "missing_body"  # it is empty, or null
    sentence = SENTENCES.get(kind)
    if sentence is None:
        return str(fault["msg"])
    bounds = dict(fault.get("ctx", {}))
    one = bounds.get("min_length", bounds.get("max_length")) == 1
    bounds["characters"], bounds["entries"] = ("character", "entry") if one else ("characters", "entries")
    bounds["expected"] = _MEMBER.sub(r"\1", str(bounds.get("expected", "")).replace("'", ""))
    filled = sentence.format(**bounds)
    cannot_be_null = fault["input"] is None and (kind.endswith("_type") or kind in {"enum", "literal_error"})
    return f"{filled.rstrip('.')}; it cannot be null." if cannot_be_null else filled
