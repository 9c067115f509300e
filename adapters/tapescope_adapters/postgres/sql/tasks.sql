-- name: get_task
SELECT /*task*/ FROM tasks WHERE task_id = $1;

-- name: find_ended
-- Those of these tasks that have ended.
SELECT /*task*/ FROM tasks
 WHERE task_id = ANY ($1::text[]::uuid[]) AND status NOT IN ('pending', 'running');

-- name: list_tasks
-- One comparison over one index in one direction: flat at any depth. For what an index leads to.
-- Up to the task with which the params are too much for a page, of 16 MiB.
-- Differs from the SQLite version in that the page ends here: what is read is sent.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY task_id DESC) AS upto
          FROM tasks WHERE task_id < $1 /*and*/ ORDER BY task_id DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY task_id DESC;

-- name: search_tasks
-- For what no index leads to: so many rows of one index, and of these the tasks that are wanted.
-- Up to the task with which the params are too much for a page, as above.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY task_id DESC) AS upto
          FROM (SELECT * FROM tasks WHERE task_id < $1 /*range*/ ORDER BY task_id DESC LIMIT $3) AS looked_at
         WHERE TRUE /*and*/ ORDER BY task_id DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY task_id DESC;

-- name: search_tagged
-- The same among the tasks that have a tag. LATERAL with a LIMIT: a look-up of each, in their order, and no more
-- of them than fill the page.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY looked_at DESC) AS upto
          FROM (SELECT k.task_id AS looked_at, t.*
                  FROM (SELECT task_id FROM tagged WHERE task_id < $1 /*range*/
                         ORDER BY task_id DESC LIMIT $3) k
                 CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.task_id = k.task_id LIMIT 1) t) AS found
         WHERE TRUE /*and*/ ORDER BY looked_at DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY looked_at DESC;

-- name: search_children
-- The same among the tasks of a parent. Where ordering by both is asked for, one index alone has it: with an equality
-- the planner may walk all tasks by their ids, where it takes the parent for one of many children.
-- Differs from the SQLite version in that there search_tasks does it: no statistics lead astray.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY parent_id DESC, task_id DESC) AS upto
          FROM (SELECT * FROM tasks WHERE (parent_id, task_id) < ($4, $1) AND parent_id >= $4 /*range*/
                 ORDER BY parent_id DESC, task_id DESC LIMIT $3) AS looked_at
         WHERE TRUE /*and*/ ORDER BY parent_id DESC, task_id DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY parent_id DESC, task_id DESC;

-- name: list_of_status
-- list_tasks for those of one status. Where ordering by both is asked for, one index alone has it: with an equality the
-- planner sorts all that run where it knows the status, and where it does not it may walk all tasks by their ids.
-- Differs from the SQLite version in that there list_tasks does it: no statistics lead astray.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY status DESC, task_id DESC) AS upto
          FROM tasks WHERE (status, task_id) < ($3, $1) AND status >= $3
         ORDER BY status DESC, task_id DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY status DESC, task_id DESC;

-- name: search_of_status
-- search_tasks among those of one status, by the same index.
SELECT /*task*/, octet_length(params) AS size
  FROM (SELECT *, sum(octet_length(params)) OVER (ORDER BY status DESC, task_id DESC) AS upto
          FROM (SELECT * FROM tasks WHERE (status, task_id) < ($4, $1) AND status >= $4 /*range*/
                 ORDER BY status DESC, task_id DESC LIMIT $3) AS looked_at
         WHERE TRUE /*and*/ ORDER BY status DESC, task_id DESC LIMIT $2) AS page
 WHERE (upto - octet_length(params)) < 16777216 ORDER BY status DESC, task_id DESC;

-- name: find_searched_of_status
-- The last id that search_of_status looks at, if it stops there.
SELECT task_id FROM tasks WHERE (status, task_id) < ($3, $1) AND status >= $3 /*range*/
 ORDER BY status DESC, task_id DESC LIMIT 1 OFFSET $2;

-- name: find_searched_children
-- The last id that search_children looks at, if it stops there.
SELECT task_id FROM tasks WHERE (parent_id, task_id) < ($3, $1) AND parent_id >= $3 /*range*/
 ORDER BY parent_id DESC, task_id DESC LIMIT 1 OFFSET $2;

-- name: find_searched_tasks
-- The last id that search_tasks looks at, if it stops there.
SELECT task_id FROM tasks WHERE task_id < $1 /*range*/ ORDER BY task_id DESC LIMIT 1 OFFSET $2;

-- name: find_searched_tagged
-- The last id that search_tagged looks at, if it stops there.
SELECT task_id FROM tagged WHERE task_id < $1 /*range*/ ORDER BY task_id DESC LIMIT 1 OFFSET $2;

