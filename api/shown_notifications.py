"""A notification as the API returns it, with texts that are rendered from its values."""

import logging
from datetime import datetime
from uuid import UUID

from jinja2 import TemplateError

from domain.model import Model
from domain.preferences import NoticeKind
from notices.render import Short, short
from projections.inbox import Notification

log = logging.getLogger(__name__)

_UNKNOWN = Short("New notification", "Load the page again to read it.")
"""The texts of a kind that this release does not know: during an update, others write newer ones."""


class ShownNotification(Model):
    """A notification, without markup: whoever shows it as HTML must escape it."""

    id: UUID
    kind: str
    """A kind of notice, such as `PRICE_DROPPED`. Later releases add more."""
    title: str
    body: str
    property_id: UUID | None
    """The listing that it is about."""
    saved_search_id: UUID | None
    """The saved search that it is about."""
    link: str | None
    """The path of that listing or saved search in the API. It may have been deleted since."""
    created_at: datetime
    read: bool


def shown_notification(notification: Notification) -> ShownNotification:
    """A notification with its texts."""
    texts, property_id, search_id = _texts(notification), notification.property_id, notification.saved_search_id
    link = f"/api/search/saved/{search_id}" if search_id else None
    return ShownNotification(
        id=notification.id,
        kind=notification.kind,
        title=texts.title,
        body=texts.body,
        property_id=property_id,
        saved_search_id=search_id,
        link=f"/api/properties/{property_id}" if property_id else link,
        created_at=notification.created_at,
        read=notification.is_read,
    )


def _texts(notification: Notification) -> Short:
    try:
        return short(NoticeKind(notification.kind), notification.values)
    except (TemplateError, TypeError, ValueError) as error:
        # Its kind, or the values of its kind, are of another release.
        log.warning("notification %s cannot be rendered: %r", notification.id, error)
        return _UNKNOWN
