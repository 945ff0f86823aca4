-- What is deleted here, without a platform (see rollback.sql).
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = error;
DROP DATABASE IF EXISTS regress_itsm_retire;
CREATE DATABASE regress_itsm_retire TEMPLATE template0;
\c regress_itsm_retire
\set ECHO none
\i :abs_srcdir/test/lib/rollback.sql
\set ECHO all

-- Without what the sample itself leaves out or holds.
DROP VIEW matter;
CREATE VIEW matter AS SELECT run_id, id, ord, step, entity_type, label, action, state, reason FROM integration_run_items WHERE action <> 'MISMATCH' AND (action <> 'SKIP' OR payload_hash = 'retired');

-- What the trigger has queued is collected into a run, at once; what a row and all that hangs on it were comes back as it was.
CREATE FUNCTION collected() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    run bigint;
BEGIN
    UPDATE integration_queue SET at = at - interval '1 hour';
    PERFORM pgsync_itsm.collect();
    SELECT id INTO run FROM integration_runs WHERE status = 'queued';
    RETURN run;
END
$$;
CREATE TABLE lost (tab regclass, n integer, kept jsonb);
CREATE FUNCTION lose(app uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    DELETE FROM lost;
    FOR t IN SELECT * FROM (VALUES
        (1, 'applications', 'id = %1$L'), (2, 'deployment_profiles', 'application_id = %1$L'), (3, 'portfolio_assignments', 'application_id = %1$L'),
        (4, 'application_contacts', 'application_id = %1$L'), (5, 'application_integrations', '%1$L IN (source_application_id, target_application_id)'),
        (6, 'deployment_profile_it_services', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)'),
        (7, 'deployment_profile_software_products', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)'),
        (8, 'deployment_profile_contacts', 'deployment_profile_id IN (SELECT id FROM deployment_profiles WHERE application_id = %1$L)')) AS v(n, tab, condition)
    LOOP
        EXECUTE format('INSERT INTO lost SELECT %L, %s, to_jsonb(x) FROM %I AS x WHERE ', t.tab, t.n, t.tab) || format(t.condition, app);
    END LOOP;
    DELETE FROM applications WHERE id = app;
END
$$;
CREATE FUNCTION bring_back() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l record;
BEGIN
    FOR l IN SELECT * FROM lost ORDER BY n LOOP
        EXECUTE format('INSERT INTO %s SELECT (jsonb_populate_record(NULL::%s, $1)).* ON CONFLICT DO NOTHING', l.tab, l.tab) USING l.kept;
    END LOOP;
END
$$;
CREATE VIEW noted AS SELECT entity_type, published_name, state, deleted_at IS NOT NULL AS deleted FROM integration_sync_map WHERE deleted_at IS NOT NULL OR state <> 'linked';
CREATE VIEW result AS SELECT id, summary, approval_reason FROM integration_runs;

SELECT new_run() AS first \gset
CALL plan(:first);
SELECT publish(:first);
SELECT new_run() AS second \gset
CALL plan(:second);
SELECT publish(:second);
UPDATE integration_connections SET sync_schedule = 'on_change';
DELETE FROM integration_queue;
SELECT entity_type, count(*) FROM integration_sync_map WHERE created_by_us GROUP BY 1 ORDER BY 1;

-- an application with a profile that has relationships of several kinds
SELECT a.id AS app, d.id AS profile
  FROM applications AS a JOIN deployment_profiles AS d ON d.application_id = a.id
  JOIN integration_sync_map AS m ON m.entity_id = a.id AND m.entity_type = 'application'
  JOIN integration_sync_map AS l ON d.id = l.parent_id AND l.entity_type IN ('depends_on', 'runs_on', 'sends_data_to')
 WHERE m.last_agreed ->> 'operational_status' = '1'
 GROUP BY 1, 2 HAVING count(DISTINCT l.entity_type) >= 2 ORDER BY count(*) DESC, 1 LIMIT 1 \gset
SELECT published_name FROM integration_sync_map WHERE entity_id = :'app';
SELECT external_id AS app_there FROM integration_sync_map WHERE entity_id = :'app' \gset
SELECT external_id AS profile_there FROM integration_sync_map WHERE entity_id = :'profile' \gset

-- rolled back: nothing is queued; and so the change is in the queue only once it is committed
BEGIN;
SELECT lose(:'app');
ROLLBACK;
SELECT collected();

-- by life cycle: what a DELETE was about, and a read confirms
SELECT lose(:'app');
SELECT collected() AS run \gset
SELECT * FROM noted ORDER BY 1, 2;
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT DISTINCT entity_type, (SELECT string_agg(key, ', ' ORDER BY key) FROM json_object_keys(payload) AS key) AS sent FROM integration_run_items WHERE run_id = :run AND action = 'UPDATE' ORDER BY 1;
SELECT * FROM result WHERE id = :run \gx
SELECT agree(:run), ended(:run);
SELECT * FROM noted ORDER BY 1, 2;
-- a plan in full has nothing to add: what is retired there keeps its relationships, and is no loss
SELECT new_run() AS run \gset
UPDATE integration_runs SET confirm = false WHERE id = :run;
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT ended(:run);
UPDATE integration_connections SET settings = settings || '{"shrink_percent": "1"}';
UPDATE applications SET short_description = 'Another' WHERE id = (SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application' AND state = 'linked' ORDER BY 1 LIMIT 1);
SELECT new_run() AS run \gset
UPDATE integration_runs SET confirm = false WHERE id = :run;
CALL plan(:run);
SELECT * FROM result WHERE id = :run \gx
SELECT agree(:run), ended(:run);
UPDATE integration_connections SET settings = settings - 'shrink_percent';
-- it comes back: published again, as what it is there
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT bool_and(i.external_id IN (:'app_there', :'profile_there') OR i.entity_type = 'deployment_profile') AS same FROM integration_run_items AS i WHERE run_id = :run AND action = 'UPDATE';
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT * FROM noted ORDER BY 1, 2;

-- deleted and back before anybody looked: the read decides
BEGIN;
SELECT lose(:'app');
COMMIT;
SELECT bring_back();
SELECT collected() AS run \gset
SELECT count(*) > 0 AS deleted FROM pgsync_itsm.run_keys WHERE run_id = :run AND deleted;
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT ended(:run);
SELECT * FROM noted;

-- absence alone is nothing
SELECT lose(:'app');
DELETE FROM integration_queue;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT ended(:run);
SELECT bring_back();
DELETE FROM integration_queue;

-- a run of changes that is cancelled forgets no deletion: the next plan in full sees to it
SELECT lose(:'app');
SELECT collected() AS run \gset
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
-- undone by somebody, it is not done again
SELECT agree(:run), ended(:run);
SELECT count(*) FROM itsm_rollback(:run);
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back) > 0 AS undone, ended(:back);
SELECT * FROM noted;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT ended(:run);
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);

