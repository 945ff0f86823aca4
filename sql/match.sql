-- Matching without a platform: pages are answered here.  Names are chosen so that each pair, and each that must not be one,
-- follows from the rules by hand: keys, exact, normalised, without version, alike; one to one, the best first.
\set SHOW_CONTEXT never
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_match;
CREATE DATABASE regress_itsm_match TEMPLATE template0;
\c regress_itsm_match
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

-- an empty portfolio, an empty platform
CALL match(NULL) \gset
SELECT status, summary FROM integration_runs WHERE id = :run;
SELECT * FROM pairs;

-- The integration design's table: six services, four of them there, two new; a business offering is none of ours.
INSERT INTO here VALUES ('service', 's1', 'Database Services'), ('service', 's2', 'Application Hosting'), ('service', 's3', 'Network Infrastructure'),
                        ('service', 's4', 'Cybersecurity Operations'), ('service', 's5', 'Enterprise Backup'), ('service', 's6', 'Help Desk Services');
INSERT INTO there VALUES ('service_offering', md5('o1'), NULL, 'Database Services - Gold', '{"service_classification": "Technical Service", "number": "BSN1"}'),
                         ('service_offering', md5('o2'), NULL, 'Cloud Hosting - Standard', '{"service_classification": "Technical Service"}'),
                         ('service_offering', md5('o3'), NULL, 'Network Services', '{"service_classification": ""}'),
                         ('service_offering', md5('o4'), NULL, 'Backup & Recovery', '{"service_classification": "Technical Service"}'),
                         ('service_offering', md5('o5'), NULL, 'Help Desk Services', '{"service_classification": "Business Service"}');
-- without pg_trgm nothing is compared by likeness, and that is said
CALL match(NULL) \gset
SELECT status, summary FROM integration_runs WHERE id = :run;
SELECT * FROM pairs;
-- wherever it is installed
CREATE EXTENSION pg_trgm SCHEMA trgm;
CALL match(NULL) \gset
SELECT status, matched, summary FROM integration_runs WHERE id = :run;
SELECT here, there, decision, reason FROM pairs;
-- once more: the same
CALL match(NULL) \gset
SELECT count(*), count(DISTINCT run_id) FROM integration_matches;
SELECT itsm_accept_matches(0.2, entity_type => 'it_service');
SELECT entity_type, native_key, external_table, external_number, external_url, sync_direction, created_by_us, state, last_sent_hash FROM integration_sync_map ORDER BY native_key;
-- what is in the map is not asked about again
CALL match(NULL) \gset
SELECT here, there, decision FROM pairs;

-- The rules one by one.
DELETE FROM integration_matches;
DELETE FROM integration_sync_map;
DELETE FROM here;
DELETE FROM there;
INSERT INTO here VALUES
    ('application', '00000000-0000-4000-8000-00000000000a', 'By native key', NULL), ('application', '00000000-0000-4000-8000-00000000000b', 'By correlation id', NULL),
    ('application', 'a3', 'Exact Name  ', NULL), ('application', 'a4', 'E-Mail, Calendar & Rooms', NULL), ('application', 'a5', 'Sage 300', NULL), ('application', 'a6', 'Windows Desktop 11', NULL),
    ('application', 'a7', 'Windows Desktop 10', NULL), ('application', 'a8', 'Council Agenda Builder', NULL), ('application', 'a9', 'Twice there', NULL), ('application', 'b1', 'Other''s', NULL),
    ('application', 'b2', 'Permit Tracker', NULL), ('application', 'b3', 'Permits Tracker', NULL), ('application', 'b4', 'Crew Schedule Test', NULL), ('application', 'b5', '城市道路', NULL),
    ('application', 'b6', '🌳', NULL), ('application', 'b7', '  ', NULL), ('application', 'b8', repeat('long ', 60), NULL),
    ('product', 'p1', 'Oracle Database', '19c'), ('product', 'p2', 'Oracle Database', '21c'), ('product', 'p3', 'Acrobat', NULL),
    ('company', 'c1', 'Tyler Technologies, Inc.', NULL), ('company', 'c2', 'Exact GmbH', NULL), ('company', 'c3', 'Ministry', 'internal'),
    ('profile', 'd1', 'Payroll - Prod', NULL), ('profile', 'd2', 'Payroll - Test', NULL);
