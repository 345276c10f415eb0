"""Understands a search as it is typed, by the gazetteer and by what the listings of a tenant have."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ARRAY, Text, bindparam, exists, func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.search.spelling import corrected, in_use
from adapters.tables import listings
from domain.amenities import amenity_key
from domain.gazetteer import hyderabad
from domain.interpretation import with_filters_of
from domain.reading import read_text
from domain.search import SearchQuery

_asked = func.unnest(bindparam("keys", type_=ARRAY(Text))).table_valued("key", name="asked").render_derived()
_STATED = select(_asked.c.key).where(exists().where(listings.c.amenities.bool_op("@>")(array([_asked.c.key]))))


async def interpret_query(
    connection: AsyncConnection, asked: SearchQuery, *, interpret: bool
) -> tuple[SearchQuery, Mapping[str, tuple[str, ...]]]:
    """Interpret a search: its filters, and the words that each of them was read from.

    The misspelled words among the rest are corrected. An amenity that no listing of the connection's tenant states is
    searched as text, because a description may have it.
    """
    if not asked.q:
        return asked, {}
    read_from: Mapping[str, tuple[str, ...]] = {}
    if interpret:
        words = await in_use(connection, asked.q)
        interpretation = read_text(asked.q, hyderabad(), words)
        if unstated := await _unstated(connection, interpretation.filters.amenities):
            interpretation = read_text(asked.q, hyderabad(), words, unstated)
        asked, read_from = with_filters_of(interpretation, asked)
    q = await corrected(connection, asked.q) if asked.q else None
    return asked.model_copy(update={"q": q}), read_from


async def _unstated(connection: AsyncConnection, amenities: Sequence[str]) -> set[str]:
    """Those of the amenities that no listing states."""
    if not amenities:
        return set()
    keys = {amenity_key(label): label for label in amenities}
    stated = set((await connection.execute(_STATED, {"keys": list(keys)})).scalars())
    return {label for key, label in keys.items() if key not in stated}
