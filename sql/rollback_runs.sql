-- Rollback among other runs: whose change is it, what came before and after, and what others have of it (see rollback.sql).
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = error;
DROP DATABASE IF EXISTS regress_itsm_rollback_runs;
CREATE DATABASE regress_itsm_rollback_runs TEMPLATE template0;
\c regress_itsm_rollback_runs
\set ECHO none
\i :abs_srcdir/test/lib/rollback.sql
\set ECHO all

-- Plans a rollback, looks at what is there, and, if it is to, applies it; which run that was.
CREATE FUNCTION rollback_of(run bigint, method text DEFAULT 'retire') RETURNS bigint LANGUAGE plpgsql
    AS $$
    BEGIN
        PERFORM * FROM itsm_rollback(run, method);
        RETURN (SELECT max(id) FROM integration_runs WHERE kind = 'rollback' AND rolls_back = run AND status = 'queued');
    END
    $$;
CREATE PROCEDURE go(run bigint) LANGUAGE plpgsql
    AS $$
    BEGIN
        PERFORM itsm_apply(run);
        CALL plan(run);
        PERFORM agree(run);
        PERFORM ended(run);
    END
    $$;
INSERT INTO there VALUES ('role', '', NULL, '{"user.user_name": "sync"}', 'admin');

SELECT new_run() AS first \gset
CALL plan(:first);
SELECT publish(:first);

-- a relationship that a run made, a later one removed, and a rollback made again: it is the first run's, and goes with it
SELECT l.deployment_profile_id AS profile, l.it_service_id AS service FROM deployment_profile_it_services AS l
  JOIN integration_sync_map AS m ON m.entity_type = 'depends_on' AND m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id
 ORDER BY 1, 2 LIMIT 1 \gset
CREATE TEMP TABLE kept AS SELECT * FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
SELECT new_run() AS unlink \gset
CALL plan(:unlink);
SELECT publish(:unlink);
SELECT rollback_of(:unlink) AS back \gset
CALL plan(:back);
CALL go(:back);
SELECT count(*) AS "there again" FROM integration_sync_map WHERE entity_type = 'depends_on' AND parent_id = :'profile' AND child_id = :'service';
SELECT i.action, i.state, i.reason, i.external_id = m.external_id AS "the one that is there"
  FROM (SELECT * FROM pgsync_itsm.rollback_rows(:first, 'delete', '{}')) AS i JOIN integration_sync_map AS m USING (entity_type, entity_id)
 WHERE i.entity_type = 'depends_on' AND i.parent_id = :'profile' AND i.child_id = :'service';
-- removed by yet another run: the older one is not undone over it
SELECT new_run() AS unlink2 \gset
CALL plan(:unlink2);
SELECT publish(:unlink2);
SELECT action, state, reason FROM itsm_rollback(:unlink) WHERE entity_type = 'depends_on';
INSERT INTO deployment_profile_it_services SELECT * FROM kept;
SELECT new_run() AS relink \gset
CALL plan(:relink);
SELECT publish(:relink);

-- a relationship whose type is not there any more is not made without one
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
SELECT new_run() AS unlink3 \gset
CALL plan(:unlink3);
SELECT publish(:unlink3);
UPDATE integration_references SET external_id = NULL WHERE kind = 'relation_type';
INSERT INTO there (kind) VALUES ('no types');
SELECT rollback_of(:unlink3) AS back \gset
CALL plan(:back);
SELECT action, state, rel_type, rel_type_id, reason FROM integration_run_items WHERE run_id = :back AND entity_type = 'depends_on';
SELECT itsm_cancel(:back);
DELETE FROM there WHERE kind = 'no types';
DELETE FROM integration_references WHERE kind = 'relation_type';
INSERT INTO deployment_profile_it_services SELECT * FROM kept;
SELECT new_run() AS relink \gset
CALL plan(:relink);
SELECT publish(:relink);

