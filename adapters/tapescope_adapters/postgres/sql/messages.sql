-- name: send_message
-- As durable as a flush, and heard or not as one.
SELECT /*settings*/ send_message($1::uuid, $2, $3, $4, $5) AS answer;

-- name: read_inbox
-- Messages of a task, taken or not, by their numbers; where it has none, one row of NULLs says that the task is there.
SELECT m.n, m.key, m.body, m.sent_at, m.taken_seq
  FROM tasks t
  LEFT JOIN LATERAL (SELECT * FROM messages m WHERE m.task = t.id AND m.n > $2 ORDER BY m.n LIMIT $3) m ON true
 WHERE t.task_id = $1::uuid;

-- name: find_untaken
SELECT find_untaken(ARRAY(SELECT t.id FROM tasks t WHERE t.task_id = ANY ($1::text[]::uuid[]))) AS answer;
