-- Field mapping: what users may say, what they are told when it cannot work, and what becomes of it.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_mapping;
CREATE DATABASE regress_itsm_mapping TEMPLATE template0;
\c regress_itsm_mapping
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET client_min_messages = notice;
SET search_path = public, itsm;

-- the defaults, and that each of them can be prepared
SELECT entity_type, target_class, target_field, kind, on_unresolved, authority, condition
  FROM integration_field_mappings WHERE is_default AND platform = 'servicenow' ORDER BY entity_type, ord, target_class, target_field;
SELECT entity_type, target_field, kind, on_unresolved, authority, condition
  FROM integration_field_mappings WHERE is_default AND platform = 'haloitsm' ORDER BY entity_type, ord, target_class, target_field;
SELECT count(*) AS forbidden FROM integration_field_mappings
 WHERE target_field IN ('model_id', 'model_category') OR target_field LIKE 'sys\_%';

-- an own table, in few of the canonical columns
CREATE TABLE app (id bigint PRIMARY KEY, ns uuid, title text, state text, weight integer, note text);
INSERT INTO app VALUES (1, '11111111-1111-4111-8111-111111111111', 'Ledger', 'live', 90, 'it''s "fine"'),
                       (2, '11111111-1111-4111-8111-111111111111', 'Diary', 'dead', 10, NULL),
                       (3, '22222222-2222-4222-8222-222222222222', 'Foreign', 'live', 50, NULL);
\set c '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url)
VALUES (:c, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com');

SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app WHERE ns = $1');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app WHERE ns = $1', 'bigint');
SELECT itsm_set_filter(:c, 'application', '');
SELECT itsm_set_source(:c, 'application', $$
    SELECT id AS key, title AS name, CASE state WHEN 'live' THEN 'operational' ELSE 'retired' END AS operational_status,
           state = 'dead' AS retired, weight AS criticality, note -- what it says
      FROM public.app WHERE ns = $1$$, 'bigint');
SELECT key, class, name, attrs, payload FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;
SELECT key FROM pgsync_itsm.read_source(:c, 'application', '{2,3,four,99999999999999999999}');

-- a source that cannot work
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key FROM public.app', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.ap', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM app', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title name FRM public.app', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app; SELECT 1', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app) AS q; DROP TABLE public.app; --', 'bigint');
SELECT itsm_set_source(:c, 'application', 'DELETE FROM public.app RETURNING id AS key, title AS name', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name INTO public.copy FROM public.app', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app FOR UPDATE', 'bigint');
SELECT itsm_set_source(:c, 'application', '', 'bigint');
SELECT itsm_set_source(:c, 'application', 'SELECT id AS key, title AS name FROM public.app', 'serial-number');
SELECT itsm_set_source(:c, 'starship', 'SELECT 1');
SELECT itsm_set_source(:c, 'runs_on', 'SELECT ''a/b''::text AS key, ''a''::text AS parent_key FROM public.app', 'text');
SELECT itsm_set_source('00000000-0000-4000-8000-00000000dead', 'application', 'SELECT 1');
SELECT key FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;

-- a mapping
SELECT itsm_set_mapping(:c, 'application', 'u_note', 'upper(note)');
SELECT itsm_set_mapping(:c, 'application', 'operational_status', 'operational_status', 'choice', '{"operational": "Up", "*": "Down"}');
SELECT itsm_set_mapping(:c, 'application', 'comments', NULL);
SELECT itsm_set_mapping(:c, 'application', 'u_state', 'operational_status', value_map => '{"retired": null, "*": "*"}');
SELECT itsm_set_mapping(:c, 'application', 'u_owner', ':setting(default_owner) || ''!''');
SELECT itsm_set_mapping(:c, 'application', 'u_class', '''special''', target_class => 'cmdb_ci_business_app');
SELECT itsm_set_mapping(:c, 'application', 'u_class', '''general''');
SELECT itsm_set(:c, 'default_owner', 'o''neil');
SELECT s.key, p.key AS field, p.value FROM pgsync_itsm.read_source(:c, 'application') AS s, json_each_text(s.payload) AS p
 WHERE p.key ~ '^(u_|operational_status|comments|name)' ORDER BY 1, 2;
SELECT target_field, expression, kind FROM pgsync_itsm.mapping_for(:c, 'application', 'cmdb_ci_business_app') ORDER BY target_field;
-- changed, and taken back: the default is in force again
SELECT itsm_set_mapping(:c, 'application', 'u_note', 'lower(note)');
SELECT itsm_drop_mapping(:c, 'application', 'operational_status');
SELECT itsm_drop_mapping(:c, 'application', 'operational_status');
SELECT payload ->> 'u_note' AS note, payload ->> 'operational_status' AS status FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;
-- settings decide which default rows apply
SELECT itsm_set(:c, 'life_cycle_write', 'pair');
SELECT itsm_set(:c, 'send_number', 'true');
SELECT target_field FROM pgsync_itsm.mapping_for(:c, 'application', '*') WHERE target_field ~ '(life|status|number)' ORDER BY 1;

