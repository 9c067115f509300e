-- name: register_ops
-- What a worker can run, in place of what was said of these ops before.
-- Differs from the SQLite version in that the database's clock says when.
INSERT INTO ops (op, timeout_s, retries, told_at)
SELECT o.op, o.timeout_s, o.retries, now_us()
  FROM ROWS FROM (unnest($1::text[]), unnest($2::text[]::double precision[]), unnest($3::text[]::integer[]))
       AS o(op, timeout_s, retries)
    ON CONFLICT (op) DO UPDATE
   SET timeout_s = excluded.timeout_s, retries = excluded.retries, told_at = excluded.told_at;

-- name: read_ops
-- The ops that a worker told of within the last so many microseconds.
SELECT op, timeout_s, retries FROM ops WHERE told_at > (now_us() - $1::bigint);

-- name: tell_worker
-- A worker lives, for so many microseconds, and can run these ops.
-- Differs from the SQLite version in that the database's clock says until when, and that the rows of those that are
-- dead are deleted by read_backlog.
INSERT INTO workers (owner, until, ops) VALUES ($1, now_us() + $2::bigint, $3::text[])
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until, ops = excluded.ops;

-- name: forget_worker
DELETE FROM workers WHERE owner = $1;
