-- What the final of a cancelled task says; the error of an attempt that failed is kept. It is the very
-- text that the platform's codec would write, so it is put together here: json_build_object puts blanks in.
CREATE OR REPLACE FUNCTION cancelled_final(
    reason text, message text, who text, role text, at bigint, error json
) RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    '{"outcome":"cancelled"', ',"error":' || error::text,
    ',"cancel":{"reason":', to_json(reason), ',"message":', to_json(message),
    ',"by":', coalesce(to_json(who)::text, 'null'),
    ',"known":"', CASE WHEN role IS NULL THEN 'claimed' ELSE 'role' END,
    '","role":', coalesce(to_json(role)::text, 'null'),
    ',"requested_at":"', time_text(at), '"}}');
