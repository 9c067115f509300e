-- A message has a time, a body that is JSON, and a task that has not ended; and it is what was sent.
CREATE OR REPLACE FUNCTION guard_message() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        PERFORM refuse('a message is what was sent');
    END IF;
    IF NEW.taken_seq IS NOT NULL THEN
        PERFORM refuse('a message is taken by an event');
    END IF;
    PERFORM NEW.body::json;
    IF NEW.sent_at NOT BETWEEN -62135596800000000 AND 253402300799999999 THEN
        PERFORM refuse('the time of a message is one of microseconds');
    END IF;
    PERFORM 1 FROM tasks t WHERE t.id = NEW.task AND t.status IN ('pending', 'running');
    IF NOT FOUND THEN
        PERFORM refuse('a message is for a task that has not ended');
    END IF;
    RETURN NEW;
END $$;
