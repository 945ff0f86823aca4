-- Crawl readiness of the sample portfolio: in itself, before and after a plan, and on a platform that is told here.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_readiness;
CREATE DATABASE regress_itsm_readiness TEMPLATE template0;
\c regress_itsm_readiness
CREATE SCHEMA itsm;
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set namespace '''11111111-1111-4111-8111-111111111111'''
SELECT itsm_readiness(:namespace);
\set ECHO none
\i :abs_srcdir/test/getinsync/schema.sql
\i :abs_srcdir/test/getinsync/sample.sql
SELECT itsm_attach_getinsync() AS attached \gset
\i :abs_srcdir/test/getinsync/sample_scope.sql
\set ON_ERROR_STOP off
\set ECHO all

-- The portfolio alone.  By hand from the sample: 32 applications less 15 and 16 (retired) and 21 (class other) are 29; of the
-- profiles in scope 40 are application services of what is not retired.  Without service: 18, 26, 32; without application in
-- scope: profile 2101.  Business owner: 5, 28, 30 have none with an e-mail; technical owner: 5, 6; group: 5, 6, 31, 32;
-- criticality of 20 or more: not 5, 7, 8, 18, 20, 24, 32; so 11 are incomplete.  Ten profiles have an operational owner.
SELECT section, "check", scope, passed, failed, percent, left(records::text, 40) AS records FROM itsm_readiness(:namespace) WHERE section <> 'note';
SELECT "check", note, passed_before, passed_after, passed_platform FROM itsm_readiness(:namespace) WHERE section = 'note' OR note LIKE '%class%';
SELECT entity_type, right(entity_id::text, 4) AS id, label, passed, passed_before, passed_after, reason
  FROM itsm_readiness_detail(:namespace, 'application.managed_by_group');
SELECT left(label, 20) AS label, reason FROM itsm_readiness_detail(:namespace, 'application.complete') ORDER BY label COLLATE "C";
-- the other tenant, whose criticality is known for one of three
SELECT "check", passed, failed, records FROM itsm_readiness('22222222-2222-4222-8222-222222222222') WHERE section <> 'recommended' AND failed > 0;
-- an empty namespace
INSERT INTO namespaces (id, name, slug) VALUES ('44444444-4444-4444-8444-444444444444', 'Nobody', 'nobody');
SELECT count(*) AS checks, sum(passed) AS passed, sum(failed) AS failed, max(percent) AS percent, count(records) AS records
  FROM itsm_readiness('44444444-4444-4444-8444-444444444444') WHERE section <> 'note';
SELECT count(*) FROM itsm_readiness_detail('44444444-4444-4444-8444-444444444444', 'application.has_service');

-- errors
SELECT itsm_readiness(NULL);
SELECT itsm_readiness('99999999-9999-4999-8999-999999999999');
SELECT itsm_readiness_detail('99999999-9999-4999-8999-999999999999', 'application.name');
SELECT itsm_readiness_detail(:namespace, 'application.colour');
SELECT itsm_readiness_detail(:namespace, NULL);
-- a note is no check
SELECT itsm_readiness_detail(:namespace, 'platform');

-- A connection that has published nothing: before, nothing passes.
\set riverton '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES (:riverton, :namespace, 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin"}', true, now()),
       (gen_random_uuid(), :namespace, 'haloitsm', 'https://acme.haloitsm.com', '{}', true, now());
CREATE VIEW readiness AS
    SELECT "check", passed || '/' || passed + failed AS here, passed_before || '/' || passed_before + failed_before AS before,
           passed_after || '/' || passed_after + failed_after AS after, passed_platform || '/' || passed_platform + failed_platform AS platform, section
      FROM itsm_readiness('11111111-1111-4111-8111-111111111111');
SELECT "check", here, before, after, platform FROM readiness WHERE section <> 'note';
SELECT "check", note FROM itsm_readiness(:namespace) WHERE section = 'note';

