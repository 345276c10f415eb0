"""The response to a command on a listing."""

from dataclasses import replace

import orjson

from adapters.postgres import Database
from adapters.settings import Settings
from api.answers import Sender
from api.app import create_app
from api.commands import Done
from api.property_answers import answered_property
from api.tokens import Caller
from domain.command import Saved
from domain.roles import UserRole
from tests.samples import new_id


async def test_saved_change_is_202_while_its_counts_cannot_be_read(settings: Settings, tenant: str) -> None:
    """503 would have the client send it again, and meet 412 from its own change."""
    app = create_app(settings)
    unreachable = Database.for_tenants(settings.model_copy(update={"database_url": "postgresql://a@127.0.0.1:9/b"}))
    saved = Saved(
        tenant_id=tenant, command_id=new_id(), aggregate_id=new_id(), version=2, events=(), resource={"price": 1}
    )
    async with app.router.lifespan_context(app):
        parts = replace(app.state.parts, database=unreachable)
        sender = Sender(parts, Caller(new_id(), tenant, UserRole.USER, new_id()), None, "PATCH /api/properties/1")

        answer = await answered_property(sender, Done(saved, saved.resource))
    await unreachable.close()

    assert answer.status_code == 202
    assert orjson.loads(bytes(answer.body))["location"] == f"/api/commands/{saved.command_id}"
    assert answer.headers["location"] == f"/api/commands/{saved.command_id}"
