"""Search: how fast listings are indexed and found, and how well they are ranked, beside plain SQL and tantivy."""

import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle, islice, tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from uuid import UUID, uuid4

import asyncpg
import httpx

from adapters.postgres import Database
from adapters.search.choice import index_of, search_engine
from adapters.search.engine import SearchEngine
from adapters.search.postgres import PostgresSearch
from adapters.search.reading import interpret_query
from adapters.search.relaxing import relaxations
from adapters.search.rows import indexed
from adapters.settings import Settings
from api.app import create_app
from bench.load import Latencies, Work, concurrent
from bench.search_baselines import Listed, PlainTable, Tantivy, text_of
from bench.search_listings import listings
from bench.search_queries import KINDS, Asked
from demo.listings import LOCALITIES
from projections.generations import generation_of
from projections.search import Search
from tests.relevance.evaluation import Judged, found_by
from tests.relevance.loading import load, saved

_QUERIES = 60
"""Of each kind, each with values of its own."""
_WARM = 5
"""Of these, answered once before, so that connections are open and statements are prepared."""
_PLAIN_EVERY = 4
"""Plain SQL answers every fourth of them, because it reads the whole table each time."""
_AT_ONCE = 4
"""Searches at a time where their rate is measured: enough to keep every core of a small machine busy."""
_BATCH = 500
_MISSING = "tantivy is not installed"


class AddRow(Protocol):
    """Adds a row to the table of results; the baseline is a text where it could not be measured."""

    def __call__(self, name: str, value: float, unit: str, baseline: float | str) -> None: ...


