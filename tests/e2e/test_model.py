"""Stateful property-based test: random commands against the running API, compared with a model after each."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.property_status import CLOSED_STATUSES, PUBLIC_STATUSES, TRANSITIONS, Party, PropertyStatus
from embedded.paths import ROOT
from projections.registry import PROJECTIONS
from tests.e2e.test_admin import admin
from tests.platform import Person, Platform
from tests.samples import listing

PEOPLE = st.integers(0, 2)
ADMIN = 3
"""The index of the administrator in `people`, who owns no listing and may change every one."""
WHICH = st.integers(0, 4)
BASED_ON = st.sampled_from(["current", "any", "stale"])


@dataclass
class Listing:
    """The model of a listing."""

    owner: int
    price: int
    bedrooms: int | None
    status: PropertyStatus
    version: int = 1
    previous_price: int | None = None
    deleted: bool = False
    is_featured: bool = False
    is_verified: bool = False
    liked_by: set[int] = field(default_factory=set)
    viewed_by: set[int] = field(default_factory=set)

    def seen_by(self, person: int) -> bool:
        return not self.deleted and (self.status in PUBLIC_STATUSES or person in (self.owner, ADMIN))


class Listings(RuleBasedStateMachine):
    """Several users create, change, delete, favourite and view listings, with and without the right to."""

    platform_url: str
    people: list[Person]
    earlier: "list[Listings]"
    """The machines of the same users so far, including this one."""

    def __init__(self) -> None:
        super().__init__()
        self.http = httpx.Client(base_url=self.platform_url, timeout=30, trust_env=False)
        self.listings: dict[str, Listing] = {}
        self.touched: str | None = None
        self.did: list[tuple[int, str, str]] = []
        """User, activity type and listing: the expected entries of the histories."""
        self.followed = 0
        """How many of those have been compared with the read models."""

    @initialize(person=PEOPLE)
    def begin(self, person: int) -> None:
        self.create(person, draft=False, bedrooms=2)

    @rule(person=PEOPLE, draft=st.booleans(), bedrooms=st.none() | st.integers(0, 9))
    def create(self, person: int, draft: bool, bedrooms: int | None) -> None:
        body = listing(bedrooms=bedrooms, **({"status": "DRAFT"} if draft else {}))
        answer = self._send("POST", "/api/properties", person, body)
        assert answer.status_code == 201, answer.text
        status = PropertyStatus.DRAFT if draft else PropertyStatus.ACTIVE
        self.touched = answer.json()["id"]
        self.listings[self.touched] = Listing(person, body["price"], bedrooms, status)
        self._done(person, "PROPERTY_CREATED")

    @rule(
        method=st.sampled_from(["PUT", "PATCH"]),
        person=PEOPLE,
        which=WHICH,
        price=st.integers(1, 3),
        bedrooms=st.none() | st.integers(0, 2),
        based_on=BASED_ON,
    )
    def change(self, method: str, person: int, which: int, price: int, bedrooms: int | None, based_on: str) -> None:
        property_id, known = self._pick(which)
        said = {"price": price, "bedrooms": bedrooms}
        body = said if method == "PATCH" else listing(**said)
        changes = [known.price != price, known.bedrooms != bedrooms]
        refused = self._refused(known, person, based_on) or (
            409 if any(changes) and known.status in CLOSED_STATUSES else None
        )
        answer = self._send(method, f"/api/properties/{property_id}", person, body, self._if_match(known, based_on))
        assert answer.status_code == (refused or 200), answer.text
        if not refused:
            if known.bedrooms != bedrooms:
                self._done(person, "PROPERTY_UPDATED")
            if known.price != price:
                self._done(person, "PROPERTY_PRICE_CHANGED")
                known.previous_price, known.price = known.price, price
            known.bedrooms = bedrooms
            known.version += sum(changes)

    @rule(
        person=PEOPLE | st.just(ADMIN),
        which=WHICH,
        what=st.sampled_from(["featured", "verified"]),
        value=st.booleans(),
        based_on=BASED_ON,
    )
    def mark(self, person: int, which: int, what: str, value: bool, based_on: str) -> None:
        property_id, known = self._pick(which)
        answer = self._send(
            "PUT", f"/api/properties/{property_id}/{what}", person, {"value": value}, self._if_match(known, based_on)
        )
        refused = self._refused(known, person, based_on) or (403 if person != ADMIN else None)
        assert answer.status_code == (refused or 200), answer.text
        if not refused and value != getattr(known, f"is_{what}"):
            setattr(known, f"is_{what}", value)
            known.version += 1
            self._done(person, "PROPERTY_UPDATED")

    @rule(person=PEOPLE, which=WHICH, to=st.sampled_from(PropertyStatus), based_on=BASED_ON)
    def move(self, person: int, which: int, to: PropertyStatus, based_on: str) -> None:
        property_id, known = self._pick(which)
        answer = self._send(
            "PUT", f"/api/properties/{property_id}/status", person, {"status": to}, self._if_match(known, based_on)
        )
        allowed = TRANSITIONS[known.status].get(to, frozenset()) if to is not PropertyStatus.RENTED else frozenset()
        refused = self._refused(known, person, based_on)
        if refused is None and to != known.status:
            refused = None if Party.OWNER in allowed else 403 if Party.ADMIN in allowed else 409
        assert answer.status_code == (refused or 200), answer.text
        if not refused and to != known.status:
            known.status, known.version = to, known.version + 1
            self._done(person, "PROPERTY_STATUS_CHANGED")

    @rule(person=PEOPLE, which=WHICH, based_on=BASED_ON)
    def delete(self, person: int, which: int, based_on: str) -> None:
        property_id, known = self._pick(which)
        refused = self._refused(known, person, based_on)
        answer = self._send("DELETE", f"/api/properties/{property_id}", person, None, self._if_match(known, based_on))
        assert answer.status_code == (refused or 204), answer.text
        if not refused:
            known.deleted = True
            self._done(person, "PROPERTY_DELETED")

    @rule(person=PEOPLE, which=WHICH)
    def favorite(self, person: int, which: int) -> None:
        property_id, known = self._pick(which)
        answer = self._send("PUT", f"/api/properties/{property_id}/favorite", person)
        assert answer.status_code == (204 if known.seen_by(person) else 404), answer.text
        if known.seen_by(person) and person not in known.liked_by:
            known.liked_by.add(person)
            self._done(person, "PROPERTY_FAVORITED")

    @precondition(lambda self: any(known.liked_by for known in self.listings.values()))
    @rule(person=PEOPLE, which=WHICH)
    def unfavorite(self, person: int, which: int) -> None:
        property_id, known = self._pick(which)
        if person not in known.liked_by and not known.seen_by(person):
            return
        answer = self._send("DELETE", f"/api/properties/{property_id}/favorite", person)
        assert answer.status_code == 204, answer.text
        if person in known.liked_by:
            known.liked_by.discard(person)
            self._done(person, "PROPERTY_UNFAVORITED")

    @rule(person=PEOPLE, which=WHICH)
    def view(self, person: int, which: int) -> None:
        """Views by the owner and repeated views are not counted."""
        property_id, known = self._pick(which)
        answer = self._send("POST", f"/api/properties/{property_id}/views", person)
        assert answer.status_code == (204 if known.seen_by(person) else 404), answer.text
        if known.seen_by(person) and person != known.owner and person not in known.viewed_by:
            known.viewed_by.add(person)
            self._done(person, "PROPERTY_VIEWED")

    @invariant()
    def listing_is_as_the_model_says(self) -> None:
        if self.touched is None:
            return
        known = self.listings[self.touched]
        for person in range(len(self.people)):
            answer = self._send("GET", f"/api/properties/{self.touched}", person)
            gone = 410 if known.deleted and person == known.owner else 404
            assert answer.status_code == (200 if known.seen_by(person) else gone), answer.text
            if answer.status_code == 200:
                found = answer.json()
                assert answer.headers["etag"] == f'"{known.version}"'
                assert (found["price"], found["previousPrice"]) == (known.price, known.previous_price)
                assert (found["bedrooms"], found["status"]) == (known.bedrooms, known.status)
                assert (found["isFeatured"], found["isVerified"]) == (known.is_featured, known.is_verified)

    @invariant()
    def read_models_follow(self) -> None:
        """Counts and histories show the last step soon after it."""
        for person, _, property_id in self.did[self.followed :]:
            _eventually(partial(self._has_numbers, property_id), f"numbers of {property_id}")
            _eventually(partial(self._has_properties, person), f"propertyCount of {person}")
            _eventually(partial(self._has_history, person), f"history of {person}")
        self.followed = len(self.did)

    def teardown(self) -> None:
        self._compare_read_models()
        self.http.close()

    def _compare_read_models(self) -> None:
        for person in range(len(self.people)):
            mine = {key for key, known in self.listings.items() if known.owner == person and not known.deleted}
            liked = {key for key, known in self.listings.items() if person in known.liked_by and known.seen_by(person)}
            _eventually(partial(self._has, "my-properties", person, mine), "my-properties")
            _eventually(partial(self._has, "favorites", person, liked), "favorites")
            _eventually(partial(self._has_properties, person), f"propertyCount of {person}")
            _eventually(partial(self._has_history, person), f"history of {person}")
        for property_id in self.listings:
            _eventually(partial(self._has_numbers, property_id), f"numbers of {property_id}")

    def _has_numbers(self, property_id: str) -> bool:
        known = self.listings[property_id]
        if known.deleted:
            return True
        found = self._send("GET", f"/api/properties/{property_id}", known.owner).json()
        return (found["viewsCount"], found["favoritesCount"]) == (len(known.viewed_by), len(known.liked_by))

    def _has_properties(self, person: int) -> bool:
        """Whether `propertyCount` matches the listings that all machines created and did not delete."""
        made = [known for machine in self.earlier for known in machine.listings.values() if known.owner == person]
        profile = self._send("GET", "/api/users/profile", person).json()
        return bool(profile["propertyCount"] == sum(not known.deleted for known in made))

    def _has_history(self, person: int) -> bool:
        """Whether the history has what the user did with this machine's listings, newest first."""
        path, found = f"/api/user-history/{self.people[person].id}", []
        for entry in self._items(path, person):
            property_id = entry["activityData"].get("propertyId")
            if property_id in self.listings:
                found.append((person, entry["activityType"], property_id))
        return found[::-1] == [did for did in self.did if did[0] == person]

    def _items(self, path: str, person: int) -> Iterator[dict[str, Any]]:
        """The items of all pages."""
        cursor: str | None = None
        while True:
            query = {"limit": 100, **({"cursor": cursor} if cursor else {})}
            page = self._send("GET", path, person, params=query).json()
            yield from page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def _has(self, name: str, person: int, expected: set[str]) -> bool:
        """Whether a list has exactly these of this machine's listings."""
        found = {item["id"] for item in self._items(f"/api/properties/{name}", person)}
        return found & self.listings.keys() == expected

    def _done(self, person: int, activity_type: str) -> None:
        assert self.touched
        self.did.append((person, activity_type, self.touched))

    def _pick(self, which: int) -> tuple[str, Listing]:
        self.touched = list(self.listings)[which % len(self.listings)]
        return self.touched, self.listings[self.touched]

    def _refused(self, known: Listing, person: int, based_on: str) -> int | None:
        if known.deleted or not known.seen_by(person):
            return 404
        if person not in (known.owner, ADMIN):
            return 403
        return 412 if based_on == "stale" else None

    def _if_match(self, known: Listing, based_on: str) -> str:
        return {"current": f'"{known.version}"', "any": "*", "stale": f'"{known.version + 1}"'}[based_on]

    def _send(
        self,
        method: str,
        path: str,
        person: int,
        body: dict[str, Any] | None = None,
        if_match: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> httpx.Response:
        headers = self.people[person].headers | ({"If-Match": if_match} if if_match else {})
        return self.http.request(method, path, json=body, headers=headers, params=params)


def _eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


async def test_api_does_what_a_plain_model_does(platform: Platform) -> None:
    """Read models match too, also after each is rebuilt from the event store."""
    people = [await platform.register() for _ in range(4)]
    assert (await admin(platform.stack, "--email", people[ADMIN].email))[0] == 0
    people[ADMIN] = await platform.login(people[ADMIN])
    done: list[Listings] = []

    class Machine(Listings):
        def __init__(self) -> None:
            self.platform_url, self.people, self.earlier = platform.url, people, done
            super().__init__()
            done.append(self)

    budget = settings(
        max_examples=8,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        # No shrinking: each attempt would wait for the timeout of a condition that is never met.
        phases=[Phase.generate],
    )
    await asyncio.to_thread(run_state_machine_as_test, Machine, settings=budget)
    for name in PROJECTIONS:
        command = [sys.executable, "-m", "projections", "rebuild", name]
        rebuilt = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **platform.stack.env}
        )
        assert rebuilt.returncode == 0, rebuilt.stderr
    for machine in done:
        machine.http = httpx.Client(base_url=platform.url, timeout=30, trust_env=False)
        await asyncio.to_thread(machine._compare_read_models)
        machine.http.close()
