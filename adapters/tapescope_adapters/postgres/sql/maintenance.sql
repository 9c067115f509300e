-- name: acquire_leadership
-- Who leads: the holder of the one row, until it resigns or its lease is over.
-- Differs from the SQLite version in that the clock is the database's.
UPDATE maintenance SET holder = $1, held_until = now_us() + $2
 WHERE holder IS NULL OR holder = $1 OR held_until < now_us()
RETURNING now_us(), audited_at, pruned_at;

-- name: record_audited
UPDATE maintenance SET audited_at = now_us() WHERE holder = $1;

-- name: record_pruned
UPDATE maintenance SET pruned_at = now_us() WHERE holder = $1;

-- name: resign_leadership
UPDATE maintenance SET holder = NULL, held_until = 0 WHERE holder = $1;

-- name: read_size
-- How many late events are kept, counted no further than a bound, and when the store was last audited.
-- Differs from the SQLite version in that it is one query.
SELECT (SELECT count(*) FROM (SELECT 1 FROM quarantine LIMIT 20000) q) AS quarantine,
       (SELECT m.audited_at FROM maintenance m) AS audited_at;

-- name: find_open
-- Tasks that have not ended: of those known, and the first ones beyond a key; with the highest key. Beyond 0, for who
-- comes to lead, by whatever is the least; later by the id (docs/decisions/0055).
SELECT coalesce((SELECT max(t.id) FROM tasks t), 0) AS top,
       (ARRAY(SELECT t.id::text FROM tasks t
              WHERE t.id = ANY ($2::text[]::bigint[]) AND concat(t.status) IN ('pending', 'running'))
       || ARRAY(SELECT t.id::text FROM tasks t
                 WHERE $1 > 0 AND t.id > $1 AND concat(t.status) IN ('pending', 'running') ORDER BY t.id LIMIT $3))
       || ARRAY(SELECT t.id::text FROM tasks t
                 WHERE $1 <= 0 AND t.id > $1 AND t.status IN ('pending', 'running') ORDER BY t.id LIMIT $3) AS keys;
