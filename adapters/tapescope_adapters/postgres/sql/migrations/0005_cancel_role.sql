-- compatible from 1
-- Which role's session recorded a cancel: the database says so, whatever the caller says (docs/decisions/0046).
-- The functions of these names with other arguments stay in a schema that had them: a call of an older flush
-- that is under way calls them to its end, and nothing else does.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS cancel_role text;

-- functions: cancelled_final, cancel_task, flush, rescue_expired, repair_task, guard_cancel

-- AFTER, as tasks_change_by_rule is: one that comes before would lock each row of each update.
CREATE OR REPLACE TRIGGER tasks_name_who_cancels
    AFTER UPDATE OF cancel_reason, cancel_message, cancel_by, cancel_requested_at, cancel_role ON tasks
    FOR EACH ROW
    WHEN (coalesce(OLD.cancel_role, NEW.cancel_role) IS NOT NULL
          AND NEW.cancel_role IS DISTINCT FROM session_user::text
          AND (OLD.cancel_reason, OLD.cancel_message, OLD.cancel_by, OLD.cancel_requested_at, OLD.cancel_role)
              IS DISTINCT FROM
              (NEW.cancel_reason, NEW.cancel_message, NEW.cancel_by, NEW.cancel_requested_at, NEW.cancel_role))
    EXECUTE FUNCTION guard_cancel();

DROP TRIGGER tasks_can_be_read ON tasks;
CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (NEW.id <= 0
          OR NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR NEW.lease_expires_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR coalesce(NEW.claimed_at, NEW.cancel_requested_at) IS NOT NULL
          OR coalesce(NEW.cancel_reason, NEW.cancel_role) IS NOT NULL
          OR NEW.params IS NOT JSON OBJECT)
    EXECUTE FUNCTION guard_unreadable();
