-- The log: immutable events, one partition a month (UTC).
CREATE TABLE event (
    seq         bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    id          uuid NOT NULL,
    created_at  timestamptz(3) NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    email       text NOT NULL,
    environment text NOT NULL,
    component   text NOT NULL,
    message     text NOT NULL,
    data        jsonb NOT NULL,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX event_seq ON event (seq);
CREATE INDEX event_created_at_seq ON event (created_at, seq);

-- Safety net: an event whose month was not made ahead of time is stored here rather than refused.
CREATE TABLE event_default PARTITION OF event DEFAULT;

-- How far the index has come along the log: one row. A leader that moves it names the fence that it drew. The
-- statement changes nothing if another fence was drawn since. See log/progress/watermark.py.
CREATE TABLE watermark (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    checkpoint bigint NOT NULL DEFAULT 0,
    seq        bigint NOT NULL DEFAULT 0,
    fence      bigint NOT NULL DEFAULT 0,
    moved_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (seq <= checkpoint)
);
INSERT INTO watermark DEFAULT VALUES;

-- Which index holds which month; searches ask exactly these, so a missing index is noticed, never skipped.
CREATE TABLE index_month (
    month      date PRIMARY KEY,
    index_name text NOT NULL UNIQUE,
    index_uuid text NOT NULL
);

-- Events that Elasticsearch refused. Their seqs count as tail: searches find them through SQL.
-- No copy of the event: erasing the row in the log must be enough.
CREATE TABLE index_failure (
    seq       bigint PRIMARY KEY,
    month     date NOT NULL,
    reason    text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now()
);

-- Erased events whose documents may still be in the index; and the erasure epoch, a number that each erasure
-- raises. Every ETag contains the epoch, and the cache keeps it with each answer.
CREATE TABLE erased (
    seq   bigint PRIMARY KEY,
    month date NOT NULL
);
CREATE TABLE erasure_epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch     bigint NOT NULL DEFAULT 0
);
INSERT INTO erasure_epoch DEFAULT VALUES;
