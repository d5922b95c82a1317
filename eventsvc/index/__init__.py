"""Elasticsearch, the search index: a view of the log that can be thrown away."""
