"""Similar and recommended listings, on a small made set."""

from typing import Any
from uuid import UUID

from domain.property import ListingType
from domain.recommending import (
    Candidate,
    Home,
    Interest,
    ReasonKind,
    likeness,
    popular,
    queries_for,
    queries_of,
    recommended,
    similar,
)
from domain.search import SearchFilters, Sort

OWNER = UUID(int=1)


def home(n: int, **more: Any) -> Home:
    """A flat in Kondapur, but for `more`."""
    listing = {
        "id": str(UUID(int=1000 + n)),
        "ownerId": str(OWNER),
        "title": f"Flat {n}",
        "location": "Kondapur",
        "propertyType": "APARTMENT",
        "listingType": "SALE",
        "price": 9_000_000,
        "bedrooms": 3,
        "areaSqft": 1500,
        "latitude": 17.46,
        "longitude": 78.36,
        **more,
    }
    return Home.of(listing)


FLAT = home(0)
NEXT_DOOR = home(1, latitude=17.461)
SMALLER = home(2, bedrooms=2, areaSqft=1100, price=6_500_000)
PENTHOUSE = home(3, price=40_000_000, bedrooms=5, areaSqft=6000)
FAR = home(4, location="Uppal", latitude=17.40, longitude=78.56)
FAR_VILLA = home(5, location="Uppal", latitude=17.40, longitude=78.56, propertyType="VILLA", price=30_000_000)
UNPLACED = home(6, latitude=None, longitude=None)


def ids(*homes: Home) -> list[UUID]:
    return [one.id for one in homes]


def test_nearer_cheaper_and_smaller_differences_make_listings_more_similar() -> None:
    ranked = [NEXT_DOOR, SMALLER, FAR, FAR_VILLA]

    scores = [likeness(FLAT, one) for one in ranked]

    assert scores == sorted(scores, reverse=True)
    assert likeness(FLAT, FLAT) == 1
    assert min(scores) >= 0
    assert likeness(FLAT, NEXT_DOOR) > likeness(FLAT, PENTHOUSE) > likeness(FLAT, FAR_VILLA)


def test_similar_listings_are_ranked_with_reasons_without_the_listing_itself_and_those_of_the_viewer() -> None:
    own = home(7, ownerId=str(UUID(int=2)))

    found = similar(FLAT, [FAR, FLAT, NEXT_DOOR, own, SMALLER, UNPLACED, NEXT_DOOR], 4, UUID(int=2))

    assert [id for id, _ in found] == ids(NEXT_DOOR, UNPLACED, SMALLER, FAR)
    reasons = dict(found)
    assert (reasons[NEXT_DOOR.id].kind, reasons[NEXT_DOOR.id].text) == (ReasonKind.NEARBY, "0.1 km away")
    assert (reasons[UNPLACED.id].kind, reasons[UNPLACED.id].text) == (ReasonKind.SAME_LOCALITY, "Also in Kondapur")
    assert reasons[SMALLER.id].text == "0.1 km away, ₹25,00,000 less"
    assert (reasons[FAR.id].kind, reasons[FAR.id].text) == (ReasonKind.SIMILAR, "Similar price and size")
    assert {reason.property_id for _, reason in found} == {FLAT.id}
    assert len(similar(FLAT, [FAR, NEXT_DOOR, SMALLER], 2)) == 2


def test_candidates_are_searched_around_in_the_locality_and_elsewhere_for_the_same_deal() -> None:
    locality, around, elsewhere = queries_for(FLAT)

    assert {query.listing_type for query in (locality, around, elsewhere)} == {(ListingType.SALE,)}
    assert (locality.location, set(locality.property_type)) == (("Kondapur",), {"APARTMENT", "STUDIO"})
    assert (around.near, around.sort, around.min_price, around.max_price) == (
        FLAT.at,
        Sort.DISTANCE,
        6_000_000,
        13_500_000,
    )
    assert (elsewhere.bedrooms, elsewhere.near, elsewhere.location) == (("3",), None, ())
    assert len(queries_for(UNPLACED)) == 2


def test_each_interest_has_its_turn_and_says_so() -> None:
    searched = SearchFilters(location=("Uppal",))
    interests = [
        Interest(ReasonKind.FAVORITE, 1.0, FLAT),
        Interest(ReasonKind.SEARCHED, 0.8, filters=searched, name="Near Uppal"),
        Interest(ReasonKind.VIEWED, 0.6, FAR_VILLA),
    ]
    near_flat = [home(20 + n, latitude=17.46 + n / 10_000) for n in range(8)]
    villa = home(40, location="Uppal", latitude=17.40, longitude=78.56, propertyType="VILLA", price=29_000_000)
    candidates = [*(Candidate(one, 0) for one in near_flat), Candidate(FAR, 1), Candidate(villa, 2), Candidate(FLAT, 0)]

    found = recommended(interests, candidates, 6, known={FLAT.id, FAR_VILLA.id})

    chosen = dict(found)
    assert len(found) == 6
    assert FLAT.id not in chosen
    assert chosen[near_flat[0].id].text == "Similar to your favourite: Flat 0"
    assert chosen[FAR.id].text == "Matches your saved search “Near Uppal”"
    assert (chosen[villa.id].kind, chosen[villa.id].property_id) == (ReasonKind.VIEWED, FAR_VILLA.id)
    assert found[0][1].kind is ReasonKind.FAVORITE
    assert queries_of(interests[1])[0].location == ("Uppal",)


def test_own_listings_are_not_recommended() -> None:
    interests = [Interest(ReasonKind.VIEWED, 1.0, FLAT)]

    assert recommended(interests, [Candidate(NEXT_DOOR)], 5, viewer=OWNER) == []
    assert popular([Candidate(NEXT_DOOR)], 5, viewer=OWNER) == []


def test_who_is_not_known_sees_the_most_viewed_then_the_newest() -> None:
    newest_first = [Candidate(home(n), views=views) for n, views in enumerate((0, 7, 0, 1, 30))]

    found = popular(newest_first, 4)

    assert [(id.int - 1000, reason.kind, reason.text) for id, reason in found] == [
        (4, ReasonKind.POPULAR, "Viewed 30 times"),
        (1, ReasonKind.POPULAR, "Viewed 7 times"),
        (0, ReasonKind.NEWEST, "Recently listed"),
        (2, ReasonKind.NEWEST, "Recently listed"),
    ]
