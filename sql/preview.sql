-- Previews without a platform: what the engine says is answered here, and so is what is there.  What a kept plan refuses,
-- what itsm_explain() says of it, and every mistake that can be made with them.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_preview;
CREATE DATABASE regress_itsm_preview TEMPLATE template0;
\c regress_itsm_preview
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
VALUES (:riverton, '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com', '{"default_owner": "owner"}', true, now());

-- What is there, and what the engine says where it is not INSERT of what is new and UPDATE of what is known.
CREATE TABLE there (kind text, target text, key text, external_id text, attrs json);
CREATE TABLE engine (key text, external_id text, external_table text, operation text, attrs json, silent boolean DEFAULT false);
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, label, attrs)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL, NULL, NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.kind IN ('user', 'group', 'company', 'relation_type', 'contract_model')
        UNION ALL
        SELECT run, l.kind, l.target, t.key, t.external_id, coalesce(nullif(t.target, ''), l.target), NULL, t.attrs
          FROM pgsync_itsm.lookups AS l, there AS t WHERE l.run_id = run AND l.kind = t.kind AND t.target IN ('', l.target) AND t.key = ANY (l.keys)
        UNION ALL
        SELECT run, l.kind, l.target, m.external_id, m.external_id, l.target, NULL, m.last_agreed
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS m WHERE l.run_id = run AND l.kind = 'record' AND m.external_id = ANY (l.keys)
           AND NOT EXISTS (SELECT FROM there AS t WHERE t.kind = 'record' AND t.key = m.external_id)
        UNION ALL
        SELECT run, l.kind, l.target, k.key, CASE WHEN e.key IS NULL THEN p.external_id ELSE e.external_id END, coalesce(e.external_table, p.external_table, p.class),
               coalesce(e.operation, CASE WHEN e.attrs IS NULL THEN CASE WHEN p.external_id IS NULL THEN 'INSERT' ELSE 'UPDATE' END END), coalesce(e.attrs, '{}')
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
          JOIN pgsync_itsm.plan_records AS p ON p.run_id = run AND p.native_key = k.key
          LEFT JOIN engine AS e ON e.key = k.key
         WHERE l.run_id = run AND l.kind = 'dry_run' AND e.silent IS NOT TRUE;
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
CREATE FUNCTION new_run(kind text DEFAULT 'preview') RETURNS bigint LANGUAGE sql
    AS $$
        INSERT INTO integration_runs (namespace_id, connection_id, kind, origin)
        SELECT namespace_id, id, kind, 'call' FROM integration_connections RETURNING id
    $$;
-- The platform takes all of it.
CREATE FUNCTION agree(run bigint) RETURNS void LANGUAGE sql
    AS $$
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id
         WHERE i.run_id = run AND i.state = 'pending' AND i.action IN ('CREATE', 'UPDATE', 'DELETE') GROUP BY r.connection_id;
        UPDATE integration_run_items SET state = 'done', updated_at = now() WHERE run_id = run AND state = 'pending' AND action IN ('CREATE', 'UPDATE', 'DELETE');
        UPDATE integration_runs SET status = 'done' WHERE id = run
    $$;
CREATE VIEW last_run AS
    SELECT status, to_create - relations_to_create AS new, relations_to_create AS relations, to_update AS upd, matched, held, refused
      FROM integration_runs ORDER BY id DESC LIMIT 1;

-- What the engine refuses, takes for another, or would change the class of; where it says nothing, the plan says so.
INSERT INTO engine (key, external_id, external_table, operation, attrs) VALUES
    ('application/aaaaaaaa-0001-4000-8000-000000000001', md5('x1'), 'cmdb_ci_business_app', 'UPDATE', '{"found_by": "correlation_id, name"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000005', NULL, NULL, NULL, '{"error": "REQUIRED_ATTRIBUTE_EMPTY", "message": "REQUIRED_ATTRIBUTE_EMPTY: Missing mandatory field [owner]", "outcome": "dead"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000006', NULL, NULL, NULL, '{"error": "MULTIPLE_DUPLICATE_RECORDS", "message": "MULTIPLE_DUPLICATE_RECORDS: Found duplicate records", "outcome": "dead"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000008', NULL, NULL, NULL, '{"error": "LOCK_TIMEOUT", "message": "LOCK_TIMEOUT: busy", "outcome": "retry"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000009', NULL, NULL, NULL, '{"error": "ABANDONED", "message": "ABANDONED: aborted by a business rule", "outcome": "retry"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000010', md5('x10'), 'cmdb_ci_business_app', 'UPDATE', '{"native": "true"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000011', NULL, NULL, 'INSERT', '{"merged": "true"}'),
    ('application/aaaaaaaa-0001-4000-8000-000000000012', NULL, NULL, 'INSERT_AS_INCOMPLETE', '{}');
