-- Levels: what itsm_grant() gives, in full; that it is exactly what the functions of a level call; who sees what, and how
-- often the site's condition is asked for that; what a tier includes.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = itsm, public;
SET client_min_messages = notice;
CREATE ROLE regress_itsm_none;
CREATE ROLE regress_itsm_viewer;
CREATE ROLE regress_itsm_operator;
CREATE ROLE regress_itsm_admin;

-- nothing to nobody, and what is no level
SELECT itsm_grant('public', 'viewer');
SELECT itsm_grant('nobody', 'viewer');
SELECT itsm_grant('pg_monitor', 'viewer');
SELECT itsm_grant('regress_itsm_viewer', 'owner');
SELECT itsm_grant('regress_itsm_viewer', NULL);
SELECT itsm_grant(NULL, 'viewer');
SET ROLE regress_itsm_none;
SELECT itsm.itsm_grant('regress_itsm_none', 'viewer');
RESET ROLE;
SELECT itsm_grant('regress_itsm_viewer', 'viewer');
SELECT itsm_grant('regress_itsm_operator', 'operator');
SELECT itsm_grant('regress_itsm_admin', 'admin');

-- The whole table, from the catalogs: every privilege that one of them has on anything here, and from which level on.
CREATE TEMP TABLE members AS
SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm'
 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
CREATE TEMP TABLE held AS
SELECT o.kind, o.object, p.privilege, array_agg(r.level ORDER BY r.n) AS levels
  FROM (SELECT 'schema' AS kind, nspname::text AS object, oid, ARRAY['USAGE', 'CREATE'] AS privileges FROM pg_namespace WHERE nspname IN ('itsm', 'pgsync_itsm')
        UNION ALL
        SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'relation' END, oid::regclass::text, oid,
               CASE relkind WHEN 'S' THEN ARRAY['USAGE', 'SELECT', 'UPDATE'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] END
          FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND (oid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) OR relkind = 'S' AND relnamespace::regnamespace::text IN ('itsm', 'pgsync_itsm'))
        UNION ALL
        SELECT 'function', oid::regprocedure::text, oid, ARRAY['EXECUTE'] FROM pg_proc WHERE oid IN (SELECT objid FROM members WHERE classid = 'pg_proc'::regclass)) AS o
 CROSS JOIN LATERAL unnest(o.privileges) AS p(privilege)
 CROSS JOIN (VALUES (0, 'none'), (1, 'viewer'), (2, 'operator'), (3, 'admin')) AS r(n, level)
 WHERE CASE o.kind WHEN 'schema' THEN has_schema_privilege('regress_itsm_' || r.level, o.oid, p.privilege)
                   WHEN 'relation' THEN has_table_privilege('regress_itsm_' || r.level, o.oid, p.privilege)
                   WHEN 'sequence' THEN has_sequence_privilege('regress_itsm_' || r.level, o.oid, p.privilege)
                   ELSE has_function_privilege('regress_itsm_' || r.level, o.oid, p.privilege) END
 GROUP BY 1, 2, 3;
-- each level holds the ones before it
SELECT * FROM held WHERE levels NOT IN ('{viewer,operator,admin}', '{operator,admin}', '{admin}');
SELECT kind, levels[1] AS "from", privilege, object FROM held
 ORDER BY kind DESC, array_length(levels, 1) DESC, object LIKE 'pgsync_itsm.%', object COLLATE "C", privilege;
-- no right on a column, none that could be passed on
SELECT a.attrelid::regclass, a.attname FROM pg_attribute AS a JOIN members AS m ON m.objid = a.attrelid AND m.classid = 'pg_class'::regclass WHERE a.attacl::text LIKE '%regress_itsm%';
SELECT p.oid::regprocedure FROM members AS m JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass, aclexplode(p.proacl) AS x WHERE x.is_grantable AND x.grantee <> p.proowner;

