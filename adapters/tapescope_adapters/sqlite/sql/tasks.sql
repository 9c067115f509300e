-- name: insert_tasks
-- New tasks, pending, and parked where they have a concurrency key; padding rows have no task_id. The keys come out
-- consecutive, in this order.
INSERT INTO tasks (task_id, op, params, timeout_s, retries, idempotency_key, traceparent, run_at,
                   owner, lease_expires_at, priority, tags, parent_id, cancel_with_parent, unique_key,
                   concurrency_key, parked_at, engine, queue, expires_in, created_at)
SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7,
       iif(v.column16 IS NULL, coalesce(v.column8, v.column20), 253402300799999999), v.column9,
       min(coalesce(v.column8, v.column20) + v.column10, 253402300799999999), v.column11, v.column12, v.column13,
       v.column14, v.column15, v.column16,
       iif(v.column16 IS NULL, NULL, coalesce(v.column8, v.column20)), v.column17, v.column18, v.column19, v.column20
  FROM (VALUES /*rows*/) AS v
 WHERE v.column1 IS NOT NULL;

-- name: find_idempotent
-- The task that holds an op's idempotency key.
SELECT /*task*/ FROM tasks WHERE op = ? AND idempotency_key = ?;

-- name: find_unique
-- The open task that holds an op's unique key.
-- INDEXED BY: without statistics the planner may walk all that is open.
SELECT /*task*/ FROM tasks INDEXED BY tasks_unique_key_open
 WHERE unique_key = ? AND op = ? AND status IN ('pending', 'running');

-- name: claim_tasks
-- pending, due, not expired and of the attempt that was seen → running. The planner walks the values, one key
-- look-up each; padding rows have no key. What has a concurrency key is begun by a claim of due tasks alone.
-- Differs from the Postgres version in that the clock is a parameter: the file is on this host.
UPDATE tasks
   SET status = 'running', attempt = tasks.attempt + 1, owner = v.column3,
       claimed_at = v.column5, lease_expires_at = v.column5 + v.column4
  FROM (VALUES /*rows*/) AS v
 WHERE tasks.id = v.column1 AND tasks.attempt = v.column2 AND tasks.status = 'pending'
   AND tasks.run_at <= v.column5 AND tasks.concurrency_key IS NULL
   AND (typeof(tasks.expires_in) <> 'integer' OR tasks.attempt > 0 OR tasks.run_at + tasks.expires_in > v.column5);

-- name: find_claimed
-- When not every claim won: who holds those of these tasks whose attempt has no event yet. An attempt
-- with one was claimed in an earlier flush.
SELECT t.id, t.attempt, t.owner, t.status
  FROM json_each(?) AS k JOIN tasks t ON t.id = k.value
 WHERE coalesce((SELECT e.attempt FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1), 0)
       < t.attempt;

-- name: lock_for_cancel
-- What a cancel request meets. BEGIN IMMEDIATE holds the only write lock there is.
-- Differs from the Postgres version in that it names no lock.
SELECT t.id, t.op, t.status, t.attempt, t.owner,
       t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at, t.cancel_traceparent,
       t.traceparent,
       coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0),
       iif(t.attempt = 0 AND typeof(t.expires_in) = 'integer', coalesce(t.parked_at, t.run_at) + t.expires_in, NULL)
  FROM tasks t WHERE t.task_id = ?;

-- name: record_cancel
-- The first request stays.
UPDATE tasks SET cancel_reason = ?, cancel_message = ?, cancel_by = ?, cancel_requested_at = ?,
                 cancel_traceparent = ?
 WHERE id = ?;

-- name: get_task
SELECT /*task*/ FROM tasks WHERE task_id = ?;

-- name: find_ended
-- Those of these tasks that have ended.
SELECT /*task*/ FROM tasks
 WHERE task_id IN (SELECT value FROM json_each(?)) AND status NOT IN ('pending', 'running');

-- name: list_tasks
-- One comparison over one index in one direction: flat at any depth. For what an index leads to.
SELECT /*task*/ FROM tasks WHERE task_id < ? /*and*/ ORDER BY task_id DESC LIMIT ?;

-- name: search_tasks
-- For what no index leads to: so many keys of one index, and of these the tasks that are wanted.
-- Differs from the Postgres version in that the keys come first and CROSS JOIN keeps their order: a row is
-- read only as far as its params, which may be long, unless it is wanted.
SELECT /*task*/
  FROM (SELECT id AS looked_at FROM tasks WHERE task_id < ? /*range*/ ORDER BY task_id DESC LIMIT ?)
 CROSS JOIN tasks ON tasks.id = looked_at
 WHERE TRUE /*and*/ LIMIT ?;

-- name: search_tagged
-- The same among the tasks that have a tag.
-- Differs from the Postgres version as search_tasks does.
SELECT /*task*/
  FROM (SELECT task_id AS looked_at FROM tagged WHERE task_id < ? /*range*/ ORDER BY task_id DESC LIMIT ?)
 CROSS JOIN tasks ON tasks.task_id = looked_at
 WHERE TRUE /*and*/ LIMIT ?;