-- of a run that was cancelled: what was sent and not heard of
\set one aaaaaaaa-0001-4000-8000-000000000001
\set two aaaaaaaa-0001-4000-8000-000000000005
UPDATE applications SET short_description = 'Sent' WHERE id = :'one';
UPDATE applications SET short_description = 'Not sent' WHERE id = :'two';
SELECT new_run() AS cut \gset
CALL plan(:cut);
UPDATE integration_run_items SET state = 'cancelled', unheard = entity_id = :'one' WHERE run_id = :cut AND state = 'pending';
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, unheard, in_doubt, payload)
SELECT :cut, id, namespace_id, 130, '8a', 'contract', md5(n)::uuid, n, n, 'CREATE', 'cancelled', true, true, '{"vendor_contract": "X"}' FROM integration_connections, unnest(ARRAY['unheard']) AS n;
SELECT pgsync_itsm.finish_run(:cut, 'cancelled');
INSERT INTO there SELECT 'record', external_id, external_id, '{"short_description": "Sent"}' FROM integration_sync_map WHERE entity_id = :'one';
SELECT entity_type, label, action, state, field, old_value, new_value, reason FROM itsm_rollback(:cut);

-- another tenant's run is not planned by way of a row of one's own
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, is_active, first_publish_at)
VALUES ('00000000-0000-4000-8000-000000000002', '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://acme.service-now.com', true, now());
INSERT INTO integration_runs (namespace_id, connection_id, kind, rolls_back, rollback_method, rollback_classes)
VALUES ('22222222-2222-4222-8222-222222222222', '00000000-0000-4000-8000-000000000002', 'rollback', :first, 'delete', '{}') RETURNING id AS foreign \gset
CALL plan(:foreign);
SELECT status, error_message FROM integration_runs WHERE id = :foreign;
SELECT namespace_id, count(*) FROM integration_run_items WHERE run_id = :foreign GROUP BY 1;

-- nor a plan made for another tenant's connection
INSERT INTO integration_runs (namespace_id, connection_id, kind) VALUES ('22222222-2222-4222-8222-222222222222', :riverton, 'preview') RETURNING id AS foreign \gset
CALL plan(:foreign);
SELECT status, error_message FROM integration_runs WHERE id = :foreign;
SELECT count(*) FROM integration_run_items WHERE run_id = :foreign;
DELETE FROM integration_connections WHERE id <> :riverton;
UPDATE applications SET short_description = 'Finance and procurement' WHERE id = :'one';

-- a company that a run made, and gave to a record that had another one before: the record goes back, then the company goes
DELETE FROM there WHERE kind = 'record';
SELECT new_run() AS base \gset
CALL plan(:base);
SELECT publish(:base);
SELECT m.entity_id AS app, m.external_id AS app_there, c.external_id AS vendor FROM integration_sync_map AS m JOIN integration_sync_map AS c ON c.entity_type = 'company' AND c.external_id = m.last_agreed ->> 'vendor'
 WHERE m.entity_type = 'application' AND m.state = 'linked' ORDER BY m.native_key LIMIT 1 \gset
SELECT new_run(true) AS swap \gset
UPDATE integration_runs SET status = 'done', finished_at = now() WHERE id = :swap;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, operation, external_id, external_table, payload, old_values, updated_at)
SELECT :swap, m.connection_id, m.namespace_id, 10, '0a', 'company', md5('Novo')::uuid, 'company/Novo', 'Novo', 'CREATE', 'done', 'create', md5('Novo there'), 'core_company', '{"name": "Novo"}'::json, NULL::json, clock_timestamp()
  FROM integration_sync_map AS m WHERE m.entity_type = 'application' AND m.entity_id = :'app'
UNION ALL
SELECT :swap, m.connection_id, m.namespace_id, 70, '4', 'application', m.entity_id, m.native_key, m.published_name, 'UPDATE', 'done', 'update', m.external_id, m.external_table,
       json_build_object('name', m.published_name, 'vendor', md5('Novo there')), pgsync_itsm.merged(m.last_agreed, json_build_object('vendor', :'vendor')), clock_timestamp()
  FROM integration_sync_map AS m WHERE m.entity_type = 'application' AND m.entity_id = :'app';
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :swap AND entity_type = 'company';
UPDATE integration_sync_map SET last_agreed = pgsync_itsm.merged(last_agreed, json_build_object('vendor', md5('Novo there'))) WHERE entity_type = 'application' AND entity_id = :'app';
SELECT rollback_of(:swap, 'delete') AS back \gset
CALL plan(:back);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :back ORDER BY id;
-- if the record cannot be restored, the company stays
BEGIN;
SELECT itsm_apply(:back) = :back AS applied;
COMMIT;
CALL plan(:back);
BEGIN;
UPDATE integration_run_items SET state = 'dead', reason = 'the platform refuses it' WHERE run_id = :back AND entity_type = 'application';
SELECT pgsync_itsm.settle_blocked(:back);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :back ORDER BY id;
ROLLBACK;
-- and somebody else's connection to the same instance that refers to it keeps it as well
SELECT agree(:back, 935);
SELECT (SELECT last_agreed ->> 'vendor' = :'vendor' FROM integration_sync_map WHERE entity_type = 'application' AND entity_id = :'app') AS "as before";
SELECT itsm_cancel(:back);
SELECT pgsync_itsm.cancel_runs();
INSERT INTO integration_connections (id, namespace_id, platform, instance_url)
VALUES ('00000000-0000-4000-8000-000000000002', '22222222-2222-4222-8222-222222222222', 'servicenow', 'https://acme.service-now.com');
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, last_agreed)
VALUES ('00000000-0000-4000-8000-000000000002', '22222222-2222-4222-8222-222222222222', 'contract', md5('theirs')::uuid, 'contract/theirs', md5('their contract'), 'ast_contract', 'Theirs', 'published',
        json_build_object('vendor', md5('Novo there')));
