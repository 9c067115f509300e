-- The schema as it stands, to read; nothing applies it. `make docs` makes it from a database that
-- the migrations made: change it there. Why it is as it is stands there, too, and in functions/. The audit goes by this file.

CREATE TABLE attempts_traced (
    task     bigint  NOT NULL,
    attempt  integer NOT NULL,
    trace_id text    NOT NULL,
    span_id  text    NOT NULL,
    CONSTRAINT attempts_traced_pkey PRIMARY KEY (task, attempt),
    CONSTRAINT attempts_traced_task_fkey FOREIGN KEY (task) REFERENCES tasks(id) ON DELETE CASCADE
);
CREATE INDEX attempts_traced_trace_id ON attempts_traced (trace_id, task, attempt);

CREATE TABLE backlog (
    second bigint NOT NULL,
    op     text   NOT NULL,
    state  text   NOT NULL,
    n      bigint NOT NULL,
    CONSTRAINT backlog_pkey PRIMARY KEY (second, op, state)
);
CREATE TRIGGER backlog_no_truncate BEFORE TRUNCATE ON backlog
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE backlog_moves (
    op     text   NOT NULL,
    state  text   NOT NULL,
    second bigint NOT NULL,
    n      bigint NOT NULL
);
CREATE TRIGGER backlog_moves_no_truncate BEFORE TRUNCATE ON backlog_moves
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE backlog_snapshot (
    id      integer NOT NULL,
    made_at bigint  NOT NULL DEFAULT 0,
    facts   text    NOT NULL DEFAULT '[]',
    CONSTRAINT backlog_snapshot_pkey PRIMARY KEY (id),
    CONSTRAINT backlog_snapshot_one_row CHECK (id = 1)
);

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
CREATE TRIGGER drop_counts_no_truncate BEFORE TRUNCATE ON drop_counts
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

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
    CONSTRAINT events_task_seq_unique PRIMARY KEY (task, seq),
    CONSTRAINT events_body_is_json CHECK (
CASE type
    WHEN 'final' THEN body IS JSON OBJECT WITH UNIQUE KEYS
    ELSE body IS JSON
END) NOT VALID,
    CONSTRAINT events_ts_is_a_time CHECK (ts >= '-62135596800000000'::bigint AND ts <= '253402300799999999'::bigint) NOT VALID
);
CREATE TRIGGER events_follow_predecessor AFTER INSERT ON events
    REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_appended();
CREATE TRIGGER events_live_with_task AFTER DELETE ON events
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_deleted_events();
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_changed_event();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE lanes (
    lane    text   NOT NULL,
    number  bigint NOT NULL,
    answer  text,
    touched bigint NOT NULL,
    CONSTRAINT lanes_pkey PRIMARY KEY (lane)
);
CREATE TRIGGER lanes_no_truncate BEFORE TRUNCATE ON lanes
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE limit_looks (
    op              text   NOT NULL,
    due_at          bigint NOT NULL,
    concurrency_key text   NOT NULL
);
CREATE INDEX limit_looks_due ON limit_looks (op, due_at);
CREATE INDEX limit_looks_of_key ON limit_looks (op, concurrency_key, due_at);
CREATE TRIGGER limit_looks_no_truncate BEFORE TRUNCATE ON limit_looks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE limit_starts (
    op              text   NOT NULL,
    concurrency_key text   NOT NULL,
    begun_at        bigint NOT NULL,
    task            bigint NOT NULL
);
CREATE INDEX limit_starts_of_key ON limit_starts (op, concurrency_key, begun_at, task);
CREATE TRIGGER limit_starts_no_truncate BEFORE TRUNCATE ON limit_starts
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE limits (
    op              text    NOT NULL,
    concurrency_key text    NOT NULL,
    held            integer NOT NULL,
    CONSTRAINT limits_pkey PRIMARY KEY (op, concurrency_key)
);
CREATE TRIGGER limits_no_truncate BEFORE TRUNCATE ON limits
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

