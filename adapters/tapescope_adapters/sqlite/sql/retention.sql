-- name: due_tasks
-- The next tasks by key, whether due or not, so that a page costs the same wherever it is. Which ended
-- before the cutoff, and how long their tapes are.
SELECT t.id, t.created_at >= :cutoff,
       CASE WHEN t.finished_at < :cutoff
             AND t.status IN (SELECT o.value FROM json_each(:outcomes) AS o)
             AND (:op IS NULL OR t.op = :op)
            THEN coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0) END
  FROM tasks t WHERE t.id > :after ORDER BY t.id LIMIT :limit;

-- name: delete_tasks
-- Tasks that have ended; the trigger takes their tapes and their counts of drops (I4).
-- Differs from the Postgres version in that it skips nothing: one writer at a time.
DELETE FROM tasks
 WHERE id IN (SELECT k.value FROM json_each(?) AS k) AND status NOT IN ('pending', 'running');

-- name: due_drops
SELECT q.id, q.ts < :cutoff FROM quarantine q WHERE q.id > :after ORDER BY q.id LIMIT :limit;

-- name: unknown_drops
-- Of which unknown tasks these late events are.
SELECT DISTINCT q.task_id FROM quarantine q
 WHERE q.id IN (SELECT k.value FROM json_each(?) AS k) AND q.reason = 'unknown_task';

-- name: delete_drops
DELETE FROM quarantine WHERE id IN (SELECT k.value FROM json_each(?) AS k);

-- name: forget_unknown
-- The counts of unknown tasks of which no late event is kept any more, and with them the common count
-- of those past the cap: else the cap would stay reached for ever.
DELETE FROM drop_counts
 WHERE reason = 'unknown_task'
   AND (task_id = '' OR (task_id IN (SELECT k.value FROM json_each(?) AS k)
                         AND NOT EXISTS (SELECT 1 FROM quarantine q
                                          WHERE q.task_id = drop_counts.task_id)));
