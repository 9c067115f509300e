-- compatible from 1
-- Tags, by which tasks are found (docs/decisions/0095), and the task whose runner submitted another (0096). What older
-- versions submit has neither.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS tags text
    CONSTRAINT tasks_tags_are_a_list CHECK (tags IS JSON ARRAY);
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS parent_id uuid;
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS cancel_with_parent boolean NOT NULL DEFAULT false;
CREATE INDEX tasks_follow ON tasks (parent_id, task_id)
    WHERE cancel_with_parent AND parent_id IS NOT NULL AND cancel_requested_at IS NULL
      AND status IN ('pending', 'running');
CREATE INDEX tasks_parent ON tasks (parent_id, task_id) WHERE parent_id IS NOT NULL;
CREATE TRIGGER tasks_keep_context BEFORE UPDATE OF tags, parent_id ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION guard_identity();

CREATE TABLE tagged (
    tag     text COLLATE "C" NOT NULL,
    task_id uuid             NOT NULL,
    CONSTRAINT tagged_pkey PRIMARY KEY (tag, task_id)
);

-- functions: flush, guard_identity, note_tags
CREATE TRIGGER tasks_are_tagged AFTER INSERT ON tasks
    FOR EACH ROW WHEN (new.tags IS NOT NULL) EXECUTE FUNCTION note_tags();
CREATE TRIGGER tasks_take_their_tags AFTER DELETE ON tasks
    FOR EACH ROW WHEN (old.tags IS NOT NULL) EXECUTE FUNCTION note_tags();

-- Of a schedule's tasks.
ALTER TABLE schedules ADD COLUMN IF NOT EXISTS tags text;
