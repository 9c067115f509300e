-- What the upkeep of a store leaves behind: the trace of repairs, and whose turn the upkeep is.
-- compatible from 3

-- `was` and `done` are JSON. Kept for good, also when the task is pruned.
CREATE TABLE repairs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    repaired_at INTEGER NOT NULL,
    repaired_by TEXT    NOT NULL,
    rule        TEXT    NOT NULL,
    task_id     TEXT    NOT NULL,
    was         TEXT    NOT NULL,
    done        TEXT    NOT NULL
);

CREATE TRIGGER repairs_never_change BEFORE UPDATE ON repairs
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the trace of a repair never changes');
END;

CREATE TRIGGER repairs_stay BEFORE DELETE ON repairs
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the trace of a repair is never deleted');
END;

CREATE TRIGGER repairs_are_new BEFORE INSERT ON repairs
WHEN EXISTS (SELECT 1 FROM repairs r WHERE r.id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'tapescope I4: the trace of a repair never changes');
END;

-- One row: who of the managers on this store does its upkeep, until when, and what was done last.
CREATE TABLE upkeep (
    id         INTEGER PRIMARY KEY,
    holder     TEXT,
    held_until INTEGER NOT NULL DEFAULT 0,
    audited_at INTEGER NOT NULL DEFAULT 0,
    pruned_at  INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT upkeep_one_row CHECK (id = 1)
);

INSERT INTO upkeep (id) VALUES (1);
