-- Matching, what must not be taken for sure: pairs as good as others, what is alike, keys that two have; and decisions, which a plan keeps to
-- although it finds the same name, and which come too late once a run is sending.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_decisions;
CREATE DATABASE regress_itsm_decisions TEMPLATE template0;
\c regress_itsm_decisions
CREATE SCHEMA itsm;
CREATE SCHEMA trgm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set acme '''00000000-0000-4000-8000-000000000001'''
\set ns '''11111111-1111-4111-8111-111111111111'''
CREATE TABLE here (type text, key text, name text, more text);
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES (:acme, :ns, 'servicenow', 'https://acme.service-now.com', '{"default_owner": "owner"}', true, now());
SELECT itsm_set_source(:acme, 'it_service', 'SELECT key, name, coalesce(more, ''technical_service_offering'') AS scope FROM public.here WHERE type = ''service''', 'text');
SELECT itsm_set_source(:acme, 'application', 'SELECT key, name, ''apm'' AS management_classification FROM public.here WHERE type = ''application''', 'text');
SELECT itsm_set_source(:acme, 'software_product', 'SELECT key, name, more AS version, true AS linked FROM public.here WHERE type = ''product''', 'text');
SELECT itsm_set_source(:acme, 'company', 'SELECT key, name, more IS NOT DISTINCT FROM ''internal'' AS is_internal, true AS used FROM public.here WHERE type = ''company''', 'text');
SELECT itsm_set_source(:acme, 'deployment_profile', 'SELECT key, name, ''application_service'' AS scope FROM public.here WHERE type = ''profile''', 'text');

-- What is there, in pages of 1000; what is hidden is counted and not shown.
CREATE TABLE there (target text, id text, class text, name text, attrs json DEFAULT '{}', hidden boolean DEFAULT false);
CREATE TABLE native (key text, id text, class text);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, label, attrs)
        SELECT run, 'page', l.target, l.keys[1], t.id, coalesce(t.class, l.target), t.name, t.attrs
          FROM pgsync_itsm.lookups AS l
         CROSS JOIN LATERAL (SELECT * FROM there AS x WHERE x.target = l.target AND x.id COLLATE "C" > l.keys[1] ORDER BY x.id COLLATE "C" LIMIT 1000) AS t
         WHERE l.run_id = run AND l.kind = 'page' AND l.state = 'pending' AND NOT t.hidden AND l.target <> 'sys_user_group'
        UNION ALL
        SELECT run, 'page', l.target, l.keys[1], NULL, NULL, (SELECT count(*) FROM there AS x WHERE x.target = l.target AND x.id COLLATE "C" > l.keys[1])::text, NULL
          FROM pgsync_itsm.lookups AS l WHERE l.run_id = run AND l.kind = 'page' AND l.state = 'pending' AND l.target <> 'sys_user_group'
        UNION ALL
        SELECT run, 'native_key', '', n.key, n.id, n.class, NULL, NULL
          FROM pgsync_itsm.lookups AS l JOIN native AS n ON n.key = ANY (l.keys) WHERE l.run_id = run AND l.kind = 'native_key' AND l.state = 'pending';
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
CREATE PROCEDURE match(INOUT run bigint, INOUT rounds integer DEFAULT 0) LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        INSERT INTO integration_runs (namespace_id, connection_id, kind, status) SELECT namespace_id, id, 'match', 'planning' FROM integration_connections LIMIT 1 RETURNING id INTO run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN
                rounds := rounds + 1;
                PERFORM answer(run);
            END IF;
        END LOOP;
    END
    $$;
CREATE VIEW pairs AS
    SELECT entity_type AS type, entity_name AS here, external_name AS there, round(score::numeric, 2) AS score, decision, reason, duplicates AS n
      FROM integration_matches ORDER BY entity_type, entity_name COLLATE "C", external_name COLLATE "C", external_id;

CREATE EXTENSION pg_trgm SCHEMA trgm;
INSERT INTO here VALUES
 ('application','a1','Permit-Tracker',NULL),                               -- two there normalised
 ('application','00000000-0000-4000-8000-00000000000c','Cdup',NULL),       -- two there with one correlation id
 ('application','a3','Fleet System',NULL),                                 -- other words only
 ('application','a4',E'\u57ce\u5e02 crm',NULL),                            -- C locale
 ('application','00000000-0000-4000-8000-00000000000d','Nk',NULL),
 ('service','s1','Help Desk',NULL),('service','s2','Shared Thing','technical_service_offering'),
 ('application','r1','E-Form',NULL),('application','r2','E Form',NULL),
 ('company','c1','Acme Inc',NULL),('company','c2','Acme Ltd',NULL);
