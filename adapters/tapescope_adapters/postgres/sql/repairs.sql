-- name: repair_task
-- See the function.
SELECT rule, task_id, was, done, repaired_at, repaired_by, id FROM repair_task($1, $2, $3);

-- name: find_key
-- The first statement of a repair's transaction, which is to be as durable as a flush.
SELECT /*settings*/ id FROM tasks WHERE task_id = $1;

-- name: read_repairs
SELECT rule, task_id, was, done, repaired_at, repaired_by, id FROM repairs
 WHERE id > $1 ORDER BY id LIMIT $2;
