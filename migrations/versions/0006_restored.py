"""Keep which Postgres cluster the transaction ids of the event store come from, so that a restored dump is noticed."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    "CREATE TABLE user_history.event_store_cluster ("
    "singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), system_identifier bigint NOT NULL)",
    # A store that was restored before this migration has ids that this cluster has not reached; 0 is no cluster.
    "INSERT INTO user_history.event_store_cluster (system_identifier) SELECT CASE WHEN EXISTS ("
    "SELECT FROM user_history.event_store WHERE tx_id >= pg_snapshot_xmax(pg_current_snapshot())"
    ") THEN 0 ELSE system_identifier END FROM pg_control_system()",
    "GRANT SELECT ON user_history.event_store_cluster TO hyderabad_app, hyderabad_all_tenants",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
