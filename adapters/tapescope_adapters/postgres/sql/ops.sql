-- name: register_ops
-- What a worker can run, in place of what was said of these ops before.
-- Differs from the SQLite version in that the database's clock says when.
INSERT INTO ops (op, timeout_s, retries, priority, max_concurrent, queue, max_waiting, expires_s,
                 rate_times, rate_per_us, told_at)
SELECT o.op, o.timeout_s, o.retries, o.priority, o.max_concurrent, o.queue, o.max_waiting, o.expires_s,
       o.rate_times, o.rate_per_us, now_us()
  FROM ROWS FROM (unnest($1::text[]), unnest($2::text[]::double precision[]), unnest($3::text[]::integer[]),
                  unnest($4::text[]::smallint[]), unnest($5::text[]::integer[]), unnest($6::text[]),
                  unnest($7::text[]::integer[]), unnest($8::text[]::double precision[]),
                  unnest($9::text[]::integer[]), unnest($10::text[]::bigint[]))
       AS o(op, timeout_s, retries, priority, max_concurrent, queue, max_waiting, expires_s, rate_times, rate_per_us)
    ON CONFLICT (op) DO UPDATE
   SET timeout_s = excluded.timeout_s, retries = excluded.retries, priority = excluded.priority,
       max_concurrent = excluded.max_concurrent, queue = excluded.queue, max_waiting = excluded.max_waiting,
       expires_s = excluded.expires_s, rate_times = excluded.rate_times, rate_per_us = excluded.rate_per_us,
       told_at = excluded.told_at;

-- name: read_ops
-- The ops that a worker told of within the last so many microseconds.
SELECT op, timeout_s, retries, priority, max_concurrent, queue, max_waiting, expires_s, rate_times, rate_per_us FROM ops
 WHERE told_at > (now_us() - $1::bigint);

-- name: tell_worker
-- A worker lives, for so many microseconds, and can run these ops, from these queues or from all.
-- Differs from the SQLite version in that the database's clock says until when, and that the rows of those that are
-- dead are deleted by read_backlog.
INSERT INTO workers AS w (owner, until, ops, queues, since, heard_at)
VALUES ($1, now_us() + $2::bigint, $3::text[], $4::text[], now_us(), now_us())
    ON CONFLICT (owner) DO UPDATE
   SET until = excluded.until, ops = excluded.ops, queues = excluded.queues,
       since = coalesce(w.since, excluded.since), heard_at = excluded.heard_at;

-- name: forget_worker
DELETE FROM workers WHERE owner = $1;

-- name: list_workers
-- Who works, by owner: the workers that told of themselves, and other owners of tasks that run, with how many they
-- run. Those that run are read by their index, each page anew.
SELECT b.owner, b.running, w.owner IS NOT NULL AS is_worker, coalesce(w.until > now_us(), true) AS alive,
       w.ops, w.queues, w.since, w.heard_at, w.drained_at, w.drained_by, w.drain_reason
  FROM (SELECT a.owner, sum(a.n)::bigint AS running
          FROM (SELECT k.owner, 0::bigint AS n
                  FROM (SELECT l.owner FROM workers l WHERE l.owner > $1 ORDER BY l.owner LIMIT $2) k
                 UNION ALL
                SELECT t.owner, count(*) AS n FROM tasks t
                 WHERE t.status = 'running' AND t.owner > $1 GROUP BY t.owner) a
         GROUP BY a.owner ORDER BY a.owner LIMIT $2) b
  LEFT JOIN workers w ON w.owner = b.owner
 ORDER BY b.owner;

-- name: drain_worker
-- A worker claims no more from now on. Who asked first stays on record.
-- Differs from the SQLite version in that the database's clock says since when.
UPDATE workers AS w
   SET drained_at = coalesce(w.drained_at, now_us()),
       drained_by = CASE WHEN w.drained_at IS NULL THEN $2 ELSE w.drained_by END,
       drain_reason = CASE WHEN w.drained_at IS NULL THEN $3 ELSE w.drain_reason END
 WHERE w.owner = $1 RETURNING w.drained_at, w.drained_by, w.drain_reason;

-- name: undrain_worker
UPDATE workers SET drained_at = NULL, drained_by = NULL, drain_reason = NULL WHERE owner = $1 RETURNING owner;

-- name: find_drain
-- Since when a worker claims no more, if it does not.
SELECT drained_at, drained_by, drain_reason FROM workers WHERE owner = $1 AND drained_at IS NOT NULL;

-- name: pause_op
-- No worker claims its tasks from now on. Who paused it first stays on record.
-- Differs from the SQLite version in that the database's clock says since when.
INSERT INTO pauses AS p (op, paused_at, paused_by, reason) VALUES ($1, now_us(), $2, $3)
    ON CONFLICT (op) DO UPDATE SET op = excluded.op
    RETURNING p.op, p.paused_at, p.paused_by, p.reason;

-- name: resume_op
DELETE FROM pauses WHERE op = $1 RETURNING op, paused_at, paused_by, reason;

-- name: list_pauses
SELECT op, paused_at, paused_by, reason FROM pauses WHERE op > $1 ORDER BY op LIMIT $2;
