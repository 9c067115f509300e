-- compatible from 1
-- Tags, by which tasks are found (docs/decisions/0095), and the task whose runner submitted another (0096). What older
-- versions submit has neither.
ALTER TABLE tasks ADD COLUMN tags TEXT;
ALTER TABLE tasks ADD COLUMN parent_id TEXT;
ALTER TABLE tasks ADD COLUMN cancel_with_parent INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_follow ON tasks (parent_id, task_id)
    WHERE cancel_with_parent AND parent_id IS NOT NULL AND cancel_requested_at IS NULL
      AND status IN ('pending', 'running');
CREATE INDEX tasks_parent ON tasks (parent_id, task_id) WHERE parent_id IS NOT NULL;
CREATE TRIGGER tasks_keep_context BEFORE UPDATE OF tags, parent_id ON tasks
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: a task keeps its tags and its parent');
END;

CREATE TABLE tagged (
    tag     TEXT NOT NULL,
    task_id TEXT NOT NULL,
    CONSTRAINT tagged_pkey PRIMARY KEY (tag, task_id)
) STRICT, WITHOUT ROWID;
-- No CHECK as in the Postgres version: there SQLite takes no function of JSON where a schema is not trusted.
CREATE TRIGGER tasks_tags_are_a_list BEFORE INSERT ON tasks
WHEN NEW.tags IS NOT NULL AND (NOT json_valid(NEW.tags) OR json_type(NEW.tags) <> 'array')
BEGIN
    SELECT RAISE(ABORT, 'tapescope: the tags of a task are a JSON list');
END;
CREATE TRIGGER tasks_are_tagged AFTER INSERT ON tasks
WHEN NEW.tags IS NOT NULL
BEGIN
    INSERT INTO tagged (tag, task_id) SELECT value, NEW.task_id FROM json_each(NEW.tags) WHERE true
        ON CONFLICT (tag, task_id) DO NOTHING;
END;
CREATE TRIGGER tasks_take_their_tags AFTER DELETE ON tasks
WHEN OLD.tags IS NOT NULL
BEGIN
    DELETE FROM tagged
     WHERE task_id = OLD.task_id
       AND tag IN (SELECT value FROM json_each(CASE WHEN json_valid(OLD.tags) THEN OLD.tags ELSE '[]' END));
END;

-- Of a schedule's tasks.
ALTER TABLE schedules ADD COLUMN tags TEXT;
