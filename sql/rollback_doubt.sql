-- Rollbacks in doubt: what is hidden, refused, found again, shared, or not heard of (see rollback.sql).
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = error;
DROP DATABASE IF EXISTS regress_itsm_rollback_doubt;
DROP ROLE IF EXISTS regress_itsm_rollback_doubt;
CREATE DATABASE regress_itsm_rollback_doubt TEMPLATE template0;
\c regress_itsm_rollback_doubt
\set ECHO none
\i :abs_srcdir/test/lib/rollback.sql
\set ECHO all

-- A publish of everything; one company and one record of which the platform says that it had them already.
SELECT new_run() AS first \gset
CALL plan(:first);
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :first));
SELECT publish(:first);
UPDATE integration_run_items SET operation = 'update' WHERE run_id = :first AND entity_type = 'software_package' AND native_key = 'software_package/bbbbbbbb-0001-4000-8000-000000000001';
UPDATE integration_sync_map SET created_by_us = false WHERE entity_type = 'software_package' AND native_key = 'software_package/bbbbbbbb-0001-4000-8000-000000000001';

CREATE FUNCTION planf(run bigint) RETURNS text LANGUAGE plpgsql
    AS $$
    DECLARE
        what text; n int := 0;
    BEGIN
        UPDATE integration_runs SET status = 'planning' WHERE id = run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            n := n + 1;
            EXIT WHEN what = 'done' OR n > 60;
            IF what = 'wait' THEN
                PERFORM answer(run);
                PERFORM tweak(run);
            END IF;
        END LOOP;
        RETURN what || ' ' || (SELECT status || ' ' || phase || coalesce(' ' || error_message, '') FROM integration_runs WHERE id = run);
    END
    $$;
CREATE FUNCTION tweak(run bigint) RETURNS void LANGUAGE sql AS 'SELECT';
INSERT INTO there VALUES ('role', '', NULL, '{"user.user_name": "sync"}', 'admin'), ('role', '', NULL, NULL, 'contract_manager'), ('role', '', NULL, NULL, 'asset');

-- rows that are hidden: nothing is concluded from what is not shown
BEGIN;
SELECT external_id AS hid FROM integration_sync_map WHERE entity_type = 'deployment_profile' ORDER BY native_key LIMIT 1 \gset
INSERT INTO there VALUES ('record', :'hid', :'hid', NULL);
CREATE OR REPLACE FUNCTION tweak(run bigint) RETURNS void LANGUAGE sql AS $$
 UPDATE pgsync_itsm.lookups SET error_message = '1 of 5 rows of x are hidden from the user by access rules' WHERE run_id = run AND kind = 'record' $$;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM matter WHERE run_id = last_run() AND reason LIKE 'gone%';
ROLLBACK;

-- what others relate to it is refused, or shown in part
BEGIN;
CREATE OR REPLACE FUNCTION tweak(run bigint) RETURNS void LANGUAGE sql AS $$
 UPDATE pgsync_itsm.lookups SET error_class = 'HTTP_403', error_message = 'refused' WHERE run_id = run AND kind LIKE 'others%' $$;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, state, count(*) FROM matter WHERE run_id = last_run() AND action = 'DELETE' GROUP BY 1, 2 ORDER BY 1,2;
ROLLBACK;

-- of an attempt that was not heard of, what somebody else made is not retired
BEGIN;
SELECT external_id AS ext, entity_id AS eid FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'update', unheard = true WHERE run_id = :first AND entity_id = :'eid' AND entity_type = 'application';
INSERT INTO there VALUES ('record', :'ext', :'ext', '{"sys_created_by": "jane", "sys_updated_by": "jane"}');
SELECT count(*) > 0 AS p FROM itsm_rollback(:first);
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id = :'eid' AND entity_type = 'application';
ROLLBACK;

-- nor does it make her one of our users
BEGIN;
SELECT external_id AS ext, entity_id AS eid FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'update', unheard = true WHERE run_id = :first AND entity_id = :'eid' AND entity_type = 'application';
SELECT external_id AS ext2, entity_id AS eid2 FROM integration_sync_map WHERE entity_type = 'contract' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'update', unheard = true WHERE run_id = :first AND entity_id = :'eid2' AND entity_type = 'contract';
INSERT INTO there SELECT 'record', e, e, '{"sys_created_by": "jane", "sys_updated_by": "jane"}' FROM unnest(ARRAY[:'ext', :'ext2']) AS e;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, classes => '{"contract": "delete"}');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id IN (:'eid', :'eid2');
ROLLBACK;

