-- name: get_task
SELECT /*task*/ FROM tasks WHERE task_id = $1;

-- name: list_tasks
-- One comparison over one index in one direction: flat at any depth.
SELECT /*task*/ FROM tasks WHERE task_id < $1 /*and*/ ORDER BY task_id DESC LIMIT $2;

-- name: count_tasks
SELECT status, count(*) FROM tasks /*where*/ GROUP BY status;

-- name: read_cancels
-- Running tasks of these owners that somebody wants cancelled.
SELECT t.task_id, t.owner, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at
  FROM tasks t
 WHERE t.owner = ANY ($1) AND t.status = 'running' AND t.cancel_requested_at IS NOT NULL;

-- name: extend_leases
-- The heartbeat, of these tasks or of all, by the database's clock. Rows are locked in the order in which flushes lock them.
WITH mine AS MATERIALIZED (
    SELECT t.id FROM tasks t
     WHERE t.status = 'running' AND t.owner = $1
       AND ($3::uuid[] IS NULL OR t.task_id = ANY ($3::uuid[]))
     ORDER BY t.id FOR NO KEY UPDATE
)
UPDATE tasks t SET lease_expires_at = now_us() + $2::bigint
  FROM mine m WHERE t.id = m.id AND t.status = 'running' AND t.owner = $1
RETURNING t.task_id, t.attempt, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at;

-- name: read_owners
-- Who runs something.
SELECT DISTINCT owner FROM tasks WHERE status = 'running';

-- name: rescue_expired
-- See the function in the migrations.
SELECT rescue_expired($1, $2, $3, $4, $5, $6, $7) AS rescued;