CREATE TABLE maintenance (
    id            integer NOT NULL,
    holder        text,
    held_until    bigint  NOT NULL DEFAULT 0,
    audited_at    bigint  NOT NULL DEFAULT 0,
    pruned_at     bigint  NOT NULL DEFAULT 0,
    firing_holder text,
    firing_until  bigint  NOT NULL DEFAULT 0,
    store_id      text,
    CONSTRAINT maintenance_pkey PRIMARY KEY (id),
    CONSTRAINT maintenance_one_row CHECK (id = 1)
);

CREATE TABLE messages (
    task      bigint  NOT NULL,
    n         integer NOT NULL,
    key       text    NOT NULL,
    body      text    NOT NULL,
    sent_at   bigint  NOT NULL,
    taken_seq integer,
    CONSTRAINT messages_pkey PRIMARY KEY (task, n),
    CONSTRAINT messages_key_unique UNIQUE (task, key),
    CONSTRAINT messages_task_fkey FOREIGN KEY (task) REFERENCES tasks(id) ON DELETE CASCADE
);
CREATE INDEX messages_untaken ON messages (task) WHERE taken_seq IS NULL;
CREATE TRIGGER messages_can_be_read BEFORE INSERT OR UPDATE OF task, n, key, body, sent_at ON messages
    FOR EACH ROW
    EXECUTE FUNCTION guard_message();
CREATE TRIGGER messages_no_truncate BEFORE TRUNCATE ON messages
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER messages_taken_by_event BEFORE DELETE OR UPDATE OF taken_seq ON messages
    FOR EACH ROW
    EXECUTE FUNCTION guard_taken_message();

CREATE TABLE ops (
    op             text             NOT NULL,
    timeout_s      double precision,
    retries        integer          NOT NULL,
    told_at        bigint           NOT NULL,
    priority       smallint         NOT NULL DEFAULT 0,
    max_concurrent integer,
    queue          text             NOT NULL DEFAULT 'default',
    max_waiting    integer,
    expires_s      double precision,
    rate_times     integer,
    rate_per_us    bigint,
    CONSTRAINT ops_pkey PRIMARY KEY (op)
);
CREATE TRIGGER ops_change_rate AFTER UPDATE ON ops
    FOR EACH ROW
    WHEN (old.rate_times IS DISTINCT FROM new.rate_times OR old.rate_per_us IS DISTINCT FROM new.rate_per_us)
    EXECUTE FUNCTION look_at_op();
CREATE TRIGGER ops_change_slots AFTER UPDATE ON ops
    FOR EACH ROW
    WHEN (old.max_concurrent IS DISTINCT FROM new.max_concurrent)
    EXECUTE FUNCTION look_at_op();

CREATE TABLE pauses (
    op        text   NOT NULL,
    paused_at bigint NOT NULL,
    paused_by text,
    reason    text   NOT NULL,
    CONSTRAINT pauses_pkey PRIMARY KEY (op)
);

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
    CONSTRAINT quarantine_body_is_json CHECK (body IS JSON) NOT VALID,
    CONSTRAINT quarantine_event_unique UNIQUE (task_id, attempt, owner, offer),
    CONSTRAINT quarantine_reason_known CHECK (reason = ANY (ARRAY['unknown_task', 'stale_attempt', 'duplicate_final', 'after_terminal'])) NOT VALID,
    CONSTRAINT quarantine_ts_is_a_time CHECK (ts >= '-62135596800000000'::bigint AND ts <= '253402300799999999'::bigint) NOT VALID
);
CREATE INDEX quarantine_task_id_id ON quarantine (task_id, id);
CREATE TRIGGER quarantine_no_truncate BEFORE TRUNCATE ON quarantine
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();

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
CREATE TRIGGER repairs_never_change BEFORE DELETE OR UPDATE OR TRUNCATE ON repairs
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_repairs();

