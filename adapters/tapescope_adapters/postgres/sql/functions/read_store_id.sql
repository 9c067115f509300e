-- What names this store among all that share an engine. It tells that alone, so it runs as its owner: any role of the
-- store may ask, and a submitter has no right to the table.
CREATE OR REPLACE FUNCTION read_store_id() RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN (SELECT m.store_id FROM maintenance m);
END $$;
