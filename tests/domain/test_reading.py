"""What people type becomes filters, and the words left over."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.gazetteer import hyderabad, locality_key
from domain.interpretation import changes_by_reading, read_before, with_filters_of
from domain.reading import read_text
from domain.search import SearchQuery, Sort
from tests.relevance.reading import queries

QUERIES = queries()


@pytest.mark.parametrize(("text", "filters", "terms"), QUERIES)
def test_query_is_read(text: str, filters: dict[str, Any], terms: str) -> None:
    read = read_text(text, hyderabad())
    assert read.filters.model_dump(mode="json", by_alias=True, exclude_defaults=True) == filters
    assert " ".join(read.terms) == terms


@pytest.mark.parametrize(("text", "filters", "terms"), QUERIES)
def test_each_filter_keeps_the_words_it_was_read_from(text: str, filters: dict[str, Any], terms: str) -> None:
    read = read_text(text, hyderabad())
    assert set(read.words) == set(read.filters.given)
    assert all(words and all(word in text for word in words) for words in read.words.values())


def test_a_filter_can_be_taken_away_by_its_words() -> None:
    text = "2 bhk gachibowli under 1 cr east facing"
    read = read_text(text, hyderabad())
    rest = read_text(text.replace(read.words["max_price"][0], ""), hyderabad())
    assert rest.filters == read.filters.without("max_price").without("listing_type")


def test_reading_what_was_read_changes_nothing() -> None:
    for text, _, _ in QUERIES:
        for name in read_text(text, hyderabad()).filters.location:
            again = read_text(name, hyderabad()).filters.location
            assert [locality_key(place) for place in again] == [locality_key(name)], text


def test_words_of_listings_are_not_taken_for_misspelled_ones() -> None:
    assert read_text("gachibwoli", hyderabad()).filters.location == ("Gachibowli",)
    assert read_text("gachibwoli", hyderabad(), {"gachibwoli"}).terms == ("gachibwoli",)


def test_amenity_that_no_listing_states_stays_text() -> None:
    typed = "pet friendly flat with gym"
    read = read_text(typed, hyderabad())

    left = read_text(typed, hyderabad(), unstated={"Pet friendly"})

    assert read.filters.amenities == ("Pet friendly", "Gymnasium")
    assert (left.filters.amenities, left.terms) == (("Gymnasium",), ("pet", "friendly"))


@given(st.text(max_size=80) | st.lists(st.sampled_from(" ".join(text for text, _, _ in QUERIES).split())).map(" ".join))
def test_any_text_is_read(text: str) -> None:
    read = read_text(text, hyderabad())
    assert set(read.words) == set(read.filters.given)
    assert all(term in text for term in read.terms)


@pytest.mark.parametrize("text", [text for text, _, _ in QUERIES])
def test_search_is_read_as_before_by_its_changes(text: str) -> None:
    asked = SearchQuery(q=text, sort=Sort.PRICE, pincode=("500032",), max_age=10)
    read, _ = with_filters_of(read_text(text, hyderabad()), asked)

    changes = orjson.loads(orjson.dumps(changes_by_reading(asked, read)))

    assert read_before(asked, changes) == read
    assert not {"pincode", "max_age"} & changes.keys()


def test_corrected_text_may_be_longer_than_one_that_is_sent() -> None:
    asked = SearchQuery(q="a" * 254)

    assert read_before(asked, {"q": "a" * 300}).q == "a" * 300
    assert read_before(asked, {"q": None}).q is None
