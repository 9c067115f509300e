-- name: acquire_leadership
-- Who leads: the holder of the one row, until it resigns or its lease is over.
-- Differs from the Postgres version in that the clock is a parameter: the file is on this host.
UPDATE maintenance SET holder = :owner, held_until = :now + :lease
 WHERE holder IS NULL OR holder = :owner OR held_until < :now
RETURNING :now, audited_at, pruned_at;

-- name: record_audited
UPDATE maintenance SET audited_at = :now WHERE holder = :owner;

-- name: record_pruned
UPDATE maintenance SET pruned_at = :now WHERE holder = :owner;

-- name: resign_leadership
UPDATE maintenance SET holder = NULL, held_until = 0 WHERE holder = :owner;

-- name: read_size
-- How many late events are kept, counted no further than a bound, and when the store was last audited.
SELECT (SELECT count(*) FROM (SELECT 1 FROM quarantine LIMIT 20000)), (SELECT audited_at FROM maintenance);

-- name: find_top
SELECT coalesce(max(id), 0) FROM tasks;

-- name: find_open
-- Tasks that have not ended: of those known, and the first ones beyond a key.
-- +status: what is beyond a key are few, and of all that lives, by its index, there may be many. Before the
-- first key it is the other way round.
SELECT t.id FROM json_each(:among) AS k CROSS JOIN tasks t ON t.id = k.value
 WHERE +t.status IN ('pending', 'running')
 UNION ALL
SELECT * FROM (SELECT t.id FROM tasks t
                WHERE :after > 0 AND t.id > :after AND +t.status IN ('pending', 'running')
                ORDER BY t.id LIMIT :limit)
 UNION ALL
SELECT * FROM (SELECT t.id FROM tasks t
                WHERE :after <= 0 AND +t.id > :after AND t.status IN ('pending', 'running')
                ORDER BY t.id LIMIT :limit);