INSERT INTO engine (key, silent) VALUES ('application/aaaaaaaa-0001-4000-8000-000000000013', true);
INSERT INTO there VALUES ('record', '', md5('x1'), md5('x1'), '{"name": "Sage 300", "comments": "theirs"}'), ('record', '', md5('x10'), md5('x10'), '{"name": "old name"}');
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT * FROM last_run;
SELECT right(native_key, 2) AS application, action, state, external_id = ANY (ARRAY[md5('x1'), md5('x10')]) AS found, reason, warnings
  FROM integration_run_items WHERE run_id = :run AND entity_type = 'application' AND native_key IN (SELECT key FROM engine) ORDER BY 1;
SELECT action, count(*) FROM integration_run_items WHERE run_id = :run AND entity_type = 'application' AND native_key NOT IN (SELECT key FROM engine) GROUP BY 1 ORDER BY 1;
-- one row a field: there now, and to be
SELECT field, old_value, new_value FROM itsm_plan(:run) WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000010' AND field IN ('name', 'correlation_id') ORDER BY 1;
-- without a dry run the plan goes by its own look
SELECT itsm_set(:riverton, 'dry_run', 'false');
SELECT new_run() AS run2 \gset
CALL plan(:run2);
SELECT action, count(*) FROM integration_run_items WHERE run_id = :run2 AND native_key IN (SELECT key FROM engine) GROUP BY 1;
SELECT itsm_set(:riverton, 'dry_run', NULL);
-- adopted instead of held
SELECT itsm_set(:riverton, 'on_existing', 'adopt');
SELECT new_run() AS run2 \gset
CALL plan(:run2);
SELECT action, reason FROM integration_run_items WHERE run_id = :run2 AND native_key = 'application/aaaaaaaa-0001-4000-8000-000000000001';
SELECT itsm_set(:riverton, 'on_existing', NULL);
-- the summary of the integration design
SELECT summary FROM integration_runs WHERE id = :run;

