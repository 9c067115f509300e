-- compatible from 1
-- One open task of an op with a key (docs/decisions/0102): the index refuses a second one, and forgets a task in the
-- transaction that ends it. Tasks of older versions have no such key.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS unique_key text;
CREATE UNIQUE INDEX tasks_unique_key_open ON tasks (unique_key, op)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running');

CREATE TRIGGER tasks_keep_unique_key BEFORE UPDATE OF unique_key ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();

-- How many tasks of an op with one concurrency key run at once (docs/decisions/0103). A task with a key is parked while
-- it has no slot: pending, at run_at after all times, with the time at which it is due in parked_at. So no claim of any
-- version finds it. A claim gives it a slot, and then it is as any other task that is due.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS concurrency_key text;
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS parked_at bigint;
CREATE INDEX tasks_parked ON tasks (op, concurrency_key, priority DESC, parked_at, id)
    WHERE status = 'pending' AND parked_at IS NOT NULL;
ALTER TABLE ops ADD COLUMN IF NOT EXISTS max_concurrent integer;

-- How many slots of a key are held: by tasks that run, and by those that are pending and not parked.
CREATE TABLE limits (
    op              text COLLATE "C" NOT NULL,
    concurrency_key text COLLATE "C" NOT NULL,
    held            integer          NOT NULL,
    CONSTRAINT limits_pkey PRIMARY KEY (op, concurrency_key)
);

-- From when on a claim is to look whether a key has a slot for a parked task: from when that is due, or at once, where
-- a slot was freed. There may be more looks than there is to be found; a claim takes all of a key that are due.
CREATE TABLE limit_looks (
    op              text COLLATE "C" NOT NULL,
    due_at          bigint           NOT NULL,
    concurrency_key text             NOT NULL
);
CREATE INDEX limit_looks_due ON limit_looks (op, due_at);
CREATE INDEX limit_looks_of_key ON limit_looks (op, concurrency_key, due_at);

-- functions: flush, rescue_expired, claim_due, lock_limits, count_slots, admit_parked, look_at_op, guard_parked

-- Who submits writes parked_at: one that no claim can make due would stop them all. No CHECK, for the reason in 0002.
CREATE TRIGGER tasks_begin_parked BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN ((NEW.concurrency_key IS NOT NULL AND NEW.parked_at IS NULL)
          OR (NEW.parked_at IS NOT NULL
              AND (NEW.run_at <> 253402300799999999
                   OR NEW.parked_at NOT BETWEEN -62135596800000000 AND 253402300799999999)))
    EXECUTE FUNCTION guard_parked();
CREATE TRIGGER tasks_parked_is_not_due BEFORE UPDATE ON tasks
    FOR EACH ROW
    WHEN (NEW.parked_at IS NOT NULL
          AND (NEW.run_at <> OLD.run_at OR NEW.parked_at IS DISTINCT FROM OLD.parked_at)
          AND (NEW.run_at <> 253402300799999999
               OR NEW.parked_at NOT BETWEEN -62135596800000000 AND 253402300799999999))
    EXECUTE FUNCTION guard_parked();

CREATE TRIGGER tasks_hold_slot_new AFTER INSERT ON tasks
    FOR EACH ROW WHEN (NEW.concurrency_key IS NOT NULL)
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_hold_slot AFTER UPDATE ON tasks
    FOR EACH ROW WHEN (NEW.concurrency_key IS NOT NULL
                       AND (OLD.status <> NEW.status OR OLD.parked_at IS DISTINCT FROM NEW.parked_at))
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_free_slot_deleted AFTER DELETE ON tasks
    FOR EACH ROW WHEN (OLD.concurrency_key IS NOT NULL)
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER tasks_keep_concurrency_key BEFORE UPDATE OF concurrency_key ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();
CREATE TRIGGER ops_change_slots AFTER UPDATE ON ops
    FOR EACH ROW WHEN (OLD.max_concurrent IS DISTINCT FROM NEW.max_concurrent)
    EXECUTE FUNCTION look_at_op();
CREATE TRIGGER limits_no_truncate BEFORE TRUNCATE ON limits
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
CREATE TRIGGER limit_looks_no_truncate BEFORE TRUNCATE ON limit_looks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
