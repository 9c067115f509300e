-- By op the queues in which a task of it is due and that no living worker takes, as JSON: the first three by name, of 200
-- ops at the most. Asked of the ops alone that some worker has and none has from all queues: where no worker was given
-- queues this reads the workers and nothing else. Of an op the first 200 queues that none takes are looked at in which
-- something waits, a step of an index each, as each that is taken is one. A task that only its submitter can run, and
-- one of an engine, wait for nobody's queue: 100 of the former are passed over by priority.
-- It tells names alone, so it runs as its owner, as read_backlog does: any role of the store may ask.
CREATE OR REPLACE FUNCTION read_unserved() RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now bigint := now_us();
BEGIN
    RETURN (
        SELECT coalesce(json_agg(json_build_array(n.op, u.queues) ORDER BY n.op), '[]')::text
          FROM (SELECT o.op, array_agg(DISTINCT q.queue) FILTER (WHERE q.queue IS NOT NULL) AS taken
                  FROM workers w
                 CROSS JOIN LATERAL unnest(w.ops) AS o(op)
                  LEFT JOIN LATERAL unnest(w.queues) AS q(queue) ON true
                 WHERE w.until > now
                 GROUP BY o.op HAVING bool_and(w.queues IS NOT NULL)
                 ORDER BY o.op LIMIT 200) n
         CROSS JOIN LATERAL (
                WITH RECURSIVE waiting AS (
                    (SELECT t.queue, 0 AS nth FROM tasks t
                      WHERE t.status = 'pending' AND t.engine = '' AND (t.op || '/' || t.queue) COLLATE "C" > n.op || '/'
                        AND (t.op || '/' || t.queue) COLLATE "C" < n.op || '0'
                      ORDER BY (t.op || '/' || t.queue) COLLATE "C" LIMIT 1)
                     UNION ALL
                    SELECT d.queue, s.nth + (s.queue <> ALL (coalesce(n.taken, '{}')))::integer FROM waiting s
                     CROSS JOIN LATERAL (SELECT t.queue FROM tasks t
                                          WHERE t.status = 'pending' AND t.engine = ''
                                            AND (t.op || '/' || t.queue) COLLATE "C" > n.op || '/' || s.queue
                                            AND (t.op || '/' || t.queue) COLLATE "C" < n.op || '0'
                                          ORDER BY (t.op || '/' || t.queue) COLLATE "C" LIMIT 1) d
                     WHERE s.nth < 200
                )
                SELECT array_agg(f.queue) AS queues
                  FROM (SELECT s.queue FROM waiting s
                         WHERE s.nth < 200 AND s.queue <> ALL (coalesce(n.taken, '{}'))
                           AND EXISTS (SELECT FROM generate_series(-9, 9) AS p(priority)
                                        CROSS JOIN LATERAL (
                                              SELECT t.lease_expires_at FROM tasks t
                                               WHERE t.status = 'pending' AND t.engine = ''
                                                 AND (t.op || '/' || t.queue) COLLATE "C" = n.op || '/' || s.queue
                                                 AND t.priority = p.priority AND t.run_at <= now
                                               ORDER BY t.run_at, t.id LIMIT 100) d
                                        WHERE d.lease_expires_at IS NULL)
                         LIMIT 3) f) u
         WHERE u.queues IS NOT NULL);
END $$;