SELECT rollback_of(:swap, 'delete') AS back \gset
CALL plan(:back);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :back ORDER BY id;
SELECT itsm_cancel(:back);
DELETE FROM integration_connections WHERE id <> :riverton;

-- of an attempt that was not heard of, and that was found there: somebody else's is not retired either
SELECT new_run(true) AS unheard \gset
UPDATE integration_runs SET status = 'done' WHERE id = :unheard;
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, unheard, operation, external_id, external_table, payload)
SELECT :unheard, id, namespace_id, 70, '4', 'application', md5(n)::uuid, n, n, 'CREATE', 'done', true, o, md5(n), 'cmdb_ci_business_app', json_build_object('name', n)
  FROM integration_connections, (VALUES ('theirs', 'update'), ('theirs, found again', 'create'), ('whose', 'update'), ('ours', 'update'), ('ours, found again', 'create')) AS v(n, o);
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :unheard;
INSERT INTO there SELECT 'record', md5(n), md5(n), json_build_object('sys_created_by', u, 'sys_updated_by', u) FROM (VALUES ('theirs', 'jane'), ('theirs, found again', 'jane'), ('whose', NULL)) AS v(n, u);
SELECT rollback_of(:unheard) AS back \gset
CALL plan(:back);
SELECT label, action, state, reason FROM matter WHERE run_id = :back ORDER BY label;
SELECT itsm_cancel(:back);
SELECT rollback_of(:unheard, 'delete') AS back \gset
CALL plan(:back);
SELECT label, action, state, reason FROM matter WHERE run_id = :back ORDER BY label;
SELECT itsm_cancel(:back);
DELETE FROM integration_sync_map AS m USING integration_run_items AS i WHERE i.run_id = :unheard AND m.entity_id = i.entity_id;

-- made again after it was deleted: that is the later run's, and undoing that does not bring up the first one's
SELECT rollback_of(:first, 'delete') AS back \gset
CALL plan(:back);
SELECT entity_type, action, state, count(*), min(reason) AS reason FROM matter WHERE run_id = :back AND state <> 'planned' GROUP BY 1, 2, 3, reason ORDER BY 1, 2, 3, reason;
CALL go(:back);
SELECT count(*) AS "the relationship" FROM integration_sync_map WHERE entity_type = 'depends_on' AND parent_id = :'profile' AND child_id = :'service';
-- a plan in full that nobody asked for waits; once somebody has published, it does not
CREATE FUNCTION auto() RETURNS bigint LANGUAGE sql
    AS $$ INSERT INTO integration_runs (namespace_id, connection_id, kind, origin) SELECT namespace_id, id, 'publish', 'on_change' FROM integration_connections RETURNING id $$;
