"""Copies the log into the index. One indexer process leads; the others stand by."""
