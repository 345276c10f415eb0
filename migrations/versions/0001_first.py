"""Accounts, listings, the event store, the history and the deliveries, each row with its tenant."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE SCHEMA user_management;
CREATE SCHEMA property_management;
CREATE SCHEMA search;
CREATE SCHEMA user_history;
CREATE SCHEMA notification;

CREATE TABLE user_management.tenants (
    tenant_id varchar(63) PRIMARY KEY,
    name varchar(200) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO user_management.tenants (tenant_id, name) VALUES ('hyderabad', 'Hyderabad');

CREATE TABLE user_management.users (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    username varchar(50) NOT NULL,
    email varchar(254) NOT NULL,
    password_hash text NOT NULL,
    role varchar(20) NOT NULL,
    status varchar(30) NOT NULL,
    email_verified boolean NOT NULL DEFAULT false,
    phone_verified boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_login timestamptz,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE UNIQUE INDEX users_username_key ON user_management.users (tenant_id, lower(username));
CREATE UNIQUE INDEX users_email_key ON user_management.users (tenant_id, lower(email));

CREATE TABLE user_management.user_profiles (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    first_name varchar(100) NOT NULL,
    last_name varchar(100) NOT NULL,
    phone_number varchar(20),
    profile_image_url text,
    address varchar(500),
    city varchar(200),
    state varchar(200),
    pincode varchar(6),
    date_of_birth date,
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE user_management.person_keys (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    wrapped_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE user_management.sessions (
    tenant_id varchar(63) NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, session_id)
);
CREATE INDEX sessions_user ON user_management.sessions (tenant_id, user_id);

CREATE TABLE user_management.refresh_tokens (
    tenant_id varchar(63) NOT NULL,
    token_hash bytea NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (tenant_id, token_hash)
);
CREATE INDEX refresh_tokens_session ON user_management.refresh_tokens (tenant_id, session_id);
CREATE INDEX refresh_tokens_user ON user_management.refresh_tokens (tenant_id, user_id);

CREATE TABLE property_management.properties (
    tenant_id varchar(63) NOT NULL,
    property_id uuid NOT NULL,
    version bigint NOT NULL,
    owner_id uuid NOT NULL,
    status varchar(20) NOT NULL,
    title varchar(200) NOT NULL,
    description text NOT NULL,
    price bigint NOT NULL,
    location varchar(200) NOT NULL,
    property_type varchar(20) NOT NULL,
    listing_type varchar(10) NOT NULL,
    address varchar(500),
    city varchar(200) NOT NULL,
    state varchar(200) NOT NULL,
    pincode varchar(6),
    bedrooms integer,
    bathrooms integer,
    area_sqft bigint,
    parking_spaces integer,
    floor_number integer,
    total_floors integer,
    age_of_property integer,
    facing varchar(20),
    furnished_status varchar(20),
    amenities text[] NOT NULL DEFAULT '{}',
    nearby_facilities text,
    latitude double precision,
    longitude double precision,
    rera_id varchar(20),
    contact_name varchar(100),
    contact_phone varchar(20),
    contact_email varchar(254),
    is_featured boolean NOT NULL DEFAULT false,
    is_verified boolean NOT NULL DEFAULT false,
    previous_price bigint,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    listed_at timestamptz,
    PRIMARY KEY (tenant_id, property_id)
);
CREATE INDEX properties_owner
    ON property_management.properties (tenant_id, owner_id, created_at DESC, property_id DESC);
CREATE INDEX properties_owner_status
    ON property_management.properties (tenant_id, owner_id, status, created_at DESC, property_id DESC);
CREATE INDEX properties_newest ON property_management.properties (tenant_id, listed_at DESC, property_id DESC)
    WHERE status = 'ACTIVE';
CREATE INDEX properties_featured ON property_management.properties (tenant_id, listed_at DESC, property_id DESC)
    WHERE status = 'ACTIVE' AND is_featured;

CREATE TABLE property_management.favorites (
    tenant_id varchar(63) NOT NULL,
    favorite_id uuid NOT NULL,
    version bigint NOT NULL,
    user_id uuid NOT NULL,
    property_id uuid NOT NULL,
    owner_id uuid NOT NULL,
    title varchar(200) NOT NULL,
    location varchar(200) NOT NULL,
    is_favorite boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, favorite_id)
);
CREATE INDEX favorites_user ON property_management.favorites (tenant_id, user_id, changed_at DESC, property_id DESC)
    WHERE is_favorite;

CREATE TABLE user_history.event_store (
    id bigserial PRIMARY KEY,
    event_id uuid NOT NULL,
    aggregate_id varchar(255) NOT NULL,
    user_id varchar(255) NOT NULL,
    event_type varchar(255) NOT NULL,
    event_data jsonb NOT NULL,
    timestamp timestamptz NOT NULL,
    version bigint NOT NULL,
    tenant_id varchar(63) NOT NULL,
    schema_version integer NOT NULL,
    command_id uuid NOT NULL,
    tx_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    published_at timestamptz
);
CREATE UNIQUE INDEX event_store_event_id_key ON user_history.event_store (event_id);
CREATE UNIQUE INDEX event_store_version_key ON user_history.event_store (tenant_id, aggregate_id, version)
    WHERE version > 0;
CREATE INDEX event_store_user ON user_history.event_store (user_id, timestamp, event_id);
-- For ad-hoc queries by operators: all events of an aggregate, including observations, and events of a type. No query
-- of the platform uses them; they are part of the event store's documented schema.
CREATE INDEX event_store_aggregate ON user_history.event_store (aggregate_id);
CREATE INDEX event_store_type ON user_history.event_store (event_type);
CREATE INDEX event_store_command ON user_history.event_store (command_id);
CREATE INDEX event_store_order ON user_history.event_store (tx_id, id);
CREATE INDEX event_store_unpublished ON user_history.event_store (id) WHERE published_at IS NULL;
CREATE INDEX event_store_unpublished_of ON user_history.event_store (tenant_id, aggregate_id, version)
    WHERE published_at IS NULL AND version > 0;

CREATE TABLE user_history.user_activity (
    id bigserial PRIMARY KEY,
    tenant_id varchar(63) NOT NULL,
    generation integer NOT NULL DEFAULT 1,
    event_id uuid NOT NULL,
    user_id varchar(255) NOT NULL,
    activity_type varchar(100) NOT NULL,
    description text NOT NULL,
    activity_data jsonb NOT NULL,
    timestamp timestamptz NOT NULL
);
CREATE UNIQUE INDEX user_activity_event_id_key ON user_history.user_activity (event_id, generation);
CREATE INDEX user_activity_page ON user_history.user_activity (user_id, generation, timestamp DESC, event_id DESC);

CREATE TABLE user_history.commands (
    tenant_id varchar(63) NOT NULL,
    command_id uuid NOT NULL,
    type varchar(100) NOT NULL,
    user_id uuid NOT NULL,
    aggregate_id uuid NOT NULL,
    person_id uuid NOT NULL,
    fingerprint varchar(64),
    status varchar(20) NOT NULL,
    answer json, -- not jsonb: a repeated answer has its fields in the same order
    problem jsonb,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, command_id)
);

CREATE TABLE user_history.parked_events (
    id bigserial PRIMARY KEY,
    projection varchar(100) NOT NULL,
    topic varchar(255) NOT NULL,
    key text NOT NULL,
    payload bytea NOT NULL,
    digest bytea NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX parked_events_once ON user_history.parked_events (projection, digest);
CREATE INDEX parked_events_key ON user_history.parked_events (projection, key);

CREATE TABLE user_history.read_models (
    name varchar(100) PRIMARY KEY,
    generation integer NOT NULL,
    newest_generation integer NOT NULL DEFAULT 1
);
INSERT INTO user_history.read_models (name, generation) VALUES ('history', 1), ('counts', 1);

CREATE TABLE user_history.event_store_cluster (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    system_identifier bigint NOT NULL
);
INSERT INTO user_history.event_store_cluster (system_identifier) SELECT system_identifier FROM pg_control_system();

CREATE TABLE user_history.checkpoints (
    name varchar(100) PRIMARY KEY,
    tx_id bigint NOT NULL,
    id bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE search.counted (
    tenant_id varchar(63) NOT NULL,
    kind varchar(20) NOT NULL,
    item_id uuid NOT NULL,
    generation integer NOT NULL,
    subject_id uuid,
    version bigint NOT NULL,
    counts boolean NOT NULL,
    PRIMARY KEY (tenant_id, kind, item_id, generation)
);

CREATE TABLE search.counts (
    tenant_id varchar(63) NOT NULL,
    kind varchar(20) NOT NULL,
    subject_id uuid NOT NULL,
    generation integer NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, subject_id, generation)
);

CREATE TABLE notification.deliveries (
    tenant_id varchar(63) NOT NULL,
    event_id uuid NOT NULL,
    channel varchar(20) NOT NULL,
    recipient_id uuid NOT NULL,
    command_id uuid NOT NULL,
    template varchar(100) NOT NULL,
    about_id uuid,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    sent_at timestamptz,
    given_up text,
    PRIMARY KEY (tenant_id, event_id, channel, recipient_id)
);
CREATE INDEX deliveries_command ON notification.deliveries (tenant_id, command_id);
CREATE INDEX deliveries_pending ON notification.deliveries (enqueued_at) WHERE sent_at IS NULL AND given_up IS NULL;
"""