SELECT auto() AS auto \gset
CALL plan(:auto);
SELECT status, approval_reason LIKE format('run %s was rolled back: this would send again what was undone%%', :first) AS "says why" FROM integration_runs WHERE id = :auto;
SELECT itsm_cancel(:auto) = :auto AS cancelled;
UPDATE integration_connections SET sync_schedule = 'on_change';
SET client_min_messages = notice;
SELECT count(*) > 0 AS planned FROM itsm_rollback(:first, 'delete');
SET client_min_messages = error;
SELECT itsm_cancel(last_run()) IS NOT NULL AS cancelled;
UPDATE integration_connections SET sync_schedule = 'manual';
SELECT new_run() AS again \gset
CALL plan(:again);
SELECT publish(:again);
UPDATE applications SET short_description = 'Once more' WHERE id = :'two';
SELECT auto() AS auto \gset
CALL plan(:auto);
SELECT status, approval_reason FROM integration_runs WHERE id = :auto;
SELECT publish(:auto);
SELECT entity_type, action, state, reason, count(*) FROM itsm_rollback(:first, 'delete') WHERE state <> 'skipped' AND action <> 'MISMATCH' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3;
SELECT itsm_cancel(last_run()) IS NOT NULL AS cancelled;
SELECT rollback_of(:again) AS back \gset
CALL plan(:back);
CALL go(:back);
SELECT state, count(*) > 0 AS some FROM integration_sync_map WHERE entity_type = 'application' AND created_by_us GROUP BY 1 ORDER BY 1;
SELECT entity_type, action, state, reason, count(*) FROM itsm_rollback(:first, 'delete') WHERE state <> 'skipped' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3;

-- many: a run that made 12,000 records and a later one that changed them all are compared in a moment, not each with each
SELECT new_run() AS many \gset
SELECT new_run() AS later \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, operation, external_id, external_table, payload, old_values, updated_at)
SELECT r.id, r.connection_id, r.namespace_id, 70, '4', 'application', md5('many' || n)::uuid, 'application/many' || n, 'Many ' || n, CASE r.id WHEN :many THEN 'CREATE' ELSE 'UPDATE' END, 'done',
       CASE r.id WHEN :many THEN 'create' ELSE 'update' END, md5('many there' || n), 'cmdb_ci_business_app', json_build_object('name', 'Many ' || n, 'short_description', r.id),
       CASE r.id WHEN :later THEN json_build_object('name', 'Many ' || n, 'short_description', :many) END, clock_timestamp()
  FROM (SELECT * FROM integration_runs WHERE id IN (:many, :later) ORDER BY id) AS r, generate_series(1, 12000) AS n;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_agreed)
SELECT connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, label, 'published', true, payload FROM integration_run_items WHERE run_id = :later;
UPDATE integration_runs SET status = 'done', finished_at = now() WHERE id IN (:many, :later);
SET statement_timeout = '10s';
SELECT action, state, reason = format('changed by run %s since', :later) AS later, count(*) FROM itsm_rollback(:many, 'delete') GROUP BY 1, 2, 3;
SELECT count(DISTINCT entity_id) FROM itsm_rollback(:later);
SELECT last_run() AS back \gset
RESET statement_timeout;
SELECT itsm_cancel(:back) IS NOT NULL AS cancelled;
-- which rights a kind of record takes is asked once
UPDATE integration_runs SET kind = 'preview' WHERE id = :later;
SELECT rollback_of(:many, 'delete') AS back \gset
UPDATE integration_runs SET status = 'planning' WHERE id = :back;
SELECT pgsync_itsm.plan_step(:back);
SELECT pgsync_itsm.plan_step(:back);
-- and where it may not be read who relates to a record, or rows of it are hidden, nothing is concluded
UPDATE pgsync_itsm.lookups AS l SET state = 'done', error_class = CASE WHEN l.kind = 'others_covered' THEN 'HTTP_403' END,
       error_message = CASE WHEN l.kind = 'others_covered' AND l.id = f.covered THEN 'refused' WHEN l.id = f.record THEN '1 of 200 rows of it are hidden' END
  FROM (SELECT min(id) FILTER (WHERE kind = 'others_covered') AS covered, max(id) FILTER (WHERE kind = 'record') AS record FROM pgsync_itsm.lookups WHERE run_id = :back) AS f
 WHERE l.run_id = :back;
INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, label, attrs) VALUES (:back, 'role', '', '', 'admin', '{"user.user_name": "sync"}');
SET track_functions = 'pl';
SELECT pgsync_itsm.plan_step(:back);
SELECT state, reason, count(*) < 1000 AS few FROM matter WHERE run_id = :back GROUP BY 1, 2 ORDER BY 1, 2;
SELECT pg_stat_force_next_flush();
SELECT calls < 20 AS "asked once" FROM pg_stat_user_functions WHERE funcname = 'rollback_roles';
SELECT itsm_cancel(:back) IS NOT NULL AS cancelled;
SELECT (SELECT count(*) FROM pgsync_itsm.lookups) + (SELECT count(*) FROM pgsync_itsm.lookup_rows) AS left_over;

\c :main
SET client_min_messages = error;
DROP DATABASE regress_itsm_rollback_runs;
