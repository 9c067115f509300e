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
