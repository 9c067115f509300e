-- name: audit_page
-- The next tasks to audit, by key: as many as asked for, or fewer when their tapes are long. Where the
-- page ends, its tasks, the rows to be read for it, and whether there are tasks behind it.
SELECT p.upto, p.checked, p.events + p.checked, coalesce((SELECT max(t.id) FROM tasks t) > p.upto, false)
  FROM (SELECT max(s.id) AS upto, count(*) AS checked, sum(s.events)::bigint AS events
          FROM (SELECT l.id, l.events, sum(l.events) OVER (ORDER BY l.id) - l.events AS ahead
                  FROM (SELECT t.id, coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0)
                                     AS events
                          FROM tasks t WHERE t.id > $1 ORDER BY t.id LIMIT $2) AS l) AS s
         WHERE s.ahead < $3) AS p;

-- name: audit_missing_final
-- I2: ended by its row, and no final on its tape. The tape's end answers for all that are in order.
SELECT t.task_id::text, t.status, (SELECT count(*) FROM events e WHERE e.task = t.id)
  FROM tasks t
 WHERE t.id > $1 AND t.id <= $2 AND t.status NOT IN ('pending', 'running')
   AND coalesce((SELECT e.type FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1), '')
       <> 'final'
   AND NOT EXISTS (SELECT 1 FROM events e WHERE e.task = t.id AND e.type = 'final')
 ORDER BY t.id;

-- name: audit_final_not_last
-- I1: the tape goes on after its last final.
-- Differs from the SQLite version, as those below, in that the page's bounds stand at each table: of a plan that
-- must do for any page the server cannot tell otherwise how few rows they are.
SELECT t.task_id::text, f.seq, (SELECT max(e.seq) FROM events e WHERE e.task = t.id) AS last_seq
  FROM (SELECT e.task, max(e.seq) AS seq FROM events e
         WHERE e.task > $1 AND e.task <= $2 AND e.type = 'final' GROUP BY e.task) AS f
  JOIN tasks t ON t.id = f.task AND t.id > $1 AND t.id <= $2
 WHERE f.seq < (SELECT max(e.seq) FROM events e WHERE e.task = t.id)
 ORDER BY t.id;

-- name: audit_multiple_final
-- I1: more than one final.
SELECT t.task_id::text, f.n, f.first, f.last
  FROM (SELECT e.task, count(*) AS n, min(e.seq) AS first, max(e.seq) AS last FROM events e
         WHERE e.task > $1 AND e.task <= $2 AND e.type = 'final'
         GROUP BY e.task HAVING count(*) > 1) AS f
  JOIN tasks t ON t.id = f.task AND t.id > $1 AND t.id <= $2
 ORDER BY t.id;

-- name: audit_sequence_gap
-- I3: the numbers are unique, so that they have no gap when they are as many as the last one says. Read
-- from the index alone. A task that was claimed and lives has a tape; one that ended is a missing_final.
SELECT t.task_id::text, g.n, g.first, g.last
  FROM (SELECT e.task, count(*) AS n, min(e.seq) AS first, max(e.seq) AS last FROM events e
         WHERE e.task > $1 AND e.task <= $2
         GROUP BY e.task HAVING min(e.seq) <> 1 OR max(e.seq) <> count(*)
         UNION ALL
        SELECT c.id, 0, NULL, NULL FROM tasks c
         WHERE c.id > $1 AND c.id <= $2 AND c.status IN ('pending', 'running') AND c.attempt > 0
           AND NOT EXISTS (SELECT 1 FROM events e WHERE e.task = c.id)) AS g
  JOIN tasks t ON t.id = g.task AND t.id > $1 AND t.id <= $2
 ORDER BY t.id;

-- name: audit_outcome_mismatch
-- I2: the row does not say what the last final says. The one rule that reads a body, a final's.
-- Differs from the SQLite version in how a text that is no JSON is told.
SELECT t.task_id::text, t.status, o.seq, o.outcome
  FROM (SELECT e.task, e.seq,
               CASE WHEN e.body IS JSON OBJECT THEN e.body::json ->> 'outcome' END AS outcome
          FROM (SELECT e.task, max(e.seq) AS seq FROM events e
                 WHERE e.task > $1 AND e.task <= $2 AND e.type = 'final' GROUP BY e.task) AS f
          JOIN events e ON e.task = f.task AND e.seq = f.seq) AS o
  JOIN tasks t ON t.id = o.task AND t.id > $1 AND t.id <= $2
 WHERE (o.outcome = t.status) IS NOT TRUE
 ORDER BY t.id;

