-- The one clock of the schema.
CREATE OR REPLACE FUNCTION now_us() RETURNS bigint
LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
