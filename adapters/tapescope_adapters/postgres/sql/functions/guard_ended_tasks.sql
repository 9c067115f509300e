-- A terminal status stands only beside a final of the same outcome (I2).
CREATE OR REPLACE FUNCTION guard_ended_tasks() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1
       FROM changed c
       LEFT JOIN LATERAL (SELECT CASE e.type WHEN 'final' THEN e.body::json ->> 'outcome' END AS outcome
                            FROM events e WHERE e.task = c.id ORDER BY e.seq DESC LIMIT 1) e ON true
      WHERE c.status NOT IN ('pending', 'running') AND e.outcome IS DISTINCT FROM c.status
      LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('I2: a task ends with a final of the same outcome');
    END IF;
    RETURN NULL;
END $$;
