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
from adapters import outbox
from adapters.mail import Mailer, MailRefused, MailUnavailable
from adapters.outbox import Mail
from adapters.postgres import Database
from adapters.tables import properties, user_profiles, users
from domain.amounts import rupees
from domain.notifications import PROPERTY_LISTED

_TEMPLATES = {
    PROPERTY_LISTED: (
        "Your property is listed: {title}",
        """Hello {first_name},

your property "{title}" in {location} is listed for {price}.
Its number is {property_id}.

Hyderabad Infra
""",
    ),
}
"""Subject and text of each template."""
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

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer

    @activity.defn
    async def send_deliveries(self, batch: DeliveryBatch) -> str:
        """Send the pending mails of a batch; returns how many are sent. Raises MailUnavailable while any is pending.

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
            raise MailUnavailable(f"{count.pending} of {len(batch.event_ids)} mails are pending: {reason}")
        return f"{count.sent} mailed" + (f", {count.given_up} given up" if count.given_up else "")

    async def _send(self, tenant_id: str, event_ids: Sequence[UUID]) -> list[str]:
        """Claim and send the pending mails of these events; returns the errors of those to retry."""
        async with self._database.statements(tenant_id) as connection:
            claimed = await _claim(connection, event_ids)
        outcomes = await asyncio.gather(*(self._send_one(mail, values) for mail, values in claimed.items()))
        results = dict(zip(claimed, outcomes, strict=True))
        deferred = {mail: str(error) for mail, error in results.items() if isinstance(error, MailUnavailable)}
        refused = {mail: str(error) for mail, error in results.items() if isinstance(error, MailRefused)}
        sent = [mail for mail, error in results.items() if error is None]
        async with self._database.statements(tenant_id) as connection:
            await outbox.settle(connection, sent, refused, list(deferred))
        return list(deferred.values())

    async def _send_one(self, mail: Mail, values: Mapping[str, Any] | None) -> MailUnavailable | MailRefused | None:
        if values is None:
            return MailRefused("the account or the property is deleted")
        if mail.template not in _TEMPLATES:
            return MailUnavailable(f"this release has no template {mail.template!r}")
        subject, text = (part.format(**values) for part in _TEMPLATES[mail.template])
        message_id = f"{mail.event_id}.email@hyderabad-infra"
        try:
            await self._mailer.send(to=values["email"], subject=subject, text=text, message_id=message_id)
        except (MailUnavailable, MailRefused) as error:
            return error
        return None


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
        user_profiles.c.first_name,
        properties.c.property_id,
        properties.c.title,
        properties.c.location,
        properties.c.price,
    )
    .select_from(outbox.CLAIMED)
    .outerjoin(users, users.c.user_id == _CLAIMED.recipient_id)
    .outerjoin(user_profiles, user_profiles.c.user_id == users.c.user_id)
    .outerjoin(properties, properties.c.property_id == _CLAIMED.about_id)
)


async def _claim(connection: AsyncConnection, event_ids: Sequence[UUID]) -> dict[Mail, dict[str, Any] | None]:
    """Claim mails; returns the values of each one's template, None when the account or the property is deleted."""
    rows = await connection.execute(_CLAIM, {"event_ids": list(event_ids)})
    return {
        Mail(row.event_id, row.recipient_id, row.template): {**row._mapping, "price": rupees(row.price)}
        if None not in row
        else None
        for row in rows
    }
