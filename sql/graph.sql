-- The CSDM picture of the sample portfolio, without a platform: what is asked is answered here, what would be sent is agreed here.
\set SHOW_CONTEXT never
\getenv abs_srcdir PG_ABS_SRCDIR
\getenv abs_builddir PG_ABS_BUILDDIR
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_graph;
CREATE DATABASE regress_itsm_graph TEMPLATE template0;
\c regress_itsm_graph
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
\pset format unaligned
\set city '''11111111-1111-4111-8111-111111111111'''
\set county '''22222222-2222-4222-8222-222222222222'''
\set sage '''aaaaaaaa-0001-4000-8000-000000000001'''

-- There are users, groups and relationship types of every name there, and nothing else.
CREATE FUNCTION answer(run bigint) RETURNS void LANGUAGE sql
    AS $$
        INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, attrs)
        SELECT run, l.kind, l.target, k.key, md5(l.kind || '/' || k.key), NULL
          FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
         WHERE l.run_id = run AND l.kind IN ('user', 'group', 'company', 'relation_type', 'contract_model')
        UNION ALL
        SELECT run, l.kind, l.target, m.external_id, m.external_id, m.last_agreed
          FROM pgsync_itsm.lookups AS l, integration_sync_map AS m WHERE l.run_id = run AND l.kind = 'record' AND m.external_id = ANY (l.keys);
        UPDATE pgsync_itsm.lookups SET state = 'done' WHERE run_id = run
    $$;
CREATE FUNCTION plan(of_namespace uuid, kind text DEFAULT 'publish') RETURNS bigint LANGUAGE plpgsql
    AS $$
    DECLARE
        run bigint;
        what text := '';
    BEGIN
        INSERT INTO integration_runs (namespace_id, connection_id, kind, confirm, status)
        SELECT c.namespace_id, c.id, plan.kind, true, 'planning' FROM integration_connections AS c WHERE c.namespace_id = of_namespace ORDER BY c.name LIMIT 1
        RETURNING id INTO run;
        WHILE what <> 'done' LOOP
            what := pgsync_itsm.plan_step(run);
            IF what = 'wait' THEN
                PERFORM answer(run);
            END IF;
        END LOOP;
        RETURN run;
    END
    $$;
-- The platform takes all of it but what is called like this.
CREATE FUNCTION agree(run bigint, refuse text DEFAULT NULL) RETURNS void LANGUAGE sql
    AS $$
        UPDATE integration_run_items SET state = 'dead', error_class = 'record:403', reason = 'there is no right to write this'
         WHERE run_id = run AND state = 'pending' AND label ~ refuse;
        SELECT pgsync_itsm.settle_map(r.connection_id, array_agg(ROW(i.id, 'done', CASE i.action WHEN 'CREATE' THEN 'create' ELSE 'update' END,
                   coalesce(i.external_id, md5(i.native_key)), i.external_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, i.step, i.action, false)::pgsync_itsm.answer))
          FROM integration_run_items AS i JOIN integration_runs AS r ON r.id = i.run_id
         WHERE i.run_id = run AND i.state = 'pending' AND i.action IN ('CREATE', 'UPDATE', 'DELETE') GROUP BY r.connection_id;
        UPDATE integration_run_items SET state = 'done' WHERE run_id = run AND state = 'pending' AND action IN ('CREATE', 'UPDATE', 'DELETE');
        UPDATE integration_runs SET status = 'done' WHERE id = run
    $$;
-- The picture is read back from the SVG, as XML where the server has libxml.
CREATE FUNCTION classes(svg text, element text) RETURNS SETOF text LANGUAGE plpgsql
    AS $$
    BEGIN
        RETURN QUERY SELECT unnest(xpath('//s:' || element || '[s:title]/@class', xmlparse(document svg), ARRAY[ARRAY['s', 'http://www.w3.org/2000/svg']]))::text;
    EXCEPTION WHEN feature_not_supported THEN
        RETURN QUERY SELECT m[1] FROM regexp_matches(svg, '<' || element || '[^>]* class="([^"]*)"[^>]*><title>', 'g') AS m;
    END
    $$;
