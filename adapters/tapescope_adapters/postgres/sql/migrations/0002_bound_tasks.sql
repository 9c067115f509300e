-- compatible from 1
-- A pending task that one owner alone can run has a lease: see docs/decisions/0031.
-- functions: flush, rescue_expired

CREATE INDEX tasks_bound ON tasks (lease_expires_at)
    WHERE status = 'pending' AND lease_expires_at IS NOT NULL;
