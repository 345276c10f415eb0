"""The words, numbers and signs of what somebody has typed, with the places where they stand."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from domain.words import without_accents

_TOKEN = re.compile(
    r"[0-9]+(?:,[0-9]{2,3})*(?:\.[0-9]+)?"  # 1200, 1,20,00,000, 1.25
    r"|(?:[^\W\d_]|[\u0300-\u036f\u0900-\u0dff\u200c\u200d])+(?:['\u2019][a-z]+)?"  # a word in any script
    r"|[₹+/,<>=~&\u2013\u2014-]"
)
_NUMBERS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "single": "1", "double": "2", "triple": "3", "half": "0.5",
    "eleven": "11", "twelve": "12", "fifteen": "15",
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip

_UNITS = frozenset("123456789")


@dataclass
class Tokens:
    """A text as tokens. `line` joins them with single spaces, in lower case and without accents, for patterns."""

    text: str
    spans: list[tuple[int, int]]
    words: list[str]
    line: str
    _starts: list[int]

    @classmethod
    def of(cls, text: str, correct: Callable[[str], str] = str) -> "Tokens":
        """Number words are digits, dashes are hyphens, numbers have no commas. `correct` may change a word."""
        spans: list[tuple[int, int]] = []
        words: list[str] = []
        tens = 0
        for found in _TOKEN.finditer(text):
            plain = _plain(found.group())
            if tens and plain in _UNITS:
                # `twenty five` is one number.
                spans[-1] = spans[-1][0], found.end()
                words[-1] = str(tens + int(plain))
                tens = 0
                continue
            tens = _TENS.get(plain, 0)
            if word := str(tens) if tens else correct(plain):
                spans.append(found.span())
                words.append(word)
        starts = list(accumulate((len(word) + 1 for word in words), initial=0))[: len(words)]
        return cls(text, spans, words, " ".join(words), starts)

    def between(self, start: int, end: int) -> range:
        """The tokens at these places of `line`."""
        return range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, max(start, end - 1)))

    def place(self, token: int) -> int:
        """Where a token begins in `line`."""
        return self._starts[token]

    def end(self, token: int) -> int:
        """Where a token ends in `line`."""
        return self._starts[token] + len(self.words[token])

    def original(self, tokens: range) -> str:
        """The text of a run of tokens as it was typed."""
        return self.text[self.spans[tokens.start][0] : self.spans[tokens.stop - 1][1]]


def _plain(token: str) -> str:
    if token[0].isdigit():
        return token.replace(",", "")
    if not token.isascii():
        if token in "\u2013\u2014":
            return "-"
        token = without_accents(token).replace("\u2019", "'")
    token = token.lower().replace("'", "")
    return _NUMBERS.get(token, token)
