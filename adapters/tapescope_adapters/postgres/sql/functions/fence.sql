-- Makes sure that a flush whose reply was lost is not carried out later either: NULL when its number
-- is spent now, else the answer that it was given after all.
CREATE OR REPLACE FUNCTION fence(f_lane text, f_number bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    stored text;
BEGIN
    INSERT INTO lanes AS l (lane, number, touched, answer)
    VALUES (f_lane, f_number, now_us(), 'void')
        ON CONFLICT (lane)
        DO UPDATE SET number = excluded.number, touched = excluded.touched, answer = excluded.answer
        WHERE l.number < excluded.number;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(l.answer, l.touched::text) INTO STRICT stored
      FROM lanes l WHERE l.lane = f_lane AND l.number = f_number;
    RETURN stored;
END $$;
