-- Tasks, tapes, and what was kept off them. Times are integer microseconds since the Unix epoch.
-- Every script here runs with search_path set to the store's schema; functions keep it (FROM CURRENT).
-- A line "functions: ..." stands for the files of these names in ../functions: see docs/decisions/0004.

CREATE TABLE schema_version (
    version    integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schema_version_pkey PRIMARY KEY (version)
);

-- Which code may go on beside a newer schema: see docs/decisions/0018. Each migration has a row; a line
-- "compatible from N" in its script says what the oldest code knows that may.
CREATE TABLE schema_compatibility (
    version         integer NOT NULL,
    compatible_from integer NOT NULL,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (version)
);

CREATE TABLE tasks (
    id                  bigint           GENERATED ALWAYS AS IDENTITY,
    task_id             uuid             NOT NULL,
    op                  text             NOT NULL,
    status              text             NOT NULL DEFAULT 'pending',
    attempt             integer          NOT NULL DEFAULT 0,
    owner               text,
    params              text             NOT NULL DEFAULT '{}',
    timeout_s           double precision,
    retries             integer          NOT NULL DEFAULT 0,
    retries_spent       integer          NOT NULL DEFAULT 0,
    idempotency_key     text,
    traceparent         text,
    created_at          bigint           NOT NULL,
    run_at              bigint           NOT NULL,
    claimed_at          bigint,
    finished_at         bigint,
    lease_expires_at    bigint,
    cancel_reason       text,
    cancel_message      text,
    cancel_by           text,
    cancel_requested_at bigint,
    error_code          text,
    CONSTRAINT tasks_pkey PRIMARY KEY (id),
    CONSTRAINT tasks_task_id_unique UNIQUE (task_id),
    CONSTRAINT tasks_status_known
        CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'cancelled'))
);

