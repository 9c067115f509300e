-- How many tasks of each op are due, scheduled and so on, by the numbers that are kept: no row of a task is read.
CREATE OR REPLACE FUNCTION count_backlog(x_passed bigint)
RETURNS TABLE (op text, due bigint, scheduled bigint, retrying bigint, running bigint, held bigint,
               succeeded bigint, failed bigint, cancelled bigint, gone bigint)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
SET enable_seqscan = off
AS $$
    SELECT c.op,
           coalesce(sum(c.n) FILTER (WHERE c.ready), 0)::bigint,
           coalesce(sum(CASE WHEN c.ready THEN -c.n ELSE c.n END)
                    FILTER (WHERE c.state IN ('scheduled', 'held_scheduled')), 0)::bigint,
           coalesce(sum(CASE WHEN c.ready THEN -c.n ELSE c.n END)
                    FILTER (WHERE c.state IN ('retrying', 'held_retrying')), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'running'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'held_due'
                                        OR (NOT c.ready AND c.state IN ('held_scheduled', 'held_retrying'))), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'succeeded'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'failed'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'cancelled'), 0)::bigint,
           coalesce(sum(c.n) FILTER (WHERE c.state = 'gone'), 0)::bigint
      FROM (SELECT r.op, r.state, r.n,
                   r.second >= 0 AND r.state IN ('due', 'scheduled', 'retrying',
                                                 'held_due', 'held_scheduled', 'held_retrying') AS ready
              FROM (SELECT b.op, b.state, b.second, b.n FROM backlog b WHERE b.second <= x_passed
                     UNION ALL
                    SELECT m.op, m.state, m.second, m.n FROM backlog_moves m WHERE m.second <= x_passed
                     UNION ALL
                    SELECT m.op, m.state, -1, m.n FROM backlog_moves m WHERE m.second > 0) r) c
     GROUP BY c.op
$$;
REVOKE EXECUTE ON FUNCTION count_backlog(bigint) FROM PUBLIC;
