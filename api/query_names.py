"""Query parameters that a route does not have, or that are sent twice, are refused by name.

A misspelt `?limt=5` would be ignored otherwise, and of two values a proxy and the API might use different ones.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

_SHOWN = 100
"""Characters of a name in the answer."""
_LISTS = (list, tuple, set, frozenset, Sequence)


def checked(routes: Iterable[BaseRoute]) -> list[BaseRoute]:
    """The routes, of which those of the API refuse unknown and repeated query parameters.

    Routes that are not documented serve others' formats, such as webhooks, and take what they send.
    """
    return [
        _checked(route)
        if isinstance(route, APIRoute) and route.include_in_schema and route.path.startswith("/api/")
        else route
        for route in routes
    ]


def _checked(route: APIRoute) -> APIRoute:
    checked = copy(route)  # routers are shared by every app of the process
    checked.app = _QueryNames(route)
    return checked


class _QueryNames:
    """Runs a route if it has the query parameters of the request. Raises RequestValidationError."""

    def __init__(self, route: APIRoute) -> None:
        self._app: ASGIApp = route.app
        self._takes_several = dict(_parameters(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if query := scope["query_string"]:
            names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
            unknown = names.keys() - self._takes_several.keys()
            repeated = {name for name, several in self._takes_several.items() if names[name] > 1 and not several}
            if faults := [*self._faults(unknown, "unknown_parameter"), *self._faults(repeated, "repeated_parameter")]:
                raise RequestValidationError(faults)
        await self._app(scope, receive, send)

    def _faults(self, names: Iterable[str], kind: str) -> Iterator[dict[str, object]]:
        """One error of each name, in pydantic's form."""
        known = ", ".join(self._takes_several) or "none"
        for name in sorted(names):
            yield {"type": kind, "loc": ("query", name[:_SHOWN]), "input": "", "ctx": {"known": known}}


def _parameters(route: APIRoute) -> Iterator[tuple[str, bool]]:
    """The query parameters of a route, and whether each may be sent several times."""
    yield from _of_functions(route.dependant)
    for documented in (route.openapi_extra or {}).get("parameters", ()):
        if documented["in"] == "query":
            yield documented["name"], documented["schema"].get("type") == "array"


def _of_functions(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for parameter in dependant.query_params:
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                yield field.alias or name, _is_list(field)
        else:
            yield parameter.alias, _is_list(parameter.field_info)
    for dependency in dependant.dependencies:
        yield from _of_functions(dependency)


def _is_list(field: FieldInfo) -> bool:
    options = (field.annotation, *get_args(field.annotation))
    return any((get_origin(option) or option) in _LISTS for option in options)
