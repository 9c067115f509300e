-- Tasks, tapes, and what was kept off them. Times are integer microseconds since the Unix epoch.
-- Every file here runs with search_path set to the store's schema; functions keep it (FROM CURRENT).

CREATE TABLE schema_version (
    version    integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schema_version_pkey PRIMARY KEY (version)
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
CREATE INDEX tasks_due ON tasks (run_at) WHERE status = 'pending';
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

-- The one clock of the schema.
CREATE FUNCTION now_us() RETURNS bigint
LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
