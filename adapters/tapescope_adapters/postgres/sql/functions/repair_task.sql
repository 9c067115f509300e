-- Mends one task and writes each repair to the repair log; all is as it was where nothing is wrong. The rules are
-- those of tapescope's repair_plan.py.
-- The one way past the guards. Those in its way are off for this transaction alone, and under a lock
-- that keeps every other writer of both tables out, so that no other session ever writes without them; an
-- error puts them back. There is no switch for a session to set. Only the owner of the tables may.
CREATE OR REPLACE FUNCTION repair_task(x_task_id uuid, x_grace bigint, x_by text) RETURNS SETOF repairs
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET lock_timeout = '500ms'
AS $$
DECLARE
    now     bigint := now_us();
    mark    bigint;
    t       tasks%ROWTYPE;
    first   events%ROWTYPE;
    last    events%ROWTYPE;
    said    json;
    ending  text;
    row_was json;
    one     record;
    total   bigint;
    body    text;
    lost    text := 'its final was lost; a repair wrote this one from the row';
BEGIN
    LOCK TABLE tasks, events IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO t FROM tasks WHERE task_id = x_task_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(max(r.id), 0) INTO mark FROM repairs r;
    ALTER TABLE events DISABLE TRIGGER events_follow_predecessor;
    ALTER TABLE events DISABLE TRIGGER events_live_with_task;
    ALTER TABLE tasks DISABLE TRIGGER tasks_change_by_rule;

    SELECT * INTO first FROM events e WHERE e.task = t.id AND e.type = 'final' ORDER BY e.seq LIMIT 1;
    SELECT * INTO last FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1;
    row_was := json_build_object('status', t.status, 'finished_at', time_text(t.finished_at),
                                 'error_code', t.error_code);
    said := read_final(first.body);
    ending := coalesce(said ->> 'outcome',
                       CASE WHEN t.status NOT IN ('pending', 'running') THEN t.status END);

    -- What comes after the first final goes to the quarantine, whatever its bounds say. A final that
    -- cannot be read is left as it is, and so is all beside it.
    IF said IS NOT NULL AND last.seq > first.seq THEN
        WITH taken AS (
            DELETE FROM events e WHERE e.task = t.id AND e.seq > first.seq RETURNING e.*
        ), named AS MATERIALIZED (
            SELECT k.*, CASE k.type WHEN 'final' THEN 'duplicate_final' ELSE 'after_terminal' END
                        AS reason
              FROM taken k
        ), kept AS (
            INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, late_us, body)
            SELECT t.task_id::text, n.attempt, n.offer, 'repair', n.type, n.reason, n.ts,
                   n.ts - first.ts, n.body
              FROM named n ORDER BY n.seq
                ON CONFLICT DO NOTHING
        ), counted AS (
            INSERT INTO drop_counts AS d (task_id, attempt, reason, type, outcome, n, last_offer)
            SELECT t.task_id::text, n.attempt, n.reason, n.type, ending,
                   count(*), max(n.offer)
              FROM named n GROUP BY n.attempt, n.reason, n.type
                ON CONFLICT ON CONSTRAINT drop_counts_pkey
                DO UPDATE SET n = d.n + excluded.n,
                              last_offer = greatest(d.last_offer, excluded.last_offer)
        )
        INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
        SELECT now, x_by,
               CASE n.reason WHEN 'duplicate_final' THEN 'multiple_final' ELSE 'final_not_last' END,
               t.task_id::text,
               json_agg(json_build_object('seq', n.seq, 'attempt', n.attempt, 'offer', n.offer,
                                          'type', n.type, 'ts', time_text(n.ts), 'body', n.body)
                        ORDER BY n.seq),
               json_build_object('taken', count(*))
          FROM named n GROUP BY n.reason ORDER BY n.reason;
    END IF;

    -- The final was let in by the guards, so the row follows it.
    IF said IS NOT NULL AND ending <> t.status THEN
        UPDATE tasks
           SET status = ending, finished_at = first.ts, lease_expires_at = NULL,
               error_code = CASE ending WHEN 'failed' THEN said #>> '{error,code}' END
         WHERE id = t.id;
        INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
        VALUES (now, x_by, 'outcome_mismatch', t.task_id, row_was,
                json_build_object('seq', first.seq, 'outcome', ending));
        t.status := ending;
    END IF;

    -- A row that has ended gets its final back; a result that was on the lost one is lost.
    IF first.seq IS NULL AND t.status NOT IN ('pending', 'running') THEN
        body := CASE t.status
            WHEN 'succeeded' THEN '{"outcome":"succeeded","result":null}'
            WHEN 'failed' THEN concat('{"outcome":"failed","error":{"code":',
                                      to_json(coalesce(t.error_code, 'unknown')),
                                      ',"message":', to_json(lost), '}}')
            WHEN 'cancelled' THEN cancelled_final(
                coalesce(t.cancel_reason, 'user'),
                CASE WHEN t.cancel_requested_at IS NULL THEN lost ELSE t.cancel_message END,
                t.cancel_by, t.cancel_role, coalesce(t.cancel_requested_at, t.finished_at, now), NULL) END;
        body := left(body, -1) || ',"repaired":true}';
        INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (t.id, coalesce(last.seq, 0) + 1, t.attempt, foreign_offer(last.offer), 'final',
                coalesce(t.finished_at, now), body);
        INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
        VALUES (now, x_by, 'missing_final', t.task_id, row_was,
                json_build_object('seq', coalesce(last.seq, 0) + 1, 'outcome', t.status));
    END IF;

    -- Counted is at least what is kept.
    FOR one IN
        SELECT r.reason
          FROM (SELECT q.reason, 1 AS kept, 0 AS counted, 1 AS least
                  FROM quarantine q WHERE q.task_id = t.task_id::text
                 UNION ALL
                SELECT c.reason, 0, c.n, c.n FROM drop_counts c WHERE c.task_id = t.task_id::text) r
         GROUP BY r.reason HAVING sum(r.kept) > sum(r.counted) OR min(r.least) < 1 ORDER BY r.reason
    LOOP
        row_was := (SELECT json_agg(json_build_object('attempt', c.attempt, 'reason', c.reason,
                                                      'type', c.type, 'outcome', c.outcome, 'n', c.n,
                                                      'last_offer', c.last_offer))
                      FROM drop_counts c WHERE c.task_id = t.task_id::text AND c.reason = one.reason);
        DELETE FROM drop_counts c
         WHERE c.task_id = t.task_id::text AND c.reason = one.reason AND c.n < 1;
        INSERT INTO drop_counts AS d (task_id, attempt, reason, type, outcome, n, last_offer)
        SELECT t.task_id::text, k.attempt, one.reason, k.type,
               CASE WHEN one.reason = 'unknown_task' THEN 'unknown'
                    WHEN t.status IN ('pending', 'running') THEN 'open' ELSE t.status END,
               k.kept - k.counted, k.last_offer
          FROM (SELECT q.attempt, q.type, count(*) AS kept, max(q.offer) AS last_offer,
                       coalesce((SELECT sum(c.n) FROM drop_counts c
                                  WHERE c.task_id = t.task_id::text AND c.reason = one.reason
                                    AND c.attempt = q.attempt AND c.type = q.type), 0) AS counted
                  FROM quarantine q WHERE q.task_id = t.task_id::text AND q.reason = one.reason
                 GROUP BY q.attempt, q.type) k
         WHERE k.kept > k.counted
            ON CONFLICT ON CONSTRAINT drop_counts_pkey
            DO UPDATE SET n = d.n + excluded.n,
                          last_offer = greatest(d.last_offer, excluded.last_offer);
        SELECT coalesce(sum(c.n), 0) INTO total
          FROM drop_counts c WHERE c.task_id = t.task_id::text AND c.reason = one.reason;
        INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
        VALUES (now, x_by, 'dropped_count_mismatch', t.task_id, coalesce(row_was, '[]'),
                json_build_object('reason', one.reason, 'counted', total));
    END LOOP;

    -- A task without a lease is beyond the reach of a rescue.
    IF t.status = 'running' AND coalesce(t.lease_expires_at, t.claimed_at, t.created_at) < now - x_grace
    THEN
        UPDATE tasks SET lease_expires_at = coalesce(lease_expires_at, claimed_at, created_at)
         WHERE id = t.id;
        INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
        VALUES (now, x_by, 'stuck_running', t.task_id,
                json_build_object('owner', t.owner,
                                  'lease_expires_at', time_text(t.lease_expires_at)),
                json_build_object('attempt', t.attempt));
    END IF;

    ALTER TABLE events ENABLE TRIGGER events_follow_predecessor;
    ALTER TABLE events ENABLE TRIGGER events_live_with_task;
    ALTER TABLE tasks ENABLE TRIGGER tasks_change_by_rule;
    IF EXISTS (SELECT 1 FROM repairs r WHERE r.id > mark AND r.task_id = x_task_id::text) THEN
        PERFORM pg_notify(current_schema(), '|*|');  -- followers look again
    END IF;
    RETURN QUERY SELECT * FROM repairs r WHERE r.id > mark AND r.task_id = x_task_id::text ORDER BY r.id;
END $$;