CREATE TABLE schedules (
    name       text             NOT NULL,
    op         text             NOT NULL,
    params     text             NOT NULL,
    timeout_s  double precision,
    retries    integer,
    cron       text,
    every_s    double precision,
    time_zone  text             NOT NULL,
    catch_up   text             NOT NULL,
    overlap    text             NOT NULL,
    origin     text             NOT NULL,
    paused     boolean          NOT NULL,
    next_at    bigint,
    last_at    bigint,
    last_task  text,
    created_at bigint           NOT NULL,
    revision   bigint           NOT NULL,
    priority   smallint,
    tags       text,
    queue      text,
    expires_s  double precision,
    CONSTRAINT schedules_pkey PRIMARY KEY (name)
);
CREATE INDEX schedules_next ON schedules (next_at, name) WHERE NOT paused;

CREATE TABLE schema_compatibility (
    version         integer NOT NULL,
    compatible_from integer NOT NULL,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (version)
);

CREATE TABLE schema_version (
    version    integer                  NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schema_version_pkey PRIMARY KEY (version)
);

CREATE TABLE tagged (
    tag     text NOT NULL,
    task_id uuid NOT NULL,
    CONSTRAINT tagged_pkey PRIMARY KEY (tag, task_id)
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
    cancel_role         text,
    cancel_traceparent  text,
    priority            smallint         NOT NULL DEFAULT 0,
    tags                text,
    parent_id           uuid,
    cancel_with_parent  boolean          NOT NULL DEFAULT false,
    unique_key          text,
    concurrency_key     text,
    parked_at           bigint,
    engine              text             NOT NULL DEFAULT '',
    confirm_at          bigint           NOT NULL DEFAULT 0,
    queue               text             NOT NULL DEFAULT 'default',
    expires_in          bigint,
    CONSTRAINT tasks_pkey PRIMARY KEY (id),
    CONSTRAINT tasks_expires_in_known CHECK (expires_in >= 1 AND expires_in <= '253402300799999999'::bigint),
    CONSTRAINT tasks_priority_known CHECK (priority >= '-9'::integer AND priority <= 9),
    CONSTRAINT tasks_queue_known CHECK (length(queue) >= 1 AND length(queue) <= 128),
    CONSTRAINT tasks_status_known CHECK (status = ANY (ARRAY['pending', 'running', 'succeeded', 'failed', 'cancelled'])),
    CONSTRAINT tasks_tags_are_a_list CHECK (tags IS JSON ARRAY),
    CONSTRAINT tasks_task_id_unique UNIQUE (task_id)
);
CREATE INDEX tasks_bound ON tasks (lease_expires_at) WHERE status = 'pending' AND lease_expires_at IS NOT NULL;
CREATE INDEX tasks_due_op ON tasks (op, engine, priority DESC, run_at, id) WHERE status = 'pending';
CREATE INDEX tasks_due_queue ON tasks (((op || '/') || queue) COLLATE "C", priority DESC, run_at, id) WHERE status = 'pending' AND engine = '';
CREATE INDEX tasks_expiring ON tasks ((COALESCE(parked_at, run_at) + expires_in), id) WHERE status = 'pending' AND attempt = 0 AND expires_in IS NOT NULL;
CREATE INDEX tasks_follow ON tasks (parent_id, task_id) WHERE cancel_with_parent AND parent_id IS NOT NULL AND cancel_requested_at IS NULL AND (status = ANY (ARRAY['pending', 'running']));
CREATE UNIQUE INDEX tasks_idempotency_key_unique ON tasks (idempotency_key, op) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_lease ON tasks (lease_expires_at) WHERE status = 'running';
CREATE INDEX tasks_parent ON tasks (parent_id, task_id) WHERE parent_id IS NOT NULL;
CREATE INDEX tasks_parked ON tasks (op, concurrency_key, priority DESC, parked_at, id) WHERE status = 'pending' AND parked_at IS NOT NULL;
CREATE INDEX tasks_status_task_id ON tasks (status, task_id);
CREATE INDEX tasks_to_cancel ON tasks (owner) WHERE status = 'running' AND cancel_requested_at IS NOT NULL;
CREATE INDEX tasks_to_confirm ON tasks (engine, confirm_at, id) WHERE status = 'pending' AND engine <> '';
CREATE UNIQUE INDEX tasks_unique_key_open ON tasks (unique_key, op) WHERE unique_key IS NOT NULL AND (status = ANY (ARRAY['pending', 'running']));
CREATE TRIGGER tasks_are_tagged AFTER INSERT ON tasks
    FOR EACH ROW
    WHEN (new.tags IS NOT NULL)
    EXECUTE FUNCTION note_tags();
