-- compatible from 1
-- Ops whose tasks no worker claims (docs/decisions/0081). The claim of due tasks looks here, in its own transaction,
-- so what is claimed after a pause was committed is of other ops. Workers of an older version call the same function.
CREATE TABLE pauses (
    op        text COLLATE "C" NOT NULL,
    paused_at bigint           NOT NULL,
    paused_by text,
    reason    text             NOT NULL,
    CONSTRAINT pauses_pkey PRIMARY KEY (op)
);

-- When a worker was first and last heard, and since when it claims no more (docs/decisions/0082).
ALTER TABLE workers ADD COLUMN IF NOT EXISTS since bigint;
ALTER TABLE workers ADD COLUMN IF NOT EXISTS heard_at bigint;
ALTER TABLE workers ADD COLUMN IF NOT EXISTS drained_at bigint;
ALTER TABLE workers ADD COLUMN IF NOT EXISTS drained_by text;
ALTER TABLE workers ADD COLUMN IF NOT EXISTS drain_reason text;

-- functions: list_claimable, claim_due, read_pauses
