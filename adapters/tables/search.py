"""The read model of searches, counts, and the searches of users."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from adapters.tables.base import Point, at, metadata, tenant

counted = Table(
    "counted",
    metadata,
    tenant(),
    Column("kind", String(20), primary_key=True),
    Column("item_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("subject_id", Uuid),
    Column("version", BigInteger, nullable=False),
    Column("counts", Boolean, nullable=False),
    schema="search",
)

counts = Table(
    "counts",
    metadata,
    tenant(),
    Column("kind", String(20), primary_key=True),
    Column("subject_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False),
    schema="search",
)

search_history = Table(
    "search_history",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("search_id", Uuid, primary_key=True),
    tenant(),
    Column("event_id", Uuid),
    Column("query", JSONB),
    Column("total", Integer),
    at("searched_at", nullable=True),
    at("deleted_until", nullable=True),
    Index(
        "search_history_page",
        "user_id",
        "generation",
        text("searched_at DESC"),
        text("search_id DESC"),
        postgresql_where=text("searched_at IS NOT NULL"),
    ),
    schema="search",
)

saved_filters = Table(
    "saved_filters",
    metadata,
    tenant(),
    Column("saved_search_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("name", String(60), nullable=False),
    Column("filters", JSONB, nullable=False),
    Column("frequency", String(20), nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("weekday", String(20), nullable=False),
    Column("paused", String(20)),
    at("since"),
    at("created_at"),
    at("updated_at"),
    at("due_at"),
    at("last_round_at", nullable=True),
    at("checkpoint", nullable=True),
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("unread_mails", ARRAY(DateTime(timezone=True)), nullable=False, server_default=text("'{}'")),
    Index("saved_filters_user", "tenant_id", "user_id", "created_at"),
    Index("saved_filters_due", "due_at", postgresql_where=text("paused IS NULL")),
    schema="search",
)

saved_search_matches = Table(
    "saved_search_matches",
    metadata,
    tenant(),
    Column("saved_search_id", Uuid, primary_key=True),
    Column("property_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    at("reported_at"),
    at("back_at", nullable=True),
    Index("saved_search_matches_newest", "tenant_id", "saved_search_id", text("reported_at DESC"), "property_id"),
    Index("saved_search_matches_user", "tenant_id", "user_id"),
    schema="search",
)

WIDTH_OF_DEGREE = 0.95424
"""Of longitude beside one of latitude: the cosine of 17.4 degrees, Hyderabad's latitude."""
KM_PER_UNIT = 111.195
"""A degree of latitude. A distance on the map of `geo` is off by 0.05 % at most within 60 km of Hyderabad."""
_NO_AREA, _NO_RATE = 10**9, "1e+15"
"""In place of an area or a price per square foot that is not known: above any, so that it comes last."""

SORT_KEYS = {
    "listed_at": "listed_at",
    "price": "(- price)",
    "-price": "price",
    "pricePerSqft": f"(- COALESCE(price_per_sqft, '{_NO_RATE}'::double precision))",
    "area": f"(- COALESCE(area_sqft, '{_NO_AREA}'::bigint))",
    "-area": "COALESCE(area_sqft, '0'::bigint)",
}
"""The expressions by which search sorts, each in descending order, then by time and id: one direction for all three
makes the rows below a position one comparison of rows, and the expression of an index."""


def _sorted(name: str, key: str, *first: str, **options: Any) -> Index:
    """The index of active listings in the order of one of SORT_KEYS."""
    newest = ("listed_at DESC", "property_id DESC")
    by = newest if key == "listed_at" else (f"{SORT_KEYS[key]} DESC", *newest)
    active = text("status = 'ACTIVE'")
    return Index(name, "tenant_id", "generation", *first, *map(text, by), postgresql_where=active, **options)


def _indexed(name: str, column: str, by: str, **options: Any) -> Index:
    """The index of active listings by the values within a column."""
    return Index(name, column, postgresql_using=by, postgresql_where=text("status = 'ACTIVE'"), **options)


