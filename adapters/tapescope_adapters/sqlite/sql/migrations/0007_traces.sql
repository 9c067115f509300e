-- compatible from 1
-- Where the run spans of attempts are (docs/decisions/0050). A row is written where a span is recorded, so
-- there is none for a task of a process without telemetry, or one that is not sampled.
-- Differs from the Postgres version in that a trigger deletes them with their task.
CREATE TABLE attempts_traced (
    task     INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    trace_id TEXT    NOT NULL,
    span_id  TEXT    NOT NULL,
    PRIMARY KEY (task, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_traced_trace_id ON attempts_traced (trace_id, task, attempt);
CREATE TRIGGER tasks_take_their_traces AFTER DELETE ON tasks
BEGIN
    DELETE FROM attempts_traced WHERE task = OLD.id;
END;
