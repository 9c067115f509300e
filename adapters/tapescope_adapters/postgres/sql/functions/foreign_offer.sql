-- The offer of an event that is not of the run itself, behind the tape's last one: beyond those of any
-- run, or a late event of the run could be taken for it. See docs/decisions/0006.
CREATE OR REPLACE FUNCTION foreign_offer(last_offer integer) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN greatest(last_offer, (1 << 30) - 1) + 1;
