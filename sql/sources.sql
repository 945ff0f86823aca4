-- Reading sources: what each yields for records that are named here, as whom, and by which keys.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_sources;
CREATE DATABASE regress_itsm_sources TEMPLATE template0;
\c regress_itsm_sources
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set ECHO none
\i :abs_srcdir/test/getinsync/schema.sql
\i :abs_srcdir/test/getinsync/sample.sql
SELECT itsm_attach_getinsync() AS attached \gset
\i :abs_srcdir/test/getinsync/sample_scope.sql
\set ON_ERROR_STOP off
\set ECHO all
SET client_min_messages = notice;

\set riverton '''00000000-0000-4000-8000-000000000001'''
\set elmsworth '''00000000-0000-4000-8000-000000000002'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings)
VALUES (:riverton, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin"}'),
       (:elmsworth, '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://other.service-now.com', '{}');

-- short names for the long keys of the sample
CREATE FUNCTION itsm.short(key text) RETURNS text LANGUAGE sql
    AS $$ SELECT regexp_replace(key, '([0-9a-f]{4})[0-9a-f]{4}-000([0-9])-4000-8000-0{2,8}([0-9]+)', '\1:\2:\3', 'g') $$;

SELECT * FROM pgsync_itsm.source_row_counts(:riverton);
SELECT * FROM pgsync_itsm.source_row_counts(:elmsworth);

SELECT itsm.short(s.key) AS key, p.key AS field, p.value
  FROM pgsync_itsm.read_source(:riverton, 'application',
         ARRAY['aaaaaaaa-0001-4000-8000-000000000001', 'aaaaaaaa-0001-4000-8000-000000000016', 'aaaaaaaa-0001-4000-8000-000000000018']) AS s,
       json_each_text(s.payload) WITH ORDINALITY AS p(key, value, n)
 ORDER BY s.key, p.n;
-- owners: the primary one first; who has left and who has no address is none; blanks do not belong to an address
SELECT itsm.short(key) AS key, attrs ->> 'business_owner_email' AS business, attrs ->> 'technical_owner_email' AS technical,
       payload ->> 'it_application_owner' AS it_owner
  FROM pgsync_itsm.read_source(:riverton, 'application') WHERE key ~ '0000000(1|5|6|14|19|28|30)$' ORDER BY key;
-- vendors that are internal, criticality by band, texts cut at characters
SELECT itsm.short(key) AS key, attrs ->> 'vendor_name' AS vendor, attrs ->> 'vendor_is_internal' AS internal, payload ->> 'vendor' AS vendor_sent
  FROM pgsync_itsm.read_source(:riverton, 'application') WHERE attrs ->> 'vendor_name' IS NOT NULL ORDER BY key;
SELECT attrs ->> 'criticality' AS criticality, payload ->> 'business_criticality' AS label, count(*)
  FROM pgsync_itsm.read_source(:riverton, 'application') GROUP BY 1, 2 ORDER BY (attrs ->> 'criticality')::numeric;
SELECT length(payload ->> 'short_description') AS short, right(payload ->> 'short_description', 2) AS ends, length(payload ->> 'comments') AS long
  FROM pgsync_itsm.read_source(:riverton, 'application', '{aaaaaaaa-0001-4000-8000-000000000024}');

SELECT itsm.short(key) AS key, class, left(payload ->> 'name', 40) AS name, payload ->> 'environment' AS environment,
       payload ->> 'operational_status' AS operational, payload ->> 'install_status' AS install, payload ->> 'life_cycle_stage' AS stage,
       payload ->> 'life_cycle_stage_status' AS stage_status, payload ->> 'service_classification' AS classification
  FROM pgsync_itsm.read_source(:riverton, 'deployment_profile')
 WHERE key ~ '(101|1401|1501|1701|1902|2201|2301|2601|3107|3108|3110|9001|9003)$' ORDER BY key;
SELECT attrs ->> 'dp_type' AS type, count(*) FROM pgsync_itsm.read_source(:riverton, 'deployment_profile') GROUP BY 1 ORDER BY 1;
SELECT itsm.short(key) AS key, class, name, attrs ->> 'scope' AS scope, attrs ->> 'retired' AS retired, payload ->> 'description' IS NOT NULL AS description,
       payload ->> 'operational_status' AS operational, payload ->> 'vendor' AS vendor
  FROM pgsync_itsm.read_source(:riverton, 'it_service') ORDER BY key;
SELECT itsm.short(key) AS key, payload FROM pgsync_itsm.read_source(:riverton, 'software_product') ORDER BY key LIMIT 3;
SELECT itsm.short(key) AS key, payload ->> 'name' AS name, payload ->> 'manufacturer' AS manufacturer
  FROM pgsync_itsm.read_source(:riverton, 'software_package') ORDER BY key;
SELECT itsm.short(key) AS key, left(name, 30) AS name, attrs ->> 'reference' AS reference, attrs ->> 'vendor_name' AS vendor,
       attrs ->> 'is_internal' AS internal, attrs ->> 'starts' AS starts, attrs ->> 'ends' AS ends, attrs ->> 'conflicting' AS conflicting
  FROM pgsync_itsm.read_source(:riverton, 'contract') ORDER BY key COLLATE "C";
SELECT itsm.short(key) AS key, name, attrs, payload FROM pgsync_itsm.read_source(:riverton, 'company') ORDER BY key;
SELECT itsm.short(key) AS key, payload FROM pgsync_itsm.read_source(:riverton, 'contact') ORDER BY key LIMIT 3;
SELECT itsm.short(key) AS key, attrs FROM pgsync_itsm.read_source(:riverton, 'sends_data_to') ORDER BY key;
SELECT itsm.short(key) AS key, attrs ->> 'child_type' AS child_type FROM pgsync_itsm.read_source(:riverton, 'covers') ORDER BY key COLLATE "C";
-- two kinds of a link, a product in two versions: one relationship
SELECT itsm.short(key) AS key, attrs FROM pgsync_itsm.read_source(:riverton, 'depends_on', '{dddddddd-0001-4000-8000-000000000101}', 'parent') ORDER BY key;
SELECT itsm.short(key) AS key, attrs FROM pgsync_itsm.read_source(:riverton, 'runs_on', '{dddddddd-0001-4000-8000-000000001901}', 'parent') ORDER BY key;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'consumes', '{aaaaaaaa-0001-4000-8000-000000000001}', 'parent') ORDER BY key;

-- keys: of the other tenant, of no type at all, of either end, the star
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application', '{aaaaaaaa-0002-4000-8000-000000000001,rubbish,NULL,""}');
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application', '{}');
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application', '{rubbish,*}');
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'deployment_profile', '{aaaaaaaa-0001-4000-8000-000000000001}', 'parent') ORDER BY 1;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'runs_on', '{bbbbbbbb-0001-4000-8000-000000000003}', 'parent') ORDER BY 1;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'sends_data_to', '{dddddddd-0001-4000-8000-000000001901}', 'parent') ORDER BY 1;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'covers',
    '{0a0a0a0a-0001-4000-8000-000000000002/VMW-4411,dddddddd-0001-4000-8000-000000000401}', 'parent') ORDER BY 1;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'runs_on',
    '{dddddddd-0001-4000-8000-000000000101/bbbbbbbb-0001-4000-8000-000000000003,x/y,z}') ORDER BY 1;
SELECT itsm.short(key) AS key FROM pgsync_itsm.read_source(:riverton, 'contract',
    '{0a0a0a0a-0001-4000-8000-000000000004/SAGE/2026/RIVERTON/FINANCE/MAINTENANCE/0000000012345}');
-- every key finds its row again
SELECT t.entity_type, count(*) AS rows, count(*) FILTER (WHERE again.n = 1) AS found_by_key
  FROM (SELECT DISTINCT entity_type FROM pgsync_itsm.source_columns()) AS t,
       pgsync_itsm.read_source(:riverton, t.entity_type) AS s,
       LATERAL (SELECT count(*) AS n FROM pgsync_itsm.read_source(:riverton, t.entity_type, ARRAY[s.key]) AS r WHERE r.key = s.key) AS again
 GROUP BY 1 ORDER BY 1;

-- an index serves the keys
SET enable_seqscan = off;
CREATE FUNCTION itsm.served_by(entity_type text, match_by text, keys text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    EXECUTE format('PREPARE source (uuid, text[], uuid[]) AS %s',
                   pgsync_itsm.compose_source('00000000-0000-4000-8000-000000000001', entity_type, match_by, true));
    FOR line IN EXECUTE format('EXPLAIN (COSTS off) EXECUTE source (%L, %L, %2$L)', '11111111-1111-4111-8111-111111111111', keys)
    LOOP
        IF line ~ 'Index Cond: .*= ANY' THEN
            RETURN NEXT regexp_replace(line, '^ *|''\{.*\}''', '', 'g');
        END IF;
    END LOOP;
    DEALLOCATE source;
