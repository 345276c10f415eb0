"""/readyz with a Temporal server whose namespace is missing."""

import httpx
import pytest

from adapters.settings import Settings
from api.app import create_app


@pytest.mark.temporal
async def test_namespace_that_is_missing_is_named(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"temporal_namespace": "nowhere"}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        answer = await client.get("/readyz")

    assert answer.status_code == 503
    states = answer.json()["dependencies"]
    assert states["temporal"] == "Temporal has no namespace 'nowhere': register it, then run `python -m migrations`"
    assert states["postgres"] == "reached"
