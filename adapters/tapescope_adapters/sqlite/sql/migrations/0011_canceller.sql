-- compatible from 1
-- The span that a cancel was requested in, as a task has its submit's (docs/decisions/0077): whose span tells
-- of the end leads to it.
ALTER TABLE tasks ADD COLUMN cancel_traceparent TEXT;
