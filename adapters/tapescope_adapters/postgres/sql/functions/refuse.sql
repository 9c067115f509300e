-- Every refusal, with the invariant's number in front.
CREATE OR REPLACE FUNCTION refuse(why text) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    RAISE EXCEPTION 'tapescope %', why USING ERRCODE = 'TS001';
END $$;
