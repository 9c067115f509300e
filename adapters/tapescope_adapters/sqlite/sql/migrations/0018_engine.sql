-- compatible from 1
-- What brings a task to a worker (docs/decisions/0092): an engine by its name, or nobody, where workers claim it
-- themselves. The index that claims go by keeps its name: the claims of older versions ask for it, and take an
-- engine's tasks as well.
ALTER TABLE tasks ADD COLUMN engine TEXT NOT NULL DEFAULT '';
DROP INDEX tasks_due_op;
CREATE INDEX tasks_due_op ON tasks (op, engine, priority DESC, run_at) WHERE status = 'pending';

-- From when on the engine is asked whether it has the task, while that is pending; 0 for what was not asked yet.
ALTER TABLE tasks ADD COLUMN confirm_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_to_confirm ON tasks (engine, confirm_at) WHERE status = 'pending' AND engine <> '';

-- Names this store among all: a name in an engine that several stores share.
ALTER TABLE maintenance ADD COLUMN store_id TEXT;
UPDATE maintenance SET store_id = lower(hex(randomblob(8)));
