-- Adds what statements moved to the numbers, and what has fallen due to what is due. For who holds the row of
-- backlog_snapshot: no flush waits for it. So many moves at a time, so that it is never long.
CREATE OR REPLACE FUNCTION fold_backlog(x_passed bigint) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    WITH moved AS (
        DELETE FROM backlog_moves m
         WHERE m.ctid = ANY (ARRAY(SELECT f.ctid FROM backlog_moves f LIMIT 100000))
        RETURNING m.op, m.state, m.second, m.n
    ), passed AS (
        DELETE FROM backlog b WHERE b.second BETWEEN 1 AND x_passed RETURNING b.op, b.state, b.n
    ), news AS (
        SELECT m.op, m.state, CASE WHEN m.second BETWEEN 1 AND x_passed THEN 0 ELSE m.second END AS second, m.n
          FROM moved m
         UNION ALL
        SELECT m.op, m.state, -1, m.n FROM moved m WHERE m.second > 0
         UNION ALL
        SELECT p.op, p.state, 0, p.n FROM passed p
    )
    INSERT INTO backlog AS b (second, op, state, n)
    SELECT w.second, w.op, w.state, sum(w.n) FROM news w GROUP BY w.second, w.op, w.state
    HAVING sum(w.n) <> 0 OR w.second > 0
        ON CONFLICT ON CONSTRAINT backlog_pkey DO UPDATE SET n = b.n + excluded.n;
END $$;
REVOKE EXECUTE ON FUNCTION fold_backlog(bigint) FROM PUBLIC;