INSERT INTO there VALUES
    ('cmdb_ci_business_app', md5('1'), NULL, 'Anything', '{}'), ('cmdb_ci_business_app', md5('2'), NULL, 'Whatever', '{"correlation_id": "00000000-0000-4000-8000-00000000000b"}'),
    ('cmdb_ci_business_app', md5('3'), NULL, 'exact name', '{}'), ('cmdb_ci_business_app', md5('4'), NULL, 'The E Mail Calendar & Rooms', '{}'), ('cmdb_ci_business_app', md5('5'), NULL, 'Sage', '{}'),
    ('cmdb_ci_business_app', md5('6'), NULL, 'Windows Desktop', '{}'), ('cmdb_ci_business_app', md5('8'), NULL, 'Council Agenda Bilder', '{}'),
    ('cmdb_ci_business_app', md5('9'), NULL, 'Twice There', '{}'), ('cmdb_ci_business_app', md5('9b'), NULL, 'twice there', '{}'), ('cmdb_ci_business_app', md5('9c'), NULL, 'Twice There', '{"duplicate_of": "x"}'),
    ('cmdb_ci_business_app', md5('b1'), NULL, 'Other''s', '{"correlation_id": "theirs"}'), ('cmdb_ci_business_app', md5('b2'), NULL, 'Permit Trackers', '{}'),
    ('cmdb_ci_business_app', md5('b4'), NULL, 'Crew Schedule Prod', '{}'), ('cmdb_ci_business_app', md5('b5'), NULL, '城市公园', '{}'), ('cmdb_ci_business_app', md5('b6'), NULL, '🌲', '{}'),
    ('cmdb_ci_business_app', md5('b7'), NULL, '', '{}'), ('cmdb_ci_business_app', md5('b8'), NULL, NULL, '{}'),
    ('cmdb_software_product_model', md5('p1'), NULL, 'Oracle Database 19c', '{"version": ""}'), ('cmdb_software_product_model', md5('p2'), NULL, 'Oracle Database', '{"version": "23ai"}'),
    ('cmdb_software_product_model', md5('p3'), NULL, 'Acrobat', '{"version": ""}'),
    ('core_company', md5('c1'), NULL, 'Tyler Technologies', '{}'), ('core_company', md5('c2'), NULL, 'EXACT GmbH', '{}'), ('core_company', md5('c3'), NULL, 'Ministry', '{}'),
    ('cmdb_ci_service_auto', md5('d1'), 'cmdb_ci_service_discovered', 'Payroll Production', '{}');
INSERT INTO native VALUES ('application/00000000-0000-4000-8000-00000000000a', md5('1'), 'cmdb_ci_business_app');
CALL match(NULL) \gset
SELECT * FROM pairs WHERE decision = 'proposed';
SELECT type, left(here, 30) AS here, reason FROM pairs WHERE decision = 'create';
SELECT summary FROM integration_runs WHERE id = :run;
-- rows of a child class come under the table that was asked, with their own class
SELECT target, external_table, name FROM integration_external_records WHERE target = 'cmdb_ci_service_auto';

-- Decisions.
SELECT id AS tracker FROM integration_matches WHERE external_name = 'Permit Trackers' \gset
SELECT entity_name FROM integration_matches WHERE id = :tracker;
-- the other one of the two that are like it is proposed when this one is rejected, and the rejected pair never again
SELECT itsm_reject_match(:tracker);
CALL match(NULL) \gset
SELECT here, there, decision FROM pairs WHERE there = 'Permit Trackers' OR here LIKE 'Permit%';
SELECT id AS other FROM integration_matches WHERE external_name = 'Permit Trackers' AND decision = 'proposed' \gset
SELECT itsm_reject_match(:other, create_new => true);
CALL match(NULL) \gset
SELECT entity_name, external_name, decision, decided_by IS NOT NULL AS decided FROM integration_matches WHERE entity_name LIKE 'Permit%' ORDER BY 1, 2;
-- in bulk: not what is there twice, nor what belongs to something else
SET client_min_messages = notice;
SELECT itsm_accept_matches(0.9, connection_id => :acme);
SET client_min_messages = warning;
SELECT entity_type, published_name, external_id = md5('3') AS exact FROM integration_sync_map ORDER BY 1, 2;
-- of two of one name one is taken, and the other closed
SELECT min(id) AS one, max(id) AS two FROM integration_matches WHERE entity_name = 'Twice there' AND decision = 'proposed' \gset
SELECT itsm_accept_match(:one);
SELECT id = :one AS one, decision, reason, closed_by = :one AS closed_by_one FROM integration_matches WHERE entity_name = 'Twice there' ORDER BY id;
-- taken twice: the record here, the record there
SELECT external_id AS two_id FROM integration_matches WHERE id = :two \gset
SELECT itsm_accept_match(:two);
INSERT INTO integration_matches (connection_id, namespace_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score)
SELECT connection_id, namespace_id, entity_type, md5('other')::uuid, 'application/other', 'Another', external_id, external_table, external_name, 0.9
  FROM integration_matches WHERE id = :one RETURNING id AS theft \gset
