"""Live: the checkpoint of the projection that sends live messages begins at the newest event, because older ones are no
news. It has no tables.
"""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        """
        INSERT INTO user_history.checkpoints (name, tx_id, id, updated_at)
        SELECT 'live', CAST(CAST(tx_id AS text) AS bigint), id, now() FROM user_history.event_store
        ORDER BY event_store.tx_id DESC, event_store.id DESC LIMIT 1
        """
    )
