"""Facets: the values that the listings of a search have, and which one filter to drop when there are none."""

from bisect import bisect_left
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise

from domain.search import Relaxation, SearchFilters, Total

VALUES_SHOWN = 50
"""Of each facet, the most frequent ones: a city has hundreds of localities."""


class Facet(StrEnum):
    """What listings are counted by, each named as the filter that asks for one of its values."""

    PROPERTY_TYPE = "propertyType"
    LISTING_TYPE = "listingType"
    BEDROOMS = "bedrooms"
    BATHROOMS = "bathrooms"
    FURNISHED_STATUS = "furnishedStatus"
    FACING = "facing"
    POSTED_BY = "postedBy"
    AMENITIES = "amenities"
    LOCATION = "location"
    PRICE = "price"
    """By bands, each written as the minPrice and the maxPrice that ask for it."""


OWN_FILTERS: dict[Facet, tuple[str, ...]] = {
    Facet.PROPERTY_TYPE: ("property_type",),
    Facet.LISTING_TYPE: ("listing_type",),
    Facet.BEDROOMS: ("bedrooms", "min_bedrooms"),
    Facet.BATHROOMS: ("bathrooms",),
    Facet.FURNISHED_STATUS: ("furnished_status",),
    Facet.FACING: ("facing",),
    Facet.POSTED_BY: ("posted_by",),
    Facet.AMENITIES: ("amenities",),
    Facet.LOCATION: ("location",),
    Facet.PRICE: ("min_price", "max_price"),
}
"""The filters of each facet, by field name. Its values are counted under all others."""

PRICE_LIMITS = (
    10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 75_000, 100_000, 200_000,
    2_500_000, 4_000_000, 6_000_000, 8_000_000, 10_000_000, 15_000_000, 20_000_000, 30_000_000, 50_000_000, 100_000_000,
)  # fmt: skip
"""The highest price of each band but the last, which is open: rents of a month first, then prices of sales."""
PRICE_BANDS = (
    f"-{PRICE_LIMITS[0]}",
    *(f"{low + 1}-{high}" for low, high in pairwise(PRICE_LIMITS)),
    f"{PRICE_LIMITS[-1] + 1}-",
)
"""In ascending order, as `minPrice-maxPrice`, both of them in the band."""


def price_band(price: int) -> str:
    """The band that a price in rupees is in."""
    return PRICE_BANDS[bisect_left(PRICE_LIMITS, price)]


def under_other_filters(filters: SearchFilters, facet: Facet) -> SearchFilters:
    """The filters under which the values of a facet are counted."""
    for name in OWN_FILTERS[facet]:
        filters = filters.without(name)
    return filters


def counted_together(filters: SearchFilters) -> dict[SearchFilters, list[Facet]]:
    """The facets to count under each set of filters: those without a filter of their own under all of them, first.

    The filters themselves are first also where every facet has a filter.
    """
    parts: dict[SearchFilters, list[Facet]] = {filters: []}
    for facet in Facet:
        parts.setdefault(under_other_filters(filters, facet), []).append(facet)
    return parts


def relaxed(filters: SearchFilters) -> dict[str, SearchFilters]:
    """The searches that ask for one thing less, by the JSON name of the dropped filter."""
    fields = SearchFilters.model_fields
    return {fields[name].alias or name: filters.without(name) for name in filters.given}


def relaxations(totals: Mapping[str, Total]) -> tuple[Relaxation, ...]:
    """What dropping each filter brings, the most first, without those that bring nothing."""
    found = (Relaxation(drop, total) for drop, total in totals.items() if total.value)
    return tuple(sorted(found, key=lambda each: (-each.total.value, each.drop)))
