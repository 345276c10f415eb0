"""SMS texts: the GSM 7-bit alphabet (3GPP TS 23.038), and how many messages a text takes."""

from math import ceil

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklm"
    "nopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("^{}\\[~]|€\f")
"""Characters that take two places."""
_PLAIN = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u20b9": "Rs ",
        "\u00a0": " ",
        "`": "'",
    }
)
"""Quotation marks, dashes, the ellipsis, the rupee sign and the no-break space."""


def plain(text: str) -> str:
    """`text` with typographic characters replaced: one that GSM lacks halves what fits into a message."""
    return text.translate(_PLAIN)


def length(text: str) -> int:
    """The places that a text takes: septets in the GSM alphabet, otherwise UTF-16 units."""
    if is_gsm(text):
        return sum(2 if character in _EXTENDED else 1 for character in text)
    return len(text.encode("utf-16-le")) // 2


def messages(text: str) -> int:
    """The messages that a provider charges: 160 septets or 70 units fit into one, 153 or 67 into each of several."""
    one, each = (160, 153) if is_gsm(text) else (70, 67)
    size = length(text)
    return 1 if size <= one else ceil(size / each)


def is_gsm(text: str) -> bool:
    return _BASIC.union(_EXTENDED).issuperset(text)
