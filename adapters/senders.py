"""Chooses the provider of each channel by the settings."""

from adapters.providers import MailSender, PushSender, SmsSender
from adapters.settings import Settings


def mail_sender(settings: Settings) -> MailSender:
    """SendGrid when it has an API key, otherwise the SMTP server."""
    raise NotImplementedError


def sms_sender(settings: Settings) -> SmsSender | None:
    """Twilio; None when it is not configured, so that no text messages are sent."""
    raise NotImplementedError


def push_sender(settings: Settings) -> PushSender | None:
    """Web Push; None without a VAPID key, so that no messages are sent to browsers."""
    raise NotImplementedError
