-- name: find_unconfirmed
-- Pending tasks of an engine that it is to be asked about, the longest due for that first.
-- Differs from the Postgres version in that the clock is a parameter.
SELECT /*task*/ FROM tasks INDEXED BY tasks_to_confirm
 WHERE status = 'pending' AND engine <> '' AND engine = :engine AND confirm_at <= :now
 ORDER BY confirm_at, id LIMIT :limit;

-- name: note_confirmed
-- The engine has these: it is asked again from then on. +status: by its index all that is pending would be read.
UPDATE tasks SET confirm_at = :at
 WHERE task_id IN (SELECT value FROM json_each(:task_ids)) AND +status = 'pending';

-- name: count_overdue
-- How many of an engine's tasks it should have been asked about by then, and since when the first: of so many at most.
SELECT count(*), min(o.since)
  FROM (SELECT max(t.confirm_at, t.created_at) AS since FROM tasks t INDEXED BY tasks_to_confirm
         WHERE t.status = 'pending' AND t.engine <> '' AND t.engine = :engine AND t.confirm_at <= :before
         ORDER BY t.confirm_at, t.id LIMIT :limit) AS o
 WHERE o.since <= :before;

-- name: read_store_id
-- Differs from the Postgres version in that no role needs to be asked for.
SELECT store_id FROM maintenance;
