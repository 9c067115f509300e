-- Tasks, of these keys, that have messages which they did not take: each with its id, its op and how many.
CREATE OR REPLACE FUNCTION find_untaken(keys bigint[]) RETURNS json
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    RETURN (SELECT json_agg(json_build_array(t.task_id, t.op, m.n))
              FROM unnest(keys) AS k(id)
             CROSS JOIN LATERAL (SELECT count(*) AS n FROM messages m
                                  WHERE m.task = k.id AND m.taken_seq IS NULL) m
             CROSS JOIN LATERAL (SELECT t.task_id, t.op FROM tasks t WHERE t.id = k.id LIMIT 1) t
             WHERE m.n > 0);
END $$;