# Roles belong to the whole server, so another database on it may have made them already.
_ROLES = """
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7237002);
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hyderabad_app') THEN
        CREATE ROLE hyderabad_app NOLOGIN NOINHERIT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hyderabad_all_tenants') THEN
        CREATE ROLE hyderabad_all_tenants NOLOGIN NOINHERIT;
    END IF;
    EXECUTE format('GRANT hyderabad_app, hyderabad_all_tenants TO %I', current_user);
END
$$
"""

# The event store is append-only: only `published_at` may be updated, and nothing deleted.
_GRANTS = """
GRANT USAGE ON SCHEMA user_management, property_management, search, user_history, notification
    TO hyderabad_app, hyderabad_all_tenants;
GRANT SELECT ON user_management.tenants TO hyderabad_app, hyderabad_all_tenants;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    user_management.users, user_management.user_profiles, user_management.person_keys, user_management.sessions,
    user_management.refresh_tokens, property_management.properties, property_management.favorites,
    notification.deliveries TO hyderabad_app;
GRANT SELECT ON
    user_management.users, user_management.user_profiles, user_management.person_keys,
    property_management.properties, property_management.favorites, user_history.commands, notification.deliveries
    TO hyderabad_all_tenants;
GRANT SELECT, INSERT ON user_history.event_store, user_history.commands TO hyderabad_app;
GRANT SELECT ON user_history.event_store TO hyderabad_all_tenants;
GRANT UPDATE (published_at) ON user_history.event_store TO hyderabad_app, hyderabad_all_tenants;
GRANT SELECT ON user_history.user_activity, user_history.read_models TO hyderabad_app;
GRANT SELECT, UPDATE ON user_history.read_models TO hyderabad_all_tenants;
GRANT SELECT, INSERT, DELETE ON user_history.user_activity, user_history.parked_events TO hyderabad_all_tenants;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_history.checkpoints TO hyderabad_all_tenants;
GRANT SELECT ON search.counts TO hyderabad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON search.counted, search.counts TO hyderabad_all_tenants;
GRANT SELECT ON user_history.event_store_cluster TO hyderabad_app, hyderabad_all_tenants;
GRANT UPDATE (given_up) ON notification.deliveries TO hyderabad_all_tenants;
-- SELECT FOR UPDATE needs the right to update at least one column.
GRANT UPDATE (reason) ON user_history.parked_events TO hyderabad_all_tenants;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA user_history TO hyderabad_app, hyderabad_all_tenants;
"""

_OF_ONE_TENANT = (
    "user_management.users",
    "user_management.user_profiles",
    "user_management.person_keys",
    "user_management.sessions",
    "user_management.refresh_tokens",
    "property_management.properties",
    "search.counted",
    "search.counts",
    "property_management.favorites",
    "user_history.event_store",
    "user_history.user_activity",
    "user_history.commands",
    "notification.deliveries",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (*_TABLES.split(";\n"), _ROLES, *_GRANTS.split(";\n")):
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
