-- Rollback without a platform: what is asked is answered here, what would be sent is agreed here (see plan.sql).
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = error;
DROP DATABASE IF EXISTS regress_itsm_rollback;
DROP ROLE IF EXISTS regress_itsm_rollback;
CREATE DATABASE regress_itsm_rollback TEMPLATE template0;
\c regress_itsm_rollback
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

-- what cannot be rolled back, and how not
SELECT new_run(kind => 'preview') AS preview \gset
UPDATE integration_runs SET status = 'planned' WHERE id = :preview;
SELECT attempt('SELECT * FROM itsm_rollback(4711)');
SELECT attempt('SELECT * FROM itsm_rollback(NULL)');
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :preview));
UPDATE integration_runs SET kind = 'match', status = 'done' WHERE id = :preview;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :preview));
UPDATE integration_runs SET kind = 'publish', status = 'needs_approval' WHERE id = :preview;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :preview));
UPDATE integration_runs SET status = 'running' WHERE id = :preview;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :preview));
UPDATE integration_runs SET kind = 'rollback', status = 'done' WHERE id = :preview;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :preview));
DELETE FROM integration_runs WHERE id = :preview;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, %L)', :first, 'remove'));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, NULL)', :first));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, classes => %L)', :first, '["contract"]'));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, classes => %L)', :first, '{"contracts": "delete"}'));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, classes => %L)', :first, '{"consumes": "delete"}'));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, classes => %L)', :first, '{"contract": "keep"}'));
SELECT attempt(format('SELECT * FROM itsm_rollback(%s, classes => %L)', :first, '{"contract": 1}'));
UPDATE integration_connections SET is_active = false;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :first));
UPDATE integration_connections SET is_active = true;
SELECT count(*) AS rollbacks FROM integration_runs WHERE kind = 'rollback';

-- another tenant sees no such run
CREATE ROLE regress_itsm_rollback;
SELECT itsm_grant('regress_itsm_rollback', 'operator') AS granted \gset
SET regress.namespace = '';
SELECT itsm_secure('namespace_id::text = current_setting(''regress.namespace'')') AS secured \gset
SET regress.namespace = '22222222-2222-4222-8222-222222222222';
SET ROLE regress_itsm_rollback;
SELECT attempt(format('SELECT * FROM itsm_rollback(%s)', :first));
SET regress.namespace = '11111111-1111-4111-8111-111111111111';
BEGIN;
SELECT count(*) > 100 AS "the owner sees it" FROM itsm_rollback(:first);
SELECT kind, rolls_back = :first AS of_it, status, rollback_method, rollback_classes, requested_by FROM integration_runs WHERE id = last_run();
ROLLBACK;
RESET ROLE;

-- the inverse as the database knows it: relationships first, then what refers to what
SET client_min_messages = notice;
SELECT step, entity_type, action, state, count(*), min(reason) AS reason
  FROM (SELECT *, row_number() OVER () AS n FROM itsm_rollback(:first, 'delete')) AS x GROUP BY step, entity_type, action, state ORDER BY min(n);
SET client_min_messages = error;
SELECT last_run() AS back \gset
BEGIN;
SELECT action, field, old_value, new_value, count(*) FROM itsm_rollback(:first) WHERE entity_type IN ('application', 'it_service') AND field <> 'operational_status' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT entity_type, action, state, reason, count(DISTINCT entity_id) FROM itsm_rollback(:first, classes => '{"contract": "delete", "cmdb_ci_business_app": "delete"}') WHERE entity_type !~ 'on|consumes|covers|_to$' OR entity_type = 'contract'
 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2;
ROLLBACK;

