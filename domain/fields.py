"""Field types shared by commands and events: their bounds and their error messages.

The JSON schema has a pattern for everything that a validator checks, so that a value valid by the schema is accepted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import EmailStr, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, Strict, StringConstraints
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from domain.model import Model

_LINE_BREAKS = re.compile(r"[\n\r\t]")
# Unicode's categories Cc and Cs without line breaks, as ranges, which match fast: a text is validated several times.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# The same for JSON schemas, in escapes that every regex engine knows; JSON text has no lone surrogates.
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_CONTROL_OR_BREAK = r"\x00-\x1f\x7f-\x9f"


def _printable(value: str) -> str:
    """Reject control characters and lone surrogates, which Postgres cannot store or a page cannot show."""
    if _UNPRINTABLE.search(value):
        raise PydanticCustomError("unprintable", "Remove the control characters.")
    return value


def _one_line(value: str) -> str:
    _printable(value)
    if _LINE_BREAKS.search(value):
        raise PydanticCustomError("line_break", "Write it on one line.")
    return value


@dataclass(frozen=True)
class _Checked:
    """Annotation: values are validated by `check`, and the JSON schema has `pattern`."""

    check: Callable[[Any], Any]
    pattern: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


@dataclass(frozen=True)
class _Text:
    """Annotation: a text of `low` to `high` characters after leading and trailing whitespace is removed."""

    low: int
    high: int
    lines: bool = False
    """Whether line breaks are allowed."""
    lower: bool = False
    """Whether the value is converted to lower case."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(
            strip_whitespace=True, to_lower=self.lower, min_length=self.low, max_length=self.high
        )
        return core_schema.no_info_after_validator_function(_printable if self.lines else _one_line, text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}

    @property
    def pattern(self) -> str:
        """At least `low` characters from the first to the last one that is not whitespace."""
        refused = _CONTROL if self.lines else _CONTROL_OR_BREAK
        any_, visible = f"[^{refused}]", rf"[^\s{_CONTROL_OR_BREAK}]"
        between = f"{any_}{{{self.low - 2},}}{visible}" if self.low > 1 else ""
        return f"^{any_}*{visible}{between}{any_}*$"


def _matching(pattern: str, advice: str) -> _Checked:
    """A text that matches `pattern`; `advice` is the error message for any other."""
    form = re.compile(pattern)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise PydanticCustomError("form", advice)
        return value

    return _Checked(check, pattern)


def _e164(value: str) -> str:
    """Convert a phone number to E.164; a ten-digit number is taken as Indian."""
    digits = re.sub(r"[\s()./-]", "", value)
    if re.fullmatch(r"0?[6-9][0-9]{9}", digits):
        return f"+91{digits[-10:]}"
    if re.fullmatch(r"\+[1-9][0-9]{6,14}", digits):
        return digits
    raise PydanticCustomError("phone", "Give a ten-digit Indian number, or an international one that begins with +.")


# What `_e164` accepts, with separators at any position.
_SEPARATORS = r"[\s()./-]*"
_PHONE = (
    rf"^{_SEPARATORS}(?:(?:0{_SEPARATORS})?[6-9](?:{_SEPARATORS}[0-9]){{9}}"
    rf"|\+{_SEPARATORS}[1-9](?:{_SEPARATORS}[0-9]){{6,14}}){_SEPARATORS}$"
)


def _printable_secret(value: SecretStr) -> SecretStr:
    _printable(value.get_secret_value())
    return value


_SECRET = _Checked(_printable_secret, f"^[^{_CONTROL}]*$")

Title = Annotated[str, _Text(5, 200)]
Description = Annotated[str, _Text(10, 5000, lines=True)]
Note = Annotated[str, _Text(1, 1000, lines=True)]
Place = Annotated[str, _Text(1, 200)]
Address = Annotated[str, _Text(1, 500)]
PersonName = Annotated[str, _Text(1, 100)]
Label = Annotated[str, _Text(1, 60)]
FileName = Annotated[str, _Text(1, 255)]
Caption = Annotated[str, _Text(1, 200)]
# In lower case, as accounts are looked up, so that the rate limit counts every spelling of a name together.
SignInName = Annotated[str, _Text(1, 254, lower=True)]
SearchText = Annotated[str, _Text(1, 254)]
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=128), _SECRET]
Password = Annotated[SecretStr, Field(min_length=1, max_length=128), _SECRET]
Code = Annotated[
    str,
    _matching(
        r"^[0-9A-Za-z][0-9A-Za-z -]{4,38}[0-9A-Za-z]$",
        "Give the six digits that the authenticator app shows, or a recovery code.",
    ),
]
SetupToken = Annotated[str, _matching(r"^[A-Za-z0-9_-]{20,200}$", "Send the token of the setup unchanged.")]
Token = Annotated[SecretStr, Field(min_length=1, max_length=200), _SECRET]
Pincode = Annotated[str, _matching(r"^[1-9][0-9]{5}$", "Give six digits, of which the first is not 0.")]
ReraId = Annotated[str, _matching(r"^P0[0-9]{10}$", "Give P0 and ten digits, such as P02400001234.")]
Phone = Annotated[str, StringConstraints(max_length=30), _Checked(_e164, _PHONE)]
Email = Annotated[EmailStr, StringConstraints(max_length=254, to_lower=True)]
Username = Annotated[
    str,
    _matching(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{2,49}$",
        "Use 3 to 50 characters: letters A to Z, digits, dots, hyphens and underscores, a letter or digit first.",
    ),
]

DateOfBirth = Annotated[date, Field(ge=date(1900, 1, 1))]

Whole = Annotated[int, Strict()]
Rupees = Annotated[Whole, Field(gt=0, le=10**12)]
SquareFeet = Annotated[Whole, Field(gt=0, le=10**8)]
Rooms = Annotated[Whole, Field(ge=0, le=100)]
Floor = Annotated[Whole, Field(ge=-5, le=200)]
Years = Annotated[Whole, Field(ge=0, le=500)]
# India with its islands; a point outside is a typing error or has its axes swapped.
Latitude = Annotated[float, Strict(), Field(ge=6.5, le=37.5)]
Longitude = Annotated[float, Strict(), Field(ge=68.0, le=97.5)]


class Personal:
    """Annotation: a field with personal data. It is encrypted wherever it is stored permanently."""


PERSONAL = Personal()


class Sealed(Model):
    """A personal value encrypted with the person's key (AES-GCM; base64url of nonce and ciphertext)."""

    sealed: str
