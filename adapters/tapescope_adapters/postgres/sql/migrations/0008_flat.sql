-- compatible from 1
-- A list by an idempotency key alone finds it: the key stands first, and the index is no bigger for that.
-- And a rescue reads what a lease leads to, not all that has one.
-- functions: rescue_expired

DROP INDEX tasks_idempotency_key_unique;
CREATE UNIQUE INDEX tasks_idempotency_key_unique
    ON tasks (idempotency_key, op) WHERE idempotency_key IS NOT NULL;
