"""Search: the listings and words of the projection `search`, and the role of an owner when they listed."""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;

ALTER TABLE property_management.properties ADD COLUMN posted_by varchar(20);

CREATE TABLE search.property_search (
    tenant_id varchar(63) NOT NULL,
    property_id uuid NOT NULL,
    generation integer NOT NULL,
    version bigint NOT NULL,
    status varchar(20), -- NULL of a deleted listing
    created_at timestamptz NOT NULL,
    listed_at timestamptz,
    -- NULL unless the listing is active, from here on:
    owner_id uuid,
    posted_by varchar(20),
    property_type varchar(20),
    listing_type varchar(10),
    price bigint,
    area_sqft bigint,
    bedrooms integer,
    bathrooms integer,
    locality text,
    pincode varchar(6),
    furnished_status varchar(20),
    facing varchar(20),
    floor_number integer,
    age_of_property integer,
    has_rera boolean,
    is_featured boolean,
    is_verified boolean,
    amenities text[],
    latitude double precision,
    longitude double precision,
    words tsvector,
    card bytea,
    price_per_sqft double precision GENERATED ALWAYS AS (price::double precision / area_sqft) STORED,
    geo point GENERATED ALWAYS AS (point(longitude * 0.95424, latitude)) STORED,
    PRIMARY KEY (tenant_id, property_id, generation)
);
CREATE INDEX property_search_newest ON search.property_search
    (tenant_id, generation, listed_at DESC, property_id DESC) WHERE status = 'ACTIVE';
CREATE INDEX property_search_price ON search.property_search
    (tenant_id, generation, (- price) DESC, listed_at DESC, property_id DESC) WHERE status = 'ACTIVE';
CREATE INDEX property_search_price_desc ON search.property_search
    (tenant_id, generation, price DESC, listed_at DESC, property_id DESC) WHERE status = 'ACTIVE';
CREATE INDEX property_search_rate ON search.property_search
    (tenant_id, generation, (- COALESCE(price_per_sqft, '1e+15'::double precision)) DESC, listed_at DESC,
    property_id DESC) WHERE status = 'ACTIVE';
CREATE INDEX property_search_area ON search.property_search
    (tenant_id, generation, (- COALESCE(area_sqft, '1000000000'::bigint)) DESC, listed_at DESC, property_id DESC)
    WHERE status = 'ACTIVE';
CREATE INDEX property_search_area_desc ON search.property_search
    (tenant_id, generation, COALESCE(area_sqft, '0'::bigint) DESC, listed_at DESC, property_id DESC)
    WHERE status = 'ACTIVE';
CREATE INDEX property_search_locality ON search.property_search
    (tenant_id, generation, locality, property_type, (- price) DESC, listed_at DESC, property_id DESC)
    WHERE status = 'ACTIVE';
CREATE INDEX property_search_bedrooms ON search.property_search
    (tenant_id, generation, bedrooms, listed_at DESC, property_id DESC) WHERE status = 'ACTIVE';
CREATE INDEX property_search_words ON search.property_search USING gin (words) WHERE status = 'ACTIVE';
CREATE INDEX property_search_amenities ON search.property_search USING gin (amenities) WHERE status = 'ACTIVE';
CREATE INDEX property_search_geo ON search.property_search USING gist (geo) INCLUDE (tenant_id, generation)
    WHERE status = 'ACTIVE';

CREATE TABLE search.vocabulary (
    tenant_id varchar(63) NOT NULL,
    word text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    listings bigint NOT NULL,
    PRIMARY KEY (tenant_id, word, generation)
);
CREATE INDEX vocabulary_similar ON search.vocabulary USING gin (word gin_trgm_ops);

-- What the application reads, in place of the tables: see `views` in adapters/tables.py.
CREATE VIEW search.listings AS SELECT * FROM search.property_search
    WHERE status = 'ACTIVE' AND tenant_id = current_setting('app.tenant', true)
    AND generation = (SELECT generation FROM user_history.read_models WHERE name = 'search');
CREATE VIEW search.listed_words AS SELECT * FROM search.vocabulary
    WHERE tenant_id = current_setting('app.tenant', true)
    AND generation = (SELECT generation FROM user_history.read_models WHERE name = 'search');

-- Up to this generation the store outside Postgres (OpenSearch) does not have what Postgres has.
ALTER TABLE user_history.read_models ADD COLUMN unstored_generation integer NOT NULL DEFAULT 0;
INSERT INTO user_history.read_models (name, generation) VALUES ('search', 1);

GRANT SELECT ON search.listings, search.listed_words TO hyderabad_app;
-- Whether an event is applied.
GRANT SELECT (tenant_id, property_id, generation, version) ON search.property_search TO hyderabad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON search.property_search, search.vocabulary TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = ("search.property_search", "search.vocabulary")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table in _OF_ONE_TENANT:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY one_tenant ON {table} TO hyderabad_app "
            "USING (tenant_id = current_setting('app.tenant', true)) "
            "WITH CHECK (tenant_id = current_setting('app.tenant', true))"
        )
        op.execute(f"CREATE POLICY every_tenant ON {table} TO hyderabad_all_tenants USING (true) WITH CHECK (true)")
