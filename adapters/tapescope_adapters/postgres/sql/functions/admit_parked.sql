-- Gives the free slots of concurrency keys to parked tasks, as many as a claim may take: these are due from now on. Of
-- each of these ops no more looks are taken than 64. Their keys are locked first, in one order; then the key that is to
-- be looked at the longest goes first, and of it the highest priority, then the longest due. For claim_due, in whose
-- transaction it is.
CREATE OR REPLACE FUNCTION admit_parked(x_ops text[], x_limit integer) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now   bigint := now_us();
    looks json;
    one   record;
    most  integer;
    taken integer;
    room  integer;
    level smallint;
    these bigint[];
    more  bigint[];
BEGIN
    PERFORM 1 FROM unnest(x_ops) AS o(op)
      CROSS JOIN LATERAL (SELECT 1 FROM limit_looks k WHERE k.op = o.op AND k.due_at <= now
                           ORDER BY k.due_at LIMIT 1) l
      LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM limit_looks l
         WHERE l.ctid = ANY (ARRAY(
               SELECT d.at FROM unnest(x_ops) AS o(op)
                CROSS JOIN LATERAL (SELECT k.ctid AS at FROM limit_looks k WHERE k.op = o.op AND k.due_at <= now
                                     ORDER BY k.due_at LIMIT 64 FOR UPDATE SKIP LOCKED) d))
        RETURNING l.op, l.concurrency_key, l.due_at
    )
    SELECT json_agg(k) INTO looks
      FROM (SELECT g.op, g.concurrency_key, min(g.due_at) AS due_at FROM gone g GROUP BY 1, 2) k;
    FOR one IN
        SELECT * FROM json_to_recordset(looks) AS k(op text, concurrency_key text, due_at bigint)
         ORDER BY k.op COLLATE "C", k.concurrency_key COLLATE "C"
    LOOP
        LOOP
            INSERT INTO limits (op, concurrency_key, held) VALUES (one.op, one.concurrency_key, 0)
                ON CONFLICT ON CONSTRAINT limits_pkey DO NOTHING;
            PERFORM 1 FROM limits l WHERE l.op = one.op AND l.concurrency_key = one.concurrency_key FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
        END LOOP;
    END LOOP;
    FOR one IN
        SELECT * FROM json_to_recordset(looks) AS k(op text, concurrency_key text, due_at bigint)
         ORDER BY k.due_at, k.op, k.concurrency_key
    LOOP
        SELECT l.held INTO taken FROM limits l WHERE l.op = one.op AND l.concurrency_key = one.concurrency_key;
        SELECT o.max_concurrent INTO most FROM ops o WHERE o.op = one.op;
        room := coalesce(most - taken, x_limit + 1);
        these := '{}';
        level := 10;
        LOOP
            EXIT WHEN cardinality(these) >= least(room, x_limit + 1);
            SELECT t.priority INTO level FROM tasks t
             WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = one.op
               AND t.concurrency_key = one.concurrency_key AND t.priority < level
             ORDER BY t.priority DESC LIMIT 1;
            EXIT WHEN NOT FOUND;
            SELECT array_agg(d.id) INTO more
              FROM (SELECT t.id FROM tasks t
                     WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = one.op
                       AND t.concurrency_key = one.concurrency_key AND t.priority = level AND t.parked_at <= now
                     ORDER BY t.parked_at, t.id
                     LIMIT least(room, x_limit + 1) - cardinality(these)
                       FOR NO KEY UPDATE SKIP LOCKED) d;
            these := these || coalesce(more, '{}');
        END LOOP;
        -- One more than the claim may take was looked for: that one waits for the next claim.
        IF cardinality(these) > x_limit THEN
            these := these[:x_limit];
            INSERT INTO limit_looks (op, due_at, concurrency_key) VALUES (one.op, one.due_at, one.concurrency_key);
        ELSIF room > cardinality(these) THEN
            -- What another session holds just now was passed over: soon once more.
            INSERT INTO limit_looks (op, due_at, concurrency_key)
            SELECT one.op, now + 100000, one.concurrency_key
             WHERE EXISTS (SELECT 1 FROM generate_series(-9, 9) AS p(priority)
                            CROSS JOIN LATERAL (SELECT 1 FROM tasks t
                                  WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = one.op
                                    AND t.concurrency_key = one.concurrency_key AND t.priority = p.priority
                                    AND t.parked_at <= now AND t.id <> ALL (these)
                                  ORDER BY t.parked_at, t.id LIMIT 1) d);
        END IF;
        UPDATE tasks t SET run_at = t.parked_at, parked_at = NULL WHERE t.id = ANY (these);
        x_limit := x_limit - cardinality(these);
        DELETE FROM limits l WHERE l.op = one.op AND l.concurrency_key = one.concurrency_key AND l.held < 1;
    END LOOP;
END $$;
