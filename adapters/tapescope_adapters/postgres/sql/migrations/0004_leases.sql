-- Leases, attempts that give their task up, and the rescue of what a lost process left running.
-- Functions are added, none changes its arguments: code of the version before goes on beside this.

-- What the final of a cancelled task says; the error of an attempt that failed is kept.
CREATE FUNCTION cancelled_final(reason text, message text, who text, at bigint, error json) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN error IS NULL
       THEN json_build_object(
           'outcome', 'cancelled',
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at))
       ELSE json_build_object(
           'outcome', 'cancelled', 'error', error,
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at)) END::text;

-- As before, but that the offer is beyond those of any run: a late event of a run that gave the task
-- up could be taken for this one.
CREATE OR REPLACE FUNCTION cancel_task(
    x_task_id uuid, x_reason text, x_message text, x_by text, x_ts bigint, x_body text
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
    ELSIF t.cancel_requested_at IS NOT NULL THEN
        state := 'already_recorded';
    ELSE
        state := 'recorded';
        UPDATE tasks
           SET cancel_reason = x_reason, cancel_message = x_message, cancel_by = x_by,
               cancel_requested_at = x_ts
         WHERE id = t.id
        RETURNING * INTO t;
        IF t.status = 'pending' THEN
            state := 'cancelled';
            last.seq := last.seq + 1;
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            VALUES (t.id, last.seq, t.attempt, greatest(last.offer, 1073741823) + 1, 'final', x_ts,
                    x_body);
        END IF;
    END IF;
    RETURN json_build_array(state, t.op, t.owner, t.attempt, t.cancel_reason, t.cancel_message,
                            t.cancel_by, t.cancel_requested_at, last.seq);
END $$;

-- A flush in which attempts give their tasks up. Where a cancel is on record, the attempt_failed is
-- written as the cancelled final; the others' tasks are pending again before the cancels of this very
-- flush come, so that these end them. A flush that is sent again is known by its answer, which says
-- who was overruled.
CREATE FUNCTION flush_giving_up(
    f_lane text, f_number bigint, f_instance text, f_news text, f_keys bigint[],
    keep_per_task integer, keep_unknown integer,
    c_task_id uuid[], c_op text[], c_params text[], c_timeout double precision[],
    c_retries integer[], c_idempotency_key text[], c_traceparent text[], c_run_at bigint[],
    k_task_id uuid[], k_key bigint[], k_attempt integer[], k_owner text[], k_lease bigint[],
    k_ts bigint[], k_body text[],
    r_key bigint[], r_seq integer[], r_attempt integer[], r_offer integer[], r_ts bigint[],
    r_owner text[], r_types text, r_bodies text, r_task_ids text, r_trace_ids text,
    x_task_id uuid[], x_reason text[], x_message text[], x_by text[], x_ts bigint[], x_body text[],
    g_place integer[], g_run_at bigint[], g_spends integer[]
) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    types     text[] := string_to_array(r_types, E'\x1e');
    bodies    text[] := string_to_array(r_bodies, E'\x1e');
    overruled json[] := '{}';
    cancels   json[] := '{}';
    news      text := '';
    signal    text := '';
    reply     text;
    met       json;
    one       record;
BEGIN
    IF cardinality(x_task_id) > 0 THEN  -- the same locks in the same order as the flush itself
        f_keys := f_keys || ARRAY(
            SELECT t.id FROM unnest(x_task_id) x(task_id)
             CROSS JOIN LATERAL (SELECT t.id FROM tasks t WHERE t.task_id = x.task_id LIMIT 1) t);
    END IF;
    PERFORM 1 FROM tasks t WHERE t.id = ANY (f_keys) ORDER BY t.id FOR NO KEY UPDATE;
    FOR one IN
        SELECT g.place, g.spends, t.cancel_reason, t.cancel_message, t.cancel_by,
               t.cancel_requested_at
          FROM unnest(g_place, g_spends) AS g(place, spends)
         CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.id = r_key[g.place] LIMIT 1) t
         WHERE t.status = 'running' AND t.attempt = r_attempt[g.place]
           AND t.owner = coalesce(r_owner[g.place], r_owner[1]) AND t.cancel_requested_at IS NOT NULL
    LOOP
        types[one.place] := 'final';
        bodies[one.place] := cancelled_final(
            one.cancel_reason, one.cancel_message, one.cancel_by, one.cancel_requested_at,
            CASE WHEN one.spends > 0 THEN bodies[one.place]::json -> 'error' END);
        overruled := array_append(overruled, json_build_array(
            one.place - 1, one.cancel_reason, one.cancel_message, one.cancel_by,
            one.cancel_requested_at));
    END LOOP;

    reply := flush(f_lane, f_number, f_instance, f_news, f_keys, keep_per_task, keep_unknown,
                   c_task_id, c_op, c_params, c_timeout, c_retries, c_idempotency_key, c_traceparent,
                   c_run_at, k_task_id, k_key, k_attempt, k_owner, k_lease, k_ts, k_body,
                   r_key, r_seq, r_attempt, r_offer, r_ts, r_owner,
                   array_to_string(types, E'\x1e'), array_to_string(bodies, E'\x1e'), r_task_ids,
                   r_trace_ids, '{}', '{}', '{}', '{}', '{}', '{}');
    IF reply = 'void' OR (reply LIKE '{%' AND reply::json -> 'overruled' IS NOT NULL) THEN
        RETURN reply;  -- it was carried out, or given up, before
    END IF;

    UPDATE tasks t
       SET status = 'pending', owner = NULL, claimed_at = NULL, lease_expires_at = NULL,
           run_at = coalesce(g.run_at, now_us()), retries_spent = t.retries_spent + g.spends
      FROM (SELECT r_key[u.place] AS key, r_attempt[u.place] AS attempt,
                   coalesce(r_owner[u.place], r_owner[1]) AS owner, u.run_at, u.spends
              FROM unnest(g_place, g_run_at, g_spends) AS u(place, run_at, spends)) g
     WHERE t.id = g.key AND t.status = 'running' AND t.attempt = g.attempt AND t.owner = g.owner;

    FOR one IN
        SELECT * FROM unnest(x_task_id, x_reason, x_message, x_by, x_ts, x_body)
                      AS x(task_id, reason, message, who, ts, body)
    LOOP
        met := cancel_task(one.task_id, one.reason, one.message, one.who, one.ts, one.body);
        cancels := array_append(cancels, met);
        IF met ->> 0 = 'cancelled' THEN
            news := concat_ws(',', nullif(news, ''), one.task_id || ':' || (met ->> 8));
        ELSIF met ->> 0 = 'recorded' THEN
            signal := 'c';
        END IF;
    END LOOP;
    IF news <> '' OR signal <> '' THEN
        PERFORM pg_notify(current_schema(), concat_ws('|', f_instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE news END, signal));
    END IF;

    reply := ((CASE WHEN reply LIKE '{%' THEN reply::jsonb
               ELSE jsonb_build_object('now', reply::bigint, 'keys', NULL, 'existing', NULL,
                                       'claims', jsonb_build_array(NULL, NULL), 'refused', NULL,
                                       'cancels', NULL) END)
              || jsonb_build_object('overruled', to_jsonb(overruled),
                                    'cancels', to_jsonb(cancels)))::text;
    UPDATE lanes SET answer = reply WHERE lane = f_lane;
    RETURN reply;
