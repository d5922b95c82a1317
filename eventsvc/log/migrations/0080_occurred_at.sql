-- When an event happened, as its sender says: nanoseconds since 1970. NULL: when it was created.
ALTER TABLE event ADD COLUMN occurred_at bigint;

-- Only functions that depend on no setting, so that PostgreSQL puts the expression in the function's place.
CREATE FUNCTION event_occurred(occurred_at bigint, created_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce($1, (extract(epoch FROM $2 - timestamptz '1970-01-01 00:00:00+00') * 1000000000)::bigint);
