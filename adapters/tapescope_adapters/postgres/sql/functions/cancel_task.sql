-- One cancel request: a pending task ends, a running one keeps it, the first one stays. The row says which
-- role the session has that records it (docs/decisions/0046); guard_cancel lets no other be named.
-- One because a task has expired is heeded where that is so by this clock, and no attempt has begun.
CREATE OR REPLACE FUNCTION cancel_task(
    x_task_id uuid, x_reason text, x_message text, x_by text, x_traceparent text, x_ts bigint
) RETURNS json
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    t     tasks%ROWTYPE;
    state text;
    last  record;
BEGIN
    SELECT * INTO t FROM tasks WHERE task_id = x_task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(max(e.seq), 0) AS seq, coalesce(max(e.offer), 0) AS offer INTO last
      FROM (SELECT e.seq, e.offer FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1) e;
    IF t.status NOT IN ('pending', 'running') THEN
        state := 'terminal';
    ELSIF x_reason = 'expired' AND NOT coalesce(
            t.status = 'pending' AND t.attempt = 0
            AND coalesce(t.parked_at, t.run_at) + t.expires_in <= now_us(), false) THEN
        state := 'not_expired';
    ELSIF t.cancel_requested_at IS NOT NULL THEN
        state := 'already_recorded';
    ELSE
        state := 'recorded';
        UPDATE tasks
           SET cancel_reason = x_reason, cancel_message = x_message, cancel_by = x_by,
               cancel_role = session_user, cancel_requested_at = x_ts,
               cancel_traceparent = x_traceparent
         WHERE id = t.id
        RETURNING * INTO t;
        IF t.status = 'pending' THEN
            state := 'cancelled';
            last.seq := last.seq + 1;
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            VALUES (t.id, last.seq, t.attempt, foreign_offer(last.offer), 'final', x_ts,
                    cancelled_final(t.cancel_reason, t.cancel_message, t.cancel_by, t.cancel_role,
                                    t.cancel_requested_at, NULL));
        END IF;
    END IF;
    RETURN json_build_array(state, t.op, t.owner, t.attempt, t.cancel_reason, t.cancel_message,
                            t.cancel_by, t.cancel_requested_at, last.seq,
                            json_build_array(t.cancel_role, t.cancel_traceparent, t.traceparent));
END $$;
