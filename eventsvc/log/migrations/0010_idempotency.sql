-- What was stored under an Idempotency-Key. No content and not even the key: the answer is read again from the
-- log, so erasing an event there is enough. The ids of a bulk request follow from its seed.
CREATE TABLE idempotency_key (
    key_hash    bytea PRIMARY KEY,
    fingerprint bytea NOT NULL,
    seed        bytea NOT NULL,
    count       integer NOT NULL,
    created_at  timestamptz(3) NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_key_kept_at ON idempotency_key (kept_at);
