"""Engines that answer searches: Postgres, and OpenSearch where `SEARCH_URL` names one."""
