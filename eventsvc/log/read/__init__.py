"""Read the log: pages of events, counts, batches in seq order, new events as they come, and replicas."""
