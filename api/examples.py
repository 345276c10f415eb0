"""Examples for the OpenAPI document: of the bodies of requests and of successful responses."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.errors import KINDS, example
from domain import ids
from domain.activity import activity_of
from domain.events import Event
from domain.preferences import ACCOUNT_KINDS, OPTIONAL_KINDS, NoticeKind
from domain.property import Property
from domain.property_events import PropertyCreated
from domain.property_status import PropertyStatus
from domain.roles import UserRole
from domain.user import AccountSummary, User, UserStatus

_USER_ID, _PROPERTY_ID, _COMMAND_ID = (UUID(f"0199c9a4-1f00-7000-8000-00000000000{n}") for n in (1, 2, 3))
_AT = datetime(2025, 10, 9, 6, 30, tzinfo=UTC)

_LISTING: dict[str, Any] = {
    "title": "3BHK Apartment in Gachibowli",
    "description": "A bright flat near the lake, ten minutes from the metro.",
    "price": 8_500_000,
    "location": "Gachibowli",
    "propertyType": "APARTMENT",
    "listingType": "SALE",
    "bedrooms": 3,
    "bathrooms": 2,
    "areaSqft": 1650,
    "amenities": ["Lift", "Power backup"],
    "latitude": 17.4401,
    "longitude": 78.3489,
    "contactName": "Ravi Kumar",
    "contactPhone": "98480 12345",
}

_LINK_TOKEN = "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

_CREDENTIAL_ID = "tOjx2ssmRg6Gz7mNn1Yy4cQ0b3zZrWvS"
_CLIENT_DATA = "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0IiwiY2hhbGxlbmdlIjoiQUFBQSIsIm9yaWdpbiI6Imh0dHBzOi8vaG9tZXMuZXhhbXBsZSJ9"
_CHALLENGE = "7Wq3yq0m2yB5mZf7nq1oX2a0d3bS8rVYkJp4cT6hG9E"
_SETUP_TOKEN = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k"

_SAVED_SEARCH: dict[str, Any] = {
    "name": "Flats in Kondapur",
    "filters": {"location": ["Kondapur"], "propertyType": ["APARTMENT"], "bedrooms": ["2", "3"], "maxPrice": 9_000_000},
    "frequency": "WEEKLY",
    "weekday": "SATURDAY",
    "hour": 9,
    "paused": False,
}

_IMPORT_ID = "0199c9a4-1f00-7000-8000-00000000000e"
_IMPORT_MAPPING = {"Reference": "externalId", "Price": "price", "Locality": "location", "BHK": "bedrooms"}
_IMPORT: dict[str, Any] = {
    "id": _IMPORT_ID,
    "status": "RUNNING",
    "reason": None,
    "fileName": "flats.csv",
    "size": 1_823_400,
    "rows": {"read": 1400, "saved": 1310, "updated": 62, "unchanged": 11, "refused": 17},
    "rowsPerSecond": 388.9,
    "secondsLeft": 6.2,
    "mapping": _IMPORT_MAPPING,
    "reportLines": 21,
    "startedAt": _AT.isoformat(),
    "finishedAt": None,
}

BODIES: dict[str, dict[str, Any]] = {
    "ImportRequest": {
        "uploadId": "0199c9a4-1f00-7000-8000-00000000000d",
        "defaults": {"listingType": "SALE", "propertyType": "APARTMENT"},
        "dryRun": True,
    },
    "NewUpload": {"fileName": "flats.csv", "contentType": "text/csv", "size": 1823400},
    "Credentials": {"emailOrUsername": "ravi@example.com", "password": "correct horse battery"},
    "CodeProof": {"password": "correct horse battery", "code": "492039"},
    "EmailAddress": {"email": "ravi@example.com"},
    "Erasure": {"password": "correct horse battery"},
    "LinkToken": {"token": _LINK_TOKEN},
    "NewPasswordByLink": {"token": _LINK_TOKEN, "newPassword": "another lamp orbit nine"},
    "NewPreferences": {
        "kinds": {"PRICE_DROPPED": {"email": True, "sms": True, "push": True, "inApp": True}},
        "quietHours": {"from": "22:00", "to": "07:00"},
    },
    "NewProperty": {**_LISTING, "status": "DRAFT"},
    "NewSavedSearch": _SAVED_SEARCH,
    "PropertyDetails": _LISTING,
    "NewPasskey": {
        "credential": {
            "id": _CREDENTIAL_ID,
            "rawId": _CREDENTIAL_ID,
            "type": "public-key",
            "response": {
                "clientDataJSON": _CLIENT_DATA,
                "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVikSZYN5YgOjGh0NBcPZHZgW4_krrmi",
                "transports": ["internal", "hybrid"],
            },
        },
        "name": "My telephone",
    },
    "NewPushSubscription": {
        "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABo",
        "expirationTime": None,
        "keys": {
            "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "auth": "BTBZMqHH6r4Tts7J_aSIgg",
        },
    },
    "PasskeyProof": {"password": "correct horse battery"},
    "PasskeySignIn": {
        "credential": {
            "id": _CREDENTIAL_ID,
            "rawId": _CREDENTIAL_ID,
            "type": "public-key",
            "response": {
                "clientDataJSON": _CLIENT_DATA,
                "authenticatorData": "SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2MFAAAAAQ",
                "signature": "MEUCIQDKg4Zg1aXQmVbC3YJ8V6Xq3w3m2Vt0p0nE0WqgQ0uF8wIgZ0o3v0m9t7Wc4y8G6k3x",
                "userHandle": "AZnJpB8AcACAAAAAAAAAAQ",
            },
        }
    },
    "PasswordProof": {"password": "correct horse battery"},
    "PasswordChange": {"currentPassword": "correct horse battery", "newPassword": "another lamp orbit nine"},
    "ProfilePatch": {"city": "Hyderabad", "phoneNumber": None},
    "PropertyPatch": {"price": 8_250_000, "bedrooms": None},
    "ReadAll": {"newestId": str(_COMMAND_ID)},
    "RefreshToken": {"refreshToken": "vV0hJxq3r1cYwP2mT8sKdE5nLbG7uZ4aQfR9iXo6HyM"},
    "Registration": {
        "username": "ravi",
        "email": "ravi@example.com",
        "password": "correct horse battery",
        "firstName": "Ravi",
        "lastName": "Kumar",
        "phoneNumber": "98480 12345",
    },
    "RoleChange": {"role": "AGENT"},
    "SearchBody": {
        "q": "lake view",
        "propertyType": ["APARTMENT", "VILLA"],
        "bedrooms": ["2", "4+"],
        "maxPrice": 12_000_000,
        "polygon": {
            "type": "Polygon",
            "coordinates": [[[78.33, 17.42], [78.39, 17.42], [78.39, 17.47], [78.33, 17.47], [78.33, 17.42]]],
        },
        "sort": "price",
    },
    "SecondFactorConfirmation": {"setupToken": _SETUP_TOKEN, "code": "492039"},
    "ImageDetails": {"caption": "The living room", "isPrimary": True},
    "ImageOrder": {"imageIds": [str(_PROPERTY_ID), str(_COMMAND_ID)]},
    "StatusChange": {"status": "UNDER_OFFER", "reason": "Two families are interested."},
    "Switch": {"value": True},
    "UserStatusChange": {"status": "SUSPENDED", "reason": "Listings that do not exist."},
}
"""An example of each model that is the body of a route. A test fails for a body without an example."""

_FILES_URL = "https://api.hyderabad-infra.example/api/files"
_KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_IMAGE = {
    "id": str(_COMMAND_ID),
    "status": "READY",
    "caption": "The living room",
    "isPrimary": True,
    "width": 4032,
    "height": 3024,
    "thumbhash": "1QcSHQRnh493V4dIh4eXh1h4kJUI",
    "reason": None,
    "reasonCode": None,
    "variants": [
        {
            "url": f"{_FILES_URL}/{_KEY}-{width}.{end}",
            "width": width,
            "height": width * 3 // 4,
            "format": "jpeg" if end == "jpg" else end,
            "bytes": width * 90,
        }
        for width, end in ((320, "avif"), (320, "webp"), (1280, "avif"), (1280, "webp"), (1280, "jpg"))
    ],
    "fileName": None,
    "size": None,
    "addedAt": None,
}
_PROPERTY = {
    **Property(
        id=_PROPERTY_ID,
        version=1,
        owner_id=_USER_ID,
        status=PropertyStatus.ACTIVE,
        created_at=_AT,
        updated_at=_AT,
        **_LISTING,
    ).model_dump(mode="json", by_alias=True),
    "images": [_IMAGE],
    "viewsCount": 12,
    "favoritesCount": 3,
}
_FOUND = {name: value for name, value in _PROPERTY.items() if not name.startswith("contact")}
_USER = User(
    id=_USER_ID,
    version=1,
    username="ravi",
    email="ravi@example.com",
    first_name="Ravi",
    last_name="Kumar",
    role=UserRole.USER,
    status=UserStatus.PENDING_VERIFICATION,
    created_at=_AT,
    updated_at=_AT,
).model_dump(mode="json", by_alias=True)
_SUMMARY = [field.alias or name for name, field in AccountSummary.model_fields.items()]
_EVENT = Event(
    event_id=ids.event_id(_COMMAND_ID, 1),
    aggregate_id=_PROPERTY_ID,
    user_id=_USER_ID,
    tenant_id="hyderabad",
    event_type="PROPERTY_CREATED",
    timestamp=_AT,
    version=1,
    schema_version=1,
    command_id=_COMMAND_ID,
    data=PropertyCreated(
        property_id=_PROPERTY_ID,
        owner_id=_USER_ID,
        status=PropertyStatus.ACTIVE,
        **{name: value for name, value in _LISTING.items() if not name.startswith("contact")},
    ),
)
_ACTIVITY = activity_of(_EVENT)
assert _ACTIVITY is not None

_PASSKEY = {
    "id": str(_COMMAND_ID),
    "name": "My telephone",
    "createdAt": "2025-10-09T06:30:00Z",
    "lastUsedAt": None,
}

_REBUILD = {
    "status": "RUNNING",
    "detail": None,
    "generation": 4,
    "total": 1_000_000,
    "done": 250_000,
    "parked": 0,
    "eventsPerSecond": 12_500.0,
    "secondsLeft": 60.0,
    "requestedBy": str(_USER_ID),
    "startedAt": "2025-10-09T06:30:00Z",
    "finishedAt": None,
}
_PARKED = {
    "id": 17,
    "topic": "property-events",
    "key": str(_PROPERTY_ID),
    "parkedAt": "2025-10-09T06:30:00Z",
}
_SHOWN_SAVED_SEARCH = {
    **_SAVED_SEARCH,
    "id": str(_COMMAND_ID),
    "version": 1,
    "pausedBy": None,
    "dueAt": "2025-10-11T03:30:00Z",
    "createdAt": "2025-10-09T06:30:00Z",
    "updatedAt": "2025-10-09T06:30:00Z",
}

_UPLOAD_ID = "0199c7a6-5c1e-7d5e-9c5b-0e5b7f3a1d20"
_DOCUMENT = {
    "id": "0199c7a6-5c1e-7d5e-9c5b-0e5b7f3a1d21",
    "fileName": "sale deed.pdf",
    "contentType": "application/pdf",
    "size": 482133,
    "status": "READY",
    "refused": None,
    "url": f"{_FILES_URL}/0199c7a6-5c1e-7d5e-9c5b-0e5b7f3a1d21",
    "propertyId": None,
    "createdAt": _AT.isoformat(),
}
_UPLOAD = {
    "uploadId": _UPLOAD_ID,
    "fileName": "flats.csv",
    "contentType": "text/csv",
    "size": 1823400,
    "status": "COMPLETED",
    "propertyId": None,
    "createdAt": _AT.isoformat(),
}

RESPONSES: dict[str, Any] = {
    "ShownImport": _IMPORT,
    "ImportPage": {"items": [_IMPORT], "nextCursor": None},
    "getReport": "line,field,value,reason\r\n3,price,on request,Give the price; a listing needs one.\r\n",
    "ImportPreview": {
        "uploadId": "0199c9a4-1f00-7000-8000-00000000000d",
        "format": "csv",
        "mapping": _IMPORT_MAPPING,
        "ignoredColumns": ["Remarks of the agent"],
        "rows": {"read": 1000, "saved": 942, "updated": 40, "unchanged": 3, "refused": 15},
        "complete": False,
        "refusals": [
            {"line": 3, "field": "price", "value": "on request", "reason": "Give the price; a listing needs one."}
        ],
    },
    "BegunUpload": {
        "uploadId": _UPLOAD_ID,
        "method": "PUT",
        "url": f"https://s3.hyderabad-infra.example/hyderabad-media/incoming/hyderabad/{_UPLOAD_ID}?X-Amz-Signature=...",
        "headers": {"Content-Type": "text/csv"},
        "expiresAt": _AT.isoformat(),
        "maxBytes": 200_000_000,
    },
    "ShownUpload": _UPLOAD,
    "completeUpload": _UPLOAD,
    "ShownDocument": _DOCUMENT | {"status": "PROCESSING", "contentType": None, "url": None},
    "DocumentList": {"items": [_DOCUMENT]},
    "DocumentPage": {"items": [_DOCUMENT], "nextCursor": "AZnJpB8AfwA"},
    "getFile": "...",
    "AccountPage": {
        "items": [{name: _USER[name] for name in _SUMMARY}],
        "nextCursor": "AZnJpB8AfwA",
    },
    "AcceptedRebuild": {"projection": "history", "location": "/api/projections/history/rebuild"},
    "AcceptedCommand": {
        "commandId": str(_COMMAND_ID),
        "status": "RUNNING",
        "location": f"/api/commands/{_COMMAND_ID}",
    },
    "AcceptedDocuments": {
        "commandId": str(_COMMAND_ID),
        "status": "RUNNING",
        "location": f"/api/commands/{_COMMAND_ID}",
        "commandIds": [str(_COMMAND_ID)],
    },
    "AddedImages": {
        "propertyId": str(_PROPERTY_ID),
        "version": 2,
        "images": [
            {
                **dict.fromkeys(_IMAGE),
                "id": str(_COMMAND_ID),
                "status": "PROCESSING",
                "isPrimary": False,
                "variants": [],
                "fileName": "IMG_2031.HEIC",
                "size": 2_431_874,
                "addedAt": "2025-10-09T06:30:00Z",
            }
        ],
    },
    "Clusters": {
        "items": [
            {
                "tile": "14/11758/7384",
                "count": 42,
                "latitude": 17.4622,
                "longitude": 78.3568,
                "minPrice": 4_200_000,
                "maxPrice": 31_000_000,
                "propertyId": None,
            },
            {
                "tile": "14/11757/7385",
                "count": 1,
                "latitude": 17.4401,
                "longitude": 78.3489,
                "minPrice": 8_500_000,
                "maxPrice": 8_500_000,
                "propertyId": str(_PROPERTY_ID),
            },
        ],
        "exact": True,
    },
    "CommandState": {
        "commandId": str(_COMMAND_ID),
        "type": "create-property",
        "status": "COMPLETED",
        "result": {"aggregateId": str(_PROPERTY_ID), "eventIds": [str(_EVENT.event_id)]},
        "problem": None,
        "stages": [
            {"name": "saved", "status": "DONE", "at": "2025-10-09T06:30:00Z"},
            {"name": "published", "status": "DONE", "at": "2025-10-09T06:30:00Z"},
            {"name": "notified", "status": "PENDING", "at": None},
        ],
        "deliveries": [
            {"channel": "email", "outcome": "pending", "count": 1, "reason": None},
            {"channel": "in-app", "outcome": "sent", "count": 1, "reason": None},
        ],
        "images": [],
        "startedAt": "2025-10-09T06:30:00Z",
        "traceUrl": f"http://127.0.0.1:8233/namespaces/default/workflows/{_COMMAND_ID}",
    },
    "CountedProperty": _PROPERTY,
    "EventPage": {"items": [_EVENT.model_dump(mode="json", by_alias=True)], "nextCursor": None},
    "HistoryPage": {
        "items": [_ACTIVITY.model_dump(mode="json", by_alias=True, exclude={"tenant_id"})],
        "nextCursor": "AZnJpB8AfwA",
    },
    "HistorySummary": {
        "total": 212,
        "countsByType": {"PROPERTY_CREATED": 2, "PROPERTY_VIEWED": 210},
        "last30Days": {"total": 35, "countsByType": {"PROPERTY_VIEWED": 35}},
        "mostActiveDay": {"day": "2025-10-04", "count": 48},
        "lastActivity": _ACTIVITY.model_dump(mode="json", by_alias=True, exclude={"tenant_id"}),
    },
    "LinkRequested": {"status": "ACCEPTED"},
    "NoticePreferences": {
        "version": 1,
        "kinds": {
            kind: {"email": True, "sms": kind == "PRICE_DROPPED", "push": True, "inApp": True}
            for kind in OPTIONAL_KINDS
        },
        "accountKinds": [kind for kind in NoticeKind if kind in ACCOUNT_KINDS],
        "quietHours": {"from": "22:00", "to": "07:00"},
    },
    "NotificationPage": {
        "items": [
            {
                "id": str(_COMMAND_ID),
                "kind": "PRICE_DROPPED",
                "title": "A favourite costs ₹2,50,000 less",
                "body": "3BHK Apartment in Gachibowli in Gachibowli: ₹82,50,000 instead of ₹85,00,000",
                "propertyId": str(_PROPERTY_ID),
                "savedSearchId": None,
                "link": f"/api/properties/{_PROPERTY_ID}",
                "createdAt": "2025-10-09T06:30:00Z",
                "read": False,
            }
        ],
        "nextCursor": "AZnJpB8AfwA",
        "unreadCount": 1,
    },
    "ProblemKind": {
        "type": "/problems/not-found",
        "title": KINDS["not-found"].title,
        "status": KINDS["not-found"].status,
        "advice": KINDS["not-found"].advice,
        "example": example("not-found"),
    },
    "ProblemList": {
        "items": [
            {"type": f"/problems/{kind}", "title": KINDS[kind].title, "status": KINDS[kind].status}
            for kind in ("not-found", "too-many-requests")
        ]
    },
    "Profile": {**_USER, "propertyCount": 1},
    "PropertyPage": {"items": [_PROPERTY], "nextCursor": "AZnJpB8AfwA"},
    "PushKey": {"publicKey": "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"},
    "PushSubscriptionId": {"id": str(_COMMAND_ID)},
    "PushSubscriptions": {
        "items": [
            {
                "id": str(_COMMAND_ID),
                "service": "updates.push.services.mozilla.com",
                "createdAt": "2025-10-09T06:30:00Z",
            }
        ]
    },
    "SearchHistoryPage": {
        "items": [
            {
                "id": "5f0c8c52-0f9d-8b1e-9a55-2f0f8f6f3c11",
                "filters": {"q": "2 bhk gachibowli", "maxPrice": 10_000_000},
                "total": 212,
                "searchedAt": "2025-10-09T06:30:00Z",
            }
        ],
        "nextCursor": "AZnJpB8AfwA",
    },
    "CreationOptions": {
        "rp": {"id": "homes.example", "name": "Hyderabad Infra"},
        "user": {"id": "AZnJpB8AcACAAAAAAAAAAQ", "name": "ravi@example.com", "displayName": "Ravi Kumar"},
        "challenge": _CHALLENGE,
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-7, -8, -257)],
        "timeout": 300_000,
        "excludeCredentials": [],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    },
    "Passkey": _PASSKEY,
    "Passkeys": {"items": [_PASSKEY]},
    "RequestOptions": {
        "challenge": _CHALLENGE,
        "timeout": 300_000,
        "rpId": "homes.example",
        "allowCredentials": [],
        "userVerification": "required",
    },
    "RecoveryCodes": {"recoveryCodes": ["lcqd3h4kmvx2a7yt", "w5n6gzr3bjoe4s2f"]},
    "SearchPage": {
        "items": [
            {
                "property": _FOUND,
                "distanceKm": 2.417,
                "highlights": {"description": "A bright flat near the <mark>lake</mark>, ten minutes from the metro."},
            }
        ],
        "nextCursor": "WyIyMDI1LTEwLTA5VDA2OjMwOjAwWiJd",
        "total": {"value": 128, "exact": True},
        "facets": {
            "bedrooms": [{"value": "3", "count": 81, "exact": True}, {"value": "2", "count": 47, "exact": True}],
            "price": [{"value": "6000001-8000000", "count": 10_000, "exact": False}],
        },
        "interpretation": {
            "filters": {"q": "lake", "maxPrice": 10000000, "minBedrooms": 2, "listingType": ["SALE"]},
            "terms": ["lake"],
            "words": {"maxPrice": ["under 1 cr"], "listingType": ["under 1 cr"]},
        },
        "relax": [],
    },
    "SuggestionList": {
        "items": [
            {"text": "gachibowli villa", "kind": "SEARCH"},
            {"text": "Gachibowli", "kind": "LOCALITY", "latitude": 17.44, "longitude": 78.349},
        ]
    },
    "SecondFactorSetup": {
        "setupToken": _SETUP_TOKEN,
        "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
        "uri": "otpauth://totp/Hyderabad%20Infra:ravi%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
        "&issuer=Hyderabad%20Infra",
        "qrCode": "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E",
        "expiresIn": 600,
    },
    "RecommendationList": {
        "items": [
            {
                "property": _FOUND,
                "reason": {"kind": "NEARBY", "text": "1.2 km away, ₹5,00,000 less", "propertyId": str(_COMMAND_ID)},
            }
        ]
    },
    "SavedSearchList": {"items": [_SHOWN_SAVED_SEARCH]},
    "ShownSavedSearch": _SHOWN_SAVED_SEARCH,
    "OpenSessions": {
        "items": [
            {
                "id": str(_COMMAND_ID),
                "device": "Chrome on Windows",
                "openedAt": "2025-10-09T06:30:00Z",
                "lastSeenAt": "2025-10-12T15:10:00Z",
                "current": True,
            }
        ]
    },
    "SecurityEventPage": {
        "items": [
            {
                "id": str(_EVENT.event_id),
                "type": "USER_LOGGED_IN",
                "at": "2025-10-09T06:30:00Z",
                "userId": str(_USER_ID),
                "device": "Chrome on Windows",
                "newDevice": True,
                "sessionId": str(_COMMAND_ID),
                "fromRole": None,
                "toRole": None,
                "fromStatus": None,
                "toStatus": None,
                "passkey": None,
            }
        ],
        "nextCursor": "AZnJpB8AfwA",
    },
    "DiscardedEventPage": {
        "items": [
            {
                **_PARKED,
                "eventId": str(_EVENT.event_id),
                "parkedBecause": "rejected by Postgres: value too long for type character varying(100)",
                "reason": "The entry is of a test account",
                "discardedBy": str(_USER_ID),
                "discardedAt": "2025-10-09T06:45:00Z",
            }
        ],
        "nextCursor": None,
    },
    "ParkedEventContent": {
        **_PARKED,
        "reason": "an earlier event of the same key is parked",
        "payload": _EVENT.model_dump(mode="json", by_alias=True),
        "text": None,
    },
    "ParkedEventPage": {
        "items": [{**_PARKED, "reason": "an earlier event of the same key is parked"}],
        "nextCursor": "AZnJpB8AfwA",
    },
    "ProjectionList": {
        "items": [
            {
                "name": "history",
                "generation": 3,
                "lagEvents": 12,
                "lagSeconds": 1.8,
                "parked": 0,
                "rebuild": _REBUILD,
            }
        ]
    },
    "Rebuild": _REBUILD,
    "Retried": {"applied": 3, "failure": None},
    "SignedIn": {
        "accessToken": "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIwMTk5YzlhNCJ9.c2lnbmF0dXJl",
        "refreshToken": BODIES["RefreshToken"]["refreshToken"],
        "tokenType": "Bearer",
        "expiresIn": 900,
        "user": _USER,
    },
    "StreamTicket": {
        "ticket": "hyderabad.Yk1mZ0dQcVh3bGZ0bU5xUzJrR3hCd0pWcTd1T3pZc0E",
        "expiresAt": "2025-10-09T06:30:30Z",
    },
    "stream": "retry: 2000\n\nevent: ready\ndata: {}\nid: 1759991400000-0\n\nevent: command\n"
    f'data: {{"commandId":"{_COMMAND_ID}","type":null,"status":"COMPLETED","stage":"published",...}}\n'
    "id: 1759991400250-0\n\n: heartbeat\nid: 1759991400250-0\n\n",
    "User": _USER,
    "Unsubscribed": {"kinds": ["PRICE_DROPPED"], "savedSearchId": None},
    "jwks": {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "use": "sig",
                "alg": "EdDSA",
                "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            }
        ]
    },
    "livez": {"status": "alive"},
    "metrics": 'http_requests_total{method="GET",route="/api/properties",status="200"} 12.0\n',
    "readyz": {
        "status": "ready",
        "dependencies": dict.fromkeys(("postgres", "eventStore", "redis", "temporal", "closedSessions"), "reached"),
    },
    "downloadExport": '{"kind":"account","data":{"username":"ravi","email":"ravi@example.com"}}\n',
    "unsubscribe": '<!DOCTYPE html>\n<html lang="en">...</html>',
    "unsubscribePage": '<!DOCTYPE html>\n<html lang="en">...</html>',
}
"""An example of each successful response: by its model, or by the operation of one without a model."""
