"""Out of both stores: hits from the index and the tail from the log, joined into one exact answer."""