CREATE TRIGGER tasks_begin_parked BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (new.concurrency_key IS NOT NULL AND new.parked_at IS NULL OR new.parked_at IS NOT NULL AND (new.run_at <> '253402300799999999'::bigint OR new.parked_at < '-62135596800000000'::bigint OR new.parked_at > '253402300799999999'::bigint))
    EXECUTE FUNCTION guard_parked();
CREATE TRIGGER tasks_begin_pending BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (new.status <> 'pending' OR new.attempt <> 0 OR new.finished_at IS NOT NULL)
    EXECUTE FUNCTION guard_new_task();
CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (new.id <= 0 OR new.created_at < '-62135596800000000'::bigint OR new.created_at > '253402300799999999'::bigint OR new.run_at < '-62135596800000000'::bigint OR new.run_at > '253402300799999999'::bigint OR new.lease_expires_at < '-62135596800000000'::bigint OR new.lease_expires_at > '253402300799999999'::bigint OR COALESCE(new.claimed_at, new.cancel_requested_at) IS NOT NULL OR COALESCE(new.cancel_reason, new.cancel_role) IS NOT NULL OR NOT new.params IS JSON OBJECT)
    EXECUTE FUNCTION guard_unreadable();
CREATE TRIGGER tasks_change_by_rule AFTER UPDATE ON tasks
    FOR EACH ROW
    WHEN ((old.status <> ALL (ARRAY['pending', 'running'])) OR new.attempt <> (old.attempt + (old.status = 'pending' AND new.status = 'running')::integer))
    EXECUTE FUNCTION guard_changed_task();
CREATE TRIGGER tasks_count_changed AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS was NEW TABLE AS came
    FOR EACH STATEMENT
    EXECUTE FUNCTION count_moves();
CREATE TRIGGER tasks_count_deleted AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS was
    FOR EACH STATEMENT
    EXECUTE FUNCTION count_moves();
CREATE TRIGGER tasks_count_new AFTER INSERT ON tasks
    REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT
    EXECUTE FUNCTION count_moves();
CREATE TRIGGER tasks_end_with_final AFTER UPDATE ON tasks
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_ended_tasks();
CREATE TRIGGER tasks_free_slot_deleted AFTER DELETE ON tasks
    FOR EACH ROW
    WHEN (old.concurrency_key IS NOT NULL)
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_hold_slot AFTER UPDATE ON tasks
    FOR EACH ROW
    WHEN (new.concurrency_key IS NOT NULL AND (old.status <> new.status OR old.parked_at IS DISTINCT FROM new.parked_at))
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_hold_slot_new AFTER INSERT ON tasks
    FOR EACH ROW
    WHEN (new.concurrency_key IS NOT NULL)
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_keep_concurrency_key BEFORE UPDATE OF concurrency_key ON tasks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_identity();
CREATE TRIGGER tasks_keep_context BEFORE UPDATE OF tags, parent_id ON tasks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_identity();
CREATE TRIGGER tasks_keep_identity BEFORE UPDATE OF id, task_id, op, params, idempotency_key, created_at ON tasks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_identity();
CREATE TRIGGER tasks_keep_unique_key BEFORE UPDATE OF unique_key ON tasks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_identity();
CREATE TRIGGER tasks_name_who_cancels AFTER UPDATE OF cancel_reason, cancel_message, cancel_by, cancel_requested_at, cancel_role, cancel_traceparent ON tasks
    FOR EACH ROW
    WHEN (COALESCE(old.cancel_role, new.cancel_role) IS NOT NULL AND new.cancel_role IS DISTINCT FROM SESSION_USER::text AND (old.cancel_reason IS DISTINCT FROM new.cancel_reason OR old.cancel_message IS DISTINCT FROM new.cancel_message OR old.cancel_by IS DISTINCT FROM new.cancel_by OR old.cancel_requested_at IS DISTINCT FROM new.cancel_requested_at OR old.cancel_role IS DISTINCT FROM new.cancel_role OR old.cancel_traceparent IS DISTINCT FROM new.cancel_traceparent))
    EXECUTE FUNCTION guard_cancel();
