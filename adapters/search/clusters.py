"""Clusters of listings on Postgres, by one statement."""

from sqlalchemy import BigInteger, Float, Integer, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.conditions import conditions
from adapters.tables import listings
from domain.clusters import MAX_TILES, Cluster
from domain.search import SearchFilters


async def clusters(connection: AsyncConnection, filters: SearchFilters, level: int) -> list[Cluster]:
    """The listings that match, counted by the tiles of a level, the fullest first. `filters` has a box."""
    latitude, longitude = listings.c.latitude, listings.c.longitude
    # As in domain.clusters.tile_of.
    across = (longitude + 180) / 360
    down = (1 - func.asinh(func.tan(func.radians(latitude)), type_=Float()) / func.pi(type_=Float())) / 2
    column, row = (cast(func.floor(part * 2**level), Integer) for part in (across, down))
    count = func.count()
    counted = (
        select(
            column.label("column"),
            row.label("row"),
            count.label("listings"),
            func.avg(latitude, type_=Float()).label("latitude"),
            func.avg(longitude, type_=Float()).label("longitude"),
            cast(func.min(listings.c.price), BigInteger).label("min_price"),
            cast(func.max(listings.c.price), BigInteger).label("max_price"),
            func.any_value(listings.c.property_id).label("property_id"),
        )
        .where(*conditions(filters))
        .group_by(column, row)
        .order_by(count.desc(), column, row)
        .limit(MAX_TILES)
    )
    return [
        Cluster(
            tile=f"{level}/{found.column}/{found.row}",
            count=found.listings,
            latitude=found.latitude,
            longitude=found.longitude,
            min_price=found.min_price,
            max_price=found.max_price,
            property_id=found.property_id if found.listings == 1 else None,
        )
        for found in await connection.execute(counted)
    ]
