"""The strength of new passwords, estimated by zxcvbn: against common ones, patterns, and what belongs to the user."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from zxcvbn import matching, scoring

from api.errors import ApiError, FieldError

MIN_GUESSES = 10**8
"""Between zxcvbn's scores 2 and 3 of 4, so that eight random characters are enough. At argon2id's 0.1 s for each guess,
a stolen hash withstands one core for four months; limits of sign-in allow some thousand guesses a day."""

_ANALYSED = 24
"""Characters of one analysis, whose time grows with the square of the length: 24 take up to 8 ms.
The end of a longer password is analysed too; both are weak only if it is a repetition."""
_SUBSTITUTES = frozenset("".join(sub for subs in matching.L33T_TABLE.values() for sub in subs))
_MAX_SUBSTITUTES = 6
"""zxcvbn tries every combination of the substitutes (`4` for `a`) in a password: 20 of them take half a second. No
common password has more than 6."""
_MIN_WORD = 3
"""Shorter parts of a name are found in most passwords by chance."""

_COMMON = "It is one of the most common passwords, or close to one. Choose three or more unrelated words."
_OWN = "It is mostly your name, e-mail address or telephone number. Choose three or more unrelated words."
_REASONS: dict[str, str] = {
    "repeat": "It repeats characters or words. Choose three or more unrelated words.",
    "sequence": "It is a sequence, such as abc or 6543. Choose three or more unrelated words.",
    "spatial": "Its keys are neighbours on the keyboard. Choose three or more unrelated words.",
    "date": "It is mostly a date. Choose three or more unrelated words.",
    "regex": "It is mostly a year. Choose three or more unrelated words.",
}
"""By the pattern of the longest part that zxcvbn has found."""
_SHORT = "It is easy to guess. Add another word or two that have nothing to do with each other."


def check_strength(password: str, user_inputs: Iterable[str | None], field: str = "password") -> None:
    """Raises ApiError weak-password with the weakness as its detail and as the reason for `field`."""
    if weakness := weakness_of(password, user_inputs):
        raise ApiError("weak-password", weakness, errors=[FieldError(field=field, reason=weakness)])


def weakness_of(password: str, user_inputs: Iterable[str | None]) -> str | None:
    """Why a password is easy to guess, and what to do about it; None when it is not. It never contains the password.

    `user_inputs` are the names, addresses and numbers of the user. It computes for up to 15 ms.
    """
    ranked = _ranked(user_inputs)
    # Only what the user adds to their own words is hard to guess. zxcvbn counts each repetition of a word as new.
    longest_first = sorted(ranked, key=len, reverse=True)
    rest = re.sub("|".join(map(re.escape, longest_first)), "", password, flags=re.IGNORECASE) if ranked else password
    # A password is at least as strong as a part of it.
    parts = {part for part in (rest[:_ANALYSED], rest[-_ANALYSED:]) if part}
    analyses = [_analysis(part, {**matching.RANKED_DICTIONARIES, "user_inputs": ranked}) for part in parts]
    best = max(analyses, key=lambda analysis: float(analysis["guesses"]), default=None)
    if best is not None and best["guesses"] >= MIN_GUESSES:
        return None
    return _OWN if best is None or len(rest) <= len(password) / 2 else _reason(best["sequence"])


def _ranked(user_inputs: Iterable[str | None]) -> dict[str, int]:
    """Each input and its words, with its rank: the first is guessed first."""
    texts = [text.lower() for text in user_inputs if text]
    words = [word for text in texts for word in re.split(r"[\W_]+", text)]
    digits = [re.sub(r"\D", "", text)[-10:] for text in texts]
    found = [text for text in (*texts, *words, *digits) if len(text) >= _MIN_WORD]
    ranked: dict[str, int] = matching.build_ranked_dict(list(dict.fromkeys(found)))
    return ranked


def _analysis(password: str, dictionaries: dict[str, dict[str, int]]) -> dict[str, Any]:
    """zxcvbn's analysis. Not by its function `zxcvbn`, which keeps the user's inputs in a variable of its module: the
    threads would mix them up."""
    matchers = [
        matching.dictionary_match,
        matching.reverse_dictionary_match,
        matching.spatial_match,
        matching.repeat_match,
        matching.sequence_match,
        matching.regex_match,
        matching.date_match,
    ]
    if len(_SUBSTITUTES.intersection(password)) <= _MAX_SUBSTITUTES:
        matchers.append(matching.l33t_match)
    matches = [match for matcher in matchers for match in matcher(password, _ranked_dictionaries=dictionaries)]
    matches.sort(key=lambda match: (match["i"], match["j"]))
    analysis: dict[str, Any] = scoring.most_guessable_match_sequence(password, matches)
    return analysis


def _reason(sequence: Sequence[dict[str, Any]]) -> str:
    known = [match for match in sequence if match["pattern"] != "bruteforce"]
    longest = max(known, key=lambda match: len(match["token"]), default=None)
    if longest is None:
        return _SHORT
    if longest["pattern"] != "dictionary":
        return _REASONS[longest["pattern"]]
    if longest["dictionary_name"] == "user_inputs":
        return _OWN
    return _COMMON if longest["dictionary_name"] == "passwords" else _SHORT
