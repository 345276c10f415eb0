"""Small errors of requests: each is named, with what to send instead."""

from uuid import uuid4

import httpx
import pytest

from api.conditional import versions_in
from api.errors import KINDS
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform
from tests.samples import listing

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


def reasons(answer: httpx.Response) -> dict[str, str]:
    return {fault["field"]: fault["reason"] for fault in assert_problem(answer, "invalid-request")["errors"]}


@pytest.mark.parametrize(
    "tag", ["1", "abc", "", '"1', '1"', '"1" "2"', "W/1", "W/*", "'1'", '"1", 2', '"a b"', "*, *", 'w/"1"', ","]
)
async def test_malformed_if_match_is_refused(platform: Platform, owner: Person, tag: str) -> None:
    answer = await platform.change(owner, "PATCH", f"/api/properties/{uuid4()}", {"price": 1}, if_match=tag)

    assert '"1"' in assert_problem(answer, "invalid-if-match")["detail"]


@pytest.mark.parametrize(
    ("tags", "versions"),
    [
        ('"1"', (1,)),
        ('"1", "23"', (1, 23)),
        (' , "1",,"2-gzip" ', (1, 2)),
        ('W/"1"', ()),
        ('"made-up", "3"', (3,)),
        ('"1,2"', ()),
        ('""', ()),
        ('"\xe9"', ()),
    ],
)
def test_versions_of_well_formed_tags_are_read(tags: str, versions: tuple[int, ...]) -> None:
    assert versions_in(tags) == versions


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/api/properties", "limit, cursor"),
        ("/api/properties/my-properties", "status, limit, cursor"),
        ("/api/users/profile", "none"),
        ("/api/user-history/{user_id}", "limit, cursor, from, to, type"),
        ("/api/commands/{user_id}", "token"),
    ],
)
async def test_unknown_query_parameter_is_named(platform: Platform, owner: Person, path: str, known: str) -> None:
    answer = await platform.http.get(path.format(user_id=owner.id), params={"limt": 5, "": "x"}, headers=owner.headers)

    sentence = f"Remove this parameter. The URL has these: {known}."
    assert reasons(answer) == {"query.limt": sentence, "query.": sentence}


@pytest.mark.parametrize("path", ["/api/properties", "/api/user-history/{user_id}"])
async def test_repeated_query_parameter_is_named(platform: Platform, owner: Person, path: str) -> None:
    url = path.format(user_id=owner.id) + "?limit=5&limit=5"

    answer = await platform.http.get(url, headers=owner.headers)

    assert reasons(answer) == {"query.limit": "Send this parameter once."}
    assert "`limit`" in answer.json()["detail"]


async def test_unknown_query_parameter_of_a_command_is_named_and_nothing_is_created(
    platform: Platform, owner: Person
) -> None:
    answer = await platform.http.post("/api/properties?dryRun=true", json=listing(), headers=owner.headers)

    assert reasons(answer).keys() == {"query.dryRun"}
    mine = await platform.http.get("/api/properties/my-properties", headers=owner.headers)
    assert mine.json()["items"] == []


async def test_name_of_an_unknown_parameter_is_cut_and_many_are_a_short_answer(platform: Platform) -> None:
    long = await platform.http.get("/api/properties?" + "x" * 5000)
    many = await platform.http.get("/api/properties?" + "&".join(f"p{n}" for n in range(1000)))

    assert reasons(long).keys() == {"query." + "x" * 100}
    assert (len(reasons(many)), "950 more" in many.json()["detail"]) == (50, True)


@pytest.mark.parametrize("path", ["/livez", "/docs", "/openapi.json", "/problems", "/.well-known/jwks.json"])
async def test_pages_for_people_and_tools_take_any_query(platform: Platform, path: str) -> None:
    assert (await platform.http.get(f"{path}?utm_source=mail&utm_source=mail")).status_code == 200


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("price", "Give a whole number, without quotes; it cannot be null."),
        ("title", "Give a text, in quotes; it cannot be null."),
        ("propertyType", "it cannot be null."),
        ("amenities", "Give a list, in square brackets; it cannot be null."),
    ],
)
async def test_null_is_told_apart_from_a_wrong_type(platform: Platform, owner: Person, field: str, reason: str) -> None:
    answer = await platform.create(owner, **{field: None})

    assert reasons(answer)[field].endswith(reason)


async def test_null_in_a_merge_patch_does_not_remove_a_required_field(platform: Platform, owner: Person) -> None:
    answer = await platform.change(owner, "PATCH", f"/api/properties/{uuid4()}", {"price": None})

    assert reasons(answer)["price"] == "Give a whole number, without quotes; it cannot be null."


async def test_unknown_field_with_null_is_unknown(platform: Platform, owner: Person) -> None:
    assert reasons(await platform.create(owner, castle=None)) == {"castle": "Remove this field; it is not known."}


@pytest.mark.parametrize("content", [b"", b"null"])
@pytest.mark.parametrize("path", ["/api/properties", "/api/auth/login", "/api/auth/register"])
async def test_body_that_is_missing_is_told(platform: Platform, owner: Person, path: str, content: bytes) -> None:
    answer = await platform.http.post(path, content=content, headers={**owner.headers, **JSON})

    assert reasons(answer) == {"body": "Send a JSON object as the body; it is required."}


async def test_id_that_is_no_uuid_is_told(platform: Platform, owner: Person) -> None:
    for path, name in (
        ("/api/properties/7", "property_id"),
        ("/api/user-history/7", "user_id"),
        ("/api/commands/7", "command_id"),
    ):
        answer = await platform.http.get(path, headers=owner.headers)

        reason = "It must be a UUID: 32 hexadecimal digits with four hyphens."
        assert reasons(answer) == {f"path.{name}": reason}
        assert answer.json()["detail"] == f"In the URL, `{name}` is not valid. {reason}"


async def test_index_of_problems_links_to_each(platform: Platform) -> None:
    items = (await platform.http.get("/problems")).json()["items"]
    page = await platform.http.get("/problems", headers={"Accept": BROWSER})

    assert {item["type"]: (item["title"], item["status"]) for item in items} == {
        f"/problems/{kind}": (row.title, row.status) for kind, row in KINDS.items()
    }
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert all(f'href="{item["type"]}"' in page.text for item in items)
    assert 'href="/problems"' in (await platform.http.get("/problems/not-found", headers={"Accept": BROWSER})).text