CREATE FUNCTION picture(of_namespace uuid, application uuid DEFAULT NULL) RETURNS TABLE (what text, in_step bigint, new bigint, changed bigint, in_error bigint) LANGUAGE sql
    AS $$
        WITH svg AS MATERIALIZED (SELECT itsm_graph(of_namespace, application, 'svg') AS x),
             parts AS (SELECT 1 AS n, c FROM svg, classes(x, 'g') AS c UNION ALL SELECT 2, replace(c, 'line ', '') FROM svg, classes(x, 'path') AS c)
        SELECT split_part(c, ' ', 1), count(*) FILTER (WHERE c ~ ' in_step$'), count(*) FILTER (WHERE c ~ ' new$'),
               count(*) FILTER (WHERE c ~ ' changed$'), count(*) FILTER (WHERE c ~ ' in_error$')
          FROM parts GROUP BY n, 1 ORDER BY n, 1
    $$;

-- Before there is a connection all that would be published is new.  By hand, from the sample and its README:
-- applications 32, less 15 and 16 (retired) and 21 (not apm): 29.  Profiles in scope 42 of applications, less those of 15 and 16, and 3 without: 43.
-- Services 12, less two private ones and a retired one: 9.  Products 12, less 9, which nothing is linked to: 11.  Contracts with a vendor that is
-- known not to be internal: 13.
-- Lines: consumes 40 profiles less the one of 21: 39.  Depends on: 17 profiles times 3, and ten more: 61.  Runs on 19.  Data flows, told twice
-- only once: 6.  Contracts cover: 14.
SELECT * FROM picture(:city);
-- The other tenant's: three applications with a profile each, one service, one product, no profile of them told to be out of scope.
SELECT * FROM picture(:county);

-- With a connection the sources are read as its owner, filters applied; then a plan, and the platform takes what it is given.  Held are
-- applications 2 and 3, profiles 2501 and 2502, services 7 and 8, a contract with two ends: not published, nor lines to them (15).
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, settings, is_active, first_publish_at)
VALUES ('00000000-0000-4000-8000-000000000001', :city, 'servicenow', 'https://acme.service-now.com', '{"default_owner": "admin"}', true, now());
SELECT * FROM picture(:city) WHERE in_step + changed + in_error > 0;
SELECT plan(:city) AS run \gset
SELECT * FROM picture(:city) WHERE in_step + changed > 0;
SELECT agree(:run);
SELECT * FROM picture(:city);

-- One application: its profiles, what they depend and run on, whom they send data to, and the contracts about all that.
-- By hand: 2 profiles and 2 that they send to; services 1, 2, 4, 5, 6; products 1, 3, 5; contracts RH-77, VMW-4411, the long one of Sage, and
-- ORA-2026-77, which is held.
SELECT * FROM picture(:city, :sage);
SELECT itsm_graph(:city, :sage, 'mermaid');
-- read by keys it is what the whole picture has of it
SELECT count(*) AS boxes_and_lines, count(w.line) AS in_the_whole_picture
  FROM regexp_split_to_table(itsm_graph(:city, :sage), '\n') AS o(line)
  LEFT JOIN regexp_split_to_table(itsm_graph(:city), '\n') AS w(line) ON w.line = o.line
 WHERE o.line ~ '^  [a-z]+_[0-9a-f]{32} ';

-- The documentation has the picture as it is now, one application having changed since and one having come.  Where one of these is false, run this test with KEEP=1
-- and copy results/csdm.* from tmp_check/regress to doc.
UPDATE applications SET description = 'Another text' WHERE id = :sage;
INSERT INTO applications (id, workspace_id, owner_workspace_id, name, management_classification)
SELECT 'aaaaaaaa-0001-4000-8000-000000009000', workspace_id, owner_workspace_id, 'Election Results', 'apm' FROM applications WHERE id = :sage;
\set written `cat doc/csdm.dot`
SELECT rtrim(itsm_graph(:city), E'\n') = :'written' AS "doc/csdm.dot is the picture";
\set written `cat doc/csdm.svg`
SELECT rtrim(itsm_graph(:city, format => 'svg'), E'\n') = :'written' AS "doc/csdm.svg is the picture";
\set file :abs_builddir '/results/csdm.dot'
SELECT rtrim(itsm_graph(:city), E'\n') \g (format=unaligned tuples_only=on) :file
\set file :abs_builddir '/results/csdm.svg'
SELECT rtrim(itsm_graph(:city, format => 'svg'), E'\n') \g (format=unaligned tuples_only=on) :file

-- Changes here that no plan has seen: a new record with all that formats interpret, a link that is gone, one that is new, a profile
-- out of scope.
INSERT INTO applications (id, workspace_id, owner_workspace_id, name, management_classification)
SELECT 'aaaaaaaa-0001-4000-8000-000000009001', workspace_id, owner_workspace_id,
       E'  Two\nlines\x01 of "text" \\N <b>&amp;</b> #35; %%{init}%% `x`; \U0001F333 ' || chr(65535) || repeat(U&'\5E02', 290), 'apm' FROM applications WHERE id = :sage;
