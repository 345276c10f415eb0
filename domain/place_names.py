"""How the names of places are spelt: what differs between two ways to write one, and what is added to it.

The names come from Telugu, Urdu and Hindi, so each is written in many ways: Kukatpally and Kukatpalli, HITEC City and
Hi-tech City. `spelling` leaves out what differs between them.
"""

import re
import unicodedata
from functools import lru_cache

from domain.words import without_accents

# Vowel signs of the scripts of India are no letters to `\w`.
_NOT_WORDS = re.compile(r"(?:[^\w\u0900-\u0dff]|_)+")
_CITY = frozenset({"hyderabad", "hyd", "telangana", "ts", "tg", "india", "andhra", "pradesh", "ap"})
_SIDES = frozenset({"north", "south", "east", "west", "central"})
_WRITTEN_OUT = {"rd": "road", "ngr": "nagar", "clny": "colony", "vlg": "village"}
_ADDED = re.compile(
    r" (?:phase|road|sector|block|street|lane|stage)(?: no| number)? ?(?:\d+[a-z]?|[ivx]+)\b"
    r"| \d+(?:st|nd|rd|th)? phase\b| (?:main road|road|village|town|mandal|area|metro station)$"
)
"""Does not make it the name of another place."""
_PHONETIC = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        ("ch", "C"),
        ("(?<=[bdgjkpst])h", ""),  # aspirates: Mothi Nagar is Moti Nagar
        ("c(?=[eiy])", "s"),
        ("ck|q|c(?=[aoulr])", "k"),
        ("w", "v"),
        ("z", "j"),
        ("ee", "i"),
        ("oo", "u"),
        ("[ao][uv](?![aeiou])", "o"),
        ("(?<=[^aeiou])(?:ey?$|y)", "i"),
        (r"([^\d])\1+", r"\1"),
    )
)
_SHORT_A = re.compile("(?<=.)a")
"""The short a between consonants is written or not: Nanakaramguda and Nanakramguda."""
_COMMONEST = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"pall[ie]\b", "pally"),
        (r"gudda\b", "guda"),
        (r"peta\b", "pet"),
        (r"poor\b", "pur"),
        (r"\b(?:shri|sree|shree)\b", "sri"),
        (r"(?<=[a-z]{3})(?=(?:nagar|colony|pally|guda|puram)\b)", " "),
    )
)
_REPEATED = re.compile(r"([^\d])\1+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without accents and punctuation."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", without_accents(text))
    return _NOT_WORDS.sub(" ", text.casefold().replace("'", "").replace("\u2019", "")).split()


@lru_cache(maxsize=16_384)
def spelling(name: str) -> str:
    """What all ways to write a name have in common; `name` is in lower case, its spaces count for nothing.

    Two names with the same spelling are taken for one.
    """
    sound = name.replace(" ", "")
    for pattern, by in _PHONETIC:
        sound = pattern.sub(by, sound)
    short = _REPEATED.sub(r"\1", _SHORT_A.sub("", sound))
    if len(short) < 4:
        return sound.lower()
    return (short[:-1] if len(short) > 5 and short.endswith("s") else short).lower()


def without_city(part: str) -> str:
    """A part of an address, in lower case, without city, state and postal code; empty if there is nothing else."""
    words = [_WRITTEN_OUT.get(word, word) for word in words_of(part)]
    rest = [word for word in words if word not in _CITY and not re.fullmatch(r"\d{6}", word)]
    if len(rest) < len(words) and all(word in _SIDES for word in rest):
        return ""  # `Hyderabad - South` is no locality
    return " ".join(rest)


def without_additions(name: str) -> str:
    """The name of a locality without what is added to it: `KPHB Phase 4`, `Banjara Hills Road No 12`."""
    return _ADDED.sub("", name)


def readable(name: str) -> str:
    """The name of an unknown locality without the commonest differences: `Shree Sainagar` is `Sri Sai Nagar`."""
    for pattern, by in _COMMONEST:
        name = pattern.sub(by, name)
    return name


def errors_in(name: str) -> int:
    """How many errors are corrected in a spelling, which has few vowels."""
    return 0 if len(name) < 5 else 1 if len(name) < 8 else 2


def shortened(name: str, letters: int) -> set[str]:
    """The name, and what is left of it without up to so many letters."""
    found = last = {name}
    for _ in range(letters):
        last = {longer[:i] + longer[i + 1 :] for longer in last for i in range(len(longer))}
        found = found | last
    return found
