-- Counts the tasks anew, for who keeps every other writer of them out. What has ended is never counted down.
CREATE OR REPLACE FUNCTION fill_backlog() RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    DELETE FROM backlog_moves;
    DELETE FROM backlog WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'gone');
    INSERT INTO backlog AS b (second, op, state, n)
    SELECT k.second, t.op, s.state, count(*)
      FROM tasks t
     CROSS JOIN LATERAL (
           SELECT CASE WHEN t.status <> 'pending' THEN t.status
                       ELSE CASE WHEN t.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                            || CASE WHEN t.attempt > 0 THEN 'retrying'
                                    WHEN t.run_at > t.created_at THEN 'scheduled' ELSE 'due' END
                  END AS state,
                  CASE WHEN t.status = 'pending' AND (t.attempt > 0 OR t.run_at > t.created_at)
                       THEN greatest(t.run_at / 1000000, 1) ELSE 0 END AS second) s
     CROSS JOIN LATERAL (SELECT s.second UNION ALL SELECT -1 WHERE s.second > 0) k(second)
     GROUP BY k.second, t.op, s.state
        ON CONFLICT ON CONSTRAINT backlog_pkey DO UPDATE SET n = greatest(b.n, excluded.n);
END $$;
REVOKE EXECUTE ON FUNCTION fill_backlog() FROM PUBLIC;
