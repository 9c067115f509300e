-- compatible from 1
-- How much waits is a number of the store's: see docs/decisions/0052. Triggers count, so that every path does,
-- and older processes beside this version. `second` is the second of run_at of a task that waits for a time, else
-- 0; 0 is also what has fallen due since, and -1 all that ever waited for a time, so that nobody adds the
-- seconds up. What has ended is counted once and never taken back.
-- Differs from the Postgres version in that there is one writer: it keeps the numbers, and there are no moves to
-- fold, and no snapshot, for to read the numbers is cheap.

CREATE TABLE backlog (
    second INTEGER NOT NULL,
    op     TEXT    NOT NULL,
    state  TEXT    NOT NULL,
    n      INTEGER NOT NULL,
    CONSTRAINT backlog_pkey PRIMARY KEY (second, op, state)
) WITHOUT ROWID;

-- Which workers live, and what each can run: a list in JSON.
CREATE TABLE workers (
    owner TEXT    NOT NULL,
    until INTEGER NOT NULL,
    ops   TEXT    NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (owner)
) WITHOUT ROWID;

CREATE TRIGGER tasks_count_new AFTER INSERT ON tasks
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, NEW.op,
           (CASE WHEN NEW.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN NEW.attempt > 0 THEN 'retrying'
                    WHEN NEW.run_at > NEW.created_at THEN 'scheduled' ELSE 'due' END),
           1
      FROM (SELECT CASE WHEN NEW.attempt > 0 OR NEW.run_at > NEW.created_at
                THEN max(CAST(NEW.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE NEW.attempt > 0 OR NEW.run_at > NEW.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tasks_count_not_pending AFTER UPDATE OF status, attempt, run_at, lease_expires_at ON tasks
WHEN OLD.status = 'pending'
    AND (OLD.status, OLD.attempt, OLD.run_at, OLD.lease_expires_at IS NULL)
           IS NOT (NEW.status, NEW.attempt, NEW.run_at, NEW.lease_expires_at IS NULL)
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, OLD.op,
           (CASE WHEN OLD.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN OLD.attempt > 0 THEN 'retrying'
                    WHEN OLD.run_at > OLD.created_at THEN 'scheduled' ELSE 'due' END),
           -1
      FROM (SELECT CASE WHEN OLD.attempt > 0 OR OLD.run_at > OLD.created_at
                THEN max(CAST(OLD.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE OLD.attempt > 0 OR OLD.run_at > OLD.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tasks_count_not_running AFTER UPDATE OF status ON tasks
WHEN OLD.status = 'running' AND NEW.status <> 'running'
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, OLD.status, -1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tasks_count_pending AFTER UPDATE OF status, attempt, run_at, lease_expires_at ON tasks
WHEN NEW.status = 'pending'
    AND (OLD.status, OLD.attempt, OLD.run_at, OLD.lease_expires_at IS NULL)
           IS NOT (NEW.status, NEW.attempt, NEW.run_at, NEW.lease_expires_at IS NULL)
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, NEW.op,
           (CASE WHEN NEW.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN NEW.attempt > 0 THEN 'retrying'
                    WHEN NEW.run_at > NEW.created_at THEN 'scheduled' ELSE 'due' END),
           1
      FROM (SELECT CASE WHEN NEW.attempt > 0 OR NEW.run_at > NEW.created_at
                THEN max(CAST(NEW.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE NEW.attempt > 0 OR NEW.run_at > NEW.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tasks_count_status AFTER UPDATE OF status ON tasks
WHEN NEW.status <> 'pending' AND NEW.status <> OLD.status
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, NEW.op, NEW.status, 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

-- A task that is deleted before its end is counted as gone: the number of those submitted never falls.
CREATE TRIGGER tasks_count_deleted_pending AFTER DELETE ON tasks
WHEN OLD.status = 'pending'
BEGIN
    INSERT INTO backlog (second, op, state, n)
    SELECT k.second, OLD.op,
           (CASE WHEN OLD.lease_expires_at IS NULL THEN '' ELSE 'held_' END
            || CASE WHEN OLD.attempt > 0 THEN 'retrying'
                    WHEN OLD.run_at > OLD.created_at THEN 'scheduled' ELSE 'due' END),
           -1
      FROM (SELECT CASE WHEN OLD.attempt > 0 OR OLD.run_at > OLD.created_at
                THEN max(CAST(OLD.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
             UNION ALL
            SELECT -1 WHERE OLD.attempt > 0 OR OLD.run_at > OLD.created_at) AS k
     WHERE true
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, 'gone', 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

CREATE TRIGGER tasks_count_deleted_running AFTER DELETE ON tasks
WHEN OLD.status = 'running'
BEGIN
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, OLD.status, -1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
    INSERT INTO backlog (second, op, state, n) VALUES (0, OLD.op, 'gone', 1)
        ON CONFLICT (second, op, state) DO UPDATE SET n = n + excluded.n;
END;

-- What is there already.
INSERT INTO backlog (second, op, state, n)
SELECT iif(w.total, -1, t.second), t.op, t.state, count(*)
  FROM (SELECT s.op,
               CASE WHEN s.status <> 'pending' THEN s.status
                    ELSE (CASE WHEN s.lease_expires_at IS NULL THEN '' ELSE 'held_' END
                         || CASE WHEN s.attempt > 0 THEN 'retrying'
                                 WHEN s.run_at > s.created_at THEN 'scheduled' ELSE 'due' END) END AS state,
               CASE WHEN s.status = 'pending' AND (s.attempt > 0 OR s.run_at > s.created_at)
                    THEN max(CAST(s.run_at / 1000000 AS INTEGER), 1) ELSE 0 END AS second
          FROM tasks s) AS t
 CROSS JOIN (SELECT false AS total UNION ALL SELECT true) AS w
 WHERE NOT w.total OR t.second > 0
 GROUP BY 1, 2, 3;
