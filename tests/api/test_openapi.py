"""The OpenAPI document: complete, and true under fuzzing."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, get_args
from uuid import uuid4

import jsonschema_rs
import pytest
import schemathesis
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from pydantic.alias_generators import to_snake
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.answers import SenderDep
from api.app import ROUTERS
from api.errors import Problem
from api.properties import NewProperty
from domain.model import Model
from domain.property import PropertyDetails, PropertyPatch
from tests.platform import Platform
from tests.samples import listing

# Rules that a schema cannot express: signed cursors, unique names, floorNumber up to totalFloors.
_NOT_PROMISED: list[Any] = [positive_data_acceptance]


@pytest.fixture(scope="module")
async def document(platform: Platform) -> dict[str, Any]:
    made: dict[str, Any] = (await platform.http.get("/openapi.json")).json()
    return made


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Resolve a reference of the document."""
    while "$ref" in node:
        where = node["$ref"].removeprefix("#/").split("/")
        node = document
        for part in where:
            node = node[part]
    return node


async def test_every_operation_documents_its_problems_with_examples(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, reference in operation["responses"].items():
            if int(status) < 400 or path == "/readyz":
                continue
            content = resolved(document, reference)["content"]
            assert content.keys() == {"application/problem+json"}, (method, path, status)
            for kind, example in content["application/problem+json"]["examples"].items():
                problem = resolved(document, example)["value"]
                assert Problem.model_validate(problem).status == int(status)
                assert problem["type"] == f"/problems/{kind}"
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_operations_are_named_by_their_functions(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]

    assert {"createProperty", "getProperty", "register", "login", "userHistory", "commandState"} <= set(names)
    assert len(names) == len(set(names))


def subclasses(model: type[Model]) -> Iterator[type[Model]]:
    for one in model.__subclasses__():
        yield one
        yield from subclasses(one)


async def test_every_body_has_an_example_that_is_valid(document: dict[str, Any]) -> None:
    models = {model.__name__: model for model in subclasses(Model)}
    read = set()
    for method, path, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = {**content["schema"], "components": document["components"]}
            jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(content["example"])
            name = content["schema"].get("$ref", "").rpartition("/")[2]
            if name:
                models[name].model_validate(content["example"])
            read.add((method, path))
    assert {("post", "/api/auth/register"), ("patch", "/api/properties/{property_id}")} <= read


async def test_every_successful_response_has_an_example_that_is_valid(document: dict[str, Any]) -> None:
    bodies = []
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                continue
            assert ("content" in response) == (status != "204"), (method, path, status)
            for media in response.get("content", {}).values():
                schema = {**media["schema"], "components": document["components"]}
                jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(media["example"])
                bodies.append((method, path, status))
    assert ("get", "/metrics", "200") in bodies


async def test_problems_that_every_request_can_have_are_documented(document: dict[str, Any]) -> None:
    everywhere = {"repeated-header", "malformed-request", "uri-too-long", "headers-too-large", "internal"}
    of_bodies = {
        "malformed-json",
        "duplicate-name",
        "unsupported-media-type",
        "unsupported-content-encoding",
        "body-too-large",
    }
    for method, path, operation in operations(document):
        documented = {
            kind
            for answer in operation["responses"].values()
            for content in resolved(document, answer).get("content", {}).values()
            for kind in content.get("examples", ())
        }
        assert everywhere <= documented, (method, path)
        assert (documented & of_bodies) == (of_bodies if method != "get" else set()), (method, path)


async def test_problems_of_a_body_are_documented_where_it_is_read_without_need(
    platform: Platform, document: dict[str, Any]
) -> None:
    """Adding a favourite needs no body; one that is sent is checked all the same."""
    person = await platform.register()
    path, json = f"/api/properties/{uuid4()}/favorite", {"Content-Type": "application/json"}
    documented = document["paths"]["/api/properties/{property_id}/favorite"]["put"]["responses"]

    for status, kind, body, headers in (
        (400, "malformed-json", b"{", json),
        (400, "duplicate-name", b'{"a": 1, "a": 2}', json),
        (413, "body-too-large", b" " * 1_100_000, json),
        (415, "unsupported-media-type", b"a", {"Content-Type": "text/plain"}),
        (415, "unsupported-content-encoding", b"a", {**json, "Content-Encoding": "gzip"}),
    ):
        answer = await platform.http.put(path, content=body, headers={**person.headers, **headers})
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
        assert kind in documented[str(status)]["content"]["application/problem+json"]["examples"]


async def test_patch_takes_the_media_types_that_are_documented(platform: Platform, document: dict[str, Any]) -> None:
    person = await platform.register()
    path = (await platform.create(person)).headers["location"]
    documented = document["paths"]["/api/properties/{property_id}"]["patch"]["requestBody"]["content"]

    assert documented.keys() == {"application/json", "application/merge-patch+json"}
    for price, media in enumerate(documented, start=1):
        headers = {**person.headers, "If-Match": "*", "Content-Type": media}
        changed = await platform.http.patch(path, content=f'{{"price": {price}}}', headers=headers)
        assert (changed.status_code, changed.json()["price"]) == (200, price)
    whole = await platform.http.put(
        path,
        json=listing(),
        headers={**person.headers, "If-Match": "*", "Content-Type": "application/merge-patch+json"},
    )
    assert whole.status_code == 415


async def test_bodies_are_read_by_the_names_of_the_document_alone(platform: Platform, document: dict[str, Any]) -> None:
    person = await platform.register()
    read = []
    for method, path, operation in operations(document):
        example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example", {})
        names = {to_snake(name): name for name in example if to_snake(name) != name}
        if path == "/api/properties/{property_id}" and method == "patch":
            names, example = {"property_type": "propertyType"}, {"propertyType": "VILLA"}
        for snake, name in names.items():
            body = {snake if key == name else key: value for key, value in example.items()}
            headers = {**person.headers, "If-Match": "*"}
            address = re.sub(r"\{\w+\}", str(uuid4()), path)
            answer = await platform.http.request(method, address, json=body, headers=headers)
            assert answer.status_code == 422, (method, path, snake, answer.text)
            assert snake in {fault["field"] for fault in answer.json()["errors"]}, (method, path, snake)
            read.append((method, path))
    assert len(set(read)) >= 7


def routes_of_commands() -> set[tuple[str, str]]:
    """Method and path of each route that has a Sender."""
    [annotated] = [part for part in get_args(SenderDep) if isinstance(part, Depends)]

    def sends(dependant: Dependant) -> bool:
        return any(part.call is annotated.dependency or sends(part) for part in dependant.dependencies)

    routes = [route for router in ROUTERS.values() for route in router.routes if isinstance(route, APIRoute)]
    sending = [route for route in routes if sends(route.dependant)]
    found = {(method.lower(), route.path) for route in sending for method in route.methods or ()}
    assert ("post", "/api/properties") in found
    return found


QUOTA = {"RateLimit", "RateLimit-Policy"}


async def test_limited_operations_describe_their_quotas(document: dict[str, Any]) -> None:
    limited = []
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if "$ref" not in response:
                described = response.get("headers", {}).keys() >= QUOTA
                assert described == ("429" in operation["responses"]), (method, path, status)
        if "429" in operation["responses"]:
            assert "Retry-After" in operation["responses"]["429"]["headers"]
            limited.append(path)
    assert {"/api/auth/login", "/api/auth/forgot-password", "/api/properties"} <= set(limited)
    assert document["components"]["headers"].keys() >= QUOTA


async def test_every_route_of_the_api_documents_that_it_refuses_unknown_parameters(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if path.startswith("/api/"):
            examples = operation["responses"]["422"]["content"]["application/problem+json"]["examples"]
            assert "invalid-request" in examples, (method, path)


async def test_commands_describe_their_headers_and_their_202(document: dict[str, Any]) -> None:
    commands = []
    for method, path, operation in operations(document):
        answers = operation["responses"]
        keyed = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
        # A request for a link is answered before its command is saved, and has no key.
        by_mail = path in {"/api/auth/forgot-password", "/api/auth/resend-verification"}
        # A rebuild is no command: it changes nothing that has a version or an owner.
        rebuilds = method != "get" and path.startswith("/api/projections/{name}/rebuild")
        # The id of the upload is the key.
        completes = path == "/api/files/uploads/{upload_id}/complete"
        assert (keyed or by_mail or rebuilds or completes) == ("202" in answers), (method, path)
        if not keyed:
            continue
        # An erasure and an export go on after they are saved.
        done = answers.keys() & {"200", "201", "204"}
        goes_on = (method, path) in {("delete", "/api/users/profile"), ("post", "/api/users/export")}
        if (method, path) == ("post", "/api/properties/import"):
            done -= {"200"}  # a dry run, which is no command
        assert len(done) == (0 if goes_on else 1), (method, path)
        for status in done:
            headers = {"Command-Id", "Consistency-Token", "Idempotency-Replayed"}
            headers |= ({"ETag"} if status != "204" else set()) | ({"Location"} if status == "201" else set())
            assert answers[status]["headers"].keys() == headers | QUOTA, (method, path)
        assert answers["202"]["headers"].keys() == {"Command-Id", "Location", "Retry-After"} | QUOTA
        schema = answers["202"]["content"]["application/json"]["schema"]["$ref"]
        assert schema.rpartition("/")[2] in {"AcceptedCommand", "AcceptedDocuments"}
        assert {"Retry-After", "Location"} <= answers["409"]["headers"].keys()
        assert "Retry-After" in answers["503"]["headers"]
        commands.append((method, path))
    assert routes_of_commands() <= set(commands)


async def test_documented_security_is_enforced(platform: Platform, document: dict[str, Any]) -> None:
    """A required token is refused when absent or invalid, an optional one when invalid only."""
    for method, path, operation in operations(document):
        address = re.sub(r"\{\w+\}", str(uuid4()), path)
        bad = {"Authorization": "Bearer garbage"}
        without = (await platform.http.request(method, address)).status_code
        refused = await platform.http.request(method, address, headers=bad)
        with_bad = refused.json() if "problem" in refused.headers.get("content-type", "") else {}
        required = operation["security"] == [{"accessToken": []}]
        optional = operation["security"] == [{}, {"accessToken": []}]
        assert (without == 401) == required, (method, path, without)
        assert (with_bad.get("type") == "/problems/invalid-token") == (required or optional), (method, path)


async def test_parameters_document_the_enforced_rules(platform: Platform, document: dict[str, Any]) -> None:
    parameters = {
        parameter["name"]: parameter["schema"]
        for _, _, operation in operations(document)
        for parameter in operation.get("parameters", ())
    }
    key = re.compile(parameters["Idempotency-Key"]["pattern"])

    assert all(key.search(text) for text in ("k", "a b", '"k"', r'"a\"b"', "x" * 255, f'"{"x" * 255}"'))
    assert not any(key.search(text) for text in ("", '""', '"', '"k', "naïve", "x" * 256, f'"{"x" * 256}"'))
    assert (parameters["cursor"]["type"], parameters["cursor"]["maxLength"]) == ("string", 200)
    assert parameters["limit"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}


@pytest.mark.parametrize("model", [NewProperty, PropertyDetails, PropertyPatch])
def test_schema_says_that_no_amenity_is_given_twice(model: type[Model]) -> None:
    amenities = model.model_json_schema()["properties"]["amenities"]
    [array] = [kind for kind in amenities.get("anyOf", [amenities]) if kind.get("type") == "array"]

    assert array["uniqueItems"] is True


async def test_fuzzed_requests_get_documented_responses(platform: Platform) -> None:
    """No 500, and no undocumented status, media type or schema."""
    person = await platform.register()
    schema = schemathesis.openapi.from_url(f"{platform.url}/openapi.json")

    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # an Err raises, and fails the test

        @given(case=operation.as_strategy())
        @settings(
            max_examples=8,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def fuzz(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=person.headers, excluded_checks=_NOT_PROMISED)

        await asyncio.to_thread(fuzz)
