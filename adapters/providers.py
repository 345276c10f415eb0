"""What every provider of a channel takes and raises, so that deliveries are settled the same way whoever sends them.

A message is sent again when the answer to the first attempt was lost. What was accepted is not sent again where the
provider can tell: Twilio is asked first, a push service replaces an undelivered message of the same topic, and mails of
the same Message-ID are duplicates that mail servers and programs may drop. SendGrid has no such means.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.preferences import Channel


class ProviderUnavailable(Exception):
    """The provider cannot take the message at this time; it may be sent again later.

    `retry_after` is the number of seconds that the provider asked to wait, None when it did not say.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class DeliveryRefused(Exception):
    """This message will never be accepted. Its reason contains neither the address nor the text."""


class BadAddress(Exception):
    """Nothing can be delivered to this address: neither this message nor later ones. The reason does not contain it."""


@dataclass(frozen=True)
class DeliveryKey:
    """Identifies a delivery in the provider's reports: it is sent along, and comes back with each of them."""

    tenant_id: str
    event_id: UUID
    channel: Channel
    recipient_id: UUID

    @property
    def tags(self) -> dict[str, str]:
        """As the names and values that a provider stores with a message.

        SendGrid puts them beside its own fields, so no name may be one of those, such as `event`.
        """
        return {
            "tenant": self.tenant_id,
            "event_id": str(self.event_id),
            "channel": self.channel.value,
            "recipient": str(self.recipient_id),
        }

    @classmethod
    def from_tags(cls, tags: Mapping[str, object]) -> "DeliveryKey | None":
        """The key of a report; None when it is not about one of our deliveries."""
        try:
            return cls(
                tenant_id=str(tags["tenant"]),
                event_id=UUID(str(tags["event_id"])),
                channel=Channel(str(tags["channel"])),
                recipient_id=UUID(str(tags["recipient"])),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class Mail:
    """A mail to one recipient. Not shown by `repr`, because addresses and texts are personal."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    message_id: str
    """Without angle brackets. A mail that is sent again has the same, so that recipients can drop the duplicate."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further headers, such as List-Unsubscribe."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """`DeliveryKey.tags`."""


@dataclass(frozen=True)
class Sms:
    """A text message to one phone number in E.164 form, such as +919876543210."""

    to: str = field(repr=False)
    text: str = field(repr=False)
    template_id: str | None
    """The id under which the text's template is registered with the Indian operators (DLT)."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """`DeliveryKey.tags`."""
    tried_since: datetime | None = None
    """Set when an earlier attempt may have been accepted (the delivery was claimed before): the time at which the
    delivery was enqueued. The provider is then asked whether it has this message already."""


@dataclass(frozen=True)
class PushSubscription:
    """A browser's subscription, with the keys that its messages are encrypted with (RFC 8291)."""

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)


@dataclass(frozen=True)
class PushMessage:
    """A message to one browser."""

    subscription: PushSubscription
    payload: bytes = field(repr=False)
    """At most 3,993 bytes; the encrypted body then has the 4,096 that each push service takes (RFC 8291, section 4)."""
    topic: str | None
    """Up to 32 characters of base64url. A message replaces an undelivered one with the same topic (RFC 8030, 5.4), so
    that one that is sent twice is shown once."""
    ttl_seconds: int
    """How long the push service keeps the message while the browser is offline."""


class MailSender(Protocol):
    """Sends mails. `provider` is its name in `deliveries.provider`."""

    provider: str

    async def send(self, mail: Mail) -> str | None:
        """Returns the provider's id of the mail. Raises ProviderUnavailable, DeliveryRefused, BadAddress."""

    async def close(self) -> None:
        """Closes its idle connections."""


class SmsSender(Protocol):
    """Sends text messages. `provider` is its name in `deliveries.provider`."""

    provider: str

    async def send(self, sms: Sms) -> str | None:
        """Returns the provider's id of the message, if it came.

        Raises ProviderUnavailable, DeliveryRefused, BadAddress.
        """

    async def close(self) -> None:
        """Closes its idle connections."""


class PushSender(Protocol):
    """Sends messages to browsers. `provider` is its name in `deliveries.provider`."""

    provider: str

    async def send(self, message: PushMessage) -> None:
        """Raises ProviderUnavailable, DeliveryRefused, and BadAddress when the subscription has ended."""

    async def close(self) -> None:
        """Closes its idle connections."""
