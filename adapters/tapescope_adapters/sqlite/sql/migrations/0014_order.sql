-- compatible from 1
-- What goes first among what is due (docs/decisions/0091): the higher priority. The index that claims go by keeps its
-- name: the claims of older versions ask for it, are right by it, and read all that their ops have waiting.
ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 0
    CONSTRAINT tasks_priority_known CHECK (typeof(priority) = 'integer' AND priority BETWEEN -9 AND 9);
DROP INDEX tasks_due_op;
CREATE INDEX tasks_due_op ON tasks (op, priority DESC, run_at) WHERE status = 'pending';

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it.
ALTER TABLE ops ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN priority INTEGER;
