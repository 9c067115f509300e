-- The database itself holds the invariants I1 to I5, against any session, not only tapescope's own.
-- Look-ups are LATERAL with a LIMIT and seqscan is off, so that they stay index look-ups whatever a
-- fresh table's missing statistics suggest: a plan is made once a session and kept.
-- What one row can tell of itself is a row trigger with a WHEN: its function runs for a breach only.
-- What needs another row is a statement trigger on the rows written; a call a row would be too slow.

-- Every refusal, with the invariant's number in front.
CREATE FUNCTION refuse(why text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tapescope %', why USING ERRCODE = 'TS001';
END $$;

-- An event follows its predecessor, which is no final, and comes from the task's own attempt (I1, I3,
-- I4, I5). A final sets the task's status (I2). No lock is needed for that: whatever happens to a task
-- puts an event at the end of its tape, and the primary key lets one writer put it there.
CREATE FUNCTION guard_appended() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    finals bigint;
    breach text;
    ended  bigint;
BEGIN
    SELECT count(*) FILTER (WHERE i.type = 'final'),
           min(CASE WHEN (i.seq = 1
                          OR (p.type <> 'final'
                              AND (p.attempt < i.attempt
                                   OR (p.attempt = i.attempt AND p.offer < i.offer))))
                         AND t.attempt = i.attempt
                         AND (t.status = 'running' OR (t.status = 'pending' AND i.type = 'final'))
               THEN NULL
               ELSE CASE WHEN p.type = 'final' THEN 'I1: an event comes after the final'
                         WHEN i.seq <> 1 AND p.type IS NULL THEN 'I3: an event has no predecessor'
                         WHEN t.status IS NULL THEN 'I5: an event has no task'
                         WHEN t.status NOT IN ('pending', 'running') THEN 'I4: the tape is closed'
                         WHEN t.attempt <> i.attempt OR t.status = 'pending'
                         THEN 'I5: the attempt is not the one that runs'
                         ELSE 'I3: an event is offered twice' END
                    || format(' (task %s, event %s)', i.task, i.seq) END)
      INTO finals, breach
      FROM appended i
      LEFT JOIN LATERAL (SELECT e.type, e.attempt, e.offer FROM events e
                          WHERE e.task = i.task AND e.seq = i.seq - 1 LIMIT 1) p ON true
      LEFT JOIN LATERAL (SELECT t.status, t.attempt FROM tasks t
                          WHERE t.id = i.task LIMIT 1) t ON true;
    IF breach IS NOT NULL THEN
        PERFORM refuse(breach);
    END IF;
    IF finals > 0 THEN
        UPDATE tasks t
           SET status = f.outcome, finished_at = f.ts, lease_expires_at = NULL,
               error_code = CASE f.outcome WHEN 'failed' THEN f.code END
          FROM (SELECT i.ts, b.body ->> 'outcome' AS outcome, b.body #>> '{error,code}' AS code, w.at
                  FROM appended i
                 CROSS JOIN LATERAL (SELECT i.body::json AS body) b
                 CROSS JOIN LATERAL (SELECT t.ctid AS at FROM tasks t
                                      WHERE t.id = i.task LIMIT 1) w
                 WHERE i.type = 'final') f
         WHERE t.ctid = f.at AND f.outcome IN ('succeeded', 'failed', 'cancelled');
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended <> finals THEN
            PERFORM refuse('I2: a final says succeeded, failed or cancelled, and ends its task');
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_follow_predecessor AFTER INSERT ON events
    REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION guard_appended();

CREATE FUNCTION guard_changed_event() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I4: an event never changes');
    RETURN NULL;
END $$;

CREATE TRIGGER events_never_change BEFORE UPDATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION guard_changed_event();

CREATE FUNCTION guard_deleted_events() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1
       FROM (SELECT DISTINCT d.task FROM deleted d) g
      CROSS JOIN LATERAL (SELECT 1 FROM tasks t WHERE t.id = g.task LIMIT 1) t
      LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('I4: an event lives as long as its task');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_live_with_task AFTER DELETE ON events
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION guard_deleted_events();

CREATE FUNCTION guard_new_task() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I2: a task is inserted as pending, with no attempt');
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_begin_pending BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION guard_new_task();

-- AFTER, for a row trigger that comes before locks the row even where its WHEN is false.
CREATE FUNCTION guard_changed_task() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF OLD.status NOT IN ('pending', 'running') THEN
        PERFORM refuse(format('I4: task %s has ended and never changes', OLD.task_id));
    END IF;
    PERFORM refuse('I5: the attempt counts up by one when a task is claimed, and only then');
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_change_by_rule AFTER UPDATE ON tasks
    FOR EACH ROW
    WHEN (OLD.status NOT IN ('pending', 'running')
          OR NEW.attempt
             <> OLD.attempt + (OLD.status = 'pending' AND NEW.status = 'running')::integer)
    EXECUTE FUNCTION guard_changed_task();

CREATE FUNCTION guard_identity() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse('I4: a task keeps its id, op, params, key and time of creation');
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_keep_identity
    BEFORE UPDATE OF id, task_id, op, params, idempotency_key, created_at ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();

-- A terminal status stands only beside a final of the same outcome (I2).
CREATE FUNCTION guard_ended_tasks() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1
       FROM changed c
       LEFT JOIN LATERAL (SELECT CASE e.type WHEN 'final' THEN e.body::json ->> 'outcome' END AS outcome
                            FROM events e WHERE e.task = c.id ORDER BY e.seq DESC LIMIT 1) e ON true
      WHERE c.status NOT IN ('pending', 'running') AND e.outcome IS DISTINCT FROM c.status
      LIMIT 1;
    IF FOUND THEN
        PERFORM refuse('I2: a task ends with a final of the same outcome');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_end_with_final AFTER UPDATE ON tasks
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION guard_ended_tasks();

CREATE FUNCTION take_tapes() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    DELETE FROM events WHERE task = ANY (ARRAY(SELECT g.id FROM gone g));
    DELETE FROM drop_counts WHERE task_id = ANY (ARRAY(SELECT g.task_id::text FROM gone g));
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_take_their_tape AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION take_tapes();

CREATE FUNCTION guard_truncated() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM refuse(format('I4: %s is never truncated', TG_TABLE_NAME));
    RETURN NULL;
END $$;

CREATE TRIGGER tasks_no_truncate BEFORE TRUNCATE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER quarantine_no_truncate BEFORE TRUNCATE ON quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER drop_counts_no_truncate BEFORE TRUNCATE ON drop_counts
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER lanes_no_truncate BEFORE TRUNCATE ON lanes
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
