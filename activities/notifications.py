"""Telling people what happened to what is theirs."""

from uuid import UUID

from sqlalchemy import and_, bindparam, select
from sqlalchemy.dialects.postgresql import insert
from temporalio import activity
from temporalio.exceptions import ApplicationError

from adapters.mail import Mailer, MailRefused
from adapters.postgres import Database
from adapters.tables import deliveries, properties, user_profiles, users
from domain.model import Model

_SUBJECT = "Your property is listed: {title}"
_TEXT = """Hello {first_name},

your property "{title}" in {location} is listed for {price}.
Its number is {property_id}.

Hyderabad Infra
"""


class Confirmation(Model):
    """What an owner is to be told: which event of which command made their property."""

    tenant_id: str
    command_id: UUID
    event_id: UUID
    owner_id: UUID
    property_id: UUID


class Notifications:
    """Sends mails; a delivery is recorded by event, channel and recipient, so that a repetition sends nothing."""

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer

    @activity.defn
    async def confirm_property_created(self, what: Confirmation) -> str:
        """Mail the owner; returns what was done. Raises MailAway, to be retried, and MailRefused, not to be.

        A worker that dies between sending and recording sends once more, under the same Message-ID.
        """
        async with self._database.transaction(what.tenant_id) as tx:
            found = (await tx.execute(_ASKED, what.model_dump())).one_or_none()
        if found is None:
            return "the account or the property is gone"
        if found.sent_at:
            return "mailed before"
        told = {**found._mapping, "price": rupees(found.price), "property_id": what.property_id}
        letter = {"to": found.email, "subject": _SUBJECT.format(**told), "text": _TEXT.format(**told)}
        try:
            await self._mailer.send(**letter, message_id=f"{what.event_id}.email@hyderabad-infra")
        except MailRefused as error:
            raise ApplicationError(str(error), type="MailRefused", non_retryable=True) from error
        async with self._database.transaction(what.tenant_id) as tx:
            await tx.execute(_DELIVERED, _delivery(what))
        return "mailed"


_ASKED = (
    select(
        users.c.email,
        user_profiles.c.first_name,
        properties.c.title,
        properties.c.location,
        properties.c.price,
        deliveries.c.sent_at,
    )
    .join(user_profiles, user_profiles.c.user_id == users.c.user_id)
    .join(properties, properties.c.owner_id == users.c.user_id)
    .outerjoin(
        deliveries,
        and_(
            deliveries.c.event_id == bindparam("event_id"),
            deliveries.c.channel == "email",
            deliveries.c.recipient_id == bindparam("owner_id"),
        ),
    )
    .where(users.c.user_id == bindparam("owner_id"), properties.c.property_id == bindparam("property_id"))
)
"""Whom to write to, about what, and whether it was done before."""
_DELIVERED = insert(deliveries).on_conflict_do_nothing()


def _delivery(what: Confirmation) -> dict[str, object]:
    return {
        "tenant_id": what.tenant_id,
        "event_id": what.event_id,
        "channel": "email",
        "recipient_id": what.owner_id,
        "command_id": what.command_id,
        "template": "property_created",
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
