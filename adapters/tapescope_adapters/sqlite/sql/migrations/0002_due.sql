-- Claims of due tasks by op: the oldest of an op stands first, however many others wait or have ended.
-- The row's key follows by itself. The index before had no op, and nothing read it.
CREATE INDEX tasks_due_op ON tasks (op, run_at) WHERE status = 'pending';
DROP INDEX tasks_due;
