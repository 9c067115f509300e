-- Puts a message into the inbox of its task, or says why not: what became of it, the task's op and status, its
-- number, and the text of the one that was there. The lock is that of a flush: a message is in before the final
-- of its task, or refused.
CREATE OR REPLACE FUNCTION send_message(
    m_task_id uuid, m_key text, m_body text, m_most integer, m_instance text
) RETURNS json
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    t     record;
    there record;
    n     integer;
BEGIN
    SELECT k.id, k.op, k.status INTO t FROM tasks k WHERE k.task_id = m_task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT m.n, m.body INTO there FROM messages m WHERE m.task = t.id AND m.key = m_key;
    IF FOUND THEN
        RETURN json_build_array('repeated', t.op, t.status, there.n, there.body);
    END IF;
    IF t.status NOT IN ('pending', 'running') THEN
        RETURN json_build_array('ended', t.op, t.status, 0, NULL);
    END IF;
    SELECT count(*) INTO n
      FROM (SELECT 1 FROM messages m WHERE m.task = t.id AND m.taken_seq IS NULL LIMIT m_most) w;
    IF n >= m_most THEN
        RETURN json_build_array('full', t.op, t.status, 0, NULL);
    END IF;
    n := 1 + coalesce((SELECT m.n FROM messages m WHERE m.task = t.id ORDER BY m.n DESC LIMIT 1), 0);
    INSERT INTO messages (task, n, key, body, sent_at) VALUES (t.id, n, m_key, m_body, now_us());
    IF current_setting('tapescope.quiet', true) IS DISTINCT FROM 'on' THEN
        PERFORM pg_notify(current_schema(), concat(m_instance, '|', m_task_id, ':0|'));
    END IF;
    RETURN json_build_array('sent', t.op, t.status, n, NULL);
END $$;
