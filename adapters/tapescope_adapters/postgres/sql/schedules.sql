-- name: add_schedule
INSERT INTO schedules (name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
    ON CONFLICT (name) DO NOTHING RETURNING 1;

-- name: change_schedule
-- The row, for who saw its last revision; when it was made stays.
UPDATE schedules
   SET op = $2, params = $3, timeout_s = $4, retries = $5, cron = $6, every_s = $7, time_zone = $8, catch_up = $9,
       overlap = $10, origin = $11, paused = $12, next_at = $13, last_at = $14, last_task = $15, priority = $16,
       tags = $17, queue = $18, expires_s = $19,
       revision = revision + 1
 WHERE name = $1 AND revision = $20 RETURNING 1;

-- name: remove_schedule
DELETE FROM schedules WHERE name = $1 RETURNING 1;

-- name: get_schedule
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE name = $1;

-- name: list_schedules
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE name > $1 ORDER BY name LIMIT $2;

-- name: list_due_schedules
-- Of those that are not paused, by when they are due: the next ones after a place.
SELECT name, op, params, timeout_s, retries, cron, every_s, time_zone, catch_up, overlap, origin, paused, next_at,
       last_at, last_task, priority, tags, queue, expires_s, created_at, revision
  FROM schedules WHERE NOT paused AND next_at <= $1 AND (next_at, name) > ($2, $3)
 ORDER BY next_at, name LIMIT $4;

-- name: next_schedule
SELECT next_at FROM schedules WHERE NOT paused AND next_at > $1 ORDER BY next_at LIMIT 1;

-- name: acquire_firing
-- Who fires. A time that is further ahead than any lease was taken by a clock that was wrong.
-- The clock is a parameter here, too: it is the database's, as who asks reckons it.
UPDATE maintenance SET firing_holder = $1, firing_until = $3::bigint
 WHERE firing_holder IS NULL OR firing_holder = $1
    OR firing_until < $2::bigint OR firing_until > $4::bigint
RETURNING 1;

-- name: resign_firing
UPDATE maintenance SET firing_holder = NULL, firing_until = 0 WHERE firing_holder = $1;
