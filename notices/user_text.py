"""Texts of users, such as a title or a name, made harmless for mails, messages and notifications."""

import re
from collections.abc import Mapping
from typing import Any

# Line breaks and other control characters (Cc, with Zl and Zp), lone surrogates; they become a space.
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# Invisible ones that reorder the text around them (UAX 9) or hide something in a word. The joiners U+200C and U+200D
# stay: Telugu, Hindi and Urdu need them.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
# What mail clients turn into a link: a scheme, or a dot inside a word before a letter, in any script. IDNA has four
# dots. A letter alone, as in "e.g.", is no top-level domain.
_SCHEME = re.compile(r":(?=//)")
_DOMAIN_DOT = re.compile(r"(?<=[^\s.])([.\u3002\uff0e\uff61])(?=[\u200c\u200d]*[^\W\d_][^\s.,;:!?)\]])")


def harmless(text: str) -> str:
    """One line, in the order in which it is read, that no mail client turns into a link: `evil.example` gets a space.

    Otherwise whoever registers somebody else's address could send that person a link, by taking it as first name.
    """
    line = " ".join(_INVISIBLE.sub("", _BREAKS.sub(" ", text)).split())
    return _DOMAIN_DOT.sub(r"\1 ", _SCHEME.sub(": ", line))


def harmless_values(value: Any) -> Any:
    """`value` with every text in it made harmless."""
    match value:
        case str():
            return harmless(value)
        case Mapping():
            return {key: harmless_values(part) for key, part in value.items()}
        case list() | tuple():
            return [harmless_values(part) for part in value]
    return value
