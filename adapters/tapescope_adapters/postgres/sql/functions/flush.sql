-- Carries a flush out, once: the same lane and number again is answered as the first time, and waits
-- while the first is still under way. The answer is the time alone when all went as asked; else JSON.
-- The rows' columns of text come joined by the record separator, which no JSON text, id or name holds
-- as such: the driver takes its time over each element of an array. A single owner is that of all rows.
-- Who listens is told with a 'w' that tasks were created, or that an attempt gave its task up. (One that
-- is overruled by a cancel comes here as a final.) A create that met a task that stood there costs a
-- worker one look.
CREATE OR REPLACE FUNCTION flush(
    f_lane text, f_number bigint, f_instance text, f_news text, f_keys bigint[],
    keep_per_task integer, keep_unknown integer,
    c_task_id uuid[], c_op text[], c_params text[], c_timeout double precision[],
    c_retries integer[], c_idempotency_key text[], c_traceparent text[], c_run_at bigint[],
    k_task_id uuid[], k_key bigint[], k_attempt integer[], k_owner text[], k_lease bigint[],
    k_ts bigint[], k_body text[],
    r_key bigint[], r_seq integer[], r_attempt integer[], r_offer integer[], r_ts bigint[],
    r_owner text[], r_types text, r_bodies text, r_task_ids text, r_trace_ids text,
    x_task_id uuid[], x_reason text[], x_message text[], x_by text[], x_ts bigint[], x_body text[]
) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now         bigint := now_us();
    r_type      text[] := string_to_array(r_types, E'\x1e');
    r_body      text[] := string_to_array(r_bodies, E'\x1e');
    r_task_id   text[];
    reply       text;
    news        text := f_news;
    signal      text := '';
    made        bigint[];
    existing    json;
    won_place   bigint[];
    won_id      bigint[];
    won_attempt integer[];
    won_task_id uuid[];
    won_ts      bigint[];
    won_body    text[];
    starts      integer[];
    failed      integer[];
    refused     json;
    cancels     json[];
    met         json;
    one         record;