-- What is asked is answered here: all users but one, all groups but one, and the choices of an instance.
CREATE TABLE choices (class text, field text, value text, label text);
INSERT INTO choices
SELECT c.class, f.field, f.value, f.label
  FROM (VALUES ('cmdb_ci_business_app'), ('cmdb_ci_service_auto'), ('cmdb_ci_service_technical'), ('service_offering')) AS c(class),
       (VALUES ('operational_status', '1', 'Operational'), ('operational_status', '2', 'Non-Operational'), ('operational_status', '6', 'Retired'),
               ('operational_status', '7', 'Pipeline'), ('install_status', '1', 'In Production'), ('install_status', '1', 'Installed'),
               ('install_status', '0', 'Implementing'), ('environment', 'Production', 'Production'), ('environment', 'Test', 'Test'),
               ('environment', 'Development', 'Development'), ('service_classification', 'Application Service', 'Application Service'),
               ('service_classification', 'Technical Service', 'Technical Service'), ('used_for', 'Accounting', 'Accounting'),
               ('business_criticality', '1 - most critical', '1 - most critical'), ('business_criticality', '2 - somewhat critical', '2 - somewhat critical'),
               ('business_criticality', '3 - less critical', '3 - less critical'), ('busines_criticality', '1 - most critical', '1 - most critical'),
               ('busines_criticality', '2 - somewhat critical', '2 - somewhat critical'), ('busines_criticality', '3 - less critical', '3 - less critical'))
       AS f(field, value, label);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, label)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.kind IN ('user', 'group', 'company', 'relation_type', 'contract_model')
           AND k.key NOT IN ('Night Shift', 'chen.wei@riverton.example')
        UNION ALL
        SELECT run, l.kind, l.target, c.field, c.value, c.label
          FROM pgsync_itsm.lookups AS l, choices AS c WHERE l.run_id = run AND l.kind = 'choice' AND c.class = l.target AND c.field = ANY (l.keys);
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, attrs)
        SELECT run, l.kind, l.target, m.external_id, m.external_id, m.last_agreed
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS m WHERE l.run_id = run AND l.kind = 'record' AND m.external_id = ANY (l.keys);
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
CREATE PROCEDURE plan(run bigint) LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        UPDATE integration_runs SET status = 'planning' WHERE id = run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN
                PERFORM answer(run);
            END IF;
        END LOOP;
    END
    $$;
CREATE FUNCTION new_run(kind text) RETURNS bigint LANGUAGE sql
    AS $$
        INSERT INTO integration_runs (namespace_id, connection_id, kind, confirm)
        SELECT namespace_id, id, kind, true FROM integration_connections WHERE platform = 'servicenow' RETURNING id
    $$;
-- The platform takes all of it.
CREATE FUNCTION agree(run bigint) RETURNS void LANGUAGE sql
    AS $$
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL,
                   NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id
         WHERE i.run_id = run AND i.state = 'pending' AND i.action IN ('CREATE', 'UPDATE', 'DELETE', 'CLEAR') GROUP BY r.connection_id;
        UPDATE integration_run_items SET state = 'done' WHERE run_id = run AND state = 'pending';
        UPDATE integration_runs SET status = 'done' WHERE id = run
    $$;

-- A plan that is kept: after.  By hand: 2 and 3 are held (one name), so are profiles 2501 and 2502; Night Shift (14, 1401,
-- 2901) and Chen Wei (102, 1901) are not there, nor choices for criticality 20 to 39 (9, 22, 30) and for QA, staging and DR.
-- The technical owner that 5 and 6 lack is made up for.
SELECT new_run('preview') AS run \gset
CALL plan(:run);
SELECT kind, status FROM integration_runs;
SELECT "check", here, before, after, platform FROM readiness WHERE section <> 'note';
SELECT "check", note FROM itsm_readiness(:namespace) WHERE section = 'note';
SELECT left(label, 30) AS label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'application.has_service')
 WHERE NOT passed_after;
SELECT left(label, 40) AS label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'deployment_profile.managed_by_group')
 WHERE NOT passed_after;
SELECT count(*), count(*) FILTER (WHERE passed_after) AS after, min(reason) AS reason FROM itsm_readiness_detail(:namespace, 'consumes.type')
 WHERE passed_after;
SELECT left(label, 40) AS label, passed, passed_after, reason FROM itsm_readiness_detail(:namespace, 'application.complete') WHERE passed AND NOT passed_after;

-- It is sent and taken: what was after is before, and there is nothing to come.
CREATE TABLE earlier AS SELECT "check", after FROM readiness;
UPDATE integration_runs SET status = 'planning', phase = 'recheck', kind = 'publish' WHERE id = :run;
-- also while it is on its way
SELECT count(after) AS checks FROM readiness;
CALL plan(:run);
SELECT status FROM integration_runs WHERE id = :run;
SELECT count(*) AS other FROM readiness AS r JOIN earlier AS e USING ("check") WHERE r.after IS DISTINCT FROM e.after;
SELECT agree(:run);
SELECT count(r.after) AS after, count(*) FILTER (WHERE r.before IS DISTINCT FROM e.after) AS other FROM readiness AS r JOIN earlier AS e USING ("check");
SELECT label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'application.used_for') WHERE passed OR passed_before;

