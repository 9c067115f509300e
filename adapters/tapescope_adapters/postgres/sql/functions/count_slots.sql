-- Counts who holds a slot of a concurrency key: a task that runs, and one that is pending and not parked. More than the
-- op has are refused. A slot that is freed, and a task that is parked, have the key looked at by a claim: a row of its
-- own each, so that who submits locks nothing that who ends a task waits for. Of an op with a rate each attempt that may
-- begin has a row, which goes where none does. Whoever may write tasks counts, so it runs as its owner; nobody else may put
-- it on a table.
CREATE OR REPLACE FUNCTION count_slots() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    t      tasks%ROWTYPE;
    had    boolean := false;
    has    boolean := false;
    waited boolean := false;
    waits  boolean := false;
    taken  integer;
    parked bigint;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        t := OLD;
        waited := OLD.status = 'pending' AND OLD.parked_at IS NULL;
        had := OLD.status = 'running' OR waited;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        t := NEW;
        waits := NEW.status = 'pending' AND NEW.parked_at IS NULL;
        has := NEW.status = 'running' OR waits;
        parked := CASE WHEN NEW.status = 'pending' THEN NEW.parked_at END;
    END IF;
    IF has AND NOT had THEN
        INSERT INTO limits AS l (op, concurrency_key, held) VALUES (t.op, t.concurrency_key, 1)
            ON CONFLICT ON CONSTRAINT limits_pkey DO UPDATE SET held = l.held + 1
        RETURNING l.held INTO taken;
        PERFORM 1 FROM ops o WHERE o.op = t.op AND o.max_concurrent < taken;
        IF FOUND THEN
            PERFORM refuse(format('the concurrency key of task %s has no slot free', t.task_id));
        END IF;
    ELSIF had AND NOT has THEN
        UPDATE limits l SET held = l.held - 1
         WHERE l.op = t.op AND l.concurrency_key = t.concurrency_key
        RETURNING l.held INTO taken;
        IF taken < 1 THEN
            DELETE FROM limits l WHERE l.op = t.op AND l.concurrency_key = t.concurrency_key;
        END IF;
        INSERT INTO limit_looks (op, due_at, concurrency_key)
        SELECT t.op, now_us(), t.concurrency_key
         WHERE EXISTS (SELECT 1 FROM tasks p
                        WHERE p.status = 'pending' AND p.parked_at IS NOT NULL AND p.op = t.op
                          AND p.concurrency_key = t.concurrency_key);
    END IF;
    IF waited AND NOT waits THEN
        DELETE FROM limit_starts s
         WHERE s.op = t.op AND s.concurrency_key = t.concurrency_key AND s.begun_at = 253402300799999999
           AND s.task = t.id;
    END IF;
    IF waits AND NOT waited THEN
        INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
        SELECT t.op, t.concurrency_key, 253402300799999999, t.id
          FROM ops o WHERE o.op = t.op AND o.rate_times IS NOT NULL;
    ELSIF has AND NOT waits AND (waited OR NOT had) THEN
        INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
        SELECT t.op, t.concurrency_key, coalesce(t.claimed_at, 1), t.id
          FROM ops o WHERE o.op = t.op AND o.rate_times IS NOT NULL;
        -- One look for all that a transaction begins at once. That of another one may be taken by now.
        INSERT INTO limit_looks (op, due_at, concurrency_key)
        SELECT t.op, t.claimed_at + o.rate_per_us, t.concurrency_key
          FROM ops o
         WHERE o.op = t.op AND t.claimed_at + o.rate_per_us IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM limit_looks l
                            WHERE l.op = t.op AND l.concurrency_key = t.concurrency_key
                              AND l.due_at = t.claimed_at + o.rate_per_us
                              AND l.xmin = pg_current_xact_id()::xid);
    END IF;
    IF parked IS NOT NULL THEN
        INSERT INTO limit_looks (op, due_at, concurrency_key) VALUES (t.op, parked, t.concurrency_key);
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION count_slots() FROM PUBLIC;
