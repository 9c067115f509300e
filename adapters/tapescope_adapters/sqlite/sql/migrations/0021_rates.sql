-- compatible from 1
-- How many attempts of an op's tasks with one concurrency key begin in any window of so many microseconds
-- (docs/decisions/0107); NULL: any number. Workers of older versions give no thought to it: what they begin is counted.
ALTER TABLE ops ADD COLUMN rate_times INTEGER;
ALTER TABLE ops ADD COLUMN rate_per_us INTEGER;

-- The attempts that count in the window of a key: a row each, from when a claim makes the parked task due. It counts for
-- as long as no claim has begun it, at a time after all times, and for one window from its claimed_at on. A claim that
-- looks at the key deletes what is out of the window: so a key has no more rows than its op may begin in one.
CREATE TABLE limit_starts (
    op              TEXT    NOT NULL,
    concurrency_key TEXT    NOT NULL,
    begun_at        INTEGER NOT NULL,
    task            INTEGER NOT NULL
) STRICT;
CREATE INDEX limit_starts_of_key ON limit_starts (op, concurrency_key, begun_at, task);

CREATE TRIGGER tasks_give_start AFTER UPDATE OF status, parked_at ON tasks
WHEN NEW.concurrency_key IS NOT NULL AND NEW.status = 'pending' AND NEW.parked_at IS NULL
    AND NOT (OLD.status = 'pending' AND OLD.parked_at IS NULL)
BEGIN
    INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
    SELECT NEW.op, NEW.concurrency_key, 253402300799999999, NEW.id
      FROM ops o WHERE o.op = NEW.op AND o.rate_times IS NOT NULL;
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

-- All keys in use are looked at, as 0017 has it; an op without a rate leaves no rows. OR IGNORE means nothing below an
-- upsert: with it an op whose slots were changed twice, and no look was taken meanwhile, could not be registered.
DROP TRIGGER ops_change_slots;
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