-- what was looked for and found counts as created, and may be hers
BEGIN;
SELECT external_id AS ext2, entity_id AS eid2 FROM integration_sync_map WHERE entity_type = 'contract' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'create', unheard = true, reason = 'found: the first attempt had arrived' WHERE run_id = :first AND entity_id = :'eid2' AND entity_type = 'contract';
INSERT INTO there SELECT 'record', e, e, '{"sys_created_by": "jane", "sys_updated_by": "jane"}' FROM unnest(ARRAY[:'ext2']) AS e;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id IN (:'eid2');
ROLLBACK;

-- who made it cannot be read
BEGIN;
SELECT external_id AS ext2, entity_id AS eid2 FROM integration_sync_map WHERE entity_type = 'contract' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'update', unheard = true WHERE run_id = :first AND entity_id = :'eid2' AND entity_type = 'contract';
INSERT INTO there SELECT 'record', e, e, '{"sys_created_by": null, "sys_updated_by": null}' FROM unnest(ARRAY[:'ext2']) AS e;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id IN (:'eid2');
ROLLBACK;

-- another connection of the same instance knows the record
BEGIN;
SELECT external_id AS comp, entity_id AS eid FROM integration_sync_map WHERE entity_type = 'company' AND created_by_us ORDER BY native_key LIMIT 1 \gset
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES ('00000000-0000-4000-8000-000000000099', '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://acme.service-now.com', '{}', true, now());
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
VALUES ('00000000-0000-4000-8000-000000000099', '22222222-2222-4222-8222-222222222222', 'application', gen_random_uuid(), 'x', md5('x'), 'cmdb_ci_business_app', 'X', 'published', true, json_build_object('name', 'X', 'vendor', :'comp'));
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id = :'eid' AND entity_type = 'company';
ROLLBACK;

-- the cache of references is empty: the run asks
BEGIN;
SELECT new_run(true) AS part \gset
UPDATE integration_runs SET status = 'done' WHERE id = :part;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, operation, external_id, external_table, payload)
SELECT :part, id, namespace_id, 60, '4', 'application', md5('n')::uuid, 'n', 'n', 'CREATE', 'done', 'create', md5('n'), 'cmdb_ci_business_app', '{"name": "n"}' FROM integration_connections;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :part;
SELECT action, state, field, reason FROM itsm_rollback(:part);
DELETE FROM integration_references;
SELECT action, state, field, reason FROM itsm_rollback(:part);
ROLLBACK;

-- a run of another tenant as rolls_back
BEGIN;
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES ('00000000-0000-4000-8000-000000000099', '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://other.service-now.com', '{}', true, now());
CREATE ROLE regress_itsm_rollback_doubt;
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_rollback_doubt;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA itsm, pgsync_itsm TO regress_itsm_rollback_doubt;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA itsm TO regress_itsm_rollback_doubt;
SET LOCAL regress.namespace = '22222222-2222-4222-8222-222222222222';
SELECT itsm_secure('namespace_id::text = current_setting(''regress.namespace'')') AS secured \gset
SET ROLE regress_itsm_rollback_doubt;
INSERT INTO integration_runs (namespace_id, connection_id, kind, rolls_back, rollback_method, rollback_classes)
VALUES ('22222222-2222-4222-8222-222222222222', '00000000-0000-4000-8000-000000000099', 'rollback', :first, 'delete', '{}') RETURNING id AS spy \gset
RESET ROLE;
SELECT planf(:spy);
SET ROLE regress_itsm_rollback_doubt;
SELECT entity_type, count(*), min(label) FROM integration_run_items WHERE run_id = :spy GROUP BY 1 ORDER BY 1 LIMIT 4;
RESET ROLE;
ROLLBACK;

