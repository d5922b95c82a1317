-- Folds text for ct and sw. text/fold.py gives the same result in Python; a test compares every code point.
CREATE FUNCTION event_fold(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN octet_length($1) = char_length($1) AND strpos($1, E'\x1b') = 0 THEN casefold($1 COLLATE pg_unicode_fast)
    ELSE normalize(casefold(translate(
        normalize(regexp_replace($1, E'\x1b\\[[0-?]*[ -/]*[@-~]', '', 'g'), NFC), U&'\0130\0131', 'ii'
    ) COLLATE pg_unicode_fast), NFC)
END;

-- All values at a path of data: its keys joined by dots, whether the dots are steps or part of a key; a number may
-- be a key or a place in an array. Arrays stand for their elements.
CREATE FUNCTION event_values(data jsonb, path text) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2
AS $$
    WITH RECURSIVE found (value, rest) AS (
        SELECT data, path
        UNION ALL
        SELECT step.value, step.rest FROM found, LATERAL (
            SELECT one.value, CASE WHEN one.key <> found.rest THEN substr(found.rest, length(one.key) + 2) END AS rest
            FROM jsonb_each(CASE jsonb_typeof(found.value) WHEN 'object' THEN found.value END) AS one
            WHERE one.key = found.rest OR starts_with(found.rest, one.key || '.')
            UNION ALL
            SELECT one.value, found.rest
            FROM jsonb_array_elements(CASE jsonb_typeof(found.value) WHEN 'array' THEN found.value END) AS one
            UNION ALL
            SELECT one.value, substr(found.rest, nullif(strpos(found.rest, '.'), 0) + 1)
            FROM jsonb_array_elements(CASE jsonb_typeof(found.value) WHEN 'array' THEN found.value END)
                WITH ORDINALITY AS one (value, place)
            WHERE split_part(found.rest, '.', 1) = (one.place - 1)::text
        ) AS step
    )
    SELECT value FROM found WHERE rest IS NULL AND jsonb_typeof(value) <> 'array'
$$;

-- These indexes use lower(), as queries did before event_fold. `eventsvc admin trigrams --on` builds new indexes.
DROP INDEX IF EXISTS event_message_trigrams, event_email_trigrams;
