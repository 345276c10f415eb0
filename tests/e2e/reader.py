"""A person who searches while everything but Postgres is wiped, and what every read model must answer then."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import func, select, update

from adapters.postgres import Database
from adapters.search.names import listed_names
from adapters.tables import event_store, saved_filters
from tests.platform import Person, Platform, until
from tests.samples import new_id
from tests.streams import Stream

_SECONDS = 120
"""Until a read model that has lost everything is right again."""


def made_up_place() -> str:
    """The name of a locality that no other test has, of letters alone."""
    return "Zephyr" + "".join(chr(ord("a") + int(digit, 16)) for digit in new_id().hex[-12:]) + "pally"


class Reader:
    """Searches a place, has a saved search of it, and a favourite there whose owner lowers its price."""

    def __init__(
        self, platform: Platform, database: Database, all_tenants: Database, owner: Person, person: Person, place: str
    ) -> None:
        self._platform, self._http = platform, platform.http
        self._database, self._all_tenants = database, all_tenants
        self._owner, self.person, self._place = owner, person, place
        self.favorite = ""
        self._price = 8_000_000
        self._drops = self._searches = 0
        self._saved: dict[str, Any] = {}

    async def begin(self) -> None:
        """Make the favourite and the saved search."""
        created = await self._platform.create(self._owner, location=self._place, price=self._price)
        self.favorite = created.json()["id"]
        liked = await self._http.put(f"/api/properties/{self.favorite}/favorite", headers=self.person.headers)
        assert liked.status_code == 204, liked.text
        wanted = {"name": "A place", "filters": {"location": [self._place]}, "frequency": "DAILY", "hour": 9}
        saved = await self._http.post("/api/search/saved", json=wanted, headers=self.person.headers)
        assert saved.status_code == 201, saved.text
        self._saved = saved.json()

    async def act(self) -> None:
        """Search, and have the price of the favourite lowered; returns once both are in the event store."""
        self._price -= 1000
        path, body = f"/api/properties/{self.favorite}", {"price": self._price}
        await until(self._answers(200, lambda: self._platform.change(self._owner, "PATCH", path, body)), _SECONDS)
        self._drops += 1
        self._searches += 1
        asked = {"q": f"{self._place} {self._searches}", "interpret": "false"}

        async def remembered() -> bool:
            # Again and again: a search that Temporal has lost is not stored.
            with suppress(httpx.TransportError):
                await self._http.get("/api/search/properties", params=asked, headers=self.person.headers)
            return len(await self._stored_searches()) == self._searches

        await until(remembered, _SECONDS)

    async def check(self, listings: set[str], stream: Stream) -> None:
        """Wait until every read model has everything: `listings` are all that the owner has listed in the place."""
        checks: dict[str, Callable[[], Awaitable[bool]]] = {
            "search": lambda: self._finds(listings),
            "search history": self._remembers_searches,
            "suggestions": self._is_suggested,
            "notifications": self._is_notified,
            "summary": lambda: self._counts(len(listings)),
        }
        for check in checks.values():
            await until(check, _SECONDS)
        await self._check_saved_search()
        await self._check_stream(stream)

    async def _finds(self, listings: set[str]) -> bool:
        found: list[str] = []
        query: dict[str, str | int] = {"location": self._place, "limit": 100}
        while True:
            answer = await self._http.get("/api/search/properties", params=query)
            if answer.status_code == 503:
                return False
            assert answer.status_code == 200, answer.text
            page = answer.json()
            if "cursor" not in query and page["total"]["value"] != len(listings):
                return False
            found += [item["property"]["id"] for item in page["items"]]
            if page["nextCursor"] is None:
                return sorted(found) == sorted(listings)
            query["cursor"] = page["nextCursor"]

    async def _remembers_searches(self) -> bool:
        page = await self._get("/api/search/history", limit=100)
        return {item["id"] for item in page["items"]} == await self._stored_searches()

    async def _is_suggested(self) -> bool:
        """The last search by the API, and the place by the names from which the API renews its suggestions."""
        found = (await self._get("/api/search/suggestions", q=self._place[:-2]))["items"]
        async with self._database.statements("hyderabad") as connection:
            names = {name.name for name in await listed_names(connection)}
        last = {"text": f"{self._place} {self._searches}", "kind": "SEARCH"}
        return last in found and self._place in names

    async def _is_notified(self) -> bool:
        """Once of each lower price."""
        items = (await self._get("/api/notifications", limit=100))["items"]
        dropped = [item for item in items if item["kind"] == "PRICE_DROPPED"]
        return {item["id"] for item in items} == await self._stored_notifications() and len(dropped) == self._drops

    async def _counts(self, listings: int) -> bool:
        answer = await self._http.get(f"/api/user-history/{self._owner.id}/summary", headers=self._owner.headers)
        assert answer.status_code == 200, answer.text
        counts = answer.json()["countsByType"]
        return bool(counts.get("PROPERTY_CREATED") == listings and counts.get("PROPERTY_PRICE_CHANGED") == self._drops)

    async def _check_saved_search(self) -> None:
        """It is as it was, and goes on: its workflow was lost, and is started when the next round is overdue."""
        found = await self._get(f"/api/search/saved/{self._saved['id']}")
        assert {**found, "dueAt": None} == {**self._saved, "dueAt": None}
        async with self._database.statements("hyderabad") as connection:
            row = update(saved_filters).where(saved_filters.c.saved_search_id == UUID(self._saved["id"]))
            await connection.execute(row.values(due_at=datetime.now(UTC) - timedelta(hours=1)))

        async def reported() -> bool:
            items = (await self._get("/api/notifications"))["items"]
            return any(item.get("savedSearchId") == self._saved["id"] for item in items)

        await until(reported, _SECONDS)

    async def _check_stream(self, stream: Stream) -> None:
        """It was reset, because messages were lost, and goes on with what happens next."""
        assert not stream.ended.is_set()
        assert stream.of("reset")
        self._price -= 1000
        changed = await self._platform.change(
            self._owner, "PATCH", f"/api/properties/{self.favorite}", {"price": self._price}
        )
        assert changed.status_code == 200, changed.text
        version = changed.json()["version"]
        await stream.until("property", lambda data: data["version"] == version, _SECONDS)
        await stream.until("notification", lambda data: data["kind"] == "PRICE_DROPPED", _SECONDS)

    async def _get(self, path: str, **query: str | int) -> dict[str, Any]:
        answer = await self._http.get(path, params=query, headers=self.person.headers)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def _stored_searches(self) -> set[str]:
        of_person = event_store.c.user_id == self.person.id, event_store.c.event_type == "PROPERTY_SEARCHED"
        return await self._stored(func.distinct(event_store.c.event_data["searchId"].astext), *of_person)

    async def _stored_notifications(self) -> set[str]:
        of_person = event_store.c.event_data["userId"].astext == self.person.id
        return await self._stored(event_store.c.event_id, event_store.c.event_type == "USER_NOTIFIED", of_person)

    async def _stored(self, column: Any, *where: Any) -> set[str]:
        async with self._all_tenants.statements() as connection:
            return set(map(str, (await connection.execute(select(column).where(*where))).scalars()))

    def _answers(self, status: int, call: Callable[[], Awaitable[httpx.Response]]) -> Callable[[], Awaitable[bool]]:
        """Whether a call that may be unavailable meanwhile is answered with a status."""

        async def answers() -> bool:
            try:
                answer = await call()
            except httpx.TransportError:
                return False
            assert answer.status_code in {status, 202, 503}, answer.text
            return answer.status_code == status

        return answers
