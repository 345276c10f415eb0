"""The outbox: a delivery is promised with its event, claimed by who sends it, and then sent or given up."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    # Rows that are there already were sent. `promised_at` becomes the time of this migration for them: nobody asks.
    "ALTER TABLE notification.deliveries "
    "ADD COLUMN about_id uuid, ADD COLUMN promised_at timestamptz NOT NULL DEFAULT now(), "
    "ADD COLUMN claimed_until timestamptz, ADD COLUMN given_up text, "
    "ALTER COLUMN sent_at DROP NOT NULL, ALTER COLUMN sent_at DROP DEFAULT",
    "CREATE INDEX deliveries_waiting ON notification.deliveries (promised_at) "
    "WHERE sent_at IS NULL AND given_up IS NULL",
    "GRANT UPDATE (given_up) ON notification.deliveries TO hyderabad_all_tenants",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
