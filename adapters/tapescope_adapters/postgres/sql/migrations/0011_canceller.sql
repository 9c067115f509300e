-- compatible from 1
-- The span that a cancel was requested in, as a task has its submit's (docs/decisions/0077): whose span tells
-- of the end leads to it. The functions of this name with other arguments stay in a schema that had them: a call
-- of an older flush that is under way calls them to its end, and nothing else does.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS cancel_traceparent text;

-- functions: cancel_task, flush

-- What a session records of another's cancel is refused, this as well.
CREATE OR REPLACE TRIGGER tasks_name_who_cancels
    AFTER UPDATE OF cancel_reason, cancel_message, cancel_by, cancel_requested_at, cancel_role,
                    cancel_traceparent ON tasks
    FOR EACH ROW
    WHEN (coalesce(OLD.cancel_role, NEW.cancel_role) IS NOT NULL
          AND NEW.cancel_role IS DISTINCT FROM session_user::text
          AND (OLD.cancel_reason, OLD.cancel_message, OLD.cancel_by, OLD.cancel_requested_at,
               OLD.cancel_role, OLD.cancel_traceparent)
              IS DISTINCT FROM
              (NEW.cancel_reason, NEW.cancel_message, NEW.cancel_by, NEW.cancel_requested_at,
               NEW.cancel_role, NEW.cancel_traceparent))
    EXECUTE FUNCTION guard_cancel();