-- what is there decides: edits, other hands, what is gone, what others relate to it, what stays and refers to it, rights
SELECT external_id AS edited FROM integration_sync_map WHERE entity_type = 'application' AND last_agreed ->> 'vendor' LIKE '@%' IS NOT true AND last_agreed ->> 'short_description' <> '' ORDER BY native_key LIMIT 1 \gset
SELECT external_id AS touched, entity_id AS touched_id FROM integration_sync_map WHERE entity_type = 'deployment_profile' ORDER BY native_key LIMIT 1 \gset
SELECT external_id AS gone FROM integration_sync_map WHERE entity_type = 'deployment_profile' ORDER BY native_key OFFSET 1 LIMIT 1 \gset
SELECT external_id AS pointed FROM integration_sync_map WHERE entity_type = 'it_service' ORDER BY native_key LIMIT 1 \gset
SELECT external_id AS link, parent_id AS linked FROM integration_sync_map WHERE entity_type = 'depends_on' AND parent_id <> :'touched_id' ORDER BY native_key DESC LIMIT 1 \gset
SELECT m.external_id AS vendor, c.external_id AS contract FROM integration_sync_map AS m JOIN integration_sync_map AS c ON c.entity_type = 'contract' AND c.last_agreed ->> 'vendor' = m.external_id
 WHERE m.entity_type = 'company' ORDER BY c.native_key LIMIT 1 \gset
INSERT INTO there VALUES ('record', :'edited', :'edited', '{"short_description": "Hers", "sys_updated_by": "jane"}'),
    ('record', :'touched', :'touched', '{"sys_updated_by": "jane"}'), ('record', :'gone', :'gone', NULL), ('record', :'link', :'link', '{"sys_updated_by": "jane"}'),
    ('record', :'contract', :'contract', '{"ends": "2031-12-31"}');
INSERT INTO there VALUES ('others_child', :'pointed', md5('foreign'), '{}', 'Weather Station'), ('role', '', NULL, '{"user.user_name": "sync"}', 'itil'), ('role', '', NULL, NULL, 'contract_manager'), ('role', '', NULL, NULL, 'asset');
CALL plan(:back);
SELECT status, phase, summary FROM integration_runs WHERE id = :back;
SELECT entity_type, CASE WHEN entity_type = 'company' THEN '' ELSE label END AS label, action, state, reason, count(*) FROM matter
 WHERE run_id = :back AND (state = 'held' OR reason LIKE 'gone there%') GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2;
SELECT line FROM pgsync_itsm.wait_report(:back) AS line WHERE line LIKE '%next%' OR line LIKE '%would%';
SELECT attempt(format('SELECT itsm_retry(%s)', :back));
-- readiness after it: only what stays
SELECT "check", passed_before > 20 AS before, passed_after FROM itsm_readiness('11111111-1111-4111-8111-111111111111') WHERE "check" IN ('application.name', 'application.operational_status', 'application.business_criticality');
SELECT count(*) AS open_lookups FROM pgsync_itsm.lookups WHERE run_id = :back;

-- one that has ended is not run again as a publish
BEGIN;
UPDATE integration_runs SET status = 'done' WHERE id = :back;
SELECT attempt(format('SELECT itsm_retry(%s)', :back));
SELECT attempt(format('SELECT itsm_apply(%s)', :back));
ROLLBACK;

-- with the right, companies go, but for the one that a contract needs that stays; the steps
UPDATE integration_connections SET settings = settings || '{"delete_roles": "cmdb_owner, itil"}';
SELECT itsm_cancel(:back);
SELECT count(*) > 0 AS planned FROM itsm_rollback(:first, 'delete');
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT entity_type, state, reason, count(*) FROM matter WHERE run_id = :back AND entity_type = 'company' GROUP BY 1, 2, 3 ORDER BY 2, 3;
SELECT step, ord, title, total FROM integration_run_steps WHERE run_id = :back ORDER BY ord;

-- a second one planned side by side; and what moves between plan and apply
SELECT count(*) > 0 AS planned FROM itsm_rollback(:first, 'delete');
SELECT last_run() AS beside \gset
CALL plan(:beside);
SELECT external_id AS moved FROM integration_run_items WHERE run_id = :back AND state = 'planned' AND entity_type = 'contract' ORDER BY id LIMIT 1 \gset
INSERT INTO there VALUES ('record', :'moved', :'moved', '{"short_description": "Moved", "sys_updated_by": "jane"}');
SELECT itsm_apply(:back) = :back AS applied;
SELECT status, phase FROM integration_runs WHERE id = :back;
-- the server dies in the middle of looking again, and takes the work space with it
UPDATE integration_runs SET status = 'planning' WHERE id = :back;
SELECT pgsync_itsm.plan_step(:back);
UPDATE integration_runs SET phase = 'recheck there' WHERE id = :back;
SELECT pgsync_itsm.recover();
TRUNCATE pgsync_itsm.plan_spaces, pgsync_itsm.plan_records, pgsync_itsm.plan_links, pgsync_itsm.lookups, pgsync_itsm.lookup_rows;
SELECT phase, count(*) > 100 AS "items are kept" FROM integration_runs AS r, integration_run_items AS i WHERE r.id = :back AND i.run_id = r.id GROUP BY 1;
CALL plan(:back);
SELECT status, first_publish_at IS NOT NULL AS published FROM integration_runs AS r, integration_connections AS c WHERE r.id = :back;
SELECT entity_type, state, reason FROM matter WHERE run_id = :back AND state = 'refused';