SELECT itsm_accept_match(:theft);
SELECT itsm_accept_matches(0.5, entity_type => 'application');
-- accepted once more: no more than a word
SET client_min_messages = notice;
SELECT itsm_accept_match(:one);
SET client_min_messages = warning;
-- taken back, which proposes again what it had closed; and accepted again
SELECT itsm_reject_match(:one);
SELECT count(*) FROM integration_sync_map WHERE published_name = 'Twice there';
SELECT id = :one AS one, decision, closed_by, decided_by FROM integration_matches WHERE entity_name = 'Twice there' ORDER BY id;
SELECT itsm_accept_match(:one);
SELECT count(*) FROM integration_sync_map WHERE published_name = 'Twice there';
-- but not when something was published by it
UPDATE integration_sync_map SET last_sent_hash = 'x' WHERE published_name = 'Twice there';
SELECT itsm_reject_match(:one);
UPDATE integration_sync_map SET last_sent_hash = NULL WHERE published_name = 'Twice there';
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, parent_id, child_id, sync_direction)
SELECT connection_id, namespace_id, 'consumes', md5('rel')::uuid, 'consumes/x', md5('rel'), entity_id, md5('child')::uuid, 'published' FROM integration_sync_map WHERE published_name = 'Twice there';
SELECT itsm_reject_match(:one, true);
DELETE FROM integration_sync_map WHERE entity_type = 'consumes';
-- a run that is sending the record is waited for, as long as it has not been answered
SELECT id AS late FROM integration_matches WHERE external_name = 'Payroll Production' \gset
INSERT INTO integration_runs (namespace_id, connection_id, kind, status) SELECT namespace_id, id, 'publish', 'running' FROM integration_connections RETURNING id AS busy \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state)
SELECT :busy, connection_id, namespace_id, 80, '5', entity_type, entity_id, native_key, 'CREATE', 'pending' FROM integration_matches WHERE id = :late RETURNING id AS item \gset
SELECT itsm_accept_match(:late);
UPDATE integration_run_items SET state = 'skipped' WHERE id = :item;
SELECT itsm_accept_match(:late);
UPDATE integration_run_items SET action = 'UPDATE', state = 'pending' WHERE id = :item;
SELECT itsm_reject_match(:late);
-- one that is planned goes by the decision when it starts
UPDATE integration_runs SET status = 'planned' WHERE id = :busy;
UPDATE integration_run_items SET state = 'planned', external_id = (SELECT external_id FROM integration_matches WHERE id = :late) WHERE id = :item;
SELECT itsm_reject_match(:late);
SELECT pgsync_itsm.refuse_accepted(r) FROM integration_runs AS r WHERE id = :busy;
SELECT state, reason FROM integration_run_items WHERE id = :item;
UPDATE integration_run_items SET action = 'CREATE', state = 'planned', external_id = NULL WHERE id = :item;
SELECT itsm_accept_match(:late);
SELECT pgsync_itsm.refuse_accepted(r) FROM integration_runs AS r WHERE id = :busy;
SELECT state, reason FROM integration_run_items WHERE id = :item;
SELECT itsm_reject_match(:late);
DELETE FROM integration_run_items;
DELETE FROM integration_runs WHERE id = :busy;
-- who decided what
SELECT operation, status, request_payload ->> 'decision' AS decision, request_payload ->> 'before' AS before, request_payload ->> 'by' = current_user AS by_me, request_payload ->> 'name' AS name
  FROM integration_sync_log WHERE request_payload ->> 'match' IN (:'one', :'two', :'tracker', :'other') ORDER BY created_at, id;
SELECT full_plan_after IS NOT NULL AS planned_anew FROM integration_connections;
-- what has no counterpart cannot be accepted; what does not exist cannot be decided on
SELECT id AS nobody FROM integration_matches WHERE external_id IS NULL LIMIT 1 \gset
SELECT itsm_accept_match(:nobody);
SELECT itsm_accept_match(987654);
SELECT itsm_accept_match(NULL);
SELECT itsm_reject_match(987654);
SELECT itsm_reject_match(:nobody);
SELECT itsm_accept_matches(1.5);
SELECT itsm_accept_matches(NULL);
SELECT itsm_match(NULL);
SELECT itsm_match('99999999-9999-4999-8999-999999999999');
SELECT itsm_set(:acme, 'similar_names', '2');
SELECT itsm_set(:acme, 'similar_names', 'much');

