-- What a reader could not read is not written. The trigger says when.
CREATE OR REPLACE FUNCTION guard_unreadable() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('a task has an id over 0, times of the years 1 to 9999, a cancel with a time and one of '
                   'the four reasons, and params that are a JSON object');
    RETURN NULL;
END $$;
