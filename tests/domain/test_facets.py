from hypothesis import given
from hypothesis import strategies as st

from domain.facets import OWN_FILTERS, PRICE_BANDS, Facet, price_band, relaxations, relaxed, under_other_filters
from domain.geometry import Point
from domain.search import Relaxation, SearchFilters, Total

ASKED = SearchFilters.model_validate(
    {"q": "lake", "propertyType": ["VILLA"], "minBedrooms": 3, "bedrooms": ["4+"], "minPrice": 5, "maxPrice": 9}
)


def test_each_facet_is_counted_without_its_own_filters() -> None:
    assert under_other_filters(ASKED, Facet.PRICE).given.keys() == {"q", "property_type", "bedrooms", "min_bedrooms"}
    assert under_other_filters(ASKED, Facet.BEDROOMS).given.keys() == {"q", "property_type", "min_price", "max_price"}
    assert under_other_filters(ASKED, Facet.FACING) == ASKED


def test_each_facet_has_filters_of_its_own() -> None:
    assert set(OWN_FILTERS) == set(Facet)
    for facet, names in OWN_FILTERS.items():
        aliases = {SearchFilters.model_fields[name].alias or name for name in names}
        assert facet in aliases or facet is Facet.PRICE, "it is named as one of them"


@given(st.integers(min_value=1, max_value=10**12))
def test_a_band_asks_for_the_prices_in_it(price: int) -> None:
    low, _, high = price_band(price).partition("-")
    assert int(low or 0) <= price <= int(high or 10**12)
    band = SearchFilters.model_validate(
        {"minPrice": int(low) if low else None, "maxPrice": int(high) if high else None}
    )
    assert band.given
    assert price_band(price) in PRICE_BANDS


def test_relaxing_drops_one_filter_at_a_time_by_the_name_of_its_parameter() -> None:
    near = ASKED.model_copy(update={"near": Point(latitude=17.4, longitude=78.4), "radius_km": 2.0})
    ways = relaxed(near)
    assert set(ways) == {"q", "propertyType", "bedrooms", "minBedrooms", "minPrice", "maxPrice", "near"}
    assert ways["minPrice"].given.keys() == near.given.keys() - {"min_price"}
    assert relaxed(SearchFilters()) == {}


def test_relaxations_come_by_what_they_bring() -> None:
    two, many = Total(2, True), Total(10_000, False)
    totals = {"q": two, "maxPrice": many, "facing": Total(0, True), "bedrooms": two}
    assert relaxations(totals) == (
        Relaxation("maxPrice", many),
        Relaxation("bedrooms", two),
        Relaxation("q", two),
    )
