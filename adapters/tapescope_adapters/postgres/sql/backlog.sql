-- name: read_backlog
-- See the functions. What is paused, and which queues no worker takes, is asked anew each time.
SELECT read_backlog($1::bigint, $2::boolean) AS facts, read_pauses() AS paused, read_unserved() AS unserved;

-- name: recount_backlog
-- The numbers that are kept beside a count of the tasks: see the function.
SELECT r.op, r.state, r.kept, r.found FROM recount_backlog(now_us() / 1000000) r;

-- name: mend_backlog
-- See the function.
SELECT rule, task_id, was, done, repaired_at, repaired_by, id FROM mend_backlog($1);
