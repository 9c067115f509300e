-- Why a row that the guard left out is kept off its task's tape: the first reason that holds. NULL for
-- the tape's own final, sent again, which is not a drop. The ladder of tapescope's find_drop_reason.
CREATE OR REPLACE FUNCTION drop_reason(
    task_status text, task_attempt integer, final_attempt integer, final_body text,
    attempt integer, type text, body text
) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN task_status IS NULL THEN 'unknown_task'
    WHEN attempt <> task_attempt OR task_status IN ('pending', 'running') THEN 'stale_attempt'
    WHEN type <> 'final' THEN 'after_terminal'
    WHEN final_attempt = attempt AND final_body = body THEN NULL
    ELSE 'duplicate_final' END;
