-- How far an event happened after it was created, because the clock of its sender was ahead; few events are in this
-- index. In a transaction of its own: readers go on while it is built, writers wait.
CREATE INDEX event_ahead ON event ((occurred_at - event_occurred(NULL, created_at)))
    WHERE occurred_at > event_occurred(NULL, created_at);
