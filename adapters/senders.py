"""Chooses the provider of each channel by the settings."""

from adapters.mail import Smtp
from adapters.providers import MailSender, PushSender, SmsSender
from adapters.push import WebPush
from adapters.sendgrid import SendGrid
from adapters.settings import Settings
from adapters.sms import Twilio


def mail_sender(settings: Settings) -> MailSender:
    """SendGrid when it has an API key, otherwise the SMTP server."""
    return SendGrid(settings) if settings.sendgrid_api_key else Smtp(settings)


def sms_sender(settings: Settings) -> SmsSender | None:
    """Twilio; None without an account, so that no texts are sent. Raises ValueError when a setting is missing."""
    return Twilio(settings) if settings.twilio_account_sid else None


def push_sender(settings: Settings) -> PushSender | None:
    """Web Push; None without a VAPID key, so that nothing is sent to browsers. Raises ValueError for a wrong key."""
    return WebPush(settings) if settings.vapid_private_key else None
