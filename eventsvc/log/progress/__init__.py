"""The progress of the index along the log (horizon, watermark, indexes, refusals), and of erasures and retention."""
