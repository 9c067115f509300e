-- Locks the concurrency keys of these tasks, before the tasks and in one order, so that two sessions that free slots
-- never wait for each other.
CREATE OR REPLACE FUNCTION lock_limits(x_keys bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1 FROM limits LIMIT 1;
    IF NOT FOUND THEN
        RETURN;  -- nobody holds a slot
    END IF;
    PERFORM 1
       FROM (SELECT t.op, t.concurrency_key FROM tasks t
              WHERE t.id = ANY (x_keys) AND t.concurrency_key IS NOT NULL
              GROUP BY 1, 2 ORDER BY t.op COLLATE "C", t.concurrency_key COLLATE "C") k
      CROSS JOIN LATERAL (SELECT 1 FROM limits l
                           WHERE l.op = k.op AND l.concurrency_key = k.concurrency_key
                             FOR NO KEY UPDATE) l;
END $$;
