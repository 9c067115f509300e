-- name: due_tasks
-- The next tasks by key, whether due or not, so that a page costs the same wherever it is. Which ended
-- before the cutoff, and how long their tapes are.
SELECT t.id, t.created_at >= $1,
       CASE WHEN t.finished_at < $1 AND t.status = ANY ($2) AND ($3::text IS NULL OR t.op = $3)
            THEN coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0) END
  FROM tasks t WHERE t.id > $4 ORDER BY t.id LIMIT $5;

-- name: delete_tasks
-- Tasks that have ended; the trigger takes their tapes and their counts of drops (I4).
-- Differs from the SQLite version in that it leaves out what a flush holds, rather than make it wait.
WITH due AS (
    SELECT t.id FROM tasks t
     WHERE t.id = ANY ($1::text[]::bigint[]) AND t.status NOT IN ('pending', 'running')
     ORDER BY t.id FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM tasks t USING due d WHERE t.id = d.id RETURNING 1
)
SELECT count(*) FROM gone;

-- name: due_drops
SELECT q.id, q.ts < $1 FROM quarantine q WHERE q.id > $2 ORDER BY q.id LIMIT $3;

-- name: delete_drops
-- See the function.
-- Differs from the SQLite version in that it is one call: each statement would be a round trip.
SELECT delete_drops($1::text[]::bigint[]);
