"""The JSON of WebAuthn (Level 3, section 5.1): options for browsers, and the credentials that they send."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from domain.model import Model


def _base64url(longest: int) -> Any:
    # A last group of one character would be no byte.
    pattern = r"^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?$"
    return Field(min_length=2, max_length=longest, pattern=pattern)


CredentialId = Annotated[str, _base64url(1400)]
"""Of at most 1023 bytes."""


class _OfBrowser(Model):
    """What `PublicKeyCredential.toJSON()` returns; browsers add fields, which are ignored."""

    model_config = ConfigDict(extra="ignore")


class Attestation(_OfBrowser):
    """The answer of an authenticator that has made a passkey."""

    client_data_json: Annotated[str, _base64url(8_000), Field(alias="clientDataJSON")]
    attestation_object: Annotated[str, _base64url(32_000)]
    transports: Annotated[tuple[Annotated[str, Field(max_length=50)], ...], Field(max_length=20, fail_fast=True)] = ()


class CreatedCredential(_OfBrowser):
    """`toJSON()` of what `navigator.credentials.create()` returns."""

    id: CredentialId
    raw_id: CredentialId
    type: Literal["public-key"]
    response: Attestation


class Assertion(_OfBrowser):
    """The answer of an authenticator that signs in."""

    client_data_json: Annotated[str, _base64url(8_000), Field(alias="clientDataJSON")]
    authenticator_data: Annotated[str, _base64url(8_000)]
    signature: Annotated[str, _base64url(2_000)]
    user_handle: Annotated[str, _base64url(100)] | None = None


class UsedCredential(_OfBrowser):
    """`toJSON()` of what `navigator.credentials.get()` returns."""

    id: CredentialId
    raw_id: CredentialId
    type: Literal["public-key"]
    response: Assertion


class RelyingPartyOption(Model):
    """The portal."""

    id: str
    name: str


class UserOption(Model):
    """The account, as authenticators show it."""

    id: str
    name: str
    display_name: str


class AlgorithmOption(Model):
    """A kind of key."""

    type: str
    alg: int


class CredentialOption(Model):
    """A passkey of the account."""

    id: str
    type: str
    transports: tuple[str, ...] = ()


class SelectionOption(Model):
    """What the authenticator must do."""

    resident_key: str
    require_resident_key: bool
    user_verification: str


class CreationOptions(Model):
    """For `PublicKeyCredential.parseCreationOptionsFromJSON()`."""

    rp: RelyingPartyOption
    user: UserOption
    challenge: str
    pub_key_cred_params: tuple[AlgorithmOption, ...]
    timeout: int
    """Milliseconds."""
    exclude_credentials: tuple[CredentialOption, ...]
    authenticator_selection: SelectionOption
    attestation: str


class RequestOptions(Model):
    """For `PublicKeyCredential.parseRequestOptionsFromJSON()`."""

    challenge: str
    timeout: int
    """Milliseconds."""
    rp_id: str
    allow_credentials: tuple[CredentialOption, ...]
    """Empty: the user chooses the account."""
    user_verification: str
