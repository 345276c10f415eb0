"""The one base of every model: camelCase on the wire, snake_case in Python, frozen, no unknown field."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A value that cannot change and refuses a field it does not know."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # what is refused may be personal; errors are logged and kept by Temporal
    )


class Fact(Model):
    """What a stored event says. Fields are only ever added, so a reader passes over those it does not know yet."""

    model_config = ConfigDict(extra="ignore")
