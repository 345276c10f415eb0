"""Numbers that a projection counts from events: what counts, with the newest version seen of it, and the totals."""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    "CREATE TABLE search.counted ("
    "tenant_id varchar(63) NOT NULL, "
    "kind varchar(20) NOT NULL, "
    "item_id uuid NOT NULL, "
    "generation integer NOT NULL, "
    "subject_id uuid, "
    "version bigint NOT NULL, "
    "counts boolean NOT NULL, "
    "PRIMARY KEY (tenant_id, kind, item_id, generation))",
    "CREATE TABLE search.counts ("
    "tenant_id varchar(63) NOT NULL, "
    "kind varchar(20) NOT NULL, "
    "subject_id uuid NOT NULL, "
    "generation integer NOT NULL, "
    "total bigint NOT NULL, "
    "PRIMARY KEY (tenant_id, kind, subject_id, generation))",
    "INSERT INTO user_history.read_models (name, generation) VALUES ('counts', 1)",
    "GRANT SELECT ON search.counts TO hyderabad_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON search.counted, search.counts TO hyderabad_all_tenants",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _STATEMENTS:
        op.execute(statement)
    for table in ("search.counted", "search.counts"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO hyderabad_app "
            "USING (tenant_id = current_setting('app.tenant', true)) "
            "WITH CHECK (tenant_id = current_setting('app.tenant', true))"
        )
        op.execute(f"CREATE POLICY every_tenant ON {table} TO hyderabad_all_tenants USING (true) WITH CHECK (true)")
