"""Runs the commands of README.md and of `make demo` against the platform."""

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from embedded.paths import ROOT, write_environment
from projections.registry import PROJECTIONS
from tests.platform import Platform, until

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")


async def run(script: str, folder: Path, **env: str) -> list[dict[str, Any]]:
    """The JSON documents that a shell prints."""
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script, cwd=folder, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await shell.communicate()
    assert shell.returncode == 0
    text, documents = printed.decode().strip(), []
    while text:
        document, end = json.JSONDecoder().raw_decode(text)
        documents.append(document)
        text = text[end:].strip()
    return documents


def is_problem(document: dict[str, Any]) -> bool:
    return str(document.get("type", "")).startswith("/problems/")


async def test_tour_of_the_readme_works_on_another_port(platform: Platform, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [tour] = [block for block in blocks if "/api/auth/register" in block]
    [administering] = [block for block in blocks if "$API/api/projections" in block]
    [erasing] = [block for block in blocks if "-X DELETE $API/api/users/profile" in block]

    name = f"u{uuid4().hex[:12]}"
    script = (tour + administering + erasing).replace("ravi", name).replace("|| cat stream.txt", "|| true")
    script = script.replace(".venv/bin/python", sys.executable)
    # What `make admin` runs, which is not beside this environment.
    admin = f"(set -a; . .data/environment; cd {ROOT}; {sys.executable} -m admin --email {name}@example.com >&2)"
    script = script.replace(f"make admin EMAIL={name}@example.com", admin)
    (tmp_path / ".data").mkdir()
    write_environment(tmp_path / ".data" / "environment", platform.stack.env)
    await until(platform.is_up, 120)  # an earlier test may have killed a process

    answers = await run(script, tmp_path, PORT=platform.url.rpartition(":")[2], no_proxy="*")

    problems = [answer for answer in answers if is_problem(answer)]
    assert len(problems) == 2, problems
    gone, problem = problems
    assert any("accessToken" in answer for answer in answers)
    account = json.loads((tmp_path / "account.json").read_text())
    assert (account["user"]["status"], account["user"]["emailVerified"]) == ("ACTIVE", True)
    mails = (await platform.mailbox.get("/api/messages", params={"to": f"{name}@example.com"})).json()
    for link in ("/verify-email?token=", "/reset-password?token="):
        [found] = [mail for mail in mails if link in mail["text"]]
        assert link in found["html"]
    typed, filtered, drawn = [answer for answer in answers if "interpretation" in answer]
    read = typed["interpretation"]["filters"]
    assert read.pop("listingType") == ["SALE"]  # crores are no rent
    assert read == {"location": ["Gachibowli"], "bedrooms": ["3"], "maxPrice": 10_000_000}
    for search in (typed, filtered, drawn):
        assert "3BHK Apartment in Gachibowli" in str(search["items"])
    suggested = [item for answer in answers for item in answer.get("items", ()) if item.get("kind") == "LOCALITY"]
    assert "Gachibowli" in {item["text"] for item in suggested}
    with Image.open(tmp_path / "picture.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (1280, 960))
    [previewed] = [answer for answer in answers if "ignoredColumns" in answer]
    assert previewed["ignoredColumns"] == []
    [imported] = [answer for answer in answers if answer.get("status") == "COMPLETED" and "reportLines" in answer]
    assert (imported["rows"]["saved"], imported["rows"]["refused"]) == (2, 1)
    assert "price" in (tmp_path / "report.csv").read_text()
    assert [answer["frequency"] for answer in answers if "dueAt" in answer] == ["DAILY"]
    [tiles] = [answer["items"] for answer in answers if any("tile" in item for item in answer.get("items", ()))]
    assert sum(tile["count"] for tile in tiles) >= 1
    [summary] = [answer for answer in answers if "countsByType" in answer]
    assert summary["countsByType"]["PROPERTY_SEARCHED"] == 1
    stream = (tmp_path / "stream.txt").read_text()
    assert {"event: ready", "event: property", "event: command", "event: history"} <= set(stream.splitlines())
    histories = [answer["items"] for answer in answers if "activityType" in str(answer.get("items"))]
    _, recent, properties, searches, updates = histories
    assert {"PROPERTY_CREATED", "USER_LOGGED_IN"} <= {entry["activityType"] for entry in recent}
    assert all(entry["activityType"].startswith("PROPERTY_") for entry in properties)
    assert [entry["activityType"] for entry in searches] == ["PROPERTY_SEARCHED"]
    assert [entry["activityType"] for entry in updates] == ["PROPERTY_UPDATED"]
    assert [answer["kind"] for answer in answers if "data" in answer] == ["account"]
    [operated] = [answer["items"] for answer in answers if "lagEvents" in str(answer.get("items"))]
    assert [projection["name"] for projection in operated] == list(PROJECTIONS)
    drafts = [answer["items"] for answer in answers if {"DRAFT"} == {i.get("status") for i in answer.get("items", ())}]
    assert [[draft["title"] for draft in page] for page in drafts] == [["Plot near Shamirpet"]]
    assert [a["status"] for a in answers if a.get("title") == "Plot near Shamirpet"] == ["ACTIVE"]
    [sessions, events, inbox, preferences, _, accepted, progress] = answers[-7:]
    assert [session["current"] for session in sessions["items"]] == [True]
    assert "USER_PASSWORD_CHANGED" in str(events)
    assert "unreadCount" in inbox
    assert preferences["quietHours"] == {"from": "22:00", "to": "07:00"}
    assert (accepted["status"], progress["type"]) == ("RUNNING", "erase-user")
    assert progress["stages"][-1]["status"] == "DONE"
    assert gone["status"] == 410
    assert {fault["field"] for fault in problem["errors"]} >= {"title", "price", "location"}


async def test_demo_ends_with_commands_that_work(platform: Platform, tmp_path: Path) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "--url", platform.url, "--count", "2", "--owners", "1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    printed = (await demo.communicate())[0].decode()
    assert "2 of 2 properties are listed." in printed
    commands = printed.partition("What to try next")[2].split("\n\n")[1]

    async def shown() -> list[dict[str, Any]]:
        documents = await run(commands, tmp_path, no_proxy="*")
        entries = [entry["activityType"] for entry in documents[1]["items"]]
        saved = [entry for entry in entries if entry != "USER_LOGGED_IN"]  # the commands sign in themselves
        return documents if saved == ["PROPERTY_CREATED", "PROPERTY_CREATED", "USER_REGISTERED"] else []

    search, _, listing, events = await until(shown)

    assert search["interpretation"]["filters"]["maxPrice"] == 15_000_000
    assert listing["status"] == "ACTIVE"
    assert events["items"][0]["eventType"] == "PROPERTY_CREATED"
    assert f"{platform.url}/docs" in printed
