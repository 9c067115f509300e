-- Claims up to x_limit tasks for an owner, the highest priority first, then the longest due. A task that another
-- session holds just now is passed over. The same lane and number again claims nothing: it is answered with what the first
-- try claimed, as those rows are by now. The lane keeps the keys, attempts and places on the tapes only.
-- A task that cannot be claimed keeps no other from it: it ends (claim_singly), and has the attempt -1 in
-- the answer. Ops that are paused are left out, and all of them for an owner that drains: asked here, in the
-- transaction of the claim, so that what begins after a pause was committed claims no task of that op.
-- What is next and has expired is not begun (docs/decisions/0104): it takes its place among x_limit, so that no claim walks
-- past it, and with an exclamation mark among x_ops it is in the answer, with the attempt 0. Who asked then ends it.
-- Parked tasks are given the slots of their keys that are free, and are due then.
-- What begins with a slash among x_ops is a queue that tasks are taken from; older versions send none, and take from all.
-- All of them, as the queue NULL, are a look of its own, in the index that knows no queues, so that a worker which takes
-- all pays nothing for how many there are. Of one queue the look is in an index of its own, by an expression: no plan can
-- take the other index for it, and walk the other queues. No sorting: an index that has the order is walked as far as it is
-- asked for, whatever the statistics say.
CREATE OR REPLACE FUNCTION claim_due(
    x_lane text, x_number bigint, x_instance text, x_owner text, x_ops text[], x_limit integer,
    x_lease bigint, x_ts bigint, x_before text, x_behind text, x_again boolean
) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_sort = off
AS $$
DECLARE
    now      bigint;
    stored   json;
    x_queues text[];
    x_tell   boolean;
    expired  bigint[];
    levels   smallint[];
    level    smallint;
    share    record;
    picked   bigint[] := '{}';
    these    bigint[];
    won      bigint[];
    attempts bigint[];
    starts   bigint[];
    sound    boolean;
    news     text;
