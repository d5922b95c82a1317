"""Searches in both stores: joins hits of the index and the tail of the log into one exact answer."""