-- also while a connection does not follow changes, or is not active: a deletion is noted
UPDATE integration_connections SET is_active = false;
SELECT lose(:'app');
SELECT collected();
SELECT count(*) FROM noted WHERE deleted;
SELECT bring_back();
SELECT collected();
UPDATE integration_connections SET is_active = true, full_plan_after = NULL;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT ended(:run);
SELECT * FROM noted;

-- moved to another namespace, nothing is done here; deleted there, it is gone for both
SELECT workspace_id AS home FROM applications WHERE id = :'app' \gset
SELECT id AS elsewhere FROM workspaces WHERE namespace_id NOT IN (SELECT namespace_id FROM integration_connections) ORDER BY id LIMIT 1 \gset
UPDATE applications SET workspace_id = :'elsewhere' WHERE id = :'app';
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state FROM matter WHERE run_id = :run AND action IN ('UPDATE', 'DELETE') AND entity_type IN ('application', 'deployment_profile') ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT * FROM noted;
SELECT lose(:'app');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run AND action IN ('UPDATE', 'DELETE') ORDER BY id;
SELECT pgsync_itsm.finish_run(:run, 'done');
UPDATE lost SET kept = kept || jsonb_build_object('workspace_id', :'home') WHERE n = 1;
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT * FROM noted;