CREATE UNIQUE INDEX tasks_idempotency_key_unique
    ON tasks (op, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_status_task_id ON tasks (status, task_id);
-- Claims of due tasks by op: the oldest of an op stands first, however many others wait or have ended.
CREATE INDEX tasks_due_op ON tasks (op, run_at, id) WHERE status = 'pending';
CREATE INDEX tasks_lease ON tasks (lease_expires_at) WHERE status = 'running';
CREATE INDEX tasks_to_cancel ON tasks (owner)
    WHERE status = 'running' AND cancel_requested_at IS NOT NULL;

-- No foreign key to tasks: its row-level trigger would cost a third of the rate; the guards hold it.
CREATE TABLE events (
    task      bigint  NOT NULL,
    seq       integer NOT NULL,
    attempt   integer NOT NULL,
    offer     integer NOT NULL,
    type      text    NOT NULL,
    ts        bigint  NOT NULL,
    body      text    NOT NULL,
    hash      bytea,
    prev_hash bytea,
    CONSTRAINT events_task_seq_unique PRIMARY KEY (task, seq)
);

-- No foreign key: what is late may be late for a task that was never here.
CREATE TABLE quarantine (
    id       bigint  GENERATED ALWAYS AS IDENTITY,
    task_id  text    NOT NULL,
    attempt  integer NOT NULL,
    offer    integer NOT NULL,
    owner    text    NOT NULL,
    type     text    NOT NULL,
    reason   text    NOT NULL,
    ts       bigint  NOT NULL,
    late_us  bigint,
    trace_id text,
    body     text    NOT NULL,
    CONSTRAINT quarantine_pkey PRIMARY KEY (id),
    CONSTRAINT quarantine_event_unique UNIQUE (task_id, attempt, owner, offer)
);

CREATE INDEX quarantine_task_id_id ON quarantine (task_id, id);

-- The count goes on when the quarantine is full. Tasks unknown past the cap share the id ''.
CREATE TABLE drop_counts (
    task_id    text    NOT NULL,
    attempt    integer NOT NULL,
    reason     text    NOT NULL,
    type       text    NOT NULL,
    outcome    text    NOT NULL,
    n          bigint  NOT NULL,
    last_offer integer NOT NULL,
    CONSTRAINT drop_counts_pkey PRIMARY KEY (task_id, attempt, reason, type, outcome)
);

CREATE INDEX drop_counts_unknown ON drop_counts (n) WHERE reason = 'unknown_task';

-- The last flush of each write lane and what it was answered, so that one that is sent again after
-- its reply was lost is carried out once. SQLite has no such table: its replies cannot be lost.
CREATE TABLE lanes (
    lane    text   NOT NULL,
    number  bigint NOT NULL,
    answer  text,
    touched bigint NOT NULL,
    CONSTRAINT lanes_pkey PRIMARY KEY (lane)
);

-- What the workers of this store can run: see docs/decisions/0009.
CREATE TABLE ops (
    op        text    NOT NULL,
    timeout_s double precision,
    retries   integer NOT NULL,
    told_at   bigint  NOT NULL,
    CONSTRAINT ops_pkey PRIMARY KEY (op)
);

-- `was` and `done` are JSON. Kept for good, also when the task is pruned.
CREATE TABLE repairs (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    repaired_at bigint NOT NULL,
    repaired_by text   NOT NULL,
    rule        text   NOT NULL,
    task_id     text   NOT NULL,
    was         text   NOT NULL,
    done        text   NOT NULL,
    CONSTRAINT repairs_pkey PRIMARY KEY (id)
);

-- One row: which manager does the store's maintenance, until when, and when each job was done last.
CREATE TABLE maintenance (
    id         integer NOT NULL,
    holder     text,
    held_until bigint  NOT NULL DEFAULT 0,
    audited_at bigint  NOT NULL DEFAULT 0,
    pruned_at  bigint  NOT NULL DEFAULT 0,
    CONSTRAINT maintenance_pkey PRIMARY KEY (id),
    CONSTRAINT maintenance_one_row CHECK (id = 1)
);

INSERT INTO maintenance (id) VALUES (1);

-- The clock, and what several of the functions below call.
-- functions: now_us, refuse, time_text, cancelled_final, read_final, drop_reason, foreign_offer

-- The database itself holds the invariants I1 to I5, against any session, not only tapescope's own.
-- Look-ups are LATERAL with a LIMIT and seqscan is off, so that they stay index look-ups whatever a
-- fresh table's missing statistics suggest: a plan is made once a session and kept.
-- What one row can tell of itself is a row trigger with a WHEN: its function runs for a breach only.
-- What needs another row is a statement trigger on the rows written; a call a row would be too slow.
-- functions: guard_appended, guard_changed_event, guard_deleted_events
-- functions: guard_new_task, guard_changed_task, guard_identity, guard_ended_tasks, take_tapes
-- functions: guard_truncated, guard_repairs

CREATE TRIGGER events_follow_predecessor AFTER INSERT ON events
    REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION guard_appended();

CREATE TRIGGER events_never_change BEFORE UPDATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION guard_changed_event();

CREATE TRIGGER events_live_with_task AFTER DELETE ON events
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION guard_deleted_events();

CREATE TRIGGER tasks_begin_pending BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION guard_new_task();

CREATE TRIGGER tasks_change_by_rule AFTER UPDATE ON tasks
    FOR EACH ROW
    WHEN (OLD.status NOT IN ('pending', 'running')
          OR NEW.attempt
             <> OLD.attempt + (OLD.status = 'pending' AND NEW.status = 'running')::integer)
    EXECUTE FUNCTION guard_changed_task();

CREATE TRIGGER tasks_keep_identity
    BEFORE UPDATE OF id, task_id, op, params, idempotency_key, created_at ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();

CREATE TRIGGER tasks_end_with_final AFTER UPDATE ON tasks
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION guard_ended_tasks();

CREATE TRIGGER tasks_take_their_tape AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION take_tapes();

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

CREATE TRIGGER repairs_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON repairs
    FOR EACH STATEMENT EXECUTE FUNCTION guard_repairs();

-- A flush: one call, one transaction, one round trip. The statements inside run one after the other,
-- each on a fresh snapshot, so what is read after the lock is what the last holder of it left.
-- A LATERAL look-up names the key and nothing else, or the planner may prefer a partial index that is
-- small today; what else is asked of the row is asked outside, where the LIMIT keeps it.
-- functions: flush, drop_rows, cancel_task, fence

-- What workers and the maintenance call.
-- functions: claim_due, rescue_expired, repair_task, delete_drops
