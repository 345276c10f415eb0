"""The settings of every process, read from the environment and validated at start-up."""

import base64
import json
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _scheme(*allowed: str) -> AfterValidator:
    def check(url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in allowed or not parts.hostname:
            raise ValueError(f"give a URL that begins with {' or '.join(f'{scheme}://' for scheme in allowed)}")
        return url

    return AfterValidator(check)


def _without_slash(url: str) -> str:
    return url.rstrip("/")


def _secret(value: SecretStr) -> SecretStr:
    try:
        decoded = base64.b64decode(value.get_secret_value(), validate=True)
    except ValueError as error:
        raise ValueError("give base64") from error
    if len(decoded) < 32:
        raise ValueError("give at least 32 bytes: openssl rand -base64 32")
    return value


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is neither an address nor a network such as 10.0.0.0/8") from error
    return values


def _json_object(value: object) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError('give a JSON object, such as {"homes.example": "hyderabad"}') from error


def _vapid_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.lstrip().startswith("-----BEGIN") and len(_base64url(text)) != 32:
        raise ValueError("give a P-256 private key, as PEM or as base64url of its 32 bytes")
    return value


def _base64url(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def _public_key(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError("give the base64 text that SendGrid shows as Verification Key") from error
    return value


WHERE_SETTINGS_ARE = (
    "docs/settings.md lists every setting. `make run` sets them itself; "
    "`set -a; . .data/environment; set +a` sets those of the platform that runs."
)
"""The end of the error message about a missing setting."""

Tenant = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
PostgresUrl = Annotated[str, _scheme("postgresql", "postgres")]


class Settings(BaseSettings):
    """Created once in each composition root and passed on; nothing else reads the environment."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, use_attribute_docstrings=True)

    database_url: PostgresUrl = "postgresql://hyderabad@127.0.0.1:5432/hyderabad"
    """Login that owns the tables or is a member of both roles below; each pool sets one of them as its role."""
    database_app_role: str = "hyderabad_app"
    """Row-level security limits it to the tenant in the session variable `app.tenant`."""
    database_reader_role: str = "hyderabad_all_tenants"
    """Reads every tenant: used by projections, publishing and reconcile, and by the API for closed sessions."""
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    """Connections of one pool; Postgres gets no faster with more than a few for each of its cores."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated bootstrap brokers."""
    kafka_partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    """Upper limit of the consumers of one projection that work in parallel."""
    kafka_replication: Annotated[int, Field(ge=1, le=9)] = 1
    """Replication factor of created topics; 3 in a cluster, so that it loses no message with one broker."""

    redis_url: Annotated[str, _scheme("redis", "rediss", "unix")] = "redis://127.0.0.1:6379/0"
    """Cache of histories, and counters of rate limits; both may be lost."""

    temporal_address: str = "127.0.0.1:7233"
    """Host and port of Temporal's frontend."""
    temporal_namespace: str = "default"
    """A registered namespace; `python -m migrations` registers the search attributes in it."""
    temporal_ui_url: Annotated[str, _scheme("http", "https")] = "http://127.0.0.1:8233"
    """URL of Temporal's web UI for browsers, used in links to traces."""

    s3_endpoint_url: Annotated[str, _scheme("http", "https")] = "http://127.0.0.1:8333"
    """S3 endpoint for images and other files."""
    s3_public_url: Annotated[str, _scheme("http", "https"), AfterValidator(_without_slash)] | None = None
    """The endpoint at which clients reach S3 to upload files; without it S3_ENDPOINT_URL."""
    s3_bucket: str = "hyderabad-media"
    """Bucket; `python -m migrations` creates it if it is missing."""
    s3_access_key: SecretStr = SecretStr("hyderabad")
    """S3 access key id."""
    s3_secret_key: SecretStr = SecretStr("hyderabad-secret")
    """S3 secret access key."""

    search_url: Annotated[str, _scheme("http", "https")] | None = None
    """OpenSearch 3 that keeps the listings and answers searches; the URL may contain a user name and password. Without
    it, Postgres does. Every process needs the same; the projection `search` fills a new one by itself."""

    media_processes: Annotated[int, Field(ge=0, le=128)] = 0
    """Pictures that a worker of the queue `media` makes at the same time, each in a process of its own with up to 1 GB;
    0 is as many as it has cores."""

    smtp_url: Annotated[str, _scheme("smtp", "smtps")] = "smtp://127.0.0.1:1025"
    """Mail server; the URL may contain a user name and password, and `smtps` uses implicit TLS."""
    mail_from: str = "Hyderabad Infra <no-reply@hyderabad-infra.example>"
    """From address of every mail."""

    sendgrid_api_key: SecretStr | None = None
    """API key of SendGrid with the permission Mail Send. When it is set, mails go by SendGrid instead of SMTP_URL."""
    sendgrid_url: Annotated[str, _scheme("http", "https")] = "https://api.sendgrid.com"
    """SendGrid's API; https://api.eu.sendgrid.com for an account in the EU."""
    sendgrid_webhook_key: Annotated[str, AfterValidator(_public_key)] | None = None
    """Verification Key of SendGrid's signed Event Webhook, whose URL is PUBLIC_API_URL and /api/webhooks/sendgrid.
    Without it the webhook is 404."""
    twilio_account_sid: str | None = None
    """Twilio account that sends text messages. Without it none are sent."""
    twilio_auth_token: SecretStr | None = None
    """Auth token of the account. Verifies webhooks, and signs in to the API unless an API key is set."""
    twilio_api_key_sid: str | None = None
    """API key of Twilio, which can be revoked by itself."""
    twilio_api_key_secret: SecretStr | None = None
    """Secret of the API key."""
    twilio_messaging_service_sid: str | None = None
    """Messaging Service that chooses the sender; or set TWILIO_FROM."""
    twilio_from: str | None = None
    """Sender of text messages: a number, or the sender id (header) that is registered in India."""
    twilio_url: Annotated[str, _scheme("http", "https")] = "https://api.twilio.com"
    """Twilio's API."""
    sms_dlt_entity_id: Annotated[str, Field(pattern=r"^[0-9]{1,30}$")] | None = None
    """Entity id in the registry of India's operators (DLT), without which they drop text messages."""
    sms_dlt_templates: Annotated[dict[str, str], NoDecode, BeforeValidator(_json_object)] = {}
    """JSON object from kind of notice to the id of its registered text (DLT). `make mails` shows the texts to register
    and their names. Without its id India's operators drop a text."""
    emails_per_second: Annotated[float, Field(gt=0)] = 100
    """Mails of all workers together; providers defer or block who sends faster than they allow."""
    sms_per_second: Annotated[float, Field(gt=0)] = 10
    """Text messages of all workers together; Twilio queues what exceeds the rate of the sender, and fails it later."""
    pushes_per_second: Annotated[float, Field(gt=0)] = 200
    """Deliveries to browsers of all workers together, each to all browsers of a user."""
    vapid_private_key: Annotated[SecretStr, AfterValidator(_vapid_key)] | None = None
    """P-256 private key in PEM or base64url that identifies this server to push services (VAPID, RFC 8292). Without it
    nothing is sent to browsers. A browser's subscription is bound to it."""
    vapid_subject: Annotated[str, Field(pattern=r"^(mailto:.+@.+|https://.+)$")] = "mailto:api@hyderabad-infra.example"
    """Address at which the operator of a push service reaches ours."""
    push_allow_private: bool = False
    """Push to plain HTTP, other ports and private addresses too; for tests only, because users give the URLs."""

    secret_key: Annotated[SecretStr, AfterValidator(_secret)]
    """Base64 of 32 random bytes or more. Wraps the persons' keys; signs cursors and consistency tokens."""
    jwt_private_key: SecretStr | None = None
    """Ed25519 private key in PEM, or the path of a file that holds one. Signs access tokens; only the API needs it."""

    public_url: Annotated[str, _scheme("http", "https"), AfterValidator(_without_slash)] = "http://127.0.0.1:8080"
    """URL of the portal's web pages for browsers, with which links in mails begin."""
    public_api_url: Annotated[str, _scheme("http", "https"), AfterValidator(_without_slash)] = "http://127.0.0.1:8080"
    """URL at which mail programs and providers reach the API: links that unsubscribe, and webhooks."""
    cdn_base_url: Annotated[str, _scheme("http", "https"), AfterValidator(_without_slash)] | None = None
    """What the URLs of pictures begin with, before the key of a file: of a CDN that gets them from /api/files of
    PUBLIC_API_URL, which they begin with otherwise. It must tell URLs apart by their query, which names a tenant."""

    host: str = "127.0.0.1"
    """Address that the API listens on; 0.0.0.0 for every interface."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    """Port that the API listens on."""
    ops_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on which workers and projections serve /livez, /readyz and /metrics; 0 disables it."""
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    """Longer than the gateway and common clients keep an idle connection, so that the client closes it. A request on a
    connection that the API has just closed fails, and clients do not retry a POST by themselves."""
    api_services: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated routers to serve; empty for all."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, AfterValidator(_networks)] = ("127.0.0.1",)
    """Comma-separated addresses or networks whose X-Forwarded-For is trusted; rate limits count by client address."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins that CORS allows."""
    tenant_hosts: Annotated[dict[str, str], NoDecode, BeforeValidator(_json_object)] = {}
    """JSON object from host name to tenant, for portals with a domain of their own."""
    default_tenant: Tenant = "hyderabad"
    """Tenant of every other host name."""
    verified_email_tenants: Annotated[tuple[Tenant, ...], NoDecode] = ()
    """Comma-separated tenants whose listings become public only when the owner's e-mail address is verified; the API
    refuses others with `email-not-verified`. Only workers need it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """Lowest level that is logged: DEBUG, INFO, WARNING, ERROR or CRITICAL."""

    admin_second_factor: bool = False
    """Whether administrators need a second factor: without one, they can only set one up."""
    webauthn_rp_ids: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated domains of passkeys (RP ids), each for itself and the hosts below it; other portals have their
    host in PUBLIC_URL or TENANT_HOSTS. Browsers take localhost or a domain, not an address. When the domain of a portal
    changes, its passkeys sign in no more."""
    webauthn_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins besides that of PUBLIC_URL whose pages, and Android apps, may use passkeys."""

    command_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long the API waits for a command to be saved before it answers 202."""
    consistency_wait_seconds: Annotated[float, Field(ge=0, le=30)] = 0.5
    """How long a read with a Consistency-Token waits for the read model before it reads the event store itself."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 262_144
    """256 kB: a listing with every field at its longest and every character escaped (12 bytes) has 168 kB."""
    login_attempts_per_minute: Annotated[int, Field(ge=1)] = 10
    """Of the current password, by one account that changes it: enough for typing errors, too few for guessing."""
    login_failures: Annotated[int, Field(ge=1)] = 5
    """Of one name from one address within an hour, before a pause of 30 s, which each later failure doubles up to 15
    minutes: enough for typing errors, too few for guessing passwords."""
    login_failures_per_address: Annotated[int, Field(ge=1)] = 50
    """From one address within 15 minutes, before a pause of 30 s, which doubles up to 5 minutes: an office has one."""
    login_failures_per_account: Annotated[int, Field(ge=1)] = 30
    """Of one name from all addresses within an hour, before a pause of 5 s, which doubles up to a minute and spares the
    addresses where the account was signed in: what the owner mistypes on every device."""
    code_failures: Annotated[int, Field(ge=1)] = 10
    """Wrong codes of the second factor of one account within a day, from all addresses, before a pause of a minute,
    which each later failure doubles up to an hour: who knows the password gets some 40 guesses in a day, a chance of
    one in 8,000. The owner mistypes fewer, and waits for an hour at most."""
    login_attempts_per_minute_per_address: Annotated[int, Field(ge=1)] = 60
    """From one address, for all names: an office behind one NAT may sign in at once, and an attacker takes at most 12 s
    of a core a minute (0.2 s for each hash)."""
    registrations_per_minute: Annotated[int, Field(ge=1)] = 30
    """From one address: an office behind one NAT may sign up at once."""
    links_per_minute: Annotated[int, Field(ge=1)] = 30
    """Requests for links in mails, and uses of them, from one address: an office behind one NAT."""
    unsubscribes_per_minute: Annotated[int, Field(ge=1)] = 600
    """From one address: a provider of mailboxes unsubscribes all its users from a few."""
    commands_per_minute: Annotated[int, Field(ge=1)] = 600
    """For one user: more than a manual import needs, less than a runaway script sends. As many reads a minute of the
    state of commands that are not recorded, each of which is searched in Temporal."""

    upload_megabytes_per_minute: Annotated[int, Field(ge=1)] = 500
    """Of files of one user: several times what a phone can send. A body that does not say its size counts as the
    largest that is taken."""
    upload_spool_megabytes: Annotated[int, Field(ge=200)] = 1_000
    """Of the temporary files of one process of the API, in which files wait until they are sent on: twenty requests of
    the largest size with pictures, or five files to import. Above it the API answers 503."""

    views_per_minute: Annotated[int, Field(ge=1)] = 600
    """By one account, or by visitors without one from one address: an office looks around, a script counts up."""
    searches_per_minute: Annotated[int, Field(ge=1)] = 600
    """Of listings, maps, and similar or recommended listings, by one account or by visitors without one from one
    address: an office looks around, and a script takes ten seconds of a core a minute, with polygons up to forty."""
    suggestions_per_minute: Annotated[int, Field(ge=1)] = 3_000
    """As searches, while somebody types: one for each letter, each of which takes a millisecond."""
    streams_per_user: Annotated[int, Field(ge=1)] = 20
    """Open streams of live updates of one user on one replica of the API: tabs and devices."""
    streams_per_address: Annotated[int, Field(ge=1)] = 500
    """Open streams from one address on one replica of the API: an office behind one NAT; each takes some 35 kB."""

    stall_seconds: Annotated[float, Field(gt=0)] = 20.0
    """A consumer without a fetch response for this long is recreated; a healthy one has one every half second."""
    reconcile_every_seconds: Annotated[float, Field(ge=1)] = 60.0
    """Interval of reconcile, which finds saved events and mails that were not published, projected or sent."""
    reconcile_after_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Reconcile ignores younger events: their command is still publishing them."""
    import_rows_per_second: Annotated[float, Field(gt=0)] = 400.0
    """Rows of a file that an imports worker saves in a second, at most: commands of people who wait share its database,
    broker and projections with it."""
    files_grace_hours: Annotated[float, Field(ge=1)] = 24.0
    """How long files are kept that nothing refers to: uploads, and pictures of deleted listings. Longer than anything
    takes that begins to refer to them."""

    @field_validator(
        "api_services",
        "cors_origins",
        "trusted_proxies",
        "verified_email_tenants",
        "webauthn_origins",
        "webauthn_rp_ids",
        mode="before",
    )
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def secret_bytes(self) -> bytes:
        return base64.b64decode(self.secret_key.get_secret_value())

    @property
    def jwt_private_pem(self) -> bytes:
        """Raises ValueError when the setting is missing, or neither PEM nor a readable file."""
        if self.jwt_private_key is None:
            raise ValueError("JWT_PRIVATE_KEY: the API needs it: openssl genpkey -algorithm ed25519")
        text = self.jwt_private_key.get_secret_value()
        if text.lstrip().startswith("-----BEGIN"):
            return text.replace("\\n", "\n").encode()
        try:
            return Path(text).read_bytes()
        except OSError as error:
            raise ValueError(f"JWT_PRIVATE_KEY is neither PEM nor a readable file: {error.strerror}") from error


def load_settings() -> Settings:
    """The settings of this process. Exits with code 2 and one line per invalid setting."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            missing = "it is required, and not set" if problem["type"] == "missing" else ""
            reason = missing or problem["msg"].removeprefix("Value error, ")
            sys.stderr.write(f"{str(problem['loc'][0]).upper()}: {reason}\n")
        sys.stderr.write(f"Set these in the environment; {WHERE_SETTINGS_ARE}\n")
        raise SystemExit(2) from None
