"""How far the index has come: horizon, watermark, indexes by month, refused and erased events."""
