"""A person with a row in every table of persons, to be erased."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Table, func, select, text
from sqlalchemy.dialects.postgresql import insert

from activities.erasing import Erasing
from adapters import tables
from adapters.postgres import Database
from adapters.sealing import Keyring
from domain import ids
from domain.preferences import Channel
from domain.property_commands import CreateProperty
from domain.user_commands import EraseUser
from projections.generations import generation_of
from projections.history import History
from projections.projection import as_consumed
from tests.activities.accounts import Saving
from tests.activities.test_accounts import on
from tests.projections.messages import stored_messages
from tests.samples import new_id

NAME, EMAIL, PHONE = "canarybird", "canarybird@example.com", "+919000000477"
_OF_USER = (
    *(tables.users, tables.user_profiles, tables.person_keys, tables.refresh_tokens, tables.account_tokens),
    *(tables.totp, tables.recovery_codes, tables.passkeys, tables.preferences, tables.push_subscriptions),
    *(tables.favorites, tables.user_activity, tables.activity_counts, tables.notifications),
    *(tables.search_history, tables.exports, tables.saved_filters, tables.saved_search_matches, tables.uploads),
)


class Account:
    """A person with a listing, a favourite and everything else, whose erasure is saved."""

    def __init__(self, tenant: str, user_id: UUID, listed: CreateProperty, saving: Saving) -> None:
        self.tenant, self.id, self.listed, self._saving = tenant, user_id, listed, saving
        self.command = on(tenant, user_id, EraseUser)
        self.erasing = Erasing(tenant_id=tenant, user_id=user_id, command_id=self.command.command_id)

    async def erase(self) -> None:
        await self._saving.user(self.command)


async def add_rows(database: Database, keyring: Keyring, tenant: str, user_id: UUID) -> None:
    """A row in each table of persons that no command of these tests writes."""
    now, of_user = datetime.now(UTC), {"tenant_id": tenant, "user_id": user_id}
    rows: list[tuple[Table, dict[str, Any]]] = [
        (
            tables.refresh_tokens,
            {**of_user, "token_hash": b"t", "session_id": new_id(), "issued_at": now, "expires_at": now},
        ),
        (tables.totp, {**of_user, "secret": {"sealed": "x"}, "created_at": now}),
        (tables.recovery_codes, {**of_user, "code_hash": b"c"}),
        (
            tables.passkeys,
            {
                **of_user,
                "passkey_id": new_id(),
                "credential_id": user_id.bytes,
                "name": "Canary's phone",
                "public_key": b"k",
                "sign_count": 0,
                "created_at": now,
            },
        ),
        (
            tables.saved_filters,
            {
                **of_user,
                "saved_search_id": new_id(),
                "version": 1,
                "name": "Canary Street",
                "filters": {"q": "Canary Street"},
                "frequency": "DAILY",
                "hour": 9,
                "weekday": "MONDAY",
                **dict.fromkeys(("since", "created_at", "updated_at", "due_at"), now),
            },
        ),
        (
            tables.saved_search_matches,
            {
                **of_user,
                "saved_search_id": new_id(),
                "property_id": new_id(),
                "version": 1,
                "price": 1,
                "reported_at": now,
            },
        ),
        (
            tables.imports,
            {
                **of_user,
                "import_id": user_id,
                "version": 1,
                "upload_id": new_id(),
                "file_name": "canary.csv",
                "size": 1,
                "status": "COMPLETED",
                **dict.fromkeys(("started_at", "updated_at", "finished_at"), now),
            },
        ),
        (
            tables.import_problems,
            {
                "tenant_id": tenant,
                "import_id": user_id,
                "row": 1,
                "number": 0,
                "line": 2,
                "field": "contactPhone",
                "value": "98480 canary",
                "reason": "Give ten digits.",
            },
        ),
        (tables.import_listings, {"tenant_id": tenant, "import_id": user_id, "property_id": new_id()}),
        (tables.preferences, {**of_user, "version": 1, "kinds": {}, "updated_at": now}),
        (
            tables.push_subscriptions,
            {
                **of_user,
                "subscription_id": new_id(),
                "endpoint": f"https://push.example/{user_id}",
                "p256dh": "p",
                "auth": "a",
            },
        ),
        (
            tables.exports,
            {**of_user, "export_id": new_id(), "requested_at": now, "ready_at": now, "expires_at": now},
        ),
        (
            tables.uploads,
            {
                **of_user,
                "upload_id": new_id(),
                "file_name": "canary.jpg",
                "media_type": "image/jpeg",
                "size": 5,
                "created_at": now,
                "claimed_at": now,
            },
        ),
        (
            tables.documents,
            {
                "tenant_id": tenant,
                "file_id": new_id(),
                "version": 1,
                "owner_id": user_id,
                "command_id": new_id(),
                "upload_id": new_id(),
                "file_name": "canary.pdf",
                "status": "REFUSED",
                "size": 5,
                "created_at": now,
                "updated_at": now,
            },
        ),
        (
            tables.bad_addresses,
            {
                "tenant_id": tenant,
                "channel": "sms",
                "address_digest": keyring.address_digest(Channel.SMS, PHONE),
                "reason": "unknown",
            },
        ),
        (
            tables.deliveries,
            {
                "tenant_id": tenant,
                "event_id": new_id(),
                "channel": "email",
                "recipient_id": user_id,
                "command_id": new_id(),
                "template": "PRICE_DROPPED",
                "provider_id": "canary",
            },
        ),
    ]
    async with database.statements(tenant) as connection:
        for table, row in rows:
            await connection.execute(insert(table).values(row))


async def add_read_models(all_tenants: Database, account: Account) -> None:
    """Rows that projections write, a parked event and a discarded one."""
    now, of_user = datetime.now(UTC), {"tenant_id": account.tenant, "user_id": account.id}
    inbox = {**of_user, "notification_id": new_id(), "kind": "WELCOME", "data": {}, "created_at": now}
    searched = {**of_user, "search_id": new_id(), "deleted_until": now}
    parked = {"projection": "history", "topic": "user-activity", "key": str(account.id), "payload": b"canary"}
    async with all_tenants.statements() as connection:
        for table, row in ((tables.notifications, inbox), (tables.search_history, searched)):
            generation = await generation_of(connection, table.name)
            await connection.execute(insert(table).values(generation=generation, **row))
        await connection.execute(
            insert(tables.parked_events).values(**parked, digest=account.id.bytes, reason="of a test")
        )
        gone = {name: parked[name] for name in ("projection", "topic", "key")}
        await connection.execute(
            insert(tables.discarded_events).values(
                **gone,
                id=account.id.int % 2**62,
                tenant_id=account.tenant,
                event_id=str(new_id()),
                parked_because="of a test",
                parked_at=now,
                reason="canary",
            )
        )


async def project(all_tenants: Database, history: History, tenant: str) -> None:
    """Apply every stored event of a tenant to the history."""
    messages = as_consumed(history, await stored_messages(all_tenants, tenant), where="test").messages
    read = [history.read(message.topic, message.value) for message in messages]
    async with all_tenants.transaction() as tx:
        generation = await generation_of(tx, history.name)
        await history.apply(tx, read, generation)
    await history.update_cache(read, generation)


async def count(all_tenants: Database, table: Table, *where: Any) -> int:
    async with all_tenants.statements() as connection:
        await connection.execute(text("SET ROLE NONE"))  # to the owner of the tables, who reads all of them
        try:
            return int((await connection.execute(select(func.count()).select_from(table).where(*where))).scalar_one())
        finally:
            await connection.execute(text("SET ROLE hyderabad_all_tenants"))


async def rows_of(all_tenants: Database, user_id: UUID) -> dict[str, int]:
    """How many rows each table has of a user."""
    counts = {
        table.name: await count(
            all_tenants, table, table.c.user_id == (str(user_id) if table is tables.user_activity else user_id)
        )
        for table in _OF_USER
    }
    counts["properties"] = await count(all_tenants, tables.properties, tables.properties.c.owner_id == user_id)
    counts["documents"] = await count(all_tenants, tables.documents, tables.documents.c.owner_id == user_id)
    counts["deliveries"] = await count(all_tenants, tables.deliveries, tables.deliveries.c.recipient_id == user_id)
    for table in (tables.parked_events, tables.discarded_events):
        counts[table.name] = await count(all_tenants, table, table.c.key == str(user_id))
    return counts


async def add_last_mail(all_tenants: Database, account: Account) -> None:
    """The delivery of the mail about the erasure, pending."""
    row = {
        "tenant_id": account.tenant,
        "event_id": last_event(account),
        "channel": "email",
        "recipient_id": account.id,
        "command_id": account.command.command_id,
        "template": "ACCOUNT_ERASED",
        "provider_id": "canary",
    }
    async with all_tenants.statements() as connection:
        await connection.execute(text("SET ROLE NONE"))  # to the owner of the tables
        await connection.execute(insert(tables.deliveries).values(row).on_conflict_do_nothing())
        await connection.execute(text("SET ROLE hyderabad_all_tenants"))


def last_event(account: Account) -> UUID:
    return ids.event_id(account.command.command_id, 1)