-- name: find_searched_tasks
-- The last id that search_tasks looks at, if it stops there.
SELECT task_id FROM tasks WHERE task_id < ? /*range*/ ORDER BY task_id DESC LIMIT 1 OFFSET ?;

-- name: find_searched_tagged
-- The last id that search_tagged looks at, if it stops there.
SELECT task_id FROM tagged WHERE task_id < ? /*range*/ ORDER BY task_id DESC LIMIT 1 OFFSET ?;

-- name: count_tasks
SELECT status, count(*) FROM tasks WHERE TRUE /*and*/ GROUP BY status;

-- name: count_tagged
-- CROSS JOIN: the tag leads, not all that there is.
SELECT tasks.status, count(*) FROM tagged g CROSS JOIN tasks ON tasks.task_id = g.task_id
 WHERE g.tag = ? /*and*/ GROUP BY tasks.status;

-- name: read_cancels
-- Running tasks of these owners with a cancel on record.
SELECT t.task_id, t.owner, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
       t.cancel_traceparent
  FROM json_each(?) AS o
 CROSS JOIN tasks t INDEXED BY tasks_to_cancel ON t.owner = o.value
 WHERE t.status = 'running' AND t.cancel_requested_at IS NOT NULL;

-- name: find_followers
-- Open tasks that are to be cancelled with their parents, whose parents have ended as cancelled: from parent to parent
-- by the index that has such open tasks alone, a look at each, behind a parent and child and at so many parents at the
-- most. The last of so many is told of, too, where none of its children is. likelihood: else the planner takes the
-- parents for so many that it reads all tasks into a Bloom filter first.
WITH RECURSIVE parent(id, n) AS (
    SELECT * FROM (SELECT t.parent_id, 1 FROM tasks t INDEXED BY tasks_follow
                    WHERE t.cancel_with_parent AND t.parent_id IS NOT NULL AND t.cancel_requested_at IS NULL
                      AND t.status IN ('pending', 'running') AND (t.parent_id, t.task_id) > (:parent, :child)
                    ORDER BY t.parent_id, t.task_id LIMIT 1)
     UNION ALL
    SELECT (SELECT min(t.parent_id) FROM tasks t INDEXED BY tasks_follow
             WHERE t.cancel_with_parent AND t.parent_id IS NOT NULL AND t.cancel_requested_at IS NULL
               AND t.status IN ('pending', 'running') AND t.parent_id > p.id), p.n + 1
      FROM parent p WHERE p.id IS NOT NULL AND p.n < :parents
)
SELECT t.task_id, p.id, c.cancel_reason, c.cancel_message, c.cancel_by, p.n
  FROM parent p
  LEFT JOIN tasks c ON c.task_id = p.id AND +c.status = 'cancelled'
  LEFT JOIN tasks t INDEXED BY tasks_follow
    ON t.parent_id = c.task_id AND t.cancel_with_parent AND t.parent_id IS NOT NULL AND t.cancel_requested_at IS NULL
   AND t.status IN ('pending', 'running') AND (t.parent_id, t.task_id) > (:parent, :child)
 WHERE likelihood(p.id IS NOT NULL, 0.000001) AND (t.task_id IS NOT NULL OR p.n = :parents)
 LIMIT :limit;

-- name: find_expired
-- Tasks whose time to begin is over, behind a time and key: by the index that has what may expire alone. INDEXED BY:
-- without statistics the planner may walk all that waits.
-- Differs from the Postgres version in that the clock is a parameter: the file is on this host.
SELECT t.task_id, t.op, coalesce(t.parked_at, t.run_at) + t.expires_in AS at, t.id, t.expires_in
  FROM tasks t INDEXED BY tasks_expiring
 WHERE t.status = 'pending' AND t.attempt = 0 AND t.expires_in IS NOT NULL AND typeof(t.expires_in) = 'integer'
   AND coalesce(t.parked_at, t.run_at) + t.expires_in BETWEEN :at AND :now
   AND (coalesce(t.parked_at, t.run_at) + t.expires_in > :at OR t.id > :key)
 ORDER BY coalesce(t.parked_at, t.run_at) + t.expires_in, t.id LIMIT :limit;

-- name: find_overruled
-- Of the attempts that are about to give their task up, those with a cancel on record. CROSS JOIN: the keys
-- lead, not all that runs.
SELECT t.id, t.attempt, t.owner, t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_requested_at,
       t.cancel_traceparent
  FROM json_each(?) AS k CROSS JOIN tasks t ON t.id = k.value
 WHERE t.status = 'running' AND t.cancel_requested_at IS NOT NULL;

-- name: give_up_task
-- running → pending, when the attempt is still the task's; parked, where it has a concurrency key.
UPDATE tasks
   SET status = 'pending', owner = ?, claimed_at = NULL, lease_expires_at = ?,
       run_at = iif(concurrency_key IS NULL, ?, 253402300799999999), parked_at = iif(concurrency_key IS NULL, NULL, ?),
       retries_spent = retries_spent + ?
 WHERE id = ? AND status = 'running' AND attempt = ? AND owner = ?;