BEGIN
    INSERT INTO lanes AS l (lane, number, touched) VALUES (f_lane, f_number, now)
        ON CONFLICT (lane)
        DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = NULL
        WHERE l.number < excluded.number;
    IF NOT FOUND THEN
        SELECT coalesce(l.answer, l.touched::text) INTO STRICT reply
          FROM lanes l WHERE l.lane = f_lane AND l.number = f_number;
        RETURN reply;
    END IF;

    IF cardinality(x_task_id) > 0 THEN
        f_keys := f_keys || ARRAY(
            SELECT t.id FROM unnest(x_task_id) x(task_id)
             CROSS JOIN LATERAL (SELECT t.id FROM tasks t WHERE t.task_id = x.task_id LIMIT 1) t);
    END IF;
    -- Lock the tasks, in one order, so that two flushes never wait for each other; and see which rows
    -- are not of a running attempt, by what the lock shows. A FULL JOIN reads both sides to the end.
    SELECT array_agg(r.place::integer) FILTER (WHERE r.place IS NOT NULL) INTO failed
      FROM unnest(r_key, r_attempt, r_owner) WITH ORDINALITY AS r(key, attempt, owner, place)
      FULL JOIN (SELECT t.id, t.status, t.attempt, t.owner FROM tasks t
                  WHERE t.id = ANY (f_keys) ORDER BY t.id FOR NO KEY UPDATE) t ON t.id = r.key
     WHERE NOT coalesce(
           t.status = 'running' AND t.attempt = r.attempt
           AND t.owner = coalesce(r.owner, r_owner[1]), false);

    IF cardinality(c_task_id) > 0 THEN
        WITH made AS (
            INSERT INTO tasks (task_id, op, params, timeout_s, retries, idempotency_key, traceparent,
                               run_at, created_at)
            SELECT c.task_id, c.op, c.params, c.timeout_s, c.retries, c.idempotency_key,
                   c.traceparent, coalesce(c.run_at, now), now
              FROM unnest(c_task_id, c_op, c_params, c_timeout, c_retries, c_idempotency_key,
                          c_traceparent, c_run_at)
                   AS c(task_id, op, params, timeout_s, retries, idempotency_key, traceparent, run_at)
                ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT coalesce(array_agg(m.id), '{}') INTO made FROM made m;
        IF cardinality(made) < cardinality(c_task_id) THEN
            -- Some stood there already: which are new, and who holds the place of the others.
            WITH found AS MATERIALIZED (
                SELECT c.place, CASE WHEN t.id = ANY (made) AND t.first = c.place THEN t.id END AS key,
                       coalesce(k.task, t.task) AS task
                  FROM unnest(c_task_id, c_op, c_idempotency_key) WITH ORDINALITY
                       AS c(task_id, op, idempotency_key, place)
                  LEFT JOIN LATERAL (SELECT t.id, to_json(t) AS task,
                                            array_position(c_task_id, t.task_id) AS first
                                       FROM tasks t WHERE t.task_id = c.task_id LIMIT 1) t ON true
                  LEFT JOIN LATERAL (SELECT to_json(t) AS task FROM tasks t
                                      WHERE t.op = c.op AND t.idempotency_key = c.idempotency_key
                                      LIMIT 1) k ON true
            )
            SELECT array_agg(coalesce(f.key, 0) ORDER BY f.place),
                   json_object_agg(f.place - 1, f.task) FILTER (WHERE f.key IS NULL)
              INTO made, existing FROM found f;
            IF existing::jsonb @? '$.* ? (@ == null)' THEN
                RAISE EXCEPTION 'a task in the way was deleted meanwhile' USING ERRCODE = '40001';
            END IF;
        END IF;
    END IF;

    IF cardinality(k_key) > 0 THEN
        WITH won AS (
            UPDATE tasks t
               SET status = 'running', attempt = w.attempt + 1, owner = w.owner, claimed_at = now,
                   lease_expires_at = now + w.lease
              FROM (SELECT k.*, p.at
                      FROM unnest(k_task_id, k_key, k_attempt, k_owner, k_lease, k_ts, k_body)
                           WITH ORDINALITY
                           AS k(task_id, key, attempt, owner, lease, ts, body, place)
                     CROSS JOIN LATERAL (SELECT t.ctid AS at, t.task_id, t.status, t.attempt, t.run_at
                                           FROM tasks t WHERE t.id = k.key LIMIT 1) p
                     WHERE p.status = 'pending' AND p.attempt = k.attempt AND p.run_at <= now
                       AND p.task_id = k.task_id) w
             WHERE t.ctid = w.at
            RETURNING w.place, t.id, t.attempt, t.task_id, w.ts, w.body
        )
        SELECT array_agg(w.place - 1), array_agg(w.id), array_agg(w.attempt), array_agg(w.task_id),
               array_agg(w.ts), array_agg(w.body)
          INTO won_place, won_id, won_attempt, won_task_id, won_ts, won_body FROM won w;
        -- Where each tape ends is read here, after the lock: in one statement the old end would show.
        SELECT array_agg(coalesce(e.seq, 0) + 1 ORDER BY w.nth) INTO starts
          FROM unnest(won_id) WITH ORDINALITY AS w(id, nth)
          LEFT JOIN LATERAL (SELECT e.seq FROM events e WHERE e.task = w.id
                              ORDER BY e.seq DESC LIMIT 1) e ON true;
        INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        SELECT w.id, w.seq, w.attempt, 1, 'task_started', w.ts, w.body
          FROM unnest(won_id, starts, won_attempt, won_ts, won_body) AS w(id, seq, attempt, ts, body);
    END IF;

    IF cardinality(r_key) > 0 THEN
        IF failed IS NULL THEN
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            SELECT * FROM unnest(r_key, r_seq, r_attempt, r_offer, r_type, r_ts, r_body);
        ELSE
            r_task_id := string_to_array(r_task_ids, E'\x1e');
            refused := drop_rows(failed, r_key, r_attempt, r_offer, r_type, r_ts, r_body, r_owner,
                                 r_task_id, string_to_array(r_trace_ids, E'\x1e', ''),
                                 keep_per_task, keep_unknown);
            INSERT INTO events (task, seq, attempt, offer, type, ts, body)
            SELECT r.key, r.seq, r.attempt, r.offer, r.type, r.ts, r.body
              FROM unnest(r_key, r_seq, r_attempt, r_offer, r_type, r_ts, r_body) WITH ORDINALITY
                   AS r(key, seq, attempt, offer, type, ts, body, place)
             WHERE r.place <> ALL (failed);
        END IF;
    END IF;
    IF failed IS NOT NULL THEN  -- the caller, who put the news together, took it that none would
        news := (SELECT string_agg(s.task_id || ':' || s.seq, ',')
                   FROM (SELECT r.task_id, max(r.seq) AS seq
                           FROM unnest(r_task_id, r_seq) WITH ORDINALITY AS r(task_id, seq, place)
                          WHERE r.place <> ALL (failed) GROUP BY r.task_id) s);
    END IF;
    IF won_id IS NOT NULL THEN
        news := concat_ws(',', news, (
            SELECT string_agg(w.task_id || ':' || w.seq, ',')
              FROM unnest(won_task_id, starts) AS w(task_id, seq)));
    END IF;

    IF cardinality(x_task_id) > 0 THEN
        FOR one IN
            SELECT * FROM unnest(x_task_id, x_reason, x_message, x_by, x_ts, x_body)
                          AS x(task_id, reason, message, who, ts, body)
        LOOP
            met := cancel_task(one.task_id, one.reason, one.message, one.who, one.ts, one.body);
            cancels := cancels || met;
            IF met ->> 0 = 'cancelled' THEN
                news := concat_ws(',', news, one.task_id || ':' || (met ->> 8));
            ELSIF met ->> 0 = 'recorded' THEN
                signal := 'c';
            END IF;
        END LOOP;
    END IF;

    IF cardinality(made) > 0 OR 'attempt_failed' = ANY (r_type) THEN
        signal := signal || 'w';
    END IF;
    IF news <> '' OR signal <> '' THEN  -- a notification is at most 8,000 bytes
        PERFORM pg_notify(current_schema(), concat_ws('|', f_instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE coalesce(news, '') END, signal));
    END IF;
    IF made IS NULL AND cardinality(k_key) = 0 AND refused IS NULL AND cancels IS NULL THEN
        RETURN now;
    END IF;
    reply := json_build_object('now', now, 'keys', made, 'existing', existing,
                               'claims', json_build_array(won_place, starts),
                               'refused', refused, 'cancels', cancels);
    UPDATE lanes SET answer = reply WHERE lane = f_lane;
    RETURN reply;
END $$;
