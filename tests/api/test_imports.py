"""Importing files of listings over HTTP, by the running platform."""

import csv
import io
import json
from typing import Any

import httpx
import pytest

from api import imports
from tests.activities.importing import COLUMNS, csv_of, row
from tests.platform import Person, Platform, until

LONG = 2_000
"""Rows of a file that is still being read when it is paused or cancelled: five seconds."""


@pytest.fixture(scope="module")
async def agent(platform: Platform) -> Person:
    return await platform.register(role="AGENT")


async def send(platform: Platform, person: Person, content: bytes, **fields: Any) -> httpx.Response:
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    files = {"file": ("flats.csv", content, "text/csv")}
    return await platform.http.post("/api/properties/import", files=files, data=data, headers=person.headers)


async def read(platform: Platform, person: Person, path: str) -> dict[str, Any]:
    answer = await platform.http.get(path, headers=person.headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def finished(platform: Platform, person: Person, path: str) -> dict[str, Any]:
    async def shown() -> dict[str, Any]:
        found = await read(platform, person, path)
        return found if found["finishedAt"] else {}

    return await until(shown, seconds=60)


async def report(platform: Platform, person: Person, path: str) -> list[dict[str, str]]:
    answer = await platform.http.get(f"{path}/report", headers=person.headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


async def act(platform: Platform, person: Person, method: str, path: str) -> httpx.Response:
    return await platform.http.request(method, path, headers=person.headers)


async def test_file_is_listed_reported_and_seen_in_the_history(platform: Platform, agent: Person) -> None:
    content = csv_of([row(n, Locality="Tellapur") for n in range(20)] + [row(20, Price="=1+1")])

    answer = await send(platform, agent, content)

    assert answer.status_code == 201, answer.text
    assert answer.json()["mapping"]["Reference"] == "externalId"
    path = answer.headers["Location"]
    done = await finished(platform, agent, path)
    assert done["status"] == "COMPLETED"
    assert done["rows"] == {"read": 21, "saved": 20, "updated": 0, "unchanged": 0, "refused": 1}
    assert (done["secondsLeft"], done["reportLines"], done["fileName"]) == (None, 1, "flats.csv")
    assert done["rowsPerSecond"] > 0
    [line] = await report(platform, agent, path)
    assert (line["line"], line["field"], line["value"]) == ("22", "price", "'=1+1")

    async def in_history() -> bool:
        types = [one["activityType"] for one in await platform.history(agent)]
        return types.count("PROPERTY_CREATED") == 20 and "PROPERTIES_IMPORT_FINISHED" in types

    await until(in_history)
    mails = await until(lambda: platform.mails(agent, "Your import is complete"))
    assert len(mails) == 1
    assert f"/imports/{done['id']}" in mails[0]["text"]
    assert not await platform.mails(agent, "listing")
    listed = await read(platform, agent, "/api/imports?limit=1")
    assert listed["items"][0]["id"] == done["id"]

    again = await send(platform, agent, content)
    repeated = await finished(platform, agent, again.headers["Location"])
    assert repeated["rows"] == {"read": 21, "saved": 0, "updated": 0, "unchanged": 20, "refused": 1}


async def test_dry_run_says_what_would_happen_and_its_upload_can_be_imported(platform: Platform, agent: Person) -> None:
    rows = [row(100 + n, Locality="Kollur") for n in range(3)] + [row(103, Price="1.2")]
    content = csv_of(rows, [*COLUMNS, "Remarks of the agent"])

    answer = await send(platform, agent, content, dryRun="true")

    assert answer.status_code == 200, answer.text
    preview = answer.json()
    assert preview["rows"] == {"read": 4, "saved": 3, "updated": 0, "unchanged": 0, "refused": 1}
    assert (preview["complete"], preview["format"]) == (True, "csv")
    assert preview["ignoredColumns"] == ["Remarks of the agent"]
    assert preview["mapping"]["Price"] == "price"
    assert [(one["line"], one["field"]) for one in preview["refusals"]] == [(5, "price")]
    assert all(one["id"] != preview["uploadId"] for one in (await read(platform, agent, "/api/imports"))["items"])

    started = await platform.http.post(
        "/api/properties/import", json={"uploadId": preview["uploadId"]}, headers=agent.headers
    )
    assert started.status_code == 201, started.text
    done = await finished(platform, agent, started.headers["Location"])
    assert done["rows"]["saved"] == 3


async def test_json_lines_with_a_mapping_and_defaults_in_an_upload_past_the_api(
    platform: Platform, agent: Person
) -> None:
    lines = [{"id": f"J-{n}", "rate": 75 + n, "area": "Uppal", "headline": "A flat for a family"} for n in range(3)]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = {"fileName": "flats.jsonl", "contentType": "application/x-ndjson", "size": len(content)}
    begun = (await platform.http.post("/api/files/uploads", json=file, headers=agent.headers)).json()
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(begun["url"], content=content, headers=begun["headers"])).status_code == 200
    await platform.http.post(f"/api/files/uploads/{begun['uploadId']}/complete", headers=agent.headers)
    mapping = {"id": "externalId", "rate": "priceLakhs", "area": "location", "headline": "title"}
    body = {"uploadId": begun["uploadId"], "mapping": mapping, "defaults": {"listingType": "SALE", "bedrooms": 2}}

    answer = await platform.http.post("/api/properties/import", json=body, headers=agent.headers)

    assert answer.status_code == 201, answer.text
    done = await finished(platform, agent, answer.headers["Location"])
    assert done["rows"]["saved"] == 3
    assert done["mapping"] == mapping
    mine = (await read(platform, agent, "/api/properties/my-properties?limit=3"))["items"]
    assert sorted(one["price"] for one in mine) == [7_500_000, 7_600_000, 7_700_000]
    assert {one["bedrooms"] for one in mine} == {2}


async def test_import_is_paused_resumed_and_cancelled(platform: Platform) -> None:
    agent = await platform.register(role="AGENT")
    answer = await send(platform, agent, csv_of([row(n) for n in range(LONG)]))
    path = answer.headers["Location"]

    paused = await act(platform, agent, "POST", f"{path}/pause")
    assert (paused.status_code, paused.json()["status"]) == (200, "PAUSED")
    stopped = paused.json()["rows"]
    assert stopped["read"] < LONG
    assert (await act(platform, agent, "POST", f"{path}/pause")).json()["rows"] == stopped

    resumed = await act(platform, agent, "POST", f"{path}/resume")
    assert resumed.json()["status"] == "RUNNING"

    async def goes_on() -> bool:
        rows = (await read(platform, agent, path))["rows"]
        return bool(rows["read"] > stopped["read"])

    await until(goes_on, seconds=60)
    cancelled = await act(platform, agent, "DELETE", path)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    left = cancelled.json()["rows"]
    done = await finished(platform, agent, path)
    assert (done["status"], done["rows"]) == ("CANCELLED", left)
    assert left["read"] == left["saved"] < LONG

    for method, to in (("POST", f"{path}/resume"), ("POST", f"{path}/pause")):
        refused = await act(platform, agent, method, to)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/import-finished")
    summary = await until(lambda: _listed(platform, agent, left["saved"]))
    assert summary


async def _listed(platform: Platform, agent: Person, count: int) -> bool:
    """Whether the history has as many new listings as the import says that it has saved."""
    summary = await read(platform, agent, f"/api/user-history/{agent.id}/summary")
    return bool(summary["countsByType"].get("PROPERTY_CREATED") == count)


async def test_fourth_unfinished_import_is_refused(platform: Platform) -> None:
    agent = await platform.register(role="AGENT")
    content = csv_of([row(n) for n in range(LONG)])
    paths = []
    for _ in range(3):
        answer = await send(platform, agent, content)
        paths.append(answer.headers["Location"])
        await act(platform, agent, "POST", f"{paths[-1]}/pause")

    refused = await send(platform, agent, content)

    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/too-many-imports")
    for path in paths:
        await act(platform, agent, "DELETE", path)
        assert (await finished(platform, agent, path))["status"] == "CANCELLED"


async def test_imports_of_others_are_not_found(platform: Platform, agent: Person) -> None:
    other = await platform.register()
    answer = await send(platform, agent, csv_of([row(900)]))
    path = answer.headers["Location"]
    upload = (await send(platform, agent, csv_of([row(901)]), dryRun="true")).json()["uploadId"]

    ways = [("GET", path), ("GET", f"{path}/report"), ("DELETE", path)]
    ways += [("POST", f"{path}/{change}") for change in ("pause", "resume")]
    for method, of in ways:
        refused = await act(platform, other, method, of)
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/not-found")
    taken = await platform.http.post("/api/properties/import", json={"uploadId": upload}, headers=other.headers)
    assert taken.status_code == 404
    assert (await read(platform, other, "/api/imports"))["items"] == []
    await finished(platform, agent, path)


@pytest.mark.parametrize(
    ("content", "fields", "status", "kind", "says"),
    [
        (b"PK\x03\x04 a workbook", {}, 422, "unreadable-file", "CSV"),
        (b"Title,Price\nA flat,85 L\n", {}, 422, "invalid-request", "mapping.location"),
        (b"A,B\n1,2\n", {"mapping": {"C": "price"}}, 422, "invalid-request", "mapping.C"),
        (b"A,B\n1,2\n", {"mapping": "not JSON"}, 422, "invalid-request", "mapping"),
        (b"A,B\n1,2\n", {"dryRun": "perhaps"}, 422, "invalid-request", "dryRun"),
        (b"A,B\n1,2\n", {"defaults": [1]}, 422, "invalid-request", "defaults"),
    ],
)
async def test_file_or_field_that_cannot_be_read_is_refused_with_advice(
    platform: Platform, agent: Person, content: bytes, fields: dict[str, Any], status: int, kind: str, says: str
) -> None:
    refused = await send(platform, agent, content, **fields)

    assert (refused.status_code, refused.json()["type"]) == (status, f"/problems/{kind}"), refused.text
    assert says in refused.text


async def test_duplicates_are_shown_to_the_owner_alone(platform: Platform, agent: Person) -> None:
    same = {"Address": "Flat 12, Green Towers", "Area": "1710 sft", "Locality": "Nallagandla"}
    content = csv_of([row(800 + n, **same) for n in range(2)], [*COLUMNS, "Address"])
    done = await finished(platform, agent, (await send(platform, agent, content)).headers["Location"])
    lines = await report(platform, agent, f"/api/imports/{done['id']}")
    assert [line["field"] for line in lines] == ["possibleDuplicate"] * 2
    one, other = (line["value"] for line in lines)

    shown = await read(platform, agent, f"/api/properties/{one}")
    assert shown["possibleDuplicates"] == [other]
    public = await platform.http.get(f"/api/properties/{one}")
    assert "possibleDuplicates" not in public.json()


def test_report_hides_no_formula() -> None:
    formulas = ["=1", "+1", "-1", "@SUM", "|calc", "%1", "\tx", "\rx", " =1"]
    separated = {"x;=cmd": "x;'=cmd", "x; =cmd": "x;' =cmd", "a\t@x": "a\t'@x", "a\n =1": "a\n' =1"}
    harmless = ["1", "₹85 L", "", "a-b", "2 + 2", "Flat; Gachibowli"]

    line = imports._line(*formulas, *separated, *harmless).decode()

    assert line.startswith('"')
    [cells] = csv.reader(io.StringIO(line, newline=""))
    assert cells[: len(formulas)] == [f"'{cell}" for cell in formulas]
    assert cells[len(formulas) :] == [*separated.values(), *harmless]