INSERT INTO there VALUES
 ('cmdb_ci_business_app', md5('1'), NULL, 'Permit Tracker','{}'),('cmdb_ci_business_app', md5('2'), NULL, 'Permit, Tracker','{}'),
 ('cmdb_ci_business_app', md5('3'), NULL, 'Old copy','{"correlation_id":"00000000-0000-4000-8000-00000000000c"}'),('cmdb_ci_business_app', md5('4'), NULL, 'New one','{"correlation_id":"00000000-0000-4000-8000-00000000000c"}'),
 ('cmdb_ci_business_app', md5('5'), NULL, 'Fleet Platform','{}'),
 ('cmdb_ci_business_app', md5('6'), NULL, E'\u9053\u8def crm','{}'),
 ('cmdb_ci_business_app', md5('7'), NULL, 'Nk there','{}'),('cmdb_ci_business_app', md5('8'), NULL, 'Nk There','{}'),
 ('service_offering', md5('9'), NULL, 'Help Desk','{"service_classification":"Technical Service"}'),
 ('service_offering', md5('10'), NULL, 'Help desk','{"service_classification":"Business Service"}'),
 ('cmdb_ci_business_app', md5('11'), NULL, 'E/Form','{}'),
 ('core_company', md5('12'), NULL, 'Acme GmbH','{}');
INSERT INTO native VALUES ('application/00000000-0000-4000-8000-00000000000d', md5('7'), 'cmdb_ci_business_app');
CALL match(NULL) \gset
SELECT * FROM pairs;
SELECT itsm_accept_matches();
SELECT * FROM pairs;
DELETE FROM integration_matches; DELETE FROM integration_sync_map; DELETE FROM here; DELETE FROM there; DELETE FROM native;
CREATE FUNCTION answer2(run bigint) RETURNS void LANGUAGE sql AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, label, attrs)
        SELECT run, l.kind, l.target, k.key, t.id, coalesce(t.class, l.target), t.name, t.attrs
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key) JOIN there AS t ON lower(t.name) = lower(k.key)
         WHERE l.run_id = run AND l.kind IN ('name', 'model') AND l.state = 'pending' AND t.target = l.target
        UNION ALL
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key) WHERE l.run_id = run AND l.kind IN ('user', 'group', 'relation_type') AND l.state = 'pending'
        UNION ALL
        SELECT run, l.kind, l.target, t.id, t.id, l.target, t.name, json_build_object('name', t.name)
          FROM pgsync_itsm.lookups AS l JOIN there AS t ON t.id = ANY (l.keys) WHERE l.run_id = run AND l.kind = 'record' AND l.state = 'pending' $$;
CREATE PROCEDURE plan(INOUT run bigint, kind text DEFAULT 'publish') LANGUAGE plpgsql AS $$
    DECLARE what text;
    BEGIN
        INSERT INTO integration_runs (namespace_id, connection_id, kind, status, confirm) SELECT namespace_id, id, kind, 'planning', true FROM integration_connections LIMIT 1 RETURNING id INTO run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN PERFORM answer2(run); PERFORM answer(run); END IF;
        END LOOP;
    END $$;
