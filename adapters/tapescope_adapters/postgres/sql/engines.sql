-- name: find_unconfirmed
-- Pending tasks of an engine that it is to be asked about, the longest due for that first.
-- Differs from the SQLite version in that the clock is the database's.
SELECT /*task*/ FROM tasks t
 WHERE t.status = 'pending' AND t.engine <> '' AND t.engine = $1 AND t.confirm_at <= now_us()
 ORDER BY t.confirm_at, t.id LIMIT $2;

-- name: note_confirmed
-- The engine has these: it is asked again so much later. Rows are locked in the order that a flush has, and those that a
-- session holds are passed over: the engine is asked about them once more. concat: the id leads, and no index of what
-- waits.
-- Differs from the SQLite version in that there no row is held: the file is.
WITH mine AS MATERIALIZED (
    SELECT t.id FROM tasks t
     WHERE t.task_id = ANY ($1::text[]::uuid[]) AND concat(t.status) = 'pending'
     ORDER BY t.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE tasks t SET confirm_at = now_us() + $2
  FROM mine m WHERE t.id = m.id AND concat(t.status) = 'pending';

-- name: count_overdue
-- How many of an engine's tasks it should have been asked about so long ago, and since when the first: of so many at
-- most.
SELECT count(*) AS n, min(o.since) AS since
  FROM (SELECT greatest(t.confirm_at, t.created_at) AS since FROM tasks t
         WHERE t.status = 'pending' AND t.engine <> '' AND t.engine = $1 AND t.confirm_at <= (now_us() - $2::bigint)
         ORDER BY t.confirm_at, t.id LIMIT $3) o
 WHERE o.since <= (now_us() - $2::bigint);

-- name: read_store_id
-- See the function.
SELECT /*settings*/ read_store_id() AS store_id;
