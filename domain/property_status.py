"""The status of a listing: the allowed transitions, and who may make each."""

from enum import StrEnum
from types import MappingProxyType


class PropertyStatus(StrEnum):
    DRAFT = "DRAFT"
    PENDING_REVIEW = "PENDING_REVIEW"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    UNDER_OFFER = "UNDER_OFFER"
    SOLD = "SOLD"
    RENTED = "RENTED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


PUBLIC_STATUSES = frozenset(
    {PropertyStatus.ACTIVE, PropertyStatus.UNDER_OFFER, PropertyStatus.SOLD, PropertyStatus.RENTED}
)
"""Listings that everybody may see; in every other status only the owner and administrators may."""

CLOSED_STATUSES = frozenset({PropertyStatus.SOLD, PropertyStatus.RENTED})
"""Statuses in which the other fields of a listing cannot be changed."""


class Party(StrEnum):
    """Who changes a status. An administrator may do everything that an owner may."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    PLATFORM = "PLATFORM"


_S = PropertyStatus
_OWNER, _ADMIN = frozenset({Party.OWNER, Party.ADMIN}), frozenset({Party.ADMIN})
_REVIEW = frozenset({Party.ADMIN, Party.PLATFORM})
_PLATFORM = frozenset({Party.PLATFORM})

TRANSITIONS: MappingProxyType[PropertyStatus, dict[PropertyStatus, frozenset[Party]]] = MappingProxyType(
    {
        _S.DRAFT: {_S.ACTIVE: _OWNER, _S.WITHDRAWN: _OWNER},
        _S.ACTIVE: {
            _S.PAUSED: _OWNER,
            _S.UNDER_OFFER: _OWNER,
            _S.SOLD: _OWNER,
            _S.RENTED: _OWNER,
            _S.WITHDRAWN: _OWNER,
            _S.REJECTED: _ADMIN,
            _S.EXPIRED: _PLATFORM,
        },
        _S.PAUSED: {_S.ACTIVE: _OWNER, _S.WITHDRAWN: _OWNER, _S.REJECTED: _ADMIN, _S.EXPIRED: _PLATFORM},
        _S.UNDER_OFFER: {
            _S.ACTIVE: _OWNER,
            _S.SOLD: _OWNER,
            _S.RENTED: _OWNER,
            _S.WITHDRAWN: _OWNER,
            _S.REJECTED: _ADMIN,
        },
        _S.SOLD: {_S.ACTIVE: _OWNER},
        _S.RENTED: {_S.ACTIVE: _OWNER},
        _S.EXPIRED: {_S.ACTIVE: _OWNER, _S.WITHDRAWN: _OWNER},
        _S.WITHDRAWN: {_S.ACTIVE: _OWNER},
        # A rejected listing becomes public by a review only, so no path around PENDING_REVIEW exists.
        _S.REJECTED: {_S.PENDING_REVIEW: _OWNER},
        _S.PENDING_REVIEW: {_S.ACTIVE: _REVIEW, _S.REJECTED: _REVIEW},
    }
)
"""The transitions from each status, and who may make them."""
