"""Field types shared by commands and events: their bounds, and the reason a value is refused."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, EmailStr, Field, SecretStr, Strict, StringConstraints
from pydantic_core import PydanticCustomError

from domain.model import Model

_LINE_BREAKS = re.compile(r"[\n\r\t]")
# Unicode's categories Cc and Cs without the line breaks, as ranges: a text is looked through several times on its way.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(value: str) -> str:
    """Control characters, NUL and lone surrogates cannot be stored or shown; line breaks can."""
    if _UNPRINTABLE.search(value):
        raise PydanticCustomError("unprintable", "Text must not contain control characters")
    return value


def _one_line(value: str) -> str:
    if _LINE_BREAKS.search(value):
        raise PydanticCustomError("line_break", "Text must be on one line")
    return value


def _text(low: int, high: int) -> Any:
    return StringConstraints(strip_whitespace=True, min_length=low, max_length=high)


def _e164(value: str) -> str:
    """A phone number as E.164; ten digits are taken as Indian, which is what people in Hyderabad type."""
    digits = re.sub(r"[\s()./-]", "", value)
    if re.fullmatch(r"0?[6-9][0-9]{9}", digits):
        return f"+91{digits[-10:]}"
    if re.fullmatch(r"\+[1-9][0-9]{6,14}", digits):
        return digits
    raise PydanticCustomError("phone", "Give a ten-digit Indian number or an international one that begins with +")


def _printable_secret(value: SecretStr) -> SecretStr:
    _printable(value.get_secret_value())
    return value


# Bounds come before the validators, so that they are told as bounds of a text.
_PRINTABLE = AfterValidator(_printable)
_ONE_LINE = AfterValidator(_one_line)

Title = Annotated[str, _text(5, 200), _PRINTABLE, _ONE_LINE]
Description = Annotated[str, _text(10, 5000), _PRINTABLE]
Note = Annotated[str, _text(1, 1000), _PRINTABLE]
Place = Annotated[str, _text(1, 200), _PRINTABLE, _ONE_LINE]
Address = Annotated[str, _text(1, 500), _PRINTABLE, _ONE_LINE]
PersonName = Annotated[str, _text(1, 100), _PRINTABLE, _ONE_LINE]
Label = Annotated[str, _text(1, 60), _PRINTABLE, _ONE_LINE]
# In lower case, as accounts are looked up: a limit counts every spelling of a name as the same name.
SignInName = Annotated[str, _text(1, 254), StringConstraints(to_lower=True), _PRINTABLE, _ONE_LINE]
_SECRET = AfterValidator(_printable_secret)
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=128), _SECRET]
Password = Annotated[SecretStr, Field(min_length=1, max_length=128), _SECRET]
Token = Annotated[SecretStr, Field(min_length=1, max_length=200), _SECRET]
Pincode = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{5}$")]
ReraId = Annotated[str, StringConstraints(pattern=r"^P0[0-9]{10}$")]
Phone = Annotated[str, StringConstraints(max_length=30), AfterValidator(_e164)]
Email = Annotated[EmailStr, StringConstraints(max_length=254, to_lower=True)]
Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,49}$")]

Whole = Annotated[int, Strict()]
Rupees = Annotated[Whole, Field(gt=0, le=10**12)]
SquareFeet = Annotated[Whole, Field(gt=0, le=10**8)]
Rooms = Annotated[Whole, Field(ge=0, le=100)]
Floor = Annotated[Whole, Field(ge=-5, le=200)]
Years = Annotated[Whole, Field(ge=0, le=500)]
# India with its islands; a point outside is a typing error or swapped axes.
Latitude = Annotated[float, Strict(), Field(ge=6.5, le=37.5)]
Longitude = Annotated[float, Strict(), Field(ge=68.0, le=97.5)]


class Personal:
    """Marks a field that names or reaches a person: it is sealed wherever it is stored for good."""


PERSONAL = Personal()


class Sealed(Model):
    """A personal value, readable with the person's key (AES-GCM; base64url of nonce and ciphertext)."""

    sealed: str