-- gone there already: nothing to retire, and not tried again
SELECT lose(:'app');
INSERT INTO there SELECT 'record', external_id, external_id, NULL FROM integration_sync_map WHERE entity_id = :'app';
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT * FROM noted WHERE entity_type = 'application';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND entity_type = 'application';
SELECT ended(:run);
DELETE FROM there;
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT * FROM noted;

-- what was there before us, and what is not retired, is left
UPDATE integration_sync_map SET created_by_us = false WHERE entity_id = :'app';
SELECT lose(:'app');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT * FROM noted ORDER BY 1, 2;
SELECT pgsync_itsm.finish_run(:run, 'done');
UPDATE integration_connections SET settings = settings || '{"retire_by": "leave"}';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT * FROM noted ORDER BY 1, 2;
SELECT ended(:run);
SELECT bring_back();
UPDATE integration_sync_map SET created_by_us = true WHERE entity_id = :'app';
SELECT collected() AS run \gset
CALL plan(:run);
SELECT * FROM noted;
SELECT agree(:run), ended(:run);

-- by deletion: relationships first, then records, none of a type before all of the type before it
UPDATE integration_connections SET settings = settings || '{"retire_by": "delete"}';
SELECT lose(:'app');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT ord, step, entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT step, title, total FROM integration_run_steps WHERE run_id = :run ORDER BY ord;
SELECT * FROM result WHERE id = :run \gx
SELECT pgsync_itsm.barrier(:run, true) AS relationships;
SELECT agree(:run, 800), pgsync_itsm.settle_steps(:run);
SELECT pgsync_itsm.barrier(:run, true) AS profiles;
SELECT agree(:run, 925), pgsync_itsm.settle_steps(:run);
SELECT pgsync_itsm.barrier(:run, true) AS applications;
-- what it was is kept
SELECT entity_type, old_values ->> 'name' AS name, old_values ->> 'sys_updated_by' AS touched_by, old_values ->> 'correlation_id' = entity_id::text AS known
  FROM integration_run_items WHERE run_id = :run AND action = 'DELETE' AND parent_id IS NULL ORDER BY id;
SELECT agree(:run), ended(:run);
SELECT count(*) FROM integration_sync_map WHERE :'app' IN (entity_id::text, parent_id::text, child_id::text) OR :'profile' IN (entity_id::text, parent_id::text, child_id::text);
SELECT :run AS deletion \gset
-- undone: made again of that, relationships last
SELECT action, state, label, reason, count(*) FROM itsm_rollback(:deletion) GROUP BY entity_type, 1, 2, 3, 4 ORDER BY entity_type, label;
SELECT last_run() AS back \gset
CALL plan(:back);
SELECT ord, step, entity_type, label, action, state, reason FROM integration_run_items WHERE run_id = :back ORDER BY id;
SELECT payload ->> 'name' AS name, payload ->> 'operational_status' AS operational_status, payload ->> 'sys_updated_by' AS system, payload ->> 'number' AS number
  FROM integration_run_items WHERE run_id = :back AND payload IS NOT NULL ORDER BY id;
SELECT * FROM result WHERE id = :back \gx
SELECT itsm_apply(:back) = :back AS applied;
CALL plan(:back);
SELECT agree(:back) > 0 AS done, ended(:back);
SELECT entity_type, state, created_by_us, deleted_at FROM integration_sync_map WHERE entity_id IN (:'app', :'profile') ORDER BY 1;
-- twice: nothing
SELECT state, reason, count(*) FROM itsm_rollback(:deletion) GROUP BY 1, 2 ORDER BY 1, 2;
-- it comes back here: known, and not made a second time
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT action, count(*) FROM matter WHERE run_id = :run AND state = 'pending' GROUP BY 1 ORDER BY 1;
SELECT agree(:run), ended(:run);
-- deleted, collected and sent; then inserted again: published again
SELECT lose(:'app');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT :run AS deletion \gset
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state FROM matter WHERE run_id = :run ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT entity_type, action, state, reason, count(*) FROM itsm_rollback(:deletion) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT * FROM noted;

