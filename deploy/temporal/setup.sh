#!/bin/sh
# Prepares Temporal on Postgres: `setup.sh schema` before the server starts, `setup.sh namespace` once it serves.
# Both may run again at any time. Needs POSTGRES_SEEDS, DB_PORT, POSTGRES_USER, SQL_PASSWORD, SCHEMA_DIR;
# for the namespace TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.
set -eu

sql_tool() {
    temporal-sql-tool --plugin postgres12 --endpoint "$POSTGRES_SEEDS" --port "$DB_PORT" --user "$POSTGRES_USER" "$@"
}

schema() {
    database=$1 folder=$2
    sql_tool --database "$database" create-database
    # The version table is made once; a database that has it is only brought up to date.
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
