"""Activities of the outbox: send pending mails, and start workflows for overdue ones."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.outbox_relay import DeliveryBatch, OutboxRelay, group_by_tenant
from activities.users import LINK_LIFETIMES, RESET
from adapters import outbox
from adapters.outbox import Mail
from adapters.postgres import Database
from adapters.providers import BadAddress, DeliveryRefused, MailSender, ProviderUnavailable
from adapters.providers import Mail as Message
from adapters.sealing import Keyring
from adapters.tables import event_store, properties, user_profiles, users
from domain.amounts import rupees
from domain.notifications import PROPERTY_LISTED
from domain.preferences import NoticeKind
from notices.render import Rendered
from notices.render import mail as render_mail

_LISTED = (
    "Your property is listed: {title}",
    """Hello {first_name},

your property "{title}" in {location} is listed for {price}.
Its number is {property_id}.

Hyderabad Infra
""",
)
"""Subject and text of the template PROPERTY_LISTED; the others are in `notices/templates`."""
_FINAL = (DeliveryRefused, BadAddress)
_CONCURRENT_SENDS = 10
"""Mails that one activity sends at the same time, each over its own connection."""
_GIVEN_UP_AFTER = timedelta(days=4)
"""The `schedule_to_close_timeout` of the activity that sends."""
_LOST_AFTER = timedelta(hours=1)
"""Twice the longest retry interval: the workflow of a delivery without an attempt for so long is lost."""
_OVERDUE_LIMIT = 5000
"""Deliveries of one run: a hundred workflows. Reconcile runs again after a minute."""


class Notifications:
    """Sends the mails of the outbox and records the outcome of each, so that a repetition sends nothing."""

    def __init__(self, database: Database, mailer: MailSender, keyring: Keyring, public_url: str) -> None:
        """`public_url` is the setting of this name, with which links begin."""
        self._database = database
        self._mailer = mailer
        self._keyring = keyring
        self._public_url = public_url

    @activity.defn
    async def send_deliveries(self, batch: DeliveryBatch) -> str:
        """Send the pending mails of a batch; returns how many are sent.

        Raises ProviderUnavailable while any is pending.
        A mail is sent again, with the same Message-ID, when the worker dies between sending and recording it.
        """
        reasons: list[str] = []
        for n in range(0, len(batch.event_ids), _CONCURRENT_SENDS):
            reasons += await self._send(batch.tenant_id, batch.event_ids[n : n + _CONCURRENT_SENDS])
            activity.heartbeat(n)
        async with self._database.statements(batch.tenant_id) as connection:
            count = await outbox.count(connection, batch.event_ids)
        if count.pending:
            reason = reasons[-1] if reasons else "another worker has claimed them"
            raise ProviderUnavailable(f"{count.pending} of {len(batch.event_ids)} mails are pending: {reason}")
        return f"{count.sent} mailed" + (f", {count.given_up} given up" if count.given_up else "")

    async def _send(self, tenant_id: str, event_ids: Sequence[UUID]) -> list[str]:
        """Claim and send the pending mails of these events; returns the errors of those to retry."""
        async with self._database.statements(tenant_id) as connection:
            claimed = await _claim(connection, event_ids)
        outcomes = await asyncio.gather(*(self._send_one(mail, values) for mail, values in claimed.items()))
        results = dict(zip(claimed, outcomes, strict=True))
        deferred = {mail: str(error) for mail, error in results.items() if isinstance(error, ProviderUnavailable)}
        refused = {mail: str(error) for mail, error in results.items() if isinstance(error, _FINAL)}
        sent = [mail for mail, error in results.items() if error is None]
        async with self._database.statements(tenant_id) as connection:
            await outbox.settle(connection, sent, refused, list(deferred))
        return list(deferred.values())

    async def _send_one(self, mail: Mail, values: Mapping[str, Any]) -> Exception | None:
        try:
            rendered = self._rendered(mail, values)
            message_id = f"{mail.event_id}.email@hyderabad-infra"
            await self._mailer.send(
                Message(values["email"], rendered.subject, rendered.text, rendered.html or None, message_id)
            )
        except (ProviderUnavailable, *_FINAL) as error:
            return error
        return None

    def _rendered(self, mail: Mail, values: Mapping[str, Any]) -> Rendered:
        """The texts of a mail. Raises DeliveryRefused when it is no longer of use, ProviderUnavailable for later."""
        if values["email"] is None or (mail.template == PROPERTY_LISTED and values["property_id"] is None):
            raise DeliveryRefused("the account or the property is deleted")
        if mail.template == PROPERTY_LISTED:
            subject, text = (part.format(**{**values, "price": rupees(values["price"])}) for part in _LISTED)
            return Rendered(subject, text, html="")
        if mail.template not in NoticeKind.__members__:
            raise ProviderUnavailable(f"this release has no template {mail.template!r}")
        kind = NoticeKind(mail.template)
        if kind is NoticeKind.VERIFY_EMAIL and values["email_verified"]:
            raise DeliveryRefused("the address is verified already")
        if kind is NoticeKind.PASSWORD_RESET and values["timestamp"] + LINK_LIFETIMES[RESET] <= datetime.now(UTC):
            raise DeliveryRefused("the link has expired")
        token = self._keyring.link_token(mail.event_id)
        return render_mail(
            kind,
            {
                "recipient": {"firstName": values["first_name"], "username": values["username"]},
                # Personal values are sealed, and no template of these kinds needs one.
                "event": {name: value for name, value in values["event_data"].items() if not isinstance(value, dict)},
                "links": {
                    "app": self._public_url,
                    "verify": f"{self._public_url}/verify-email?token={token}",
                    "reset": f"{self._public_url}/reset-password?token={token}",
                },
                "at": values["timestamp"],
            },
        )


class OverdueDeliveries:
    """Finds deliveries without a workflow: the relay died before it started one, or Temporal was wiped."""

    def __init__(self, database: Database, relay: OutboxRelay, after_seconds: float) -> None:
        self._database = database
        self._relay = relay
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def start_overdue(self) -> int:
        """Give up deliveries that are too old, and start workflows for overdue ones; returns how many deliveries."""
        now = datetime.now(UTC)
        async with self._database.statements() as connection:
            await outbox.give_up(connection, now - _GIVEN_UP_AFTER, f"not delivered within {_GIVEN_UP_AFTER.days} days")
            found = await outbox.overdue(connection, now, self._after, _LOST_AFTER, _OVERDUE_LIMIT)
        started = 0
        for group in group_by_tenant(found):
            # The same deliveries give the same workflow id, so one that is still running is not started twice.
            if await self._relay.start(group, f"overdue/{group[0].event_id}"):
                started += len(group)
            activity.heartbeat(started)
        return started


_CLAIMED = outbox.CLAIMED.c
_CLAIM = (
    select(
        _CLAIMED.event_id,
        _CLAIMED.recipient_id,
        _CLAIMED.template,
        users.c.email,
        users.c.username,
        users.c.email_verified,
        user_profiles.c.first_name,
        event_store.c.event_data,
        event_store.c.timestamp,
        properties.c.property_id,
        properties.c.title,
        properties.c.location,
        properties.c.price,
    )
    .select_from(outbox.CLAIMED)
    .join(event_store, event_store.c.event_id == _CLAIMED.event_id)
    .outerjoin(users, users.c.user_id == _CLAIMED.recipient_id)
    .outerjoin(user_profiles, user_profiles.c.user_id == users.c.user_id)
    .outerjoin(properties, properties.c.property_id == _CLAIMED.about_id)
)


async def _claim(connection: AsyncConnection, event_ids: Sequence[UUID]) -> dict[Mail, Mapping[str, Any]]:
    """Claim mails; returns the values of each one's template, those of a deleted account or property None."""
    rows = (await connection.execute(_CLAIM, {"event_ids": list(event_ids)})).mappings()
    return {Mail(row["event_id"], row["recipient_id"], row["template"]): dict(row) for row in rows}