-- somebody relates to it there; somebody edited it; somebody but us touched one of its relationships; we may not
SELECT external_id AS app_there FROM integration_sync_map WHERE entity_id = :'app' \gset
SELECT external_id AS profile_there FROM integration_sync_map WHERE entity_id = :'profile' \gset
SELECT lose(:'app');
INSERT INTO there VALUES ('others_child', :'app_there', 'f00', NULL, 'Payroll of the county');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run ORDER BY id;
SELECT * FROM result WHERE id = :run \gx
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
UPDATE there SET kind = 'record', key = :'profile_there', external_id = :'profile_there', attrs = '{"comments": "Do not touch", "sys_updated_by": "jane"}';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run AND (state = 'held' OR action = 'DELETE') AND entity_type IN ('application', 'deployment_profile') ORDER BY id;
-- what is held keeps its relationships
SELECT count(*) AS removals FROM integration_run_items WHERE run_id = :run AND action = 'DELETE' AND :'profile' IN (parent_id::text, child_id::text)
   AND NOT EXISTS (SELECT FROM integration_run_items AS e WHERE e.run_id = :run AND e.action = 'DELETE' AND e.state = 'pending' AND e.entity_id IN (integration_run_items.parent_id, integration_run_items.child_id));
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
UPDATE there SET kind = 'role', key = '', attrs = '{"user.user_name": "sync"}', label = 'snc_read_only';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :run AND state = 'held' AND entity_type = 'application' ORDER BY id;
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
UPDATE integration_connections SET settings = settings || '{"delete_roles": "our_own, snc_read_only"}';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT state, count(*) > 0 AS some FROM matter WHERE run_id = :run AND action = 'DELETE' GROUP BY 1;
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
DELETE FROM there;

-- a plan that is kept is looked at once more: back here, edited there
SELECT new_run(kind => 'preview') AS kept \gset
CALL plan(:kept);
SELECT * FROM result WHERE id = :kept \gx
INSERT INTO there VALUES ('record', :'profile_there', :'profile_there', '{"sys_updated_by": "jane"}');
SELECT itsm_apply(:kept) = :kept AS applied;
CALL plan(:kept);
SELECT entity_type, label, action, state, reason FROM matter WHERE run_id = :kept AND state <> 'held' ORDER BY id;
SELECT pgsync_itsm.finish_run(:kept, 'cancelled');
SELECT new_run(kind => 'preview') AS kept \gset
DELETE FROM there;
CALL plan(:kept);
SELECT bring_back();
SELECT itsm_apply(:kept) = :kept AS applied;
CALL plan(:kept);
SELECT DISTINCT entity_type, action, state, reason FROM matter WHERE run_id = :kept AND action = 'DELETE' ORDER BY 1;
SELECT status FROM integration_runs WHERE id = :kept;
SELECT pgsync_itsm.finish_run(:kept, 'done');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run), ended(:run);
SELECT * FROM noted;