-- What a function of a level calls with the caller's rights, that level must hold, and nothing else that is internal.  The
-- calls of functions in C are not in the catalogs.
CREATE TEMP TABLE calls AS
SELECT DISTINCT f.name COLLATE "default" AS caller, (m[1] || '.' || m[2]) COLLATE "default" AS callee
  FROM (SELECT n.nspname || '.' || p.proname AS name, pg_get_functiondef(p.oid) AS text
          FROM members AS m JOIN pg_proc AS p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
         WHERE l.lanname <> 'c' AND NOT p.prosecdef
        UNION ALL
        SELECT 'views', pg_get_viewdef(c.oid) FROM members AS m JOIN pg_class AS c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass WHERE c.relkind = 'v' AND c.relname LIKE 'integration%'
        UNION ALL
        SELECT 'views', pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass)) AS f
 CROSS JOIN LATERAL regexp_matches(f.text, '\y(itsm|pgsync_itsm)\.(\w+)\s*\(', 'g') AS m
 WHERE m[1] || '.' || m[2] <> f.name
UNION
SELECT f.caller, 'pgsync_itsm.' || c.callee
  FROM (VALUES ('itsm.itsm_wait', '{wait_poll,wait_report,went_through}'::text[]),
               ('itsm.itsm_test_connection', '{own_connection,connection_info,keep_instance_name,keep_ids,source_row_counts}'),
               ('itsm.itsm_halo_setup', '{own_connection,connection_info,halo_wanted,keep_ids,change_setting}'),
               ('itsm.itsm_prepare_instance', '{own_connection,connection_info}'),
               ('pgsync_itsm.store_secret', '{sees_namespace}'), ('pgsync_itsm.drop_secret', '{sees_namespace}'), ('pgsync_itsm.read_source', '{seen_connection}')) AS f(caller, callees),
       unnest(f.callees) AS c(callee)
UNION
-- what a gate looks at as the caller
SELECT ('pgsync_itsm.' || p.proname) COLLATE "default", 'pgsync_itsm.' || CASE p.prosrc WHEN 'gate_run' THEN 'own_run' WHEN 'gate_match' THEN 'seen_match' WHEN 'gate_namespace' THEN 'check_sees_namespace'
       WHEN 'gate_seen_connection' THEN 'seen_connection' WHEN 'gate_own_connection' THEN 'check_may_change' END
  FROM pg_proc AS p WHERE p.prosrc LIKE 'gate\_%';
WITH RECURSIVE needed AS (
    SELECT 'itsm.' || a.name AS name, pgsync_itsm.level_rank(a.level) AS rank FROM pgsync_itsm.api_levels() AS a WHERE a.level <> 'owner'
    UNION
    SELECT 'views', 1
    UNION
    -- itsm_adopt() without a connection is for superusers
    SELECT c.callee, n.rank FROM needed AS n JOIN calls AS c ON c.caller = n.name AND c.callee <> 'pgsync_itsm.adopt_database'
), lowest AS (
    SELECT n.name, min(n.rank) AS rank FROM needed AS n
     WHERE n.name IN (SELECT s.nspname || '.' || p.proname FROM pg_proc AS p JOIN pg_namespace AS s ON s.oid = p.pronamespace) GROUP BY n.name
), given AS (
    SELECT 'pgsync_itsm.' || i.name AS name, pgsync_itsm.level_rank(i.level) AS rank FROM pgsync_itsm.internal_levels() AS i
    UNION ALL
    SELECT 'itsm.' || a.name, pgsync_itsm.level_rank(a.level) FROM pgsync_itsm.api_levels() AS a
)
SELECT coalesce(l.name, g.name) AS "is not granted as it is called", g.rank AS granted, l.rank AS called
  FROM lowest AS l FULL JOIN given AS g ON g.name = l.name
 WHERE l.rank IS DISTINCT FROM g.rank AND NOT (l.name IS NULL AND g.rank IS NULL) AND coalesce(l.name, g.name) <> 'views'
 ORDER BY 1;

-- Four policies a table, none for all commands, each by namespace; every relation of the API has the column.
SELECT c.relname, c.relrowsecurity AS secured, string_agg(p.polcmd::text, '' ORDER BY p.polcmd) AS policies,
       bool_and(coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) LIKE '%visible_namespaces()%') AS "by namespace",
       bool_and(p.polroles = '{0}' AND p.polpermissive) AS "for all"
  FROM pg_class AS c LEFT JOIN pg_policy AS p ON p.polrelid = c.oid
 WHERE c.oid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) AND c.relkind = 'r' AND c.relnamespace = 'itsm'::regnamespace GROUP BY 1, 2 ORDER BY 1;
SELECT c.relname AS "lacks its namespace" FROM pg_class AS c WHERE c.relnamespace = 'itsm'::regnamespace AND c.relname LIKE 'integration%' AND c.relkind IN ('r', 'v')
   AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'namespace_id');
