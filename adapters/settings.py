"""Every setting of every process, read from the environment and validated before anything starts."""

import base64
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _scheme(*allowed: str) -> AfterValidator:
    def check(url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in allowed or not parts.hostname:
            raise ValueError(f"give a URL that begins with {' or '.join(f'{scheme}://' for scheme in allowed)}")
        return url

    return AfterValidator(check)


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


PostgresUrl = Annotated[str, _scheme("postgresql", "postgres")]


class Settings(BaseSettings):
    """One instance is made in each composition root and passed on; nothing else reads the environment."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: PostgresUrl = "postgresql://hyderabad@127.0.0.1:5432/hyderabad"
    """Login that owns the tables or is a member of both roles below; each process lowers itself to one of them."""
    database_app_role: str = "hyderabad_app"
    """Row-level security holds it to the one tenant that its session was told last."""
    database_reader_role: str = "hyderabad_all_tenants"
    """Projections, publishing and reconciling serve every tenant, and say so by connecting as this role."""
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    """Connections of one process; Postgres does not get faster past a few for each of its cores."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    """The most consumers that can share one projection's work."""
    kafka_replication: Annotated[int, Field(ge=1, le=9)] = 1

    redis_url: Annotated[str, _scheme("redis", "rediss", "unix")] = "redis://127.0.0.1:6379/0"

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_ui_url: Annotated[str, _scheme("http", "https")] = "http://127.0.0.1:8233"

    s3_endpoint_url: Annotated[str, _scheme("http", "https")] = "http://127.0.0.1:8333"
    s3_bucket: str = "hyderabad-media"
    s3_access_key: SecretStr = SecretStr("hyderabad")
    s3_secret_key: SecretStr = SecretStr("hyderabad-secret")

    smtp_url: Annotated[str, _scheme("smtp", "smtps")] = "smtp://127.0.0.1:1025"
    mail_from: str = "Hyderabad Infra <no-reply@hyderabad-infra.example>"

    secret_key: Annotated[SecretStr, AfterValidator(_secret)]
    """Base64 of 32 random bytes or more. Wraps the persons' keys, signs cursors and tokens of consistency."""
    jwt_private_key: SecretStr | None = None
    """Ed25519 private key in PEM, or the path of a file that holds one. Signs access tokens, so only the API has it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    ops_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where workers and projections answer /livez, /readyz and /metrics; 0 for nowhere."""
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    """Longer than the gateway and common clients keep an idle connection, so that the client closes it. A request on a
    connection that the API has just closed fails, and clients do not retry a POST by themselves."""
    api_services: Annotated[tuple[str, ...], NoDecode] = ()
    """Routers to serve, separated by commas; empty for all."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, AfterValidator(_networks)] = ("127.0.0.1",)
    """Addresses or networks, separated by commas, whose X-Forwarded-For says who asks; limits count by address."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    tenant_hosts: dict[str, str] = {}
    """JSON of host name to tenant, for portals that have a name of their own."""
    default_tenant: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "hyderabad"
    log_level: str = "INFO"

    command_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long the API waits for a command to be saved before it answers 202."""
    consistency_wait_seconds: Annotated[float, Field(ge=0, le=30)] = 0.5
    """How long a read with a Consistency-Token waits for the read model before it reads the event store itself."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    """1 MB: a listing with every field at its longest is under 20 kB."""
    login_attempts_per_minute: Annotated[int, Field(ge=1)] = 10
    """For one name from one address: a person mistypes a few times, a guesser more often."""
    login_attempts_per_minute_per_address: Annotated[int, Field(ge=1)] = 60
    """From one address, whatever the names: an office behind one router may sign in together, and a guesser of names
    costs no more than 12 s of a core a minute (0.2 s for each hash)."""
    registrations_per_minute: Annotated[int, Field(ge=1)] = 30
    """From one address: an office behind one router may sign up together."""
    commands_per_minute: Annotated[int, Field(ge=1)] = 600
    """For one user: an import by hand stays below, a runaway script does not."""

    views_per_minute: Annotated[int, Field(ge=1)] = 600
    """By one account, or by visitors without one from one address: an office looks around, a script counts up."""

    stall_seconds: Annotated[float, Field(gt=0)] = 20.0
    """A healthy consumer hears from its broker at least every half second."""
    reconcile_every_seconds: Annotated[float, Field(ge=1)] = 60.0
    reconcile_after_seconds: Annotated[float, Field(ge=0)] = 60.0
    """An event younger than this is still on its ordinary way."""

    @field_validator("api_services", "cors_origins", "trusted_proxies", mode="before")
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
    """The settings of this process, or its end with one line for each one to fix."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        sys.stderr.write("Set these in the environment; README.md lists every setting. `make run` sets them itself.\n")
        raise SystemExit(2) from None
