-- name: read_numbers
-- How many tasks of each op are in each state, by the numbers that are kept; what has fallen due is `ready`.
-- What a raw session wrote that is not one of them is passed over.
-- Differs from the Postgres version in that the numbers are read by themselves, here, and by each process.
SELECT op, state, second >= 0, CAST(sum(n) AS INTEGER) FROM backlog
 WHERE second <= :passed AND typeof(op) = 'text'
   AND state IN ('due', 'scheduled', 'retrying', 'held_due', 'held_scheduled', 'held_retrying', 'running',
                 'succeeded', 'failed', 'cancelled', 'gone')
 GROUP BY 1, 2, 3;

-- name: read_waits
-- By op, when the first pending task was to run: a step of an index for each engine and priority that waits.
-- Differs from the Postgres version in that it is a query of its own.
WITH RECURSIVE first(op, engine, priority, run_at) AS (
    SELECT o.value, t.engine, t.priority, t.run_at
      FROM json_each(:ops) AS o
     CROSS JOIN tasks t ON t.id = (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                    WHERE d.status = 'pending' AND d.op = o.value
                                    ORDER BY d.engine, d.priority DESC, d.run_at, d.id LIMIT 1)
     UNION ALL
    SELECT f.op, t.engine, t.priority, t.run_at
      FROM first f
     CROSS JOIN tasks t ON t.id = coalesce(
           (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
             WHERE d.status = 'pending' AND d.op = f.op AND d.engine = f.engine AND d.priority < f.priority
             ORDER BY d.priority DESC, d.run_at, d.id LIMIT 1),
           (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
             WHERE d.status = 'pending' AND d.op = f.op AND d.engine > f.engine
             ORDER BY d.engine, d.priority DESC, d.run_at, d.id LIMIT 1))
)
SELECT op, min(run_at) FROM first GROUP BY op;

-- name: read_running
-- By op, since when the oldest run was claimed.
-- Differs from the Postgres version in that it is a query of its own.
SELECT op, min(claimed_at) FROM tasks INDEXED BY tasks_lease WHERE status = 'running' GROUP BY op;

-- name: read_able
-- By op, how many workers that live can run it.
-- Differs from the Postgres version in that it is a query of its own.
SELECT o.value, count(*)
  FROM workers w CROSS JOIN json_each(iif(json_valid(w.ops), w.ops, '[]')) AS o
 WHERE w.until > ? AND typeof(o.value) = 'text' GROUP BY 1;

-- name: read_taken
-- The ops of the workers that live, and the queues that each takes; NULL: all.
-- Differs from the Postgres version in that it is a query of its own.
SELECT w.ops, w.queues FROM workers w WHERE w.until > ?;

-- name: find_unserved
-- The first three queues, by name, in which a task of an op is due and that are not among those that are taken: of
-- these the first 200 in which something waits, a step of an index each, as each that is taken is one. A task that only
-- its submitter can run, and one of an engine, wait for nobody's queue: 100 of the former are passed over by priority.
-- No join: with statistics the planner would read every task into a Bloom filter.
-- Differs from the Postgres version in that it is asked of one op.
WITH RECURSIVE waiting(queue, nth) AS (
    SELECT (SELECT min(t.queue) FROM tasks t INDEXED BY tasks_due_queue WHERE t.status = 'pending' AND t.engine = '' AND t.op = :op), 0
     UNION ALL
    SELECT (SELECT min(t.queue) FROM tasks t INDEXED BY tasks_due_queue
             WHERE t.status = 'pending' AND t.engine = '' AND t.op = :op AND t.queue > s.queue),
           s.nth + (s.queue NOT IN (SELECT value FROM json_each(:taken)))
      FROM waiting s WHERE s.queue IS NOT NULL AND s.nth < 200
), level(priority) AS (
    SELECT -9 UNION ALL SELECT priority + 1 FROM level WHERE priority < 9
)
SELECT s.queue FROM waiting s
 WHERE s.queue IS NOT NULL AND s.nth < 200 AND s.queue NOT IN (SELECT value FROM json_each(:taken))
   AND EXISTS (SELECT 1 FROM level l
                WHERE EXISTS (SELECT 1
                                FROM (SELECT d.lease_expires_at AS held FROM tasks d INDEXED BY tasks_due_queue
                                       WHERE d.status = 'pending' AND d.engine = '' AND d.op = :op AND d.queue = s.queue
                                         AND d.priority = l.priority AND d.run_at <= :now
                                       ORDER BY d.run_at, d.id LIMIT 100)
                               WHERE held IS NULL))
 LIMIT 3;

-- name: count_passed
-- How many numbers are of seconds that have passed.
SELECT count(*) FROM backlog WHERE second BETWEEN 1 AND :passed;

-- name: fold_passed
-- What has fallen due to what is due.
INSERT INTO backlog (second, op, state, n)
SELECT 0, op, state, sum(n) FROM backlog WHERE second BETWEEN 1 AND :passed GROUP BY op, state
    ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;

-- name: forget_passed
DELETE FROM backlog WHERE second BETWEEN 1 AND :passed;

-- name: recount_backlog
-- How many tasks of each op are in each state, counted from the tasks themselves.
-- Differs from the Postgres version in that the numbers that are kept are read beside it, as of one moment.
SELECT t.op,
       CASE WHEN t.status <> 'pending' THEN t.status
            WHEN t.attempt > 0 THEN iif(t.run_at / 1000000 <= :passed, 'due', 'retrying')
            WHEN t.run_at > t.created_at AND t.run_at / 1000000 > :passed THEN 'scheduled'
            ELSE 'due' END,
       count(*)
  FROM tasks t GROUP BY 1, 2
 UNION ALL
SELECT t.op, 'held', count(*) FROM tasks t
 WHERE t.status = 'pending' AND t.lease_expires_at IS NOT NULL GROUP BY 1;

-- name: forget_live
-- The numbers of what lives, before they are counted anew.
DELETE FROM backlog WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'gone');

-- name: fill_backlog
-- The tasks counted anew. What has ended is never counted down.
INSERT INTO backlog (second, op, state, n)
SELECT iif(w.total, -1, t.second), t.op, t.state, count(*)
  FROM (SELECT s.op,
               CASE WHEN s.status <> 'pending' THEN s.status
                    ELSE (CASE WHEN s.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                         || CASE WHEN s.attempt > 0 THEN 'retrying'
                                 WHEN s.run_at > s.created_at THEN 'scheduled' ELSE 'due' END) END AS state,
               CASE WHEN s.status = 'pending' AND (s.attempt > 0 OR s.run_at > s.created_at)
                    THEN max(CAST(s.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
          FROM tasks s) AS t
 CROSS JOIN (SELECT false AS total UNION ALL SELECT true) AS w
 WHERE NOT w.total OR t.second > 0
 GROUP BY 1, 2, 3
    ON CONFLICT (second, op, state) DO UPDATE SET n = max(n, excluded.n);

-- name: add_gone
-- Tasks that were counted, and live no more.
INSERT INTO backlog (second, op, state, n) VALUES (0, ?, 'gone', ?)
    ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;

-- name: log_mended
INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
VALUES (?, ?, 'backlog_mismatch', '-', ?, ?);
