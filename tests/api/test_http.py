"""HTTP behaviour that all routes share."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from api.errors import KINDS, MAX_HEADER_BYTES, MAX_URI_BYTES, Problem, example
from api.middleware import RequestChecks
from api.openapi import AcceptedCommand
from api.origins import Origins
from api.pages import prefers_html
from tests.api.test_contract import assert_problem
from tests.platform import Person, Platform, registration, until
from tests.samples import listing

JSON = {"Content-Type": "application/json"}
ORIGIN = "https://portal.example"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture(scope="module")
async def owner(platform: Platform) -> Person:
    return await platform.register()


@pytest.fixture(scope="module")
async def address(platform: Platform, owner: Person) -> str:
    return str((await platform.create(owner)).headers["location"])


@pytest.mark.parametrize(
    ("bare", "quoted"),
    [("first-flat", '"first-flat"'), ("a b", '"a b"'), (r'back\slash"quote', r'"back\\slash\"quote"')],
)
async def test_quoted_key_equals_the_bare_key(platform: Platform, owner: Person, bare: str, quoted: str) -> None:
    created = await platform.create(owner, {"Idempotency-Key": bare})
    again = await platform.create(owner, {"Idempotency-Key": quoted})

    assert (created.status_code, again.status_code) == (201, 201)
    assert again.json() == created.json()
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ['"', '""', '"open', r'"wrong\escape"', '"a" "b"', '"a";p=1'])
async def test_key_with_a_malformed_quote_is_refused(platform: Platform, owner: Person, key: str) -> None:
    assert_problem(await platform.create(owner, {"Idempotency-Key": key}), "invalid-idempotency-key")


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "Content-Type", "Consistency-Token", "If-Match"])
async def test_repeated_single_valued_header_is_refused(platform: Platform, owner: Person, name: str) -> None:
    once = {**owner.headers, **JSON, "Idempotency-Key": "k", "Consistency-Token": "t", "If-Match": "*"}
    twice = [*once.items(), (name, once[name])]

    answer = await platform.http.post("/api/properties", content=json.dumps(listing()), headers=twice)

    assert f"one {name} header" in assert_problem(answer, "repeated-header")["detail"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"price": 8500000, "price": 1}', "price"),
        ('{"price": 8500000, "pr\\u0069ce": 1}', "price"),
        ('{"amenities": [{"deep": {"a": 1, "b": 2, "a": 1}}]}', "a"),
    ],
)
async def test_duplicate_name_in_an_object_is_refused(platform: Platform, owner: Person, body: str, name: str) -> None:
    answer = await platform.http.post("/api/properties", content=body, headers={**owner.headers, **JSON})

    assert f'"{name}" once' in assert_problem(answer, "duplicate-name")["detail"]


async def test_duplicate_price_creates_no_listing(platform: Platform, owner: Person) -> None:
    body = json.dumps(listing())[:-1] + ', "price": 1}'

    assert_problem(
        await platform.http.post("/api/properties", content=body, headers={**owner.headers, **JSON}), "duplicate-name"
    )


@pytest.mark.parametrize(
    ("encoding", "where"), [("utf-16", "byte 0"), ("latin-1", "byte 11"), ("utf-32-le", "byte 44")]
)
async def test_body_that_is_not_utf8_is_refused(platform: Platform, owner: Person, encoding: str, where: str) -> None:
    content = '{"title": "é"}'.encode(encoding)

    answer = await platform.http.post("/api/properties", content=content, headers={**owner.headers, **JSON})

    assert where in assert_problem(answer, "malformed-json")["detail"]


async def test_problem_of_malformed_json_has_the_position(platform: Platform, owner: Person) -> None:
    answer = await platform.http.post("/api/properties", content='{"price": 1,\n}', headers={**owner.headers, **JSON})

    assert "line 2, column 1" in assert_problem(answer, "malformed-json")["detail"]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
async def test_constant_that_json_does_not_have_is_not_json(platform: Platform, owner: Person, constant: str) -> None:
    body = json.dumps(listing()).replace("8500000", constant)

    answer = await platform.http.post("/api/properties", content=body, headers={**owner.headers, **JSON})

    assert f"in place of {constant}," in assert_problem(answer, "malformed-json")["detail"]


async def test_utf8_byte_order_mark_is_ignored(platform: Platform, owner: Person) -> None:
    content = b"\xef\xbb\xbf" + json.dumps(listing()).encode()

    answer = await platform.http.post("/api/properties", content=content, headers={**owner.headers, **JSON})

    assert answer.status_code == 201


@pytest.mark.parametrize(("encoding", "taken"), [("gzip", False), ("br, gzip", False), ("identity", True)])
async def test_content_encoding_is_refused(platform: Platform, owner: Person, encoding: str, taken: bool) -> None:
    answer = await platform.http.post(
        "/api/properties", json=listing(), headers={**owner.headers, "Content-Encoding": encoding}
    )

    if taken:
        assert answer.status_code == 201
    else:
        assert_problem(answer, "unsupported-content-encoding")
        assert answer.headers["accept-encoding"] == "identity"


async def test_head_is_answered_wherever_get_is(platform: Platform, owner: Person, address: str) -> None:
    document = (await platform.http.get("/openapi.json")).json()
    ids = {
        "property_id": address.rpartition("/")[2],
        "user_id": owner.id,
        "command_id": str(uuid4()),
        "kind": "internal",
        "name": "history",
        "parked_id": 1,
        "saved_search_id": str(uuid4()),
        "type": "PROPERTY_CREATED",
        "file_key": str(uuid4()),
        "upload_id": str(uuid4()),
        "import_id": str(uuid4()),
    }
    paths = [path.format_map(ids) for path, operations in document["paths"].items() if "get" in operations]
    for path in ["/", "/api", "/docs", "/openapi.json", "/static/swagger/swagger-ui.css", *paths]:
        get = await platform.http.get(path, headers=owner.headers)
        head = await platform.http.head(path, headers=owner.headers)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"], path
        assert head.headers.get("etag") == get.headers.get("etag"), path


async def test_if_none_match_any_is_304(platform: Platform, owner: Person, address: str) -> None:
    for path in (address, "/api/users/profile"):
        etag = (await platform.http.get(path, headers=owner.headers)).headers["etag"]
        answer = await platform.http.get(path, headers={**owner.headers, "If-None-Match": "*"})
        assert (answer.status_code, answer.headers["etag"], answer.content) == (304, etag, b"")


async def test_new_count_is_read_with_the_etag_of_an_unchanged_listing(
    platform: Platform, owner: Person, address: str
) -> None:
    before = await platform.http.get(address)
    await platform.http.put(f"{address}/favorite", headers=owner.headers)

    async def read_with_the_same_etag() -> bool:
        etag = before.headers["etag"]
        answer = await platform.http.get(address, headers={"If-None-Match": etag})
        return (answer.headers["etag"], answer.json()["favoritesCount"]) == (etag, 1)

    await until(read_with_the_same_etag)


async def test_url_that_is_too_long_is_a_problem(platform: Platform) -> None:
    path = "/api/castles?q="
    longest = path + "x" * (MAX_URI_BYTES - len(path) + 1)  # the question mark is not counted

    assert_problem(await platform.http.get(longest), "not-found")
    assert_problem(await platform.http.get(longest + "x"), "uri-too-long")
    assert_problem(await platform.http.get("/" + "x" * 60_000), "uri-too-long")


async def test_headers_that_are_too_large_are_a_problem(platform: Platform) -> None:
    assert (await platform.http.get("/livez", headers={"X-Large": "x" * 30_000})).status_code == 200
    assert_problem(await platform.http.get("/livez", headers={"X-Large": "x" * MAX_HEADER_BYTES}), "headers-too-large")
    many = [(f"X-{n}", "x" * 1000) for n in range(33)]
    assert_problem(await platform.http.get("/livez", headers=many), "headers-too-large")


@pytest.mark.parametrize(
    ("endless", "kind"),
    [
        (b"GET /" + b"x" * 50_000, "uri-too-long"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 50_000, "headers-too-large"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 5_000, "headers-too-large"),
        (b"no such thing as HTTP\r\n\r\n", "malformed-request"),
    ],
)
async def test_endless_request_head_is_refused(platform: Platform, endless: bytes, kind: str) -> None:
    """The server must not buffer a head without limit."""
    parts = urlsplit(platform.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)

    async def send() -> None:
        try:
            writer.write(endless)
            for _ in range(20):
                if kind != "malformed-request":
                    writer.write(endless[-11:] * 1000)
                await writer.drain()
        except ConnectionError:
            pass  # the server has closed the connection

    sending = asyncio.create_task(send())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    await sending
    writer.close()

    assert head.startswith(f"HTTP/1.1 {KINDS[kind].status} ".encode())
    assert b"application/problem+json" in head
    assert Problem.model_validate_json(body).type == f"/problems/{kind}"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("/api/properties/", "/api/properties"),
        ("//api/properties", "/api/properties"),
        ("/api//auth/login", "/api/auth/login"),
        ("/livez//", "/livez"),
    ],
)
async def test_extra_slash_is_named(platform: Platform, wrong: str, right: str) -> None:
    answer = await platform.http.get(platform.url + wrong)

    assert_problem(answer, "not-found")
    assert answer.json()["detail"].endswith(f"the URL is {right}")
    assert "slash" not in (await platform.http.get("/api/castles/")).json()["detail"]


async def test_method_that_is_not_supported_lists_those_that_are(platform: Platform, address: str) -> None:
    for method in ("DELETE", "OPTIONS"):
        answer = await platform.http.request(method, "/api/user-history/" + str(uuid4()))
        assert assert_problem(answer, "method-not-allowed")["detail"] == "Use GET or HEAD."
        assert answer.headers["allow"] == "GET, HEAD"


async def test_preflight_of_a_listed_origin_allows_all_methods_and_headers(platform: Platform) -> None:
    answer = await platform.http.options(
        "/api/properties",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        },
    )

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, idempotency-key"
    assert answer.headers["vary"] == "Origin"


async def test_preflight_of_an_unknown_origin_is_refused(platform: Platform) -> None:
    answer = await platform.http.options(
        "/api/properties", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )

    assert "CORS_ORIGINS" in assert_problem(answer, "origin-not-allowed")["detail"]
    assert "access-control-allow-origin" not in answer.headers


async def test_errors_have_cors_headers(platform: Platform, owner: Person) -> None:
    more = {"Origin": ORIGIN}
    for answer in (
        await platform.http.get("/api/castles", headers=more),
        await platform.http.get("/api/users/profile", headers=more),
        await platform.http.post("/api/properties", content="{", headers={**more, **owner.headers, **JSON}),
        await platform.http.post("/api/properties", content="a=b", headers={**more, **owner.headers}),
        await platform.http.get("/" + "x" * 9000, headers=more),
        await platform.http.get("/livez", headers=[("Authorization", "a"), ("Authorization", "b"), *more.items()]),
    ):
        assert answer.status_code >= 400
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_unexpected_error_is_a_problem_with_cors_headers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("unexpected by a test")

    checks = RequestChecks(broken, 1_000_000, Origins([ORIGIN]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(checks), base_url="http://api.example") as client:
        answer = await client.get("/livez", headers={"Origin": ORIGIN})

    assert_problem(answer, "internal")
    assert "unexpected by a test" not in answer.text
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "unexpected by a test" in caplog.text


async def test_error_after_the_start_of_a_response_ends_the_connection() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("unexpected by a test")

    checks = RequestChecks(broken, 1_000_000, Origins([]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(checks), base_url="http://api.example") as client:
        with pytest.raises(RuntimeError, match="unexpected by a test"):
            await client.get("/livez")


async def test_location_of_a_registration_is_the_profile(platform: Platform) -> None:
    body = registration()
    registered = await platform.http.post("/api/auth/register", json=body)
    token = {"Authorization": f"Bearer {registered.json()['accessToken']}"}

    account = await platform.http.get(registered.headers["location"], headers=token)

    assert account.json()["email"] == body["email"]
    assert account.headers["etag"] == registered.headers["etag"]


@pytest.mark.parametrize("path", ["/", "/api"])
async def test_root_links_to_the_documentation(platform: Platform, path: str) -> None:
    body = (await platform.http.get(path)).json()
    page = await platform.http.get(path, headers={"Accept": BROWSER})

    assert body["documentation"] == "/docs"
    assert (await platform.http.get(body["documentation"])).status_code == 200
    assert (await platform.http.get(body["openapi"])).json()["openapi"].startswith("3.1")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="/docs"' in page.text


async def test_every_problem_has_an_html_page(platform: Platform) -> None:
    for kind, row in KINDS.items():
        page = await platform.http.get(f"/problems/{kind}", headers={"Accept": BROWSER})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f"<h1>{row.title}</h1>" in page.text
        assert f"&quot;type&quot;: &quot;/problems/{kind}&quot;" in page.text
        body = (await platform.http.get(f"/problems/{kind}")).json()
        assert body["example"] == example(kind)
    answer = await platform.http.get("/problems/unheard-of")
    assert "invalid-request" in assert_problem(answer, "not-found")["detail"]


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/*", True),
        ("application/json;q=0.5, text/html", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=high", False),
    ],
)
def test_html_is_returned_when_accept_prefers_it(accept: str, page: bool) -> None:
    assert prefers_html(accept) is page


def test_response_202_is_as_documented() -> None:
    command_id = str(uuid4())
    sent: dict[str, Any] = {
        "commandId": command_id, "status": "RUNNING", "location": f"/api/commands/{command_id}",
    }  # fmt: skip

    assert AcceptedCommand.model_validate(sent).location == f"/api/commands/{command_id}"


async def test_body_with_thousands_of_faults_gets_a_short_answer(platform: Platform, owner: Person) -> None:
    names = json.dumps({f"k{n}": 1 for n in range(201)})
    faults = json.dumps(listing() | {f"k{n}": 1 for n in range(150)})
    amenities = json.dumps(listing(amenities=[1] * 60_000))
    headers = {**owner.headers, **JSON}

    too_many = assert_problem(
        await platform.http.post("/api/auth/login", content=names, headers=headers), "malformed-json"
    )
    some = assert_problem(
        await platform.http.post("/api/properties", content=faults, headers=headers), "invalid-request"
    )
    one = assert_problem(
        await platform.http.post("/api/properties", content=amenities, headers=headers), "invalid-request"
    )

    assert "at most 200 names" in too_many["detail"]
    assert (len(some["errors"]), "100 more" in some["detail"]) == (50, True)
    assert len(one["errors"]) == 1