-- Values that were not taken there are not there; a relationship of another type is none.
UPDATE integration_sync_map SET not_taken = '{"owned_by": "x"}', last_agreed = (last_agreed::jsonb - 'owned_by')::json
 WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000001';
UPDATE integration_sync_map SET rel_type = 'Uses::Used by' WHERE entity_type = 'consumes' AND child_id = 'dddddddd-0001-4000-8000-000000000101';
SELECT label, passed, passed_before, reason FROM itsm_readiness_detail(:namespace, 'application.business_owner')
 WHERE passed AND NOT passed_before AND reason NOT LIKE 'another %';
SELECT label, passed, passed_before, reason FROM itsm_readiness_detail(:namespace, 'consumes.type') WHERE label LIKE 'Sage%';

-- The next plan: an owner is emptied, a description comes, a profile goes to another application, a service is lost there.
DELETE FROM deployment_profile_contacts WHERE deployment_profile_id = 'dddddddd-0001-4000-8000-000000000401';
UPDATE applications SET short_description = 'Sensors' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000018';
UPDATE deployment_profiles SET application_id = 'aaaaaaaa-0001-4000-8000-000000000032' WHERE id = 'dddddddd-0001-4000-8000-000000000501';
UPDATE integration_sync_map SET state = 'gone' WHERE entity_id = 'dddddddd-0001-4000-8000-000000001701';
SELECT new_run('publish') AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, count(*) FROM integration_run_items
 WHERE run_id = :run AND entity_type IN ('application', 'deployment_profile', 'consumes') AND state NOT IN ('held', 'skipped') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT "check", here, before, after FROM readiness WHERE before <> after OR section = 'relationships';
SELECT label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'application.has_service')
 WHERE label ~ 'Council|Open Data|Citizen';
SELECT label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'deployment_profile.owner') WHERE label LIKE 'Payroll%';
SELECT label, passed, passed_before, passed_after, reason FROM itsm_readiness_detail(:namespace, 'deployment_profile.name') WHERE label LIKE 'Citizen%';

-- The platform, as somebody has read it: applications and services first, relationships later.
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, name, attrs)
SELECT m.connection_id, m.namespace_id, m.external_table, m.external_id, m.published_name,
       (m.last_agreed::jsonb || jsonb_build_object('number', 'APM' || right(m.entity_id::text, 7)))::json
  FROM integration_sync_map AS m WHERE m.entity_type IN ('application', 'deployment_profile') AND m.state = 'linked';
-- not ours: one without an owner, one that is retired, one that was found to be the same as another
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, name, attrs)
SELECT :riverton, :namespace, 'cmdb_ci_business_app', x.id, x.name, x.attrs::json
  FROM (VALUES ('f1', 'Old Ledger', '{"owned_by": "", "number": "APM0000001", "operational_status": "1"}'),
               ('f2', 'Older Ledger', '{"owned_by": "", "operational_status": "6"}'),
               ('f3', 'Old Ledger', '{"owned_by": "", "duplicate_of": "f1"}')) AS x(id, name, attrs);
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, name, attrs)
VALUES (:riverton, :namespace, 'cmdb_ci_service_discovered', 'f4', 'Ledger entry point', '{"owned_by": "u", "used_for": "Production"}');
SELECT "check", before, platform FROM readiness WHERE section <> 'note';
SELECT "check", note FROM itsm_readiness(:namespace) WHERE section = 'note';
SELECT label, passed, passed_before, passed_after, passed_platform, reason, external_table FROM itsm_readiness_detail(:namespace, 'application.business_owner');
-- Types come by id or by name; another one is a relationship, and the wrong one.
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, attrs)
SELECT m.connection_id, m.namespace_id, 'cmdb_rel_ci', 'r/' || m.native_key,
       json_build_object('parent', a.external_id, 'child', s.external_id, 'type', md5('relation_type/' || m.rel_type))
  FROM integration_sync_map AS m
  JOIN integration_sync_map AS a ON a.entity_type = 'application' AND a.entity_id = m.parent_id
  JOIN integration_sync_map AS s ON s.entity_type = 'deployment_profile' AND s.entity_id = m.child_id
 WHERE m.entity_type = 'consumes';
