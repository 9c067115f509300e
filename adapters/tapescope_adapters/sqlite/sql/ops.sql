-- name: register_ops
-- What a worker can run, in place of what was said of these ops before.
INSERT INTO ops (op, timeout_s, retries, priority, max_concurrent, queue, max_waiting, expires_s,
                 rate_times, rate_per_us, told_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
       value ->> 8, value ->> 9, :now
  FROM json_each(:ops) WHERE true
    ON CONFLICT (op) DO UPDATE
   SET timeout_s = excluded.timeout_s, retries = excluded.retries, priority = excluded.priority,
       max_concurrent = excluded.max_concurrent, queue = excluded.queue, max_waiting = excluded.max_waiting,
       expires_s = excluded.expires_s, rate_times = excluded.rate_times, rate_per_us = excluded.rate_per_us,
       told_at = excluded.told_at;

-- name: read_ops
-- The ops that a worker told of since then.
SELECT op, timeout_s, retries, priority, max_concurrent, queue, max_waiting, expires_s, rate_times, rate_per_us
  FROM ops WHERE told_at > ?;

-- name: tell_worker
-- A worker lives until then, and can run these ops, from these queues or from all.
INSERT INTO workers (owner, until, ops, queues, since, heard_at)
VALUES (:owner, :until, :ops, :queues, :now, :now)
    ON CONFLICT (owner) DO UPDATE
   SET until = excluded.until, ops = excluded.ops, queues = excluded.queues,
       since = coalesce(since, excluded.since), heard_at = excluded.heard_at;

-- name: forget_worker
-- Differs from the Postgres version in that the rows of those that are dead are deleted here.
DELETE FROM workers WHERE owner = ? OR until < ?;

-- name: list_workers
-- Who works, by owner: the workers that told of themselves, and other owners of tasks that run, with how many they
-- run. Those that run are read by their index, each page anew.
SELECT b.owner, b.running, w.owner IS NOT NULL, coalesce(w.until > :now, true),
       w.ops, w.queues, w.since, w.heard_at, w.drained_at, w.drained_by, w.drain_reason
  FROM (SELECT a.owner AS owner, sum(a.n) AS running
          FROM (SELECT k.owner AS owner, 0 AS n
                  FROM (SELECT l.owner FROM workers l WHERE l.owner > :after ORDER BY l.owner LIMIT :limit) AS k
                 UNION ALL
                SELECT t.owner, count(*) FROM tasks t INDEXED BY tasks_lease
                 WHERE t.status = 'running' AND t.owner > :after GROUP BY t.owner) AS a
         GROUP BY a.owner ORDER BY a.owner LIMIT :limit) AS b
  LEFT JOIN workers w ON w.owner = b.owner
 ORDER BY b.owner;

-- name: drain_worker
-- A worker claims no more from now on. Who asked first stays on record.
UPDATE workers
   SET drained_at = coalesce(drained_at, :now),
       drained_by = iif(drained_at IS NULL, :by, drained_by),
       drain_reason = iif(drained_at IS NULL, :reason, drain_reason)
 WHERE owner = :owner RETURNING drained_at, drained_by, drain_reason;

-- name: undrain_worker
UPDATE workers SET drained_at = NULL, drained_by = NULL, drain_reason = NULL WHERE owner = ? RETURNING owner;

-- name: find_drain
-- Since when a worker claims no more, if it does not.
SELECT drained_at, drained_by, drain_reason FROM workers WHERE owner = ? AND drained_at IS NOT NULL;

-- name: pause_op
-- No worker claims its tasks from now on. Who paused it first stays on record.
INSERT INTO pauses (op, paused_at, paused_by, reason) VALUES (:op, :now, :by, :reason)
    ON CONFLICT (op) DO UPDATE SET op = excluded.op
    RETURNING op, paused_at, paused_by, reason;

-- name: resume_op
DELETE FROM pauses WHERE op = ? RETURNING op, paused_at, paused_by, reason;

-- name: list_pauses
SELECT op, paused_at, paused_by, reason FROM pauses WHERE op > ? ORDER BY op LIMIT ?;
