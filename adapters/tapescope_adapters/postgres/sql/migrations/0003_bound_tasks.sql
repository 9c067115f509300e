-- compatible from 1
-- A pending task that one owner alone can run has a lease: see docs/decisions/0031.
-- functions: flush, rescue_expired

CREATE INDEX tasks_bound ON tasks (lease_expires_at)
    WHERE status = 'pending' AND lease_expires_at IS NOT NULL;

DROP TRIGGER tasks_can_be_read ON tasks;
CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (NEW.id <= 0
          OR NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR coalesce(NEW.claimed_at, NEW.cancel_requested_at) IS NOT NULL
          OR NEW.cancel_reason IS NOT NULL
          OR NEW.params IS NOT JSON OBJECT)
    EXECUTE FUNCTION guard_unreadable();