-- What applying it takes.  The bodies are those of the adapter: their sizes are not compared here.
SELECT regexp_replace(line, 'bytes=[0-9]+', 'bytes=n', 'g') AS line FROM itsm_explain(:run) AS e(line);
SELECT j -> 'calls' = to_jsonb((j #>> '{look_again,calls}')::int + (j #>> '{read_back,calls}')::int + (SELECT sum((w ->> 'calls')::int) FROM jsonb_array_elements(j -> 'writes') AS w)::int) AS adds_up,
       (SELECT sum((w ->> 'items')::int) FROM jsonb_array_elements(j -> 'writes') AS w) = (SELECT to_create + to_update FROM integration_runs WHERE id = :run) AS all_items,
       j ? 'actual_calls' AS ended
  FROM (SELECT e::jsonb FROM itsm_explain(:run, 'JSON') AS e) AS x(j);
SELECT itsm_explain(:run, 'yaml');
SELECT itsm_explain(:run, NULL);
SELECT itsm_explain(987654);
SELECT itsm_explain(NULL);
SELECT new_run() AS queued \gset
SELECT itsm_explain(:queued);
SELECT itsm_apply(:queued);
DELETE FROM integration_runs WHERE id = :queued;
-- a limit that is known: the share of it, and the wait beyond it
INSERT INTO pgsync_itsm.connection_pace (connection_id, state, slots, rules, limits, used, resets, subs, apis, api_rules)
VALUES (:riverton, 'active', 2, '{own,hour}', '{-1,10}', '{0,5}', ARRAY['-infinity', now() + interval '30 minutes'], '{0,0}', '{}', '{}');
SELECT new_run() AS run2 \gset
CALL plan(:run2);
SELECT j ->> 'hour_limit' AS hour_limit, j ->> 'hour_left' AS hour_left, j ->> 'hour_percent' AS percent, (j ->> 'seconds')::int BETWEEN 1700 AND 1900 AS waits
  FROM (SELECT e::jsonb FROM itsm_explain(:run2, 'json') AS e) AS x(j);
DELETE FROM pgsync_itsm.connection_pace;
SELECT itsm_cancel(:run2) = :run2 AS cancelled;

-- Applied after changes on both sides: exactly these are refused, by their fields.
SELECT description IS NOT NULL AS described FROM applications WHERE id = 'aaaaaaaa-0001-4000-8000-000000000014';
UPDATE applications SET short_description = 'Another text' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000014';
UPDATE applications SET management_classification = 'other' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000017';
INSERT INTO there SELECT 'name', 'cmdb_ci_business_app', payload ->> 'name', md5('late'), '{"correlation_id": ""}' FROM integration_run_items
 WHERE run_id = :run AND native_key = 'application/aaaaaaaa-0001-4000-8000-000000000018';
UPDATE there SET attrs = '{"name": "renamed there", "correlation_id": ""}' WHERE kind = 'record' AND key = md5('x10');
SELECT itsm_apply(:run) = :run AS applied;
SELECT status, phase, kind FROM integration_runs WHERE id = :run;
CALL plan(:run);
SELECT entity_type, right(native_key, 4) AS number, action, state, reason FROM integration_run_items WHERE run_id = :run AND state = 'refused' ORDER BY native_key;
-- what needs them stays as well, everything else goes
SELECT state, count(*), min(reason) FROM integration_run_items WHERE run_id = :run AND entity_type = 'consumes' AND action = 'CREATE' GROUP BY 1 ORDER BY 1;
SELECT count(*) > 50 AS the_rest, count(*) FILTER (WHERE entity_type = 'application') FROM integration_run_items WHERE run_id = :run AND state = 'pending';
SELECT itsm_apply(:run);
SELECT agree(:run);
SELECT e::jsonb ? 'actual_calls' AS ended FROM itsm_explain(:run, 'json') AS e;
TRUNCATE engine;
DELETE FROM there WHERE kind = 'name';

-- Queued again, a creation that was refused by an answer is no less careful than it was before.
UPDATE integration_run_items SET state = 'dead', error_class = 'REQUIRED_ATTRIBUTE_EMPTY' WHERE run_id = :run AND native_key = 'application/aaaaaaaa-0001-4000-8000-000000000030';
DELETE FROM integration_sync_map WHERE 'aaaaaaaa-0001-4000-8000-000000000030' IN (entity_id, parent_id, child_id);
UPDATE integration_run_items SET state = 'skipped' WHERE run_id = :run AND state = 'pending';
INSERT INTO there SELECT 'name', 'cmdb_ci_business_app', payload ->> 'name', md5('foreign'), '{"correlation_id": ""}' FROM integration_run_items
 WHERE run_id = :run AND native_key = 'application/aaaaaaaa-0001-4000-8000-000000000030';
SELECT itsm_requeue(:run, 'REQUIRED_ATTRIBUTE_EMPTY');
CALL plan(:run);
SELECT state, reason FROM integration_run_items WHERE run_id = :run AND native_key = 'application/aaaaaaaa-0001-4000-8000-000000000030';
DELETE FROM there WHERE kind = 'name';
UPDATE integration_runs SET status = 'done' WHERE id = :run;

-- A match that is taken back, an end that is forgotten, a company that is made there: all of it after the plan.
INSERT INTO integration_matches (connection_id, namespace_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score, reason)
SELECT id, namespace_id, 'application', 'aaaaaaaa-0001-4000-8000-000000000030', 'application/aaaaaaaa-0001-4000-8000-000000000030', 'x', md5('theirs'), 'cmdb_ci_business_app', 'y', 0.8, 'similar name'
  FROM integration_connections RETURNING id AS match \gset
INSERT INTO there VALUES ('record', '', md5('theirs'), md5('theirs'), '{"name": "y"}');
SELECT itsm_accept_match(:match);
SELECT l.entity_id AS link, l.child_id AS child FROM integration_sync_map AS l JOIN integration_sync_map AS a ON a.entity_id = l.parent_id AND a.entity_type = 'application'
 WHERE l.entity_type = 'consumes' AND l.parent_id <> 'aaaaaaaa-0001-4000-8000-000000000030' ORDER BY l.entity_id LIMIT 1 \gset
DELETE FROM integration_sync_map WHERE entity_id = :'link' OR entity_type IN ('company', 'contract');
DELETE FROM integration_references WHERE kind = 'company';
SELECT itsm_set(:riverton, 'create_companies', 'true');
CREATE FUNCTION no_companies() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN NEW.kind = 'company' AND NEW.external_id <> md5('made there') THEN NULL ELSE NEW END; END $$;
CREATE TRIGGER no_companies BEFORE INSERT ON pgsync_itsm.lookup_rows FOR EACH ROW EXECUTE FUNCTION no_companies();
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT entity_type, action, state FROM integration_run_items WHERE run_id = :run AND entity_id IN ('aaaaaaaa-0001-4000-8000-000000000030', :'link') ORDER BY 1;
SELECT label AS company, entity_id AS company_id FROM integration_run_items WHERE run_id = :run AND entity_type = 'company' AND action = 'CREATE' ORDER BY entity_id LIMIT 1 \gset
SELECT itsm_reject_match(:match);
CREATE TEMP TABLE forgotten AS SELECT * FROM integration_sync_map WHERE entity_id = :'child';
DELETE FROM integration_sync_map WHERE entity_id = :'child';
INSERT INTO there VALUES ('company', '', :'company', md5('made there'), NULL);
SELECT itsm_apply(:run) = :run AS applied;
CALL plan(:run);
SELECT entity_type, action, state, reason FROM integration_run_items
 WHERE run_id = :run AND entity_id IN ('aaaaaaaa-0001-4000-8000-000000000030', :'link', :'company_id') AND action <> 'CLEAR' ORDER BY 1;
SELECT count(*) > 0 AS named, bool_and(pgsync_itsm.fill_companies(:riverton, payload) ->> 'vendor' = md5('made there')) AS filled
  FROM integration_run_items WHERE run_id = :run AND entity_type = 'contract' AND payload ->> 'vendor' = '@company/' || :'company_id';
INSERT INTO integration_sync_map SELECT * FROM forgotten;
DROP TRIGGER no_companies ON pgsync_itsm.lookup_rows;
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
SELECT itsm_set(:riverton, 'create_companies', NULL);
DELETE FROM there WHERE kind = 'company' OR key = md5('theirs');

-- A run that ends between an update and what it was to clear leaves the clearing to the next one.
SELECT entity_id AS cleared FROM integration_sync_map WHERE entity_type = 'application' AND last_agreed ->> 'short_description' <> '' ORDER BY entity_id LIMIT 1 \gset
UPDATE applications SET short_description = NULL WHERE id = :'cleared';
SELECT new_run('publish') AS run \gset
CALL plan(:run);
INSERT INTO there SELECT 'record', '', external_id, external_id, last_agreed FROM integration_sync_map WHERE entity_id = :'cleared';
SELECT agree(:run);
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
SELECT action, state FROM integration_run_items WHERE run_id = :run AND entity_id = :'cleared' ORDER BY 1;
SELECT new_run('publish') AS run \gset
CALL plan(:run);
SELECT action, state, payload FROM integration_run_items WHERE run_id = :run AND entity_id = :'cleared' AND action = 'CLEAR';
-- what was not read back is not taken for edited
UPDATE applications SET short_description = 'again' WHERE id = :'cleared';
UPDATE there SET attrs = (attrs::jsonb || '{"name": "made this by the platform"}')::json WHERE external_id = (SELECT external_id FROM integration_sync_map WHERE entity_id = :'cleared');
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
SELECT new_run('publish') AS run \gset
CALL plan(:run);
SELECT action, reason FROM integration_run_items WHERE run_id = :run AND entity_id = :'cleared' AND action <> 'CLEAR';
SELECT pgsync_itsm.finish_run(:run, 'cancelled');
DELETE FROM there;
UPDATE integration_sync_map SET last_sync_hash = 'seen' WHERE last_sync_hash IS NULL AND last_agreed IS NOT NULL;
-- as small as a payload may be
SELECT itsm_set(:riverton, 'batch_bytes', '1');
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT status, error_message FROM integration_runs WHERE id = :run;
SELECT itsm_set(:riverton, 'batch_bytes', NULL);
SELECT itsm_cancel(:run) = :run AS cancelled;

-- What somebody edited there is not overwritten unasked, unless an attempt of ours may have left it there.
SELECT external_id AS edited FROM integration_sync_map WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000022' \gset
INSERT INTO there SELECT 'record', '', external_id, external_id, (last_agreed::jsonb || '{"short_description": "edited there"}')::json FROM integration_sync_map WHERE external_id = :'edited';
UPDATE applications SET short_description = 'edited here' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000022';
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT action, state, reason FROM integration_run_items WHERE run_id = :run AND entity_id = 'aaaaaaaa-0001-4000-8000-000000000022';
SELECT field, old_value, new_value FROM itsm_plan(:run) WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000022' AND field = 'short_description';
SELECT itsm_set(:riverton, 'on_edited', 'overwrite');
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT action, reason FROM integration_run_items WHERE run_id = :run AND entity_id = 'aaaaaaaa-0001-4000-8000-000000000022';
SELECT itsm_set(:riverton, 'on_edited', NULL);
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, action, state, unheard, payload)
SELECT 0, id, namespace_id, 70, '4', 'application', 'aaaaaaaa-0001-4000-8000-000000000022', 'application/aaaaaaaa-0001-4000-8000-000000000022', 'UPDATE', 'cancelled', true, '{"short_description": "edited there"}'
  FROM integration_connections;
SELECT new_run() AS run \gset
CALL plan(:run);
SELECT action, reason FROM integration_run_items WHERE run_id = :run AND entity_id = 'aaaaaaaa-0001-4000-8000-000000000022';
-- the other side moves once more before it is applied, but not in the record of another application that changed
UPDATE applications SET short_description = 'edited here' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000020';
SELECT new_run() AS run \gset
CALL plan(:run);
UPDATE there SET attrs = (attrs::jsonb || '{"short_description": "edited again"}')::json WHERE key = :'edited';
SELECT itsm_apply(:run) = :run AS applied;
CALL plan(:run);
SELECT right(native_key, 2) AS application, state, reason FROM integration_run_items WHERE run_id = :run AND entity_type = 'application' AND action = 'UPDATE' ORDER BY 1;
-- and it is gone
SELECT agree(:run);
SELECT new_run() AS run \gset
DELETE FROM there WHERE key = :'edited';
CALL plan(:run);
SELECT action, state FROM integration_run_items WHERE run_id = :run AND entity_id = 'aaaaaaaa-0001-4000-8000-000000000022';
INSERT INTO there VALUES ('record', '', :'edited', NULL, NULL);
CREATE OR REPLACE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql AS $$ UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run $$;
SELECT itsm_apply(:run) = :run AS applied;
CALL plan(:run);
SELECT action, state, reason FROM integration_run_items WHERE run_id = :run AND entity_id = 'aaaaaaaa-0001-4000-8000-000000000022';

-- a dry run that is too much is asked again as two; a record that is refused by itself is that record's answer
INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, keys, state, generation) VALUES (0, :riverton, 'dry_run', '{a/1,a/2,a/3}', 'sent', 1) RETURNING id AS much \gset
SELECT pgsync_itsm.settle_lookups(:riverton, ARRAY[:much], ARRAY[1], ARRAY['again'], ARRAY['HTTP_413'], ARRAY['too much'], '{}', '{}', '{}', '{}', '{}', '{}', 0);
SELECT keys, state FROM pgsync_itsm.lookups WHERE run_id = 0 ORDER BY id;
UPDATE pgsync_itsm.lookups SET state = 'sent', generation = 1 WHERE run_id = 0 AND keys = '{a/1}' RETURNING id AS one \gset
SELECT pgsync_itsm.settle_lookups(:riverton, ARRAY[:one], ARRAY[1], ARRAY['dead'], ARRAY['HTTP_400'], ARRAY['bad'], '{}', '{}', '{}', '{}', '{}', '{}', 0);
SELECT l.keys, l.state, x.attrs FROM pgsync_itsm.lookups AS l LEFT JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = 0 AND x.key = l.keys[1] WHERE l.run_id = 0 ORDER BY l.id;
SELECT pgsync_itsm.clear_plan(0);

