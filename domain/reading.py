"""Reads what people type into a search: `2 bhk gachibowli under 1 cr` becomes filters, and the words that are none.

Every filter keeps the words that it was read from, so that a client can show it and take it away. What is not
understood stays as terms, and so does what somebody does not want: `not kondapur`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from domain.edit_distance import edit_distance
from domain.gazetteer import Gazetteer, Locality
from domain.interpretation import RANGES, Interpretation
from domain.property import ListingType, PropertyType
from domain.quantities import AREA, MONEY, Meaning, Quantity
from domain.reading_patterns import distances_in, found_in, is_measured
from domain.reading_words import CITY, CORRECT, FILLERS, NEGATIONS, ORDINARY, PHRASES
from domain.search import SearchFilters
from domain.tokens import Tokens

AN_AMOUNT = 5_000
"""Rupees from which on a number without a unit is money, beside a word such as `under` or in a search for rent."""
A_PRICE = 1_000_000
"""Rupees from which on an amount is the price of a sale."""
A_RENT = 200_000
"""Rupees up to which an amount is the rent of a month."""
A_HOME_RENT = 8_000
"""Rupees from which on a plain number beside bedrooms is their rent: few homes have so many square feet."""

_LIMITS = {"min_price": 10**12, "max_price": 10**12, "min_area": 10**8, "max_area": 10**8}
"""Larger values are none that a filter may have."""
_MOST_VALUES = 20
_LONGEST_PHRASE = max(map(len, PHRASES))
_LONGEST_MISTAKE = 3
_COMPARED = frozenset({"more", "less", "above", "below", "under", "over", "exceeding"})
_A_RATE = re.compile(r" (?:per|/|an?|each) (?:sq|sft|square|yard|yd|gaj|acre|gunta)")
_OTHER_MONEY = r"(?:deposit|advance|emi|maintenance|token|loan)"
_OTHER_MONEY_BEFORE = re.compile(rf"(?<!\S){_OTHER_MONEY}(?: of| is)? $")
_OTHER_MONEY_AFTER = re.compile(rf" (?:as )?{_OTHER_MONEY}(?!\S)")
_IN_LAKHS = range(20, 1_000)
"""Numbers that, without a unit, are lakhs of a price or thousands of a rent."""
_PINCODE = re.compile(r"50\d{4}")
_CLOSED = "|"
"""In place of a word that is no longer to be read."""


def read_text(
    text: str, gazetteer: Gazetteer, listed: Collection[str] = frozenset(), unstated: Collection[str] = frozenset()
) -> Interpretation:
    """Read what somebody typed. Words that people use (`listed`, in lower case) are not taken for misspelled.

    Amenities that are `unstated` stay terms.
    """

    def corrected(word: str) -> str:
        known = len(word) < 4 or word in ORDINARY or word in gazetteer.words or word in listed
        return word if known else _corrected(word)

    reader = _Reader(Tokens.of(text, corrected), gazetteer, unstated)
    reader.keep_negations()
    reader.read_patterns()
    reader.read_area()
    reader.read_money()
    reader.read_names()
    reader.read_misspelled_localities(listed)
    reader.read_plain_numbers()
    reader.settle_localities()
    reader.tell_sale_from_rent()
    return reader.interpretation()


@lru_cache(maxsize=4_096)
def _corrected(word: str) -> str:
    """The word of CORRECT that is a letter away, or the same word."""
    near = [known for known in CORRECT if known[0] == word[0] and edit_distance(word, known, 1) == 1]
    return min(near, key=lambda known: (len(known), known)) if near else word


@dataclass
class _Place:
    """Words that name a locality."""

    found: list[Locality]
    """The places of that name, the likeliest first."""
    tokens: range


class _Reader:
    """What is read of a text so far. Each step reads what the earlier ones have left."""

    def __init__(self, tokens: Tokens, gazetteer: Gazetteer, unstated: Collection[str]) -> None:
        self._tokens = tokens
        self._gazetteer = gazetteer
        self._unstated = frozenset(unstated)
        self._words = list(tokens.words)
        self._line = tokens.line
        self._read_tokens: set[int] = set()
        self._kept_tokens: set[int] = set()
        self._values: dict[str, Any] = {}
        self._from: dict[str, dict[str, None]] = {}
        self._places: list[_Place] = []

    def keep_negations(self) -> None:
        """Keep what follows `no` or `not` among the terms."""
        words = self._words
        for i, word in enumerate(words[:-1]):
            after = words[i + 1]
            if word not in NEGATIONS or after[0].isdigit() or after in _COMPARED or self._phrase(i):
                continue
            j = i + 1
            while j + 1 < len(words) and words[j] in FILLERS - CITY:
                j += 1
            phrase, place = self._phrase(j), self._gazetteer.match(words, j)
            self._keep(range(i, max(j + 1, phrase[0] if phrase else 0, place[1] if place else 0)))

    def read_patterns(self) -> None:
        """Read rooms, floors, age, directions and the sides of a plot; leave out how near to a place."""
        for start, end in distances_in(self._line):
            tokens = self._tokens.between(start, end)
            self._close(tokens)
            self._read_tokens.update(tokens)
        for found in found_in(self._line):
            self._read(self._tokens.between(found.start, found.end), found.values)

    def read_area(self) -> None:
        """Read numbers with a unit of area. A single one is what the area should be about."""
        for area in AREA.quantities(self._line):
            if area.has_unit:
                about = area.meaning in (Meaning.EXACTLY, Meaning.ABOUT)
                low, high = area.around if about else (area.low, area.high)
                self._read_bounds(area, "area", low, high)

    def read_money(self) -> None:
        """Read amounts with a unit or a word such as `under`. A single one is the most that somebody wants to pay."""
        for amount in MONEY.quantities(self._line):
            if not amount.has_unit and (amount.meaning is Meaning.EXACTLY or amount.low < AN_AMOUNT):
                continue
            before, after = self._line[: amount.start], self._line[amount.end :]
            if _A_RATE.match(after) or _OTHER_MONEY_BEFORE.search(before) or _OTHER_MONEY_AFTER.match(after):
                self._keep(self._tokens.between(amount.start, amount.end))
                continue
            low, high = amount.around if amount.meaning is Meaning.ABOUT else (amount.low, amount.high)
            self._read_bounds(amount, "price", low, high)

    def read_names(self) -> None:
        """Read localities and the phrases for other filters: of those that begin at a word, the longest."""
        i = 0
        while i < len(self._words):
            phrase, place = self._phrase(i), self._gazetteer.match(self._words, i)
            if place and place[1] == i + 1 and self._words[i] in ORDINARY:
                place = None
            if place and (phrase is None or place[1] > phrase[0]):
                self._add_place(place[0], range(i, place[1]))
                i = place[1]
            elif phrase:
                end, (field, values) = phrase
                if field == "amenities" and not self._unstated.isdisjoint(values):
                    self._keep(range(i, end))
                else:
                    self._read(range(i, end), {field: True if field == "rera" else values})
                i = end
            else:
                i += 1

    def read_misspelled_localities(self, listed: Collection[str]) -> None:
        """Read words that are near to the name of a locality, unless listings have them."""
        words = self._words
        for i in range(len(words)):
            for end in range(min(len(words), i + _LONGEST_MISTAKE), i, -1):
                run = words[i:end]
                if not all(word.isalpha() for word in run) or {run[0], run[-1]} & ORDINARY:
                    continue
                if all(word in listed for word in run):
                    continue
                if found := self._gazetteer.corrected(" ".join(run)):
                    self._add_place(found, range(i, end))
                    break

    def read_plain_numbers(self) -> None:
        """Read postal codes, and amounts that nothing but their size tells."""
        kinds = set(self._values.get("listing_type", ()))
        lets = bool({ListingType.RENT, ListingType.PG} & kinds)
        for limit in MONEY.quantities(self._line):
            if limit.meaning in (Meaning.AT_MOST, Meaning.AT_LEAST) and not limit.has_unit and limit.low in _IN_LAKHS:
                self._read_limit(limit, 1_000 if lets else 100_000)
        for i, word in enumerate(self._words):
            if _PINCODE.fullmatch(word):
                self._read(range(i, i + 1), {"pincode": (word,)})
            elif word.isascii() and word.isdigit():
                amount = int(word)
                is_rent = "bedrooms" in self._values and not kinds and A_HOME_RENT <= amount <= A_RENT
                if is_rent or amount >= (AN_AMOUNT if lets else A_PRICE):
                    self._read(range(i, i + 1), {"max_price": amount})

    def _read_limit(self, limit: Quantity, unit: int) -> None:
        """Read the unit that everybody knows into `2 bhk under 80`, but for `within 20 minutes`."""
        if is_measured(self._line[limit.end :]) or not self._values:
            return
        low = limit.low * unit
        self._read_bounds(replace(limit, low=low, high=low), "price", low, low)

    def settle_localities(self) -> None:
        """Choose between places of one name, and leave out the bigger place in which a smaller one is."""
        named = {locality.name for place in self._places for locality in place.found}
        for place in self._places:
            inside = [locality for locality in place.found if locality.parent in named]
            place.found = inside if len(place.found) > 1 and inside else place.found
        for place in self._places:
            small = next((other for other in self._places if self._is_within(other, place)), None)
            locality = (small or place).found[0]
            self._set("location", (locality.label,), self._tokens.original(place.tokens))

    def _is_within(self, small: _Place, big: _Place) -> bool:
        """Whether the text names a place and beside it the bigger one around it: `kphb, kukatpally`."""
        if small.found[0].parent != big.found[0].name:
            return False
        if small.found[0].label != small.found[0].name:
            return True
        between = self._tokens.words[small.tokens.stop : big.tokens.start]
        return small.tokens.stop <= big.tokens.start and all(word in {",", "-", "in", "near"} for word in between)

    def tell_sale_from_rent(self) -> None:
        """An amount of lakhs and crores is a price, one of thousands a rent, if nothing else tells."""
        amount = self._values.get("max_price") or self._values.get("min_price")
        if amount is None or "listing_type" in self._values:
            return
        words = next(iter(self._from.get("max_price") or self._from["min_price"]))
        if amount >= A_PRICE:
            self._set("listing_type", (ListingType.SALE,), words)
        elif amount <= A_RENT and PropertyType.PLOT not in self._values.get("property_type", ()):
            self._set("listing_type", (ListingType.RENT,), words)

    def interpretation(self) -> Interpretation:
        """The filters, and the terms without words that ask for nothing."""
        return Interpretation(
            SearchFilters(**self._values),
            tuple(
                self._tokens.text[slice(*self._tokens.spans[i])] for i in range(len(self._words)) if self._is_term(i)
            ),
            {field: tuple(words) for field, words in self._from.items()},
        )

    def _is_term(self, i: int) -> bool:
        if i in self._read_tokens or not self._tokens.words[i][0].isalnum():
            return False
        if i in self._kept_tokens:
            return True
        words = self._tokens.words
        if words[i : i + 2] == ["my", "home"] or words[max(0, i - 1) : i + 1] == ["my", "home"]:
            return True  # a builder
        after_city = i > 0 and words[i] == "city" and words[i - 1] in CITY
        return words[i] not in FILLERS and not after_city

    def _phrase(self, start: int) -> tuple[int, tuple[str, tuple[str, ...]]] | None:
        """Where the longest phrase from a word on ends, and what it means."""
        for end in range(min(len(self._words), start + _LONGEST_PHRASE), start, -1):
            if meaning := PHRASES.get(tuple(self._words[start:end])):
                return end, meaning
        return None

    def _add_place(self, found: list[Locality], tokens: range) -> None:
        self._places.append(_Place(found, tokens))
        self._close(tokens)
        self._read_tokens.update(tokens)

    def _read_bounds(self, quantity: Quantity, name: str, low: int, high: int) -> None:
        values = {f"min_{name}": low, f"max_{name}": high}
        if quantity.meaning is Meaning.AT_LEAST:
            del values[f"max_{name}"]
        elif quantity.meaning is Meaning.AT_MOST or (quantity.meaning is Meaning.EXACTLY and name == "price"):
            del values[f"min_{name}"]
        self._read(self._tokens.between(quantity.start, quantity.end), values)

    def _read(self, tokens: range, values: Mapping[str, Any]) -> None:
        """Read filters from tokens, unless that contradicts what was read before."""
        if not all(self._fits(field, value) for field, value in values.items()):
            self._keep(tokens)
            return
        self._close(tokens)
        self._read_tokens.update(tokens)
        for field, value in values.items():
            self._set(field, value, self._tokens.original(tokens))

    def _fits(self, field: str, value: Any) -> bool:
        known = self._values.get(field)
        if isinstance(value, tuple):
            return len(known or ()) + len(value) <= _MOST_VALUES
        if known not in (None, value) or (field in _LIMITS and not 0 < value <= _LIMITS[field]):
            return False
        end, _, name = field.partition("_")
        other = self._values.get(f"{'max' if end == 'min' else 'min'}_{name}") if name in RANGES else None
        return other is None or (value <= other if end == "min" else value >= other)

    def _set(self, field: str, value: Any, words: str) -> None:
        if isinstance(value, tuple):
            known = self._values.get(field, ())
            # `direct owner, no broker` is not from a builder.
            both = tuple(each for each in value if each in known) if field == "posted_by" else ()
            value = both or tuple(dict.fromkeys((*known, *value)))
        self._values[field] = value
        self._from.setdefault(field, {})[words] = None

    def _keep(self, tokens: range) -> None:
        """Close tokens to reading and leave them among the terms."""
        self._close(tokens)
        self._kept_tokens.update(tokens)

    def _close(self, tokens: range) -> None:
        start, end = self._tokens.place(tokens.start), self._tokens.end(tokens.stop - 1)
        self._line = self._line[:start] + "\0" * (end - start) + self._line[end:]
        for i in tokens:
            self._words[i] = _CLOSED
