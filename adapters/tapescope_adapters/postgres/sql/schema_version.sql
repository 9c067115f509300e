-- name: has_tables
-- Whether the schema is there, with tables of a store. Not to_regclass: it goes by a cache, which may not know
-- yet what another session committed.
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = 'schema_compatibility';

-- name: read_version
SELECT coalesce(max(version), 0) FROM schema_version;

-- name: read_compatibility
SELECT max(version), max(compatible_from) FROM schema_compatibility;

-- name: lock_schema
-- One process migrates at a time. Not an advisory lock: whoever may connect could hold that.
LOCK TABLE schema_version IN SHARE ROW EXCLUSIVE MODE;

-- name: read_owner
-- Who owns a schema, and whether another role may make things in it.
SELECT n.nspowner::regrole::text AS owner,
       n.nspowner <> u.oid
       OR EXISTS (SELECT 1 FROM aclexplode(n.nspacl) AS a
                   WHERE a.privilege_type = 'CREATE' AND a.grantee <> u.oid) AS others
  FROM pg_namespace n JOIN pg_roles u ON u.rolname = current_user
 WHERE n.nspname = $1;

-- name: note_version
INSERT INTO schema_version (version) VALUES ($1);

-- name: note_compatibility
INSERT INTO schema_compatibility VALUES ($1, $2);

-- name: read_state
-- What SchemaGuard judges: of the schema $1, and of those of the names $2 that it has.
SELECT current_setting('server_encoding') AS encoding,
       current_setting('transaction_read_only') = 'on' AS read_only,
       ARRAY(SELECT p.proname::text FROM pg_proc p
              WHERE p.pronamespace = n.oid AND p.proname = ANY ($2::text[])) AS functions,
       ARRAY(SELECT DISTINCT c.setting FROM pg_proc p
              CROSS JOIN unnest(p.proconfig) AS c(setting)
              WHERE p.pronamespace = n.oid AND p.proname = ANY ($2::text[])
                AND starts_with(c.setting, 'search_path=')) AS paths,
       ARRAY(SELECT c.relname::text FROM pg_class c
              WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND c.relname = ANY ($2::text[])) AS tables,
       ARRAY(SELECT concat(r.verb, ' ON ', c.relname) FROM pg_class c
              CROSS JOIN unnest('{INSERT,UPDATE}'::text[]) AS r(verb)
              WHERE c.relnamespace = n.oid AND c.relname = ANY ('{tasks,events,lanes}')
                AND NOT (c.relname = 'events' AND r.verb = 'UPDATE')
                AND NOT has_table_privilege(c.oid, r.verb)
              ORDER BY c.relname, r.verb) AS barred
  FROM (SELECT $1::name AS name) wanted
  LEFT JOIN pg_namespace n ON n.nspname = wanted.name;

-- name: read_schema
-- The guards of schema $1 as they stand: triggers, constraints and indexes each with its table, functions
-- with their texts.
SELECT ARRAY(SELECT json_build_array(c.relname, g.tgname, f.proname, g.tgenabled IN ('O', 'A'))::text
               FROM pg_class c
               JOIN pg_trigger g ON g.tgrelid = c.oid
               JOIN pg_proc f ON f.oid = g.tgfoid
              WHERE c.relnamespace = n.oid AND NOT g.tgisinternal) AS triggers,
       ARRAY(SELECT json_build_array(c.relname, k.conname)::text
               FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid
              WHERE c.relnamespace = n.oid) AS constraints,
       ARRAY(SELECT json_build_array(c.relname, x.relname)::text
               FROM pg_class c
               JOIN pg_index i ON i.indrelid = c.oid
               JOIN pg_class x ON x.oid = i.indexrelid
              WHERE c.relnamespace = n.oid AND i.indisvalid) AS indexes,
       ARRAY(SELECT json_build_array(p.proname, p.prosrc)::text
               FROM pg_proc p WHERE p.pronamespace = n.oid) AS functions
  FROM pg_namespace n WHERE n.nspname = $1;
