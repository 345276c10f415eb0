"""The names that listings have: their localities, and what may be the names of projects."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.suggestions import Kind, ListedName

_MOST_LISTINGS = 10_000
"""Newest listings whose names are counted: a project is one because several owners name it these days."""
_MOST = 5_000
_NAMES = text(rf"""
    WITH newest AS MATERIALIZED (
        SELECT owner_id, convert_from(card, 'UTF8')::json AS card FROM search.listings
        ORDER BY listed_at DESC, property_id DESC LIMIT {_MOST_LISTINGS}
    ), places AS (
        SELECT owner_id, card->>'location' AS location, card->>'address' AS address, card->>'title' AS title
        FROM newest
    ), names AS (
        SELECT owner_id, '{Kind.LOCALITY}' AS kind, location AS name FROM places
        UNION ALL
        SELECT owner_id, '{Kind.PROJECT}', trim(split_part(address, ',', 1)) FROM places
        UNION ALL
        SELECT owner_id, '{Kind.PROJECT}', trim(substring(title FROM :in_title)) FROM places
    )
    SELECT kind, min(name) AS name, count(DISTINCT owner_id) AS owners FROM names
    WHERE kind = '{Kind.LOCALITY}' OR name ~ :begins AND length(name) BETWEEN 4 AND 60 AND name !~* :no_project
    GROUP BY kind, lower(name) ORDER BY owners DESC LIMIT {_MOST}
""")
_PATTERNS = {
    "in_title": r"\s(?:at|in)\s+(.+)$",
    "begins": r"^[[:alpha:]]",
    "no_project": r"^(flat|plot|house|door|h ?no|d ?no|near|opp|behind|beside|road|street|lane|main|survey|floor)\M",
}
"""What a project may be called: the end of a title, and no number of a house."""


async def listed_names(connection: AsyncConnection) -> list[ListedName]:
    """The names in the newest listings of the connection's tenant, with the number of owners who have each.

    The name of a project has no field of its own: it is what an address begins with, or what a title says after `at`.
    """
    rows = await connection.execute(_NAMES, _PATTERNS)
    return [ListedName(row.name, Kind(row.kind), row.owners) for row in rows]