-- name: extend_leases
-- The heartbeat, of these tasks. +status: by its index all that runs would be read.
-- Differs from the Postgres version in that the time is a parameter: the file is on this host.
UPDATE tasks SET lease_expires_at = ?
 WHERE task_id IN (SELECT value FROM json_each(?)) AND +status = 'running' AND +owner = ?
RETURNING task_id, attempt, cancel_reason, cancel_message, cancel_by, cancel_requested_at,
          cancel_traceparent;

-- name: let_go
-- The lease of a pending task that one owner alone can run is over.
-- Differs from the Postgres version in that the time is a parameter: the file is on this host.
UPDATE tasks SET lease_expires_at = ?
 WHERE task_id = ? AND +status = 'pending' AND attempt = ? AND +lease_expires_at IS NOT NULL
   AND (owner IS NULL OR owner = ?);

-- name: find_running
-- The tasks that an owner runs.
SELECT task_id FROM tasks INDEXED BY tasks_lease WHERE status = 'running' AND owner = ?;

-- name: read_owners
-- Who runs something, or alone can run what waits. INDEXED BY: without statistics the planner may read all
-- that waits.
SELECT owner FROM tasks INDEXED BY tasks_lease WHERE status = 'running'
 UNION
SELECT owner FROM tasks INDEXED BY tasks_bound
 WHERE status = 'pending' AND lease_expires_at IS NOT NULL AND owner IS NOT NULL;

-- name: find_lost
-- Tasks of higher keys whose lease is over, or whose owner is known to be dead: those that run, and
-- those that wait for an owner which alone can run them. A lease that is no time is over, too: what is
-- not a number stands behind all numbers.
-- INDEXED BY: what a lease leads to are few, also where no statistics say so. All that has a lease is read
-- only where an owner is known to be dead.
-- Differs from the Postgres version in that it names no lock: BEGIN IMMEDIATE holds the only one.
SELECT /*task*/ FROM tasks
 WHERE id IN (SELECT id FROM tasks INDEXED BY tasks_lease
               WHERE status = 'running' AND +id > :after AND lease_expires_at <= :now
               UNION ALL
              SELECT id FROM tasks INDEXED BY tasks_lease
               WHERE status = 'running' AND +id > :after AND lease_expires_at > 253402300799999999
               UNION ALL
              SELECT id FROM tasks INDEXED BY tasks_lease
               WHERE :dead <> '[]' AND status = 'running' AND +id > :after
                 AND owner IN (SELECT value FROM json_each(:dead))
               UNION ALL
              SELECT id FROM tasks INDEXED BY tasks_bound
               WHERE status = 'pending' AND lease_expires_at IS NOT NULL AND +id > :after
                 AND lease_expires_at <= :now
               UNION ALL
              SELECT id FROM tasks INDEXED BY tasks_bound
               WHERE status = 'pending' AND lease_expires_at IS NOT NULL AND +id > :after
                 AND lease_expires_at > 253402300799999999
               UNION ALL
              SELECT id FROM tasks INDEXED BY tasks_bound
               WHERE :dead <> '[]' AND status = 'pending' AND lease_expires_at IS NOT NULL AND +id > :after
                 AND owner IN (SELECT value FROM json_each(:dead)))
   AND (+status = 'running' OR op NOT IN (SELECT value FROM json_each(:ops)))
 ORDER BY id LIMIT :limit;

-- name: create_within
-- A new task in a caller's transaction, unless its id or a key is taken. A write first of all, so
-- that a transaction which has read nothing yet waits for the lock instead of meeting a newer file.
-- Differs from the Postgres version in that the time is a parameter and that no session is notified: who
-- follows the file sees that it has changed.
INSERT INTO tasks (task_id, op, params, timeout_s, retries, idempotency_key, traceparent, run_at,
                   priority, tags, parent_id, cancel_with_parent, unique_key, concurrency_key, parked_at, engine, queue,
                   expires_in, created_at)
SELECT :task_id, :op, :params, :timeout, :retries, :idempotency_key, :traceparent,
       iif(:concurrency_key IS NULL, coalesce(:run_at, :now), 253402300799999999), :priority, :tags, :parent_id,
       :cancel_with_parent, :unique_key, :concurrency_key,
       iif(:concurrency_key IS NULL, NULL, coalesce(:run_at, :now)), :engine, :queue, :expires_in, :now
 WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE task_id = :task_id)
   AND NOT EXISTS (SELECT 1 FROM tasks WHERE op = :op AND idempotency_key = :idempotency_key)
   AND NOT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_unique_key_open
                    WHERE op = :op AND unique_key = :unique_key AND status IN ('pending', 'running'));

-- name: find_standing
-- The task whose id, or else idempotency key, or else unique key a new one was to have.
SELECT /*task*/ FROM tasks
 WHERE id = coalesce(
       (SELECT id FROM tasks WHERE task_id = :task_id),
       (SELECT id FROM tasks WHERE op = :op AND idempotency_key = :idempotency_key),
       (SELECT id FROM tasks INDEXED BY tasks_unique_key_open
         WHERE op = :op AND unique_key = :unique_key AND status IN ('pending', 'running')));
