"""eventsvc: an append-only log of events in PostgreSQL, searched through Elasticsearch."""
