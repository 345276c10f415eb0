"""OpenAPI: what the document promises, whatever is sent."""

import asyncio
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.platform import Platform

# A schema cannot say that a cursor must be signed by us, a name be free, or a floor be below the roof.
_NOT_PROMISED: list[Any] = [positive_data_acceptance]


async def test_every_operation_documents_its_problems(platform: Platform) -> None:
    document = (await platform.http.get("/openapi.json")).json()

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert response["content"].keys() == {"application/problem+json"}, (path, method, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_api_keeps_its_promises_under_fuzzing(platform: Platform) -> None:
    """Never a 500, never an undocumented status, type or shape."""
    person = await platform.register()
    schema = schemathesis.openapi.from_url(f"{platform.url}/openapi.json")

    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # an Err raises, and fails the test

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def fuzz(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=person.headers, excluded_checks=_NOT_PROMISED)

        await asyncio.to_thread(fuzz)