-- one entity type after another
CREATE PROCEDURE step_by_step(run bigint) LANGUAGE plpgsql
    AS $$
    DECLARE
        b integer;
    BEGIN
        LOOP
            b := pgsync_itsm.barrier(run, true);
            EXIT WHEN b = 1000;
            RAISE INFO '%', (SELECT string_agg(DISTINCT i.step || ' ' || i.entity_type || ' ' || i.action, ', ') FROM integration_run_items AS i WHERE i.run_id = run AND i.state = 'pending' AND i.ord < b);
            PERFORM agree(run, b);
        END LOOP;
    END
    $$;
-- a relationship that cannot be removed keeps its ends
BEGIN;
UPDATE integration_run_items SET state = 'dead', reason = 'the platform refuses it' WHERE id = (SELECT min(l.id) FROM integration_run_items AS l WHERE l.run_id = :back AND l.state = 'pending' AND l.entity_type = 'consumes'
   AND 2 = (SELECT count(*) FROM integration_run_items AS e WHERE e.run_id = :back AND e.state = 'pending' AND e.entity_id IN (l.parent_id, l.child_id)));
SELECT pgsync_itsm.settle_blocked(:back);
SELECT entity_type, state, reason FROM matter WHERE run_id = :back AND reason LIKE '%could not be removed%' ORDER BY id;
ROLLBACK;
-- so does a record what it refers to
BEGIN;
SELECT i.id AS contract_item, i.external_id FROM integration_run_items AS i
 WHERE i.run_id = :back AND i.state = 'pending' AND i.entity_type = 'contract'
   AND EXISTS (SELECT FROM integration_run_items AS c WHERE c.run_id = :back AND c.state = 'pending' AND c.entity_type = 'company' AND c.external_id = i.old_values ->> 'vendor') ORDER BY i.id LIMIT 1 \gset
UPDATE integration_run_items SET state = 'dead', reason = 'the platform refuses it' WHERE id = :contract_item;
SELECT pgsync_itsm.settle_blocked(:back);
SELECT entity_type, state, reason FROM matter WHERE run_id = :back AND state = 'skipped' AND reason LIKE '%refuses it' ORDER BY id;
ROLLBACK;
CALL step_by_step(:back);
SELECT ended(:back);
SELECT entity_type, count(*) FROM integration_sync_map WHERE created_by_us GROUP BY 1 ORDER BY 1;
SELECT count(*) AS "references to companies that are gone" FROM integration_references AS r JOIN integration_run_items AS i
    ON i.run_id = :back AND i.entity_type = 'company' AND i.state = 'done' AND i.external_id = r.external_id WHERE r.kind = 'company';
-- the one beside finds nothing left
SELECT itsm_apply(:beside) = :beside AS applied;
CALL plan(:beside);
SELECT state, reason, count(*) > 1 AS several FROM matter WHERE run_id = :beside AND state NOT IN ('held', 'skipped') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT agree(:beside), ended(:beside);

-- twice: only what was left, and it is left again; when nobody has an objection any more, it goes
SELECT count(*) > 0 AS again FROM itsm_rollback(:first, 'delete');
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT state, count(*) > 0 AS some FROM matter WHERE run_id = :back GROUP BY 1 ORDER BY 1;
DELETE FROM there WHERE kind <> 'role';
SELECT count(*) > 0 AS again FROM itsm_rollback(:first, 'delete');
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT state, count(*) > 0 AS some, min(reason) AS reason FROM matter WHERE run_id = :back GROUP BY 1 ORDER BY 1;
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back) > 0 AS undone, ended(:back);
SET client_min_messages = notice;
SELECT entity_type, action, state, reason FROM itsm_rollback(:first, 'delete');
SET client_min_messages = error;
SELECT entity_type, created_by_us, count(*) FROM integration_sync_map GROUP BY 1, 2 ORDER BY 1, 2;

