-- A task that is deleted takes its tape and its counts of drops with it (I4).
CREATE OR REPLACE FUNCTION take_tapes() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    DELETE FROM events WHERE task = ANY (ARRAY(SELECT g.id FROM gone g));
    DELETE FROM drop_counts WHERE task_id = ANY (ARRAY(SELECT g.task_id::text FROM gone g));
    RETURN NULL;
END $$;
