-- An event lives as long as its task (I4).
CREATE OR REPLACE FUNCTION guard_deleted_events() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1
       FROM (SELECT DISTINCT d.task FROM deleted d) g
      CROSS JOIN LATERAL (SELECT 1 FROM tasks t WHERE t.id = g.task LIMIT 1) t
      LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('I4: an event lives as long as its task');
    END IF;
    RETURN NULL;
END $$;
