-- What a final says; NULL where that is not an outcome, or not JSON.
CREATE OR REPLACE FUNCTION read_final(body text) RETURNS json
LANGUAGE plpgsql IMMUTABLE
SET search_path FROM CURRENT
AS $$
BEGIN
    IF body::json ->> 'outcome' IN ('succeeded', 'failed', 'cancelled') THEN
        RETURN body::json;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
