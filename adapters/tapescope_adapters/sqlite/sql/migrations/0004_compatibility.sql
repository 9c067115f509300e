-- Which code may go on beside a newer schema: see docs/decisions/0018. Each migration from here on has a
-- row; "compatible from N" in the first lines of its script says what the oldest code knows that may.
-- compatible from 3
CREATE TABLE schema_compatibility (
    version         INTEGER NOT NULL,
    compatible_from INTEGER NOT NULL,
    CONSTRAINT schema_compatibility_pkey PRIMARY KEY (version)
);
