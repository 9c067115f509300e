-- name: has_look
-- Whether a concurrency key of one of these ops is to be looked at. Nothing of ops that are paused, and of none for an
-- owner that drains.
SELECT EXISTS (SELECT 1 FROM json_each(:ops) AS o CROSS JOIN limit_looks l
                WHERE l.op = o.value AND l.due_at <= :now
                  AND o.value NOT IN (SELECT p.op FROM pauses p)
                  AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.owner = :owner AND w.drained_at IS NOT NULL));

-- name: find_look
-- The key of these ops that is to be looked at the longest.
-- Differs from the Postgres version in that the rest is not one function, but done in the database's thread.
SELECT l.op, l.concurrency_key
  FROM json_each(:ops) AS o
 CROSS JOIN limit_looks l
 WHERE l.op = o.value
   AND (l.due_at, l.concurrency_key) IN (SELECT k.due_at, k.concurrency_key FROM limit_looks k
                                          WHERE k.op = o.value AND k.due_at <= :now
                                          ORDER BY k.due_at, k.concurrency_key LIMIT 1)
   AND o.value NOT IN (SELECT p.op FROM pauses p)
   AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.owner = :owner AND w.drained_at IS NOT NULL)
 ORDER BY l.due_at, l.op, l.concurrency_key LIMIT 1;

-- name: forget_looks
-- All looks of a key that are due: so none of another key waits behind them.
DELETE FROM limit_looks INDEXED BY limit_looks_of_key WHERE op = :op AND concurrency_key = :key AND due_at <= :now;

-- name: look_again
-- What a claim has no place for has its turn after the other keys.
INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key) VALUES (:op, :now, :key);

-- name: count_slots
-- How many slots an op's key has, NULL for any number, and how many of them are held; and how many attempts may begin in
-- a window, NULL for any number.
SELECT (SELECT o.max_concurrent FROM ops o WHERE o.op = :op),
       coalesce((SELECT l.held FROM limits l WHERE l.op = :op AND l.concurrency_key = :key), 0),
       (SELECT o.rate_times FROM ops o WHERE o.op = :op);

-- name: forget_starts
-- What is out of the window of a key.
DELETE FROM limit_starts
 WHERE op = :op AND concurrency_key = :key
   AND begun_at <= :now - (SELECT o.rate_per_us FROM ops o WHERE o.op = :op);

-- name: mend_starts
-- What began in the time to come, for the clock was set back: it counts for one window from now on.
UPDATE limit_starts SET begun_at = :now
 WHERE op = :op AND concurrency_key = :key AND begun_at > :now AND begun_at < 253402300799999999;

-- name: count_starts
-- What counts in the window of a key.
SELECT count(*) FROM limit_starts WHERE op = :op AND concurrency_key = :key;

-- name: look_at_window
-- A key is looked at when the oldest start leaves its window. What no claim has begun has no time: its claim says it.
INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
SELECT :op, s.begun_at + o.rate_per_us, :key
  FROM ops o
 CROSS JOIN limit_starts s
 WHERE o.op = :op AND s.op = :op AND s.concurrency_key = :key AND s.begun_at < 253402300799999999
   AND o.rate_per_us IS NOT NULL
 ORDER BY s.begun_at LIMIT 1;

-- name: find_parked
-- The parked tasks of an op's key that are due: the highest priority first, then the longest due. A look in the
-- index for each priority that waits: what is due later is not walked. One of no time was written past the guards,
-- and no claim can make it due.
WITH RECURSIVE level(priority) AS (
    SELECT max(priority) FROM tasks INDEXED BY tasks_parked
     WHERE status = 'pending' AND parked_at IS NOT NULL AND op = :op AND concurrency_key = :key
     UNION ALL
    SELECT (SELECT d.priority FROM tasks d INDEXED BY tasks_parked
             WHERE d.status = 'pending' AND d.parked_at IS NOT NULL AND d.op = :op AND d.concurrency_key = :key
               AND d.priority < l.priority
             ORDER BY d.priority DESC LIMIT 1)
      FROM level l WHERE l.priority IS NOT NULL
)
SELECT t.id
  FROM level l
 CROSS JOIN tasks t
 WHERE t.id IN (SELECT d.id FROM tasks d INDEXED BY tasks_parked
                 WHERE d.status = 'pending' AND d.parked_at IS NOT NULL AND d.op = :op AND d.concurrency_key = :key
                   AND d.priority = l.priority AND d.parked_at BETWEEN -62135596800000000 AND :now
                 ORDER BY d.parked_at, d.id LIMIT :limit)
 ORDER BY t.priority DESC, t.parked_at, t.id LIMIT :limit;

-- name: admit_parked
-- From now on they are due, and hold a slot each.
UPDATE tasks SET run_at = parked_at, parked_at = NULL WHERE id IN (SELECT value FROM json_each(?));