END $$;
SELECT itsm.served_by('application', 'key', '{aaaaaaaa-0001-4000-8000-000000000001}');
SELECT itsm.served_by('deployment_profile', 'key', '{dddddddd-0001-4000-8000-000000000101}');
SELECT itsm.served_by('deployment_profile', 'parent', '{aaaaaaaa-0001-4000-8000-000000000001}');
SELECT count(*) AS indexes FROM itsm.served_by('depends_on', 'parent', '{dddddddd-0001-4000-8000-000000000101}');
RESET enable_seqscan;

-- the owner reads, with its own rights, its policies and the session settings of the connection
CREATE ROLE regress_itsm_owner;
CREATE ROLE regress_itsm_other;
SET client_min_messages = warning;
SELECT itsm_secure('namespace_id = ''11111111-1111-4111-8111-111111111111''') AS secured, itsm_grant('regress_itsm_owner', 'admin') AS granted, itsm_grant('regress_itsm_other', 'admin') AS granted;
SET client_min_messages = notice;
UPDATE integration_connections SET owner = 'regress_itsm_owner' WHERE id = :riverton;
SELECT entity_type, rows, error FROM pgsync_itsm.source_row_counts(:riverton) WHERE entity_type IN ('application', 'consumes', 'contract');
GRANT USAGE ON SCHEMA public, auth TO regress_itsm_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO regress_itsm_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, auth TO regress_itsm_owner;
SELECT entity_type, rows, error FROM pgsync_itsm.source_row_counts(:riverton) WHERE entity_type IN ('application', 'consumes', 'contract');
UPDATE integration_connections SET session_settings = '{"request.jwt.claims": "{\"sub\": \"eeeeeeee-0001-4000-8000-000000000001\"}"}' WHERE id = :riverton;
SELECT entity_type, rows, error FROM pgsync_itsm.source_row_counts(:riverton) WHERE entity_type IN ('application', 'consumes', 'contract');
SHOW request.jwt.claims;
SELECT current_user = session_user AS same_user, current_setting('transaction_read_only') AS read_only, current_setting('search_path') AS search_path;
-- settings that the owner must not make
UPDATE integration_connections SET session_settings = '{"role": "postgres"}' WHERE id = :riverton;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
UPDATE integration_connections SET session_settings = '{"log_statement": "all"}' WHERE id = :riverton;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
UPDATE integration_connections SET session_settings = '{"transaction_read_only": "off"}' WHERE id = :riverton;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
UPDATE integration_connections SET session_settings = '{"request.jwt.claims": "{\"sub\": \"eeeeeeee-0001-4000-8000-000000000001\"}"}' WHERE id = :riverton;
-- who is no member of the owner cannot have it read for him
SET ROLE regress_itsm_other;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
-- nor, with the words for what is not there, if he does not see it
SELECT count(*) FROM pgsync_itsm.read_source(:elmsworth, 'application');
SELECT count(*) FROM pgsync_itsm.read_source('00000000-0000-4000-8000-00000000000f', 'application');
SELECT * FROM pgsync_itsm.check_source_sql(:riverton, 'application');
RESET ROLE;
SET ROLE regress_itsm_owner;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
RESET ROLE;

