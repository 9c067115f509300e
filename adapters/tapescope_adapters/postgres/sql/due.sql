-- name: claim_due
-- See the function.
-- Differs from the SQLite version in that it is one call: each statement more would be a round trip.
SELECT /*settings*/ claim_due($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: forget_lanes
-- The lanes of the claims of a store that is closed.
DELETE FROM lanes WHERE lane = ANY ($1);

-- name: next_due
-- When the next pending task of these ops and queues is due, of those ops that are not paused: each looked up, however
-- many are, and of each the first task of each priority that waits; or when the next concurrency key is to be looked at,
-- whatever the queues of its tasks. The queue NULL is all of them.
WITH RECURSIVE first AS (
    SELECT o.op, q.queue, d.priority, d.run_at FROM unnest($1::text[]) AS o(op)
     CROSS JOIN unnest($2::text[]) AS q(queue)
     CROSS JOIN LATERAL ((SELECT t.priority, t.run_at FROM tasks t
                           WHERE q.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = o.op
                           ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
                          UNION ALL
                         (SELECT t.priority, t.run_at FROM tasks t
                           WHERE q.queue IS NOT NULL AND t.status = 'pending' AND t.engine = ''
                             AND ((t.op || '/') || t.queue) COLLATE pg_catalog."C" = ((o.op || '/') || q.queue)
                           ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)) d
      LEFT JOIN LATERAL (SELECT q.op FROM pauses q WHERE q.op = o.op LIMIT 1) p ON true
     WHERE p.op IS NULL
     UNION ALL
    SELECT f.op, f.queue, d.priority, d.run_at FROM first f
     CROSS JOIN LATERAL ((SELECT t.priority, t.run_at FROM tasks t
                           WHERE f.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = f.op AND t.priority < f.priority
                           ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
                          UNION ALL
                         (SELECT t.priority, t.run_at FROM tasks t
                           WHERE f.queue IS NOT NULL AND t.status = 'pending' AND t.engine = '' AND t.priority < f.priority
                             AND ((t.op || '/') || t.queue) COLLATE pg_catalog."C" = ((f.op || '/') || f.queue)
                           ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)) d
)
SELECT min(d.due_at) AS due
  FROM (SELECT f.run_at AS due_at FROM first f WHERE f.run_at < 253402300799999999
         UNION ALL
        SELECT l.due_at FROM unnest($1::text[]) AS o(op)
         CROSS JOIN LATERAL (SELECT k.due_at FROM limit_looks k WHERE k.op = o.op ORDER BY k.due_at LIMIT 1) l
          LEFT JOIN LATERAL (SELECT q.op FROM pauses q WHERE q.op = o.op LIMIT 1) p ON true
         WHERE p.op IS NULL) d;
