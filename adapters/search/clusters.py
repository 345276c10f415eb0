"""Clusters of listings on Postgres."""

from typing import Any

from sqlalchemy import BigInteger, Float, Integer, Select, and_, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.plans import NEWEST, Plan, plan_of
from adapters.tables import listings
from domain.clusters import MAX_COUNTED, MAX_TILES, Cluster, Counted
from domain.search import SearchFilters


async def clusters(connection: AsyncConnection, filters: SearchFilters, level: int) -> Counted:
    """The listings that match, counted by the tiles of a level. `filters` has a box.

    Where a map shows more listings than MAX_COUNTED, only so many of the newest ones are looked at.
    """
    plan = await plan_of(connection, filters, many=MAX_COUNTED)
    found = list(await connection.execute(_counted(plan, level)))
    tiles = tuple(
        Cluster(
            tile=f"{level}/{row.column}/{row.row}",
            count=row.listings,
            latitude=row.latitude,
            longitude=row.longitude,
            min_price=row.min_price,
            max_price=row.max_price,
            property_id=row.property_id if row.listings == 1 else None,
        )
        for row in found
        if row.listings is not None
    )
    return Counted(tiles, exact=found[0].seen <= MAX_COUNTED)


def _counted(plan: Plan, level: int) -> Select[*tuple[Any, ...]]:
    """A row for each tile, the fullest first, and one without a tile if there is none; each with `seen`."""
    columns = (listings.c[name] for name in ("latitude", "longitude", "price", "property_id"))
    candidates = select(*columns, and_(true(), *plan.hidden).label("matches")).where(*plan.plain)
    if plan.bounded:
        candidates = candidates.order_by(*(key.order for key in NEWEST))
    seen = candidates.limit(MAX_COUNTED + 1).cte("seen")
    # As in domain.clusters.tile_of.
    across = (seen.c.longitude + 180) / 360
    down = (1 - func.asinh(func.tan(func.radians(seen.c.latitude)), type_=Float()) / func.pi(type_=Float())) / 2
    column, row = (cast(func.floor(part * 2**level), Integer) for part in (across, down))
    tiles = (
        select(
            column.label("column"),
            row.label("row"),
            func.count().label("listings"),
            func.avg(seen.c.latitude, type_=Float()).label("latitude"),
            func.avg(seen.c.longitude, type_=Float()).label("longitude"),
            cast(func.min(seen.c.price), BigInteger).label("min_price"),
            cast(func.max(seen.c.price), BigInteger).label("max_price"),
            func.any_value(seen.c.property_id).label("property_id"),
        )
        .where(seen.c.matches)
        .group_by(column, row)
        .order_by(func.count().desc(), column, row)
        .limit(MAX_TILES)
        .subquery("tiles")
    )
    size = select(func.count().label("seen")).select_from(seen).subquery("size")
    each = select(size.c.seen, *tiles.c).select_from(size.outerjoin(tiles, true()))
    return each.order_by(tiles.c.listings.desc(), tiles.c.column, tiles.c.row)