-- a function of the owner's cannot become somebody else, nor write, nor leave anything behind
CREATE SCHEMA evil AUTHORIZATION regress_itsm_owner;
SET ROLE regress_itsm_owner;
CREATE TABLE evil.loot (who text);
CREATE FUNCTION evil.reset_role() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN current_user; END $$;
CREATE FUNCTION evil.set_role() RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET LOCAL ROLE postgres; RETURN current_user; END $$;
CREATE FUNCTION evil.set_session() RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET SESSION AUTHORIZATION postgres; RETURN current_user; END $$;
CREATE FUNCTION evil.write() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.loot VALUES (current_user); RETURN 'written'; END $$;
CREATE FUNCTION evil.read_write() RETURNS text LANGUAGE plpgsql AS $$ BEGIN SET LOCAL transaction_read_only = off; INSERT INTO evil.loot VALUES (current_user); RETURN 'written'; END $$;
CREATE FUNCTION evil.create_temp() RETURNS text LANGUAGE plpgsql AS $$ BEGIN CREATE TEMPORARY TABLE pg_class_too (); RETURN 'made'; END $$;
CREATE FUNCTION evil.commit() RETURNS text LANGUAGE plpgsql AS $$ BEGIN COMMIT; RETURN 'done'; END $$;
CREATE FUNCTION evil.catch() RETURNS text LANGUAGE plpgsql AS $$ BEGIN BEGIN RESET ROLE; EXCEPTION WHEN others THEN NULL; END; RETURN current_user; END $$;
CREATE FUNCTION evil.shadow() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN current_setting('search_path'); END $$;
RESET ROLE;
CREATE FUNCTION itsm.try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    UPDATE itsm.integration_sources SET query = format('SELECT ''1''::text AS key, %s AS name', expression), key_type = 'text'
     WHERE entity_type = 'application' AND connection_id = '00000000-0000-4000-8000-000000000001';
    BEGIN
        SELECT name INTO result FROM pgsync_itsm.read_source('00000000-0000-4000-8000-000000000001', 'application');
    EXCEPTION WHEN others THEN
        result := 'ERROR: ' || SQLERRM;
    END;
    RETURN result || ' | now ' || current_user || ', ' || current_setting('transaction_read_only') || ', ' || (current_setting('search_path'));
