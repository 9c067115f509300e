-- name: find_receiver
SELECT id, op, status FROM tasks WHERE task_id = ?;

-- name: find_message
-- The message of a key.
SELECT n, body FROM messages WHERE task = ? AND key = ?;

-- name: count_waiting
-- Messages that a task has not taken, as far as the bound.
SELECT count(*) FROM (SELECT 1 FROM messages m INDEXED BY messages_untaken
                       WHERE m.task = ? AND m.taken_seq IS NULL LIMIT ?);

-- name: add_message
INSERT INTO messages (task, n, key, body, sent_at)
VALUES (:task, 1 + coalesce((SELECT max(m.n) FROM messages m WHERE m.task = :task), 0), :key, :body, :now)
RETURNING n;

-- name: read_inbox
-- Messages of a task, taken or not, by their numbers.
SELECT n, key, body, sent_at, taken_seq FROM messages WHERE task = ? AND n > ? ORDER BY n LIMIT ?;

-- name: find_untaken
-- Tasks, of these, that have messages which they did not take.
SELECT t.task_id, t.op, count(*)
  FROM json_each(?) AS k
  JOIN tasks t ON t.task_id = k.value
  JOIN messages m INDEXED BY messages_untaken ON m.task = t.id AND m.taken_seq IS NULL
 GROUP BY t.id;
