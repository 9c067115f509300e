-- compatible from 1
-- Messages to tasks (docs/decisions/0097): n counts those of a task, from 1. A row stays as long as its task; what an
-- attempt has taken is on the tape, at taken_seq.
CREATE TABLE messages (
    task      INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    key       TEXT    NOT NULL,
    body      TEXT    NOT NULL,
    sent_at   INTEGER NOT NULL,
    taken_seq INTEGER,
    PRIMARY KEY (task, n),
    UNIQUE (task, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_untaken ON messages (task) WHERE taken_seq IS NULL;
-- A REPLACE deletes without a trigger: that a number and a key are free is asked before it.
CREATE TRIGGER messages_are_new BEFORE INSERT ON messages
WHEN NEW.taken_seq IS NOT NULL
    OR EXISTS (SELECT 1 FROM messages m WHERE m.task = NEW.task AND m.n = NEW.n)
    OR EXISTS (SELECT 1 FROM messages m WHERE m.task = NEW.task AND m.key = NEW.key)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message has a number and a key of its own, and is not taken yet');
END;
CREATE TRIGGER messages_can_be_read BEFORE INSERT ON messages
WHEN NEW.sent_at NOT BETWEEN -62135596800000000 AND 253402300799999999
    OR NOT json_valid(NEW.body)
    OR NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = NEW.task AND t.status IN ('pending', 'running'))
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message has a time, a body that is JSON, and a task that has not ended');
END;
CREATE TRIGGER messages_stay BEFORE UPDATE OF task, n, key, body, sent_at ON messages
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message is what was sent');
END;
CREATE TRIGGER messages_taken_by_event BEFORE UPDATE OF taken_seq ON messages
WHEN OLD.taken_seq IS NOT NULL
    OR NOT EXISTS (SELECT 1 FROM events e
                    WHERE e.task = NEW.task AND e.seq = NEW.taken_seq AND e.type = 'message_taken'
                      AND json_extract(e.body, '$.n') = NEW.n)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message is taken once, by the event that says so');
END;
CREATE TRIGGER messages_live_with_task BEFORE DELETE ON messages
WHEN EXISTS (SELECT 1 FROM tasks t WHERE t.id = OLD.task)
BEGIN
    SELECT RAISE(ABORT, 'tapescope: a message lives as long as its task');
END;

-- An attempt takes a message by the event that says so, in one transaction with it.
CREATE TRIGGER events_take_message AFTER INSERT ON events
WHEN NEW.type = 'message_taken'
BEGIN
    UPDATE messages SET taken_seq = NEW.seq
     WHERE task = NEW.task AND n = json_extract(NEW.body, '$.n') AND taken_seq IS NULL;
    SELECT RAISE(ABORT, 'tapescope: a message is taken once, from the inbox of its task') WHERE changes() <> 1;
END;
CREATE TRIGGER tasks_take_their_messages AFTER DELETE ON tasks
BEGIN
    DELETE FROM messages WHERE task = OLD.id;
END;
