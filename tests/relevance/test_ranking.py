"""How well the listings are ranked: a change of ranking that makes it worse fails here."""

from functools import partial

import pytest

from adapters.postgres import Database
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings
from projections.search import Search
from tests.relevance.evaluation import Judged, found_by
from tests.relevance.loading import load
from tests.samples import new_tenant

FLOOR = 0.89
"""A little below what is measured."""


async def test_people_find_what_they_type(settings: Settings, all_tenants: Database) -> None:
    known = Judged(new_tenant())
    await load(all_tenants, Search(), known.indexed)
    database = Database.for_searching(settings)
    try:
        measured = await known.ndcg(partial(found_by, database, PostgresSearch(database), known.tenant_id))
    finally:
        await database.close()
    mean = sum(measured.values()) / len(measured)
    worst = sorted(measured.items(), key=lambda item: item[1])[:15]
    assert mean == pytest.approx(1, abs=1 - FLOOR), f"{mean:.3f}; the worst: {worst}"
