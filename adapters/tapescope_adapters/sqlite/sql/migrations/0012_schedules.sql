-- compatible from 1
-- When tasks are made by themselves (docs/decisions/0073). next_at is the firing time that comes next; whoever
-- changes a row names the revision that it saw. Names are of ASCII alone, so every database has them in one order.
CREATE TABLE schedules (
    name       TEXT    NOT NULL PRIMARY KEY,
    op         TEXT    NOT NULL,
    params     TEXT    NOT NULL,
    timeout_s  REAL,
    retries    INTEGER,
    cron       TEXT,
    every_s    REAL,
    time_zone  TEXT    NOT NULL,
    catch_up   TEXT    NOT NULL,
    overlap    TEXT    NOT NULL,
    origin     TEXT    NOT NULL,
    paused     INTEGER NOT NULL,
    next_at    INTEGER,
    last_at    INTEGER,
    last_task  TEXT,
    created_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next_at, name) WHERE NOT paused;

-- Which worker fires, and until when.
ALTER TABLE maintenance ADD COLUMN firing_holder TEXT;
ALTER TABLE maintenance ADD COLUMN firing_until INTEGER NOT NULL DEFAULT 0;
