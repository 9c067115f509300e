-- compatible from 1
-- Which workers take a task (docs/decisions/0099): those of its queue, and those of all. An index of its own for claims
-- from some queues: claims from all go by the other one, and those of older versions, which know no queues, too.
ALTER TABLE tasks ADD COLUMN queue TEXT NOT NULL DEFAULT 'default'
    CONSTRAINT tasks_queue_known CHECK (typeof(queue) = 'text' AND length(queue) BETWEEN 1 AND 128);
CREATE INDEX tasks_due_queue ON tasks (op, queue, priority DESC, run_at) WHERE status = 'pending' AND engine = '';

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it.
ALTER TABLE ops ADD COLUMN queue TEXT NOT NULL DEFAULT 'default';
ALTER TABLE schedules ADD COLUMN queue TEXT;

-- How many of an op's tasks may wait when one more is submitted (docs/decisions/0100); NULL: any number.
ALTER TABLE ops ADD COLUMN max_waiting INTEGER;

-- The queues that a worker takes, a JSON list; NULL: all, as the workers of older versions do.
ALTER TABLE workers ADD COLUMN queues TEXT;