CREATE VIEW items AS SELECT run_id, entity_type, label, action, state, left(reason, 90) AS reason FROM integration_run_items ORDER BY 1,2,3;
CREATE FUNCTION accept(id bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM itsm_accept_match(id); RETURN 'ok'; EXCEPTION WHEN others THEN RETURN SQLERRM; END $$;
\pset format unaligned
-- one there, a service and a profile here
SELECT itsm_set_source(:acme, 'deployment_profile', 'SELECT key, name, coalesce(more, ''application_service'') AS scope FROM public.here WHERE type = ''profile''', 'text');
INSERT INTO here VALUES ('service', 's1', 'Shared One', NULL), ('profile', 'd1', 'Shared One', 'technical_service'), ('profile', 'd2', 'Auto Only', NULL);
INSERT INTO there VALUES ('cmdb_ci_service_technical', md5('t1'), NULL, 'shared one', '{}'), ('cmdb_ci_service_technical', md5('t2'), NULL, 'auto only', '{}');
CALL match(NULL) \gset
SELECT * FROM pairs;
SELECT entity_type, external_table FROM integration_matches WHERE external_table IS NOT NULL ORDER BY 1;
DELETE FROM integration_matches; DELETE FROM here; DELETE FROM there;
-- what a preview leaves of the proposals of a match run
INSERT INTO here VALUES ('application', 'a1', 'Nothing like it', NULL), ('company', 'c1', 'Tyler Technologies, Inc.', NULL);
INSERT INTO there VALUES ('core_company', md5('c1'), NULL, 'Tyler Technologies', '{}');
CALL match(NULL) \gset
SELECT * FROM pairs;
CALL plan(NULL, 'preview') \gset
SELECT status, summary, error_message FROM integration_runs WHERE id = :run;
SELECT * FROM pairs;
DELETE FROM integration_matches; DELETE FROM here; DELETE FROM there;
-- rejected, and on_existing = adopt
SELECT itsm_set(:acme, 'on_existing', 'adopt');
INSERT INTO here VALUES ('application', 'a1', 'Same Name', NULL), ('product', 'p1', 'Acrobat', NULL), ('service', 's1', 'Backup', NULL);
INSERT INTO there VALUES ('cmdb_ci_business_app', md5('1'), NULL, 'Same Name', '{}'), ('cmdb_software_product_model', md5('p'), NULL, 'Acrobat', '{}'), ('service_offering', md5('s'), NULL, 'Backup', '{"service_classification": "Technical Service"}');
CALL match(NULL) \gset
SELECT itsm_reject_match(id) FROM integration_matches WHERE entity_type <> 'software_product';
SELECT itsm_reject_match(id, true) FROM integration_matches WHERE entity_type = 'software_product';
CALL plan(NULL, 'preview') \gset
SELECT entity_type, label, action, state, reason FROM items WHERE run_id = :run;
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, reason FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'cancelled' WHERE id = :run;
SELECT itsm_set(:acme, 'on_existing', NULL);
-- create, and the same name
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, reason FROM items WHERE run_id = :run;
UPDATE integration_runs SET status = 'cancelled' WHERE id = :run;
DELETE FROM integration_matches; DELETE FROM integration_sync_map; DELETE FROM here; DELETE FROM there;
-- accepted while it is being sent
INSERT INTO here VALUES ('application', 'a1', 'Payroll Suite', NULL);
CALL plan(NULL, 'publish') \gset
\set pub :run
SELECT entity_type, label, action, state, reason FROM items WHERE run_id = :pub;
INSERT INTO there VALUES ('cmdb_ci_business_app', md5('1'), NULL, 'Payroll-Suite', '{}');
CALL match(NULL) \gset
SELECT regexp_replace(accept(id), '[0-9]+', 'n', 'g') FROM integration_matches;
SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', 'create', md5('made'), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE i.run_id = :pub AND i.state = 'pending' GROUP BY r.connection_id;
SELECT external_id = md5('1') AS accepted, external_id = md5('made') AS made, sync_direction, created_by_us FROM integration_sync_map;
SELECT decision FROM integration_matches;
UPDATE integration_runs SET status = 'done' WHERE id = :pub;
UPDATE integration_run_items SET state = 'done' WHERE run_id = :pub;
DELETE FROM integration_matches; DELETE FROM integration_sync_map; DELETE FROM here; DELETE FROM there;
-- held for what is taken, for what is gone
INSERT INTO here VALUES ('application', 'a1', 'Permit Tracker', NULL), ('application', 'a2', 'Council Agenda', NULL), ('application', 'a3', 'Old Name Of It', NULL);
INSERT INTO there VALUES ('cmdb_ci_business_app', md5('1'), NULL, 'Permit Trackers', '{}'), ('cmdb_ci_business_app', md5('2'), NULL, 'Council Agendas', '{}'), ('cmdb_ci_business_app', md5('3'), NULL, 'Old Name Of Its', '{}');
CALL match(NULL) \gset
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction)
VALUES (:acme, :ns, 'application', md5('o')::uuid, 'application/o', md5('1'), 'cmdb_ci_business_app', 'Permit Trackers', 'published');
DELETE FROM there WHERE name = 'Council Agendas';
UPDATE here SET name = 'Quite Another' WHERE key = 'a3';
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, reason FROM items WHERE run_id = :run;
SELECT here, regexp_replace(accept(m.id), '[0-9]+', 'n', 'g') FROM pairs JOIN integration_matches AS m ON m.entity_name = here WHERE here LIKE 'Permit%';
DELETE FROM integration_matches; DELETE FROM integration_sync_map; DELETE FROM here; DELETE FROM there; UPDATE integration_runs SET status = 'cancelled' WHERE id = :run;