CREATE TRIGGER tasks_no_truncate BEFORE TRUNCATE ON tasks
    FOR EACH STATEMENT
    EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER tasks_parked_is_not_due BEFORE UPDATE ON tasks
    FOR EACH ROW
    WHEN (new.parked_at IS NOT NULL AND (new.run_at <> old.run_at OR new.parked_at IS DISTINCT FROM old.parked_at) AND (new.run_at <> '253402300799999999'::bigint OR new.parked_at < '-62135596800000000'::bigint OR new.parked_at > '253402300799999999'::bigint))
    EXECUTE FUNCTION guard_parked();
CREATE TRIGGER tasks_stay_readable AFTER UPDATE OF run_at, claimed_at, finished_at, lease_expires_at, cancel_reason, cancel_requested_at ON tasks
    FOR EACH ROW
    WHEN ((new.run_at < '-62135596800000000'::bigint OR new.run_at > '253402300799999999'::bigint) AND new.run_at <> old.run_at OR (new.claimed_at < '-62135596800000000'::bigint OR new.claimed_at > '253402300799999999'::bigint) AND new.claimed_at IS DISTINCT FROM old.claimed_at OR (new.finished_at < '-62135596800000000'::bigint OR new.finished_at > '253402300799999999'::bigint) AND new.finished_at IS DISTINCT FROM old.finished_at OR (new.lease_expires_at < '-62135596800000000'::bigint OR new.lease_expires_at > '253402300799999999'::bigint) AND new.lease_expires_at IS DISTINCT FROM old.lease_expires_at OR (new.cancel_requested_at < '-62135596800000000'::bigint OR new.cancel_requested_at > '253402300799999999'::bigint OR (new.cancel_reason <> ALL (ARRAY['user', 'shutdown', 'superseded', 'expired'])) OR (new.cancel_reason IS NULL) <> (new.cancel_requested_at IS NULL)) AND (new.cancel_requested_at IS DISTINCT FROM old.cancel_requested_at OR new.cancel_reason IS DISTINCT FROM old.cancel_reason))
    EXECUTE FUNCTION guard_unreadable();
CREATE TRIGGER tasks_take_their_tags AFTER DELETE ON tasks
    FOR EACH ROW
    WHEN (old.tags IS NOT NULL)
    EXECUTE FUNCTION note_tags();
CREATE TRIGGER tasks_take_their_tape AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION take_tapes();

CREATE TABLE workers (
    owner        text   NOT NULL,
    until        bigint NOT NULL,
    ops          text[] NOT NULL,
    since        bigint,
    heard_at     bigint,
    drained_at   bigint,
    drained_by   text,
    drain_reason text,
    queues       text[],
    CONSTRAINT workers_pkey PRIMARY KEY (owner)
);