BEGIN
    now := now_us();
    x_tell := '!' = ANY (x_ops);
    x_queues := ARRAY(SELECT substr(o.op, 2) FROM unnest(x_ops) AS o(op) WHERE o.op LIKE '/%');
    x_ops := list_claimable(x_owner, ARRAY(SELECT o.op FROM unnest(x_ops) AS o(op)
                                            WHERE o.op NOT LIKE '/%' AND o.op <> '!'));
    IF cardinality(x_queues) = 0 THEN
        x_queues := '{NULL}';
    END IF;
    PERFORM admit_parked(x_ops, x_limit);
    -- Of each op the first task of each priority that waits, a look in the index each: so the priorities of which
    -- something is due, and what is due later is not walked, however much of it there is.
    WITH RECURSIVE first AS (
        SELECT o.op, q.queue, d.priority, d.run_at FROM unnest(x_ops) AS o(op)
         CROSS JOIN unnest(x_queues) AS q(queue)
         CROSS JOIN LATERAL ((SELECT t.priority, t.run_at FROM tasks t
                               WHERE q.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = o.op
                               ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
                              UNION ALL
                             (SELECT t.priority, t.run_at FROM tasks t
                               WHERE q.queue IS NOT NULL AND t.status = 'pending' AND t.engine = ''
                                 AND (t.op || '/' || t.queue) COLLATE "C" = o.op || '/' || q.queue
                               ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)) d
         UNION ALL
        SELECT f.op, f.queue, d.priority, d.run_at FROM first f
         CROSS JOIN LATERAL ((SELECT t.priority, t.run_at FROM tasks t
                               WHERE f.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = f.op
                                 AND t.priority < f.priority
                               ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
                              UNION ALL
                             (SELECT t.priority, t.run_at FROM tasks t
                               WHERE f.queue IS NOT NULL AND t.status = 'pending' AND t.engine = '' AND t.priority < f.priority
                                 AND (t.op || '/' || t.queue) COLLATE "C" = f.op || '/' || f.queue
                               ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)) d
    )
    SELECT array_agg(DISTINCT f.priority ORDER BY f.priority DESC) INTO levels FROM first f WHERE f.run_at <= now;
    IF levels IS NULL AND NOT x_again THEN
        RETURN NULL;  -- an idle worker's looks write nothing
    END IF;
    -- Sent again the number is always spent here, so that a first try that comes later finds it so.
    INSERT INTO lanes AS l (lane, number, touched) VALUES (x_lane, x_number, now_us())
        ON CONFLICT (lane)
        DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = NULL
        WHERE l.number < excluded.number;
    IF NOT FOUND THEN
        SELECT l.answer::json INTO STRICT stored
          FROM lanes l WHERE l.lane = x_lane AND l.number = x_number;
        RETURN (SELECT json_agg(json_build_array(c.one -> 1, c.one -> 2, to_json(t)) ORDER BY c.nth)
                  FROM json_array_elements(stored) WITH ORDINALITY AS c(one, nth)
                 CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.id = (c.one ->> 0)::bigint LIMIT 1) t);
    END IF;

    -- One priority after the other. Of it each op and queue its share of those that are due first: picked without a
    -- lock, and with it, as the next of that op where another session holds them. Then what is left to whichever op
    -- has more; where all that is due was shared out none has, and none of them is looked at: they may be many.
    FOREACH level IN ARRAY coalesce(levels, '{}') LOOP
        EXIT WHEN cardinality(picked) >= x_limit;
        FOR share IN
            WITH found AS MATERIALIZED (
                SELECT f.op, f.queue, count(*)::integer AS n
                  FROM (SELECT o.op, q.queue FROM unnest(x_ops) AS o(op)
                         CROSS JOIN unnest(x_queues) AS q(queue)
                         CROSS JOIN LATERAL ((SELECT t.run_at, t.id FROM tasks t
                                               WHERE q.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = o.op
                                                 AND t.priority = level AND t.run_at <= now
                                               ORDER BY t.run_at, t.id LIMIT x_limit)
                                              UNION ALL
                                             (SELECT t.run_at, t.id FROM tasks t
                                               WHERE q.queue IS NOT NULL AND t.status = 'pending' AND t.engine = ''
                                                 AND (t.op || '/' || t.queue) COLLATE "C" = o.op || '/' || q.queue
                                                 AND t.priority = level AND t.run_at <= now
                                               ORDER BY t.run_at, t.id LIMIT x_limit)) d
                         WHERE cardinality(x_ops) * cardinality(x_queues) > 1
                         ORDER BY d.run_at, d.id LIMIT x_limit - cardinality(picked)) f
                 GROUP BY f.op, f.queue)
            SELECT f.op, f.queue, f.n FROM found f
             UNION ALL
            SELECT o.op, q.queue, x_limit FROM unnest(x_ops) AS o(op) CROSS JOIN unnest(x_queues) AS q(queue)
             WHERE cardinality(x_ops) * cardinality(x_queues) = 1
                OR (SELECT sum(f.n) FROM found f) >= x_limit - cardinality(picked)
        LOOP
            EXIT WHEN cardinality(picked) >= x_limit;
            SELECT array_agg(d.id) INTO these
              FROM (SELECT a.id
                      FROM (SELECT t.id FROM tasks t
                             WHERE share.queue IS NULL AND t.status = 'pending' AND t.engine = '' AND t.op = share.op
                               AND t.priority = level AND t.run_at <= now AND t.id <> ALL (picked)
                             ORDER BY t.run_at, t.id
                             LIMIT least(share.n, x_limit - cardinality(picked))
                               FOR NO KEY UPDATE SKIP LOCKED) a
                     UNION ALL
                    SELECT b.id
                      FROM (SELECT t.id FROM tasks t
                             WHERE share.queue IS NOT NULL AND t.status = 'pending' AND t.engine = ''
                               AND (t.op || '/' || t.queue) COLLATE "C" = share.op || '/' || share.queue
                               AND t.priority = level AND t.run_at <= now AND t.id <> ALL (picked)
                             ORDER BY t.run_at, t.id
                             LIMIT least(share.n, x_limit - cardinality(picked))
                               FOR NO KEY UPDATE SKIP LOCKED) b) d;
            picked := picked || coalesce(these, '{}');
        END LOOP;
    END LOOP;
    IF cardinality(picked) = 0 THEN
        UPDATE lanes SET answer = '[]' WHERE lane = x_lane;
        RETURN NULL;
    END IF;
    -- Where each tape ends is read here, after the locks: in one statement the old end would show.
    SELECT array_agg(p.id ORDER BY t.priority DESC, t.run_at, p.id) FILTER (WHERE NOT t.late),
           array_agg(t.attempt::bigint + 1 ORDER BY t.priority DESC, t.run_at, p.id) FILTER (WHERE NOT t.late),
           array_agg(coalesce(e.seq, 0)::bigint + 1 ORDER BY t.priority DESC, t.run_at, p.id) FILTER (WHERE NOT t.late),
           coalesce(bool_and(t.attempt BETWEEN 0 AND 2147483646
                    AND (e.seq IS NULL OR (e.seq < 2147483647 AND e.type <> 'final' AND e.attempt <= t.attempt)))
                    FILTER (WHERE NOT t.late), true),
           array_agg(p.id) FILTER (WHERE t.late)
      INTO won, attempts, starts, sound, expired
      FROM unnest(picked) AS p(id)
     CROSS JOIN LATERAL (SELECT t.attempt, t.priority, t.run_at,
                                t.expires_in IS NOT NULL AND t.attempt = 0 AND t.run_at + t.expires_in <= now AS late
                           FROM tasks t WHERE t.id = p.id LIMIT 1) t
      LEFT JOIN LATERAL (SELECT e.seq, e.type, e.attempt FROM events e WHERE e.task = p.id
                          ORDER BY e.seq DESC LIMIT 1) e ON true;
    IF won IS NULL THEN
        won := '{}';
        attempts := '{}';
        starts := '{}';
    ELSIF sound THEN
        now := now_us();  -- after the locks: no earlier than any task here was made due by its rate
        UPDATE tasks t
           SET status = 'running', attempt = t.attempt + 1, owner = x_owner, claimed_at = now,
               lease_expires_at = now + x_lease
         WHERE t.id = ANY (won);
        INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        SELECT w.id, w.seq, w.attempt, 1, 'task_started', x_ts, x_before || w.attempt || x_behind
          FROM unnest(won, starts, attempts) AS w(id, seq, attempt);
    ELSE  -- a column or a guard would refuse one, and so all: asked before, for a savepoint costs each claim
        SELECT c.won, c.attempts, c.starts INTO won, attempts, starts
          FROM claim_singly(x_owner, x_ops || ARRAY(SELECT '/' || q.queue FROM unnest(x_queues) AS q(queue) WHERE q.queue IS NOT NULL),
                            x_limit, x_lease, x_ts, x_before, x_behind, now, won) c;
    END IF;
    IF cardinality(won) = 0 AND (expired IS NULL OR NOT x_tell) THEN
        UPDATE lanes SET answer = '[]' WHERE lane = x_lane;
        RETURN NULL;
    END IF;
    SELECT string_agg(t.task_id || ':' || w.seq, ',') INTO news
      FROM unnest(won, starts) AS w(id, seq)
     CROSS JOIN LATERAL (SELECT t.task_id FROM tasks t WHERE t.id = w.id LIMIT 1) t;
    IF news <> '' AND current_setting('tapescope.quiet', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_notify(current_schema(), concat_ws('|', x_instance,
            CASE WHEN length(news) > 7000 THEN '*' ELSE news END, ''));
    END IF;
    IF x_tell AND expired IS NOT NULL THEN
        won := won || expired;
        attempts := attempts || array_fill(0::bigint, ARRAY[cardinality(expired)]);
        starts := starts || array_fill(0::bigint, ARRAY[cardinality(expired)]);
    END IF;
    UPDATE lanes
       SET answer = (SELECT json_agg(json_build_array(w.id, w.attempt, w.seq) ORDER BY w.nth)
                       FROM unnest(won, attempts, starts) WITH ORDINALITY AS w(id, attempt, seq, nth))
     WHERE lane = x_lane;
    RETURN (
        SELECT json_agg(json_build_array(w.attempt, w.seq, to_json(t)) ORDER BY w.nth)
          FROM unnest(won, attempts, starts) WITH ORDINALITY AS w(id, attempt, seq, nth)
         CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.id = w.id LIMIT 1) t);
END $$;
