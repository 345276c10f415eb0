"""Chooses by the settings what answers searches, and what else the listings are written to."""

from adapters.postgres import Database
from adapters.search import opensearch_index
from adapters.search.engine import SearchEngine
from adapters.search.opensearch import OpenSearch
from adapters.search.opensearch_index import OpenSearchIndex
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings


def search_engine(settings: Settings, database: Database) -> SearchEngine:
    """OpenSearch where `SEARCH_URL` names one, else Postgres by `database`, one `for_searching`."""
    if settings.search_url:
        return OpenSearch(opensearch_index.connect(settings.search_url))
    return PostgresSearch(database)


def index_of(settings: Settings) -> OpenSearchIndex | None:
    """The index of the OpenSearch that `SEARCH_URL` names."""
    return OpenSearchIndex(opensearch_index.connect(settings.search_url)) if settings.search_url else None
