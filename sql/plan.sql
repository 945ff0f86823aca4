-- Plans without a platform: what is asked is answered here, what would be sent is agreed here.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_plan;
CREATE DATABASE regress_itsm_plan TEMPLATE template0;
\c regress_itsm_plan
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
\set riverton '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES (:riverton, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin"}', true, now());

-- There are users, groups and relationship types of every name, but no user "admin"; and what "there" says.
CREATE TABLE there (kind text, key text, external_id text, attrs json);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, attrs)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.kind IN ('user', 'group', 'company', 'relation_type', 'contract_model') AND k.key NOT IN ('admin', 'Nobody Inc')
        UNION ALL
        SELECT run, l.kind, l.target, t.key, t.external_id, l.target, t.attrs
          FROM pgsync_itsm.lookups AS l, there AS t WHERE l.run_id = run AND l.kind = t.kind AND t.key = ANY (l.keys)
        UNION ALL
        SELECT run, l.kind, l.target, m.external_id, m.external_id, l.target, m.last_agreed
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS m WHERE l.run_id = run AND l.kind = 'record' AND m.external_id = ANY (l.keys);
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
-- One transaction a step, as in the planner; returns the number of steps.
CREATE PROCEDURE plan(run bigint, INOUT steps integer DEFAULT 0) LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        UPDATE integration_runs SET status = 'planning' WHERE id = run;
        LOOP
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            steps := steps + 1;
            EXIT WHEN what = 'done';
            IF what = 'wait' THEN
                PERFORM answer(run);
            END IF;
        END LOOP;
    END
    $$;
CREATE FUNCTION new_run(partial boolean DEFAULT false, kind text DEFAULT 'publish') RETURNS bigint LANGUAGE sql
    AS $$
        INSERT INTO integration_runs (namespace_id, connection_id, kind, partial, origin, confirm)
        SELECT namespace_id, id, kind, partial, CASE WHEN partial THEN 'on_change' ELSE 'call' END, true FROM integration_connections RETURNING id
    $$;
-- The platform takes all of it.
CREATE FUNCTION agree(run bigint) RETURNS void LANGUAGE sql
    AS $$
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id WHERE i.run_id = run AND i.state = 'pending' AND i.action IN ('CREATE', 'UPDATE', 'DELETE') GROUP BY r.connection_id;
        UPDATE integration_run_items SET state = 'done' WHERE run_id = run AND state = 'pending' AND action IN ('CREATE', 'UPDATE', 'DELETE');
        UPDATE integration_runs SET status = 'done' WHERE id = run
    $$;
CREATE VIEW last_run AS
    SELECT status, in_scope, to_create AS new, to_update AS upd, to_delete AS del, unchanged AS same, held, skipped, refused
      FROM integration_runs ORDER BY id DESC LIMIT 1;

SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT * FROM last_run;
SELECT step, entity_type, action, state, count(*), count(bundle) AS bundled FROM integration_run_items WHERE run_id = :run GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
-- the order of sending: sections, and within an application itself before its profiles before their relationships
SELECT section, count(*) FROM (
    SELECT id, CASE WHEN bundle IS NULL THEN step ELSE 'bundles' END AS section,
           sum(new::integer) OVER (ORDER BY id) AS n
      FROM (SELECT i.*, lag(CASE WHEN bundle IS NULL THEN step ELSE 'bundles' END) OVER (ORDER BY id)
                        IS DISTINCT FROM CASE WHEN bundle IS NULL THEN step ELSE 'bundles' END AS new
              FROM integration_run_items AS i WHERE run_id = :run) AS s) AS t
 GROUP BY n, section ORDER BY n;
SELECT count(*) AS out_of_order
  FROM (SELECT bundle, ord, lag(bundle) OVER w AS bundle_before, lag(ord) OVER w AS ord_before
          FROM integration_run_items WHERE run_id = :run AND bundle IS NOT NULL WINDOW w AS (ORDER BY id)) AS i
 WHERE (bundle, ord) < (bundle_before, ord_before);
SELECT count(*) AS strangers FROM integration_run_items AS i JOIN integration_run_items AS e
    ON e.run_id = i.run_id AND (e.entity_type, e.entity_id) = (i.parent_type, i.parent_id)
 WHERE i.run_id = :run AND i.entity_type IN ('consumes', 'depends_on', 'runs_on') AND i.bundle IS DISTINCT FROM e.bundle;
SELECT agree(:run);

-- nothing changed: nothing is stored, and nothing is resolved
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT * FROM last_run;
SELECT action, state, count(*) FROM integration_run_items WHERE run_id = :run GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(source_version) AS known, count(*) FROM integration_sync_map WHERE parent_id IS NULL;

