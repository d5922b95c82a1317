"""From the log into the index: one leads, the others stand by."""
