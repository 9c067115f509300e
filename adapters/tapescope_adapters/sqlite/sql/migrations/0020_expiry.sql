-- compatible from 1
-- How long a task may wait for its first attempt, in microseconds from when it is due (docs/decisions/0104); NULL: as long
-- as it takes. The index has what waits for it and may expire, by when it does, whatever it waits for; a parked task
-- keeps its due time in parked_at. Workers of older versions begin what has expired.
ALTER TABLE tasks ADD COLUMN expires_in INTEGER
    CONSTRAINT tasks_expires_in_known CHECK (typeof(expires_in) IN ('integer', 'null') AND expires_in BETWEEN 1 AND 253402300799999999);
CREATE INDEX tasks_expiring ON tasks (coalesce(parked_at, run_at) + expires_in)
    WHERE status = 'pending' AND attempt = 0 AND expires_in IS NOT NULL;

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it. In seconds.
ALTER TABLE ops ADD COLUMN expires_s REAL;
ALTER TABLE schedules ADD COLUMN expires_s REAL;

-- A task that has expired ends as cancelled, with a reason of its own.
DROP TRIGGER tasks_cancel_can_be_read;
CREATE TRIGGER tasks_cancel_can_be_read BEFORE UPDATE OF cancel_reason, cancel_requested_at ON tasks
WHEN NEW.cancel_requested_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.cancel_reason NOT IN ('user', 'shutdown', 'superseded', 'expired')
    OR (NEW.cancel_reason IS NULL) <> (NEW.cancel_requested_at IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a cancel has a time and one of the four reasons');
END;
