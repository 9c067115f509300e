-- compatible from 1
-- How much waits is a number of the store's: see docs/decisions/0052. Triggers count, so that every path does,
-- and older processes beside this version. No row is updated by two flushes: each adds rows to backlog_moves, which
-- one session of many folds. `second` is the second of run_at of a task that waits for a time, else 0. In backlog
-- 0 is also what has fallen due since, and -1 all that ever waited for a time, so that nobody adds the seconds up.

CREATE TABLE backlog (
    second bigint NOT NULL,
    op     text   NOT NULL,
    state  text   NOT NULL,
    n      bigint NOT NULL,
    CONSTRAINT backlog_pkey PRIMARY KEY (second, op, state)
);

CREATE TABLE backlog_moves (
    op     text   NOT NULL,
    state  text   NOT NULL,
    second bigint NOT NULL,
    n      bigint NOT NULL
);

-- One row: what one session read for all of them, and when. Who makes it anew holds the row.
CREATE TABLE backlog_snapshot (
    id      integer NOT NULL,
    made_at bigint  NOT NULL DEFAULT 0,
    facts   text    NOT NULL DEFAULT '[]',
    CONSTRAINT backlog_snapshot_pkey PRIMARY KEY (id),
    CONSTRAINT backlog_snapshot_one_row CHECK (id = 1)
);

INSERT INTO backlog_snapshot (id) VALUES (1);

-- Which workers live, and what each can run.
CREATE TABLE workers (
    owner text   NOT NULL,
    until bigint NOT NULL,
    ops   text[] NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (owner)
);

-- functions: count_moves, fold_backlog, count_backlog, fill_backlog, read_backlog, recount_backlog, mend_backlog

-- A trigger with transition tables has no list of columns: count_moves finds that a heartbeat moved nothing.
CREATE TRIGGER tasks_count_new AFTER INSERT ON tasks
    REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION count_moves();
CREATE TRIGGER tasks_count_changed AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS was NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION count_moves();
CREATE TRIGGER tasks_count_deleted AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS was
    FOR EACH STATEMENT EXECUTE FUNCTION count_moves();

CREATE TRIGGER backlog_no_truncate BEFORE TRUNCATE ON backlog
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER backlog_moves_no_truncate BEFORE TRUNCATE ON backlog_moves
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();

-- The triggers hold every other writer back until the commit.
SELECT fill_backlog();