-- a publish afterwards: all of it again, although the platform keeps the native keys
INSERT INTO there SELECT 'native_key', native_key, external_id, NULL, NULL FROM integration_run_items WHERE run_id = :first AND entity_type = 'application' AND action = 'CREATE' AND state = 'done';
SELECT new_run() AS second \gset
CALL plan(:second);
SELECT action, state, count(*) = (SELECT count(*) FROM matter WHERE run_id = :first AND entity_type = 'application' AND action = 'CREATE') AS all_of_them
  FROM matter WHERE run_id = :second AND entity_type = 'application' AND action IN ('CREATE', 'UPDATE') GROUP BY 1, 2;
SELECT publish(:second);

-- retiring: by status and life cycle, where the class has such a state; twice it is done already
SELECT count(*) > 0 AS planned FROM itsm_rollback(:second);
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT summary FROM integration_runs WHERE id = :back;
SELECT payload - 'name' AS payload, count(*) > 0 AS some FROM (SELECT payload::jsonb AS payload FROM integration_run_items WHERE run_id = :back AND action = 'UPDATE') AS p GROUP BY 1 ORDER BY 1;
SELECT entity_type, reason, count(*) > 0 AS some FROM matter WHERE run_id = :back AND action = 'SKIP' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back) > 100 AS undone, ended(:back);
SELECT state, last_sent_hash, count(*) > 0 AS some, bool_and(last_agreed ->> 'operational_status' = '2') AS retired, bool_and(last_agreed ->> 'correlation_id' <> '') AS known
  FROM integration_sync_map WHERE entity_type = 'application' GROUP BY 1, 2;
SELECT count(*) FROM itsm_rollback(:second) WHERE state = 'planned';
BEGIN;
SELECT entity_type, action, state, count(*) > 0 AS some FROM itsm_rollback(:second, 'delete') WHERE entity_type = 'application' GROUP BY 1, 2, 3;
ROLLBACK;
-- published again, they are in use again; then that is undone, and the one before
SELECT new_run() AS third \gset
CALL plan(:third);
SELECT publish(:third);
SELECT state, count(*) > 0 AS some FROM integration_sync_map WHERE entity_type = 'application' GROUP BY 1;
BEGIN;
SELECT state, reason, count(*) > 0 AS some FROM itsm_rollback(:second, 'delete') WHERE entity_type = 'application' GROUP BY 1, 2;
ROLLBACK;

