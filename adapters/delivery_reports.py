"""What providers report about deliveries after they have accepted them, in any order and more than once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, bindparam, case, exists, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.providers import DeliveryKey
from adapters.tables import bad_addresses, deliveries, users


class Reported(StrEnum):
    """What became of a delivery. A later member of this list replaces an earlier one, never the other way round."""

    DEFERRED = "deferred"
    """The recipient's server asked the provider to try later."""
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
    """The provider did not send it: the address has bounced before, or its owner does not want mails."""
    BOUNCED = "bounced"
    """A server may bounce a mail that it has accepted."""
    SPAM = "spam"
    """The recipient has marked it as spam."""


UNDELIVERED = (Reported.FAILED.value, Reported.DROPPED.value, Reported.BOUNCED.value)
"""What is reported of a delivery that nobody can read."""


@dataclass(frozen=True)
class Report:
    """One report of a provider."""

    key: DeliveryKey
    provider_id: str | None
    """The provider's id of the message; one message, such as a digest, may be several deliveries."""
    state: Reported
    at: datetime
    bad_address: bytes | None = None
    """The digest of the address, when nothing can be delivered to it."""
    reason: str = ""
    """Why it is bad, without the address."""


async def record(connection: AsyncConnection, reports: Iterable[Report]) -> None:
    """Record reports about deliveries of the connection's tenant; those of unknown deliveries change nothing."""
    given = list(reports)
    final: dict[DeliveryKey, Report] = {}
    for report in given:
        known = final.get(report.key)
        if known is None or _ORDER[report.state] > _ORDER[known.state]:
            final[report.key] = report
    if final:
        await connection.execute(_REPORTED, [_values(report) for report in final.values()])
    if bad := [report for report in given if report.bad_address is not None]:
        await connection.execute(_BAD, [_values(report) for report in bad])


_ORDER = {state: n for n, state in enumerate(Reported, 1)}


def _values(report: Report) -> dict[str, object]:
    return {
        "of_tenant": report.key.tenant_id,
        "of_event": report.key.event_id,
        "of_channel": report.key.channel.value,
        "of_recipient": report.key.recipient_id,
        "of_provider_id": report.provider_id,
        "state": report.state.value,
        "order": _ORDER[report.state],
        "at": report.at,
        "digest": report.bad_address,
        "reason": report.reason,
    }


_D, _B = deliveries.c, bad_addresses.c
_OF_REPORT: ColumnElement[bool] = and_(
    _D.tenant_id == bindparam("of_tenant"),
    _D.channel == bindparam("of_channel"),
    or_(
        and_(_D.event_id == bindparam("of_event"), _D.recipient_id == bindparam("of_recipient")),
        _D.provider_id == bindparam("of_provider_id"),
    ),
)
_KNOWN_ORDER = case({state.value: n for state, n in _ORDER.items()}, value=_D.reported, else_=0)
_REPORTED = (
    update(deliveries)
    .where(_OF_REPORT, bindparam("order") > _KNOWN_ORDER)
    .values(reported=bindparam("state"), reported_at=bindparam("at"))
)
_BAD = (
    insert(bad_addresses)
    .from_select(
        ["tenant_id", "channel", "address_digest", "reason"],
        select(
            bindparam("of_tenant", type_=_B.tenant_id.type),
            bindparam("of_channel", type_=_B.channel.type),
            bindparam("digest", type_=_B.address_digest.type),
            bindparam("reason", type_=_B.reason.type),
        ).where(exists().where(_OF_REPORT, users.c.user_id == _D.recipient_id)),
    )
    .on_conflict_do_nothing()
)
"""Only while delivery and account exist: a late report must not bring back what an erasure has deleted."""
