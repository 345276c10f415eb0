"""`python -m demo` (or `make demo`): sign up owners and list properties through the public API.

Without a file the listings are invented, and each is a command of its own. With --csv the file is imported for the
first owner; problems of its rows are counted by reason. A retry lists nothing twice.
"""

import argparse
import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from demo.imports import first_rows, import_file
from demo.listings import synthetic

_CONCURRENCY = 8
_MAX_ATTEMPTS = 20
_NAMES = ("Anjali Reddy", "Farhan Ali", "Kavya Rao", "Ravi Kumar", "Sana Begum", "Suresh Goud")


@dataclass
class Owner:
    """A registered user and their credentials."""

    email: str
    password: str
    token: str = ""
    listed: int = 0
    newest: str = ""
    """The path of the last property that was listed for them."""


class Demo:
    """Lists properties for a few owners, with bounded concurrency."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._run = secrets.token_hex(4)
        self.owners: list[Owner] = []
        self.refused: Counter[str] = Counter()
        """Problems, of which a row of a file may have several."""
        self.refused_rows = 0

    async def sign_up(self, count: int) -> None:
        for n in range(count):
            first, last = _NAMES[n % len(_NAMES)].split()
            name = f"{first.lower()}.{self._run}.{n}"
            owner = Owner(f"{name}@example.com", secrets.token_urlsafe(12))
            body = {"username": name, "firstName": first, "lastName": last, "role": "USER"}
            answer = await self._send(
                "/api/auth/register",
                {**body, "email": owner.email, "password": owner.password},
                f"owner-{self._run}-{n}",
            )
            answer.raise_for_status()
            owner.token = answer.json().get("accessToken", "")
            self.owners.append(owner)

    async def list_one(self, n: int, listing: dict[str, Any]) -> None:
        owner = self.owners[n % len(self.owners)]
        answer = await self._send("/api/properties", listing, f"row-{self._run}-{n}", owner.token)
        if answer.status_code in {201, 202}:
            owner.listed += 1
            owner.newest = answer.headers["Location"] if answer.status_code == 201 else owner.newest
        elif answer.status_code == 401:
            await self._sign_in_again(owner)
            await self.list_one(n, listing)
        else:
            problem = answer.json()
            reasons = [f"{fault['field']}: {fault['reason']}" for fault in problem["errors"]] or [problem["title"]]
            self.refused[reasons[0]] += 1
            self.refused_rows += 1

    async def list_all(self, listings: list[dict[str, Any]], done: Callable[[], None]) -> None:
        places = asyncio.Semaphore(_CONCURRENCY)

        async def one(n: int, listing: dict[str, Any]) -> None:
            async with places:
                await self.list_one(n, listing)
                done()

        async with asyncio.TaskGroup() as group:
            for n, listing in enumerate(listings):
                group.create_task(one(n, listing))

    async def import_rows(self, name: str, content: bytes, show: Callable[[int], None]) -> None:
        """Import a file for the first owner."""
        owner = self.owners[0]

        def headers() -> dict[str, str]:
            return {"Authorization": f"Bearer {owner.token}"}

        imported, self.refused = await import_file(self._http, headers, name, content, show)
        owner.listed = imported["rows"]["saved"]
        self.refused_rows = imported["rows"]["refused"]
        page = await self._http.get("/api/properties/my-properties?limit=1", headers=headers())
        if items := page.raise_for_status().json()["items"]:
            owner.newest = f"/api/properties/{items[0]['id']}"
        if imported["reason"]:
            self.refused[imported["reason"]] += 1

    async def _sign_in_again(self, owner: Owner) -> None:
        """Get a new access token: a long import outlives the 15 minutes of one."""
        answer = await self._send("/api/auth/login", {"emailOrUsername": owner.email, "password": owner.password}, None)
        answer.raise_for_status()
        owner.token = answer.json()["accessToken"]

    async def _send(self, path: str, body: dict[str, Any], key: str | None, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if key:
            headers["Idempotency-Key"] = key
        for _ in range(_MAX_ATTEMPTS):
            answer = await self._http.post(path, json=body, headers=headers)
            running = answer.status_code == 409 and answer.json()["type"] == "/problems/command-running"
            if answer.status_code not in {429, 503} and not running:
                return answer
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        return answer


async def run(arguments: argparse.Namespace) -> int:
    content, count = first_rows(arguments.csv, arguments.count) if arguments.csv else (b"", arguments.count or 50)
    async with httpx.AsyncClient(base_url=arguments.url, timeout=30, trust_env=False) as http:
        demo = Demo(http)
        await demo.sign_up(arguments.owners)
        console = Console(stderr=True)
        columns = (TextColumn("Listing properties"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=count)
            if arguments.csv:
                await demo.import_rows(arguments.csv.name, content, lambda read: progress.update(bar, completed=read))
            else:
                await demo.list_all(list(synthetic(count)), lambda: progress.advance(bar))
    _report(demo, count, as_json=arguments.json)
    if not arguments.json:
        sys.stdout.write(_next_steps(arguments.url.rstrip("/"), demo.owners[0]))
    return 0


def _report(demo: Demo, rows: int, *, as_json: bool) -> None:
    listed = sum(owner.listed for owner in demo.owners)
    if as_json:
        shown = ("email", "password", "listed")
        owners = [{name: getattr(owner, name) for name in shown} for owner in demo.owners]
        counts = {"rows": rows, "listed": listed, "refusedRows": demo.refused_rows}
        json.dump({**counts, "refused": demo.refused, "owners": owners}, sys.stdout)
        return
    console = Console()
    console.print(f"{listed} of {rows} properties are listed.")
    if demo.refused:
        table = Table("lines", "problem")
        for reason, count in demo.refused.most_common():
            table.add_row(str(count), reason)
        console.print(table)
    table = Table("owner", "password", "listed")
    for owner in demo.owners:
        table.add_row(owner.email, owner.password, str(owner.listed))
    console.print(table)


def _next_steps(url: str, owner: Owner) -> str:
    """Lines for a shell: sign in as an owner and look at what they did."""
    credentials = json.dumps({"emailOrUsername": owner.email, "password": owner.password})
    bearer = '-H "Authorization: Bearer $TOKEN"'
    sign_in = f"curl -s $API/api/auth/login -H 'Content-Type: application/json' -d '{credentials}'"
    lines = [
        f"API={url}",
        f"TOKEN=$({sign_in} {_pick('accessToken')})",
        f"ME=$(curl -s $API/api/users/profile {bearer} {_pick('id')})",
        'curl -s -G $API/api/search/properties --data-urlencode "q=3 bhk under 1.5 cr"',
        f'curl -s "$API/api/user-history/$ME?limit=5" {bearer}',
        *([f"curl -s $API{owner.newest}", f"curl -s $API{owner.newest}/history {bearer}"] if owner.newest else []),
    ]
    commands = "".join(f"  {line}\n" for line in lines)
    return (
        f"\nWhat to try next, signed in as {owner.email}; a token lasts 15 minutes:\n\n{commands}\n"
        f"Every route is at {url}/docs. For listings of your own: make demo CSV=listings.csv\n"
        f"(docs/imports.md says which columns it needs).\n"
    )


def _pick(name: str) -> str:
    """The rest of a pipeline that prints one field of a JSON document."""
    return f"""| python3 -c 'import json, sys; print(json.load(sys.stdin)["{name}"])'"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the API (default: %(default)s)")
    parser.add_argument("--csv", type=Path, help="a CSV of listings (docs/imports.md); without it, an invented sample")
    parser.add_argument(
        "--count", type=int, help="how many rows at the most (default: all of the file, or 50 invented)"
    )
    parser.add_argument("--owners", type=int, default=3, help="how many people to sign up (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    arguments = parser.parse_args()
    if arguments.owners < 1 or (arguments.count is not None and arguments.count < 1):
        parser.error("--owners and --count take a number from 1")
    try:
        return asyncio.run(run(arguments))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
    except httpx.TransportError as error:
        sys.stderr.write(f"{arguments.url} does not answer ({type(error).__name__}). Is `make run` running?\n")
        sys.stderr.write("If it uses another port, give it here too: make demo PORT=8090\n")
    except httpx.HTTPStatusError as error:
        sys.stderr.write(f"{error.request.url} answered {error.response.text}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