-- Decisions that meet others.  "Create new" closes what else was proposed, and gives it back when it is taken back.
DELETE FROM integration_matches;
DELETE FROM integration_sync_map;
CREATE FUNCTION pair(here text, there text, score real, type text DEFAULT 'application') RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO integration_matches (connection_id, namespace_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score, reason)
        SELECT id, namespace_id, type, md5(here)::uuid, type || '/' || here, here, md5(there), 'cmdb_ci_business_app', there, score, 'normalised name' FROM integration_connections
    $$;
CREATE VIEW decisions AS
    SELECT m.entity_name AS here, m.external_name AS there, m.decision, c.external_name AS closed_by
      FROM integration_matches AS m LEFT JOIN integration_matches AS c ON c.id = m.closed_by ORDER BY m.entity_name COLLATE "C", m.external_name COLLATE "C", m.entity_type;
SELECT pair('Roads', 'Road', 0.9), pair('Roads', 'Roads 2', 0.8), pair('Streets', 'Road', 0.7);
SELECT id AS road FROM integration_matches WHERE entity_name = 'Roads' AND external_name = 'Road' \gset
SELECT id AS roads2 FROM integration_matches WHERE external_name = 'Roads 2' \gset
SELECT itsm_reject_match(:road, create_new => true);
SELECT * FROM decisions;
SELECT itsm_reject_match(:road);
SELECT * FROM decisions;
-- what was closed on both sides is open again but for what was decided otherwise since
SELECT itsm_accept_match(:road);
SELECT * FROM decisions;
SELECT itsm_reject_match(:road);
SELECT itsm_accept_match(:roads2);
SELECT itsm_reject_match(:roads2);
SELECT itsm_reject_match(:road, create_new => true);
SELECT itsm_accept_match(:roads2);
SELECT * FROM decisions;
-- in bulk: one to one, the best first; what competes is closed
DELETE FROM integration_matches;
DELETE FROM integration_sync_map;
SELECT pair('A', 'x', 0.9), pair('A', 'y', 0.95), pair('B', 'y', 0.92), pair('B', 'z', 0.91), pair('C', 'z', 0.95, 'deployment_profile'), pair('D', 'z', 0.94), pair('E', 'w', 0.5);
SET client_min_messages = notice;
SELECT itsm_accept_matches(0.9);
SET client_min_messages = warning;
SELECT * FROM decisions;
SELECT count(*), count(DISTINCT external_id), count(DISTINCT (entity_type, entity_id)) FROM integration_sync_map;
-- a match run that has not finished is about to replace what would be decided on
SELECT itsm_match(:ns) AS queued \gset
SELECT id AS open FROM integration_matches WHERE entity_name = 'E' \gset
DO $$ BEGIN PERFORM itsm.itsm_accept_match((SELECT id FROM itsm.integration_matches WHERE entity_name = 'E')); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', regexp_replace(sqlerrm, '[0-9]+', 'N'); END $$;
DO $$ BEGIN PERFORM itsm.itsm_reject_match((SELECT id FROM itsm.integration_matches WHERE entity_name = 'E')); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', regexp_replace(sqlerrm, '[0-9]+', 'N'); END $$;
DO $$ BEGIN PERFORM itsm.itsm_accept_matches(0); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', regexp_replace(sqlerrm, '[0-9]+', 'N'); END $$;
SELECT decision FROM integration_matches WHERE id = :open;
SELECT itsm_cancel(:queued) = :queued AS cancelled;
-- in bulk nothing is decided that a publish is at work on; nor is taken back what it is about to refer to
INSERT INTO integration_runs (namespace_id, connection_id, kind, status, phase) SELECT namespace_id, id, 'publish', 'running', 'apply' FROM integration_connections RETURNING id AS busy \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state, parent_type, parent_id)
SELECT :busy, id, namespace_id, 70, '4', 'application', md5('E')::uuid, 'application/E', 'CREATE', 'pending', NULL, NULL FROM integration_connections
UNION ALL SELECT :busy, id, namespace_id, 90, '6', 'consumes', md5('rel')::uuid, 'consumes/x', 'CREATE', 'pending', 'application', md5('A')::uuid FROM integration_connections;
SELECT itsm_accept_matches(0);
SELECT id AS a FROM integration_matches WHERE entity_name = 'A' AND decision = 'accepted' \gset
DO $$ BEGIN PERFORM itsm.itsm_reject_match((SELECT id FROM itsm.integration_matches WHERE entity_name = 'A' AND decision = 'accepted')); EXCEPTION WHEN object_in_use THEN RAISE WARNING '%', regexp_replace(sqlerrm, '[0-9]+', 'N'); END $$;
UPDATE integration_run_items SET state = 'done' WHERE run_id = :busy;
UPDATE integration_runs SET status = 'done' WHERE id = :busy;
SELECT itsm_reject_match(:a);

