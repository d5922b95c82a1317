"""Copies the log into the index. One indexer process leads; the others help it, and one takes over when it dies."""
