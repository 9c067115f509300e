-- A cancel that names a role names that of the session which records, or changes, it. The trigger says when
-- it is refused. Older code, under way while a migration came, names none: its cancels are claimed ones.
CREATE OR REPLACE FUNCTION guard_cancel() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('a cancel names the role of the session that records it');
    RETURN NULL;
END $$;