class SearchBench:
    """Listings of a tenant in the read model, in a plain table and in tantivy."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        all_tenants: Database,
        plain: PlainTable,
        tantivy: Tantivy | None,
        row: AddRow,
    ) -> None:
        self._settings = settings
        self._tenant = f"bench-{uuid4().hex[:8]}"
        self._database = database
        self._engine: SearchEngine = PostgresSearch(database)
        self._all_tenants = all_tenants
        self._plain = plain
        self._tantivy = tantivy
        self._row = row

    async def index(self, count: int) -> None:
        """Listings a second, and the size of the index."""
        projection = Search(index_of(self._settings))
        seconds = {"projection": 0.0, "plain": 0.0, "tantivy": 0.0}
        await self._plain.create()
        first, second = tee(listings(count))
        made = zip(saved(self._tenant, first), second, strict=True)
        while batch := list(islice(made, _BATCH)):
            events = [indexed(event) for event, _ in batch]
            rows: list[Listed] = [(event.aggregate_id, event.timestamp, facts) for event, facts in batch]
            began = time.perf_counter()
            async with self._all_tenants.transaction() as tx:
                await projection.apply(tx, events, await generation_of(tx, projection.name))
            seconds["projection"] += time.perf_counter() - began
            began = time.perf_counter()
            await self._plain.load(rows)
            seconds["plain"] += time.perf_counter() - began
            if self._tantivy:
                began = time.perf_counter()
                self._tantivy.load(text_of(facts) for _, _, facts in rows)
                seconds["tantivy"] += time.perf_counter() - began
        if self._tantivy:
            began = time.perf_counter()
            self._tantivy.finish()
            seconds["tantivy"] += time.perf_counter() - began
        self._row("search-index", count / seconds["projection"], "listings/s", count / seconds["plain"])
        others = (count / seconds["tantivy"], self._tantivy.bytes / 1e6) if self._tantivy else (_MISSING, _MISSING)
        self._row("search-index-tantivy", count / seconds["projection"], "listings/s", others[0])
        size = await self._plain.megabytes("search.property_search") + await self._plain.megabytes("search.vocabulary")
        self._row("search-size", size, "MB", await self._plain.megabytes("bench.listings"))
        self._row("search-size-tantivy", size, "MB", others[1])

    async def find(self) -> None:
        """How long each kind of search takes, and the mix of all; then the rate of the mix on every core.

        With an OpenSearch beside Postgres, Postgres is the baseline of its rows.
        """
        other = search_engine(self._settings, self._database) if self._settings.search_url else None
        if other:
            await other.refresh()
        chance = random.Random(7)
        every: list[float] = []
        every_plain: list[float] = []
        mix: list[Asked] = []
        for kind, make in KINDS.items():
            asked = [make(chance) for _ in range(_QUERIES)]
            mix += asked
            times = await self._answers(self._engine, asked)
            plain = await _times(partial(self._plain.find, each.where, each.order) for each in asked[::_PLAIN_EVERY])
            every, every_plain = every + times, every_plain + plain
            self._row(f"search-{kind}", _p95(times), "ms p95", _p95(plain))
            if other:
                others = await self._answers(other, asked)
                self._row(f"search-{kind}-opensearch", _p95(others), "ms p95", _p95(times))
            if asked[0].words:
                tantivy = await self._tantivy_times(asked)
                self._row(f"search-{kind}-tantivy", _p95(times), "ms p95", _p95(tantivy) if tantivy else _MISSING)
        self._row("search-mix", _p95(every), "ms p95", _p95(every_plain))
        chance.shuffle(mix)
        cores = os.cpu_count() or 1
        rate = await concurrent(lambda: self._next(cycle(mix)), _AT_ONCE, 10)
        # One after the other: a server of plain queries is as busy with one, which it answers by several processes.
        self._row("search-rate", rate / cores, "searches/s a core", len(every_plain) / sum(every_plain) / cores)

    async def suggest(self) -> None:
        """How long a suggestion takes by its route, without a network: for each letter of a name, and with an error."""
        chance = random.Random(7)
        names = [chance.choice(LOCALITIES)[0].lower() for _ in range(_QUERIES)]
        typed = [name[:length] for name in names for length in range(2, len(name) + 1)]
        typed += [name[:2] + name[3:4] + name[2:3] + name[4:8] for name in names]
        alone = {"default_tenant": self._tenant, "suggestions_per_minute": 10**9}
        app = create_app(self._settings.model_copy(update=alone))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30) as http,
        ):

            async def ask(text: str) -> None:
                (await http.get("/api/search/suggestions", params={"q": text})).raise_for_status()

            times = await _times(partial(ask, text) for text in [*typed[:_WARM], *typed])
        plain = await _times(partial(self._plain.complete, text) for text in typed[:: 10 * _PLAIN_EVERY])
        self._row("search-suggestions", _p95(times[_WARM:]), "ms p95", _p95(plain))

    def _next(self, mix: Iterator[Asked]) -> Work:
        return lambda: self._answer(next(mix), self._engine)

    async def _answers(self, engine: SearchEngine, asked: Sequence[Asked]) -> list[float]:
        """Seconds of each first page, after some to warm up."""
        return (await _times(partial(self._answer, each, engine) for each in [*asked[:_WARM], *asked]))[_WARM:]

    async def _answer(self, asked: Asked, engine: SearchEngine) -> None:
        """As the API answers the first page."""
        async with self._database.statements(self._tenant) as connection:
            read, _ = await interpret_query(connection, asked.query, interpret=True)
        found = await engine.search(self._tenant, read)
        if not found.hits:
            await relaxations(engine, self._tenant, read)

    async def _tantivy_times(self, asked: Sequence[Asked]) -> list[float]:
        if self._tantivy is None:
            return []
        tantivy = self._tantivy

        async def answer(each: Asked) -> None:
            if each.misspelled:
                tantivy.find_similar(each.words[0])
            else:
                tantivy.find(each.words)

        return await _times(partial(answer, each) for each in asked)


async def judged(settings: Settings, database: Database, all_tenants: Database, row: AddRow) -> None:
    """nDCG@10 of the judged queries, beside tantivy's ranking of the same texts by BM25; OpenSearch's beside ours."""
    tenant = f"bench-{uuid4().hex[:8]}"
    known = Judged(tenant)
    await load(all_tenants, Search(index_of(settings)), known.indexed)
    engine = PostgresSearch(database)
    by_engine = await known.mean_ndcg(partial(found_by, database, engine, tenant))
    baseline: float | str = _MISSING
    with TemporaryDirectory() as folder:
        try:
            tantivy = Tantivy(Path(folder))
        except ImportError:
            pass
        else:
            tantivy.load(text_of(made.facts) for made in known.made)
            tantivy.finish()

            async def by_tantivy(typed: str) -> list[UUID]:
                return [known.ids[n] for n in tantivy.find(typed.replace("+", "").split(), every=False)]

            baseline = await known.mean_ndcg(by_tantivy)
    row("search-ndcg", 100 * by_engine, "% nDCG@10", baseline if isinstance(baseline, str) else 100 * baseline)
    if settings.search_url:
        other = search_engine(settings, database)
        await other.refresh()
        by_other = await known.mean_ndcg(partial(found_by, database, other, tenant))
        row("search-ndcg-opensearch", 100 * by_other, "% nDCG@10", 100 * by_engine)


async def measure(settings: Settings, row: AddRow, count: int) -> None:
    """The rows `search-*` of `count` listings."""
    async with AsyncExitStack() as ending:
        database, all_tenants = Database.for_searching(settings, seconds=10), Database.for_all_tenants(settings)
        ending.push_async_callback(database.close)
        ending.push_async_callback(all_tenants.close)
        owner = await asyncpg.connect(settings.database_url)
        ending.push_async_callback(owner.close)
        try:
            tantivy = Tantivy(Path(ending.enter_context(TemporaryDirectory())))
        except ImportError:
            tantivy = None
        bench = SearchBench(settings, database, all_tenants, PlainTable(owner), tantivy, row)
        await judged(settings, database, all_tenants, row)
        await bench.index(count)
        await bench.find()
        await bench.suggest()


async def _times(calls: Iterator[Callable[[], Awaitable[object]]]) -> list[float]:
    """Seconds of each call, one after the other."""
    times = []
    for call in calls:
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return times


def _p95(times: list[float]) -> float:
    return Latencies(sorted(times)).ms(95)