DELETE FROM deployment_profile_it_services WHERE deployment_profile_id = 'dddddddd-0001-4000-8000-000000000101' AND it_service_id = '55555555-0001-4000-8000-000000000006';
INSERT INTO deployment_profile_it_services (deployment_profile_id, it_service_id, relationship_type)
VALUES ('dddddddd-0001-4000-8000-000000000102', '55555555-0001-4000-8000-000000000004', 'depends_on');
UPDATE deployment_profiles SET sn_sync_scope = 'none' WHERE id = 'dddddddd-0001-4000-8000-000000001401';
SELECT * FROM picture(:city) WHERE new + changed > 0;
SELECT * FROM picture(:city, :sage) WHERE new + changed > 0;
SELECT trim(line) AS line FROM regexp_split_to_table(itsm_graph(:city), '\n') AS o(line)
 WHERE line ~ '(no longer|changed here)' OR line LIKE '%(not published yet)%' AND line ~ '(000000000102 ->|9001 )' ORDER BY line COLLATE "C";
SELECT trim(line) AS line FROM regexp_split_to_table(itsm_graph(:city, format => 'mermaid'), '\n') AS o(line) WHERE line ~ '^  app_[0-9a-f]*000(7|8|9|10|9001)\[';
SELECT line FROM regexp_split_to_table(itsm_graph(:city, format => 'svg'), '\n') AS o(line) WHERE line ~ '^<g id="app_[0-9a-f]*000(8|9|10|9001)"';
SELECT m[1] AS label, length(m[1]) FROM regexp_matches(itsm_graph(:city), 'app_[0-9a-f]*0007 \[label="([^"]*)"') AS m;

-- It writes nothing.
BEGIN READ ONLY;
SELECT length(itsm_graph(:city)) > 0 AS drawn;
COMMIT;

-- Every line of DOT and Mermaid is one of these forms, whatever the names are; what is listed is the frame.
SELECT line FROM regexp_split_to_table(itsm_graph(:city), '\n') AS o(line)
 WHERE line !~ '^ *[a-z_0-9]+( -> [a-z_0-9]+)? \[([a-z]+=("([^"\\]|\\["\\])*"|[a-z]+)(, )?)+\];$' AND line !~ '^  { rank=same; column_[1-4](; [a-z]+_[0-9a-f]{32})+; }$';
SELECT line FROM regexp_split_to_table(itsm_graph(:city, format => 'mermaid'), '\n') AS o(line)
 WHERE line !~ '^ +[a-z_0-9]+(\[\[|\(\[|\[\(|>|\[)"[^"\\<>&`%]+"(\]\]|\]\)|\)\]|\]):::[a-z_]+$'
   AND line !~ '^  [a-z_0-9]+ (-->|<-->|-\.->)\|"[A-Za-z ]+"\| [a-z_0-9]+$' AND line !~ '^  linkStyle [0-9,]+ stroke:#[0-9a-f]{6}$';

-- The next plan: application 4 is new again and refused, and that stays so until it is sent once more; a preview in between does not change it.
DELETE FROM integration_sync_map WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000004';
SELECT plan(:city) AS run \gset
SELECT * FROM picture(:city) WHERE what = 'application';
SELECT agree(:run, '^Payroll$');
SELECT * FROM picture(:city) WHERE what = 'application';
SELECT plan(:city, 'preview') AS run \gset
SELECT * FROM picture(:city) WHERE what = 'application';
SELECT substring(line FROM '<title>.*</title>') AS title FROM regexp_split_to_table(itsm_graph(:city, format => 'svg'), '\n') AS o(line) WHERE line ~ '^<g id="app_[0-9a-f]*0004"';
UPDATE integration_runs SET status = 'done' WHERE status IN ('planned', 'running');
SELECT agree(plan(:city));
SELECT * FROM picture(:city) WHERE what = 'application';
-- what is known to be deleted there
UPDATE integration_sync_map SET state = 'gone' WHERE entity_id = 'aaaaaaaa-0001-4000-8000-000000000004';
SELECT substring(line FROM '<title>.*</title>') AS title FROM regexp_split_to_table(itsm_graph(:city, format => 'svg'), '\n') AS o(line) WHERE line ~ '^<g id="app_[0-9a-f]*0004"';

