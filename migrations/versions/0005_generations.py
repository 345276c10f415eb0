"""A generation's number is claimed once, also by a rebuild that is interrupted; parked events can be locked."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "ALTER TABLE user_history.read_models ADD COLUMN newest_generation integer NOT NULL DEFAULT 1",
    # A rebuild that ran before took the serving generation plus one; an interrupted one may have left it filled.
    "UPDATE user_history.read_models SET newest_generation = generation + 1",
    # Postgres lets only those lock a row who may update some column of it.
    "GRANT UPDATE (reason) ON user_history.parked_events TO hyderabad_all_tenants",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
