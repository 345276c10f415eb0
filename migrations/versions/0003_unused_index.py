"""No query looks for events by time alone, and every event pays for each index twice: stored, and marked published."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP INDEX user_history.event_store_time")
