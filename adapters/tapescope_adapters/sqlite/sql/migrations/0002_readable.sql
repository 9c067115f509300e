-- compatible from 1
-- What a raw session writes can be read back, and blocks nobody: see docs/decisions/0030. A time is
-- microseconds since the Unix epoch, of the years 1 to 9999; a text is greater than any number, so BETWEEN
-- refuses it, too. Each guard of a column fires only where a statement sets it: a row that was damaged
-- before is never in the way of a claim of many.

-- A key that SQLite has not given yet is -1 before the insert, so a row of that key stood in the way of
-- every other. After the insert it is known. SQLite counts on from the highest: that, too, has an end.
DROP TRIGGER events_follow_predecessor;
CREATE TRIGGER events_follow_predecessor BEFORE INSERT ON events
WHEN NOT coalesce(
        (SELECT e.seq = NEW.seq - 1 AND e.type <> 'final'
                AND (e.attempt < NEW.attempt OR (e.attempt = NEW.attempt AND e.offer < NEW.offer))
           FROM events e WHERE e.task = NEW.task ORDER BY e.seq DESC LIMIT 1),
        NEW.seq = 1)
    OR NOT EXISTS (SELECT 1 FROM tasks t
                    WHERE t.id = NEW.task AND t.attempt = NEW.attempt
                      AND (t.status = 'running' OR (t.status = 'pending' AND NEW.type = 'final')))
    OR (NEW.n > 0 AND EXISTS (SELECT 1 FROM events e WHERE e.n = NEW.n))
BEGIN
    SELECT RAISE(ABORT, 'tapescope I1 I3 I4 I5: an event follows the last one of an open tape, from its own attempt');
END;

DROP TRIGGER tasks_begin_pending;
CREATE TRIGGER tasks_begin_pending BEFORE INSERT ON tasks
WHEN NEW.status <> 'pending' OR NEW.attempt <> 0
    OR (NEW.id > 0 AND EXISTS (SELECT 1 FROM tasks t WHERE t.id = NEW.id))
    OR EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = NEW.task_id)
    OR EXISTS (SELECT 1 FROM tasks t
                WHERE t.op = NEW.op AND t.idempotency_key = NEW.idempotency_key)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I2 I4: a task is inserted once, as pending');
END;

DROP TRIGGER repairs_are_new;
CREATE TRIGGER repairs_are_new BEFORE INSERT ON repairs
WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM repairs r WHERE r.id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the repair log never changes');
END;

CREATE TRIGGER events_have_a_key AFTER INSERT ON events
WHEN NEW.n NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the key n of an event is over 0, and given by SQLite');
END;

CREATE TRIGGER tasks_have_a_key AFTER INSERT ON tasks
WHEN NEW.id NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the id of a task is over 0, and given by SQLite');
END;

CREATE TRIGGER repairs_have_a_key AFTER INSERT ON repairs
WHEN NEW.id NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the id of a repair is over 0, and given by SQLite');
END;

CREATE TRIGGER events_can_be_read BEFORE INSERT ON events
WHEN NEW.ts NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR typeof(NEW.offer) <> 'integer'
    OR NOT json_valid(NEW.body)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: an event has a time, a number of its offer, and a body that is JSON');
END;

-- Of two members of the same name json_extract takes the first, and every other reader the last.
CREATE TRIGGER events_final_is_unambiguous BEFORE INSERT ON events
WHEN NEW.type = 'final'
    AND (json_type(NEW.body) <> 'object'
         OR (SELECT count(*) <> count(DISTINCT m.key) FROM json_each(NEW.body) m)
         OR (json_type(NEW.body, '$.error') = 'object'
             AND (SELECT count(*) <> count(DISTINCT m.key) FROM json_each(NEW.body, '$.error') m))
         OR (json_type(NEW.body, '$.cancel') = 'object'
             AND (SELECT count(*) <> count(DISTINCT m.key) FROM json_each(NEW.body, '$.cancel') m)))
BEGIN
    SELECT RAISE(ABORT, 'tapescope I2: a final is a JSON object, no two members of which have one name');
END;

CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
WHEN NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR coalesce(NEW.claimed_at, NEW.finished_at, NEW.lease_expires_at,
                NEW.cancel_requested_at, NEW.cancel_reason) IS NOT NULL
    OR typeof(NEW.retries) <> 'integer'
    OR coalesce(typeof(NEW.timeout_s) NOT IN ('real', 'null'), true)
    OR NOT json_valid(NEW.params)
    OR json_type(NEW.params) <> 'object'
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a new task has two times, numbers, and params that are a JSON object');
END;

CREATE TRIGGER tasks_run_at_is_a_time BEFORE UPDATE OF run_at ON tasks
WHEN NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: run_at is a time in microseconds');
END;

CREATE TRIGGER tasks_claimed_at_is_a_time BEFORE UPDATE OF claimed_at ON tasks
WHEN NEW.claimed_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: claimed_at is a time in microseconds');
END;

CREATE TRIGGER tasks_lease_expires_at_is_a_time BEFORE UPDATE OF lease_expires_at ON tasks
WHEN NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: lease_expires_at is a time in microseconds');
END;

CREATE TRIGGER tasks_finished_at_is_a_time BEFORE UPDATE OF finished_at ON tasks
WHEN NEW.finished_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: finished_at is a time in microseconds');
END;

CREATE TRIGGER tasks_cancel_can_be_read BEFORE UPDATE OF cancel_reason, cancel_requested_at ON tasks
WHEN NEW.cancel_requested_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.cancel_reason NOT IN ('user', 'shutdown', 'superseded')
    OR (NEW.cancel_reason IS NULL) <> (NEW.cancel_requested_at IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a cancel has a time and one of the three reasons');
END;

CREATE TRIGGER quarantine_can_be_read BEFORE INSERT ON quarantine
WHEN NEW.ts NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR typeof(NEW.late_us) NOT IN ('integer', 'null')
    OR NEW.reason NOT IN ('unknown_task', 'stale_attempt', 'duplicate_final', 'after_terminal')
    OR NOT json_valid(NEW.body)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a late event has a time, a known reason, and a body that is JSON');
END;