END $$;
SELECT itsm_set_filter(:riverton, 'application', '');
INSERT INTO integration_sources (namespace_id, connection_id, entity_type, query, key_type)
SELECT namespace_id, id, 'application', '', 'text' FROM integration_connections WHERE id = :riverton;
SELECT e, itsm.try(e) FROM unnest(ARRAY['current_user::text', 'evil.reset_role()', 'evil.set_role()', 'evil.set_session()', 'evil.write()',
    'evil.read_write()', 'evil.create_temp()', 'evil.commit()', 'evil.catch()', 'evil.shadow()', '(current_schemas(true))[1]', '(1/0)::text']) AS e;
SELECT * FROM evil.loot;
-- stored by hand, past the checks: still one SELECT or nothing
UPDATE integration_sources SET query = 'SELECT 1 AS key, 2 AS name) AS q; DELETE FROM public.applications; SELECT (1' WHERE entity_type = 'application' AND connection_id = :riverton;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
UPDATE integration_sources SET query = 'WITH d AS (DELETE FROM public.applications RETURNING id) SELECT id AS key, 2 AS name FROM d' WHERE entity_type = 'application' AND connection_id = :riverton;
SELECT count(*) FROM pgsync_itsm.read_source(:riverton, 'application');
UPDATE integration_sources SET query = 'SELECT id::text AS key, nme AS name FROM public.applications' WHERE entity_type = 'application' AND connection_id = :riverton;
DO $$
DECLARE
    context text;
BEGIN
    PERFORM * FROM pgsync_itsm.read_source('00000000-0000-4000-8000-000000000001', 'application');
EXCEPTION WHEN undefined_column THEN
    GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE '%: %', SQLERRM, substring(context FROM 'source of [^\n]*');
END $$;
-- no such thing
SELECT * FROM pgsync_itsm.read_source('00000000-0000-4000-8000-00000000dead', 'application');
SELECT * FROM pgsync_itsm.read_source(NULL, 'application');
SELECT * FROM pgsync_itsm.read_source(:riverton, NULL);
SELECT * FROM pgsync_itsm.read_source(:riverton, 'application', NULL, 'sibling');
SELECT * FROM pgsync_itsm.read_source(:riverton, 'starship');

-- a time limit that somebody set is kept
SELECT itsm_set_source(:riverton, 'application', $$SELECT '1'::text AS key, pg_sleep(60)::text AS name$$, 'text');
SET statement_timeout = '200ms';
SELECT * FROM pgsync_itsm.read_source(:riverton, 'application');
RESET statement_timeout;

\c :main
DROP DATABASE regress_itsm_sources;
DROP ROLE regress_itsm_owner, regress_itsm_other;
