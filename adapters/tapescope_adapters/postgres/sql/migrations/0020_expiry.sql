-- compatible from 1
-- How long a task may wait for its first attempt, in microseconds from when it is due (docs/decisions/0104); NULL: as long
-- as it takes. The index has what waits for it and may expire, by when it does, whatever it waits for; a parked task
-- keeps its due time in parked_at. Workers of older versions call the same functions, which begin nothing that has expired.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS expires_in bigint
    CONSTRAINT tasks_expires_in_known CHECK (expires_in BETWEEN 1 AND 253402300799999999);
CREATE INDEX tasks_expiring ON tasks ((coalesce(parked_at, run_at) + expires_in), id)
    WHERE status = 'pending' AND attempt = 0 AND expires_in IS NOT NULL;

-- Of an op's tasks, where their submit says nothing; of a schedule's tasks: NULL, as the op has it. In seconds.
ALTER TABLE ops ADD COLUMN IF NOT EXISTS expires_s double precision;
ALTER TABLE schedules ADD COLUMN IF NOT EXISTS expires_s double precision;

-- functions: guard_unreadable, cancel_task, flush, claim_singly, claim_due

-- A task that has expired ends as cancelled, with a reason of its own.
DROP TRIGGER tasks_stay_readable ON tasks;
CREATE TRIGGER tasks_stay_readable
    AFTER UPDATE OF run_at, claimed_at, finished_at, lease_expires_at, cancel_reason, cancel_requested_at
    ON tasks
    FOR EACH ROW
    WHEN ((NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
           AND NEW.run_at <> OLD.run_at)
          OR (NEW.claimed_at NOT BETWEEN -62135596800000000 AND 253402300799999999
              AND NEW.claimed_at IS DISTINCT FROM OLD.claimed_at)
          OR (NEW.finished_at NOT BETWEEN -62135596800000000 AND 253402300799999999
              AND NEW.finished_at IS DISTINCT FROM OLD.finished_at)
          OR (NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
              AND NEW.lease_expires_at IS DISTINCT FROM OLD.lease_expires_at)
          OR ((NEW.cancel_requested_at NOT BETWEEN -62135596800000000 AND 253402300799999999
               OR NEW.cancel_reason NOT IN ('user', 'shutdown', 'superseded', 'expired')
               OR (NEW.cancel_reason IS NULL) <> (NEW.cancel_requested_at IS NULL))
              AND (NEW.cancel_requested_at, NEW.cancel_reason)
                  IS DISTINCT FROM (OLD.cancel_requested_at, OLD.cancel_reason)))
    EXECUTE FUNCTION guard_unreadable();
