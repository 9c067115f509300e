-- AFTER, for a row trigger that comes before locks the row even where its WHEN is false.
CREATE OR REPLACE FUNCTION guard_changed_task() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF OLD.status NOT IN ('pending', 'running') THEN
        PERFORM refuse(format('I4: task %s has ended and never changes', OLD.task_id));
    END IF;
    PERFORM refuse('I5: the attempt counts up by one when a task is claimed, and only then');
    RETURN NULL;
END $$;
