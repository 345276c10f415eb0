"""What is remembered of a search: its filters, and which searches are the same."""

from typing import Any

import orjson
from pydantic import ValidationError

from domain.search import SearchFilters


def remembered(search: SearchFilters) -> str:
    """The filters of a search as JSON, as they were given; order and page are not part of it."""
    names = set(search.given)
    if search.near is not None:
        names.add("radius_km")
    return orjson.dumps(search.model_dump(mode="json", by_alias=True, include=names)).decode()


def recalled(text: str) -> SearchFilters | None:
    """The filters of a remembered search; None when this release cannot ask it."""
    try:
        return SearchFilters.model_validate_json(text)
    except ValidationError:
        return None


def sameness(search: SearchFilters) -> str:
    """A text that two searches share if they ask the same: case, spaces and the order of values do not count."""
    return orjson.dumps(_normal(orjson.loads(remembered(search))), option=orjson.OPT_SORT_KEYS).decode()


def _normal(value: Any) -> Any:
    match value:
        case str():
            return " ".join(value.casefold().split())
        case dict():
            return {name: _normal(part) for name, part in value.items()}
        case list() if all(isinstance(part, str) for part in value):
            return sorted({_normal(part) for part in value})
    return value
