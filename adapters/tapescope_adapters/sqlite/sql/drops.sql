-- name: quarantine
-- Dropped events, as far as there is room for them.
INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, late_us, trace_id, body)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
       value ->> 7, value ->> 8, value ->> 9
  FROM json_each(?);

-- name: count_drops
-- The count goes on when the quarantine is full.
INSERT INTO drop_counts (task_id, attempt, reason, type, outcome, n, last_offer)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
  FROM json_each(?) WHERE true
    ON CONFLICT (task_id, attempt, reason, type, outcome)
    DO UPDATE SET n = n + excluded.n, last_offer = max(last_offer, excluded.last_offer);

-- name: count_unknown
-- How many drops there were of tasks that the store does not know.
SELECT coalesce(sum(n), 0) FROM drop_counts WHERE reason = 'unknown_task';

-- name: read_quarantine
SELECT id, task_id, attempt, type, reason, ts, late_us, trace_id, body
  FROM quarantine WHERE id > ? /*and*/ ORDER BY id LIMIT ?;

-- name: find_searched_drop
-- The last that read_quarantine looks at for what no index leads to, if it stops there.
SELECT id FROM quarantine WHERE id > ? /*and*/ ORDER BY id LIMIT 1 OFFSET ?;

-- name: count_quarantine
SELECT count(*) FROM quarantine /*where*/;

-- name: count_dropped
SELECT reason, sum(n) FROM drop_counts /*where*/ GROUP BY reason;
