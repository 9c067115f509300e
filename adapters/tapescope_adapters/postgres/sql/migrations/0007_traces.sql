-- compatible from 1
-- Where the run spans of attempts are (docs/decisions/0050). A row is written where a span is recorded, so
-- there is none for a task of a process without telemetry, or one that is not sampled.
CREATE TABLE attempts_traced (
    task     bigint  NOT NULL,
    attempt  integer NOT NULL,
    trace_id text    NOT NULL,
    span_id  text    NOT NULL,
    CONSTRAINT attempts_traced_pkey PRIMARY KEY (task, attempt),
    CONSTRAINT attempts_traced_task_fkey FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
);
CREATE INDEX attempts_traced_trace_id ON attempts_traced (trace_id, task, attempt);