-- a contract does not go without its vendor
INSERT INTO integration_runs (namespace_id, connection_id, kind, status) SELECT namespace_id, id, 'publish', 'running' FROM integration_connections RETURNING id AS vendors \gset
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload, reason)
SELECT :vendors, c.id, c.namespace_id, x.ord, x.step, x.type, md5(x.key)::uuid, x.key, x.key, 'CREATE', x.state, x.payload::json, x.reason
  FROM integration_connections AS c, (VALUES (10, '0a', 'company', 'Dead Inc', 'dead', '{"name": "Dead Inc"}', 'refused there'),
       (130, '8a', 'contract', 'of it', 'pending', '{"vendor": "@company/' || md5('Dead Inc')::uuid || '"}', NULL),
       (130, '8a', 'contract', 'of another', 'pending', '{"vendor": "@company/' || md5('Other Inc')::uuid || '"}', NULL)) AS x(ord, step, type, key, state, payload, reason);
INSERT INTO integration_run_items (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, parent_type, parent_id, child_type, child_id)
SELECT :vendors, c.id, c.namespace_id, 140, '8b', 'covers', md5('covers ' || x.key)::uuid, x.key, 'covers ' || x.key, 'CREATE', 'pending', 'contract', md5(x.key)::uuid, 'it_service', md5('s')::uuid
  FROM integration_connections AS c, (VALUES ('of it'), ('of another')) AS x(key);
