"""Request bodies: models that accept the names in the OpenAPI document only."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

M = TypeVar("M", bound=BaseModel)


class _DocumentedNames:
    """Validates a model by alias only; Python code can still construct it by field name."""

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, _: ValidatorFunctionWrapHandler) -> BaseModel:
            return source.model_validate(value, by_alias=True, by_name=False)

        return core_schema.no_info_wrap_validator_function(read, handler(source))


BodyOf = Annotated[M, _DocumentedNames()]
"""The annotation of a route's body: `body: BodyOf[NewProperty]`."""