-- a company that was matched has another name there: what names it is written once
SELECT itsm_set_source(:acme, 'application', 'SELECT key, name, ''apm'' AS management_classification, more AS vendor_name FROM public.here WHERE type = ''application''', 'text');
CREATE FUNCTION send(run bigint) RETURNS TABLE (entity_type text, payload text) LANGUAGE plpgsql AS $$ DECLARE c uuid := '00000000-0000-4000-8000-000000000001'; BEGIN
  UPDATE integration_runs SET status = 'running' WHERE id = run;
  RETURN QUERY SELECT k.entity_type, k.payload FROM pgsync_itsm.claim(c, run, ARRAY['application CREATE', 'application UPDATE', 'company CREATE'], false, true, true, 100, 100, 60, true, 0) AS k;
  PERFORM pgsync_itsm.settle_map(c, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END, coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i WHERE i.run_id = run AND i.state = 'pending';
  DELETE FROM pgsync_itsm.claims;
  UPDATE integration_run_items SET state = 'done' WHERE run_id = run AND state = 'pending';
  UPDATE integration_runs SET status = 'done' WHERE id = run;
END $$;
CREATE OR REPLACE FUNCTION answer2(run bigint) RETURNS void LANGUAGE sql AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, label, attrs)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key) WHERE l.run_id = run AND l.kind IN ('user', 'group', 'relation_type') AND l.state = 'pending'
        UNION ALL
        SELECT run, l.kind, l.target, m.external_id, m.external_id, l.target, NULL, m.last_agreed
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS m WHERE l.run_id = run AND l.kind = 'record' AND m.external_id = ANY (l.keys) AND l.state = 'pending' $$;
INSERT INTO here VALUES ('application', 'a1', 'Munis', 'Tyler Technologies, Inc.'), ('company', 'c1', 'Tyler Technologies, Inc.', NULL);
INSERT INTO there VALUES ('core_company', md5('c1'), NULL, 'Tyler Technologies', '{}');
CALL match(NULL) \gset
SELECT * FROM pairs;
SELECT itsm_accept_match(id) FROM integration_matches WHERE entity_type = 'company' AND external_id IS NOT NULL;
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, payload FROM integration_run_items WHERE run_id = :run;
SELECT * FROM send(:run);
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, payload FROM integration_run_items WHERE run_id = :run;
SELECT * FROM send(:run);
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, payload FROM integration_run_items WHERE run_id = :run;
UPDATE integration_runs SET status = 'done' WHERE id = :run;
-- accepted between compare and items
INSERT INTO here VALUES ('application', 'a2', 'Water Billing', NULL);
INSERT INTO there VALUES ('cmdb_ci_business_app', md5('wb'), NULL, 'Water-Billing', '{}');
CALL match(NULL) \gset
CREATE PROCEDURE race(INOUT run bigint) LANGUAGE plpgsql AS $$
    DECLARE what text; m bigint := (SELECT id FROM integration_matches WHERE external_id = md5('wb')); 
    BEGIN
        DELETE FROM integration_matches WHERE id = m;
        INSERT INTO integration_runs (namespace_id, connection_id, kind, status, confirm) SELECT namespace_id, id, 'publish', 'planning', true FROM integration_connections LIMIT 1 RETURNING id INTO run;
        LOOP
            IF (SELECT phase FROM integration_runs WHERE id = run) = 'items' AND NOT EXISTS (SELECT FROM integration_matches WHERE external_id = md5('wb')) THEN
               INSERT INTO integration_matches (connection_id, namespace_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score)
               SELECT connection_id, namespace_id, entity_type, entity_id, native_key, name, md5('wb'), 'cmdb_ci_business_app', 'Water-Billing', 0.9 FROM pgsync_itsm.plan_records, integration_runs r WHERE r.id = run AND run_id = run AND name = 'Water Billing';
               PERFORM itsm_accept_match(id) FROM integration_matches WHERE external_id = md5('wb');
            END IF;
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN PERFORM answer2(run); PERFORM answer(run); END IF;
        END LOOP;
    END $$;
CALL race(NULL) \gset
SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = :run ORDER BY label;
SELECT step, total, done, skipped FROM integration_run_steps WHERE run_id = :run;
-- taken back
UPDATE integration_runs SET status = 'done';
SELECT itsm_reject_match(id) FROM integration_matches WHERE entity_type = 'company' AND decision = 'accepted';
CALL plan(NULL, 'publish') \gset
SELECT entity_type, label, action, state, payload ->> 'vendor' AS vendor FROM integration_run_items WHERE run_id = :run ORDER BY label;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_decisions;
