-- Takes tasks from owners whose lease is over or who are known to be dead: those that run, and those that
-- wait for an owner which alone can run them, unless a worker can run their op by now. What another
-- rescuer, or a flush, holds just now is left for the next time, and so are the tasks of a concurrency key
-- that is held. A tape which is gone begins anew; a task whose tape takes no event from its attempt is passed over. A lease of no year that a calendar has is over.
-- An engine brings its tasks to a worker by itself, whatever workers tell of.
-- All that has a lease is read only where an owner is known to be dead.
CREATE OR REPLACE FUNCTION rescue_expired(
    x_limit integer, x_ops text[], x_dead text[], x_ts bigint, x_retry text, x_failed text,
    x_instance text
) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now    bigint := now_us();
    t      tasks%ROWTYPE;
    last   record;
    result text;
    news   text := '';
    signal text := '';
    found  json[] := '{}';
    busy   bigint[];
BEGIN
    -- The concurrency keys first, as a flush does, and none is waited for: the tasks of a key that another session
    -- holds are left.
    SELECT coalesce(array_agg(b.id), '{}') INTO busy
      FROM (SELECT s.id, s.op, s.concurrency_key FROM tasks s
             WHERE s.concurrency_key IS NOT NULL
               AND s.id = ANY (ARRAY(
                   SELECT id FROM tasks WHERE status = 'running' AND lease_expires_at <= now
                    UNION ALL
                   SELECT id FROM tasks WHERE status = 'running' AND lease_expires_at > 253402300799999999
                    UNION ALL
                   SELECT id FROM tasks
                    WHERE cardinality(x_dead) > 0 AND status = 'running' AND owner = ANY (x_dead)))) b
      LEFT JOIN LATERAL (SELECT true AS locked FROM limits l
                          WHERE l.op = b.op AND l.concurrency_key = b.concurrency_key
                            FOR NO KEY UPDATE SKIP LOCKED) l ON true
      LEFT JOIN LATERAL (SELECT true AS held FROM limits l
                          WHERE l.op = b.op AND l.concurrency_key = b.concurrency_key LIMIT 1) h ON true
     WHERE l.locked IS NULL AND h.held;
    FOR t IN
        SELECT * FROM tasks r
         WHERE (r.status = 'running'
                OR (r.status = 'pending' AND r.lease_expires_at IS NOT NULL AND r.op <> ALL (x_ops)))
           AND (r.lease_expires_at <= now OR r.lease_expires_at > 253402300799999999 OR r.owner = ANY (x_dead))
           AND r.id <> ALL (busy)
           AND r.id = ANY (ARRAY(
               SELECT id FROM tasks WHERE status = 'running' AND lease_expires_at <= now
                UNION ALL
               SELECT id FROM tasks WHERE status = 'running' AND lease_expires_at > 253402300799999999
                UNION ALL
               SELECT id FROM tasks
                WHERE cardinality(x_dead) > 0 AND status = 'running' AND owner = ANY (x_dead)
                UNION ALL
               SELECT id FROM tasks WHERE status = 'pending' AND lease_expires_at <= now
                UNION ALL
               SELECT id FROM tasks WHERE status = 'pending' AND lease_expires_at > 253402300799999999
                UNION ALL
               SELECT id FROM tasks
                WHERE cardinality(x_dead) > 0 AND status = 'pending' AND lease_expires_at IS NOT NULL
                  AND owner = ANY (x_dead)))
         ORDER BY r.id FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN cardinality(found) >= x_limit;  -- no LIMIT: what is passed over does not count
        -- In a statement after the one that locks: in the same one the old end would show.
        SELECT coalesce(max(e.seq), 0) AS seq, coalesce(max(e.offer), 0) AS offer INTO last
          FROM (SELECT e.seq, e.offer FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1) e;
        result := CASE WHEN t.cancel_reason IS NOT NULL
                        AND t.cancel_requested_at BETWEEN -62135596800000000 AND 253402300799999999
                       THEN 'cancelled'
                       WHEN t.retries_spent < t.retries AND (t.op = ANY (x_ops) OR t.engine <> '') THEN 'retried'
                       ELSE 'failed' END;
        BEGIN
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            VALUES (t.id, last.seq + 1, t.attempt, foreign_offer(last.offer),
                    CASE result WHEN 'retried' THEN 'attempt_failed' ELSE 'final' END, x_ts,
                    CASE result WHEN 'retried' THEN x_retry WHEN 'failed' THEN x_failed
                    ELSE cancelled_final(t.cancel_reason, t.cancel_message, t.cancel_by,
                                         t.cancel_role, t.cancel_requested_at, NULL) END);
            IF result = 'retried' THEN
                UPDATE tasks
                   SET status = 'pending', owner = NULL, claimed_at = NULL, lease_expires_at = NULL,
                       run_at = CASE WHEN t.concurrency_key IS NULL THEN now ELSE 253402300799999999 END,
                       parked_at = CASE WHEN t.concurrency_key IS NOT NULL THEN now END,
                       retries_spent = retries_spent + 1
                 WHERE id = t.id;
            END IF;
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception OR SQLSTATE 'TS001' THEN
            CONTINUE;  -- a guard refuses it, or a column has no place for it: for the audit to find
        END;
        found := array_append(found, json_build_array(result, last.seq + 1, to_json(t)));
        signal := CASE result WHEN 'retried' THEN 'w' ELSE signal END;
        news := news || CASE news WHEN '' THEN '' ELSE ',' END || t.task_id || ':' || last.seq + 1;
    END LOOP;
    IF news <> '' AND current_setting('tapescope.quiet', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_notify(current_schema(), concat_ws('|', x_instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE news END, signal));
    END IF;
    RETURN to_json(found);
END $$;
