-- The first 1,000 ops that are paused, as JSON, for the numbers of what waits: read_backlog says the same to older
-- versions as before. It tells no task, so it runs as its owner, as that one does: any role of the store may ask.
CREATE OR REPLACE FUNCTION read_pauses() RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    RETURN (SELECT coalesce(json_agg(json_build_array(p.op, p.paused_at, p.paused_by, p.reason)), '[]')::text
              FROM (SELECT * FROM pauses ORDER BY op LIMIT 1000) p);
END $$;
