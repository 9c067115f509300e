-- name: note_traces
-- What is kept already stays, and a task that is gone has none. Padding rows have no key.
INSERT OR IGNORE INTO attempts_traced (task, attempt, trace_id, span_id)
SELECT t.id, v.column2, v.column3, v.column4
  FROM (VALUES /*rows*/) AS v
 CROSS JOIN tasks t
 WHERE t.id = v.column1;

-- name: find_traced
-- The attempts of a trace.
SELECT t.task_id, t.op, t.status, t.tags, a.attempt, a.trace_id, a.span_id
  FROM attempts_traced a CROSS JOIN tasks t ON t.id = a.task
 WHERE a.trace_id = ? ORDER BY a.task, a.attempt LIMIT ?;

-- name: read_traced
-- The attempts of tasks.
SELECT t.task_id, t.op, t.status, t.tags, a.attempt, a.trace_id, a.span_id
  FROM tasks t CROSS JOIN attempts_traced a ON a.task = t.id
 WHERE t.task_id IN (SELECT value FROM json_each(?)) ORDER BY t.task_id, a.attempt;
