-- A flush in which attempts give their tasks up. Where a cancel is on record, the attempt_failed is
-- written as the cancelled final; the others' tasks are pending again before the cancels of this very
-- flush come, so that these end them. A flush that is sent again is known by its answer, which says
-- who was overruled.
CREATE OR REPLACE FUNCTION flush_giving_up(
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
