-- Taking over what the platform knows: servers and computers into a table of the user's, linked to profiles of ours.  The
-- mirror is written here, and nothing goes over HTTP.
\set SHOW_CONTEXT never
\set VERBOSITY terse
\getenv abs_srcdir PG_ABS_SRCDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_intake;
CREATE DATABASE regress_itsm_intake TEMPLATE template0;
\c regress_itsm_intake
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
\set city '''11111111-1111-4111-8111-111111111111'''
\set acme '''00000000-0000-4000-8000-000000000001'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, sync_direction)
VALUES (:acme, :city, 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin"}', true, 'both');
SELECT kind, relation, key_column, columns, namespace_column, gone, links FROM integration_intakes ORDER BY kind;

-- What is there: name, class, operating system, and whatever else.
CREATE FUNCTION there(name text, os text DEFAULT 'Linux', more json DEFAULT '{}', id text DEFAULT NULL, target text DEFAULT 'cmdb_ci_server') RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, target, name, attrs)
        SELECT '00000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', CASE target WHEN 'cmdb_ci_server' THEN 'cmdb_ci_linux_server' ELSE target END,
               coalesce(id, md5(name)), target, name, pgsync_itsm.merged(json_build_object('name', name, 'os', os, 'os_version', '9'), more)
        ON CONFLICT (connection_id, external_id) DO UPDATE SET name = excluded.name, attrs = excluded.attrs, target = excluded.target
    $$;
CREATE FUNCTION related(parent text, child text, type text DEFAULT 'runs') RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, target, attrs)
        VALUES ('00000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'cmdb_rel_ci', md5(parent || child || type), 'cmdb_rel_ci',
                json_build_object('parent', parent, 'child', child, 'type', type))
    $$;
INSERT INTO integration_watermarks (connection_id, namespace_id, external_table, run_id, started_at, state, complete, swept_whole)
SELECT :acme, :city, t, 1, now(), 'done', true, true FROM unnest(ARRAY['cmdb_ci_server', 'cmdb_ci_computer', 'cmdb_rel_ci', 'sys_user', 'sys_user_group']) AS t;
INSERT INTO integration_references (connection_id, namespace_id, kind, key, external_id) VALUES (:acme, :city, 'relation_type', 'runs on::runs', 'runs');
-- A profile that is published.
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction)
SELECT :acme, :city, 'deployment_profile', id, 'deployment_profile/' || id, md5(id::text), 'cmdb_ci_service_auto', name, 'published'
  FROM deployment_profiles WHERE id IN ('dddddddd-0001-4000-8000-000000000101', 'dddddddd-0001-4000-8000-000000000201');
\set profile 'md5(''dddddddd-0001-4000-8000-000000000101'')'
\set other 'md5(''dddddddd-0001-4000-8000-000000000201'')'

-- One transaction a step, as in the planner.
CREATE FUNCTION new_run(purpose text DEFAULT NULL, origin text DEFAULT 'call') RETURNS bigint LANGUAGE sql
    AS $$
        INSERT INTO integration_runs (namespace_id, connection_id, kind, purpose, origin, status, phase)
        SELECT c.namespace_id, c.id, 'subscribe', purpose, origin, 'planning', 'ours' FROM integration_connections AS c RETURNING id
    $$;
CREATE PROCEDURE go_on(run bigint, OUT status text, IN until text DEFAULT '') LANGUAGE plpgsql
    AS $$
    DECLARE
        what text;
    BEGIN
        LOOP
            EXIT WHEN (SELECT r.phase FROM integration_runs AS r WHERE r.id = run) = until;
            what := pgsync_itsm.plan_step(run);
            COMMIT;
            EXIT WHEN what IN ('done', 'wait');
        END LOOP;
        SELECT r.status || coalesce(': ' || r.error_message, '') INTO status FROM integration_runs AS r WHERE r.id = run;
    END
    $$;
CREATE VIEW did AS
SELECT i.step, i.entity_type, i.label, i.action, i.state, i.payload, i.old_values, regexp_replace(i.reason, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID') AS reason
  FROM integration_run_items AS i WHERE i.run_id = (SELECT max(r.id) FROM integration_runs AS r) AND i.step <> 'in' ORDER BY i.ord, i.label, i.action, i.id;
CREATE VIEW here AS
SELECT s.name, s.operating_system, s.is_active, m.state, m.note, m.created_by_us AS added, m.links
  FROM servers AS s LEFT JOIN integration_intake_map AS m ON m.key = s.id::text ORDER BY s.name, s.operating_system NULLS FIRST, m.state;

-- Off by default: nothing happens.
SELECT there('APP-SRV-01');
SELECT name, operating_system, is_active FROM servers ORDER BY name;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT count(*) FROM did;
SELECT itsm_set(:acme, 'intake', 'server;computer');
SELECT itsm_set(:acme, 'intake', 'server,computer');

-- The first time: one here already, found whatever its case; two there of one name; two here; new ones; a retired one and a
-- duplicate, which nobody wants; one without a name.
INSERT INTO servers (namespace_id, name) VALUES (:city, 'twice-here'), (:city, 'Twice-Here '), ('22222222-2222-4222-8222-222222222222', 'db01');
SELECT there(lower(name), 'Windows') FROM servers WHERE namespace_id = :city AND name NOT ILIKE 'twice%' ORDER BY name LIMIT 1;
SELECT there('twice-there', id => md5(n::text)) FROM generate_series(1, 2) AS n;
SELECT there('twice-here'), there('db01'), there('web01', ''), there('Ünï Ç🖥', 'Linux'), there('old', more => '{"install_status": "7"}'),
       there('copy', more => '{"duplicate_of": "x"}'), there(' '), there('desk1', 'macOS', target => 'cmdb_ci_computer');
SELECT there(repeat('long', 75)) AS long;
SELECT related(:profile, md5('db01')), related(md5('web01'), :profile), related(:profile, md5('db01'), 'uses'), related(:other, md5('twice-there')), related(:profile, md5('desk1'), 'uses');
SELECT new_run('preview') AS run \gset
CALL go_on(:run, NULL);
SELECT step, entity_type, left(label, 40) AS label, action, state, left(payload::text, 120) AS payload, reason FROM did;
SELECT summary FROM integration_runs WHERE id = :run;
SELECT count(*) FROM servers;
SELECT count(*) FROM integration_intake_map;
-- applied, as it was shown
UPDATE integration_runs SET status = 'planning', phase = 'recheck', confirm = true WHERE id = :run;
CALL go_on(:run, NULL);
SELECT step, entity_type, left(label, 40) AS label, action, state, reason FROM did;
SELECT left(name, 40) AS name, operating_system, is_active, state, note, added, links FROM here;
SELECT p.name, s.name FROM deployment_profile_servers AS l JOIN servers AS s ON s.id = l.server_id JOIN deployment_profiles AS p ON p.id = l.deployment_profile_id
 WHERE l.created_at > (SELECT min(created_at) FROM integration_connections) ORDER BY 1, 2;
SELECT entity_type, operation, status, count(*) FROM integration_sync_log GROUP BY 1, 2, 3 ORDER BY 1;
-- nothing here counts as published
SELECT entity_type, count(*) FROM integration_sync_map GROUP BY 1;
SELECT count(*) FROM integration_queue WHERE relation = 'public.servers'::regclass;

-- The second time nothing is new; what is left alone is reported to who asks, and not every quarter of an hour.
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did;
SELECT name, state, note FROM integration_intake_map WHERE state <> 'linked' ORDER BY 1;
SELECT new_run(origin => 'schedule') AS run \gset
CALL go_on(:run, NULL);
SELECT count(*) FROM did;

-- Renamed and changed there; changed here only; changed on both sides; emptied there.
SELECT there('db01.new', 'AIX', id => md5('db01')), there('web01', 'Linux'), there('Ünï Ç🖥', '', '{"os_version": ""}');
UPDATE servers SET operating_system = 'mine' WHERE name = 'desk1';
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, payload, old_values, reason FROM did WHERE state = 'done';
SELECT left(name, 40) AS name, operating_system FROM here WHERE added;
SELECT there('desk1', 'BSD', target => 'cmdb_ci_computer'), there('web01', 'Linux', '{"last_discovered": "2026-01-01"}');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, payload, old_values FROM did WHERE state = 'done';

-- Renamed to a name that another has.
SELECT there('WEB01', 'AIX', id => md5('db01'));
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE label ILIKE 'web%';
SELECT there('db02', 'AIX', id => md5('db01'));
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, payload, reason FROM did WHERE state = 'done';

-- Gone there, or not related any more: it is said once, and nothing is taken away here.  Unless the mirror is not whole.
DELETE FROM integration_external_records WHERE external_id IN (md5('web01'), md5(:profile || md5('db01') || 'runs'));
UPDATE integration_watermarks SET swept_whole = NULL;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE state <> 'held';
UPDATE integration_watermarks SET swept_whole = true;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE state <> 'held';
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT count(*) FROM did WHERE state <> 'held';
SELECT name, is_active, state, note, links FROM here WHERE name IN ('web01', 'db02');
SELECT there('web01', 'Linux');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT count(*) FROM did WHERE state <> 'held';
SELECT name, is_active, state, note FROM here WHERE name IN ('web01', 'db02');
-- a column that says so, if the user names one
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', 'namespace_id', '{"column": "is_active", "value": "false", "back": "true"}',
    '{"relation": "public.deployment_profile_servers", "entity_type": "deployment_profile", "entity_column": "deployment_profile_id", "key_column": "server_id"}');
SELECT relation, links ->> 'relation' AS links FROM integration_intakes WHERE connection_id = :acme;
SELECT there('web01', 'Linux', '{"install_status": "7"}');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(payload::text, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID', 'g') AS payload, old_values, reason FROM did WHERE state <> 'held';
SELECT name, is_active, state, note FROM here WHERE name = 'web01';
SELECT there('web01', 'Linux');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(payload::text, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID', 'g') AS payload, old_values, reason FROM did WHERE state <> 'held';
SELECT name, is_active, state, note FROM here WHERE name = 'web01';
-- made anew there, under another id: the row here goes with it
DELETE FROM integration_external_records WHERE external_id = md5('web01');
SELECT there('web01', 'Linux', id => md5('web01 again'));
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(payload::text, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID', 'g') AS payload, reason FROM did WHERE state <> 'held';
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(payload::text, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID', 'g') AS payload, reason FROM did WHERE state <> 'held';
SELECT external_id = md5('web01 again') AS again, state FROM integration_intake_map WHERE name = 'web01' ORDER BY 1;
SELECT name, is_active FROM servers WHERE name = 'web01';

-- Deleted here, row or link: not made again.
DELETE FROM deployment_profile_servers WHERE server_id = (SELECT id FROM servers WHERE name = 'db02');
DELETE FROM servers WHERE name = 'desk1';
SELECT there('desk1', 'BSD 2', target => 'cmdb_ci_computer');
SELECT related(:profile, md5('db01'));
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE state <> 'held';
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE state <> 'held';
SELECT count(*) FROM servers WHERE name = 'desk1';
INSERT INTO servers (namespace_id, name) VALUES (:city, 'Desk1');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(payload::text, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID', 'g') AS payload, reason FROM did WHERE state <> 'held';

-- One bad row does not lose the others.
ALTER TABLE servers ADD CONSTRAINT short CHECK (length(name) < 20) NOT VALID;
SELECT there(n), there(repeat(n, 20)) FROM unnest(ARRAY['x1', 'x2']) AS n;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, regexp_replace(reason, 'row .*', '') AS reason FROM did WHERE state <> 'held';
ALTER TABLE servers DROP CONSTRAINT short;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE state <> 'held';
-- an expression that stumbles over one value
ALTER TABLE servers ADD COLUMN ram integer;
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": {"column": "name", "value": "split_part(value, ''.'', 1)"}, "ram": "ram"}', 'namespace_id');
SELECT there('y' || n || '.city', more => json_build_object('ram', CASE n WHEN 2 THEN 'much' ELSE n::text END)) FROM generate_series(1, 4) AS n;
SELECT there('z1.city'), there('z1.county');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, payload, reason FROM did WHERE label LIKE 'y%' OR label LIKE 'z%';
-- a table that is gone, and rights that are
ALTER TABLE servers RENAME TO machines;
SELECT there('y5.city');
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE label = 'y5.city';
ALTER TABLE machines RENAME TO servers;
CREATE ROLE regress_itsm_intake;
GRANT SELECT ON servers, deployment_profile_servers TO regress_itsm_intake;
UPDATE integration_connections SET owner = 'regress_itsm_intake';
SELECT new_run() AS run \gset
CALL go_on(:run, NULL);
SELECT left(label, 40) AS label, action, state, reason FROM did WHERE label = 'y5.city';
-- rows of other namespaces are out of reach, whatever they are called
SELECT name, operating_system FROM servers WHERE namespace_id <> :city;

-- Between two transactions everything may end: what was written is, and nothing is written twice.
UPDATE integration_connections SET owner = session_user;
SELECT itsm_set_intake(:acme, 'server', NULL, NULL, NULL);
SELECT there('bulk' || n) IS NULL FROM generate_series(1, 1200) AS n OFFSET 1200;
SELECT related(:profile, md5('bulk' || n)) IS NULL FROM generate_series(1, 1200) AS n OFFSET 1200;
SELECT new_run() AS run \gset
CALL go_on(:run, NULL, 'apply');
SELECT pgsync_itsm.plan_step(:run);
TRUNCATE pgsync_itsm.intake_there, pgsync_itsm.intake_here, pgsync_itsm.intake_links, pgsync_itsm.plan_spaces;
CALL go_on(:run, NULL);
SELECT step, action, state, count(*) FROM did WHERE label LIKE '%bulk%' GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*), count(DISTINCT name) FROM servers WHERE name LIKE 'bulk%';
SELECT count(*), count(DISTINCT server_id) FROM deployment_profile_servers AS l JOIN servers AS s ON s.id = l.server_id WHERE s.name LIKE 'bulk%';

-- What is no intake.
SELECT itsm_set_intake(:acme, 'router', 'public.servers', 'id', '{"name": "name"}');
SELECT itsm_set_intake(:acme, 'server', 'nothing', 'id', '{"name": "name"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'key', '{"name": "name"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"os": "name"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "nom"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name", "os": "name"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": {"column": "name", "value": "value) FROM x; DROP TABLE y"}}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', 'tenant');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', NULL, '{"column": "is_active"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', NULL, '{"column": "active", "value": "false"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', NULL, NULL, '{"relation": "public.deployment_profile_servers"}');
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}', NULL, NULL, '{"relation": "x", "entity_type": "deployment_profile", "entity_column": "a", "key_column": "b"}');
SELECT itsm_set_intake(NULL, 'server', 'public.servers', 'id', '{"name": "name"}');
SELECT itsm_set_intake(NULL, 'server', NULL, NULL, NULL);
SELECT itsm_set(:acme, 'intake', NULL);
SELECT itsm_set_intake(:acme, 'server', 'public.servers', 'id', '{"name": "name"}');
SELECT kind, connection_id IS NOT NULL AS own FROM integration_intakes ORDER BY 1, 2;
SELECT itsm_detach_getinsync();
SELECT kind, connection_id IS NOT NULL AS own FROM integration_intakes ORDER BY 1, 2;

-- Users and contacts.  What is read of a user, and of an application that one is named for.
SELECT itsm_attach_getinsync();
SELECT kind, relation, columns, gone FROM integration_intakes WHERE kind IN ('contact', 'group') ORDER BY kind;
SELECT entity_type, jsonb_pretty(columns) FROM integration_writers WHERE entity_type IN ('application', 'contact') ORDER BY 1;
CREATE FUNCTION a_user(name text, email text, more json DEFAULT '{}', id text DEFAULT NULL) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, target, name, attrs)
        SELECT '00000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'sys_user', coalesce(id, md5(name)), 'sys_user', name,
               pgsync_itsm.merged(json_build_object('name', name, 'email', email, 'active', 'true', 'title', 'Clerk', 'phone', '1', 'first_name', split_part(name, ' ', 1), 'last_name', split_part(name, ' ', 2)), more)
        ON CONFLICT (connection_id, external_id) DO UPDATE SET name = excluded.name, attrs = excluded.attrs
    $$;
\set sage '''aaaaaaaa-0001-4000-8000-000000000001'''
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction)
SELECT :acme, :city, 'application', id, 'application/' || id, md5(id::text), 'cmdb_ci_business_app', name, 'published' FROM applications WHERE id = :sage;
-- Somebody was named as owner there: what was there before, and what is now.
CREATE FUNCTION named(field text, now text) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO integration_inbox (connection_id, namespace_id, origin, external_table, external_id, entity_type, entity_id, before, body)
        SELECT m.connection_id, m.namespace_id, 'poll', m.external_table, m.external_id, m.entity_type, m.entity_id,
               json_build_object(field, coalesce((SELECT min(u.external_id) FROM integration_external_records AS u WHERE lower(u.attrs ->> 'email') = lower(o.email)), md5('user/' || o.email), '')),
               json_build_object(field, now)
          FROM integration_sync_map AS m
          LEFT JOIN LATERAL (SELECT c.email FROM application_contacts AS ac JOIN contacts AS c ON c.id = ac.contact_id
                              WHERE ac.application_id = m.entity_id AND ac.role_type = CASE field WHEN 'owned_by' THEN 'business_owner' ELSE 'technical_owner' END
                              ORDER BY ac.is_primary DESC, c.email LIMIT 1) AS o ON true
         WHERE m.entity_type = 'application'
    $$;
-- There are users and groups of every name.
CREATE PROCEDURE go(run bigint, OUT status text, IN until text DEFAULT '') LANGUAGE plpgsql
    AS $$
    BEGIN
        LOOP
            CALL go_on(run, status, until);
            EXIT WHEN status NOT LIKE 'planning%' OR (SELECT r.phase FROM integration_runs AS r WHERE r.id = run) = until;
            INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id)
            SELECT run, l.kind, l.target, k.key, coalesce((SELECT min(u.external_id) FROM integration_external_records AS u WHERE l.kind = 'user' AND lower(u.attrs ->> 'email') = lower(k.key)), md5(l.kind || '/' || k.key))
              FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key) WHERE l.run_id = run AND l.kind IN ('user', 'group', 'company', 'relation_type');
            UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run;
            COMMIT;
        END LOOP;
    END
    $$;
CREATE VIEW ours AS SELECT i.step, i.entity_type, i.label, i.action, i.state, i.reason FROM integration_run_items AS i
 WHERE i.run_id = (SELECT max(r.id) FROM integration_runs AS r) AND i.step IN ('in', 'in contacts') ORDER BY i.ord, i.label, i.action, i.id;
CREATE VIEW owners AS SELECT ac.role_type, c.display_name, ac.is_primary FROM application_contacts AS ac JOIN contacts AS c ON c.id = ac.contact_id
 WHERE ac.application_id = :sage AND ac.role_type LIKE '%owner' ORDER BY 1, 3 DESC, 2;
DELETE FROM integration_external_records;
INSERT INTO contacts (namespace_id, display_name, email) VALUES (:city, 'Ann Twice', 'ann@riverton.example'), (:city, 'Ann Again', 'ANN@riverton.example '),
    ('22222222-2222-4222-8222-222222222222', 'Not Ours', 'new@riverton.example');
SELECT a_user('Alice Ferreira', 'ALICE.ferreira@riverton.example'), a_user('Ann Twice', 'ann@riverton.example'), a_user('Two One', 'two@riverton.example'), a_user('Two Two', 'Two@riverton.example'),
       a_user('New Comer', 'new@riverton.example'), a_user('No Mail', ''), a_user('Has Left', 'left@riverton.example', '{"active": "false"}'), a_user('Bob Okafor', 'bob.okafor@riverton.example');
SELECT * FROM owners;
-- matched by e-mail, whatever its case; two of one e-mail are told
SELECT new_run('preview') AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours;
SELECT count(*) FROM integration_sync_map WHERE entity_type = 'contact';
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT entity_type, published_name, sync_direction, created_by_us FROM integration_sync_map WHERE entity_type = 'contact' ORDER BY 2;
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours;

-- somebody new; the former owner keeps the row
SELECT named('owned_by', md5('New Comer'));
SELECT new_run('preview') AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE state <> 'held';
SELECT count(*) FROM contacts WHERE display_name = 'New Comer';
UPDATE integration_runs SET status = 'planning', phase = 'recheck', confirm = true WHERE id = :run;
CALL go(:run, NULL);
SELECT * FROM ours WHERE state <> 'held';
SELECT * FROM owners;
SELECT namespace_id = :city AS ours, display_name, email, job_title, phone, contact_category, is_active FROM contacts WHERE email = 'new@riverton.example' ORDER BY 1;
SELECT m.entity_type, m.published_name, m.last_sent_hash IS NOT NULL AS agreed FROM integration_sync_map AS m WHERE m.entity_id = :sage OR m.published_name = 'New Comer' ORDER BY 1;
-- who cannot be told, has left, is unknown, or is not named any more
SELECT named('managed_by', u) FROM unnest(ARRAY[md5('Two One')]) AS u;
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT named('managed_by', md5('Ann Twice'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT named('managed_by', md5('No Mail'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT named('managed_by', md5('Has Left'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT named('managed_by', md5('nobody'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT named('managed_by', '');
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
UPDATE contacts SET is_active = false WHERE email = 'new@riverton.example';
SELECT named('managed_by', md5('New Comer'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE entity_type = 'application';
SELECT * FROM owners WHERE role_type = 'technical_owner';
UPDATE contacts SET is_active = true WHERE email = 'new@riverton.example';
-- the table has something against it: nothing is written, the contact is there for the next time
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
CREATE TRIGGER no BEFORE INSERT ON application_contacts FOR EACH ROW EXECUTE FUNCTION no();
SELECT a_user('Late Comer', 'late@riverton.example'), named('managed_by', md5('Late Comer'));
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE state <> 'held';
SELECT * FROM owners WHERE role_type = 'technical_owner';
DROP TRIGGER no ON application_contacts;
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT * FROM ours WHERE state <> 'held';
SELECT * FROM owners WHERE role_type = 'technical_owner';
-- everything ends between the contact and the role, and again while that is read once more
SELECT a_user('Crash Comer', 'crash@riverton.example'), named('owned_by', md5('Crash Comer'));
SELECT new_run() AS run \gset
CALL go(:run, NULL, 'apply');
SELECT pgsync_itsm.plan_step(:run);
TRUNCATE pgsync_itsm.intake_there, pgsync_itsm.intake_here, pgsync_itsm.intake_refs, pgsync_itsm.merge_rows, pgsync_itsm.merge_before, pgsync_itsm.plan_records, pgsync_itsm.plan_spaces;
SELECT * FROM ours WHERE state <> 'held';
CALL go(:run, NULL, 'apply');
SELECT pgsync_itsm.plan_step(:run);
TRUNCATE pgsync_itsm.intake_there, pgsync_itsm.intake_here, pgsync_itsm.intake_refs, pgsync_itsm.merge_rows, pgsync_itsm.merge_before, pgsync_itsm.plan_records, pgsync_itsm.plan_spaces;
CALL go(:run, NULL);
SELECT * FROM ours WHERE state <> 'held';
SELECT * FROM owners WHERE role_type = 'business_owner';
SELECT count(*) FROM contacts WHERE email = 'crash@riverton.example';
SELECT entity_type, status, count(*) FROM integration_sync_log WHERE run_id = :run GROUP BY 1, 2 ORDER BY 1;
-- whose rights: a member of the owner, and nobody else
CREATE ROLE regress_itsm_stranger;
GRANT USAGE ON SCHEMA pgsync_itsm, itsm TO regress_itsm_stranger;
GRANT EXECUTE ON FUNCTION pgsync_itsm.intake_write(uuid, text, text, text[], text[], text[], text[]), pgsync_itsm.intake_read(uuid, text, text, text[], text[], text[]) TO regress_itsm_stranger;
SET ROLE regress_itsm_stranger;
SELECT * FROM pgsync_itsm.intake_write(:acme, 'contact', 'insert', '{name}', '{x}', '{"{}"}', '{"{}"}');
SELECT * FROM pgsync_itsm.intake_read(:acme, 'contact', 'rows', '{x}');
RESET ROLE;
DROP OWNED BY regress_itsm_stranger;
DROP ROLE regress_itsm_stranger;
-- a name comes in two parts
SELECT w.* FROM pgsync_itsm.try_write(:acme, 'contact', (SELECT id::text FROM contacts WHERE email = 'late@riverton.example'), '{first_name,last_name,phone}', '{Mary Ann,van Dyk,2}') AS w;
SELECT display_name, phone FROM contacts WHERE email = 'late@riverton.example';
SELECT w.* FROM pgsync_itsm.try_write(:acme, 'contact', (SELECT id::text FROM contacts WHERE email = 'late@riverton.example'), '{last_name}', '{Dyk}', '{Mary Ann van Dyk}') AS w;
SELECT display_name FROM contacts WHERE email = 'late@riverton.example';
-- a phone number concerns its contact, and no application
UPDATE integration_connections SET sync_schedule = 'on_change';
DELETE FROM integration_queue;
UPDATE contacts SET phone = '3' WHERE email = 'late@riverton.example';
UPDATE contacts SET department = 'x' WHERE email = 'late@riverton.example';
SELECT op, key_column, cardinality(keys) FROM integration_queue ORDER BY 2;
DELETE FROM integration_queue;
UPDATE contacts SET is_active = true, email = 'later@riverton.example' WHERE email = 'late@riverton.example';
SELECT op, key_column, cardinality(keys) FROM integration_queue ORDER BY 2;
-- types of relationships are asked for
SELECT itsm_set(:acme, 'intake', 'server');
SELECT itsm_set_intake(:acme, 'server', NULL, NULL, NULL);
DELETE FROM integration_references WHERE kind = 'relation_type';
SELECT there('asked');
SELECT new_run() AS run \gset
CALL go(:run, NULL);
SELECT key, external_id IS NOT NULL AS known FROM integration_references WHERE kind = 'relation_type';
SELECT name, operating_system FROM servers WHERE name = 'asked';
-- what is no role
SELECT itsm_set_writer(:acme, 'application', 'public.applications', 'id', '{"owned_by": {"role": "public.application_contacts"}}');
SELECT itsm_set_writer(:acme, 'application', 'public.applications', 'id', '{"owned_by": {"role": "nothing", "record": "a", "holder": "b", "primary": "c"}}');
SELECT itsm_set_writer(:acme, 'application', 'public.applications', 'id', '{"owned_by": {"role": "public.application_contacts", "record": "application_id", "holder": "contact_id", "primary": "is_primary", "set": {"kind": "x"}}}');

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_intake;
DROP ROLE regress_itsm_intake;
