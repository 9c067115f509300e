-- How many more attempts of a key may begin now, NULL for any number: what is out of the window is deleted, and the key
-- is looked at when the oldest of the others leaves it. What began in the time to come, for the clock was set back,
-- counts for one window from now on: by the clock as it is read here, for what began after x_now may have begun just now.
-- For admit_parked, which has locked the key where it may make a task due.
CREATE OR REPLACE FUNCTION open_window(x_op text, x_key text, x_now bigint) RETURNS integer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    times integer;
    per   bigint;
    begun integer;
    first bigint;
BEGIN
    SELECT o.rate_times, o.rate_per_us INTO times, per FROM ops o WHERE o.op = x_op;
    DELETE FROM limit_starts s
     WHERE s.ctid = ANY (ARRAY(SELECT w.ctid FROM limit_starts w
                                WHERE w.op = x_op AND w.concurrency_key = x_key
                                  AND w.begun_at <= CASE WHEN times IS NULL THEN 253402300799999998 ELSE x_now - per END
                                  FOR UPDATE SKIP LOCKED));
    IF times IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE limit_starts s SET begun_at = now_us()
     WHERE s.ctid = ANY (ARRAY(SELECT w.ctid FROM limit_starts w
                                WHERE w.op = x_op AND w.concurrency_key = x_key
                                  AND w.begun_at > x_now AND w.begun_at < 253402300799999999
                                  FOR UPDATE SKIP LOCKED));
    SELECT count(*), min(s.begun_at) INTO begun, first FROM limit_starts s
     WHERE s.op = x_op AND s.concurrency_key = x_key AND s.begun_at > x_now - per;
    IF first < 253402300799999999 THEN  -- else a claim says when the first of them begins
        INSERT INTO limit_looks (op, due_at, concurrency_key)
        SELECT x_op, first + per, x_key
         WHERE NOT EXISTS (SELECT 1 FROM limit_looks l
                            WHERE l.op = x_op AND l.concurrency_key = x_key AND l.due_at = first + per);
    END IF;
    RETURN times - begun;
END $$;
