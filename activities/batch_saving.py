"""Saves the commands of many listings of one user in one transaction, by the same `decide` and `evolve` as single ones.

A single save costs some milliseconds, most of it round trips and transactions; of a batch, each listing costs a tenth.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.properties import PROPERTY
from adapters import batches, duplicates
from adapters.batch_decisions import Decision, Outcome, decisions
from adapters.outbox import PendingEvent, store_notices
from adapters.sealing import Keyring
from adapters.tables import person_keys, users
from domain.command import Saved
from domain.errors import AccountClosed, Refusal
from domain.events import new_events
from domain.imports import CreateOrChange
from domain.notifications import Notice, notices_of
from domain.preferences import NoticeKind
from domain.property_commands import Sender
from domain.roles import UserRole
from domain.user import MAY_SIGN_IN

_SENDER = (
    select(users.c.role, users.c.status, users.c.email_verified, person_keys.c.wrapped_key)
    .join(person_keys, person_keys.c.user_id == users.c.user_id)
    .where(users.c.user_id == bindparam("user_id"))
)


@dataclass
class BatchSaved:
    """What became of a batch, by command id, and what is to be published and sent once it is committed."""

    outcomes: dict[UUID, Outcome] = field(default_factory=dict)
    refusals: dict[UUID, Refusal] = field(default_factory=dict)
    changed: list[UUID] = field(default_factory=list)
    """The listings with new events."""
    noticed: list[PendingEvent] = field(default_factory=list)
    duplicates: dict[UUID, list[UUID]] = field(default_factory=dict)
    """Other listings of the user at the place of one that was saved or updated, with the same unit, by its id."""


class BatchStore:
    """Saves batches of commands on listings."""

    def __init__(self, keyring: Keyring, verified_email_tenants: Collection[str] = ()) -> None:
        self._keyring = keyring
        self._verified_email_tenants = frozenset(verified_email_tenants)

    async def save(
        self, tx: AsyncConnection, tenant_id: str, user_id: UUID, commands: Sequence[CreateOrChange]
    ) -> BatchSaved:
        """Save commands of one user on different listings, in a transaction of their tenant.

        What is recorded before is not saved again. A refusal concerns its listing alone, and is not recorded: the same
        command may be saved later. Neither is a command that changes nothing.

        Raises AccountClosed; IntegrityError, when a command on one of the listings was saved in the meantime; or
        DBAPIError, when Postgres rejects a value. Nothing is saved then.
        """
        key, sender = await self._sender(tx, tenant_id, user_id)
        saved = BatchSaved()
        writes = _Writes(self._keyring, key, user_id)
        for one in await decisions(tx, tenant_id, sender, commands):
            saved.outcomes[one.command.command_id] = one.outcome
            if one.refusal:
                saved.refusals[one.command.command_id] = one.refusal
            if one.facts:
                writes.add(one)
                saved.changed.append(one.command.property_id)
        await writes.execute(tx, tenant_id)
        saved.noticed = list(writes.noticed(tenant_id))
        saved.duplicates = await duplicates.among(tx, user_id, saved.changed)
        return saved

    async def _sender(self, tx: AsyncConnection, tenant_id: str, user_id: UUID) -> tuple[bytes, Sender]:
        """The key of the user, and what decisions need of them. Raises AccountClosed."""
        row = (await tx.execute(_SENDER, {"user_id": user_id})).one_or_none()
        if row is None or row.status not in MAY_SIGN_IN:
            raise AccountClosed
        must_verify = tenant_id in self._verified_email_tenants and not row.email_verified
        return row.wrapped_key, Sender(user_id=user_id, role=UserRole(row.role), owner_must_verify=must_verify)


class _Writes:
    """The rows of a batch, collected table by table: one statement writes those of each."""

    def __init__(self, keyring: Keyring, key: bytes, person_id: UUID) -> None:
        self._keyring = keyring
        self._key = key
        self._person_id = person_id
        self._properties: list[Mapping[str, Any]] = []
        self._events: list[Mapping[str, Any]] = []
        self._commands: list[Mapping[str, Any]] = []
        self._notices: dict[UUID, list[Notice]] = {}

    def add(self, decision: Decision) -> None:
        """Add the rows of a command that causes events."""
        command, state = decision.command, decision.state
        version = state.version if state else 0
        events = new_events(command, command.property_id, version, list(decision.facts))
        for event in events:
            state = PROPERTY.evolve(state, event.data, event.version, event.timestamp)
            self._events.append(batches.event_values(event, self._keyring.seal(event.data, self._key, event.event_id)))
        assert state is not None
        self._properties.append(batches.property_values(command.tenant_id, state))
        saved = Saved(
            tenant_id=command.tenant_id,
            command_id=command.command_id,
            aggregate_id=command.property_id,
            version=version + len(events),
            events=tuple(event.saved() for event in events),
            resource=None,  # nobody waits for the answer: the listing is read by its id
        )
        self._commands.append(batches.command_values(command, self._person_id, saved))
        self._notices[command.command_id] = [
            notice
            for event in events
            for notice in notices_of(event)
            # Whoever lists a thousand at once is notified once, of all of them.
            if notice.kind is not NoticeKind.LISTING_CONFIRMED
        ]

    async def execute(self, tx: AsyncConnection, tenant_id: str) -> None:
        # Events first: a conflict is found before anything else is written.
        await batches.insert_events(tx, self._events)
        await batches.write_properties(tx, self._properties)
        await batches.insert_commands(tx, self._commands)
        for command_id, notices in self._notices.items():
            await store_notices(tx, tenant_id, command_id, notices)

    def noticed(self, tenant_id: str) -> Iterable[PendingEvent]:
        for command_id, notices in self._notices.items():
            for event_id in dict.fromkeys(notice.event_id for notice in notices):
                yield PendingEvent(tenant_id, event_id, command_id)
