-- Gives the free slots of concurrency keys to parked tasks, as many as a claim may take, and as may begin now by the
-- rate of their op: these are due from now on. The key that is to be looked at the longest goes first, and of it the
-- highest priority, then the longest due. All looks of a key that are due are taken at once, and what a claim has no
-- place for is looked at again behind the other keys: so none waits for what another one has parked. Of each op no more
-- keys are looked at than 64, and 256 in all.
-- A key that another session holds is passed over, and looked at soon once more. Only the first row of a key that nobody
-- holds is waited for: so a claim adds those in one round, in one order. For claim_due, in whose transaction it is.
CREATE OR REPLACE FUNCTION admit_parked(x_ops text[], x_limit integer) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now    bigint := now_us();
    since  bigint := -62135596800000000;
    places integer := x_limit;
    seen   integer := 0;
    added  integer;
    looked text[] := '{}';
    final  boolean := false;
    ops    text[];
    keys   text[];
    dues   bigint[];
    again  bigint[];
    one    record;
    most   integer;
    taken  integer;
    room   integer;
    level  smallint;
    these  bigint[];
    more   bigint[];
BEGIN
    LOOP
        EXIT WHEN places < 1 OR seen >= 256 OR final;
        ops := '{}';
        keys := '{}';
        dues := '{}';
        LOOP
            EXIT WHEN cardinality(ops) >= places OR seen >= 256;
            -- What comes before was taken here, or is another claim's: dead rows are walked once.
            SELECT l.op, l.concurrency_key, l.due_at INTO one
              FROM unnest(x_ops) AS o(op)
             CROSS JOIN LATERAL (SELECT k.op, k.concurrency_key, k.due_at FROM limit_looks k
                                  WHERE k.op = o.op AND k.due_at BETWEEN since AND now
                                  ORDER BY k.due_at LIMIT 1 FOR UPDATE SKIP LOCKED) l
             ORDER BY l.due_at LIMIT 1;
            EXIT WHEN NOT FOUND;
            DELETE FROM limit_looks l
             WHERE l.ctid = ANY (ARRAY(SELECT k.ctid FROM limit_looks k
                                        WHERE k.op = one.op AND k.concurrency_key = one.concurrency_key
                                          AND k.due_at <= now FOR UPDATE SKIP LOCKED));
            since := one.due_at;
            seen := seen + 1;
            looked := looked || one.op;
            IF cardinality(array_positions(looked, one.op)) >= 64 THEN
                x_ops := array_remove(x_ops, one.op);
            END IF;
            ops := ops || one.op;
            keys := keys || one.concurrency_key;
            dues := dues || one.due_at;
        END LOOP;
        EXIT WHEN cardinality(ops) = 0;

        again := array_fill(NULL::bigint, ARRAY[cardinality(ops)]);
        FOR one IN
            SELECT k.op, k.concurrency_key, k.nth::integer FROM unnest(ops, keys) WITH ORDINALITY AS k(op, concurrency_key, nth)
             ORDER BY k.op COLLATE "C", k.concurrency_key COLLATE "C"
        LOOP
            PERFORM 1 FROM limits l WHERE l.op = one.op AND l.concurrency_key = one.concurrency_key
                FOR NO KEY UPDATE SKIP LOCKED;
            CONTINUE WHEN FOUND;
            again[one.nth] := now + 100000;
            PERFORM 1 FROM limits l WHERE l.op = one.op AND l.concurrency_key = one.concurrency_key;
            CONTINUE WHEN FOUND;
            PERFORM 1 FROM generate_series(-9, 9) AS p(priority)
              CROSS JOIN LATERAL (SELECT 1 FROM tasks t
                                   WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = one.op
                                     AND t.concurrency_key = one.concurrency_key AND t.priority = p.priority
                                     AND t.parked_at BETWEEN -62135596800000000 AND now
                                   ORDER BY t.parked_at, t.id LIMIT 1) d
              LIMIT 1;
            IF NOT FOUND THEN
                again[one.nth] := 0;  -- none waits any more: no look is left but that of the window
                PERFORM open_window(one.op, one.concurrency_key, now);
                CONTINUE;
            END IF;
            IF added <= seen - cardinality(ops) THEN
                again[one.nth] := dues[one.nth];
                final := true;
                CONTINUE;
            END IF;
            added := seen;
            INSERT INTO limits (op, concurrency_key, held) VALUES (one.op, one.concurrency_key, 0)
                ON CONFLICT ON CONSTRAINT limits_pkey DO NOTHING;
            IF FOUND THEN
                again[one.nth] := NULL;
            END IF;
        END LOOP;

        FOR nth IN 1 .. cardinality(ops) LOOP
            IF again[nth] IS NOT NULL THEN
                INSERT INTO limit_looks (op, due_at, concurrency_key)
                SELECT ops[nth], again[nth], keys[nth] WHERE again[nth] <> 0;
                CONTINUE;
            END IF;
            these := '{}';
            IF places < 1 THEN
                again[nth] := dues[nth];
            ELSE
                SELECT l.held INTO taken FROM limits l WHERE l.op = ops[nth] AND l.concurrency_key = keys[nth];
                SELECT o.max_concurrent INTO most FROM ops o WHERE o.op = ops[nth];
                room := least(coalesce(most - taken, places + 1),
                              coalesce(open_window(ops[nth], keys[nth], now), places + 1));
                level := 10;
                LOOP
                    EXIT WHEN cardinality(these) >= least(room, places + 1);
                    SELECT t.priority INTO level FROM tasks t
                     WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = ops[nth]
                       AND t.concurrency_key = keys[nth] AND t.priority < level
                     ORDER BY t.priority DESC LIMIT 1;
                    EXIT WHEN NOT FOUND;
                    -- One of no time was written past the guards, and no claim can make it due.
                    SELECT array_agg(d.id) INTO more
                      FROM (SELECT t.id FROM tasks t
                             WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = ops[nth]
                               AND t.concurrency_key = keys[nth] AND t.priority = level
                               AND t.parked_at BETWEEN -62135596800000000 AND now
                             ORDER BY t.parked_at, t.id
                             LIMIT least(room, places + 1) - cardinality(these)
                               FOR NO KEY UPDATE SKIP LOCKED) d;
                    these := these || coalesce(more, '{}');
                END LOOP;
                IF cardinality(these) > places THEN
                    -- One more than the claim may take was looked for: it has its turn after the other keys.
                    these := these[:places];
                    again[nth] := now;
                ELSIF room > cardinality(these) THEN
                    -- What another session holds just now was passed over: soon once more.
                    PERFORM 1 FROM generate_series(-9, 9) AS p(priority)
                      CROSS JOIN LATERAL (SELECT 1 FROM tasks t
                                           WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = ops[nth]
                                             AND t.concurrency_key = keys[nth] AND t.priority = p.priority
                                             AND t.parked_at BETWEEN -62135596800000000 AND now AND t.id <> ALL (these)
                                           ORDER BY t.parked_at, t.id LIMIT 1) d
                      LIMIT 1;
                    again[nth] := CASE WHEN FOUND THEN now + 100000 END;
                END IF;
            END IF;
            IF again[nth] IS NOT NULL THEN
                INSERT INTO limit_looks (op, due_at, concurrency_key) VALUES (ops[nth], again[nth], keys[nth]);
            END IF;
            UPDATE tasks t SET run_at = t.parked_at, parked_at = NULL WHERE t.id = ANY (these);
            places := places - cardinality(these);
            DELETE FROM limits l WHERE l.op = ops[nth] AND l.concurrency_key = keys[nth] AND l.held < 1;
        END LOOP;
    END LOOP;
END $$;