END $$;

-- Takes running tasks from owners whose lease is over or who are known to be dead. What another
-- rescuer, or a flush, holds just now is left for the next time.
CREATE FUNCTION rescue_expired(
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
    found  json[] := '{}';
BEGIN
    FOR t IN
        SELECT * FROM tasks r
         WHERE r.status = 'running' AND (r.lease_expires_at <= now OR r.owner = ANY (x_dead))
         ORDER BY r.id LIMIT x_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        -- In a statement after the one that locks: in the same one the old end would show.
        SELECT e.seq, e.offer INTO STRICT last
          FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1;
        result := CASE WHEN t.cancel_requested_at IS NOT NULL THEN 'cancelled'
                       WHEN t.retries_spent < t.retries AND t.op = ANY (x_ops) THEN 'retried'
                       ELSE 'failed' END;
        INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (t.id, last.seq + 1, t.attempt, greatest(last.offer, 1073741823) + 1,
                CASE result WHEN 'retried' THEN 'attempt_failed' ELSE 'final' END, x_ts,
                CASE result WHEN 'retried' THEN x_retry WHEN 'failed' THEN x_failed
                ELSE cancelled_final(t.cancel_reason, t.cancel_message, t.cancel_by,
                                     t.cancel_requested_at, NULL) END);
        IF result = 'retried' THEN
            UPDATE tasks
               SET status = 'pending', owner = NULL, claimed_at = NULL, lease_expires_at = NULL,
                   run_at = now, retries_spent = retries_spent + 1
             WHERE id = t.id;
        END IF;
        found := array_append(found, json_build_array(result, last.seq + 1, to_json(t)));
        news := news || CASE news WHEN '' THEN '' ELSE ',' END || t.task_id || ':' || last.seq + 1;
    END LOOP;
    IF news <> '' THEN
        PERFORM pg_notify(current_schema(), concat_ws('|', x_instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE news END, ''));
    END IF;
    RETURN to_json(found);
END $$;
