-- name: find_due
-- Pending tasks of these ops, the highest priority first, then the longest due: of each op and priority no more are
-- read than are asked for, and no priority below those that are enough. Of each op `first` has the first task of each
-- priority that waits, a look in the index each: what is due later is not walked, however much of it there is.
-- INDEXED BY: without statistics the planner may walk all that is pending, and sort it. IN with a LIMIT: in a join it
-- may fill a filter with all that is pending. One row of JSON, for each row of a result is a step that must win the
-- interpreter's lock.
-- Ops that are paused are left out, and all of them for an owner that drains. For a worker of some queues what is
-- marked so is part of it, and the index of the queues is walked in the place of the other one.
-- What has expired has its key below 0: it is not to begin, and stands for itself, so that no claim walks past it.
-- Differs from the Postgres version in that it names no lock, and so need not take op after op.
WITH RECURSIVE first(op, priority, run_at/*of queues: , queue*/) AS MATERIALIZED (
    SELECT o.value, t.priority, t.run_at/*of queues: , q.value*/
      FROM json_each(:ops) AS o/*of queues:  CROSS JOIN json_each(:queues) AS q*/
     CROSS JOIN tasks t ON t.id = (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                    WHERE d.status = 'pending' AND d.op = o.value AND d.engine = ''/*of queues:  AND d.queue = q.value*/
                                    ORDER BY d.priority DESC, d.run_at, d.id LIMIT 1)
     WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.owner = :owner AND w.drained_at IS NOT NULL)
       AND o.value NOT IN (SELECT p.op FROM pauses p)
     UNION ALL
    SELECT f.op, t.priority, t.run_at/*of queues: , f.queue*/
      FROM first f
     CROSS JOIN tasks t ON t.id = (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                    WHERE d.status = 'pending' AND d.op = f.op AND d.engine = ''/*of queues:  AND d.queue = f.queue*/ AND d.priority < f.priority
                                    ORDER BY d.priority DESC, d.run_at, d.id LIMIT 1)
), level(priority) AS MATERIALIZED (
    SELECT DISTINCT f.priority FROM first f WHERE f.run_at <= :now
), lowest(priority) AS MATERIALIZED (
    SELECT min(l.priority) FROM level l
     WHERE (SELECT count(*)
              FROM (SELECT 1 FROM first f
                     CROSS JOIN tasks t
                     WHERE f.priority > l.priority AND f.run_at <= :now
                       AND t.id IN (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                     WHERE d.status = 'pending' AND d.op = f.op AND d.engine = ''/*of queues:  AND d.queue = f.queue*/ AND d.priority = f.priority
                                       AND d.run_at <= :now
                                     LIMIT :limit)
                     LIMIT :limit)) < :limit
)
SELECT json_group_array(iif(late, -id, id))
  FROM (SELECT t.id, typeof(t.expires_in) = 'integer' AND t.attempt = 0 AND t.run_at + t.expires_in <= :now AS late
          FROM first f
         CROSS JOIN tasks t
         WHERE f.run_at <= :now AND f.priority >= (SELECT priority FROM lowest)
           AND t.id IN (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                         WHERE d.status = 'pending' AND d.op = f.op AND d.engine = ''/*of queues:  AND d.queue = f.queue*/ AND d.priority = f.priority
                           AND d.run_at <= :now
                         ORDER BY d.run_at, d.id LIMIT :limit)
         ORDER BY t.priority DESC, t.run_at, t.id LIMIT :limit);

-- name: claim_due
-- +status: by its index all that is pending would be read.
UPDATE tasks
   SET status = 'running', attempt = attempt + 1, owner = :owner, claimed_at = :now,
       lease_expires_at = :now + :lease
 WHERE id IN (SELECT value FROM json_each(:keys)) AND +status = 'pending';

-- name: start_due
-- The task_started of each, at the end of its tape.
INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT t.id, coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0) + 1,
       t.attempt, 1, 'task_started', :ts, :before || t.attempt || :behind
  FROM json_each(:keys) AS k
 CROSS JOIN tasks t
 WHERE t.id = k.value;

-- name: read_claimed
-- What was claimed, in the order in which it was due.
-- Differs from the Postgres version in that it is a query of its own.
SELECT json_group_array(json_array((SELECT max(e.seq) FROM events e WHERE e.task = id), /*task*/))
  FROM (SELECT t.* FROM json_each(:keys) AS k CROSS JOIN tasks t WHERE t.id = k.value ORDER BY k.key);

-- name: read_claimed_row
-- One task, and the end of its tape, where JSON cannot hold what stands in a row.
-- Differs from the Postgres version in that it is a query of its own.
SELECT (SELECT max(e.seq) FROM events e WHERE e.task = t.id), /*task*/ FROM tasks t WHERE t.id = ?;

-- name: next_due
-- When the next pending task of these ops is due that are not paused: the first task of each priority that waits,
-- or when the next concurrency key is to be looked at, whatever the queues of its tasks. Of queues as find_due.
WITH RECURSIVE first(op, priority, run_at/*of queues: , queue*/) AS (
    SELECT o.value, t.priority, t.run_at/*of queues: , q.value*/
      FROM json_each(:ops) AS o/*of queues:  CROSS JOIN json_each(:queues) AS q*/
     CROSS JOIN tasks t ON t.id = (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                    WHERE d.status = 'pending' AND d.op = o.value AND d.engine = ''/*of queues:  AND d.queue = q.value*/
                                    ORDER BY d.priority DESC, d.run_at, d.id LIMIT 1)
     WHERE o.value NOT IN (SELECT p.op FROM pauses p)
     UNION ALL
    SELECT f.op, t.priority, t.run_at/*of queues: , f.queue*/
      FROM first f
     CROSS JOIN tasks t ON t.id = (SELECT d.id FROM tasks d INDEXED BY tasks_due_op
                                    WHERE d.status = 'pending' AND d.op = f.op AND d.engine = ''/*of queues:  AND d.queue = f.queue*/ AND d.priority < f.priority
                                    ORDER BY d.priority DESC, d.run_at, d.id LIMIT 1)
)
SELECT min(due_at)
  FROM (SELECT run_at AS due_at FROM first WHERE run_at < 253402300799999999
         UNION ALL
        SELECT (SELECT l.due_at FROM limit_looks l WHERE l.op = o.value ORDER BY l.due_at LIMIT 1)
          FROM json_each(:ops) AS o WHERE o.value NOT IN (SELECT p.op FROM pauses p));
