-- A task begins as pending, with no attempt (I2). The trigger says when it is refused.
CREATE OR REPLACE FUNCTION guard_new_task() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I2: a task is inserted as pending, with no attempt');
    RETURN NULL;
END $$;