-- an end is gone when a relationship is to be made again
BEGIN;
SELECT new_run(true) AS part \gset
UPDATE integration_runs SET status = 'done' WHERE id = :part;
SELECT entity_id AS link, parent_id AS par FROM integration_sync_map WHERE entity_type = 'depends_on' ORDER BY native_key LIMIT 1 \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, operation, external_id, external_table, parent_type, parent_id, child_type, child_id, rel_type)
SELECT :part, connection_id, namespace_id, 100, '7a', entity_type, entity_id, native_key, 'l', 'DELETE', 'done', 'delete', external_id, external_table, 'deployment_profile', parent_id, 'it_service', child_id, rel_type FROM integration_sync_map WHERE entity_id = :'link' AND entity_type = 'depends_on';
DELETE FROM integration_sync_map WHERE entity_id = :'link' AND entity_type = 'depends_on';
SELECT action, state, entity_type, reason FROM itsm_rollback(:part);
SELECT last_run() AS back \gset
SELECT planf(:back);
DELETE FROM integration_sync_map WHERE entity_id = :'par' AND entity_type = 'deployment_profile';
SELECT itsm_apply(:back) = :back AS applied;
SELECT planf(:back);
SELECT action, state, reason FROM matter WHERE run_id = :back;
SELECT count(*) AS claimable FROM pgsync_itsm.next_batch('00000000-0000-4000-8000-000000000001', true, 0, true);
SELECT pgsync_itsm.advance_run(:back);
SELECT status FROM integration_runs WHERE id = :back;
ROLLBACK;

-- what was sent and not heard of is named
BEGIN;
SELECT new_run(true) AS part \gset
UPDATE integration_runs SET status = 'cancelled' WHERE id = :part;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, in_doubt, unheard, external_table, payload)
SELECT :part, id, namespace_id, 60, '4', 'application', md5(s)::uuid, s, s, 'CREATE', s, true, true, 'cmdb_ci_business_app', '{"name": "n"}' FROM integration_connections, unnest(ARRAY['dead', 'cancelled']) AS s;
SELECT label, action, state, field, reason FROM itsm_rollback(:part);
ROLLBACK;

-- a chain of references: offering stays, refers to service (held), which refers to a company
BEGIN;
SELECT external_id AS comp, entity_id AS cid FROM integration_sync_map AS m WHERE entity_type = 'company' AND created_by_us
  AND NOT EXISTS (SELECT FROM integration_sync_map AS x, json_each_text(x.last_agreed) AS v WHERE v.value = m.external_id AND x.entity_type NOT IN ('application','deployment_profile','it_service','software_package','software_product', 'contract')) ORDER BY native_key LIMIT 1 \gset
SELECT external_id AS svc, entity_id AS sid FROM integration_sync_map WHERE entity_type = 'it_service' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_sync_map SET last_agreed = (last_agreed::jsonb || jsonb_build_object('vendor', :'comp'))::json WHERE external_id = :'svc';
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, 'it_service', gen_random_uuid(), 'zz', md5('zz'), 'service_offering', 'Stays', 'published', false, json_build_object('parent', :'svc') FROM integration_sync_map WHERE external_id = :'svc';
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND external_id IN (:'comp', :'svc') AND parent_id IS NULL;
ROLLBACK;

-- the map knows another record by now
BEGIN;
SELECT external_id AS ext, entity_id AS eid FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_sync_map SET external_id = md5('other') WHERE external_id = :'ext';
INSERT INTO there VALUES ('record', :'ext', :'ext', '{}');
SELECT action, state, reason FROM itsm_rollback(:first, 'delete') WHERE entity_id = :'eid' AND entity_type = 'application';
ROLLBACK;

-- requeued, then found there, not unheard
BEGIN;
SELECT external_id AS ext2, entity_id AS eid2 FROM integration_sync_map WHERE entity_type = 'contract' AND created_by_us ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET operation = 'create', reason = 'found: the first attempt had arrived' WHERE run_id = :first AND entity_id = :'eid2' AND entity_type = 'contract';
INSERT INTO there SELECT 'record', e, e, '{"sys_created_by": "jane", "sys_updated_by": "jane"}' FROM unnest(ARRAY[:'ext2']) AS e;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id IN (:'eid2');
ROLLBACK;

