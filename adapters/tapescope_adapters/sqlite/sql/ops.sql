-- name: register_ops
-- What a worker can run, in place of what was said of these ops before.
INSERT INTO ops (op, timeout_s, retries, told_at)
SELECT value ->> 0, value ->> 1, value ->> 2, :now FROM json_each(:ops) WHERE true
    ON CONFLICT (op) DO UPDATE
   SET timeout_s = excluded.timeout_s, retries = excluded.retries, told_at = excluded.told_at;

-- name: read_ops
-- The ops that a worker told of since then.
SELECT op, timeout_s, retries FROM ops WHERE told_at > ?;

-- name: tell_worker
-- A worker lives until then, and can run these ops.
INSERT INTO workers (owner, until, ops) VALUES (?, ?, ?)
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until, ops = excluded.ops;

-- name: forget_worker
-- Differs from the Postgres version in that the rows of those that are dead are deleted here.
DELETE FROM workers WHERE owner = ? OR until < ?;