-- gone there already: only forgotten here
SELECT lose(:'app');
INSERT INTO there SELECT 'record', external_id, external_id, NULL FROM integration_sync_map WHERE entity_id = :'app';
SELECT collected() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application';
-- a relationship that is not removed keeps its record
UPDATE integration_run_items SET state = 'dead', reason = 'not allowed' WHERE id = (SELECT min(id) FROM integration_run_items WHERE run_id = :run AND parent_id = :'profile' AND action = 'DELETE');
SELECT pgsync_itsm.settle_blocked(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND state = 'skipped' AND action = 'DELETE';
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
DELETE FROM there;
SELECT bring_back();
SELECT collected() AS run \gset
CALL plan(:run);
SELECT agree(:run), ended(:run);

-- a product that we made: its package and its model, unless somebody uses it there
SELECT id AS product FROM software_products AS p
 WHERE (SELECT count(*) FROM integration_sync_map AS m WHERE m.entity_id = p.id AND m.created_by_us) = 2 ORDER BY id LIMIT 1 \gset
INSERT INTO there SELECT 'others_model', external_id, 'f01', NULL, 'LT-0815' FROM integration_sync_map WHERE entity_id = :'product' AND entity_type = 'software_product';
DELETE FROM software_products WHERE id = :'product';
SELECT collected() AS run \gset
CALL plan(:run);
SELECT ord, entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type IN ('software_product', 'software_package') ORDER BY id;
SELECT pgsync_itsm.finish_run(:run, 'done');

-- A connection that does not follow changes: noted, no run is made, and the next publish in full sees to it.
UPDATE integration_connections SET sync_schedule = 'manual', settings = settings || '{"retire_by": "life_cycle"}';
DELETE FROM integration_queue;
SELECT lose(:'app');
SELECT DISTINCT relation::regclass, op, key_column FROM integration_queue ORDER BY 1;
SELECT collected();
SELECT * FROM noted WHERE published_name IN (SELECT published_name FROM integration_sync_map WHERE entity_id IN (:'app', :'profile')) ORDER BY 1, 2;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT state, deleted_at IS NOT NULL AS deleted FROM integration_sync_map WHERE entity_id = :'app';
SELECT bring_back();
SELECT collected();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT state, deleted_at IS NOT NULL AS deleted FROM integration_sync_map WHERE entity_id = :'app';
-- before the debounce is over, and of what waits nothing is taken; collecting it afterwards has nothing retired once more
SELECT lose(:'app');
SELECT pgsync_itsm.collect(), (SELECT count(*) > 0 FROM integration_queue) AS waits, (SELECT count(*) FROM integration_sync_map WHERE entity_id = :'app' AND deleted_at IS NOT NULL) AS noted;
SELECT new_run(kind => 'preview') AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run), count(*) > 0 AS waits FROM integration_queue;
SELECT collected();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT agree(:run), ended(:run);
SELECT bring_back();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
-- deleted and made again, collected or not: not retired
SELECT lose(:'app');
SELECT bring_back();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND entity_type = 'application' AND state IN ('planned', 'pending', 'held');
SELECT agree(:run) >= 0 AS sent, ended(:run);
SELECT collected();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND state IN ('planned', 'pending', 'held');
SELECT ended(:run);
SELECT count(*) FROM integration_sync_map WHERE entity_id = :'app' AND deleted_at IS NOT NULL;
-- deleted and collected after it was read: the plan does not take it for one that is here again, and the next one retires it
CREATE PROCEDURE plan_until(run bigint, phase text) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE integration_runs SET status = 'planning' WHERE id = run;
    LOOP
        COMMIT;
        EXIT WHEN (SELECT r.phase = plan_until.phase FROM integration_runs AS r WHERE r.id = run) OR pgsync_itsm.plan_step(run) <> 'more';
    END LOOP;
END
$$;
SELECT new_run() AS run \gset
CALL plan_until(:run, 'ask');
SELECT phase FROM integration_runs WHERE id = :run;
SELECT lose(:'app');
SELECT collected();
CALL plan(:run);
SELECT count(*) FROM matter WHERE run_id = :run AND entity_type = 'application' AND state IN ('planned', 'pending', 'held');
SELECT ended(:run);
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT bring_back();
SELECT collected();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
-- deleted while the run that makes it there is under way: marked when that has ended
INSERT INTO applications SELECT (jsonb_populate_record(a, jsonb_build_object('id', '77777777-0000-4000-8000-000000000001', 'name', 'Short-lived', 'app_id', 7777777))).* FROM applications AS a WHERE a.id = :'app';
INSERT INTO deployment_profiles SELECT (jsonb_populate_record(d, '{"id": "77777777-0000-4000-8000-000000000002", "name": "Short-lived", "application_id": "77777777-0000-4000-8000-000000000001"}')).*
  FROM deployment_profiles AS d WHERE d.id = :'profile';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT action, state FROM matter WHERE run_id = :run AND label = 'Short-lived' AND entity_type = 'application';
