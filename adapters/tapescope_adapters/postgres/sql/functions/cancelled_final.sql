-- What the final of a cancelled task says; the error of an attempt that failed is kept.
CREATE OR REPLACE FUNCTION cancelled_final(reason text, message text, who text, at bigint, error json) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN error IS NULL
       THEN json_build_object(
           'outcome', 'cancelled',
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at))
       ELSE json_build_object(
           'outcome', 'cancelled', 'error', error,
           'cancel', json_build_object('reason', reason, 'message', message, 'by', who,
                                       'requested_at', at)) END::text;
