-- Every member of the extension has a comment, and every column of what a DBA reads.
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;

SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS "member without a comment"
  FROM pg_depend AS d
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL
 ORDER BY 1;

SELECT a.attrelid::regclass || '.' || a.attname AS "column without a comment"
  FROM pg_depend AS d
  JOIN pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'v', 'm', 'p')
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE d.classid = 'pg_class'::regclass
   AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
   AND c.relname ~ '^(integration_|itsm_stat_)'
   AND col_description(a.attrelid, a.attnum) IS NULL
 ORDER BY 1;

-- Every function pins its search_path, except procedures, which commit, and bodies that are bound when they
-- are made, which can so be inlined.
SELECT p.oid::regprocedure AS "function without a search_path"
  FROM pg_depend AS d
  JOIN pg_proc AS p ON p.oid = d.objid
 WHERE d.classid = 'pg_proc'::regclass
   AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
   AND p.prokind <> 'p'
   AND p.prosqlbody IS NULL
   AND p.prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c')
   AND NOT coalesce(p.proconfig::text LIKE '%search_path=%', false)
 ORDER BY 1;

-- Every relation of the API is guarded by namespace.
SELECT c.relname AS "table without row-level security"
  FROM pg_depend AS d
  JOIN pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'p')
 WHERE d.classid = 'pg_class'::regclass
   AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
   AND c.relname LIKE 'integration\_%'
   AND c.relnamespace <> 'pgsync_itsm'::regnamespace
   AND (NOT c.relrowsecurity
        OR NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid)
        OR NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'namespace_id'))
 ORDER BY 1;

SELECT c.relname AS "view with its owner's rights"
  FROM pg_depend AS d
  JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'v'
 WHERE d.classid = 'pg_class'::regclass
   AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
   AND c.relname LIKE 'integration\_%'
   AND NOT coalesce('security_invoker=true' = ANY (c.reloptions) OR 'security_invoker=on' = ANY (c.reloptions), false)
 ORDER BY 1;

DROP EXTENSION pgsync_itsm;
