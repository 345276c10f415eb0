"""The channels on which deliveries leave: each renders a delivery and hands it to its provider."""

import asyncio
import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid5

from activities.texts import Row, Texts, message_id
from adapters import push_subscriptions
from adapters.outbox import Target
from adapters.postgres import Database
from adapters.providers import (
    BadAddress,
    DeliveryKey,
    DeliveryRefused,
    Mail,
    MailSender,
    ProviderUnavailable,
    PushMessage,
    PushSender,
    Sms,
    SmsSender,
)
from adapters.push_subscriptions import Stored
from domain.preferences import Channel
from notices.render import Rendered, RenderedSms

_PUSH_TTL = 86_400
"""Seconds for which a push service keeps a message while the browser is offline: news of yesterday is none."""


class ChannelSender(Protocol):
    """Sends the deliveries of one channel."""

    channel: Channel
    provider: str

    def address(self, row: Row) -> str | None:
        """The recipient's address, whose digest is checked against the bad ones; None when there is none to check."""

    async def send(self, target: Target, row: Row) -> str | None:
        """Send one delivery; returns the provider's id. Raises ProviderUnavailable, DeliveryRefused, BadAddress."""

    async def send_digest(self, rows: Mapping[Target, Row], until: datetime) -> str | None:
        """Send a user's held deliveries as one message; raises as `send`."""

    async def close(self) -> None:
        """Close the provider's idle connections."""


class ByEmail:
    """Mails."""

    channel = Channel.EMAIL

    def __init__(self, sender: MailSender, texts: Texts) -> None:
        self._sender, self._texts = sender, texts
        self.provider = sender.provider

    def address(self, row: Row) -> str | None:
        email: str | None = row["email"]
        return email

    async def send(self, target: Target, row: Row) -> str | None:
        id = message_id(target.event_id, target.recipient_id)
        return await self._send(*self._texts.mail(target, row), id, target, row)

    async def send_digest(self, rows: Mapping[Target, Row], until: datetime) -> str | None:
        newest, row = next(iter(rows.items()))
        id = message_id(_digest_id(newest.recipient_id, until), newest.recipient_id)
        return await self._send(*self._texts.digest(list(rows.values())), id, newest, row)

    async def _send(
        self, rendered: Rendered, headers: Mapping[str, str], id: str, target: Target, row: Row
    ) -> str | None:
        return await self._sender.send(
            Mail(
                to=row["email"],
                subject=rendered.subject,
                text=rendered.text,
                html=rendered.html,
                message_id=id,
                headers=headers,
                tags=_tags(self.channel, target, row),
            )
        )

    async def close(self) -> None:
        await self._sender.close()


class BySms:
    """Text messages."""

    channel = Channel.SMS

    def __init__(self, sender: SmsSender, texts: Texts) -> None:
        self._sender, self._texts = sender, texts
        self.provider = sender.provider

    def address(self, row: Row) -> str | None:
        number: str | None = row["phone_number"]
        return number

    async def send(self, target: Target, row: Row) -> str | None:
        return await self._send(self._texts.sms(target, row), target, row)

    async def send_digest(self, rows: Mapping[Target, Row], until: datetime) -> str | None:
        newest, row = next(iter(rows.items()))
        return await self._send(self._texts.digest_sms(list(rows.values())), newest, row)

    async def _send(self, rendered: RenderedSms, target: Target, row: Row) -> str | None:
        if row["phone_number"] is None:
            raise DeliveryRefused("the account has no phone number")
        return await self._sender.send(
            Sms(
                to=row["phone_number"],
                text=rendered.text,
                template_id=rendered.template_id,
                tags=_tags(self.channel, target, row),
                tried_since=row["enqueued_at"] if row["tried"] else None,
            )
        )

    async def close(self) -> None:
        await self._sender.close()


class ByPush:
    """Messages to the browsers of a user: a delivery is sent once one of them takes it."""

    channel = Channel.PUSH

    def __init__(self, sender: PushSender, texts: Texts, database: Database) -> None:
        self._sender, self._texts, self._database = sender, texts, database
        self.provider = sender.provider

    def address(self, row: Row) -> str | None:
        return None  # a subscription that has ended is deleted

    async def send(self, target: Target, row: Row) -> str | None:
        await self._send(row["tenant_id"], target.recipient_id, self._texts.push(target, row), _topic(target.event_id))
        return None

    async def send_digest(self, rows: Mapping[Target, Row], until: datetime) -> str | None:
        newest, row = next(iter(rows.items()))
        topic = _topic(_digest_id(newest.recipient_id, until))
        payload = self._texts.digest_push(list(rows.values()))
        await self._send(row["tenant_id"], newest.recipient_id, payload, topic)
        return None

    async def _send(self, tenant_id: str, user_id: UUID, payload: bytes, topic: str) -> None:
        async with self._database.statements(tenant_id) as connection:
            browsers = (await push_subscriptions.of_users(connection, [user_id])).get(user_id, [])
        results = await asyncio.gather(*(self._send_to(tenant_id, one, payload, topic) for one in browsers))
        if None in results:
            return
        for kind in (ProviderUnavailable, DeliveryRefused):
            for error in results:
                if isinstance(error, kind):
                    raise error
        raise DeliveryRefused("no browser is subscribed any more")

    async def _send_to(self, tenant_id: str, to: Stored, payload: bytes, topic: str) -> Exception | None:
        """Send to one browser; returns the error. A subscription that has ended is deleted."""
        try:
            await self._sender.send(PushMessage(to.subscription, payload, topic, _PUSH_TTL))
        except BadAddress as error:
            async with self._database.statements(tenant_id) as connection:
                await push_subscriptions.remove(connection, to.id)
            return error
        except (ProviderUnavailable, DeliveryRefused) as error:
            return error
        return None

    async def close(self) -> None:
        await self._sender.close()


def _tags(channel: Channel, target: Target, row: Row) -> Mapping[str, str]:
    return DeliveryKey(row["tenant_id"], target.event_id, channel, target.recipient_id).tags


def _topic(id: UUID) -> str:
    """The topic of a message, with which it replaces an undelivered one that was sent before: 22 characters."""
    return base64.urlsafe_b64encode(id.bytes).decode().rstrip("=")


def _digest_id(user_id: UUID, until: datetime) -> UUID:
    return uuid5(user_id, f"digest/{int(until.timestamp())}")
