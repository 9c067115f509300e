-- The slots of an op, or its rate, became more or fewer: a claim is to look at all of its keys that are in use. Without a
-- rate none of its starts is kept; what a claim writes or holds just now goes when its key is looked at.
CREATE OR REPLACE FUNCTION look_at_op() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO limit_looks (op, due_at, concurrency_key)
    SELECT NEW.op, now_us(), k.concurrency_key
      FROM (SELECT l.concurrency_key FROM limits l WHERE l.op = NEW.op
             UNION
            SELECT s.concurrency_key FROM limit_starts s WHERE s.op = NEW.op) k;
    IF NEW.rate_times IS NULL THEN
        DELETE FROM limit_starts s
         WHERE s.ctid = ANY (ARRAY(SELECT w.ctid FROM limit_starts w WHERE w.op = NEW.op FOR UPDATE SKIP LOCKED));
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION look_at_op() FROM PUBLIC;
