-- In a transaction of its own: readers go on while it is built, writers wait.
CREATE INDEX event_occurred_seq ON event (event_occurred(occurred_at, created_at), seq);