-- name: count_tasks
SELECT status, count(*) FROM tasks WHERE TRUE /*and*/ GROUP BY status;

-- name: count_tagged
-- LATERAL with a LIMIT: the tag leads, not all that there is.
SELECT status, count(*)
  FROM (SELECT g.tag, t.*
          FROM tagged g
         CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.task_id = g.task_id LIMIT 1) t) AS found
 WHERE TRUE /*and*/ GROUP BY status;

-- name: read_cancels
-- Running tasks of these owners with a cancel on record.
SELECT t.task_id, t.owner, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
          t.cancel_traceparent, t.cancel_role
  FROM tasks t
 WHERE t.owner = ANY ($1) AND t.status = 'running' AND t.cancel_requested_at IS NOT NULL;

-- name: find_followers
-- Open tasks that are to be cancelled with their parents, whose parents have ended as cancelled: from parent to parent
-- by the index that has such open tasks alone, a look at each, behind a parent and child and at so many parents at the
-- most. The last of so many is told of, too, where none of its children is.
WITH RECURSIVE parents AS (
    (SELECT t.parent_id, 1 AS n FROM tasks t
      WHERE t.cancel_with_parent AND t.parent_id IS NOT NULL AND t.cancel_requested_at IS NULL
        AND t.status IN ('pending', 'running') AND (t.parent_id, t.task_id) > ($2::uuid, $3::uuid)
      ORDER BY t.parent_id, t.task_id LIMIT 1)
     UNION ALL
    SELECT f.parent_id, p.n + 1 FROM parents p
     CROSS JOIN LATERAL (SELECT t.parent_id FROM tasks t
                          WHERE t.cancel_with_parent AND t.parent_id IS NOT NULL AND t.cancel_requested_at IS NULL
                            AND t.status IN ('pending', 'running') AND t.parent_id > p.parent_id
                          ORDER BY t.parent_id, t.task_id LIMIT 1) f
     WHERE p.n < $4
)
SELECT f.task_id, p.parent_id, c.cancel_reason, c.cancel_message, c.cancel_by, p.n
  FROM parents p
  LEFT JOIN LATERAL (SELECT * FROM tasks t WHERE t.task_id = p.parent_id LIMIT 1) c ON true
  LEFT JOIN LATERAL (SELECT t.task_id FROM tasks t
                      WHERE c.status = 'cancelled'
                        AND t.cancel_with_parent AND t.parent_id = p.parent_id AND t.cancel_requested_at IS NULL
                        AND t.status IN ('pending', 'running') AND (t.parent_id, t.task_id) > ($2::uuid, $3::uuid)
                      ORDER BY t.parent_id, t.task_id LIMIT $1) f ON true
 WHERE f.task_id IS NOT NULL OR p.n = $4 LIMIT $1;

-- name: find_expired
-- Tasks whose time to begin is over, behind a time and key: by the index that has what may expire alone.
-- Differs from the SQLite version in that the clock is the database's, read once: else no index would go by it.
WITH clock AS MATERIALIZED (SELECT now_us() AS now)
SELECT d.task_id, d.op, d.at, d.id, d.expires_in
  FROM clock c
 CROSS JOIN LATERAL (SELECT t.task_id, t.op, (coalesce(t.parked_at, t.run_at) + t.expires_in) AS at, t.id, t.expires_in
                       FROM tasks t
                      WHERE t.status = 'pending' AND t.attempt = 0 AND t.expires_in IS NOT NULL
                        AND (coalesce(t.parked_at, t.run_at) + t.expires_in) <= c.now
                        AND ((coalesce(t.parked_at, t.run_at) + t.expires_in), t.id) > ($2::bigint, $3::bigint)
                      ORDER BY (coalesce(t.parked_at, t.run_at) + t.expires_in), t.id LIMIT $1) d;

-- name: extend_leases
-- The heartbeat, of these tasks, by the database's clock. Rows that a session holds are passed over. concat: the id
-- leads, and no index of what runs.
-- Differs from the SQLite version in that there no row is held: the file is.
WITH mine AS MATERIALIZED (
    SELECT t.id FROM tasks t
     WHERE t.task_id = ANY ($3::text[]::uuid[]) AND t.status = 'running' AND t.owner = $1
     ORDER BY t.id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE tasks t SET lease_expires_at = now_us() + $2::bigint
  FROM mine m WHERE t.id = m.id AND concat(t.status) = 'running' AND t.owner = $1
RETURNING t.task_id, t.attempt, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
          t.cancel_traceparent, t.cancel_role;

-- name: read_leases
-- Those of these tasks that are the owner's; no lock is waited for.
SELECT t.task_id, t.attempt, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
          t.cancel_traceparent, t.cancel_role
  FROM tasks t
 WHERE t.task_id = ANY ($2::text[]::uuid[]) AND t.status = 'running' AND t.owner = $1
 ORDER BY t.id;

-- name: await_lease
-- The heartbeat of one task, after the session that holds its row; $4 milliseconds are waited for that. concat as
-- above.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', $4::text, true)
), mine AS MATERIALIZED (
    SELECT t.id FROM patience p CROSS JOIN tasks t
     WHERE t.status = 'running' AND t.owner = $1 AND t.task_id = $3::uuid
       FOR NO KEY UPDATE OF t
)
UPDATE tasks t SET lease_expires_at = now_us() + $2::bigint
  FROM mine m WHERE t.id = m.id AND concat(t.status) = 'running' AND t.owner = $1
