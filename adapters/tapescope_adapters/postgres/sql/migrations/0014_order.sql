-- compatible from 1
-- What goes first among what is due (docs/decisions/0091): the higher priority. Workers of an older version call the
-- same function, and obey.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 0
    CONSTRAINT tasks_priority_known CHECK (priority BETWEEN -9 AND 9);
DROP INDEX tasks_due_op;
CREATE INDEX tasks_due_op ON tasks (op, priority DESC, run_at, id) WHERE status = 'pending';

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it.
ALTER TABLE ops ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN IF NOT EXISTS priority smallint;

-- functions: flush, drop_rows, claim_due, claim_singly, read_backlog
