-- The slots of an op became more or fewer: a claim is to look at all of its keys that are in use.
CREATE OR REPLACE FUNCTION look_at_op() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO limit_looks (op, due_at, concurrency_key)
    SELECT l.op, now_us(), l.concurrency_key FROM limits l WHERE l.op = NEW.op;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION look_at_op() FROM PUBLIC;
