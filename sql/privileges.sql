-- Nothing leaks by default privileges: whatever a site grants on new objects, members of the extension are
-- the owner's and pg_monitor's only.
SET client_min_messages = warning;
CREATE ROLE pgsync_itsm_anon;
CREATE SCHEMA itsm;

ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES IN SCHEMA itsm GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA itsm GRANT ALL ON SEQUENCES TO PUBLIC;

CREATE EXTENSION pgsync_itsm SCHEMA itsm;

CREATE TEMP VIEW members AS
SELECT d.classid, d.objid
  FROM pg_depend AS d
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e'
UNION
-- sequences behind identity columns belong to their tables, not to the extension, and are granted apart
SELECT i.classid, i.objid
  FROM pg_depend AS d
  JOIN pg_depend AS i ON i.refclassid = d.classid AND i.refobjid = d.objid AND i.deptype = 'i'
  JOIN pg_class AS c ON c.oid = i.objid AND c.relkind = 'S'
 WHERE d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgsync_itsm')
   AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND i.classid = 'pg_class'::regclass;

CREATE TEMP VIEW grants AS
SELECT m.classid, m.objid, a.grantee, a.privilege_type, o.owner
  FROM members AS m
 CROSS JOIN LATERAL (
    SELECT c.relowner AS owner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner)) AS acl
      FROM pg_class AS c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid
    UNION ALL
    SELECT p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
      FROM pg_proc AS p WHERE m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
      FROM pg_namespace AS n WHERE m.classid = 'pg_namespace'::regclass AND n.oid = m.objid
    UNION ALL
    SELECT t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
      FROM pg_type AS t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid AND t.typrelid = 0 AND t.typelem = 0
 ) AS o
 CROSS JOIN LATERAL aclexplode(o.acl) AS a;

SELECT count(*) > 50 AS "members were looked at" FROM members;

SELECT pg_describe_object(classid, objid, 0) AS member,
       CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee, privilege_type
  FROM grants
 WHERE grantee <> owner AND grantee <> 'pg_monitor'::regrole
 ORDER BY 1, 2, 3;

-- Columns have privileges of their own.
SELECT a.attrelid::regclass, a.attname, a.attacl
  FROM members AS m JOIN pg_attribute AS a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
 WHERE a.attacl IS NOT NULL AND a.attacl::text NOT LIKE '%pg_monitor%';

-- What pg_monitor sees is counters: no payload, no secret.
SELECT DISTINCT objid::regclass AS "for pg_monitor", privilege_type
  FROM grants
 WHERE grantee = 'pg_monitor'::regrole AND classid = 'pg_class'::regclass
   AND objid::regclass::text !~ 'itsm_stat_'
 ORDER BY 1, 2;

DROP VIEW grants, members;

-- A monitoring role needs nothing but pg_monitor (and the schema, which is the site's).
CREATE ROLE pgsync_itsm_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA itsm TO pgsync_itsm_monitor;
SET ROLE pgsync_itsm_monitor;
SELECT count(*) FROM itsm.itsm_stat_progress;
SELECT count(*) FROM itsm.itsm_stat_connection;
SELECT count(*) FROM itsm.itsm_stat_worker;
SELECT count(*) FROM itsm.integration_runs;
RESET ROLE;

DROP EXTENSION pgsync_itsm;
REVOKE ALL ON SCHEMA itsm FROM pgsync_itsm_monitor;
DROP SCHEMA itsm;
DROP ROLE pgsync_itsm_monitor;
DROP OWNED BY pgsync_itsm_anon;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM pgsync_itsm_anon;
DROP ROLE pgsync_itsm_anon;
