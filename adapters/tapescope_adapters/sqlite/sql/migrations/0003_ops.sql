-- What the workers of this store can run: see docs/decisions/0009.
CREATE TABLE ops (
    op        TEXT    NOT NULL,
    timeout_s REAL,
    retries   INTEGER NOT NULL,
    told_at   INTEGER NOT NULL,
    CONSTRAINT ops_pkey PRIMARY KEY (op)
) WITHOUT ROWID;