DELETE FROM applications WHERE name = 'Short-lived';
SELECT collected();
SELECT entity_type, match_by, key, deleted FROM pgsync_itsm.run_keys WHERE run_id = :run AND key LIKE '77777777%' ORDER BY 1;
SELECT agree(:run) > 0 AS sent;
SELECT entity_type, deleted_at IS NOT NULL AS deleted FROM integration_sync_map WHERE entity_id::text LIKE '77777777%' AND parent_id IS NULL ORDER BY 1;
SELECT ended(:run);
SELECT count(*) AS keys FROM pgsync_itsm.run_keys;
SELECT entity_type, deleted_at IS NOT NULL AS deleted FROM integration_sync_map WHERE entity_id::text LIKE '77777777%' AND parent_id IS NULL ORDER BY 1;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND label = 'Short-lived' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
-- two connections of one namespace, one of which follows changes: noted for both, a run for that one; inactive: no gap
INSERT INTO integration_connections (id, namespace_id, name, platform, instance_url, settings, is_active, first_publish_at, sync_schedule)
SELECT '00000000-0000-4000-8000-000000000002', namespace_id, 'follows', platform, 'https://other.service-now.com', settings, true, now(), 'on_change' FROM integration_connections;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us)
SELECT '00000000-0000-4000-8000-000000000002', namespace_id, entity_type, entity_id, native_key, md5(external_id), external_table, published_name, sync_direction, created_by_us
  FROM integration_sync_map WHERE entity_id = :'app';
UPDATE integration_connections SET is_active = false WHERE sync_schedule = 'manual';
SELECT lose(:'app');
SELECT collected() IS NOT NULL AS a_run;
SELECT c.sync_schedule, m.state, m.deleted_at IS NOT NULL AS deleted FROM integration_sync_map AS m JOIN integration_connections AS c ON c.id = m.connection_id WHERE m.entity_id = :'app' ORDER BY 1;
SELECT DISTINCT c.sync_schedule FROM integration_runs AS r JOIN integration_connections AS c ON c.id = r.connection_id WHERE r.status = 'queued';
SELECT pgsync_itsm.finish_run(id, 'cancelled') FROM integration_runs WHERE status = 'queued';
DELETE FROM integration_sync_map WHERE connection_id <> :riverton;
DELETE FROM integration_connections WHERE id <> :riverton;
UPDATE integration_connections SET is_active = true;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state, reason FROM matter WHERE run_id = :run AND entity_type = 'application' ORDER BY id;
SELECT agree(:run) > 0 AS sent, ended(:run);
SELECT bring_back();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT agree(:run) > 0 AS sent, ended(:run);
DELETE FROM integration_queue;
UPDATE integration_connections SET sync_schedule = 'on_change', settings = settings || '{"retire_by": "delete"}', full_plan_after = NULL;

-- too much at once waits for a person, whatever the policy
DELETE FROM applications WHERE id IN (SELECT entity_id FROM integration_sync_map WHERE entity_type = 'application');
SELECT collected() AS run \gset
CALL plan(:run);
SELECT status, approval_reason ~ '^\d+ of \d+ published records were deleted here$' AS said FROM integration_runs WHERE id = :run;
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
UPDATE integration_connections SET settings = settings || '{"retire_by": "life_cycle"}';
SELECT new_run() AS run \gset
UPDATE integration_runs SET confirm = false WHERE id = :run;
CALL plan(:run);
SELECT status FROM integration_runs WHERE id = :run;

-- a namespace that is deleted: what goes with it makes no run, and the map is kept
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
UPDATE integration_connections SET sync_schedule = 'manual';
SELECT count(*) AS mapped FROM integration_sync_map \gset
BEGIN;
SELECT itsm_forget_namespace(namespace_id) FROM integration_connections;
DELETE FROM applications;
COMMIT;
SELECT collected();
SELECT count(*) = :mapped AS kept, (SELECT count(*) FROM integration_queue) AS queued FROM integration_sync_map;

SELECT (SELECT count(*) FROM pgsync_itsm.lookups) + (SELECT count(*) FROM pgsync_itsm.lookup_rows) AS left_over;
\c :main
SET client_min_messages = error;
DROP DATABASE regress_itsm_retire;
