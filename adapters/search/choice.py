"""Chooses the search engine of this process by its settings."""

from adapters.postgres import Database
from adapters.search import opensearch_index
from adapters.search.engine import SearchEngine
from adapters.search.opensearch import OpenSearch
from adapters.search.postgres import PostgresSearch
from adapters.settings import Settings


def search_engine(settings: Settings) -> SearchEngine:
    """OpenSearch where `SEARCH_URL` names one, else Postgres in a pool of its own. Its user closes it."""
    if settings.search_url:
        return OpenSearch(opensearch_index.connect(settings.search_url))
    return PostgresSearch(Database.for_searching(settings))
