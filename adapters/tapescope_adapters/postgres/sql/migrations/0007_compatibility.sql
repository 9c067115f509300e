-- Which code may go on beside a newer schema: see docs/decisions/0018. Each migration from here on has a
-- row; "compatible from N" in the first lines of its script says what the oldest code knows that may.
-- compatible from 6
CREATE TABLE schema_compatibility (
    version         integer NOT NULL,
    compatible_from integer NOT NULL,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (version)
);
