"""The base classes of all models."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


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


class Fact(Model):
    """The payload of an event, or a stored answer. Later releases add fields, so a reader ignores unknown ones."""

    model_config = ConfigDict(extra="ignore")
