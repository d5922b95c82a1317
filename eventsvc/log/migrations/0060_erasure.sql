-- What was erased, when, for whom and why; no content. The query is kept only while the erasure is under way.
CREATE TABLE erasure (
    id          uuid PRIMARY KEY,
    asked_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    asked_by    text NOT NULL,
    reason      text NOT NULL,
    digest      text NOT NULL,
    query       text,
    upto        bigint,
    done_to     bigint NOT NULL DEFAULT 0,
    counted     bigint NOT NULL,
    erased      bigint NOT NULL DEFAULT 0,
    finished_at timestamptz(3)
);

-- The ids of erased events, so that an import of an older export does not bring them back.
CREATE TABLE erased_id (
    id         uuid PRIMARY KEY,
    erasure_id uuid NOT NULL
);

-- Events that match a hold are kept: no erasure, rule or pruning takes them.
CREATE TABLE hold (
    name    text PRIMARY KEY,
    query   text NOT NULL,
    reason  text NOT NULL,
    made_at timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);

-- Events that match a rule are removed once they are older than so many seconds. An empty query matches all.
CREATE TABLE retention_rule (
    query   text PRIMARY KEY,
    seconds bigint NOT NULL CHECK (seconds > 0),
    made_at timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