-- updates go back field by field
\set one aaaaaaaa-0001-4000-8000-000000000001
\set two aaaaaaaa-0001-4000-8000-000000000005
UPDATE applications SET short_description = 'Short', description = '' WHERE id IN (:'one', :'two');
UPDATE applications SET short_description = '' WHERE id = :'two';
SELECT new_run() AS base \gset
CALL plan(:base);
SELECT publish(:base);
UPDATE applications SET short_description = 'Shorter', name = name || ' 2' WHERE id IN (:'one', :'two');
SELECT l.deployment_profile_id AS profile, l.it_service_id AS service FROM deployment_profile_it_services AS l
  JOIN integration_sync_map AS m ON m.entity_type = 'depends_on' AND m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id
 ORDER BY 1, 2 LIMIT 1 \gset
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
SELECT new_run() AS change \gset
CALL plan(:change);
SELECT publish(:change);
SELECT entity_type, label, action, state, field, old_value, new_value, reason FROM itsm_rollback(:change) WHERE entity_id IN (:'one', :'two') OR entity_type = 'depends_on';
SELECT last_run() AS back \gset
-- somebody has written to one field of one of them
INSERT INTO there SELECT 'record', external_id, external_id, '{"short_description": "Hers", "sys_updated_by": "jane"}' FROM integration_sync_map WHERE entity_id = :'one';
CALL plan(:back);
SELECT summary FROM integration_runs WHERE id = :back;
SELECT entity_type, label, action, state, field, old_value, new_value, reason FROM itsm_plan(:back) WHERE entity_id IN (:'one', :'two') OR entity_type = 'depends_on';
SELECT rel_type, rel_type_id = md5('relation_type/' || rel_type) AS type_known, parent_type, child_type, in_doubt FROM integration_run_items WHERE run_id = :back AND action = 'CREATE';
-- and to another before it is applied: that record is left
INSERT INTO there SELECT 'record', external_id, external_id, '{"name": "Hers, too"}' FROM integration_sync_map WHERE entity_id = :'two';
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :back AND (entity_type = 'application' OR entity_type = 'depends_on') ORDER BY id;
SELECT agree(:back) > 0 AS undone, ended(:back);
SELECT published_name, last_sent_hash, source_version IS NULL AS resolved_anew, last_agreed ->> 'name' AS name, last_agreed ->> 'short_description' AS short_description FROM integration_sync_map WHERE entity_id = :'one';
SELECT created_by_us, state FROM integration_sync_map WHERE entity_type = 'depends_on' AND parent_id = :'profile' AND child_id = :'service';
DELETE FROM there WHERE key IN (SELECT external_id FROM integration_sync_map WHERE entity_id = :'two');
-- a second time: what was left, no more
SELECT entity_id = :'two' AS two, action, state, field, new_value FROM itsm_rollback(:change) WHERE entity_type IN ('application', 'depends_on');
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back) > 0 AS undone, ended(:back);
SELECT last_sent_hash, last_agreed ->> 'short_description' AS short_description FROM integration_sync_map WHERE entity_id = :'two';
DELETE FROM there WHERE kind = 'record';
-- with that undone, the run before can be undone as well
BEGIN;
SELECT action, state, field, old_value, new_value FROM itsm_rollback(:base) WHERE entity_id = :'one';
ROLLBACK;
-- what is deleted here is retired there; undone, it is what it was
SELECT entity_id AS lost, external_id AS lost_there FROM integration_sync_map WHERE entity_type = 'application' AND state = 'linked' AND last_agreed ->> 'operational_status' = '1' ORDER BY native_key DESC LIMIT 1 \gset
SELECT new_run(true) AS retire \gset
INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key, deleted) VALUES (:retire, 'application', 'key', :'lost', true);
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM applications WHERE id = :'lost';
COMMIT;
CALL plan(:retire);
SELECT agree(:retire), ended(:retire);
SELECT action, field, old_value, new_value FROM itsm_rollback(:retire) WHERE entity_id = :'lost';
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back), ended(:back);
SELECT state, last_agreed ->> 'operational_status' AS operational_status FROM integration_sync_map WHERE entity_id = :'lost';

-- of an attempt that was not heard of, and that the platform found there, only what our user made is ours
SELECT new_run(true) AS unheard \gset
UPDATE integration_runs SET status = 'done' WHERE id = :unheard;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, unheard, operation, external_id, external_table, payload)
SELECT :unheard, id, namespace_id, 130, '8a', 'contract', md5(n)::uuid, n, n, 'CREATE', 'done', true, 'update', md5(n), 'ast_contract', '{"vendor_contract": "X"}'
  FROM integration_connections, unnest(ARRAY['theirs', 'ours']) AS n;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :unheard;
INSERT INTO there VALUES ('record', md5('theirs'), md5('theirs'), '{"sys_created_by": "jane", "sys_updated_by": "jane"}');
SELECT count(*) FROM itsm_rollback(:unheard, 'delete');
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT label, action, state, reason FROM matter WHERE run_id = :back ORDER BY label;

-- the log says what was there before it was deleted
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT pgsync_itsm.settle_log(connection_id, ARRAY[ROW(id, 'done', 'delete', external_id, external_table, NULL, NULL, NULL, NULL, NULL, 204, NULL, step, action, false)::pgsync_itsm.answer])
  FROM integration_run_items WHERE run_id = :back AND state = 'pending';
SELECT operation, entity_type, status, request_payload FROM integration_sync_log WHERE run_id = :back;

-- the work space is empty again
SELECT (SELECT count(*) FROM pgsync_itsm.lookups) + (SELECT count(*) FROM pgsync_itsm.lookup_rows) AS left_over;

\c :main
SET client_min_messages = error;
DROP DATABASE regress_itsm_rollback;
DROP ROLE regress_itsm_rollback;
