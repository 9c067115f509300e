-- compatible from 1
-- One open task of an op with a key (docs/decisions/0102): the index refuses a second one, and forgets a task in the
-- transaction that ends it. Tasks of older versions have no such key.
ALTER TABLE tasks ADD COLUMN unique_key TEXT;
CREATE UNIQUE INDEX tasks_unique_key_open ON tasks (unique_key, op)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running');

-- INSERT OR REPLACE would delete the task that has the key.
CREATE TRIGGER tasks_unique_key_is_free BEFORE INSERT ON tasks
WHEN EXISTS (SELECT 1 FROM tasks t
              WHERE t.op = NEW.op AND t.unique_key = NEW.unique_key AND t.status IN ('pending', 'running'))
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: an open task of the op has this unique key');
END;
CREATE TRIGGER tasks_keep_unique_key BEFORE UPDATE OF unique_key ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its unique key');
END;

-- How many tasks of an op with one concurrency key run at once (docs/decisions/0103). A task with a key is parked while
-- it has no slot: pending, at run_at after all times, with the time at which it is due in parked_at. So no claim of any
-- version finds it. A claim gives it a slot, and then it is as any other task that is due.
ALTER TABLE tasks ADD COLUMN concurrency_key TEXT;
ALTER TABLE tasks ADD COLUMN parked_at INTEGER;
CREATE INDEX tasks_parked ON tasks (op, concurrency_key, priority DESC, parked_at)
    WHERE status = 'pending' AND parked_at IS NOT NULL;
ALTER TABLE ops ADD COLUMN max_concurrent INTEGER;

-- How many slots of a key are held: by tasks that run, and by those that are pending and not parked.
CREATE TABLE limits (
    op              TEXT    NOT NULL,
    concurrency_key TEXT    NOT NULL,
    held            INTEGER NOT NULL,
    PRIMARY KEY (op, concurrency_key)
) STRICT, WITHOUT ROWID;

-- From when on a claim is to look whether a key has a slot for a parked task: from when that is due, or at once, where
-- a slot was freed. There may be more looks than there is to be found; a claim takes all of a key that are due.
CREATE TABLE limit_looks (
    op              TEXT    NOT NULL,
    due_at          INTEGER NOT NULL,
    concurrency_key TEXT    NOT NULL,
    PRIMARY KEY (op, due_at, concurrency_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_looks_of_key ON limit_looks (op, concurrency_key, due_at);

-- Who submits writes parked_at: one that no claim can make due would stop them all.
CREATE TRIGGER tasks_begin_parked BEFORE INSERT ON tasks
WHEN (NEW.concurrency_key IS NOT NULL AND NEW.parked_at IS NULL)
    OR (NEW.parked_at IS NOT NULL
        AND (NEW.run_at <> 253402300799999999
             OR typeof(NEW.parked_at) <> 'integer'
             OR NEW.parked_at NOT BETWEEN -62135596800000000 AND 253402300799999999))
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a task with a concurrency key is parked until a claim gives it a slot: its run_at is 253402300799999999, and parked_at is the time at which it is due');
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

CREATE TRIGGER tasks_hold_slot_new AFTER INSERT ON tasks
WHEN NEW.concurrency_key IS NOT NULL
BEGIN
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, NEW.parked_at, NEW.concurrency_key WHERE NEW.parked_at IS NOT NULL;
    INSERT INTO limits (op, concurrency_key, held)
    SELECT NEW.op, NEW.concurrency_key, 1 WHERE NEW.parked_at IS NULL
        ON CONFLICT (op, concurrency_key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER tasks_hold_slot AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL
    AND (NEW.status = 'running' OR (NEW.status = 'pending' AND NEW.parked_at IS NULL))
    AND NOT (OLD.status = 'running' OR (OLD.status = 'pending' AND OLD.parked_at IS NULL))
BEGIN
    INSERT INTO limits (op, concurrency_key, held) VALUES (NEW.op, NEW.concurrency_key, 1)
        ON CONFLICT (op, concurrency_key) DO UPDATE SET held = held + 1;
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
CREATE TRIGGER tasks_look_when_due AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND NEW.status = 'pending' AND NEW.parked_at IS NOT NULL
    AND (OLD.status <> 'pending' OR OLD.parked_at IS NOT NEW.parked_at)
BEGIN
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    VALUES (NEW.op, NEW.parked_at, NEW.concurrency_key);
END;
CREATE TRIGGER tasks_keep_concurrency_key BEFORE UPDATE OF concurrency_key ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its concurrency key');
END;
CREATE TRIGGER limits_are_kept BEFORE UPDATE OF held ON limits
WHEN NEW.held > OLD.held AND NEW.held > (SELECT o.max_concurrent FROM ops o WHERE o.op = NEW.op)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the concurrency key has no slot free');
END;
CREATE TRIGGER ops_change_slots AFTER UPDATE OF max_concurrent ON ops
WHEN NEW.max_concurrent IS NOT OLD.max_concurrent
BEGIN
    INSERT OR IGNORE INTO limit_looks (op, due_at, concurrency_key)
    SELECT l.op, 1, l.concurrency_key FROM limits l WHERE l.op = NEW.op;
END;
