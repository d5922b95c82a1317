-- Ranges of the log that the leading indexer leaves to the other indexers; see log/progress/shares.py.
CREATE TABLE index_share (
    fence      bigint NOT NULL,
    after      bigint NOT NULL,
    upto       bigint NOT NULL,
    taker      text,
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    result     jsonb,
    PRIMARY KEY (fence, after)
);