RETURNING t.task_id, t.attempt, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
          t.cancel_traceparent, t.cancel_role;

-- name: let_go
-- The lease of a pending task that one owner alone can run is over.
-- Differs from the SQLite version in that the clock is the database's, and in concat: the id leads.
UPDATE tasks SET lease_expires_at = now_us()
 WHERE task_id = $1::text::uuid AND concat(status) = 'pending' AND attempt = $2 AND lease_expires_at IS NOT NULL
   AND coalesce(owner, $3) = $3;

-- name: find_running
-- The tasks that an owner runs.
SELECT t.task_id::text FROM tasks t WHERE t.status = 'running' AND t.owner = $1;

-- name: read_owners
-- Who runs something, or alone can run what waits.
SELECT owner FROM tasks WHERE status = 'running'
 UNION
SELECT owner FROM tasks
 WHERE status = 'pending' AND lease_expires_at IS NOT NULL AND owner IS NOT NULL;

-- name: rescue_expired
-- See the function. It writes finals: as durable as a flush. What it took is kept in a lane, for a reply
-- that is lost; where the number is spent by then (fence), it is not done at all.
WITH done AS MATERIALIZED (
    SELECT /*settings*/ rescue_expired($1, $2, $3, $4, $5, $6, $7) AS rescued
), kept AS (
    INSERT INTO lanes AS l (lane, number, touched, answer)
    SELECT $8, $9, now_us(), d.rescued FROM done d WHERE d.rescued <> '[]'
        ON CONFLICT (lane)
        DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = excluded.answer
        WHERE l.number < excluded.number
    RETURNING lane
)
SELECT d.rescued, CASE WHEN d.rescued <> '[]' AND NOT EXISTS (SELECT FROM kept)
                       THEN refuse('rescue: its number is spent')::text END AS refused
  FROM done d;

-- name: read_identity
-- Which database and schema this is; no other store has the same.
SELECT format('%s/%s/%s', d.oid, v.tableoid, extract(epoch FROM v.applied_at)) AS identity
  FROM pg_database d CROSS JOIN schema_version v WHERE d.datname = current_database()
 ORDER BY v.version LIMIT 1;

-- name: create_within
-- A new task in a caller's transaction, unless its id or a key is taken, or the transaction is one of
-- another store. Nobody is notified: with the queue of notifications full the caller's commit would fail, and
-- commits with a notification go one after the other in the whole server.
-- Differs from the SQLite version in that the clock is the database's, and that a priority, tags, a parent, keys, a queue
-- and an expiry are named where there are such: a role that was granted its rights before there were any submits as ever.
WITH clock AS MATERIALIZED (
    SELECT now_us() AS now
), here AS MATERIALIZED (
    SELECT format('%s/%s/%s', d.oid, v.tableoid, extract(epoch FROM v.applied_at)) = $9 AS ours
      FROM pg_database d CROSS JOIN schema_version v WHERE d.datname = current_database()
     ORDER BY v.version LIMIT 1
), made AS (
    INSERT INTO tasks (task_id, op, params, timeout_s, retries, idempotency_key, traceparent, run_at,
                       created_at /*late*/)
    SELECT $1::uuid, $2, $3, $4::double precision, $5::integer, $6, $7, coalesce($8::bigint, c.now), c.now /*its late*/
      FROM clock c, here h WHERE h.ours
        ON CONFLICT DO NOTHING
    RETURNING id, created_at
)
SELECT h.ours, m.id, m.created_at
  FROM here h LEFT JOIN made m ON true;

-- name: announce
-- Tell who listens that tasks have come.
SELECT pg_notify($1, $2);

-- name: find_standing
-- The task whose id, or else idempotency key, or else unique key a new one was to have.
SELECT /*task*/ FROM tasks
 WHERE id = coalesce(
       (SELECT t.id FROM tasks t WHERE t.task_id = $1::uuid),
       (SELECT t.id FROM tasks t WHERE t.op = $2 AND t.idempotency_key = $3),
       (SELECT t.id FROM tasks t WHERE t.op = $2 AND t.unique_key = $4 AND t.status IN ('pending', 'running')));
