"""Listings on a map: /api/search/clusters."""

from typing import Annotated

from fastapi import APIRouter, Query

from adapters.search.reading import interpret_query
from api.deps import MaybeCallerDep, PartsDep, TenantDep
from api.openapi import query
from api.search import ConsistencyToken, wait_until_searchable
from api.search_limits import SEARCH_LIMIT
from api.search_parameters import ClusterParameters
from domain.clusters import Cluster, tiles_of
from domain.model import Model

router = APIRouter(prefix="/api/search", tags=["search"])


class Clusters(Model):
    """The listings of a map, counted by tile, the fullest first."""

    items: tuple[Cluster, ...]
    """At most 1,000. A tile on the edge of the box counts the listings inside the box."""
    exact: bool
    """Whether every listing was counted; if not, the counts are lower bounds, and the map shows some of the listings.
    """


@router.get(
    "/clusters",
    dependencies=[SEARCH_LIMIT],
    **query(Clusters, "invalid-request", "invalid-consistency-token", "too-many-requests", signed_in="optional"),
)
async def search_clusters(
    parameters: Annotated[ClusterParameters, Query()],
    caller: MaybeCallerDep,
    tenant_id: TenantDep,
    parts: PartsDep,
    consistency_token: ConsistencyToken = None,
) -> Clusters:
    """The active listings that meet all of the filters, counted by the tiles of a map.

    A tile is as wide as 64 pixels of the map at `zoom`, or wider where there would be too many.
    """
    tenant_id = caller.tenant_id if caller else tenant_id
    asked = parameters.query
    assert asked.bbox is not None, "ClusterParameters requires it"
    await wait_until_searchable(parts, tenant_id, consistency_token)
    async with parts.search_database.statements(tenant_id) as connection:
        read, _ = await interpret_query(connection, asked, interpret=parameters.interpret)
    level = tiles_of(asked.bbox, parameters.zoom).level
    found = await parts.search.clusters(tenant_id, read, level)
    return Clusters(items=found.clusters, exact=found.exact)
