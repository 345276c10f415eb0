"""Totals, facets and clusters of a plain list of listings: what those of the engines are compared with."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from domain.amenities import amenity_key
from domain.clusters import Cluster, tile_of
from domain.facets import Facet, price_band, under_other_filters
from domain.gazetteer import locality_key
from domain.search import ListingCard, SearchFilters
from tests.search_model import meets


def matching(listings: Sequence[ListingCard], filters: SearchFilters) -> list[ListingCard]:
    return [listing for listing in listings if meets(listing, filters)]


def facets_of(listings: Sequence[ListingCard], filters: SearchFilters) -> dict[str, dict[str, int]]:
    """How many listings have each value, by facet."""
    under = {facet: under_other_filters(filters, facet) for facet in Facet}
    found = {each: matching(listings, each) for each in set(under.values())}
    return {
        facet.value: dict(Counter(value for listing in found[under[facet]] for value in _values(listing, facet)))
        for facet in Facet
    }


def clusters_of(listings: Sequence[ListingCard], filters: SearchFilters, level: int) -> dict[str, Cluster]:
    """The clusters by tile."""
    tiles: dict[str, list[ListingCard]] = defaultdict(list)
    for listing in matching(listings, filters):
        if listing.latitude is not None and listing.longitude is not None:
            column, row = tile_of(listing.latitude, listing.longitude, level)
            tiles[f"{level}/{column}/{row}"].append(listing)
    return {
        tile: Cluster(
            tile=tile,
            count=len(inside),
            latitude=sum(each.latitude or 0 for each in inside) / len(inside),
            longitude=sum(each.longitude or 0 for each in inside) / len(inside),
            min_price=min(each.price for each in inside),
            max_price=max(each.price for each in inside),
            property_id=inside[0].id if len(inside) == 1 else None,
        )
        for tile, inside in tiles.items()
    }


def _values(listing: ListingCard, facet: Facet) -> Iterator[str]:
    match facet:
        case Facet.AMENITIES:
            yield from {amenity_key(label) for label in listing.amenities}
        case Facet.LOCATION:
            yield locality_key(listing.location, listing.latitude, listing.longitude)
        case Facet.PRICE:
            yield price_band(listing.price)
        case _:
            fields = {field.alias or name: name for name, field in ListingCard.model_fields.items()}
            if (value := getattr(listing, fields[facet.value])) is not None:
                yield str(value)
