"""The names that listings have: their localities, and what may be the names of projects."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.suggestions import Kind, ListedName

_LOOKED_AT = 10_000
"""Newest listings whose names are counted: a project is one because many listings of these days name it."""
_MOST = 5_000
_NAMES = text(rf"""
    WITH newest AS MATERIALIZED (
        SELECT convert_from(card, 'UTF8')::json AS card FROM search.listings
        ORDER BY listed_at DESC, property_id DESC LIMIT {_LOOKED_AT}
    ), places AS (
        SELECT card->>'location' AS location, card->>'address' AS address, card->>'title' AS title FROM newest
    ), names AS (
        SELECT '{Kind.LOCALITY}' AS kind, location AS name FROM places
        UNION ALL
        SELECT '{Kind.PROJECT}', trim(split_part(address, ',', 1)) FROM places
        UNION ALL
        SELECT '{Kind.PROJECT}', trim(substring(title FROM :in_title)) FROM places
    )
    SELECT kind, min(name) AS name, count(*) AS listings FROM names
    WHERE kind = '{Kind.LOCALITY}' OR name ~ :begins AND length(name) BETWEEN 4 AND 60 AND name !~* :no_project
    GROUP BY kind, lower(name) ORDER BY count(*) DESC LIMIT {_MOST}
""")
_PATTERNS = {
    "in_title": r"\s(?:at|in)\s+(.+)$",
    "begins": r"^[[:alpha:]]",
    "no_project": r"^(flat|plot|house|door|h ?no|d ?no|near|opp|behind|beside|road|street|lane|main|survey|floor)\M",
}
"""What a project may be called: the end of a title, and no number of a house."""


async def listed_names(connection: AsyncConnection) -> list[ListedName]:
    """The names in the newest listings of the connection's tenant.

    The name of a project has no field of its own: it is what an address begins with, or what a title says after `at`.
    """
    rows = await connection.execute(_NAMES, _PATTERNS)
    return [ListedName(row.name, Kind(row.kind), row.listings) for row in rows]
