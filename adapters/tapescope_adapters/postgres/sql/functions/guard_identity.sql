-- What names a task never changes (I4).
CREATE OR REPLACE FUNCTION guard_identity() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I4: a task keeps its id, op, params, key, tags, parent and time of creation');
    RETURN NULL;
END $$;
