-- The values at a path in data, for the query language: arrays on the way, and at the end, stand for their
-- elements, however deeply they are nested. A missing path gives no row, JSON null gives one.
CREATE FUNCTION event_values(data jsonb, path text[]) RETURNS SETOF jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 20 ROWS 1 AS $$
DECLARE
    depth   integer := 1;
    deepest integer := cardinality(path);
    element jsonb;
BEGIN
    LOOP
        IF jsonb_typeof(data) = 'array' THEN
            FOR element IN SELECT jsonb_array_elements(data) LOOP
                RETURN QUERY SELECT event_values(element, path[depth:]);
            END LOOP;
            RETURN;
        END IF;
        EXIT WHEN depth > deepest;
        data := data -> path[depth];
        IF data IS NULL THEN
            RETURN;
        END IF;
        depth := depth + 1;
    END LOOP;
    RETURN NEXT data;
END
$$;
