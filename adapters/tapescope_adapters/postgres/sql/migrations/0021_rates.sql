-- compatible from 1
-- How many attempts of an op's tasks with one concurrency key begin in any window of so many microseconds
-- (docs/decisions/0107); NULL: any number. Workers of older versions call the same functions, which keep to it.
ALTER TABLE ops ADD COLUMN IF NOT EXISTS rate_times integer;
ALTER TABLE ops ADD COLUMN IF NOT EXISTS rate_per_us bigint;

-- The attempts that count in the window of a key: a row each, from when a claim makes the parked task due. It counts for
-- as long as no claim has begun it, at a time after all times, and for one window from its claimed_at on. A claim that
-- looks at the key deletes what is out of the window: so a key has no more rows than its op may begin in one.
CREATE TABLE limit_starts (
    op              text COLLATE "C" NOT NULL,
    concurrency_key text COLLATE "C" NOT NULL,
    begun_at        bigint           NOT NULL,
    task            bigint           NOT NULL
);
CREATE INDEX limit_starts_of_key ON limit_starts (op, concurrency_key, begun_at, task);

-- functions: flush, claim_singly, claim_due, count_slots, look_at_op, open_window, admit_parked

CREATE TRIGGER ops_change_rate AFTER UPDATE ON ops
    FOR EACH ROW WHEN (OLD.rate_times IS DISTINCT FROM NEW.rate_times
                       OR OLD.rate_per_us IS DISTINCT FROM NEW.rate_per_us)
    EXECUTE FUNCTION look_at_op();
CREATE TRIGGER limit_starts_no_truncate BEFORE TRUNCATE ON limit_starts
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
