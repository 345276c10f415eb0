"""A client of the running platform."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from embedded.stack import Stack
from tests.samples import listing

T = TypeVar("T")

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Person:
    """A registered user with tokens."""

    id: str
    email: str
    username: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


class Platform:
    """A client of the API and the mailbox, and the processes that serve them."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.stack = stack
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)
        self.mailbox = httpx.AsyncClient(base_url=stack.env["MAILBOX_URL"], timeout=10, trust_env=False)

    async def register(self, host: str | None = None, **more: object) -> Person:
        answer = await self.http.post(
            "/api/auth/register", json=registration(**more), headers={"Host": host} if host else {}
        )
        assert answer.status_code == 201, answer.text
        body = answer.json()
        user = body["user"]
        return Person(user["id"], user["email"], user["username"], body["accessToken"], body["refreshToken"])

    async def create(self, person: Person, headers: dict[str, str] | None = None, **more: object) -> httpx.Response:
        return await self.http.post(
            "/api/properties", json=listing(**more), headers={**person.headers, **(headers or {})}
        )

    async def change(
        self,
        person: Person,
        method: str,
        path: str,
        body: object = None,
        *,
        if_match: str | None = "*",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Change a listing; `path` is its Location, or a sub-resource of it."""
        sent = {**person.headers, **({} if if_match is None else {"If-Match": if_match}), **(headers or {})}
        return await self.http.request(method, path, json=body, headers=sent)

    async def login(self, person: Person, host: str | None = None) -> Person:
        """The same person with new tokens, which contain the account's current role."""
        body = {"emailOrUsername": person.email, "password": PASSWORD}
        answer = await self.http.post("/api/auth/login", json=body, headers={"Host": host} if host else {})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return Person(person.id, person.email, person.username, body["accessToken"], body["refreshToken"])

    async def history(self, person: Person, token: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        headers = person.headers | ({"Consistency-Token": token} if token else {})
        answer = await self.http.get(f"/api/user-history/{person.id}", params={"limit": limit}, headers=headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def mails(self, person: Person, subject: str) -> list[dict[str, Any]]:
        """The mails to a person whose subject contains `subject`."""
        mails: list[dict[str, Any]] = (await self.mailbox.get("/api/messages", params={"to": person.email})).json()
        return [mail for mail in mails if subject in mail["subject"]]

    async def is_up(self) -> bool:
        """Whether every process and engine is ready."""
        try:
            for process in self.stack.processes.values():
                await process.spec.ready()
        except Exception:  # any error of the probe means that the process is not ready
            return False
        return True

    async def close(self) -> None:
        await self.http.aclose()
        await self.mailbox.aclose()


def registration(**more: object) -> dict[str, object]:
    name = f"u{uuid4().hex[:12]}"
    return {
        "username": name,
        "email": f"{name}@example.com",
        "password": PASSWORD,
        "firstName": "Ravi",
        "lastName": "Kumar",
        **more,
    }


async def until(condition: Callable[[], Awaitable[T]], seconds: float = 30) -> T:
    """Poll `condition` until its result is true, and return that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        await asyncio.sleep(0.05)
