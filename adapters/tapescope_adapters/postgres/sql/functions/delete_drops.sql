-- Deletes late events, and the counts of unknown tasks of which none is kept any more; with them the
-- common count of those past the cap: else the cap would stay reached for ever.
-- The lock is that of drop_rows. Who drops an event of such a task has committed when it is had, and
-- the statement behind it sees that event, so its count stays.
CREATE OR REPLACE FUNCTION delete_drops(keys bigint[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    unknown text[] := ARRAY(SELECT DISTINCT q.task_id FROM quarantine q
                             WHERE q.id = ANY (keys) AND q.reason = 'unknown_task');
    deleted bigint;
BEGIN
    IF cardinality(unknown) > 0 THEN
        PERFORM 1 FROM maintenance m FOR NO KEY UPDATE;
    END IF;
    DELETE FROM quarantine q WHERE q.id = ANY (keys);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF cardinality(unknown) > 0 THEN
        DELETE FROM drop_counts d
         WHERE d.reason = 'unknown_task'
           AND (d.task_id = ''
                OR (d.task_id = ANY (unknown)
                    AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.task_id = d.task_id)));
    END IF;
    RETURN deleted;
END $$;
