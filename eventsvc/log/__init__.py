"""PostgreSQL, the system of record: one append-only log of events."""
