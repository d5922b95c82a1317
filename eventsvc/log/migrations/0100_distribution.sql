-- Whether the log is spread over several servers by Citus, and by which column; `eventsvc admin distribute` writes it.
CREATE TABLE distribution (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    by_column text NOT NULL CHECK (by_column IN ('component', 'email', 'id')),
    shards    integer NOT NULL CHECK (shards > 0),
    made_at   timestamptz(3) NOT NULL DEFAULT clock_timestamp()
);
