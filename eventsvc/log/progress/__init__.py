"""The progress of the index along the log: horizon, watermark, indexes by month, refused and erased events."""
