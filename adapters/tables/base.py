"""The metadata of all tables, and what their columns share."""

from sqlalchemy import (
    Column,
    Computed,
    DateTime,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.types import UserDefinedType

metadata = MetaData()


class Xid8(UserDefinedType[int]):
    """Postgres' 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


class Point(UserDefinedType[tuple[float, float]]):
    """Postgres' point of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "point"


class Circle(UserDefinedType[object]):
    """Postgres' circle of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "circle"


class Polygon(UserDefinedType[str]):
    """Postgres' polygon of the plane."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "polygon"


def at(name: str, *, nullable: bool = False, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=text("now()") if now else None)


def tenant(*, primary_key: bool = True) -> Column[str]:
    return Column("tenant_id", String(63), primary_key=primary_key, nullable=False)


def key(name: str, of: str) -> Column[str]:
    """The lower-case text by which rows are looked up: see migration 0003."""
    return Column(name, Text(collation="C"), Computed(f"lower({of})", persisted=True))
