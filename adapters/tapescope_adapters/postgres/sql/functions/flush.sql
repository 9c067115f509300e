-- Carries a flush out, once: the same lane and number again is answered as the first time, and waits
-- while the first is still under way. The answer is the time alone when all went as asked; else JSON.
--
-- creates, claims, rows, give_ups and cancels are the port's rows of these names, column by column in the
-- order of their fields; NULL where the flush has none. A column is one text, for the driver takes its time
-- over each element of an array: the literal of an array; or, where the texts are JSON, ids or names, which
-- never hold the record separator as such, the texts joined by it. Columns that older code does not send,
-- the last ones of creates, give_ups and cancels, are NULL; what it sends besides, the sixth of cancels, is
-- not read, and what it does not know of a cancel stands apart in the answer, for it reads so many fields and
-- no more: the role alone (askers, overrulers), and all the facts (cancel_facts, overruler_facts). The rows have
-- two columns more, the task's id and the run's trace, and a single owner is that of all rows. keys are all
-- keys in them.
--
-- A claim whose key is below 0 is of a task that this flush creates: -1 of the first one.
--
-- An attempt that gives its task up is one of the rows. Where a cancel is on record, its attempt_failed or
-- attempt_released is written as the cancelled final; the others' tasks are pending again before the cancels
-- of this very flush come, so that these end them.
--
-- The answer says which of the tasks that ended have messages that they did not take (untaken).
--
-- Who listens is told with a 'w' that tasks were created, or that an attempt gave its task up. (One that
-- is overruled by a cancel comes here as a final.) A create that met a task that stood there costs a
-- worker one look. Nobody is told with tapescope.quiet on, as it is while the server's queue is full.
CREATE OR REPLACE FUNCTION flush(
    lane text, number bigint, instance text, news text, keys bigint[],
    keep_per_task integer, keep_unknown integer,
    creates text[], claims text[], rows text[], give_ups text[], cancels text[]
) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now         bigint := now_us();
    r_key       bigint[] := rows[1];
    r_seq       integer[] := rows[2];
    r_attempt   integer[] := rows[3];
    r_offer     integer[] := rows[4];
    r_type      text[] := string_to_array(rows[5], E'\x1e');
    r_ts        bigint[] := rows[6];
    r_body      text[] := string_to_array(rows[7], E'\x1e');
    r_owner     text[] := rows[8];
    r_task_id   text[];
    reply       text;
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
    overruled   json[];
    overrulers  text[];
    overruler_facts json[];
    answers     json[];
    askers      text[];
    cancel_facts json[];
    met         json;
    ended       bigint[];
    these       bigint[];
    untaken     json;
    one         record;
