-- Sets the numbers to what a count of the tasks gives, where they differ, and notes that in the repair log. No
-- task moves meanwhile. What has ended is only ever counted up; what lives no more is gone, so that the number
-- of tasks that were submitted never falls. Only the owner of the tables may.
CREATE OR REPLACE FUNCTION mend_backlog(x_by text) RETURNS SETOF repairs
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET lock_timeout = '500ms'
AS $$
DECLARE
    was  json;
    done json;
    lost json;
    one  repairs%ROWTYPE;
BEGIN
    LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE;
    PERFORM 1 FROM backlog_snapshot FOR UPDATE;  -- nobody folds meanwhile
    SELECT json_agg(json_build_object('op', r.op, 'state', r.state, 'n', r.kept) ORDER BY r.op, r.state),
           json_build_object('numbers', count(*), 'counts', json_agg(
               json_build_object('op', r.op, 'state', r.state, 'n', r.found) ORDER BY r.op, r.state))
      INTO was, done
      FROM recount_backlog(now_us() / 1000000) r
     WHERE CASE WHEN r.state IN ('succeeded', 'failed', 'cancelled') THEN r.kept < r.found ELSE r.kept <> r.found END;
    IF was IS NULL THEN
        RETURN;
    END IF;
    SELECT json_agg(json_build_array(l.op, l.n)) INTO lost
      FROM (SELECT r.op, sum(CASE WHEN r.state IN ('succeeded', 'failed', 'cancelled')
                                  THEN least(r.kept - r.found, 0) ELSE r.kept - r.found END) AS n
              FROM recount_backlog(now_us() / 1000000) r WHERE r.state <> 'held' GROUP BY r.op) l
     WHERE l.n > 0;
    INSERT INTO backlog AS b (second, op, state, n)
    SELECT 0, m.op, m.state, sum(m.n)
      FROM (SELECT m.op, m.state, m.n FROM backlog_moves m
             WHERE m.state IN ('succeeded', 'failed', 'cancelled', 'gone')
             UNION ALL
            SELECT l.one ->> 0, 'gone', (l.one ->> 1)::bigint FROM json_array_elements(lost) l(one)) m
     GROUP BY m.op, m.state
        ON CONFLICT ON CONSTRAINT backlog_pkey DO UPDATE SET n = b.n + excluded.n;
    PERFORM fill_backlog();
    UPDATE backlog_snapshot SET made_at = 0;
    INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
    VALUES (now_us(), x_by, 'backlog_mismatch', '-', was, done)
    RETURNING * INTO one;
    RETURN NEXT one;
END $$;
