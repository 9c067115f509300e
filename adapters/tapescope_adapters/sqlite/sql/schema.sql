-- The schema as it stands, to read; nothing applies it. `make docs` makes it from a database that
-- the migrations made: change it there. Why it is as it is stands there, too.

CREATE TABLE attempts_traced (
    task     INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    trace_id TEXT    NOT NULL,
    span_id  TEXT    NOT NULL,
    PRIMARY KEY (task, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_traced_trace_id ON attempts_traced (trace_id, task, attempt);

CREATE TABLE backlog (
    second INTEGER NOT NULL,
    op     TEXT    NOT NULL,
    state  TEXT    NOT NULL,
    n      INTEGER NOT NULL,
    CONSTRAINT backlog_pkey PRIMARY KEY (second, op, state)
) WITHOUT ROWID;

CREATE TABLE drop_counts (
    task_id    TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    n          INTEGER NOT NULL,
    last_offer INTEGER NOT NULL,
    CONSTRAINT drop_counts_pkey PRIMARY KEY (task_id, attempt, reason, type, outcome)
) WITHOUT ROWID;
CREATE INDEX drop_counts_unknown ON drop_counts (n) WHERE reason = 'unknown_task';

CREATE TABLE events (
    n         INTEGER PRIMARY KEY,
    task      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    offer     INTEGER NOT NULL,
    type      TEXT    NOT NULL,
    ts        INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    hash      BLOB,
    prev_hash BLOB,
    CONSTRAINT events_task_seq_unique UNIQUE (task, seq)
);
CREATE TRIGGER events_can_be_read BEFORE INSERT ON events
WHEN NEW.ts NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR typeof(NEW.offer) <> 'integer'
    OR NOT json_valid(NEW.body)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: an event has a time, a number of its offer, and a body that is JSON');
END;
CREATE TRIGGER events_final_ends_task AFTER INSERT ON events
WHEN NEW.type = 'final'
BEGIN
    UPDATE tasks
       SET status = json_extract(NEW.body, '$.outcome'), finished_at = NEW.ts, lease_expires_at = NULL,
           error_code = CASE json_extract(NEW.body, '$.outcome') WHEN 'failed'
                        THEN json_extract(NEW.body, '$.error.code') END
     WHERE id = NEW.task;
END;
CREATE TRIGGER events_final_has_outcome BEFORE INSERT ON events
WHEN NEW.type = 'final'
    AND coalesce(json_extract(NEW.body, '$.outcome'), '') NOT IN ('succeeded', 'failed', 'cancelled')
BEGIN
    SELECT RAISE(ABORT, 'tapescope I2: a final says succeeded, failed or cancelled');
END;
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
CREATE TRIGGER events_have_a_key AFTER INSERT ON events
WHEN NEW.n NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the key n of an event is over 0, and given by SQLite');
END;
CREATE TRIGGER events_live_with_task BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM tasks t WHERE t.id = OLD.task)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: an event lives as long as its task');
END;
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: an event never changes');
END;
CREATE TRIGGER events_take_message AFTER INSERT ON events
WHEN NEW.type = 'message_taken'
BEGIN
    UPDATE messages SET taken_seq = NEW.seq
     WHERE task = NEW.task AND n = json_extract(NEW.body, '$.n') AND taken_seq IS NULL;
    SELECT RAISE(ABORT, 'tapescope: a message is taken once, from the inbox of its task') WHERE changes() <> 1;
END;

CREATE TABLE limit_looks (
    op              TEXT    NOT NULL,
    due_at          INTEGER NOT NULL,
    concurrency_key TEXT    NOT NULL,
    PRIMARY KEY (op, due_at, concurrency_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_looks_of_key ON limit_looks (op, concurrency_key, due_at);

CREATE TABLE limit_starts (
    op              TEXT    NOT NULL,
    concurrency_key TEXT    NOT NULL,
    begun_at        INTEGER NOT NULL,
    task            INTEGER NOT NULL
) STRICT;
CREATE INDEX limit_starts_of_key ON limit_starts (op, concurrency_key, begun_at, task);

CREATE TABLE limits (
    op              TEXT    NOT NULL,
    concurrency_key TEXT    NOT NULL,
    held            INTEGER NOT NULL,
    PRIMARY KEY (op, concurrency_key)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER limits_are_kept BEFORE UPDATE OF held ON limits
WHEN NEW.held > OLD.held AND NEW.held > (SELECT o.max_concurrent FROM ops o WHERE o.op = NEW.op)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the concurrency key has no slot free');
END;

CREATE TABLE maintenance (
    id         INTEGER PRIMARY KEY,
    holder     TEXT,
    held_until INTEGER NOT NULL DEFAULT 0,
    audited_at INTEGER NOT NULL DEFAULT 0,
    pruned_at  INTEGER NOT NULL DEFAULT 0, firing_holder TEXT, firing_until INTEGER NOT NULL DEFAULT 0, store_id TEXT,
    CONSTRAINT maintenance_one_row CHECK (id = 1)
);

CREATE TABLE messages (
    task      INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    key       TEXT    NOT NULL,
    body      TEXT    NOT NULL,
    sent_at   INTEGER NOT NULL,
    taken_seq INTEGER,
    PRIMARY KEY (task, n),
    UNIQUE (task, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_untaken ON messages (task) WHERE taken_seq IS NULL;
CREATE TRIGGER messages_are_new BEFORE INSERT ON messages
WHEN NEW.taken_seq IS NOT NULL
    OR EXISTS (SELECT 1 FROM messages m WHERE m.task = NEW.task AND m.n = NEW.n)
    OR EXISTS (SELECT 1 FROM messages m WHERE m.task = NEW.task AND m.key = NEW.key)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message has a number and a key of its own, and is not taken yet');
END;
CREATE TRIGGER messages_can_be_read BEFORE INSERT ON messages
WHEN NEW.sent_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NOT json_valid(NEW.body)
    OR NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = NEW.task AND t.status IN ('pending', 'running'))
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message has a time, a body that is JSON, and a task that has not ended');
END;
CREATE TRIGGER messages_live_with_task BEFORE DELETE ON messages
WHEN EXISTS (SELECT 1 FROM tasks t WHERE t.id = OLD.task)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message lives as long as its task');
END;
CREATE TRIGGER messages_stay BEFORE UPDATE OF task, n, key, body, sent_at ON messages
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message is what was sent');
END;
CREATE TRIGGER messages_taken_by_event BEFORE UPDATE OF taken_seq ON messages
WHEN OLD.taken_seq IS NOT NULL
    OR NOT EXISTS (SELECT 1 FROM events e
                    WHERE e.task = NEW.task AND e.seq = NEW.taken_seq AND e.type = 'message_taken'
                      AND json_extract(e.body, '$.n') = NEW.n)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message is taken once, by the event that says so');
END;

CREATE TABLE ops (
    op        TEXT    NOT NULL,
    timeout_s REAL,
    retries   INTEGER NOT NULL,
    told_at   INTEGER NOT NULL, priority INTEGER NOT NULL DEFAULT 0, max_concurrent INTEGER, queue TEXT NOT NULL DEFAULT 'default', max_waiting INTEGER, expires_s REAL, rate_times INTEGER, rate_per_us INTEGER,
    CONSTRAINT ops_pkey PRIMARY KEY (op)
) WITHOUT ROWID;
CREATE TRIGGER ops_change_slots AFTER UPDATE OF max_concurrent, rate_times, rate_per_us ON ops
WHEN NEW.max_concurrent IS NOT OLD.max_concurrent
    OR NEW.rate_times IS NOT OLD.rate_times
    OR NEW.rate_per_us IS NOT OLD.rate_per_us
BEGIN
    INSERT INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, 1, k.concurrency_key
      FROM (SELECT l.concurrency_key FROM limits l WHERE l.op = NEW.op
             UNION
            SELECT s.concurrency_key FROM limit_starts s WHERE s.op = NEW.op) AS k
     WHERE NOT EXISTS (SELECT 1 FROM limit_looks d
                        WHERE d.op = NEW.op AND d.due_at = 1 AND d.concurrency_key = k.concurrency_key);
    DELETE FROM limit_starts WHERE op = NEW.op AND NEW.rate_times IS NULL;
END;

CREATE TABLE pauses (
    op        TEXT    NOT NULL PRIMARY KEY,
    paused_at INTEGER NOT NULL,
    paused_by TEXT,
    reason    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id  TEXT    NOT NULL,
    attempt  INTEGER NOT NULL,
    offer    INTEGER NOT NULL,
    owner    TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    ts       INTEGER NOT NULL,
    late_us  INTEGER,
    trace_id TEXT,
    body     TEXT    NOT NULL,
    CONSTRAINT quarantine_event_unique UNIQUE (task_id, attempt, owner, offer)
);
CREATE TRIGGER quarantine_can_be_read BEFORE INSERT ON quarantine
WHEN NEW.ts NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR typeof(NEW.late_us) NOT IN ('integer', 'null')
    OR NEW.reason NOT IN ('unknown_task', 'stale_attempt', 'duplicate_final', 'after_terminal')
    OR NOT json_valid(NEW.body)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a late event has a time, a known reason, and a body that is JSON');
END;

CREATE TABLE repairs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    repaired_at INTEGER NOT NULL,
    repaired_by TEXT    NOT NULL,
    rule        TEXT    NOT NULL,
    task_id     TEXT    NOT NULL,
    was         TEXT    NOT NULL,
    done        TEXT    NOT NULL
);
CREATE TRIGGER repairs_are_new BEFORE INSERT ON repairs
WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM repairs r WHERE r.id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the repair log never changes');
END;
CREATE TRIGGER repairs_have_a_key AFTER INSERT ON repairs
WHEN NEW.id NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the id of a repair is over 0, and given by SQLite');
END;
CREATE TRIGGER repairs_never_change BEFORE UPDATE ON repairs
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the repair log never changes');
END;
CREATE TRIGGER repairs_stay BEFORE DELETE ON repairs
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the repair log is never deleted from');
END;

CREATE TABLE schedules (
    name       TEXT    NOT NULL PRIMARY KEY,
    op         TEXT    NOT NULL,
    params     TEXT    NOT NULL,
    timeout_s  REAL,
    retries    INTEGER,
    cron       TEXT,
    every_s    REAL,
    time_zone  TEXT    NOT NULL,
    catch_up   TEXT    NOT NULL,
    overlap    TEXT    NOT NULL,
    origin     TEXT    NOT NULL,
    paused     INTEGER NOT NULL,
    next_at    INTEGER,
    last_at    INTEGER,
    last_task  TEXT,
    created_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL
, priority INTEGER, tags TEXT, queue TEXT, expires_s REAL) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next_at, name) WHERE NOT paused;

CREATE TABLE schema_compatibility (
    version         INTEGER NOT NULL,
    compatible_from INTEGER NOT NULL,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (version)
);

CREATE TABLE tagged (
    tag     TEXT NOT NULL,
    task_id TEXT NOT NULL,
    CONSTRAINT tagged_pkey PRIMARY KEY (tag, task_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id             TEXT    NOT NULL,
    op                  TEXT    NOT NULL,
    status              TEXT    NOT NULL DEFAULT 'pending',
    attempt             INTEGER NOT NULL DEFAULT 0,
    owner               TEXT,
    params              TEXT    NOT NULL DEFAULT '{}',
    timeout_s           REAL,
    retries             INTEGER NOT NULL DEFAULT 0,
    retries_spent       INTEGER NOT NULL DEFAULT 0,
    idempotency_key     TEXT,
    traceparent         TEXT,
    created_at          INTEGER NOT NULL,
    run_at              INTEGER NOT NULL,
    claimed_at          INTEGER,
    finished_at         INTEGER,
    lease_expires_at    INTEGER,
    cancel_reason       TEXT,
    cancel_message      TEXT,
    cancel_by           TEXT,
    cancel_requested_at INTEGER,
    error_code          TEXT, cancel_traceparent TEXT, priority INTEGER NOT NULL DEFAULT 0
    CONSTRAINT tasks_priority_known CHECK (typeof(priority) = 'integer' AND priority BETWEEN -9 AND 9), tags TEXT, parent_id TEXT, cancel_with_parent INTEGER NOT NULL DEFAULT 0, unique_key TEXT, concurrency_key TEXT, parked_at INTEGER, engine TEXT NOT NULL DEFAULT '', confirm_at INTEGER NOT NULL DEFAULT 0, queue TEXT NOT NULL DEFAULT 'default'
    CONSTRAINT tasks_queue_known CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 128), expires_in INTEGER
    CONSTRAINT tasks_expires_in_known CHECK (typeof(expires_in) IN ('integer', 'null') AND expires_in BETWEEN 1 AND 253402300799999999),
    CONSTRAINT tasks_task_id_unique UNIQUE (task_id),
    CONSTRAINT tasks_status_known
        CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'cancelled'))
);
CREATE INDEX tasks_bound ON tasks (lease_expires_at)
    WHERE status = 'pending' AND lease_expires_at IS NOT NULL;
CREATE INDEX tasks_due_op ON tasks (op, engine, priority DESC, run_at) WHERE status = 'pending';
CREATE INDEX tasks_due_queue ON tasks (op, queue, priority DESC, run_at) WHERE status = 'pending' AND engine = '';
CREATE INDEX tasks_expiring ON tasks (coalesce(parked_at, run_at) + expires_in)
    WHERE status = 'pending' AND attempt = 0 AND expires_in IS NOT NULL;
CREATE INDEX tasks_follow ON tasks (parent_id, task_id)
    WHERE cancel_with_parent AND parent_id IS NOT NULL AND cancel_requested_at IS NULL
      AND status IN ('pending', 'running');
CREATE UNIQUE INDEX tasks_idempotency_key_unique
    ON tasks (idempotency_key, op) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_lease ON tasks (lease_expires_at) WHERE status = 'running';
CREATE INDEX tasks_parent ON tasks (parent_id, task_id) WHERE parent_id IS NOT NULL;
CREATE INDEX tasks_parked ON tasks (op, concurrency_key, priority DESC, parked_at)
    WHERE status = 'pending' AND parked_at IS NOT NULL;
CREATE INDEX tasks_status_task_id ON tasks (status, task_id);
CREATE INDEX tasks_to_cancel ON tasks (owner)
    WHERE status = 'running' AND cancel_requested_at IS NOT NULL;
CREATE INDEX tasks_to_confirm ON tasks (engine, confirm_at) WHERE status = 'pending' AND engine <> '';
CREATE UNIQUE INDEX tasks_unique_key_open ON tasks (unique_key, op)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running');
CREATE TRIGGER tasks_are_tagged AFTER INSERT ON tasks
WHEN NEW.tags IS NOT NULL
BEGIN
    INSERT INTO tagged (tag, task_id) SELECT value, NEW.task_id FROM json_each(NEW.tags) WHERE true
        ON CONFLICT (tag, task_id) DO NOTHING;
END;
CREATE TRIGGER tasks_begin_parked BEFORE INSERT ON tasks
WHEN (NEW.concurrency_key IS NOT NULL AND NEW.parked_at IS NULL)
    OR (NEW.parked_at IS NOT NULL
        AND (NEW.run_at <> 253402300799999999
             OR typeof(NEW.parked_at) <> 'integer'
             OR NEW.parked_at NOT BETWEEN -62135596800000000 AND 253402300799999999))
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a task with a concurrency key is parked until a claim gives it a slot: its run_at is 253402300799999999, and parked_at is the time at which it is due');
END;
CREATE TRIGGER tasks_begin_pending BEFORE INSERT ON tasks
WHEN NEW.status <> 'pending' OR NEW.attempt <> 0
    OR (NEW.id > 0 AND EXISTS (SELECT 1 FROM tasks t WHERE t.id = NEW.id))
    OR EXISTS (SELECT 1 FROM tasks t WHERE t.task_id = NEW.task_id)
    OR EXISTS (SELECT 1 FROM tasks t
                WHERE t.op = NEW.op AND t.idempotency_key = NEW.idempotency_key)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I2 I4: a task is inserted once, as pending');
END;
CREATE TRIGGER tasks_begin_start AFTER UPDATE OF status ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND NEW.status = 'running' AND OLD.status <> 'running'
BEGIN
    DELETE FROM limit_starts
     WHERE op = NEW.op AND concurrency_key = NEW.concurrency_key AND begun_at = 253402300799999999
       AND task = NEW.id;
    INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
    SELECT NEW.op, NEW.concurrency_key, coalesce(NEW.claimed_at, 1), NEW.id
      FROM ops o WHERE o.op = NEW.op AND o.rate_times IS NOT NULL;
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, NEW.claimed_at + o.rate_per_us, NEW.concurrency_key
      FROM ops o WHERE o.op = NEW.op AND NEW.claimed_at + o.rate_per_us IS NOT NULL;
END;
CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
WHEN NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR coalesce(NEW.claimed_at, NEW.finished_at, NEW.cancel_requested_at, NEW.cancel_reason) IS NOT NULL
    OR typeof(NEW.lease_expires_at) NOT IN ('integer', 'null')
    OR typeof(NEW.retries) <> 'integer'
    OR coalesce(typeof(NEW.timeout_s) NOT IN ('real', 'null'), true)
    OR NOT json_valid(NEW.params)
    OR json_type(NEW.params) <> 'object'
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a new task has its times, numbers, and params that are a JSON object');
END;
CREATE TRIGGER tasks_cancel_can_be_read BEFORE UPDATE OF cancel_reason, cancel_requested_at ON tasks
WHEN NEW.cancel_requested_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.cancel_reason NOT IN ('user', 'shutdown', 'superseded', 'expired')
    OR (NEW.cancel_reason IS NULL) <> (NEW.cancel_requested_at IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a cancel has a time and one of the four reasons');
END;
CREATE TRIGGER tasks_claimed_at_is_a_time BEFORE UPDATE OF claimed_at ON tasks
WHEN NEW.claimed_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: claimed_at is a time in microseconds');
END;
CREATE TRIGGER tasks_count_attempts BEFORE UPDATE OF status, attempt ON tasks
WHEN NEW.attempt <> OLD.attempt + (OLD.status = 'pending' AND NEW.status = 'running')
BEGIN
    SELECT RAISE(ABORT, 'tapescope I5: the attempt counts up by one when a task is claimed, and only then');
END;
CREATE TRIGGER tasks_count_deleted_pending AFTER DELETE ON tasks
WHEN OLD.status = 'pending'
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, OLD.op,
           (CASE WHEN OLD.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN OLD.attempt > 0 THEN 'retrying'
                    WHEN OLD.run_at > OLD.created_at THEN 'scheduled' ELSE 'due' END),
           -1
      FROM (SELECT CASE WHEN OLD.attempt > 0 OR OLD.run_at > OLD.created_at
                THEN max(CAST(OLD.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE OLD.attempt > 0 OR OLD.run_at > OLD.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, 'gone', 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_deleted_running AFTER DELETE ON tasks
WHEN OLD.status = 'running'
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, OLD.status, -1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, 'gone', 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_new AFTER INSERT ON tasks
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, NEW.op,
           (CASE WHEN NEW.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN NEW.attempt > 0 THEN 'retrying'
                    WHEN NEW.run_at > NEW.created_at THEN 'scheduled' ELSE 'due' END),
           1
      FROM (SELECT CASE WHEN NEW.attempt > 0 OR NEW.run_at > NEW.created_at
                THEN max(CAST(NEW.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE NEW.attempt > 0 OR NEW.run_at > NEW.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_not_pending AFTER UPDATE OF status, attempt, run_at, lease_expires_at ON tasks
WHEN OLD.status = 'pending'
    AND (OLD.status, OLD.attempt, OLD.run_at, OLD.lease_expires_at IS NULL)
           IS NOT (NEW.status, NEW.attempt, NEW.run_at, NEW.lease_expires_at IS NULL)
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, OLD.op,
           (CASE WHEN OLD.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN OLD.attempt > 0 THEN 'retrying'
                    WHEN OLD.run_at > OLD.created_at THEN 'scheduled' ELSE 'due' END),
           -1
      FROM (SELECT CASE WHEN OLD.attempt > 0 OR OLD.run_at > OLD.created_at
                THEN max(CAST(OLD.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE OLD.attempt > 0 OR OLD.run_at > OLD.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_not_running AFTER UPDATE OF status ON tasks
WHEN OLD.status = 'running' AND NEW.status <> 'running'
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, OLD.status, -1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_pending AFTER UPDATE OF status, attempt, run_at, lease_expires_at ON tasks
WHEN NEW.status = 'pending'
    AND (OLD.status, OLD.attempt, OLD.run_at, OLD.lease_expires_at IS NULL)
           IS NOT (NEW.status, NEW.attempt, NEW.run_at, NEW.lease_expires_at IS NULL)
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, NEW.op,
           (CASE WHEN NEW.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN NEW.attempt > 0 THEN 'retrying'
                    WHEN NEW.run_at > NEW.created_at THEN 'scheduled' ELSE 'due' END),
           1
      FROM (SELECT CASE WHEN NEW.attempt > 0 OR NEW.run_at > NEW.created_at
                THEN max(CAST(NEW.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE NEW.attempt > 0 OR NEW.run_at > NEW.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_count_status AFTER UPDATE OF status ON tasks
WHEN NEW.status <> 'pending' AND NEW.status <> OLD.status
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, NEW.op, NEW.status, 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER tasks_end_with_final BEFORE UPDATE OF status ON tasks
WHEN NEW.status NOT IN ('pending', 'running')
    AND NOT EXISTS (SELECT 1 FROM (SELECT e.type, e.body FROM events e WHERE e.task = NEW.id
                                    ORDER BY e.seq DESC LIMIT 1) AS last
                     WHERE last.type = 'final'
                       AND json_extract(last.body, '$.outcome') = NEW.status)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I2: a task ends with a final of the same outcome');
END;
CREATE TRIGGER tasks_finished_at_is_a_time BEFORE UPDATE OF finished_at ON tasks
WHEN NEW.finished_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: finished_at is a time in microseconds');
END;
CREATE TRIGGER tasks_free_slot AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL
    AND (OLD.status = 'running' OR (OLD.status = 'pending' AND OLD.parked_at IS NULL))
    AND NOT (NEW.status = 'running' OR (NEW.status = 'pending' AND NEW.parked_at IS NULL))
BEGIN
    UPDATE limits SET held = held - 1 WHERE op = NEW.op AND concurrency_key = NEW.concurrency_key;
    DELETE FROM limits WHERE op = NEW.op AND concurrency_key = NEW.concurrency_key AND held < 1;
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, coalesce(OLD.claimed_at, 1), NEW.concurrency_key
     WHERE EXISTS (SELECT 1 FROM tasks t INDEXED BY tasks_parked
                    WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = NEW.op
                      AND t.concurrency_key = NEW.concurrency_key);
END;
CREATE TRIGGER tasks_free_slot_deleted AFTER DELETE ON tasks
WHEN OLD.concurrency_key IS NOT NULL
    AND (OLD.status = 'running' OR (OLD.status = 'pending' AND OLD.parked_at IS NULL))
BEGIN
    UPDATE limits SET held = held - 1 WHERE op = OLD.op AND concurrency_key = OLD.concurrency_key;
    DELETE FROM limits WHERE op = OLD.op AND concurrency_key = OLD.concurrency_key AND held < 1;
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT OLD.op, coalesce(OLD.claimed_at, 1), OLD.concurrency_key
     WHERE EXISTS (SELECT 1 FROM tasks t INDEXED BY tasks_parked
                    WHERE t.status = 'pending' AND t.parked_at IS NOT NULL AND t.op = OLD.op
                      AND t.concurrency_key = OLD.concurrency_key);
END;
CREATE TRIGGER tasks_give_start AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND NEW.status = 'pending' AND NEW.parked_at IS NULL
    AND NOT (OLD.status = 'pending' AND OLD.parked_at IS NULL)
BEGIN
    INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
    SELECT NEW.op, NEW.concurrency_key, 253402300799999999, NEW.id
      FROM ops o WHERE o.op = NEW.op AND o.rate_times IS NOT NULL;
END;
CREATE TRIGGER tasks_have_a_key AFTER INSERT ON tasks
WHEN NEW.id NOT BETWEEN 1 AND 9007199254740991
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the id of a task is over 0, and given by SQLite');
END;
CREATE TRIGGER tasks_hold_slot AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL
    AND (NEW.status = 'running' OR (NEW.status = 'pending' AND NEW.parked_at IS NULL))
    AND NOT (OLD.status = 'running' OR (OLD.status = 'pending' AND OLD.parked_at IS NULL))
BEGIN
    INSERT INTO limits (op, concurrency_key, held) VALUES (NEW.op, NEW.concurrency_key, 1)
        ON CONFLICT (op, concurrency_key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER tasks_hold_slot_new AFTER INSERT ON tasks
WHEN NEW.concurrency_key IS NOT NULL
BEGIN
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, NEW.parked_at, NEW.concurrency_key WHERE NEW.parked_at IS NOT NULL;
    INSERT INTO limits (op, concurrency_key, held)
    SELECT NEW.op, NEW.concurrency_key, 1 WHERE NEW.parked_at IS NULL
        ON CONFLICT (op, concurrency_key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER tasks_keep_concurrency_key BEFORE UPDATE OF concurrency_key ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its concurrency key');
END;
CREATE TRIGGER tasks_keep_context BEFORE UPDATE OF tags, parent_id ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its tags and its parent');
END;
CREATE TRIGGER tasks_keep_identity
BEFORE UPDATE OF id, task_id, op, params, idempotency_key, created_at ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its id, op, params and key');
END;
CREATE TRIGGER tasks_keep_unique_key BEFORE UPDATE OF unique_key ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its unique key');
END;
CREATE TRIGGER tasks_lease_expires_at_is_a_time BEFORE UPDATE OF lease_expires_at ON tasks
WHEN NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: lease_expires_at is a time in microseconds');
END;
CREATE TRIGGER tasks_look_when_due AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND NEW.status = 'pending' AND NEW.parked_at IS NOT NULL
    AND (OLD.status <> 'pending' OR OLD.parked_at IS NOT NEW.parked_at)
BEGIN
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    VALUES (NEW.op, NEW.parked_at, NEW.concurrency_key);
END;
CREATE TRIGGER tasks_parked_is_not_due BEFORE UPDATE OF run_at, parked_at ON tasks
WHEN NEW.parked_at IS NOT NULL
    AND (NEW.run_at IS NOT OLD.run_at OR NEW.parked_at IS NOT OLD.parked_at)
    AND (NEW.run_at <> 253402300799999999
         OR typeof(NEW.parked_at) <> 'integer'
         OR NEW.parked_at NOT BETWEEN -62135596800000000 AND 253402300799999999)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a task with a concurrency key is parked until a claim gives it a slot: its run_at is 253402300799999999, and parked_at is the time at which it is due');
END;
CREATE TRIGGER tasks_run_at_is_a_time BEFORE UPDATE OF run_at ON tasks
WHEN NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
BEGIN
    SELECT RAISE(ABORT, 'tapescope: run_at is a time in microseconds');
END;
CREATE TRIGGER tasks_tags_are_a_list BEFORE INSERT ON tasks
WHEN NEW.tags IS NOT NULL AND (NOT json_valid(NEW.tags) OR json_type(NEW.tags) <> 'array')
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the tags of a task are a JSON list');
END;
CREATE TRIGGER tasks_take_start_back AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND OLD.status = 'pending' AND OLD.parked_at IS NULL
    AND NOT (NEW.status = 'running' OR (NEW.status = 'pending' AND NEW.parked_at IS NULL))
BEGIN
    DELETE FROM limit_starts
     WHERE op = NEW.op AND concurrency_key = NEW.concurrency_key AND begun_at = 253402300799999999
       AND task = NEW.id;
END;
CREATE TRIGGER tasks_take_start_deleted AFTER DELETE ON tasks
WHEN OLD.concurrency_key IS NOT NULL AND OLD.status = 'pending' AND OLD.parked_at IS NULL
BEGIN
    DELETE FROM limit_starts
     WHERE op = OLD.op AND concurrency_key = OLD.concurrency_key AND begun_at = 253402300799999999
       AND task = OLD.id;
END;
CREATE TRIGGER tasks_take_their_messages AFTER DELETE ON tasks
BEGIN
    DELETE FROM messages WHERE task = OLD.id;
END;
CREATE TRIGGER tasks_take_their_tags AFTER DELETE ON tasks
WHEN OLD.tags IS NOT NULL
BEGIN
    DELETE FROM tagged
     WHERE task_id = OLD.task_id
       AND tag IN (SELECT value FROM json_each(CASE WHEN json_valid(OLD.tags) THEN OLD.tags ELSE '[]' END));
END;
CREATE TRIGGER tasks_take_their_tape AFTER DELETE ON tasks
BEGIN
    DELETE FROM events WHERE task = OLD.id;
    DELETE FROM drop_counts WHERE task_id = OLD.task_id;
END;
CREATE TRIGGER tasks_take_their_traces AFTER DELETE ON tasks
BEGIN
    DELETE FROM attempts_traced WHERE task = OLD.id;
END;
CREATE TRIGGER tasks_terminal_never_change BEFORE UPDATE ON tasks
WHEN OLD.status NOT IN ('pending', 'running')
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task that has ended never changes');
END;
CREATE TRIGGER tasks_unique_key_is_free BEFORE INSERT ON tasks
WHEN EXISTS (SELECT 1 FROM tasks t
              WHERE t.op = NEW.op AND t.unique_key = NEW.unique_key AND t.status IN ('pending', 'running'))
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: an open task of the op has this unique key');
END;

CREATE TABLE workers (
    owner TEXT    NOT NULL,
    until INTEGER NOT NULL,
    ops   TEXT    NOT NULL, since INTEGER, heard_at INTEGER, drained_at INTEGER, drained_by TEXT, drain_reason TEXT, queues TEXT,
    CONSTRAINT workers_pkey PRIMARY KEY (owner)
) WITHOUT ROWID;
