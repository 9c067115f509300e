-- A message is taken once, by the event that says so, and lives as long as its task.
CREATE OR REPLACE FUNCTION guard_taken_message() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM 1 FROM tasks t WHERE t.id = OLD.task;
        IF FOUND THEN
            PERFORM refuse('a message lives as long as its task');
        END IF;
        RETURN OLD;
    END IF;
    PERFORM 1 FROM events e
      WHERE e.task = NEW.task AND e.seq = NEW.taken_seq AND e.type = 'message_taken'
        AND (e.body::json ->> 'n')::integer = NEW.n;
    IF NOT FOUND OR OLD.taken_seq IS NOT NULL THEN
        PERFORM refuse('a message is taken once, by the event that says so');
    END IF;
    RETURN NEW;
END $$;
