"""The property as it is: read from the table that commands write, so a reader sees their own write at once."""

from uuid import UUID

from sqlalchemy import select

from adapters.postgres import Database
from adapters.tables import properties
from domain.property import Property


class PropertyPages:
    """Finds properties of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant_id: str, property_id: UUID) -> Property | None:
        """The property in whatever status it is; who may see it is the caller's to decide. Raises DatabaseAway."""
        query = select(properties).where(properties.c.property_id == property_id)
        async with self._database.statements(tenant_id) as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        facts = dict(row._mapping)
        facts["id"] = facts.pop("property_id")
        del facts["tenant_id"]
        return Property(**facts)
