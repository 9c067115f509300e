-- name: read_quarantine
-- A page of dropped events and, where $3, what is kept and what was counted, as of one moment.
-- Differs from the SQLite version in that it is one query: each more would be a round trip.
SELECT CASE WHEN $3 THEN (SELECT count(*) FROM quarantine /*where*/) ELSE 0 END AS kept,
       CASE WHEN $3 THEN (
           SELECT json_object_agg(c.reason, c.n)
             FROM (SELECT reason, sum(n)::bigint AS n FROM drop_counts /*where*/ GROUP BY reason) c) END AS counts,
       one.looked_to, q.id, q.task_id, q.attempt, q.type, q.reason, q.ts, q.late_us, q.trace_id, q.body
  FROM (SELECT (/*looked_to*/) AS looked_to) AS one
  LEFT JOIN LATERAL (SELECT * FROM quarantine WHERE id > $1 /*times*/ /*and*/ ORDER BY id LIMIT $2) q ON true
 ORDER BY q.id;

-- name: find_searched_drop
-- The last that read_quarantine looks at for what no index leads to, if it stops there: a part of that query.
SELECT id FROM quarantine WHERE id > $1 /*and*/ ORDER BY id LIMIT 1 OFFSET $4;
