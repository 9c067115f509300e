-- name: claim_due
-- See the function.
-- Differs from the SQLite version in that it is one call: each statement more would be a round trip.
SELECT /*settings*/ claim_due($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: forget_lanes
-- The lanes of the claims of a store that is closed.
DELETE FROM lanes WHERE lane = ANY ($1);

-- name: next_due
-- When the next pending task of these ops is due that are not paused: each looked up, however many are.
SELECT min(d.run_at) AS due FROM unnest($1::text[]) AS o(op)
 CROSS JOIN LATERAL (SELECT t.run_at FROM tasks t WHERE t.status = 'pending' AND t.op = o.op
                      ORDER BY t.run_at, t.id LIMIT 1) d
  LEFT JOIN LATERAL (SELECT q.op FROM pauses q WHERE q.op = o.op LIMIT 1) p ON true
 WHERE p.op IS NULL;
