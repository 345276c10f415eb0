"""The body of a request: a model of the domain, read by the names that the OpenAPI document has and by no other."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

M = TypeVar("M", bound=BaseModel)


class _DocumentedNames:
    """Marks a model that is read by its aliases alone. Python code makes the same model by the names of its fields."""

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, _: ValidatorFunctionWrapHandler) -> BaseModel:
            return source.model_validate(value, by_alias=True, by_name=False)

        return core_schema.no_info_wrap_validator_function(read, handler(source))


BodyOf = Annotated[M, _DocumentedNames()]
"""The annotation of a route's body: `body: BodyOf[NewProperty]`."""
