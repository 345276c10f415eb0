"""Expands notices and sends deliveries by the real activities."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.channels import ByEmail, ByPush, BySms, ChannelSender
from activities.deliveries import Deliveries, Outgoing
from activities.notices import DeliveryBatch, DigestOf, Expanded, FavoritesOf, Notices
from activities.texts import Texts
from adapters.mail import Smtp
from adapters.outbox import Target
from adapters.postgres import Database
from adapters.providers import MailSender, PushSender, SmsSender
from adapters.sealing import Keyring
from adapters.settings import Settings
from adapters.tables import deliveries
from domain.command import Command, Saved
from domain.preferences import Channel
from notices.render import SMS_KINDS
from tests.activities.accounts import Saving
from tests.samples import new_id

APP, API = "https://homes.example", "https://api.homes.example"


class Pipeline:
    """The activities of notices of one tenant, with the providers that are given; mails go to the test's mailbox."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        tenant: str,
        *,
        mail: MailSender | None = None,
        sms: SmsSender | None = None,
        push: PushSender | None = None,
    ) -> None:
        registered = {kind.value: "1107160000000000001" for kind in SMS_KINDS}
        settings = settings.model_copy(
            update={"public_url": APP, "public_api_url": API, "sms_dlt_templates": registered}
        )
        self.keyring = Keyring(settings.secret_bytes)
        self.tenant = tenant
        self._database = database
        texts = Texts(settings, self.keyring)
        senders: list[ChannelSender] = [ByEmail(mail or Smtp(settings), texts)]
        if sms:
            senders.append(BySms(sms, texts))
        if push:
            senders.append(ByPush(push, texts, database))
        self._deliveries = {one.channel: Deliveries(database, one, texts, self.keyring) for one in senders}
        self._notices = Notices(database, self._deliveries)

    async def expand(self, *event_ids: UUID) -> Expanded:
        batch = DeliveryBatch(tenant_id=self.tenant, event_ids=event_ids)
        return await ActivityEnvironment().run(self._notices.expand_notices, batch)

    async def expand_favorites(self, of: FavoritesOf) -> Expanded:
        return await ActivityEnvironment().run(self._notices.expand_favorites, of)

    async def send(self, channel: Channel, targets: Iterable[Target]) -> str:
        outgoing = Outgoing(tenant_id=self.tenant, channel=channel, targets=tuple(targets))
        return await ActivityEnvironment().run(self._deliveries[channel].send_batch, outgoing)

    async def mail(self, *event_ids: UUID) -> str:
        """Expand the notices of events and send their mails; the outcome, or the error of those that are pending."""
        await self.expand(*event_ids)
        try:
            return await self.send(Channel.EMAIL, await self.targets(Channel.EMAIL, *event_ids))
        except ApplicationError as error:
            return error.message

    async def digest(self, channel: Channel, of: DigestOf) -> str:
        return await ActivityEnvironment().run(self._deliveries[channel].send_digest, of)

    async def send_old(self, *event_ids: UUID) -> str:
        batch = DeliveryBatch(tenant_id=self.tenant, event_ids=event_ids)
        return await ActivityEnvironment().run(self._deliveries[Channel.EMAIL].send_deliveries, batch)

    async def targets(self, channel: Channel, *event_ids: UUID) -> list[Target]:
        """Every delivery of the events on a channel, whatever its status."""
        return [Target(row.event_id, row.recipient_id) for row in await self.rows(*event_ids) if row.channel == channel]

    async def rows(self, *event_ids: UUID) -> list[Any]:
        """The stored deliveries of events."""
        query = select(deliveries).where(deliveries.c.event_id.in_(event_ids)).order_by(deliveries.c.channel)
        async with self._database.statements(self.tenant) as connection:
            return list(await connection.execute(query))

    async def outcomes(self, *event_ids: UUID) -> dict[str, str]:
        """The outcome of the deliveries of events by channel."""
        return {
            row.channel: row.outcome or ("given_up" if row.given_up else "held" if row.held_until else "pending")
            for row in await self.rows(*event_ids)
        }


async def on_account(saving: Saving, tenant: str, user_id: UUID, command: type[Command], **fields: Any) -> Saved:
    by: dict[str, Any] = {"command_id": new_id(), "tenant_id": tenant, "user_id": user_id}
    return await saving.user(command(**by, **{"issued_at": datetime.now(UTC), **fields}))
