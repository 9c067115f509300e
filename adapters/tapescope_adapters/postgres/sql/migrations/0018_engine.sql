-- compatible from 1
-- What brings a task to a worker (docs/decisions/0092): an engine by its name, or nobody, where workers claim it
-- themselves. Workers of an older version call the same function, and leave an engine's tasks.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS engine text COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX tasks_due_op;
CREATE INDEX tasks_due_op ON tasks (op, engine, priority DESC, run_at, id) WHERE status = 'pending';

-- From when on the engine is asked whether it has the task, while that is pending; 0 for what was not asked yet.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS confirm_at bigint NOT NULL DEFAULT 0;
CREATE INDEX tasks_to_confirm ON tasks (engine, confirm_at, id) WHERE status = 'pending' AND engine <> '';

-- Names this store among all: a name in an engine that several stores share.
ALTER TABLE maintenance ADD COLUMN IF NOT EXISTS store_id text;
UPDATE maintenance SET store_id = left(replace(gen_random_uuid()::text, '-', ''), 16) WHERE store_id IS NULL;

-- functions: flush, claim_due, claim_singly, read_backlog, rescue_expired, read_store_id