-- the retiring arrived, its answer was lost, the rollback cancelled
BEGIN;
SELECT external_id AS ext, entity_id AS eid FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us AND last_agreed ->> 'operational_status' = '1' ORDER BY native_key LIMIT 1 \gset
INSERT INTO there SELECT 'record', e, e, '{"operational_status": "2", "install_status": "2", "life_cycle_stage": "x"}' FROM unnest(ARRAY[:'ext']) AS e;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first);
SELECT planf(last_run());
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id = :'eid' AND entity_type = 'application';
ROLLBACK;

-- the restoring arrived, its answer was lost; then a publish
BEGIN;
\set one aaaaaaaa-0001-4000-8000-000000000001
UPDATE applications SET short_description = 'Short' WHERE id IN (:'one');
SELECT new_run() AS base \gset
SELECT planf(:base), publish(:base);
UPDATE applications SET short_description = 'Shorter' WHERE id IN (:'one');
SELECT new_run() AS change \gset
SELECT planf(:change), publish(:change);
INSERT INTO there SELECT 'record', external_id, external_id, '{"short_description": "Short"}' FROM integration_sync_map WHERE entity_id = :'one' AND entity_type = 'application';
SELECT action, state, field, old_value, new_value FROM itsm_rollback(:change) WHERE entity_id = :'one' AND entity_type = 'application';
SELECT planf(last_run());
UPDATE integration_runs SET status = 'cancelled' WHERE id = last_run();
SELECT count(*) FROM itsm_rollback(:change);
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, unheard, payload_hash, payload)
SELECT last_run() - 1, connection_id, namespace_id, 900, '4', entity_type, entity_id, native_key, 'x', 'UPDATE', 'cancelled', true, 'restored', '{}' FROM integration_sync_map WHERE entity_id = :'one' AND entity_type = 'application'
ON CONFLICT (run_id, entity_id, entity_type, action) DO UPDATE SET state = 'cancelled', unheard = true;
SELECT planf(last_run());
SELECT action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id = :'one';
UPDATE integration_runs SET status = 'cancelled' WHERE id = last_run();
SELECT new_run() AS again \gset
SELECT planf(:again);
SELECT action, state, payload FROM integration_run_items WHERE run_id = :again AND entity_id = :'one';
ROLLBACK;

-- UPDATE and CLEAR of one record: what is applied is what was shown, both or neither
\set two aaaaaaaa-0001-4000-8000-000000000005
BEGIN;
UPDATE applications SET short_description = '' WHERE id = :'one';
SELECT new_run() AS base \gset
SELECT planf(:base), publish(:base);
UPDATE applications SET short_description = 'Was empty', operational_status = 'retired' WHERE id = :'one';
SELECT new_run() AS change \gset
SELECT planf(:change), publish(:change);
SELECT count(*) > 0 AS p FROM itsm_rollback(:change);
SELECT last_run() AS back \gset
SELECT planf(:back);
SELECT action, state, payload ->> 'short_description' AS short_description, payload ->> 'operational_status' AS status FROM integration_run_items WHERE run_id = :back AND entity_id = :'one' ORDER BY action;
INSERT INTO there SELECT 'record', external_id, external_id, '{"operational_status": "3"}' FROM integration_sync_map WHERE entity_id = :'one' AND entity_type = 'application';
SELECT itsm_apply(:back) = :back AS applied;
SELECT planf(:back);
SELECT action, state, reason FROM integration_run_items WHERE run_id = :back AND entity_id = :'one' ORDER BY action;
ROLLBACK;

-- somebody's edit, of a field that we do not publish, before a later write of ours: that we wrote last does not hide it
BEGIN;
UPDATE applications SET short_description = 'Later' WHERE id IN (:'one', :'two');
INSERT INTO there SELECT 'record', external_id, external_id, '{"sys_updated_by": "jane"}' FROM integration_sync_map WHERE entity_id = :'one' AND entity_type = 'application';
SELECT new_run() AS change \gset
SELECT planf(:change), publish(:change);
DELETE FROM there WHERE kind = 'record';
SELECT count(*) > 0 AS p FROM itsm_rollback(:change);
SELECT last_run() AS back \gset
SELECT planf(:back);
SELECT itsm_apply(:back) = :back AS applied;
SELECT planf(:back), agree(:back) > 0 AS agreed, ended(:back);
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT planf(last_run());
SELECT entity_id = :'one' AS one, action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id IN (:'one', :'two') AND entity_type = 'application' ORDER BY entity_id;
ROLLBACK;

