import pytest

from tests.relevance.judged import CRORE, Want, grade
from tests.relevance.listings import Made, made_listings
from tests.relevance.ndcg import ndcg
from tests.relevance.queries import QUERIES


def test_best_order_is_one_and_the_worst_of_the_first_ten_is_zero() -> None:
    assert ndcg([3, 2, 1, 0], [0, 1, 2, 3]) == 1
    assert ndcg([0] * 10 + [3], [3]) == 0


def test_a_good_result_counts_less_further_down() -> None:
    # (2^3 - 1) / log2(3) over (2^3 - 1) / log2(2)
    assert ndcg([0, 3], [3]) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg([2, 3], [3, 2]) == pytest.approx((3 + 7 / 1.58496) / (7 + 3 / 1.58496), abs=1e-4)


def test_what_is_left_out_costs() -> None:
    assert ndcg([3], [3, 3, 3]) == pytest.approx(1 / (1 + 0.63093 + 0.5), abs=1e-4)


def test_nothing_to_find_is_found() -> None:
    assert ndcg([], [0, 0]) == 1


def made(mentions: str = "", **facts: object) -> Made:
    plain = {"propertyType": "VILLA", "listingType": "SALE", "location": "Gachibowli", "price": CRORE, "amenities": []}
    return Made({**plain, "areaSqft": 3000, **facts}, "", frozenset({"garden"}), mentions)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (made(), 3),
        (made(price=int(1.05 * CRORE)), 2),
        (made(location="Kondapur"), 1),
        (made(location="Uppal", mentions="Gachibowli"), 1),
        (made(location="Uppal"), 0),
        (made(price=2 * CRORE), 0),
        (made(propertyType="PLOT"), 0),
    ],
)
def test_grades(listing: Made, expected: int) -> None:
    assert grade(listing, Want(location="Gachibowli", types=("VILLA",), most=CRORE, traits=("garden",))) == expected


def test_every_query_has_something_to_find() -> None:
    everything = list(made_listings())
    assert len(QUERIES) >= 60
    assert not [query for query, want in QUERIES.items() if not any(grade(each, want) for each in everything)]
    assert [each.facts for each in made_listings()] == [each.facts for each in everything], "the same for a seed"
