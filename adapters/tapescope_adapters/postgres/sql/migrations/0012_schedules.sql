-- compatible from 1
-- When tasks are made by themselves (docs/decisions/0073). next_at is the firing time that comes next; whoever
-- changes a row names the revision that it saw. Names are of ASCII alone, so every database has them in one order.
CREATE TABLE schedules (
    name       text COLLATE "C" NOT NULL,
    op         text             NOT NULL,
    params     text             NOT NULL,
    timeout_s  double precision,
    retries    integer,
    cron       text,
    every_s    double precision,
    time_zone  text             NOT NULL,
    catch_up   text             NOT NULL,
    overlap    text             NOT NULL,
    origin     text             NOT NULL,
    paused     boolean          NOT NULL,
    next_at    bigint,
    last_at    bigint,
    last_task  text,
    created_at bigint           NOT NULL,
    revision   bigint           NOT NULL,
    CONSTRAINT schedules_pkey PRIMARY KEY (name)
);
CREATE INDEX schedules_next ON schedules (next_at, name) WHERE NOT paused;

-- Which worker fires, and until when.
ALTER TABLE maintenance ADD COLUMN IF NOT EXISTS firing_holder text;
ALTER TABLE maintenance ADD COLUMN IF NOT EXISTS firing_until bigint NOT NULL DEFAULT 0;
