-- name: append_events
-- Event rows onto the tapes of running attempts: the guard is running, attempt and owner. A row that
-- fails it is left out, and the count tells. CROSS JOIN: the values are walked in their order, so each
-- event follows its predecessor. Padding rows have no key.
INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7
  FROM (VALUES /*rows*/) AS v
 CROSS JOIN tasks t
 WHERE t.id = v.column1 AND t.status = 'running' AND t.attempt = v.column3 AND t.owner = v.column8;

-- name: start_attempts
-- The task_started of each claim that won, at the end of its tape; padding rows have no key.
INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT t.id, coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0) + 1,
       t.attempt, 1, 'task_started', v.column4, v.column5
  FROM (VALUES /*rows*/) AS v
 CROSS JOIN tasks t
 WHERE t.id = v.column1 AND t.status = 'running' AND t.attempt = v.column2 + 1
   AND t.owner = v.column3;

-- name: find_started
-- The seq of the task_started of attempts that are not a task's first.
SELECT e.task, max(e.seq) FROM json_each(?) AS k JOIN events e ON e.task = k.value GROUP BY e.task;

-- name: append_by_another
-- What is not of the run itself: the final of a task that is cancelled while pending, the event of a
-- rescue. Its offer is beyond those of any run, or a late event of the run could be taken for it: see
-- docs/decisions/0006.
INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT t.id, coalesce(last.seq, 0) + 1, t.attempt, max(coalesce(last.offer, 0), (1 << 30) - 1) + 1,
       ?, ?, ?
  FROM tasks t
  LEFT JOIN events last
    ON last.task = t.id AND last.seq = (SELECT max(e.seq) FROM events e WHERE e.task = t.id)
 WHERE t.id = ?;

-- name: examine_refused
-- Why a writer's rows are missing: its task and the end of its tape. One row of JSON, for each row of
-- a result is a step that must win the interpreter's lock.
-- Differs from the Postgres version in that the reason is told apart by the caller.
SELECT json_group_array(json_array(
         w.key,
         EXISTS (SELECT 1 FROM events e
                  WHERE e.task = w.value ->> 0 AND e.seq = w.value ->> 1
                    AND e.attempt = w.value ->> 2 AND e.offer = w.value ->> 3)
           AND t.attempt = w.value ->> 2 AND t.owner = w.value ->> 5,
         t.op, t.status, t.attempt, last.seq, last.type, last.attempt, last.ts,
         CASE last.type WHEN 'final' THEN last.body END,
         (SELECT sum(d.n) FROM drop_counts d WHERE d.task_id = w.value ->> 4)))
  FROM json_each(?) AS w
  LEFT JOIN tasks t ON t.id = w.value ->> 0
  LEFT JOIN events last
    ON last.task = t.id AND last.seq = (SELECT max(e.seq) FROM events e WHERE e.task = t.id);

-- name: read_tape_end
-- A number that is none, for a session wrote past tapescope, stands behind all numbers: it is no end.
SELECT t.id, last.seq, CASE last.type WHEN 'final' THEN last.seq END,
       coalesce((SELECT sum(d.n) FROM drop_counts d WHERE d.task_id = t.task_id), 0)
  FROM tasks t
  LEFT JOIN events last
    ON last.task = t.id AND last.seq = (SELECT max(e.seq) FROM events e
                                         WHERE e.task = t.id AND e.seq <= 9007199254740991)
 WHERE t.task_id = ?;

-- name: read_tape
-- An event whose number is none has no place on the tape: the audit names it.
SELECT seq, type, ts, attempt, CASE WHEN length(body) <= ? THEN body END FROM events
 WHERE task = ? AND seq > ? AND seq <= 9007199254740991 ORDER BY seq LIMIT ?;

-- name: load_attempt
-- Where a tape ends, and the last offer of one attempt, on the tape or dropped. A task that is not here
-- has the key 0: its events are dropped, and each has an offer of its own in the quarantine.
SELECT coalesce(t.id, 0), coalesce(t.op, ''),
       coalesce((SELECT max(e.seq) FROM events e WHERE e.task = t.id), 0),
       max(coalesce((SELECT e.offer FROM events e WHERE e.task = t.id AND e.attempt = :attempt
                      ORDER BY e.seq DESC LIMIT 1), 0),
           coalesce((SELECT max(d.last_offer) FROM drop_counts d
                      WHERE d.task_id = w.task_id AND d.attempt = :attempt), 0))
  FROM (SELECT :task_id AS task_id) AS w LEFT JOIN tasks t ON t.task_id = w.task_id;

-- name: read_ends
-- The ends of the tapes that are followed here, and the newest messages of their tasks.
SELECT t.task_id, (SELECT max(e.seq) FROM events e WHERE e.task = t.id),
       (SELECT max(m.n) FROM messages m WHERE m.task = t.id)
  FROM json_each(?) AS k JOIN tasks t ON t.task_id = k.value;

-- name: last_seq
-- The end of one tape.
SELECT max(seq) FROM events WHERE task = ?;

-- name: read_arrivals
-- The newest event and the newest task, and whether an attempt gave its task up since event n.
SELECT coalesce((SELECT max(n) FROM events), 0), coalesce((SELECT max(id) FROM tasks), 0),
       EXISTS (SELECT 1 FROM events WHERE n > ? AND type IN ('attempt_failed', 'attempt_released'));

-- name: read_news
-- Every tape that grew since one event, up to another.
SELECT t.task_id, max(e.seq) FROM events e JOIN tasks t ON t.id = e.task
 WHERE e.n > ? AND e.n <= ? GROUP BY t.task_id;
