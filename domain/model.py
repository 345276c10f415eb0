"""The base classes of all models."""

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema


class Model(BaseModel):
    """A frozen model with camelCase names in JSON; an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # a value may be personal; errors are logged, and stored by Temporal
    )


class MergePatch(Model):
    """A JSON Merge Patch (RFC 7396): absent fields stay as they are, `null` removes.

    The value of an absent field is never read. Where null is not allowed it comes from a factory, because a plain
    default would appear in the schema.
    """

    @model_serializer(mode="wrap")
    def _only_what_was_sent(self, serialize: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Serialize only the fields that were sent, so that the patch is the same after a round trip through JSON."""
        fields = type(self).model_fields
        sent = {(fields[name].alias or name) if info.by_alias else name for name in self.model_fields_set}
        return {name: value for name, value in serialize(self).items() if name in sent}


_RULES = {"min_length", "max_length", "pattern", "gt", "ge", "lt", "le", "strip_whitespace", "to_lower"}
_PARTS = {"schema", "fields", "choices", "items_schema", "steps"}
"""Where a schema of pydantic's holds others."""


def _without_rules(schema: Any) -> Any:
    """A schema's types, without its bounds and validators."""
    match schema:
        case {"type": "function-after" | "function-wrap", "schema": checked}:
            return _without_rules(checked)
        case {"type": str()}:
            return {
                key: _without_rules(part) if key in _PARTS else part
                for key, part in schema.items()
                if key not in _RULES
            }
        case dict():
            return {name: _without_rules(part) for name, part in schema.items()}
        case list():
            return [_without_rules(part) for part in schema]
    return schema


class Fact(Model):
    """What is read from where it is stored or from another release: an event's payload, a state, a workflow's input.

    Later releases add fields, so a reader ignores unknown ones. It checks types only: the rules of `domain/fields.py`
    and of base classes are for requests, and may have become stricter since.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler.resolve_ref_schema(handler(source))
        by_type: CoreSchema = {**_without_rules(schema), "ref": schema["ref"]}
        return by_type
