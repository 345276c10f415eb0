"""Erasures: the digests of the names that an erasure has freed, until the registrations they refused are deleted."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE user_management.erasures ADD COLUMN name_digests varchar(32)[]")
