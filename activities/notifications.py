"""Telling people what happened to what is theirs."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.outbox_relay import OutboxRelay, Outgoing, group_by_tenant
from adapters import outbox
from adapters.mail import Mailer, MailRefused, MailUnavailable
from adapters.outbox import Mail
from adapters.postgres import Database
from adapters.tables import properties, user_profiles, users
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
"""Subject and text by the delivery's template."""
_SIDE_BY_SIDE = 10
"""Mails that one workflow sends at once, each over a connection."""
_GIVEN_UP_AFTER = timedelta(days=4)
"""As long as a workflow tries."""
_LOST_AFTER = timedelta(hours=1)
"""Twice the longest pause between two attempts of a workflow: one that has not tried for so long is gone."""
_OVERDUE_AT_ONCE = 5000
"""A hundred workflows for one run of reconcile, which comes again every minute."""


class Notifications:
    """Sends the mails of the outbox, each of which is recorded, so that a repetition sends nothing."""

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer

    @activity.defn
    async def send_deliveries(self, what: Outgoing) -> str:
        """Send the mails that wait; returns what happened to all of them. Raises MailUnavailable while any waits.

        A worker that dies between sending and recording sends once more, under the same Message-ID.
        """
        obstacles: list[str] = []
        for n in range(0, len(what.event_ids), _SIDE_BY_SIDE):
            obstacles += await self._send(what.tenant_id, what.event_ids[n : n + _SIDE_BY_SIDE])
            activity.heartbeat(n)
        async with self._database.statements(what.tenant_id) as connection:
            count = await outbox.count(connection, what.event_ids)
        if count.pending:
            reason = obstacles[-1] if obstacles else "another worker has them"
            raise MailUnavailable(f"{count.pending} of {len(what.event_ids)} mails are pending: {reason}")
        return f"{count.sent} mailed" + (f", {count.given_up} given up" if count.given_up else "")

    async def _send(self, tenant_id: str, event_ids: Sequence[UUID]) -> list[str]:
        """Send those mails about the events that nobody else is sending; returns why some were put off."""
        async with self._database.statements(tenant_id) as connection:
            claimed = await _claim(connection, event_ids)
        outcomes = await asyncio.gather(*(self._send_one(mail, values) for mail, values in claimed.items()))
        became = dict(zip(claimed, outcomes, strict=True))
        put_off = {mail: str(error) for mail, error in became.items() if isinstance(error, MailUnavailable)}
        refused = {mail: str(error) for mail, error in became.items() if isinstance(error, MailRefused)}
        sent = [mail for mail, error in became.items() if error is None]
        async with self._database.statements(tenant_id) as connection:
            await outbox.settle(connection, sent, refused, list(put_off))
        return list(put_off.values())

    async def _send_one(self, mail: Mail, values: Mapping[str, Any] | None) -> MailUnavailable | MailRefused | None:
        if values is None:
            return MailRefused("the account or the property is gone")
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
    """Finds the mails that no workflow drives on any more: their relay or Temporal's memory was lost."""

    def __init__(self, database: Database, relay: OutboxRelay, after_seconds: float) -> None:
        self._database = database
        self._relay = relay
        self._after = timedelta(seconds=after_seconds)

    @activity.defn
    async def start_overdue(self) -> int:
        """Have overdue mails sent and very old ones given up; returns how many are driven again."""
        now = datetime.now(UTC)
        async with self._database.statements() as connection:
            await outbox.give_up(connection, now - _GIVEN_UP_AFTER, f"not taken within {_GIVEN_UP_AFTER.days} days")
            found = await outbox.overdue(connection, now, self._after, _LOST_AFTER, _OVERDUE_AT_ONCE)
        started = 0
        for group in group_by_tenant(found):
            # One name for the same mails: a workflow that is still trying is not joined by a second one.
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
    """Claimed mails, each with what it says; None where the account or the property is gone."""
    rows = await connection.execute(_CLAIM, {"event_ids": list(event_ids)})
    return {
        Mail(row.event_id, row.recipient_id, row.template): {**row._mapping, "price": rupees(row.price)}
        if None not in row
        else None
        for row in rows
    }


def rupees(amount: int) -> str:
    """An amount as it is written in India: 8500000 is ₹85,00,000."""
    digits = str(amount)
    head, tail = digits[:-3], digits[-3:]
    pairs: list[str] = []
    while head:
        pairs.insert(0, head[-2:])
        head = head[:-2]
    return "₹" + ",".join([*pairs, tail])