SELECT c.relname AS "is not the reader's" FROM pg_class AS c WHERE c.relnamespace = 'itsm'::regnamespace AND c.relname LIKE 'integration%' AND c.relkind = 'v'
   AND NOT coalesce(c.reloptions @> '{security_invoker=true}', false);

-- The condition: once for each namespace that is known, however many rows there are, and with the reader's settings.
INSERT INTO integration_connections (namespace_id, platform, instance_url)
SELECT n::uuid, 'servicenow', 'https://acme.service-now.com' FROM unnest(ARRAY['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222', '33333333-3333-4333-8333-333333333333']) AS n;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, sync_direction)
SELECT c.id, c.namespace_id, 'application', md5(c.id::text || n)::uuid, 'application/' || n, md5(n::text), 'published' FROM integration_connections AS c, generate_series(1, 1000) AS n;
CREATE SCHEMA regress_itsm_site;
GRANT USAGE ON SCHEMA regress_itsm_site TO PUBLIC;
CREATE FUNCTION regress_itsm_site.sees(namespace_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('site.calls', (coalesce(nullif(current_setting('site.calls', true), ''), '0')::integer + 1)::text, false);
    PERFORM set_config('site.caller', current_user, false);
    RETURN namespace_id::text = current_setting('site.namespace', true);
END
$$;
CREATE FUNCTION regress_itsm_site.admin() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('site.admin_calls', (coalesce(nullif(current_setting('site.admin_calls', true), ''), '0')::integer + 1)::text, false);
    RETURN false;
END
$$;
SELECT itsm_secure('regress_itsm_site.sees(namespace_id)');
SET ROLE regress_itsm_viewer;
SELECT count(*) FROM integration_sync_map;
SET site.namespace = '22222222-2222-4222-8222-222222222222';
SET site.calls = 0;
SELECT count(*), count(DISTINCT namespace_id) FROM integration_sync_map;
SELECT current_setting('site.calls') AS calls, current_setting('site.caller') AS caller;
SET site.calls = 0;
-- once for each relation that is read
SELECT count(*) FROM integration_sync_map AS m JOIN integration_connections AS c ON c.id = m.connection_id;
SELECT current_setting('site.calls') AS calls;
EXPLAIN (COSTS OFF) SELECT FROM integration_sync_map WHERE native_key = 'application/1';
RESET ROLE;
SELECT itsm_secure('namespace_id = (SELECT nullif(current_setting(''site.namespace''), '''')::uuid) OR (SELECT regress_itsm_site.admin())');
SET ROLE regress_itsm_viewer;
SET site.admin_calls = 0;
SELECT count(*) FROM integration_sync_map;
-- a part of it that asks for no namespace: once
SELECT current_setting('site.admin_calls') AS calls;
SET row_security = off;
SELECT count(*) FROM integration_sync_map;
SELECT pgsync_itsm.sees_namespace('11111111-1111-4111-8111-111111111111') AS other, pgsync_itsm.sees_namespace('22222222-2222-4222-8222-222222222222') AS own;
RESET row_security;
RESET ROLE;

-- what is no condition
SELECT itsm_secure('namespace_id = ');
SELECT itsm_secure('true); DROP TABLE integration_runs; SELECT (true');
SELECT itsm_secure('no_such_column');
SELECT itsm_secure('namespace_id');
SELECT itsm_secure('sees(namespace_id)');
SELECT itsm_secure('true -- of course');
SELECT itsm_secure_getinsync('regress_itsm_site');
CREATE FUNCTION regress_itsm_site.get_current_namespace_id() RETURNS uuid LANGUAGE sql AS $$ SELECT '33333333-3333-4333-8333-333333333333'::uuid $$;
CREATE FUNCTION regress_itsm_site.check_is_platform_admin() RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
SELECT itsm_secure_getinsync('regress_itsm_site');
SELECT condition FROM pgsync_itsm.site;
SET ROLE regress_itsm_viewer;
SELECT DISTINCT namespace_id FROM integration_sync_map;
-- who may not ask sees nothing, and learns why
RESET ROLE;
REVOKE EXECUTE ON FUNCTION regress_itsm_site.check_is_platform_admin() FROM PUBLIC;
SET ROLE regress_itsm_viewer;
SELECT count(*) FROM integration_sync_map;
RESET ROLE;
SELECT itsm_secure(NULL);
SET ROLE regress_itsm_viewer;
SELECT count(*) FROM integration_sync_map;
RESET ROLE;

-- Tiers: all is included that no row takes out.
CREATE TYPE regress_itsm_site.tier AS ENUM ('trial', 'plus');
CREATE TABLE regress_itsm_site.namespaces (id uuid PRIMARY KEY, tier regress_itsm_site.tier);
INSERT INTO regress_itsm_site.namespaces
SELECT namespace_id, CASE WHEN namespace_id::text LIKE '1%' THEN 'trial' ELSE 'plus' END::regress_itsm_site.tier FROM integration_connections;
UPDATE pgsync_itsm.site SET getinsync_schema = 'regress_itsm_site';
-- the type's owner decides what its casts do; nobody asks them
CREATE FUNCTION regress_itsm_site.cast(regress_itsm_site.tier) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$;
CREATE CAST (regress_itsm_site.tier AS text) WITH FUNCTION regress_itsm_site.cast(regress_itsm_site.tier) AS IMPLICIT;
SELECT itsm_secure('true');
SET client_min_messages = error;
SET ROLE regress_itsm_admin;
CREATE TEMP TABLE made AS
SELECT n AS ns, itsm_connect_servicenow(n, 'https://acme.service-now.com', username => 'u', password => 'p', name => 'mine') AS id
  FROM unnest(ARRAY['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222']::uuid[]) AS n;
SELECT count(itsm_activate(id)::text) FROM made;
RESET ROLE;
INSERT INTO integration_entitlements (tier, platform, allowed) VALUES ('trial', 'servicenow', false), ('plus', 'haloitsm', false), ('plus', 'servicenow', true);
SET ROLE regress_itsm_admin;
SELECT itsm_connect_servicenow('11111111-1111-4111-8111-111111111111', 'https://acme.service-now.com', username => 'u', password => 'p', name => 'another');
SELECT itsm_publish('11111111-1111-4111-8111-111111111111');
SELECT itsm_preview('11111111-1111-4111-8111-111111111111');
SELECT itsm_activate(id) FROM made WHERE ns = '11111111-1111-4111-8111-111111111111';
SELECT count(itsm_activate(id, false)::text) FROM made WHERE ns = '11111111-1111-4111-8111-111111111111';
SELECT count(itsm_activate(id)::text) FROM made WHERE ns = '22222222-2222-4222-8222-222222222222';
SELECT count(*) FROM itsm_preview('22222222-2222-4222-8222-222222222222');
RESET ROLE;
-- what starts by itself
INSERT INTO integration_runs (namespace_id, connection_id, kind, origin, status) SELECT ns, id, 'publish', 'schedule', 'planning' FROM made ORDER BY ns;
SELECT r.status, pgsync_itsm.plan_step(r.id) FROM integration_runs AS r WHERE r.origin = 'schedule' ORDER BY r.id;
SELECT namespace_id, status, error_message, error_hint FROM integration_runs WHERE origin = 'schedule' ORDER BY id;
-- a namespace without a tier, and one that is not in the table, lack nothing
UPDATE regress_itsm_site.namespaces SET tier = NULL;
SELECT pgsync_itsm.check_entitled('11111111-1111-4111-8111-111111111111', 'servicenow'), pgsync_itsm.check_entitled('99999999-1111-4111-8111-111111111111', 'servicenow');
SET client_min_messages = notice;

-- A schema in which others may create could hold functions that are taken for ours.
GRANT CREATE ON SCHEMA itsm TO regress_itsm_none;
SELECT itsm_grant('regress_itsm_viewer', 'viewer');
REVOKE CREATE ON SCHEMA itsm FROM regress_itsm_none;
SELECT itsm_grant('regress_itsm_viewer', 'none');
SELECT count(*) AS "left" FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE a.grantee = 'regress_itsm_viewer'::regrole;

SET client_min_messages = warning;
DROP TABLE made, members, held, calls;
DROP EXTENSION pgsync_itsm CASCADE;
DROP SCHEMA regress_itsm_site CASCADE;
REVOKE ALL ON SCHEMA itsm FROM regress_itsm_viewer, regress_itsm_operator, regress_itsm_admin;
DROP SCHEMA itsm;
DROP ROLE regress_itsm_none, regress_itsm_viewer, regress_itsm_operator, regress_itsm_admin;
