-- compatible from 1
-- A pending task that one owner alone can run has a lease: see docs/decisions/0031.

CREATE INDEX tasks_bound ON tasks (lease_expires_at)
    WHERE status = 'pending' AND lease_expires_at IS NOT NULL;

DROP TRIGGER tasks_can_be_read;
CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
WHEN NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR coalesce(NEW.claimed_at, NEW.finished_at, NEW.cancel_requested_at, NEW.cancel_reason) IS NOT NULL
    OR typeof(NEW.lease_expires_at) NOT IN ('integer', 'null')
    OR typeof(NEW.retries) <> 'integer'
    OR coalesce(typeof(NEW.timeout_s) NOT IN ('real', 'null'), true)
    OR NOT json_valid(NEW.params)
    OR json_type(NEW.params) <> 'object'
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a new task has its times, numbers, and params that are a JSON object');
END;
