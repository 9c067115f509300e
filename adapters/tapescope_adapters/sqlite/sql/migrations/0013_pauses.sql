-- compatible from 1
-- Ops whose tasks no worker claims (docs/decisions/0081). The claim of due tasks looks here, in its own transaction,
-- so what is claimed after a pause was committed is of other ops. Workers of an older version do not look.
CREATE TABLE pauses (
    op        TEXT    NOT NULL PRIMARY KEY,
    paused_at INTEGER NOT NULL,
    paused_by TEXT,
    reason    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- When a worker was first and last heard, and since when it claims no more (docs/decisions/0082).
ALTER TABLE workers ADD COLUMN since INTEGER;
ALTER TABLE workers ADD COLUMN heard_at INTEGER;
ALTER TABLE workers ADD COLUMN drained_at INTEGER;
ALTER TABLE workers ADD COLUMN drained_by TEXT;
ALTER TABLE workers ADD COLUMN drain_reason TEXT;