SELECT pgsync_itsm.settle_blocked(:vendors);
SELECT label, state, reason FROM integration_run_items WHERE run_id = :vendors ORDER BY id;
-- and goes with it when that is queued again
SELECT itsm_requeue(:vendors, entity_type => 'company') AS requeued;
SELECT label, state, reason FROM integration_run_items WHERE run_id = :vendors ORDER BY id;
DELETE FROM integration_run_items WHERE run_id = :vendors;
DELETE FROM integration_runs WHERE id = :vendors;

-- A plan can be too old, of somebody else, or of a connection that is not active.
UPDATE integration_runs SET status = 'planned', planned_at = '2020-01-02 03:04:05+00' WHERE id = :run;
SELECT itsm_apply(:run);
SELECT itsm_set(:riverton, 'plan_max_age', '100 years');
SELECT itsm_set(:riverton, 'plan_max_age', 'soon');
UPDATE integration_connections SET is_active = false;
SELECT itsm_apply(:run);
SELECT itsm_preview('11111111-1111-4111-8111-111111111111', 'subscribe');
SELECT itsm_preview('11111111-1111-4111-8111-111111111111');
SELECT itsm_plan(NULL);
SELECT itsm_secure('namespace_id = current_setting(''regress.namespace'', true)::uuid');
CREATE ROLE regress_itsm_looker;
SELECT itsm_grant('regress_itsm_looker', 'operator');
SET ROLE regress_itsm_looker;
SET regress.namespace = '22222222-2222-4222-8222-222222222222';
SELECT itsm_explain(:run);
SELECT count(*) FROM itsm_plan(:run);
SELECT itsm_apply(:run);
SET regress.namespace = '11111111-1111-4111-8111-111111111111';
SELECT count(*) > 5 AS explained FROM itsm_explain(:run);
RESET ROLE;
RESET regress.namespace;

-- the work space is empty again
SELECT (SELECT count(*) FROM pgsync_itsm.plan_records) + (SELECT count(*) FROM pgsync_itsm.plan_links) + (SELECT count(*) FROM pgsync_itsm.lookups)
     + (SELECT count(*) FROM pgsync_itsm.lookup_rows) + (SELECT count(*) FROM pgsync_itsm.expected_sent) AS left_over;
DROP OWNED BY regress_itsm_looker;
DROP ROLE regress_itsm_looker;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_preview;
