"""Find or start PostgreSQL and Elasticsearch: a URL, a container or a local process; for ``eventsvc dev`` and tests."""
