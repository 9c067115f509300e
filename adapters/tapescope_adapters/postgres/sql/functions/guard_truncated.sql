-- Nothing is ever emptied whole (I4).
CREATE OR REPLACE FUNCTION guard_truncated() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse(format('I4: %s is never truncated', TG_TABLE_NAME));
    RETURN NULL;
END $$;
