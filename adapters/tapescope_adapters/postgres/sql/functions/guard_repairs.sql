-- The repair log never changes (I4).
CREATE OR REPLACE FUNCTION guard_repairs() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I4: the repair log never changes');
    RETURN NULL;
END $$;
