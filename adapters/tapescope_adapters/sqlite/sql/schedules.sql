-- name: add_schedule
INSERT INTO schedules (name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO NOTHING RETURNING 1;

-- name: change_schedule
-- The row, for who saw its last revision; when it was made stays.
-- Differs from the Postgres version in that parameters have no numbers: the name comes behind the others.
UPDATE schedules
   SET op = ?, params = ?, timeout_s = ?, retries = ?, cron = ?, every_s = ?, time_zone = ?, catch_up = ?,
       overlap = ?, origin = ?, paused = ?, next_at = ?, last_at = ?, last_task = ?, priority = ?, tags = ?,
       queue = ?, expires_s = ?, revision = revision + 1
 WHERE name = ? AND revision = ? RETURNING 1;

-- name: remove_schedule
DELETE FROM schedules WHERE name = ? RETURNING 1;

-- name: get_schedule
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE name = ?;

-- name: list_schedules
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE name > ? ORDER BY name LIMIT ?;

-- name: list_due_schedules
-- Of those that are not paused, by when they are due: the next ones after a place.
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE NOT paused AND next_at <= ? AND (next_at, name) > (?, ?)
 ORDER BY next_at, name LIMIT ?;

-- name: next_schedule
SELECT next_at FROM schedules WHERE NOT paused AND next_at > ? ORDER BY next_at LIMIT 1;

-- name: acquire_firing
-- Who fires. A time that is further ahead than any lease was taken by a clock that was wrong.
UPDATE maintenance SET firing_holder = :owner, firing_until = :until
 WHERE firing_holder IS NULL OR firing_holder = :owner
    OR firing_until < :now OR firing_until > :furthest
RETURNING 1;

-- name: resign_firing
UPDATE maintenance SET firing_holder = NULL, firing_until = 0 WHERE firing_holder = ?;
