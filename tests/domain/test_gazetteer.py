"""Localities: spellings of one place meet, and places with names that are only alike stay apart."""

import csv
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.gazetteer import hyderabad, locality_key
from domain.place_names import spelling

GAZETTEER = hyderabad()
PLACES = Path("../shared/data/localities.csv")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HITEC City", "Hitech City"),
        ("Hi-tech city", "hiteccity"),
        ("Kukatpally", "Kukatpalli"),
        ("Gachi Bowli", "GACHIBOWLI"),
        ("Gachibowli, Hyderabad", "Gachibowli"),
        ("Gachibowli Hyderabad Telangana 500032", "Gachibowli"),
        ("Tukkuguda, Hyderabad - South, Andhra Pradesh", "Tukuguda"),
        ("K P H B Phase 4", "KPHB Colony"),
        ("Banjara Hills Road No 12", "Banjara Hills"),
        ("Sec-bad", "Secunderabad"),
        ("Trimulgherry", "Tirumalgiri"),
        ("L.B. Nagar", "Lal Bahadur Nagar"),
        ("Gaćhibowli", "Gachibowli"),
        ("Moti Nagar-Erragadda", "Motinagar"),
        ("Ananthagiri Pally", "ananthagiripalli"),  # known to no gazetteer
        ("Sree Laxmi Colony", "Sri laxmicolony"),
        ("Prestige High Fields, Financial District", "financial dist"),
    ],
)
def test_spellings_of_one_place_have_one_key(one: str, other: str) -> None:
    assert locality_key(one) == locality_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ameerpet", "Meerpet"),
        ("Lingampally", "Bagh Lingampally"),
        ("Hayathnagar", "Himayath Nagar"),
        ("East Marredpally", "West Marredpally"),
        ("Balaji Nagar", "Balanagar"),
        ("Bharat Nagar", "Bharati Nagar"),
        ("Kondapur", "Kondapur, Sangareddy"),
        ("Nallakunta", "New Nallakunta"),
        ("Amberpet", "Pedda Amberpet"),
        ("Bolarum", "Bollaram"),
        ("RK Puram", "RC Puram"),
        ("Hyderguda", "Hyder Nagar"),
        ("Madhapur", "Medipally"),
        ("Santosh Nagar", "Santosh Nagar-Mehdipatnam"),
    ],
)
def test_places_with_names_that_are_alike_have_different_keys(one: str, other: str) -> None:
    assert locality_key(one) != locality_key(other)


def test_a_point_tells_which_of_two_kondapurs_a_listing_is_in() -> None:
    near_hitec_city, near_sangareddy = (17.462, 78.357), (17.56, 78.01)
    assert locality_key("Kondapur", *near_hitec_city) == locality_key("Kondapur")
    assert locality_key("kondapur", *near_sangareddy) == locality_key("Kondapur (Sangareddy)")
    assert locality_key("Kondapur", 12.97, 77.59) == locality_key("Kondapur"), "a point far from both tells nothing"
    apart = [place.km_from(*near_hitec_city) for place in GAZETTEER.named("Kondapur")]
    assert apart[0] < 1
    assert 36 < apart[1] < 40


def test_a_name_without_any_latin_letter_has_a_key_of_its_own() -> None:
    assert locality_key("గచ్చిబౌలి") != locality_key("కొండాపూర్")


@given(st.text(max_size=40))
def test_every_text_has_a_key_that_is_its_own_key(text: str) -> None:
    key = locality_key(text)
    assert isinstance(key, str)
    assert locality_key(f" {text.upper()} ") == locality_key(text.upper())


def test_each_locality_is_found_by_each_of_its_names_and_has_a_key_of_its_own() -> None:
    assert len(GAZETTEER.localities) >= 250
    keys = Counter(locality.key for locality in GAZETTEER.localities)
    assert keys.most_common(1)[0][1] == 1
    for locality in GAZETTEER.localities:
        assert GAZETTEER.label(locality.key) == locality.label
        assert locality_key(locality.label) == locality.key
        assert locality in GAZETTEER.named(locality.name)
        if locality.parent:
            assert locality_key(f"{locality.name}, {locality.parent}") == locality.key


def test_an_unknown_place_is_shown_by_its_name() -> None:
    key = locality_key("12th road of sunshine-park")
    assert GAZETTEER.label(key) == "12th Road Of Sunshine Park"
    assert locality_key(GAZETTEER.label(key)) == key


def test_only_namesakes_share_a_spelling() -> None:
    for one, other in combinations(GAZETTEER.localities, 2):
        if spelling(one.name.lower()) == spelling(other.name.lower()):
            assert one.name == other.name
            assert one.km_from(other.latitude, other.longitude) > 2


def test_each_place_is_near_its_parent_and_near_hyderabad() -> None:
    names = {locality.name: locality for locality in reversed(GAZETTEER.localities)}
    for locality in GAZETTEER.localities:
        assert locality.km_from(17.385, 78.4867) < 110, locality
        if locality.parent:
            parent = names[locality.parent]
            assert locality.km_from(parent.latitude, parent.longitude) < 25, locality


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gachibwoli", "Gachibowli"),
        ("madhpaur", "Madhapur"),
        ("jubile hils", "Jubilee Hills"),
        ("hitech cty", "HITEC City"),
        ("bachuplly", "Bachupally"),
        ("shamshbad", "Shamshabad"),
        ("ampeerpet", "Ameerpet"),
    ],
)
def test_a_misspelled_name_is_corrected(typed: str, meant: str) -> None:
    assert [place.name for place in GAZETTEER.corrected(typed)][:1] == [meant]


@pytest.mark.parametrize(
    "name",
    [
        "aparna",
        "prestige",
        "rajapushpa",
        "vasavi",
        "sumadhura",
        "ramky",
        "brigade",
        "lansum",
        "warangal",
        "pune",
        "luxury",
    ],
)
def test_a_name_that_is_no_locality_is_not_corrected_to_one(name: str) -> None:
    assert GAZETTEER.corrected(name) == []


def test_the_first_letter_is_never_corrected() -> None:
    assert [place.name for place in GAZETTEER.named("Meerpet")] == ["Meerpet"]
    assert spelling("ameerpet") != spelling("meerpet")
    assert all(place.name != "Ameerpet" for place in GAZETTEER.corrected("meerpett"))


@pytest.mark.skipif(not PLACES.exists(), reason="needs the places of ../shared/data")
def test_places_of_other_sources_are_where_the_gazetteer_has_them() -> None:
    with PLACES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["suspect"]]
    known = [(row, GAZETTEER.named(row["name"])) for row in rows]
    found = [(row, places) for row, places in known if places]
    near = [
        row
        for row, places in found
        if min(place.km_from(float(row["latitude"]), float(row["longitude"])) for place in places) < 3
    ]
    assert len(found) > 0.85 * len(rows)
    assert len(near) > 0.95 * len(found)
