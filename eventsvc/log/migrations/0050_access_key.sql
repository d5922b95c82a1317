-- API keys: what a key may do, and the SHA-256 of its text; the text itself is nowhere. Rows are never deleted:
-- a service that has ever had a key stays closed when the last one is revoked.
CREATE TABLE access_key (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    hash         bytea NOT NULL UNIQUE,
    rights       text[] NOT NULL,
    restriction  text NOT NULL DEFAULT '',
    defaults     jsonb NOT NULL DEFAULT '{}',
    rate         text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
