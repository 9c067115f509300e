-- What waits and what runs, by op, as JSON: when it was made, when it is read, and a list for each op. One that
-- is not older than x_fresh is told again. Else it is made anew; by one session at a time, which keeps it for
-- the others and folds the moves, where x_write says that this one may write. Of the tasks it reads one row of
-- each engine and priority of an op that waits, by an index, for 200 ops at the most, and those that run.
-- It tells numbers alone, so it runs as its owner: any role of the store may ask.
CREATE OR REPLACE FUNCTION read_backlog(x_fresh bigint, x_write boolean) RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    now    bigint := now_us();
    passed bigint := now / 1000000;
    kept   record;
    made   text;
BEGIN
    SELECT s.made_at, s.facts INTO kept FROM backlog_snapshot s;
    IF kept.made_at BETWEEN now - x_fresh AND now THEN
        RETURN json_build_array(kept.made_at, now, kept.facts::json);
    END IF;
    IF x_write THEN
        PERFORM 1 FROM backlog_snapshot FOR NO KEY UPDATE SKIP LOCKED;
        x_write := FOUND;
    END IF;
    IF x_write THEN
        PERFORM fold_backlog(passed);
        DELETE FROM workers WHERE until < now - 3600000000;
    END IF;
    WITH counts AS MATERIALIZED (
        SELECT *, row_number() OVER (ORDER BY c.due DESC, c.op) AS place FROM count_backlog(passed) c
    ), able AS MATERIALIZED (
        SELECT o.op, count(*) AS n FROM workers w CROSS JOIN LATERAL unnest(w.ops) AS o(op)
         WHERE w.until > now GROUP BY o.op
    ), told AS MATERIALIZED (
        SELECT o.op, o.timeout_s FROM ops o WHERE o.told_at > now - 604800000000
    ), running AS MATERIALIZED (
        SELECT t.op, min(t.claimed_at) AS since FROM tasks t WHERE t.status = 'running' GROUP BY t.op
    )
    SELECT coalesce(json_agg(json_build_array(
               n.op, coalesce(c.due, 0), coalesce(c.scheduled, 0), coalesce(c.retrying, 0), coalesce(c.running, 0),
               coalesce(c.held, 0), coalesce(c.succeeded, 0), coalesce(c.failed, 0), coalesce(c.cancelled, 0),
               coalesce(c.gone, 0), first.run_at, r.since, coalesce(a.n, 0), k.op IS NOT NULL, k.timeout_s)
               ORDER BY n.op), '[]')::text
      INTO made
      FROM (SELECT c.op FROM counts c UNION SELECT a.op FROM able a UNION SELECT k.op FROM told k) n
      LEFT JOIN counts c ON c.op = n.op
      LEFT JOIN able a ON a.op = n.op
      LEFT JOIN told k ON k.op = n.op
      LEFT JOIN running r ON r.op = n.op
     CROSS JOIN LATERAL (
            WITH RECURSIVE waiting AS (
                (SELECT t.engine, t.priority, t.run_at FROM tasks t
                  WHERE t.status = 'pending' AND t.op = n.op AND c.due > 0 AND c.place <= 200
                  ORDER BY t.engine, t.priority DESC, t.run_at, t.id LIMIT 1)
                 UNION ALL
                SELECT d.engine, d.priority, d.run_at FROM waiting w
                 CROSS JOIN LATERAL (
                        (SELECT t.engine, t.priority, t.run_at FROM tasks t
                          WHERE t.status = 'pending' AND t.op = n.op AND t.engine = w.engine
                            AND t.priority < w.priority
                          ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
                         UNION ALL
                        (SELECT t.engine, t.priority, t.run_at FROM tasks t
                          WHERE t.status = 'pending' AND t.op = n.op AND t.engine > w.engine
                          ORDER BY t.engine, t.priority DESC, t.run_at, t.id LIMIT 1)
                         LIMIT 1) d
            )
            SELECT min(w.run_at) AS run_at FROM waiting w) first;
    IF x_write THEN
        UPDATE backlog_snapshot SET made_at = now, facts = made;
    END IF;
    RETURN json_build_array(now, now, made::json);
END $$;
