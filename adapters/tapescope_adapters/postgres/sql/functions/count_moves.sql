-- Notes how many tasks a statement moved from one state to another: a row for each op, state and second of
-- run_at that it changed, and none where it changed none, as a heartbeat does not (docs/decisions/0052). What
-- has ended is counted once and never taken back. A task that is deleted before its end is counted as gone.
-- Whoever may write tasks counts them, so it runs as its owner; nobody else may put it on a table.
CREATE OR REPLACE FUNCTION count_moves() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO backlog_moves (op, state, second, n)
        SELECT c.op, s.state, s.second, count(*)
          FROM came c
         CROSS JOIN LATERAL (
               SELECT CASE WHEN c.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                      || CASE WHEN c.run_at > c.created_at THEN 'scheduled' ELSE 'due' END AS state,
                      CASE WHEN c.run_at > c.created_at THEN greatest(c.run_at / 1000000, 1) ELSE 0 END AS second) s
         GROUP BY c.op, s.state, s.second;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO backlog_moves (op, state, second, n)
        SELECT m.op, s.state, s.second, sum(m.n)
          FROM (SELECT w.op, w.status, w.attempt, w.run_at, w.created_at, w.lease_expires_at, -1 AS n FROM was w
                 UNION ALL
                SELECT c.op, c.status, c.attempt, c.run_at, c.created_at, c.lease_expires_at, 1 FROM came c) m
         CROSS JOIN LATERAL (
               SELECT CASE WHEN m.status <> 'pending' THEN m.status
                           ELSE CASE WHEN m.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                                || CASE WHEN m.attempt > 0 THEN 'retrying'
                                        WHEN m.run_at > m.created_at THEN 'scheduled' ELSE 'due' END
                      END AS state,
                      CASE WHEN m.status = 'pending' AND (m.attempt > 0 OR m.run_at > m.created_at)
                           THEN greatest(m.run_at / 1000000, 1) ELSE 0 END AS second) s
         GROUP BY m.op, s.state, s.second
        HAVING sum(m.n) > 0
            OR (sum(m.n) < 0 AND s.state NOT IN ('succeeded', 'failed', 'cancelled'));
    ELSE
        INSERT INTO backlog_moves (op, state, second, n)
        SELECT w.op, s.state, s.second, sum(s.n)
          FROM was w
         CROSS JOIN LATERAL (
               SELECT CASE WHEN w.status = 'running' THEN w.status
                           ELSE CASE WHEN w.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                                || CASE WHEN w.attempt > 0 THEN 'retrying'
                                        WHEN w.run_at > w.created_at THEN 'scheduled' ELSE 'due' END
                      END AS state,
                      CASE WHEN w.status = 'pending' AND (w.attempt > 0 OR w.run_at > w.created_at)
                           THEN greatest(w.run_at / 1000000, 1) ELSE 0 END AS second,
                      -1 AS n
                UNION ALL
               SELECT 'gone', 0, 1) s
         WHERE w.status IN ('pending', 'running')
         GROUP BY w.op, s.state, s.second;
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION count_moves() FROM PUBLIC;
