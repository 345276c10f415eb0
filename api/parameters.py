"""Parsing path, query and header parameters with one pydantic model.

FastAPI parses the parameters of a function one by one, which takes longer than the rest of a history page, the busiest
route. Such a route declares one model instead; its errors and its documentation are those of every route.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, get_origin

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError


class RequestRoute(APIRoute):
    """A route whose function takes only the request; FastAPI's dependency injection is skipped."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


M = TypeVar("M", bound=BaseModel)


class Parameters(Generic[M]):
    """Parses a `model` from requests to `path`: a field whose alias is the name of a header, with a capital, from that
    header, others from path or query, where a tuple may be given several times.
    """

    def __init__(self, path: str, model: type[M]) -> None:
        self._model = model
        fields = model.model_fields.items()
        self._place = {field.alias or name: _place(field.alias or name, path) for name, field in fields}
        self._headers = [name for name, place in self._place.items() if place == "header"]
        self._query = [name for name, place in self._place.items() if place == "query"]
        self._several = {field.alias or name for name, field in fields if get_origin(field.annotation) is tuple}

    def read(self, request: Request) -> M:
        """Parse the parameters of `request`. Raises RequestValidationError."""
        values: dict[str, Any] = dict(request.path_params)
        if request.scope["query_string"]:
            query = request.query_params
            values |= {
                name: query.getlist(name) if name in self._several else query[name]
                for name in self._query
                if name in query
            }
        headers = request.headers
        for name in self._headers:
            if (value := headers.get(name)) is not None:
                values[name] = value
        try:
            return self._model.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False)
            located = [{**detail, "loc": (self._place[str(detail["loc"][0])], *detail["loc"])} for detail in details]
            raise RequestValidationError(located) from error

    @property
    def openapi(self) -> dict[str, Any]:
        """The parameters in OpenAPI form, for the route's `openapi_extra`."""
        schema = self._model.model_json_schema()
        parameters = []
        for name, place in self._place.items():
            described = {key: value for key, value in schema["properties"][name].items() if key != "title"}
            parameter = {"name": name, "in": place, "required": name in schema.get("required", ())}
            if description := described.pop("description", None):
                parameter["description"] = description
            parameters.append({**parameter, "schema": described})
        return {"parameters": parameters}


def _place(name: str, path: str) -> str:
    """Where a parameter is sent."""
    if name[:1].isupper():
        return "header"
    return "path" if f"{{{name}}}" in path else "query"