-- name: audit_orphan_events
-- Tapes whose tasks are gone, which the guards let nobody delete by itself. One line for all of the page;
-- no more than 10,000 of them are counted.
SELECT '-', o.n, o.first, o.last
  FROM (SELECT count(*) AS n, min(g.task) AS first, max(g.task) AS last
          FROM (SELECT DISTINCT e.task FROM events e
                 WHERE e.task > $1 AND e.task <= $2
                   AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = e.task AND t.id > $1 AND t.id <= $2) LIMIT 10000) AS g) AS o
 WHERE o.n > 0;

-- name: audit_stuck_running
-- It runs, and its lease ended longer ago than the grace.
-- Differs from the SQLite version in that the clock is the database's, and in concat: the id leads.
SELECT t.task_id::text, t.attempt, t.owner,
       ((now_us() - coalesce(t.lease_expires_at, t.claimed_at, t.created_at)) / 1e6)::double precision
  FROM tasks t
 WHERE t.id > $1 AND t.id <= $2 AND concat(t.status) = 'running'
   AND coalesce(t.lease_expires_at, t.claimed_at, t.created_at) < (now_us() - $3)
 ORDER BY t.id;

-- name: audit_dropped_count_mismatch
-- I7: what is kept was counted; a count is at least 1; only a tape that has ended has after_terminal and
-- duplicate_final. Fewer kept than counted is not a breach: the quarantine is bounded, and has its own age.
-- Differs from the SQLite version in that OFFSET 0 keeps each look-up one by a task's id.
SELECT d.task_id::text, d.reason, d.kept, d.counted
  FROM (SELECT r.id, r.task_id, r.status, r.reason, sum(r.kept)::bigint AS kept, sum(r.counted)::bigint AS counted,
               min(r.counted) AS least
          FROM (SELECT t.id, t.task_id, t.status, q.reason, 1 AS kept, NULL::bigint AS counted
                  FROM tasks t CROSS JOIN LATERAL (SELECT l.reason FROM quarantine l WHERE l.task_id = t.task_id::text OFFSET 0) q
                 WHERE t.id > $1 AND t.id <= $2
                 UNION ALL
                SELECT t.id, t.task_id, t.status, c.reason, 0, c.n
                  FROM tasks t CROSS JOIN LATERAL (SELECT l.reason, l.n FROM drop_counts l WHERE l.task_id = t.task_id::text OFFSET 0) c
                 WHERE t.id > $1 AND t.id <= $2) AS r
         GROUP BY r.id, r.task_id, r.status, r.reason) AS d
 WHERE d.kept > coalesce(d.counted, 0) OR d.least < 1
    OR (d.reason IN ('after_terminal', 'duplicate_final') AND d.status IN ('pending', 'running'))
 ORDER BY d.id, d.reason;

-- name: audit_bad_row
-- The page's tasks that may not be readable, for the one who reads them to say: what is JSON here may be
-- none to a reader, half a surrogate pair or what is nested too deep.
-- Differs from the SQLite version in that the others are left out: a column has its type here.
SELECT /*task*/ FROM tasks
 WHERE id > $1 AND id <= $2
   AND (octet_length(params) > 16777216 OR params IS NOT JSON OBJECT OR params ~ '\\u[dD][89a-fA-F]'
        OR (length(params) - length(translate(params, '[{', ''))) > 200
        OR least(created_at, run_at, parked_at, claimed_at, finished_at, lease_expires_at, cancel_requested_at)
           < -62135596800000000
        OR greatest(created_at, run_at, parked_at, claimed_at, finished_at, lease_expires_at, cancel_requested_at)
           > 253402300799999999
        OR (cancel_requested_at IS NULL) <> (cancel_reason IS NULL)
        OR least(attempt, retries, retries_spent) < 0
        OR NOT (timeout_s > 0 AND timeout_s < 'infinity'))
 ORDER BY id;

-- name: audit_bad_event
-- Rows of the page's tapes that may not be readable, for the one who reads them to say.
SELECT t.task_id::text, e.seq, e.type, e.ts, e.attempt,
       CASE WHEN octet_length(e.body) <= 16777216 THEN e.body END
  FROM events e JOIN tasks t ON t.id = e.task AND t.id > $1 AND t.id <= $2
 WHERE e.task > $1 AND e.task <= $2
   AND (octet_length(e.body) > 16777216 OR e.body IS NOT JSON
        OR e.ts < -62135596800000000 OR e.ts > 253402300799999999)
 ORDER BY e.task, e.seq;
