"""Files of listings to import, and the activities that import them."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select
from temporalio.testing import ActivityEnvironment

from activities.batch_saving import BatchStore
from activities.import_commands import ImportCommands
from activities.import_rows import ImportRows, ImportStep
from activities.publishing import Publishing
from activities.saving import CommandStore
from adapters import imports, uploads
from adapters.imports import ImportRow, Problem
from adapters.objects import Objects
from adapters.outbox import PendingEvent
from adapters.postgres import Database
from adapters.sealing import Keyring
from adapters.tables import properties
from domain.imports import ImportOrder, ImportProperties, ImportStatus
from tests.samples import new_id

COLUMNS = ("Reference", "Title", "Price", "Locality", "Type", "Purpose", "BHK", "Area")


def row(n: int, **more: str) -> dict[str, str]:
    """A row of an agency's file."""
    return {
        "Reference": f"A-{n}",
        "Title": f"3 BHK flat number {n}",
        "Price": "85 L",
        "Locality": "Gachibowli",
        "Type": "Apartment",
        "Purpose": "Sale",
        "BHK": "3",
        "Area": f"{1000 + n} sft",
        **more,
    }


def csv_of(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


class Importing:
    """Sends files of one user and imports them by the real activities."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        keyring: Keyring,
        store: CommandStore,
        publishing: Publishing,
        tenant: str,
        user_id: UUID,
        rows_per_second: float = 100_000,
    ) -> None:
        self.tenant, self.user_id = tenant, user_id
        self._database = database
        self._objects = objects
        self._keyring = keyring
        self.commands = ImportCommands(store)
        self.noticed: list[PendingEvent] = []
        self.rows = ImportRows(database, objects, BatchStore(keyring), publishing, self.noticed.extend, rows_per_second)

    async def upload(self, content: bytes, *, known: bool = True) -> UUID:
        """A completed upload; the hash of its bytes is `known` if they have passed through the API."""
        upload = uploads.Upload(
            tenant_id=self.tenant,
            upload_id=new_id(),
            user_id=self.user_id,
            property_id=None,
            file_name="listings.csv",
            media_type="text/csv",
            size=len(content),
            sha256=sha256(content).digest() if known else None,
            created_at=datetime.now(UTC),
            completed_at=datetime.now(UTC),
        )
        async with self._database.statements(self.tenant) as connection:
            await uploads.begin(connection, upload)
        await self._objects.put(upload.key, io.BytesIO(content), "text/csv")
        return upload.upload_id

    async def start(self, content: bytes, *, known: bool = True, **more: Any) -> ImportOrder:
        """Start an import of a file; `defaults` is an object."""
        defaults = orjson.dumps(more.pop("defaults", {})).decode()
        command = ImportProperties(
            command_id=new_id(),
            tenant_id=self.tenant,
            user_id=self.user_id,
            issued_at=datetime.now(UTC),
            upload_id=await self.upload(content, known=known),
            file_name="listings.csv",
            size=len(content),
            defaults=defaults,
            **more,
        )
        await self.commands.save_import(self._keyring.seal_in_transit(command, command.command_id))
        return ImportOrder(tenant_id=self.tenant, import_id=command.aggregate_id, user_id=self.user_id)

    async def step(self, order: ImportOrder) -> ImportStep:
        return await ActivityEnvironment().run(self.rows.import_rows, order)

    async def imported(self, content: bytes, **more: Any) -> ImportStep:
        """Import a whole file."""
        return await self.step(await self.start(content, **more))

    async def found(self, order: ImportOrder) -> ImportRow:
        async with self._database.statements(self.tenant) as connection:
            found = await imports.find(connection, order.import_id)
        assert found
        return found

    async def report(self, order: ImportOrder) -> list[Problem]:
        async with self._database.statements(self.tenant) as connection:
            return await imports.problems_of(connection, order.import_id, (0, -1), 1000)

    async def set_status(self, order: ImportOrder, status: ImportStatus) -> bool:
        async with self._database.statements(self.tenant) as connection:
            among = [ImportStatus.RUNNING, ImportStatus.PAUSED]
            return await imports.set_status(connection, order.import_id, status, among)

    async def listings(self) -> list[Any]:
        """The user's listings, by title."""
        query = select(properties).where(properties.c.owner_id == self.user_id).order_by(properties.c.title)
        async with self._database.statements(self.tenant) as connection:
            return list(await connection.execute(query))
