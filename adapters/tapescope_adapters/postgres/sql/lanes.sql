-- name: flush
-- The whole of a flush: see the function. The settings are those that a session cannot keep for us: they hold
-- for this one transaction.
SELECT /*settings*/ flush(
    lane => $1, number => $2, instance => $3, news => $4, keys => $5::text[]::bigint[],
    keep_per_task => $6, keep_unknown => $7,
    creates => $8, claims => $9, rows => $10, give_ups => $11, cancels => $12);

-- name: read_clock
-- The time that due times and leases go by.
SELECT now_us() AS now;

-- name: fence
-- Spend the number of a flush whose fate is unknown, or learn what it was answered.
SELECT fence($1, $2);

-- name: settle_lane
-- Spend the number of a flush that was given up; a lane that has come further has done so.
INSERT INTO lanes AS l (lane, number, touched, answer) VALUES ($1, $2, now_us(), 'void')
    ON CONFLICT (lane)
    DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = excluded.answer
    WHERE l.number < excluded.number;

-- name: forget_lane
-- A lane of a store that is closed.
DELETE FROM lanes WHERE lane = $1;

-- name: forget_stale_lanes
-- The lanes of stores that were never closed: a day is longer than any flush is sent again.
DELETE FROM lanes WHERE touched < (now_us() - 86400000000);
