-- An event never changes (I4).
CREATE OR REPLACE FUNCTION guard_changed_event() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I4: an event never changes');
    RETURN NULL;
END $$;
