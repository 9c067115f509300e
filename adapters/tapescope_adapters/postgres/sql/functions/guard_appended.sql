-- An event follows its predecessor, which is not a final, and comes from the task's own attempt (I1, I3,
-- I4, I5). A final sets the task's status (I2), and a message_taken marks its message, which nobody has taken. No lock is needed for that: whatever happens to a task
-- puts an event at the end of its tape, and the primary key lets one writer put it there.
CREATE OR REPLACE FUNCTION guard_appended() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    finals bigint;
    takes  bigint;
    breach text;
    ended  bigint;
BEGIN
    SELECT count(*) FILTER (WHERE i.type = 'final'),
           count(*) FILTER (WHERE i.type = 'message_taken'),
           min(CASE WHEN (i.seq = 1
                          OR (p.type <> 'final'
                              AND (p.attempt < i.attempt
                                   OR (p.attempt = i.attempt AND p.offer < i.offer))))
                         AND t.attempt = i.attempt
                         AND (t.status = 'running' OR (t.status = 'pending' AND i.type = 'final'))
               THEN NULL
               ELSE CASE WHEN p.type = 'final' THEN 'I1: an event comes after the final'
                         WHEN i.seq <> 1 AND p.type IS NULL THEN 'I3: an event has no predecessor'
                         WHEN t.status IS NULL THEN 'I5: an event has no task'
                         WHEN t.status NOT IN ('pending', 'running') THEN 'I4: the tape is closed'
                         WHEN t.attempt <> i.attempt OR t.status = 'pending'
                         THEN 'I5: the attempt is not the one that runs'
                         ELSE 'I3: an event is offered twice' END
                    || format(' (task %s, event %s)', i.task, i.seq) END)
      INTO finals, takes, breach
      FROM appended i
      LEFT JOIN LATERAL (SELECT e.type, e.attempt, e.offer FROM events e
                          WHERE e.task = i.task AND e.seq = i.seq - 1 LIMIT 1) p ON true
      LEFT JOIN LATERAL (SELECT t.status, t.attempt FROM tasks t
                          WHERE t.id = i.task LIMIT 1) t ON true;
    IF breach IS NOT NULL THEN
        PERFORM refuse(breach);
    END IF;
    IF takes > 0 THEN
        UPDATE messages m
           SET taken_seq = k.seq
          FROM (SELECT i.seq, w.at
                  FROM appended i
                 CROSS JOIN LATERAL (SELECT (i.body::json ->> 'n')::integer AS n) b
                 CROSS JOIN LATERAL (SELECT m.ctid AS at FROM messages m
                                      WHERE m.task = i.task AND m.n = b.n
                                        AND m.taken_seq IS NULL LIMIT 1) w
                 WHERE i.type = 'message_taken') k
         WHERE m.ctid = k.at;
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended <> takes THEN
            PERFORM refuse('a message is taken once, from the inbox of its task');
        END IF;
    END IF;
    IF finals > 0 THEN
        UPDATE tasks t
           SET status = f.outcome, finished_at = f.ts, lease_expires_at = NULL,
               error_code = CASE f.outcome WHEN 'failed' THEN f.code END
          FROM (SELECT i.ts, b.body ->> 'outcome' AS outcome, b.body #>> '{error,code}' AS code, w.at
                  FROM appended i
                 CROSS JOIN LATERAL (SELECT i.body::json AS body) b
                 CROSS JOIN LATERAL (SELECT t.ctid AS at FROM tasks t
                                      WHERE t.id = i.task LIMIT 1) w
                 WHERE i.type = 'final') f
         WHERE t.ctid = f.at AND f.outcome IN ('succeeded', 'failed', 'cancelled');
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended <> finals THEN
            PERFORM refuse('I2: a final says succeeded, failed or cancelled, and ends its task');
        END IF;
    END IF;
    RETURN NULL;
END $$;