-- Functions, each in functions/ in a file of its name:
--   admit_parked(x_ops text[], x_limit integer) RETURNS void
--   cancel_task(x_task_id uuid, x_reason text, x_message text, x_by text, x_traceparent text, x_ts
--       bigint) RETURNS json
--   cancelled_final(reason text, message text, who text, role text, at bigint, error json) RETURNS
--       text
--   claim_due(x_lane text, x_number bigint, x_instance text, x_owner text, x_ops text[], x_limit
--       integer, x_lease bigint, x_ts bigint, x_before text, x_behind text, x_again boolean)
--       RETURNS text
--   claim_singly(x_owner text, x_ops text[], x_limit integer, x_lease bigint, x_ts bigint, x_before
--       text, x_behind text, x_now bigint, x_picked bigint[], OUT won bigint[], OUT attempts
--       bigint[], OUT starts bigint[]) RETURNS record
--   count_backlog(x_passed bigint) RETURNS TABLE(op text, due bigint, scheduled bigint, retrying
--       bigint, running bigint, held bigint, succeeded bigint, failed bigint, cancelled bigint,
--       gone bigint)
--   count_moves() RETURNS trigger
--   count_slots() RETURNS trigger
--   delete_drops(keys bigint[]) RETURNS bigint
--   drop_reason(task_status text, task_attempt integer, final_attempt integer, final_body text,
--       attempt integer, type text, body text) RETURNS text
--   drop_rows(places integer[], r_key bigint[], r_attempt integer[], r_offer integer[], r_type
--       text[], r_ts bigint[], r_body text[], r_owner text[], r_task_id text[], r_trace_id text[],
--       keep_per_task integer, keep_unknown integer) RETURNS json
--   fence(f_lane text, f_number bigint) RETURNS text
--   fill_backlog() RETURNS void
--   find_untaken(keys bigint[]) RETURNS json
--   flush(lane text, number bigint, instance text, news text, keys bigint[], keep_per_task integer,
--       keep_unknown integer, creates text[], claims text[], rows text[], give_ups text[], cancels
--       text[]) RETURNS text
--   fold_backlog(x_passed bigint) RETURNS void
--   foreign_offer(last_offer integer) RETURNS integer
--   guard_appended() RETURNS trigger
--   guard_cancel() RETURNS trigger
--   guard_changed_event() RETURNS trigger
--   guard_changed_task() RETURNS trigger
--   guard_deleted_events() RETURNS trigger
--   guard_ended_tasks() RETURNS trigger
--   guard_identity() RETURNS trigger
--   guard_message() RETURNS trigger
--   guard_new_task() RETURNS trigger
--   guard_parked() RETURNS trigger
--   guard_repairs() RETURNS trigger
--   guard_taken_message() RETURNS trigger
--   guard_truncated() RETURNS trigger
--   guard_unreadable() RETURNS trigger
--   list_claimable(x_owner text, x_ops text[]) RETURNS text[]
--   lock_limits(x_keys bigint[]) RETURNS void
--   look_at_op() RETURNS trigger
--   mend_backlog(x_by text) RETURNS SETOF repairs
--   note_tags() RETURNS trigger
--   now_us() RETURNS bigint
--   open_window(x_op text, x_key text, x_now bigint) RETURNS integer
--   read_backlog(x_fresh bigint, x_write boolean) RETURNS text
--   read_final(body text) RETURNS json
--   read_pauses() RETURNS text
--   read_store_id() RETURNS text
--   read_unserved() RETURNS text
--   recount_backlog(x_passed bigint) RETURNS TABLE(op text, state text, kept bigint, found bigint)
--   refuse(why text) RETURNS void
--   repair_task(x_task_id uuid, x_grace bigint, x_by text) RETURNS SETOF repairs
--   rescue_expired(x_limit integer, x_ops text[], x_dead text[], x_ts bigint, x_retry text,
--       x_failed text, x_instance text) RETURNS text
--   send_message(m_task_id uuid, m_key text, m_body text, m_most integer, m_instance text) RETURNS
--       json
--   take_tapes() RETURNS trigger
--   time_text(at bigint) RETURNS text
