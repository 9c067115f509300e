-- name: flush_traced
-- A flush that keeps where run spans are, too: see flush. What is kept already stays, and a task that is gone
-- has none.
WITH traced AS (
    INSERT INTO attempts_traced (task, attempt, trace_id, span_id)
    SELECT t.id, v.attempt, v.trace_id, v.span_id
      FROM ROWS FROM (unnest($13::text[]::bigint[]), unnest($14::text[]::integer[]),
                      unnest($15::text[]), unnest($16::text[]))
           AS v(task, attempt, trace_id, span_id)
      JOIN tasks t ON t.id = v.task
        ON CONFLICT DO NOTHING
)
SELECT /*settings*/ flush(
    lane => $1, number => $2, instance => $3, news => $4, keys => $5::text[]::bigint[],
    keep_per_task => $6, keep_unknown => $7,
    creates => $8, claims => $9, rows => $10, give_ups => $11, cancels => $12);

-- name: note_traces
-- The same beside a flush.
INSERT INTO attempts_traced (task, attempt, trace_id, span_id)
SELECT t.id, v.attempt, v.trace_id, v.span_id
  FROM ROWS FROM (unnest($1::text[]::bigint[]), unnest($2::text[]::integer[]),
                  unnest($3::text[]), unnest($4::text[]))
       AS v(task, attempt, trace_id, span_id)
  JOIN tasks t ON t.id = v.task
    ON CONFLICT DO NOTHING;

-- name: find_traced
-- The attempts of a trace.
SELECT t.task_id, t.op, t.status, t.tags, a.attempt, a.trace_id, a.span_id
  FROM attempts_traced a JOIN tasks t ON t.id = a.task
 WHERE a.trace_id = $1 ORDER BY a.task, a.attempt LIMIT $2;

-- name: read_traced
-- The attempts of tasks. LIMIT keeps each step at its index, whatever the planner thinks of the tables.
SELECT t.task_id, t.op, t.status, t.tags, a.attempt, a.trace_id, a.span_id
  FROM unnest($1::text[]::uuid[]) AS k(task_id)
 CROSS JOIN LATERAL (SELECT s.id, s.task_id, s.op, s.status, s.tags FROM tasks s
                      WHERE s.task_id = k.task_id LIMIT 1) t
 CROSS JOIN LATERAL (SELECT b.attempt, b.trace_id, b.span_id FROM attempts_traced b
                      WHERE b.task = t.id ORDER BY b.attempt LIMIT 10000) a
 ORDER BY t.task_id, a.attempt;
