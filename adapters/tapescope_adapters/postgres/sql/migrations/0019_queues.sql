-- compatible from 1
-- Which workers take a task (docs/decisions/0099): those of its queue, and those of all. An index of its own for claims
-- from some queues, by the name of both: claims from all go by the other one, and those of older versions, too.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS queue text NOT NULL DEFAULT 'default'
    CONSTRAINT tasks_queue_known CHECK (length(queue) BETWEEN 1 AND 128);
CREATE INDEX tasks_due_queue ON tasks (((op || '/' || queue)) COLLATE "C", priority DESC, run_at, id)
    WHERE status = 'pending' AND engine = '';

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it.
ALTER TABLE ops ADD COLUMN IF NOT EXISTS queue text NOT NULL DEFAULT 'default';
ALTER TABLE schedules ADD COLUMN IF NOT EXISTS queue text;

-- How many of an op's tasks may wait when one more is submitted (docs/decisions/0100); NULL: any number.
ALTER TABLE ops ADD COLUMN IF NOT EXISTS max_waiting integer;

-- The queues that a worker takes; NULL: all, as the workers of older versions do.
ALTER TABLE workers ADD COLUMN IF NOT EXISTS queues text[];

-- functions: flush, claim_singly, claim_due, read_unserved
