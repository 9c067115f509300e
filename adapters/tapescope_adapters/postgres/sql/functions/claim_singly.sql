-- Claims one task after the other, for claim_due, which would be refused: first x_picked, then what else
-- is due, priority after priority.
-- x_ops are as claim_due takes them.
-- A task that cannot be claimed, for it was written past tapescope, ends as failed; one whose tape takes no
-- end is passed over, for the audit to find. What has ended has the attempt -1.
CREATE OR REPLACE FUNCTION claim_singly(
    x_owner text, x_ops text[], x_limit integer, x_lease bigint, x_ts bigint, x_before text, x_behind text,
    x_now bigint, x_picked bigint[], OUT won bigint[], OUT attempts bigint[], OUT starts bigint[]
)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    asked record;
    t     record;
    last  record;
BEGIN
    won := '{}';
    attempts := '{}';
    starts := '{}';
    FOR asked IN
        SELECT NULL AS op, 10 AS priority, NULL AS queue
         UNION ALL
        SELECT o.op, p.priority, q.queue
          FROM unnest(x_ops) AS o(op)
         CROSS JOIN (SELECT substr(n.name, 2) FROM unnest(x_ops) AS n(name) WHERE n.name LIKE '/%'
                      UNION ALL
                     SELECT NULL WHERE NOT EXISTS (SELECT FROM unnest(x_ops) AS n(name) WHERE n.name LIKE '/%')) AS q(queue)
         CROSS JOIN generate_series(-9, 9) AS p(priority)
         WHERE o.op NOT LIKE '/%'
         ORDER BY 2 DESC
    LOOP
        EXIT WHEN cardinality(won) >= x_limit;
        FOR t IN
            SELECT p.id, p.attempt FROM tasks p WHERE asked.op IS NULL AND p.id = ANY (x_picked)
             UNION ALL
            SELECT * FROM (
                SELECT d.id, d.attempt FROM tasks d
                 WHERE asked.queue IS NULL AND d.status = 'pending' AND d.engine = '' AND d.op = asked.op
                   AND d.priority = asked.priority AND d.run_at <= x_now AND d.id <> ALL (x_picked)
                   AND (d.expires_in IS NULL OR d.attempt > 0 OR d.run_at + d.expires_in > x_now)
                 ORDER BY d.run_at, d.id FOR NO KEY UPDATE SKIP LOCKED) AS others
             UNION ALL
            SELECT * FROM (
                SELECT d.id, d.attempt FROM tasks d
                 WHERE asked.queue IS NOT NULL AND d.status = 'pending' AND d.engine = ''
                   AND (d.op || '/' || d.queue) COLLATE "C" = asked.op || '/' || asked.queue
                   AND d.priority = asked.priority AND d.run_at <= x_now AND d.id <> ALL (x_picked)
                   AND (d.expires_in IS NULL OR d.attempt > 0 OR d.run_at + d.expires_in > x_now)
                 ORDER BY d.run_at, d.id FOR NO KEY UPDATE SKIP LOCKED) AS of_queue
        LOOP
            EXIT WHEN cardinality(won) >= x_limit;
            SELECT coalesce(max(e.seq), 0) AS seq, coalesce(max(e.offer), 0) AS offer INTO last
              FROM (SELECT e.seq, e.offer FROM events e WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1) e;
            BEGIN
                IF t.attempt < 0 THEN
                    RAISE numeric_value_out_of_range;
                END IF;
                UPDATE tasks r
                   SET status = 'running', attempt = r.attempt + 1, owner = x_owner, claimed_at = now_us(),
                       lease_expires_at = now_us() + x_lease
                 WHERE r.id = t.id;
                INSERT INTO events (task, seq, attempt, offer, type, ts, body)
                VALUES (t.id, last.seq + 1, t.attempt + 1, 1, 'task_started', x_ts,
                        x_before || t.attempt + 1 || x_behind);
                attempts := attempts || t.attempt::bigint + 1;
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception OR SQLSTATE 'TS001' THEN
                BEGIN
                    -- The port has the same text: in DueOrder.failed.
                    INSERT INTO events (task, seq, attempt, offer, type, ts, body)
                    VALUES (t.id, last.seq + 1, t.attempt, foreign_offer(last.offer), 'final', x_ts,
                            '{"outcome":"failed","error":{"code":"bad_row","message":'
                            '"its row was written past tapescope, and could not be claimed"}}');
                    attempts := attempts || -1::bigint;
                EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception OR SQLSTATE 'TS001' THEN
                    CONTINUE;
                END;
            END;
            won := won || t.id;
            starts := starts || last.seq::bigint + 1;
        END LOOP;
    END LOOP;
END $$;
