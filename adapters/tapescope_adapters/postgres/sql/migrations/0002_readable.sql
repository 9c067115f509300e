-- compatible from 1
-- What a raw session writes can be read back, and blocks nobody: see docs/decisions/0030. A time is
-- microseconds since the Unix epoch, of the years 1 to 9999. Rows of events and of the quarantine never
-- change, so a CHECK will do, for the rows to come. A CHECK on tasks would be asked at every update of every
-- column, and a row that was damaged before would stand in the way of a claim of many: a trigger asks only
-- what is new.

-- functions: guard_unreadable

CREATE TRIGGER tasks_can_be_read BEFORE INSERT ON tasks
    FOR EACH ROW
    WHEN (NEW.id <= 0
          OR NEW.created_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR NEW.run_at NOT BETWEEN -62135596800000000 AND 253402300799999999
          OR coalesce(NEW.claimed_at, NEW.lease_expires_at, NEW.cancel_requested_at) IS NOT NULL
          OR NEW.cancel_reason IS NOT NULL
          OR NEW.params IS NOT JSON OBJECT)
    EXECUTE FUNCTION guard_unreadable();

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
               OR NEW.cancel_reason NOT IN ('user', 'shutdown', 'superseded')
               OR (NEW.cancel_reason IS NULL) <> (NEW.cancel_requested_at IS NULL))
              AND (NEW.cancel_requested_at, NEW.cancel_reason)
                  IS DISTINCT FROM (OLD.cancel_requested_at, OLD.cancel_reason)))
    EXECUTE FUNCTION guard_unreadable();

ALTER TABLE events
    ADD CONSTRAINT events_ts_is_a_time
        CHECK (ts BETWEEN -62135596800000000 AND 253402300799999999) NOT VALID,
    ADD CONSTRAINT events_body_is_json
        CHECK (CASE type WHEN 'final' THEN body IS JSON OBJECT WITH UNIQUE KEYS ELSE body IS JSON END)
        NOT VALID;

ALTER TABLE quarantine
    ADD CONSTRAINT quarantine_ts_is_a_time
        CHECK (ts BETWEEN -62135596800000000 AND 253402300799999999) NOT VALID,
    ADD CONSTRAINT quarantine_reason_known
        CHECK (reason IN ('unknown_task', 'stale_attempt', 'duplicate_final', 'after_terminal')) NOT VALID,
    ADD CONSTRAINT quarantine_body_is_json CHECK (body IS JSON) NOT VALID;
