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
