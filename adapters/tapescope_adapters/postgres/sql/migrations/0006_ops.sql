-- What the workers of this store can run: see docs/decisions/0009.
CREATE TABLE ops (
    op        text    NOT NULL,
    timeout_s double precision,
    retries   integer NOT NULL,
    told_at   bigint  NOT NULL,
    CONSTRAINT ops_pkey PRIMARY KEY (op)
);