-- Who may not read the sources sees what is published and planned, and nothing of another namespace.
CREATE ROLE regress_itsm_viewer IN ROLE authenticated;
SELECT itsm_grant('regress_itsm_viewer', 'viewer');
SELECT itsm_secure('namespace_id = public.get_current_namespace_id()');
INSERT INTO integration_connections (id, namespace_id, platform, instance_url) VALUES ('00000000-0000-4000-8000-000000000002', :county, 'servicenow', 'https://county.service-now.com');
CREATE TEMP TABLE seen AS SELECT * FROM picture(:city);
SELECT set_config('request.jwt.claims', '{"sub": "eeeeeeee-0001-4000-8000-000000000003"}', false) IS NOT NULL AS "is a viewer";
GRANT SELECT ON seen TO regress_itsm_viewer;
SET ROLE regress_itsm_viewer;
-- all but the line to the profile that went out of scope, of which a plan says nothing
SELECT * FROM picture(:city) EXCEPT SELECT * FROM seen;
SET client_min_messages = notice;
SELECT length(itsm_graph(:city, :sage, 'svg')) > 0 AS drawn;
SET client_min_messages = warning;
SELECT itsm_graph(:county);
SELECT itsm_graph(:city, 'aaaaaaaa-0002-4000-8000-000000000001');
RESET ROLE;
SELECT itsm_secure('namespace_id = ''11111111-1111-4111-8111-111111111111''');
GRANT SELECT ON namespaces TO regress_itsm_viewer;
ALTER TABLE namespaces DISABLE ROW LEVEL SECURITY;
SET ROLE regress_itsm_viewer;
SELECT itsm_graph(:county);
RESET ROLE;

-- Mistakes.
SELECT itsm_graph(NULL);
SELECT itsm_graph('99999999-9999-4999-8999-999999999999');
SELECT itsm_graph(:city, format => 'png');
SELECT itsm_graph(:city, format => NULL);
SELECT itsm_graph(:city, 'aaaaaaaa-0002-4000-8000-000000000001');
SELECT itsm_graph(:city, 'aaaaaaaa-0001-4000-8000-000000000021');

-- Of two connections the worse state counts: nothing was sent through the second one.
INSERT INTO integration_connections (namespace_id, platform, name, instance_url, is_active) VALUES (:city, 'servicenow', 'second', 'https://two.service-now.com', true);
SELECT sum(in_step + changed) AS in_step_or_changed, sum(new) > 200 AS new, sum(in_error) AS in_error FROM picture(:city);
DELETE FROM integration_connections WHERE name = 'second';

-- Another shape: keys that are no uuids, services as containers, relationships to models.
SELECT itsm_set_source('00000000-0000-4000-8000-000000000002', 'application',
    'SELECT ''k-'' || n AS key, ''App '' || n AS name, ''apm''::text AS management_classification FROM pg_catalog.generate_series(1, 2) AS n', 'text');
SELECT itsm_graph(:county, pgsync_itsm.entity_id('application', 'k-2'), 'mermaid');
SELECT itsm_graph(:county, pgsync_itsm.entity_id('application', 'k-3'), 'mermaid');
SELECT itsm_set('00000000-0000-4000-8000-000000000002', 'csdm_profile', 'csdm'), itsm_set('00000000-0000-4000-8000-000000000002', 'runs_on_as', 'relation');
SELECT trim(line) AS line FROM regexp_split_to_table(itsm_graph(:county), '\n') AS o(line) WHERE line ~ '(service|product)_.*->|-> (service|product)_' ORDER BY line COLLATE "C";
SELECT itsm_set('00000000-0000-4000-8000-000000000002', 'runs_on_as', 'off');
SELECT * FROM picture(:county);

-- Nothing at all.
INSERT INTO namespaces (id, name, slug) VALUES ('33333333-3333-4333-8333-333333333333', 'Nobody', 'nobody');
SELECT itsm_graph('33333333-3333-4333-8333-333333333333');
SELECT itsm_graph('33333333-3333-4333-8333-333333333333', format => 'mermaid');
SELECT count(*) FROM picture('33333333-3333-4333-8333-333333333333');

-- Detached: what is published stays in the picture, and is found in no source.
SELECT itsm_detach_getinsync();
SELECT itsm_graph('33333333-3333-4333-8333-333333333333');
SELECT sum(in_step) AS in_step, sum(new) AS new, sum(changed) > 200 AS changed FROM picture(:city);

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_graph;
DROP ROLE regress_itsm_viewer;
