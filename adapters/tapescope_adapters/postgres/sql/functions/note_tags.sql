-- Keeps the tags of a new task where they lead to it, and takes them away with the task. Whoever may write tasks
-- does so, so it runs as its owner; nobody else may put it on a table.
CREATE OR REPLACE FUNCTION note_tags() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO tagged (tag, task_id)
        SELECT t.tag, new.task_id FROM json_array_elements_text(new.tags::json) AS t(tag)
            ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM tagged g
         WHERE g.task_id = old.task_id
           AND g.tag = ANY (ARRAY(SELECT t.tag FROM json_array_elements_text(old.tags::json) AS t(tag)));
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION note_tags() FROM PUBLIC;
