-- name: find_guards
-- The guards that a repair has to pass: they are taken off and put back in its own transaction.
SELECT name, sql FROM sqlite_master
 WHERE type = 'trigger' AND name IN ('events_follow_predecessor', 'events_live_with_task',
                                     'tasks_terminal_never_change');

-- name: read_end
-- A tape from its first final on.
SELECT task, seq, attempt, offer, type, ts, body FROM events
 WHERE task = :task
   AND seq >= (SELECT min(f.seq) FROM events f WHERE f.task = :task AND f.type = 'final')
 ORDER BY seq;

-- name: read_last
SELECT task, seq, attempt, offer, type, ts, body FROM events WHERE task = ? ORDER BY seq DESC LIMIT 1;

-- name: keep_taken
-- Whatever the quarantine's bounds say: what is taken off a tape is kept.
INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, late_us, body)
VALUES (?, ?, ?, 'repair', ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING;

-- name: take_event
DELETE FROM events WHERE task = ? AND seq = ?;

-- name: correct_row
UPDATE tasks SET status = ?, finished_at = ?, error_code = ?, lease_expires_at = NULL WHERE id = ?;

-- name: restore_final
INSERT INTO events (task, seq, attempt, offer, type, ts, body) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: read_counts
SELECT attempt, reason, type, outcome, n, last_offer FROM drop_counts WHERE task_id = ?
 ORDER BY attempt, reason, type, outcome;

-- name: read_kept
SELECT reason, attempt, type, count(*), max(offer) FROM quarantine WHERE task_id = ?
 GROUP BY reason, attempt, type;

-- name: forget_impossible
DELETE FROM drop_counts WHERE task_id = ? AND reason = ? AND n < 1;

-- name: end_lease
-- A task without a lease is beyond the reach of a rescue.
UPDATE tasks SET lease_expires_at = coalesce(lease_expires_at, claimed_at, created_at) WHERE id = ?;

-- name: log_repair
INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done) VALUES (?, ?, ?, ?, ?, ?);

-- name: read_repairs
SELECT rule, task_id, was, done, repaired_at, repaired_by, id FROM repairs
 WHERE id > ? ORDER BY id LIMIT ?;
