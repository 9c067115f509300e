-- A time as bodies have it: RFC 3339, UTC, with microseconds. The same text as the platform's format_time.
-- Days apart, for an interval is multiplied as a double precision number.
CREATE OR REPLACE FUNCTION time_text(at bigint) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(timestamp 'epoch' + (at / 86400000000) * interval '1 day'
                                 + (at % 86400000000) * interval '1 microsecond',
               'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