SELECT "check", before, platform FROM readiness WHERE section = 'relationships' OR "check" = 'application.used_for';
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, attrs)
VALUES (:riverton, :namespace, 'cmdb_rel_ci', 'r1', '{"parent": "f1", "child": "f4", "type": "Depends on::Used by"}'),
       (:riverton, :namespace, 'cmdb_rel_ci', 'r2', '{"parent": "f4", "child": "f1", "type": "Consumes::Consumed by"}');
SELECT "check", before, platform FROM readiness WHERE section = 'relationships' OR "check" = 'application.used_for';
SELECT "check", note FROM itsm_readiness(:namespace) WHERE section = 'note';
SELECT label, passed, passed_after, passed_platform, reason, external_table, external_id FROM itsm_readiness_detail(:namespace, 'consumes.type')
 WHERE passed IS NULL;
SELECT label, passed_before, passed_platform FROM itsm_readiness_detail(:namespace, 'application.has_service') WHERE passed_platform IS NOT NULL;
UPDATE integration_external_records SET attrs = '{"parent": "f1", "child": "f4", "type": "Consumes::Consumed by"}' WHERE external_id = 'r1';
SELECT "check", platform FROM readiness WHERE section = 'relationships';

-- where the life-cycle pair is all that is written, it counts for the status columns
SELECT "check", fields FROM pgsync_itsm.readiness_checks(true) WHERE "check" LIKE '%status';

-- A connection that draws CSDM otherwise has nothing of the type that is asked for.
SELECT itsm_set(:riverton, 'consumes_type', 'Uses::Used by');
SELECT "check", here FROM readiness WHERE "check" = 'consumes.type';
SELECT itsm_set(:riverton, 'consumes_type', NULL);
-- What its filter leaves out is not measured.
SELECT itsm_set_filter(:riverton, 'application', 'name LIKE ''S%''');
SELECT "check", here FROM readiness WHERE "check" IN ('application.name', 'deployment_profile.has_application', 'consumes.type');

-- Who is no member of the connection's owner reads with rights of his own, and never another tenant's.
SELECT itsm_secure('namespace_id = public.get_current_namespace_id()');
SELECT itsm_grant('authenticated', 'viewer');
SET ROLE authenticated;
SET request.jwt.claims = '{"sub": "eeeeeeee-0001-4000-8000-000000000001"}';
SELECT "check", passed, failed, passed_before, passed_after, passed_platform, note FROM itsm_readiness(:namespace)
 WHERE section = 'note' OR "check" IN ('application.name', 'application.managed_by_group', 'application.used_for');
SELECT itsm_readiness('22222222-2222-4222-8222-222222222222');
SELECT itsm_readiness_detail('22222222-2222-4222-8222-222222222222', 'application.name');
SET request.jwt.claims = '{"sub": "eeeeeeee-0002-4000-8000-000000000001"}';
SELECT "check", passed, failed, passed_before FROM itsm_readiness('22222222-2222-4222-8222-222222222222')
 WHERE "check" = 'application.name' OR section = 'note';
SELECT itsm_readiness(:namespace);
RESET ROLE;

-- Detached, a connection has nothing to read, unless it has sources of its own.
SET client_min_messages = error;
SELECT itsm_detach_getinsync();
SET client_min_messages = warning;
SELECT itsm_readiness_detail(:namespace, 'application.name');
SELECT itsm_set_filter(:riverton, 'application', '');
SELECT itsm_set_source(:riverton, 'application', 'SELECT ''A1'' AS key, ''Ledger 🌳'' AS name UNION ALL SELECT ''A2'', '' ''', 'text');
SELECT itsm_set_source(:riverton, 'deployment_profile',
    'SELECT ''P1'' AS key, ''A1'' AS parent_key, ''Ledger - Prod'' AS name, ''application_service'' AS scope', 'text');
SELECT "check", here, before, after FROM readiness WHERE "check" IN ('application.name', 'deployment_profile.has_application');
SELECT itsm_set_source(:riverton, 'consumes', 'SELECT ''A1/P1'' AS key, ''A1'' AS parent_key, ''P1'' AS child_key', 'text');
SELECT "check", here FROM readiness WHERE "check" IN ('application.has_service', 'deployment_profile.has_application');
-- a key that comes twice is one record
SELECT itsm_set_source(:riverton, 'application', 'SELECT ''A1'' AS key, ''Ledger'' AS name UNION ALL SELECT ''A1'', ''Ledger''', 'text');
SELECT "check", here FROM readiness WHERE "check" IN ('application.has_service', 'application.complete');

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_readiness;
