-- When an index is lost the watermark falls back, and only that month is written again: events of a month with
-- seq ≤ filled_to are in its index already.
ALTER TABLE index_month ADD COLUMN filled_to bigint NOT NULL DEFAULT 0;

-- A month's next index while it is filled, so that a rebuild goes on where it was killed. The swap is one
-- transaction: index_month gets the new name, and old_name waits here to be removed.
CREATE TABLE index_rebuild (
    month      date PRIMARY KEY,
    index_name text NOT NULL,
    index_uuid text NOT NULL,
    done_to    bigint NOT NULL DEFAULT 0,
    old_name   text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
