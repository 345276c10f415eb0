"""Accounts: tokens, devices, second factors and passkeys. Notices: outbox, channels, preferences and the inbox."""

from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = """
ALTER TABLE user_management.users
    ADD COLUMN second_factor boolean NOT NULL DEFAULT false,
    ADD COLUMN verification_step smallint NOT NULL DEFAULT 0;
CREATE INDEX users_newest ON user_management.users (tenant_id, created_at DESC, user_id DESC);
CREATE INDEX users_unverified ON user_management.users (created_at)
    WHERE status = 'PENDING_VERIFICATION' AND verification_step < 3;

ALTER TABLE user_management.sessions
    ADD COLUMN device varchar(100),
    ADD COLUMN address_digest bytea,
    ADD COLUMN last_seen_at timestamptz,
    ADD COLUMN second_factor boolean NOT NULL DEFAULT false;
CREATE INDEX sessions_revoked ON user_management.sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE user_management.account_tokens (
    tenant_id varchar(63) NOT NULL,
    token_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    purpose varchar(20) NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (tenant_id, token_hash)
);
CREATE INDEX account_tokens_user ON user_management.account_tokens (tenant_id, user_id);

CREATE TABLE user_management.totp (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    secret jsonb NOT NULL, -- encrypted with the person's key
    last_step bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE user_management.recovery_codes (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    code_hash bytea NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (tenant_id, user_id, code_hash)
);

CREATE TABLE user_management.passkeys (
    tenant_id varchar(63) NOT NULL,
    passkey_id uuid NOT NULL,
    credential_id bytea NOT NULL,
    user_id uuid NOT NULL,
    name varchar(100) NOT NULL,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL,
    transports text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    PRIMARY KEY (tenant_id, passkey_id)
);
CREATE UNIQUE INDEX passkeys_credential_key ON user_management.passkeys (tenant_id, credential_id);
CREATE INDEX passkeys_user ON user_management.passkeys (tenant_id, user_id);

CREATE INDEX favorites_property ON property_management.favorites (tenant_id, property_id, user_id) WHERE is_favorite;

CREATE INDEX event_store_security ON user_history.event_store (tenant_id, aggregate_id, timestamp, event_id)
    WHERE event_type IN ('LOGIN_FAILED', 'REFRESH_TOKEN_REUSED', 'USER_LOGGED_IN', 'USER_PASSWORD_CHANGED',
        'USER_PASSWORD_RESET_REQUESTED', 'USER_ROLE_CHANGED', 'USER_STATUS_CHANGED', 'USER_SECOND_FACTOR_CHANGED',
        'USER_PASSKEY_ADDED', 'USER_PASSKEY_REMOVED');

CREATE TABLE notification.notices (
    tenant_id varchar(63) NOT NULL,
    event_id uuid NOT NULL,
    kind varchar(100) NOT NULL,
    audience varchar(20) NOT NULL,
    audience_id uuid NOT NULL,
    command_id uuid NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    expanded_at timestamptz,
    PRIMARY KEY (tenant_id, event_id, kind, audience_id)
);
CREATE INDEX notices_pending ON notification.notices (enqueued_at) WHERE expanded_at IS NULL;
CREATE INDEX notices_command ON notification.notices (tenant_id, command_id);

ALTER TABLE notification.deliveries
    ADD COLUMN held_until timestamptz,
    ADD COLUMN provider varchar(20),
    ADD COLUMN provider_id varchar(200),
    ADD COLUMN outcome varchar(20),
    ADD COLUMN reported varchar(20),
    ADD COLUMN reported_at timestamptz;
CREATE INDEX deliveries_held ON notification.deliveries (tenant_id, recipient_id, held_until)
    WHERE held_until IS NOT NULL AND sent_at IS NULL AND given_up IS NULL;
CREATE INDEX deliveries_provider ON notification.deliveries (tenant_id, provider_id) WHERE provider_id IS NOT NULL;

CREATE TABLE notification.bad_addresses (
    tenant_id varchar(63) NOT NULL,
    channel varchar(20) NOT NULL,
    address_digest bytea NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, channel, address_digest)
);

CREATE TABLE notification.preferences (
    tenant_id varchar(63) NOT NULL,
    user_id uuid NOT NULL,
    version bigint NOT NULL,
    kinds jsonb NOT NULL,
    quiet_from time,
    quiet_to time,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

CREATE TABLE notification.push_subscriptions (
    tenant_id varchar(63) NOT NULL,
    subscription_id uuid NOT NULL,
    user_id uuid NOT NULL,
    endpoint varchar(1000) NOT NULL,
    p256dh varchar(200) NOT NULL,
    auth varchar(100) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subscription_id)
);
-- An endpoint belongs to a browser: whoever signs in there last gets its messages.
CREATE UNIQUE INDEX push_subscriptions_endpoint_key ON notification.push_subscriptions (tenant_id, endpoint);
CREATE INDEX push_subscriptions_user ON notification.push_subscriptions (tenant_id, user_id);

CREATE TABLE notification.notifications (
    tenant_id varchar(63) NOT NULL,
    generation integer NOT NULL,
    notification_id uuid NOT NULL,
    user_id uuid NOT NULL,
    kind varchar(100),
    data jsonb,
    created_at timestamptz,
    read_at timestamptz,
    PRIMARY KEY (tenant_id, notification_id, generation)
);
CREATE INDEX notifications_page
    ON notification.notifications (tenant_id, user_id, generation, created_at DESC, notification_id DESC)
    WHERE kind IS NOT NULL;

CREATE TABLE notification.read_until (
    tenant_id varchar(63) NOT NULL,
    generation integer NOT NULL,
    user_id uuid NOT NULL,
    read_until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, generation)
);
INSERT INTO user_history.read_models (name, generation) VALUES ('notifications', 1);

GRANT SELECT, INSERT, UPDATE, DELETE ON
    user_management.account_tokens, user_management.totp, user_management.recovery_codes, user_management.passkeys,
    notification.notices, notification.bad_addresses, notification.preferences, notification.push_subscriptions
    TO hyderabad_app;
GRANT SELECT ON user_management.sessions, notification.notices TO hyderabad_all_tenants;
GRANT SELECT ON notification.notifications, notification.read_until TO hyderabad_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON notification.notifications, notification.read_until TO hyderabad_all_tenants;
"""

_OF_ONE_TENANT = (
    "user_management.account_tokens",
    "user_management.totp",
    "user_management.recovery_codes",
    "user_management.passkeys",
    "notification.notices",
    "notification.bad_addresses",
    "notification.preferences",
    "notification.push_subscriptions",
    "notification.notifications",
    "notification.read_until",
)


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
