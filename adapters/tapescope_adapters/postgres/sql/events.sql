-- name: read_tape
-- A page of a tape and where its end is, in one statement, for it must be as of one moment.
-- Differs from the SQLite version in that it is one query: each more would be a round trip.
SELECT coalesce(last.seq, 0) AS last_seq, CASE WHEN last.type = 'final' THEN last.seq END AS final_seq,
       (SELECT coalesce(sum(d.n), 0)::bigint FROM drop_counts d
         WHERE d.task_id = t.task_id::text) AS dropped,
       e.seq, e.type, e.ts, e.attempt, e.body
  FROM tasks t
  LEFT JOIN LATERAL (SELECT e.seq, e.type FROM events e WHERE e.task = t.id
                      ORDER BY e.seq DESC LIMIT 1) last ON true
  LEFT JOIN LATERAL (SELECT p.seq, p.type, p.ts, p.attempt,
                            CASE WHEN octet_length(p.body) <= 16777216 THEN p.body END AS body
                       FROM (SELECT e.seq, e.type, e.ts, e.attempt, e.body,
                                    sum(octet_length(e.body)) OVER (ORDER BY e.seq) AS upto
                               FROM events e
                              WHERE e.task = t.id AND e.seq > $2 ORDER BY e.seq LIMIT $3) AS p
                      WHERE (p.upto - octet_length(p.body)) < 16777216) e ON true
 WHERE t.task_id = $1 ORDER BY e.seq;

-- name: load_attempt
-- Where a tape ends, and the last offer of one attempt, on the tape or dropped. Attempts rise along
-- the tape, so it is walked back from its end. The quarantine is part of the counts. A task that is not
-- here has the key 0: its events are dropped, and each has an offer of its own in the quarantine.
SELECT coalesce(t.id, 0) AS key, coalesce(t.op, '') AS op, coalesce(last.seq, 0) AS last_seq,
       greatest(coalesce(mine.offer, 0),
                (SELECT coalesce(max(d.last_offer), 0) FROM drop_counts d
                  WHERE d.task_id = w.name AND d.attempt = $2)) AS last_offer
  FROM (SELECT $1::text AS name, $3::uuid AS task_id) w
  LEFT JOIN tasks t ON t.task_id = w.task_id
  LEFT JOIN LATERAL (SELECT e.seq FROM events e WHERE e.task = t.id
                      ORDER BY e.seq DESC LIMIT 1) last ON true
  LEFT JOIN LATERAL (SELECT CASE WHEN e.attempt = $2 THEN e.offer END AS offer FROM events e
                      WHERE e.task = t.id AND e.attempt <= $2
                      ORDER BY e.seq DESC LIMIT 1) mine ON true;
