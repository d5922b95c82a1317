"""Read events: pages, counts, batches in order of seq, and the log as it grows."""