BEGIN
    INSERT INTO lanes AS l (lane, number, touched) VALUES (flush.lane, flush.number, now)
        ON CONFLICT ON CONSTRAINT lanes_pkey
        DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = NULL
        WHERE l.number < excluded.number;
    IF NOT FOUND THEN
        SELECT coalesce(l.answer, l.touched::text) INTO STRICT reply
          FROM lanes l WHERE l.lane = flush.lane AND l.number = flush.number;
        RETURN reply;
    END IF;

    -- What may free a slot: an append waits for nobody who holds a concurrency key.
    IF cancels IS NOT NULL OR r_type && '{final,attempt_failed,attempt_released}' THEN
        these := ARRAY(
            SELECT t.id FROM unnest(cancels[1]::uuid[]) AS x(task_id)
             CROSS JOIN LATERAL (SELECT t.id FROM tasks t WHERE t.task_id = x.task_id LIMIT 1) t);
        keys := keys || these;
        PERFORM lock_limits(these || ARRAY(
            SELECT r.key FROM unnest(r_key, r_type) AS r(key, type)
             WHERE r.type IN ('final', 'attempt_failed', 'attempt_released')));
    END IF;
    -- Lock the tasks, in one order, so that two flushes never wait for each other; and see which rows
    -- are not of a running attempt, by what the lock shows. A FULL JOIN reads both sides to the end.
    SELECT array_agg(r.place::integer) FILTER (WHERE r.place IS NOT NULL) INTO failed
      FROM unnest(r_key, r_attempt, r_owner) WITH ORDINALITY AS r(key, attempt, owner, place)
      FULL JOIN (SELECT t.id, t.status, t.attempt, t.owner FROM tasks t
                  WHERE t.id = ANY (keys) ORDER BY t.id FOR NO KEY UPDATE) t ON t.id = r.key
     WHERE NOT coalesce(
           t.status = 'running' AND t.attempt = r.attempt
           AND t.owner = coalesce(r.owner, r_owner[1]), false);

    IF give_ups IS NOT NULL THEN
        FOR one IN
            SELECT g.row_at + 1 AS place, t.cancel_reason, t.cancel_message, t.cancel_by,
                   t.cancel_role, t.cancel_requested_at, t.cancel_traceparent
              FROM unnest(give_ups[1]::integer[]) AS g(row_at)
             CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.id = r_key[g.row_at + 1] LIMIT 1) t
             WHERE t.cancel_requested_at IS NOT NULL AND (g.row_at + 1 = ANY (failed)) IS NOT TRUE
        LOOP
            r_type[one.place] := 'final';
            r_body[one.place] := cancelled_final(
                one.cancel_reason, one.cancel_message, one.cancel_by, one.cancel_role,
                one.cancel_requested_at, r_body[one.place]::json -> 'error');
            overruled := array_append(overruled, json_build_array(
                one.place - 1, one.cancel_reason, one.cancel_message, one.cancel_by,
                one.cancel_requested_at));
            overrulers := array_append(overrulers, one.cancel_role);
            overruler_facts := array_append(
                overruler_facts, json_build_array(one.cancel_role, one.cancel_traceparent));
        END LOOP;
    END IF;

    IF creates IS NOT NULL THEN
        WITH made AS (
            INSERT INTO tasks (task_id, op, params, timeout_s, retries, idempotency_key, traceparent,
                               run_at, owner, lease_expires_at, priority, tags, parent_id,
                               cancel_with_parent, unique_key, concurrency_key, parked_at, engine, queue,
                               expires_in, created_at)
            SELECT c.task_id, c.op, c.params, c.timeout, c.retries, c.idempotency_key, c.traceparent,
                   CASE WHEN c.concurrency_key IS NULL THEN coalesce(c.run_at, now)
                        ELSE 253402300799999999 END, c.owner,
                   CASE WHEN c.lease IS NOT NULL
                        THEN least(coalesce(c.run_at, now) + c.lease, 253402300799999999) END,
                   coalesce(c.priority, 0), c.tags, c.parent_id, coalesce(c.cancel_with_parent, false),
                   c.unique_key, c.concurrency_key,
                   CASE WHEN c.concurrency_key IS NOT NULL THEN coalesce(c.run_at, now) END,
                   coalesce(c.engine, ''), coalesce(c.queue, 'default'), c.expires_in, now
              FROM unnest(creates[1]::uuid[], string_to_array(creates[2], E'\x1e'),
                          string_to_array(creates[3], E'\x1e'), creates[4]::double precision[],
                          creates[5]::integer[], creates[6]::text[], creates[7]::text[],
                          creates[8]::bigint[], creates[9]::text[], creates[10]::bigint[],
                          creates[11]::smallint[], creates[12]::text[], creates[13]::uuid[],
                          creates[14]::boolean[], creates[15]::text[], creates[16]::text[], creates[17]::text[],
                          string_to_array(creates[18], E'\x1e'), creates[19]::bigint[])
                   AS c(task_id, op, params, timeout, retries, idempotency_key, traceparent, run_at,
                        owner, lease, priority, tags, parent_id, cancel_with_parent, unique_key,
                        concurrency_key, engine, queue, expires_in)
                ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT coalesce(array_agg(m.id), '{}') INTO made FROM made m;
        IF cardinality(made) < cardinality(string_to_array(creates[2], E'\x1e')) THEN
            -- Some stood there already: which are new, and who holds the place of the others.
            WITH found AS MATERIALIZED (
                SELECT c.place, CASE WHEN t.id = ANY (made) AND t.first = c.place THEN t.id END AS key,
                       coalesce(k.task, t.task, u.task) AS task
                  FROM unnest(creates[1]::uuid[], string_to_array(creates[2], E'\x1e'),
                              creates[6]::text[], creates[15]::text[]) WITH ORDINALITY
                       AS c(task_id, op, idempotency_key, unique_key, place)
                  LEFT JOIN LATERAL (SELECT t.id, to_json(t) AS task,
                                            array_position(creates[1]::uuid[], t.task_id) AS first
                                       FROM tasks t WHERE t.task_id = c.task_id LIMIT 1) t ON true
                  LEFT JOIN LATERAL (SELECT to_json(t) AS task FROM tasks t
                                      WHERE t.op = c.op AND t.idempotency_key = c.idempotency_key
                                      LIMIT 1) k ON true
                  LEFT JOIN LATERAL (SELECT to_json(t) AS task FROM tasks t
                                      WHERE t.op = c.op AND t.unique_key = c.unique_key
                                        AND t.status IN ('pending', 'running') LIMIT 1) u ON true
            )
            SELECT array_agg(coalesce(f.key, 0) ORDER BY f.place),
                   json_object_agg(f.place - 1, f.task) FILTER (WHERE f.key IS NULL)
              INTO made, existing FROM found f;
            IF existing::jsonb @? '$.* ? (@ == null)' THEN
                RAISE EXCEPTION 'a task in the way was deleted meanwhile, or has ended' USING ERRCODE = '40001';
            END IF;
        END IF;
    END IF;

    IF claims IS NOT NULL THEN
        WITH won AS (
            UPDATE tasks t
               SET status = 'running', attempt = w.attempt + 1, owner = w.owner, claimed_at = now,
                   lease_expires_at = now + w.lease
              FROM (SELECT k.*, p.at
                      FROM unnest(claims[1]::uuid[], claims[2]::bigint[], claims[3]::integer[],
                                  claims[4]::text[], claims[5]::bigint[], claims[6]::bigint[],
                                  string_to_array(claims[7], E'\x1e')) WITH ORDINALITY
                           AS k(task_id, key, attempt, owner, lease, ts, body, place)
                     CROSS JOIN LATERAL (SELECT t.ctid AS at, t.task_id, t.status, t.attempt, t.run_at,
                                                  t.expires_in, t.concurrency_key
                                           FROM tasks t
                                          WHERE t.id = CASE WHEN k.key < 0 THEN made[-k.key] ELSE k.key END
                                          LIMIT 1) p
                     WHERE p.status = 'pending' AND p.attempt = k.attempt AND p.run_at <= now
                       AND p.task_id = k.task_id
                       AND p.concurrency_key IS NULL  -- else a claim of due tasks alone begins it
                       AND (p.expires_in IS NULL OR p.attempt > 0 OR p.run_at + p.expires_in > now)) w
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
            r_task_id := string_to_array(rows[9], E'\x1e');
            refused := drop_rows(failed, r_key, r_attempt, r_offer, r_type, r_ts, r_body, r_owner,
                                 r_task_id, string_to_array(rows[10], E'\x1e', ''),
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
        news := concat_ws(',', nullif(news, ''), (
            SELECT string_agg(w.task_id || ':' || w.seq, ',')
              FROM unnest(won_task_id, starts) AS w(task_id, seq)));
    END IF;

    IF give_ups IS NOT NULL THEN
        UPDATE tasks t
           SET status = 'pending', owner = g.owner, claimed_at = NULL,
               lease_expires_at = coalesce(g.run_at, now) + g.lease,
               run_at = CASE WHEN t.concurrency_key IS NULL THEN coalesce(g.run_at, now)
                             ELSE 253402300799999999 END,
               parked_at = CASE WHEN t.concurrency_key IS NOT NULL THEN coalesce(g.run_at, now) END,
               retries_spent = t.retries_spent + g.spends
          FROM unnest(give_ups[1]::integer[], give_ups[2]::bigint[], give_ups[3]::integer[],
                      give_ups[4]::text[], give_ups[5]::bigint[])
               AS g(row_at, run_at, spends, owner, lease)
         WHERE t.id = r_key[g.row_at + 1] AND concat(t.status) = 'running'  -- the id leads, not what runs
           AND t.attempt = r_attempt[g.row_at + 1]
           AND t.owner = coalesce(r_owner[g.row_at + 1], r_owner[1]);
    END IF;

    IF cancels IS NOT NULL THEN
        FOR one IN
            SELECT * FROM unnest(cancels[1]::uuid[], string_to_array(cancels[2], E'\x1e'),
                                 cancels[3]::text[], cancels[4]::text[], cancels[5]::bigint[],
                                 cancels[7]::text[])
                          AS x(task_id, reason, message, who, ts, traceparent)
        LOOP
            met := cancel_task(one.task_id, one.reason, one.message, one.who, one.traceparent, one.ts);
            answers := array_append(answers, (met::jsonb - 9)::json);
            askers := array_append(askers, met -> 9 ->> 0);
            cancel_facts := array_append(cancel_facts, met -> 9);
            IF met ->> 0 = 'cancelled' THEN
                ended := ended || (SELECT t.id FROM tasks t WHERE t.task_id = one.task_id LIMIT 1);
                news := concat_ws(',', nullif(news, ''), one.task_id || ':' || (met ->> 8));
            ELSIF met ->> 0 = 'recorded' THEN
                signal := 'c';
            END IF;
        END LOOP;
    END IF;

    IF 'final' = ANY (r_type) THEN
        ended := ended || ARRAY(SELECT r.key FROM unnest(r_key, r_type) WITH ORDINALITY AS r(key, type, place)
                                 WHERE r.type = 'final' AND (r.place = ANY (failed)) IS NOT TRUE);
    END IF;
    IF cardinality(ended) > 0 THEN
        untaken := find_untaken(ended);
    END IF;

    IF cardinality(made) > 0 OR r_type && '{attempt_failed,attempt_released}' THEN
        signal := signal || 'w';
    END IF;
    IF (news <> '' OR signal <> '') AND current_setting('tapescope.quiet', true) IS DISTINCT FROM 'on' THEN
        -- a notification is at most 8,000 bytes
        PERFORM pg_notify(current_schema(), concat_ws('|', instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE coalesce(news, '') END, signal));
    END IF;
    IF made IS NULL AND claims IS NULL AND refused IS NULL AND overruled IS NULL AND answers IS NULL
       AND untaken IS NULL THEN
        RETURN now;
    END IF;
    reply := json_build_object('now', now, 'keys', made, 'existing', existing,
                               'claims', json_build_array(won_place, starts),
                               'refused', refused, 'overruled', overruled, 'overrulers', overrulers,
                               'overruler_facts', overruler_facts,
                               'cancels', answers, 'askers', askers, 'cancel_facts', cancel_facts,
                               'untaken', untaken);
    UPDATE lanes l SET answer = reply WHERE l.lane = flush.lane;
    RETURN reply;
END $$;
