-- Counts who holds a slot of a concurrency key: a task that runs, and one that is pending and not parked. More than the
-- op has are refused. A slot that is freed, and a task that is parked, have the key looked at by a claim: a row of its
-- own each, so that who submits locks nothing that who ends a task waits for. Whoever may write tasks counts, so it runs
-- as its owner; nobody else may put it on a table.
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
    taken  integer;
    parked bigint;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        t := OLD;
        had := OLD.status = 'running' OR (OLD.status = 'pending' AND OLD.parked_at IS NULL);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        t := NEW;
        has := NEW.status = 'running' OR (NEW.status = 'pending' AND NEW.parked_at IS NULL);
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
    IF parked IS NOT NULL THEN
        INSERT INTO limit_looks (op, due_at, concurrency_key) VALUES (t.op, parked, t.concurrency_key);
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION count_slots() FROM PUBLIC;
