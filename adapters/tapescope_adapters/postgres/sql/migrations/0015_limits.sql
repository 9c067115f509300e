-- compatible from 1
-- One open task of an op with a key (docs/decisions/0102): the index refuses a second one, and forgets a task in the
-- transaction that ends it. Tasks of older versions have no such key.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS unique_key text;
CREATE UNIQUE INDEX tasks_unique_key_open ON tasks (unique_key, op)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running');

CREATE TRIGGER tasks_keep_unique_key BEFORE UPDATE OF unique_key ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();

-- functions: flush
