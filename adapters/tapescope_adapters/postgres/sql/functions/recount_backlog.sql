-- The numbers that are kept beside a count of the tasks, as of one moment: for each op and state both of them.
-- Of tasks that have ended there are no more than were counted: some were pruned. It reads every task.
CREATE OR REPLACE FUNCTION recount_backlog(x_passed bigint)
RETURNS TABLE (op text, state text, kept bigint, found bigint)
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT b.op, b.state, sum(b.kept)::bigint, sum(b.found)::bigint
      FROM (SELECT c.op, s.state, s.n AS kept, 0::bigint AS found
              FROM count_backlog(x_passed) c
             CROSS JOIN LATERAL (VALUES ('due', c.due), ('scheduled', c.scheduled), ('retrying', c.retrying),
                                        ('running', c.running), ('held', c.held), ('succeeded', c.succeeded),
                                        ('failed', c.failed), ('cancelled', c.cancelled)) s(state, n)
             UNION ALL
            SELECT t.op,
                   CASE WHEN t.status <> 'pending' THEN t.status
                        WHEN t.attempt > 0
                        THEN CASE WHEN t.run_at / 1000000 <= x_passed THEN 'due' ELSE 'retrying' END
                        WHEN t.run_at > t.created_at AND t.run_at / 1000000 > x_passed THEN 'scheduled'
                        ELSE 'due' END,
                   0, 1
              FROM tasks t
             UNION ALL
            SELECT t.op, 'held', 0, 1 FROM tasks t WHERE t.status = 'pending' AND t.lease_expires_at IS NOT NULL) b
     GROUP BY b.op, b.state
$$;
