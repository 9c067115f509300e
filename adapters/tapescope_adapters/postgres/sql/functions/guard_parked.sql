-- A task with a concurrency key is parked, and parked is not due. The triggers say when one is refused.
CREATE OR REPLACE FUNCTION guard_parked() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('a task with a concurrency key is parked until a claim gives it a slot: its run_at is '
                   '253402300799999999, and parked_at is the time at which it is due');
    RETURN NULL;
END $$;