_COUNTED = ("area_sqft", "bathrooms", "furnished_status", "facing", "posted_by", "locality", "amenity_codes")
"""Columns that two indexes have beside their keys, so that facets are counted without reading rows."""

property_search = Table(
    "property_search",
    metadata,
    tenant(),
    Column("property_id", Uuid, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("status", String(20)),
    at("created_at"),
    at("listed_at", nullable=True),
    Column("owner_id", Uuid),
    Column("posted_by", String(20)),
    Column("property_type", String(20)),
    Column("listing_type", String(10)),
    Column("price", BigInteger),
    Column("area_sqft", BigInteger),
    Column("bedrooms", Integer),
    Column("bathrooms", Integer),
    Column("locality", Text),
    Column("pincode", String(6)),
    Column("furnished_status", String(20)),
    Column("facing", String(20)),
    Column("floor_number", Integer),
    Column("age_of_property", Integer),
    Column("has_rera", Boolean),
    Column("is_featured", Boolean),
    Column("is_verified", Boolean),
    Column("amenities", ARRAY(Text)),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("words", TSVECTOR),
    Column("card", LargeBinary),
    Column("price_per_sqft", Double, Computed("price::double precision / area_sqft", persisted=True)),
    Column("geo", Point, Computed(f"point(longitude * {WIDTH_OF_DEGREE}, latitude)", persisted=True)),
    at("changed_at", nullable=True),
    # When the read model had it: changes are looked at in this order, because events may come late.
    at("applied_at", now=True),
    # Hashes, because an index has no room for a hundred labels.
    Column("amenity_codes", ARRAY(BigInteger), Computed("search.label_codes(amenities)", persisted=True)),
    _sorted(
        "property_search_newest",
        "listed_at",
        postgresql_include=["property_type", "listing_type", "price", "bedrooms", *_COUNTED],
    ),
    Index(
        "property_search_filters",
        *("tenant_id", "generation", "listing_type", "property_type", "bedrooms", "price"),
        postgresql_include=[*_COUNTED, "listed_at", "property_id"],
        postgresql_where=text("status = 'ACTIVE'"),
    ),
    _sorted("property_search_price", "price"),
    _sorted("property_search_price_desc", "-price"),
    _sorted("property_search_rate", "pricePerSqft"),
    _sorted("property_search_area", "area"),
    _sorted("property_search_area_desc", "-area"),
    _sorted("property_search_locality", "price", "locality", "property_type"),
    _sorted("property_search_bedrooms", "listed_at", "bedrooms"),
    _indexed("property_search_words", "words", "gin"),
    _indexed("property_search_amenities", "amenities", "gin"),
    # With what the view asks, so that listings in an area are counted without reading their rows.
    _indexed("property_search_geo", "geo", "gist", postgresql_include=["tenant_id", "generation"]),
    Index(
        "property_search_changed",
        *("tenant_id", "generation", "applied_at", "property_id"),
        postgresql_where=text("status = 'ACTIVE'"),
    ),
    schema="search",
)

vocabulary = Table(
    "vocabulary",
    metadata,
    tenant(),
    Column("word", Text(collation="C"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("listings", BigInteger, nullable=False),
    Index("vocabulary_similar", "word", postgresql_using="gin", postgresql_ops={"word": "gin_trgm_ops"}),
    schema="search",
)

views = MetaData()
"""What the migrations create as views. Those of search show the rows of the connection's tenant in the serving
generation. Row-level security would do as much, but Postgres uses no index for `@@`, `<@` or `%` below it, because it
trusts those operators with no row of others (https://www.postgresql.org/docs/18/rules-privileges.html)."""

listings = property_search.to_metadata(views, name="listings")
"""The active listings."""
listed_words = vocabulary.to_metadata(views, name="listed_words")
"""The words of the active listings, each with their number."""
completed_rebuilds = Table(
    "completed_rebuilds", views, Column("generation", Integer), at("started_at"), schema="search"
)
"""The rebuilds of the projection `search` whose generation has served."""
