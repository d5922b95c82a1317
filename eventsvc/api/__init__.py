"""HTTP in and out: one file per resource; no SQL, no query bodies."""
