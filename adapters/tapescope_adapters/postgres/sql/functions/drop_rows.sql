-- Rows of a flush that the guard left out: why, kept and counted.
CREATE OR REPLACE FUNCTION drop_rows(
    places integer[],
    r_key bigint[], r_attempt integer[], r_offer integer[], r_type text[], r_ts bigint[],
    r_body text[], r_owner text[], r_task_id text[], r_trace_id text[],
    keep_per_task integer, keep_unknown integer
) RETURNS json
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    answer json;
BEGIN
    -- No row to lock stands for the tasks that are not here; the one of the maintenance keeps their cap. Not an
    -- advisory lock: whoever may connect could hold that.
    PERFORM 1
       FROM unnest(places) p(place)
       LEFT JOIN LATERAL (SELECT true AS known FROM tasks t
                           WHERE t.id = r_key[p.place] LIMIT 1) t ON true
      WHERE t.known IS NULL LIMIT 1;
    IF FOUND THEN
        PERFORM 1 FROM maintenance m FOR NO KEY UPDATE;
    END IF;
    WITH late AS MATERIALIZED (
        SELECT r.*, t.op, e.seq AS last_seq,
               CASE WHEN t.status NOT IN ('pending', 'running') THEN t.status END AS outcome,
               CASE WHEN t.status NOT IN ('pending', 'running') THEN r.ts - e.ts END AS late_us,
               drop_reason(t.status, t.attempt, e.attempt, e.body, r.attempt, r.type, r.body) AS reason
          FROM unnest(r_key, r_attempt, r_offer, r_type, r_ts, r_body, r_owner, r_task_id, r_trace_id)
               WITH ORDINALITY
               AS r(key, attempt, offer, type, ts, body, owner, task_id, trace_id, place)
          LEFT JOIN LATERAL (SELECT t.id, t.op, t.status, t.attempt FROM tasks t
                              WHERE t.id = r.key LIMIT 1) t ON true
          LEFT JOIN LATERAL (SELECT e.seq, e.ts, e.attempt, e.body FROM events e
                              WHERE e.task = t.id ORDER BY e.seq DESC LIMIT 1) e ON true
         WHERE r.place = ANY (places)
    ), ranked AS (
        SELECT l.*,
               CASE l.reason WHEN 'unknown_task'
               THEN row_number() OVER of_one
                    + (SELECT coalesce(sum(d.n), 0) FROM drop_counts d
                        WHERE d.reason = 'unknown_task') <= keep_unknown
               ELSE row_number() OVER of_one
                    + (SELECT coalesce(sum(d.n), 0) FROM drop_counts d
                        WHERE d.task_id = l.task_id) <= keep_per_task END AS room
          FROM late l WHERE l.reason IS NOT NULL
        WINDOW of_one AS (PARTITION BY CASE l.reason WHEN 'unknown_task' THEN '' ELSE l.task_id END
                          ORDER BY l.place)
    ), kept AS (
        INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, late_us, trace_id,
                                body)
        SELECT r.task_id, r.attempt, r.offer, coalesce(r.owner, r_owner[1]), r.type, r.reason, r.ts,
               r.late_us, r.trace_id, r.body
          FROM ranked r WHERE r.room ORDER BY r.place
    ), counted AS (
        INSERT INTO drop_counts AS d (task_id, attempt, reason, type, outcome, n, last_offer)
        SELECT c.task_id, c.attempt, c.reason, c.type, c.outcome, count(*), max(c.offer)
          FROM (SELECT r.reason, r.offer,
                       CASE WHEN r.reason = 'unknown_task' THEN 'unknown'
                            ELSE coalesce(r.outcome, 'open') END AS outcome,
                       CASE WHEN r.reason = 'unknown_task' AND NOT r.room THEN '' ELSE r.task_id END
                            AS task_id,
                       CASE WHEN r.reason = 'unknown_task' AND NOT r.room THEN 0 ELSE r.attempt END
                            AS attempt,
                       CASE WHEN r.reason = 'unknown_task' AND NOT r.room THEN '' ELSE r.type END
                            AS type
                  FROM ranked r) c
         GROUP BY c.task_id, c.attempt, c.reason, c.type, c.outcome
            ON CONFLICT (task_id, attempt, reason, type, outcome)
            DO UPDATE SET n = d.n + excluded.n,
                          last_offer = greatest(d.last_offer, excluded.last_offer)
    )
    SELECT json_agg(json_build_array(l.place - 1, l.reason, l.op, l.outcome, coalesce(l.last_seq, 0)))
      INTO answer FROM late l;
    RETURN answer;
END $$;
