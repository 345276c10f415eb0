"""Correcting misspelled words by the vocabulary of what is listed."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.postgres import Database
from adapters.search.spelling import corrected, corrections, in_use
from domain.edit_distance import edit_distance
from tests.projections.test_search import project
from tests.samples import new_id, new_tenant
from tests.search_model import event_of, listed


@pytest.fixture
async def vocabulary(all_tenants: Database, tenant: str) -> str:
    """A tenant with listings in some localities, Kondapur more than others."""
    chance = random.Random(1)
    places = ["Kondapur"] * 3 + ["Kandapur", "Gachibowli", "Ameerpet", "Meerpet", "Uppal", "Jubilee Hills"]
    cards = [listed(chance, n, location=place, title="A flat", address=None) for n, place in enumerate(places)]
    await project(all_tenants, [event_of(card, tenant) for card in cards])
    return tenant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gachibowlli", "gachibowli"),
        ("Gachbowli", "gachibowli"),
        ("gachiboiwl", "gachibowli"),  # two errors
        ("kondaupr", "kondapur"),
        ("kndapur", "kondapur"),  # also one error from Kandapur, where less is listed
        ("uppla", "uppal"),
        ("hlils", "hills"),  # shares no trigram
        ("jubille hill", "jubilee hill"),
        ("ameerpet", "ameerpet"),
        ("meerpet", "meerpet"),
        ("3bhk in gachibowlli, near uppal", "3bhk in gachibowli, near uppal"),
        ("upl", "upl"),  # too short to guess
        ("zanzibar", "zanzibar"),
        ("50003", "50003"),
        ("' OR 1=1 --", "' OR 1=1 --"),
    ],
)
async def test_misspelled_words_become_listed_ones(database: Database, vocabulary: str, typed: str, meant: str) -> None:
    async with database.statements(vocabulary) as connection:
        assert await corrected(connection, typed) == meant


async def test_what_one_owner_writes_is_corrected_by_what_many_write_and_what_several_write_is_not(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    chance, owner = random.Random(1), new_id()
    n = 0

    async def list_in(place: str, count: int, **given: Any) -> None:
        nonlocal n
        cards = [
            listed(
                chance,
                n := n + 1,
                title="A flat",
                description="A home to live in.",
                address=None,
                location=place,
                **given,
            )
            for _ in range(count)
        ]
        await project(all_tenants, [event_of(card, tenant) for card in cards])

    async def read(text: str) -> tuple[str, bool]:
        async with database.statements(tenant) as connection:
            return await corrected(connection, text), text in await in_use(connection, text)

    await list_in("Kondapur", 60)
    await list_in("Kondaupr", 6, ownerId=owner)
    await list_in("Kondapar", 2)
    assert await read("kondaupr") == ("kondapur", False), "six listings of one owner"
    assert await read("kondapar") == ("kondapur", False), "two owners"
    assert await read("kondapur") == ("kondapur", True)

    await list_in("Kondaupr", 2)
    assert await read("kondaupr") == ("kondaupr", True), "three owners"


async def test_name_that_one_owner_has_is_not_corrected_by_a_word_as_rare(
    database: Database, all_tenants: Database, tenant: str
) -> None:
    chance = random.Random(1)
    places = ["Bhoojapur"] + ["Bhoolapur"] * 4
    cards = [
        listed(chance, n, title="A flat", description="A home to live in.", location=place)
        for n, place in enumerate(places)
    ]
    await project(all_tenants, [event_of(card, tenant) for card in cards])

    async with database.statements(tenant) as connection:
        assert await corrected(connection, "bhoojapur") == "bhoojapur"


async def test_words_of_other_tenants_correct_nothing(database: Database, vocabulary: str) -> None:
    async with database.statements(new_tenant()) as connection:
        assert await corrections(connection, "gachibowlli kondaupr") == {}


@given(a=st.text("abc", max_size=8), b=st.text("abc", max_size=8))
def test_distance_is_symmetric_and_bounded(a: str, b: str) -> None:
    errors = edit_distance(a, b, 20)

    assert errors == edit_distance(b, a, 20)
    assert abs(len(a) - len(b)) <= errors <= max(len(a), len(b))
    assert (errors == 0) == (a == b)
    assert edit_distance(a, b, 2) == min(errors, 3)


def test_swapped_letters_are_one_error() -> None:
    assert edit_distance("kondaupr", "kondapur", 2) == 1
