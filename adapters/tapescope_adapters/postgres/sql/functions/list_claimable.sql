-- Those of these ops of which an owner may claim due tasks now: not those that are paused, and none where the owner
-- drains. For claim_due, in whose transaction it sees what was committed before that began. It runs as its owner:
-- so a role that was granted its rights before there were pauses claims as ever.
CREATE OR REPLACE FUNCTION list_claimable(x_owner text, x_ops text[]) RETURNS text[]
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM 1 FROM workers w WHERE w.owner = x_owner AND w.drained_at IS NOT NULL;
    IF FOUND THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT coalesce(array_agg(o.op), '{}')
              FROM unnest(x_ops) AS o(op)
              LEFT JOIN LATERAL (SELECT q.op FROM pauses q WHERE q.op = o.op LIMIT 1) p ON true
             WHERE p.op IS NULL);
END $$;