-- Numbers tell names apart, however alike they are; the same number may be the same thing; accepted and lost is proposed again.
DELETE FROM integration_matches;
DELETE FROM integration_sync_map;
DELETE FROM here;
DELETE FROM there;
INSERT INTO here SELECT 'application', 'n' || n, 'Pump station ' || n, NULL FROM generate_series(1, 150) AS n;
INSERT INTO there SELECT 'cmdb_ci_business_app', md5('n' || n), NULL, 'Pumps station ' || n, '{}' FROM generate_series(150, 400) AS n;
CALL match(NULL) \gset
SELECT * FROM pairs WHERE decision = 'proposed';
SELECT count(*) FROM pairs WHERE decision = 'create';
SELECT itsm_accept_matches(0.5);
DELETE FROM integration_sync_map;
CALL match(NULL) \gset
SELECT here, there, decision FROM pairs WHERE there IS NOT NULL;
SELECT itsm_accept_matches(0.5);
SELECT count(*) FROM integration_sync_map;
DELETE FROM integration_matches;
DELETE FROM integration_sync_map;
DELETE FROM integration_external_records;

-- More than a page; what is hidden is not taken for gone, what is gone is.
DELETE FROM here;
INSERT INTO here VALUES ('company', 'c1', 'Nothing like it');
DELETE FROM there;
INSERT INTO there SELECT 'core_company', md5('co' || n), NULL, 'Company ' || n FROM generate_series(1, 2500) AS n;
CALL match(NULL) \gset
SELECT :rounds AS rounds, (SELECT count(*) FROM integration_external_records WHERE target = 'core_company');
DELETE FROM there WHERE name = 'Company 7';
UPDATE there SET name = 'Company VIII' WHERE name = 'Company 8';
CALL match(NULL) \gset
SELECT (SELECT count(*) FROM integration_external_records WHERE target = 'core_company') AS rows, count(*) AS changed FROM integration_external_records WHERE last_changed IS NOT NULL;
UPDATE there SET hidden = true WHERE name IN ('Company 9', 'Company 10');
CALL match(NULL) \gset
SELECT (SELECT count(*) FROM integration_external_records WHERE target = 'core_company') AS rows, (SELECT substring(summary FROM 'read there.*') FROM integration_runs WHERE id = :run) AS words;
-- nor is it said that something is not there
SELECT here, decision, reason FROM pairs;
-- a page of which nothing is shown ends it
UPDATE there SET hidden = true;
CALL match(NULL) \gset
SELECT :rounds AS rounds, (SELECT count(*) FROM integration_external_records WHERE target = 'core_company') AS rows;

-- Another namespace's.
SELECT pair('Ours', 'ours there', 0.9);
SELECT id AS one FROM integration_matches WHERE entity_name = 'Ours' \gset
SELECT itsm_accept_match(:one);
SELECT itsm_secure('namespace_id = current_setting(''regress.namespace'', true)::uuid');
CREATE ROLE regress_itsm_matcher;
SELECT itsm_grant('regress_itsm_matcher', 'operator');
SET ROLE regress_itsm_matcher;
SET regress.namespace = '22222222-2222-4222-8222-222222222222';
SELECT itsm_accept_match(:one);
SELECT itsm_reject_match(:one);
SELECT itsm_accept_matches(0);
SELECT count(*) FROM integration_matches;
SET regress.namespace = '11111111-1111-4111-8111-111111111111';
SELECT itsm_reject_match(:one);
SELECT decision, decided_by FROM integration_matches WHERE id = :one;
RESET ROLE;
RESET regress.namespace;

-- the work space is empty again
SELECT (SELECT count(*) FROM pgsync_itsm.match_names) + (SELECT count(*) FROM pgsync_itsm.match_pairs) + (SELECT count(*) FROM pgsync_itsm.mirror_reads)
     + (SELECT count(*) FROM pgsync_itsm.plan_records) + (SELECT count(*) FROM pgsync_itsm.lookups) + (SELECT count(*) FROM pgsync_itsm.lookup_rows) AS left_over;
DROP OWNED BY regress_itsm_matcher;
DROP ROLE regress_itsm_matcher;

-- a run is done again as what it was
SET client_min_messages = error;
SELECT itsm_retry(min(id)) AS again FROM integration_runs WHERE kind = 'match' AND status = 'done' \gset
SELECT kind, status FROM integration_runs WHERE id = :again;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_match;