-- a relationship that could not be removed is queued again, and with it what was left because of it
BEGIN;
SELECT count(*) > 0 AS p FROM itsm_rollback(:first, 'delete');
SELECT last_run() AS back \gset
SELECT planf(:back);
SELECT itsm_apply(:back) = :back AS applied;
SELECT planf(:back);
SELECT id AS link, parent_id, child_id FROM integration_run_items WHERE run_id = :back AND entity_type = 'depends_on' AND state = 'pending' ORDER BY id LIMIT 1 \gset
UPDATE integration_run_items SET state = 'dead', error_class = 'HTTP_403', reason = 'refused there' WHERE id = :link;
SELECT pgsync_itsm.settle_blocked(:back);
SELECT agree(:back) > 0 AS agreed, ended(:back);
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = :back AND (id = :link OR entity_id IN (:'parent_id', :'child_id')) ORDER BY id;
SELECT itsm_requeue(:back);
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = :back AND (id = :link OR entity_id IN (:'parent_id', :'child_id')) ORDER BY id;
UPDATE integration_runs SET phase = 'recheck' WHERE id = :back;
SELECT planf(:back);
SELECT agree(:back), ended(:back);
SELECT entity_type, action, state, reason FROM integration_run_items WHERE run_id = :back AND (id = :link OR entity_id IN (:'parent_id', :'child_id')) ORDER BY id;
ROLLBACK;

-- who refers to a user that we have made is asked, too
BEGIN;
SELECT new_run(true) AS part \gset
UPDATE integration_runs SET status = 'done' WHERE id = :part;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, operation, external_id, external_table, payload)
SELECT :part, id, namespace_id, 20, '0b', 'contact', md5(n)::uuid, n, n, 'CREATE', 'done', 'create', md5(n), 'sys_user', json_build_object('email', n) FROM integration_connections, unnest(ARRAY['ada', 'eve']) AS n;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :part;
INSERT INTO there SELECT 'others_owner', md5('ada'), md5('her CI'), NULL, 'Payroll';
SELECT count(*) > 0 AS p FROM itsm_rollback(:part, 'delete');
SELECT planf(last_run());
SELECT label, action, state, reason FROM integration_run_items WHERE run_id = last_run() ORDER BY label;
ROLLBACK;

-- a record that is deleted here is retired there: what goes back is what was there, not what was agreed once
BEGIN;
SELECT new_run(true) AS part \gset
INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key, deleted) SELECT :part, 'application', 'key', :'two', true;
DELETE FROM applications WHERE id = :'two';
INSERT INTO there SELECT 'record', external_id, external_id, '{"operational_status": "3", "sys_updated_by": "jane"}' FROM integration_sync_map WHERE entity_id = :'two' AND entity_type = 'application';
SELECT planf(:part);
SELECT action, state, payload ->> 'operational_status' AS status, old_values ->> 'operational_status' AS before, reason FROM integration_run_items WHERE run_id = :part AND entity_id = :'two' AND entity_type = 'application';
SELECT publish(:part);
UPDATE there SET attrs = '{"operational_status": "2", "install_status": "2"}' WHERE kind = 'record';
SELECT field, old_value, new_value, state FROM itsm_rollback(:part) WHERE entity_id = :'two' AND field LIKE '%status';
ROLLBACK;

-- who changed it last is hidden
BEGIN;
INSERT INTO there SELECT 'record', external_id, external_id, '{"sys_updated_by": null}' FROM integration_sync_map WHERE entity_id = :'one' AND entity_type = 'application';
SELECT count(*) > 0 AS p FROM itsm_rollback(:first);
SELECT planf(last_run());
SELECT action, state, reason FROM integration_run_items WHERE run_id = last_run() AND entity_id = :'one' AND entity_type = 'application';
ROLLBACK;

\c :main
SET client_min_messages = error;
DROP DATABASE regress_itsm_rollback_doubt;
