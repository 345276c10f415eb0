#!/bin/sh
# Prepares Temporal on Postgres: `setup.sh schema` before the server starts, `setup.sh namespace` when it is up.
# Both are idempotent. Needs POSTGRES_SEEDS, DB_PORT, POSTGRES_USER, SQL_PASSWORD, SCHEMA_DIR;
# for the namespace TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.
set -eu

sql_tool() {
    temporal-sql-tool --plugin postgres12 --endpoint "$POSTGRES_SEEDS" --port "$DB_PORT" --user "$POSTGRES_USER" "$@"
}

schema() {
    database=$1 folder=$2
    sql_tool --database "$database" create-database
    # Fails when the version table exists already; then only the update is needed.
    sql_tool --database "$database" setup-schema --version 0.0 2>/dev/null || true
    sql_tool --database "$database" update-schema --schema-dir "$SCHEMA_DIR/$folder/versioned"
}

case ${1-} in
    schema)
        schema temporal temporal
        schema temporal_visibility visibility
        ;;
    namespace)
        temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" --address "$TEMPORAL_ADDRESS" >/dev/null 2>&1 ||
            temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --address "$TEMPORAL_ADDRESS" --retention 168h
        ;;
    *)
        echo "usage: setup.sh schema|namespace" >&2
        exit 2
        ;;
esac