-- what the user is told
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'colour');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'title');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'upper(');
SELECT itsm_set_mapping(:c, 'application', 'u_x', '''unterminated');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'no_such_function(name)');
SELECT itsm_set_mapping(:c, 'application', 'u_x', ':setting(no_such_setting)');
SELECT itsm_set_mapping(:c, 'application', 'model_id', 'name');
SELECT itsm_set_mapping(:c, 'application', 'model_category', 'name');
SELECT itsm_set_mapping(:c, 'application', 'sys_id', 'name');
SELECT itsm_set_mapping(:c, 'application', '_is_internal', '''false''');
SELECT itsm_set_mapping(:c, 'application', 'Name; DROP', 'name');
SELECT itsm_set_mapping(:c, 'application', NULL, 'name');
SELECT itsm_set_mapping(:c, 'consumes', 'name', 'name');
SELECT itsm_set_mapping(:c, 'starship', 'name', 'name');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'name', value_map => '[1]');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'name', value_map => '{"a": {"b": 1}}');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'name', kind => 'colour');
SELECT itsm_set_mapping('00000000-0000-4000-8000-00000000dead', 'application', 'u_x', 'name');

-- one expression and nothing else
SELECT e AS expression, pgsync_itsm.check_expression(e) IS NOT NULL AS accepted
  FROM unnest(ARRAY['1', 'name', 's.name', 'upper(name) -- a comment', 'name /* another */', '(SELECT max(id) FROM public.app)',
                    'CASE WHEN a THEN b END', '''; DROP TABLE app; --''', 'a IN (1, 2)']) AS e;
CREATE FUNCTION attempt(e text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgsync_itsm.check_expression(e);
    RETURN 'ACCEPTED';
EXCEPTION WHEN syntax_error THEN
    RETURN SQLERRM;
END $$;
SELECT e AS expression, attempt(e)
  FROM unnest(ARRAY['1); DROP TABLE x; --', '1; DROP TABLE x', '1) FROM app; --', '1 FROM public.app', '1), (2', '1, 2', '1) + (2', '1 AS x', '1 x',
                    '*', 's.*', '', ' ', '-- nothing', '/* open', '1 WHERE true', '1 UNION SELECT 2', '1 ORDER BY 1', '1 LIMIT 1', '1 INTO x',
                    'DISTINCT 1', '1 FOR UPDATE', '$$open', 'E''\', '1 GROUP BY 1', '1 WINDOW w AS ()']) AS e;
SELECT itsm_set_mapping(:c, 'application', 'u_x', '1); DROP TABLE public.app; --');
SELECT itsm_set_filter(:c, 'application', 'true) AS s; DROP TABLE public.app; --');
SELECT itsm_set_filter(:c, 'application', 'weight > 50');
SELECT itsm_set_filter(:c, 'application', 'criticality');
SELECT itsm_set_filter(:c, 'application', 'criticality > 50');
SELECT key FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;
SELECT itsm_set(:c, 'filter.application', 'name = ''Diary''');
SELECT key FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;
SELECT itsm_set_filter(:c, 'starship', 'true');
SELECT itsm_set_filter(:c, 'consumes', 'true');
SELECT count(*) FROM app;

-- only a member of the connection's owner says what runs as this owner; only a superuser says it for all
CREATE ROLE regress_itsm_tenant;
CREATE ROLE regress_itsm_stranger;
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_tenant, regress_itsm_stranger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA itsm, pgsync_itsm TO regress_itsm_tenant, regress_itsm_stranger;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA itsm TO regress_itsm_tenant, regress_itsm_stranger;
GRANT SELECT ON app TO regress_itsm_tenant;
SELECT itsm_secure('true');
UPDATE integration_connections SET owner = 'regress_itsm_tenant';
SET ROLE regress_itsm_stranger;
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'name');
SELECT itsm_set_source(:c, 'application', 'SELECT 1 AS key');
SELECT itsm_set_filter(:c, 'application', 'true');
SELECT itsm_drop_mapping(:c, 'application', 'u_note');
SET ROLE regress_itsm_tenant;
SELECT itsm_set_mapping(NULL, 'application', 'u_x', 'name');
SELECT itsm_set_source(NULL, 'application', 'SELECT 1 AS key');
SELECT itsm_set_filter(NULL, 'application', 'true');
SELECT itsm_set_mapping(:c, 'application', 'u_x', 'name');
SELECT itsm_set_mapping(:c, 'application', 'u_y', '(SELECT rolpassword FROM pg_catalog.pg_authid LIMIT 1)');
RESET ROLE;
SELECT key, payload ->> 'u_x' AS x, payload ->> 'u_y' AS y FROM pgsync_itsm.read_source(:c, 'application') ORDER BY key;

-- for all connections, by a superuser: a row beside the default, which stays
SELECT itsm_set_mapping(NULL, 'application', 'short_description', '''from everywhere''');
SELECT connection_id, is_default, expression FROM integration_field_mappings
 WHERE entity_type = 'application' AND target_field = 'short_description' ORDER BY is_default;
SELECT expression FROM pgsync_itsm.mapping_for(:c, 'application', '*') WHERE target_field = 'short_description';
SELECT itsm_drop_mapping(NULL, 'application', 'short_description');
SELECT expression FROM pgsync_itsm.mapping_for(:c, 'application', '*') WHERE target_field = 'short_description';
SELECT full_plan_after IS NOT NULL AS planned_in_full FROM integration_connections;

\c :main
DROP DATABASE regress_itsm_mapping;
DROP ROLE regress_itsm_tenant, regress_itsm_stranger;