-- somebody makes the user that was missing: what names it is resolved anew and changes
SELECT entity_type, count(*) FROM integration_sync_map WHERE last_agreed ->> 'it_application_owner' IS NULL AND parent_id IS NULL GROUP BY 1 ORDER BY 1;
INSERT INTO there VALUES ('user', 'admin', md5('admin'), NULL);
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT status, upd > 0 AS updates, same > 0 AS same FROM last_run;
SELECT agree(:run);
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT upd, new FROM last_run;

-- a mapping that changes is sent once
SELECT itsm_set_mapping(:riverton, 'application', 'short_description', 'left(nullif(short_description, ''''), 999)');
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT upd, new FROM last_run;
SELECT agree(:run);
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT upd, new FROM last_run;

-- a source row that changes where nothing is mapped is resolved once, found to be the same, and known from then on
SELECT m.entity_id AS application, m.source_hash AS before FROM integration_sync_map AS m JOIN portfolio_assignments AS a ON a.application_id = m.entity_id
 GROUP BY m.id HAVING max(a.criticality) % 20 BETWEEN 1 AND 18 ORDER BY m.entity_id LIMIT 1 \gset
UPDATE portfolio_assignments SET criticality = criticality + 0.5 WHERE application_id = :'application';
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT upd, new FROM last_run;
SELECT source_hash <> :'before' AS remembered FROM integration_sync_map WHERE entity_id = :'application';

-- one application changes: one transaction before the platform is asked what it has, one after
UPDATE applications SET description = 'Another text' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000001';
SELECT new_run(true) AS run \gset
INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key) VALUES (:run, 'application', 'key', 'aaaaaaaa-0001-4000-8000-000000000001');
CALL plan(:run) \gset
SELECT new, upd, del, :steps AS steps FROM last_run;
SELECT entity_type, action, state, label FROM integration_run_items WHERE run_id = :run;
SELECT agree(:run);

-- a link that is gone here, by the key of its profile: removed; the profile's other links do not bring their ends along
SELECT l.deployment_profile_id AS profile, l.it_service_id AS service FROM deployment_profile_it_services AS l
  JOIN integration_sync_map AS m ON m.entity_type = 'depends_on' AND m.parent_id = l.deployment_profile_id AND m.child_id = l.it_service_id
 ORDER BY 1, 2 LIMIT 1 \gset
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
SELECT new_run(true) AS run \gset
INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key) VALUES (:run, 'depends_on', 'parent', :'profile');
CALL plan(:run) \gset
SELECT new, upd, del, in_scope, :steps AS steps FROM last_run;
SELECT entity_type, action, state, parent_id = :'profile' AS parent, child_id = :'service' AS child FROM integration_run_items WHERE run_id = :run;
SELECT agree(:run);
SELECT count(*) FROM integration_sync_map WHERE entity_type = 'depends_on' AND parent_id = :'profile' AND child_id = :'service';

-- what an earlier attempt left in doubt is ours by its name; what was never tried is not
INSERT INTO applications (id, workspace_id, owner_workspace_id, name, management_classification)
SELECT x.id::uuid, a.workspace_id, a.owner_workspace_id, x.name, 'apm'
  FROM applications AS a, (VALUES ('aaaaaaaa-0001-4000-8000-000000009001', 'Tried before'), ('aaaaaaaa-0001-4000-8000-000000009002', 'Never tried'),
                                  ('aaaaaaaa-0001-4000-8000-000000009003', 'Tried, of somebody else')) AS x(id, name)
 WHERE a.id = 'aaaaaaaa-0001-4000-8000-000000000001';
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state, in_doubt)
SELECT 0, id, namespace_id, 70, '4', 'application', x.key, 'application/' || x.key, 'CREATE', x.state, true
  FROM integration_connections, (VALUES ('aaaaaaaa-0001-4000-8000-000000009001'::uuid, 'cancelled'), ('aaaaaaaa-0001-4000-8000-000000009003', 'dead')) AS x(key, state);
INSERT INTO there VALUES ('name', 'Tried before', md5('t1'), '{"correlation_id": ""}'), ('name', 'Never tried', md5('t2'), '{"correlation_id": ""}'),
                         ('name', 'Tried, of somebody else', md5('t3'), '{"correlation_id": "another"}');
INSERT INTO there SELECT 'record', external_id, external_id, '{"name": "x"}' FROM there WHERE kind = 'name';
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT label, action, state, reason FROM integration_run_items WHERE run_id = :run AND label ~ '[Tt]ried' ORDER BY label COLLATE "C";
SELECT agree(:run);

-- a kept plan refuses what changed, relationships by presence
DELETE FROM integration_sync_map WHERE entity_type = 'depends_on' AND child_id = (SELECT child_id FROM integration_sync_map WHERE entity_type = 'depends_on' ORDER BY native_key LIMIT 1);
SELECT new_run(kind => 'preview') AS run \gset
CALL plan(:run) \gset
SELECT count(*) > 1 AS several, min(state) AS state FROM integration_run_items WHERE run_id = :run AND entity_type = 'depends_on' AND action = 'CREATE';
SELECT parent_id AS profile, child_id AS service FROM integration_run_items WHERE run_id = :run AND entity_type = 'depends_on' AND action = 'CREATE' ORDER BY native_key LIMIT 1 \gset
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
UPDATE integration_runs SET status = 'planning', phase = 'recheck', kind = 'publish' WHERE id = :run;
CALL plan(:run) \gset
SELECT state, reason, count(*) > 0 AS some FROM integration_run_items WHERE run_id = :run AND entity_type = 'depends_on' GROUP BY 1, 2 ORDER BY 1, 2;

-- what was refused is not open any more
SELECT sum(total - done - failed - skipped) = (SELECT count(*) FROM integration_run_items WHERE run_id = :run AND state = 'pending') AS open_are_pending
  FROM integration_run_steps WHERE run_id = :run;

-- a relationship whose ends have both died is not sent with one of them
UPDATE integration_runs SET status = 'done' WHERE status IN ('planning', 'running');
INSERT INTO integration_runs (namespace_id, connection_id, kind, status, dead)
SELECT namespace_id, id, 'publish', 'running', 2 FROM integration_connections RETURNING id AS run \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, parent_type, parent_id, child_type, child_id)
SELECT :run, c.id, c.namespace_id, 60, '6', x.type, md5(x.key)::uuid, x.key, x.key, 'CREATE', x.state, x.parent, md5(x.parent || '9')::uuid, x.child, md5(x.child || '9')::uuid
  FROM integration_connections AS c, (VALUES ('application', 'application9', 'dead', NULL, NULL), ('it_service', 'it_service9', 'dead', NULL, NULL),
                                             ('consumes', 'both', 'skipped', 'application', 'it_service')) AS x(type, key, state, parent, child);
SELECT itsm_requeue(:run, entity_type => 'it_service') AS requeued;
SELECT entity_type, state, reason FROM integration_run_items WHERE run_id = :run ORDER BY id;
UPDATE integration_run_items SET state = 'dead' WHERE run_id = :run AND entity_type = 'it_service';
SELECT itsm_requeue(:run) AS requeued;
SELECT entity_type, state, reason FROM integration_run_items WHERE run_id = :run ORDER BY id;
UPDATE integration_runs SET status = 'done' WHERE status IN ('planning', 'running');

-- what is queued again is compared with the sources: a relationship whose link has gone meanwhile is not made
SELECT new_run() AS run \gset
CALL plan(:run) \gset
SELECT parent_id AS profile, child_id AS service FROM integration_run_items WHERE run_id = :run AND entity_type = 'depends_on' AND action = 'CREATE' ORDER BY native_key LIMIT 1 \gset
UPDATE integration_run_items SET state = CASE WHEN entity_type = 'depends_on' THEN 'dead' ELSE 'done' END WHERE run_id = :run AND state = 'pending';
UPDATE integration_runs SET status = 'done', dead = 1 WHERE id = :run;
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = :'profile' AND it_service_id = :'service';
SELECT itsm_requeue(:run) > 1 AS requeued;
SELECT status, phase FROM integration_runs WHERE id = :run;
-- changes are another run's
BEGIN;
UPDATE integration_runs SET partial = true, origin = 'on_change' WHERE id = :run;
SELECT pgsync_itsm.open_change_run(connection_id, namespace_id, confirm) <> id AS another FROM integration_runs WHERE id = :run;
ROLLBACK;
UPDATE integration_runs SET status = 'planning' WHERE id = :run;
CALL plan(:run) \gset
SELECT state, reason, count(*) > 0 AS some, bool_or(parent_id = :'profile' AND child_id = :'service') AS the_one FROM integration_run_items
 WHERE run_id = :run AND entity_type = 'depends_on' AND action = 'CREATE' GROUP BY 1, 2 ORDER BY 1, 2;

-- the work space is empty again
SELECT (SELECT count(*) FROM pgsync_itsm.plan_records) + (SELECT count(*) FROM pgsync_itsm.plan_links) + (SELECT count(*) FROM pgsync_itsm.lookups)
     + (SELECT count(*) FROM pgsync_itsm.lookup_rows) AS left_over;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_plan;
