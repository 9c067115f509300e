-- compatible from 1
-- Messages to tasks (docs/decisions/0097): n counts those of a task, from 1. A row stays as long as its task; what an
-- attempt has taken is on the tape, at taken_seq.
CREATE TABLE messages (
    task      bigint  NOT NULL,
    n         integer NOT NULL,
    key       text COLLATE "C" NOT NULL,
    body      text    NOT NULL,
    sent_at   bigint  NOT NULL,
    taken_seq integer,
    CONSTRAINT messages_pkey PRIMARY KEY (task, n),
    CONSTRAINT messages_key_unique UNIQUE (task, key),
    CONSTRAINT messages_task_fkey FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
);
CREATE INDEX messages_untaken ON messages (task) WHERE taken_seq IS NULL;

-- functions: guard_appended, find_untaken, flush, guard_message, guard_taken_message, send_message

CREATE TRIGGER messages_can_be_read BEFORE INSERT OR UPDATE OF task, n, key, body, sent_at ON messages
    FOR EACH ROW EXECUTE FUNCTION guard_message();
CREATE TRIGGER messages_taken_by_event BEFORE UPDATE OF taken_seq OR DELETE ON messages
    FOR EACH ROW EXECUTE FUNCTION guard_taken_message();
CREATE TRIGGER messages_no_truncate BEFORE TRUNCATE ON messages
    FOR EACH STATEMENT EXECUTE FUNCTION guard_truncated();
