-- The ServiceNow configuration package as XML, and the check-list.  What the facts should be is written out here from
-- section 11 of the API's reference; test/t/060_package.pl has the simulator read the same package.
\set SHOW_CONTEXT never
SET client_min_messages = error;
DROP EXTENSION IF EXISTS pgsync_itsm CASCADE;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
CREATE ROLE regress_itsm_package;
GRANT USAGE ON SCHEMA itsm, pgsync_itsm TO regress_itsm_package;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA itsm, pgsync_itsm TO regress_itsm_package;
GRANT SELECT ON ALL TABLES IN SCHEMA itsm TO regress_itsm_package;
SET search_path = public, itsm;
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text; state text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN others THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(state || ': ' || message || coalesce(E'\n  ' || nullif(detail, ''), '') || coalesce(E'\n  ' || nullif(hint, ''), ''),
                          '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', 'g');
END
$$;
SELECT itsm_connect_servicenow('11111111-1111-4111-8111-111111111111', 'https://acme.service-now.com', client_id => 'rabbit-hole-1',
           client_secret => 'wonderland-1', username => 'white-rabbit', password => 'wonderland-2', name => 'first "<&>" name') AS made \gset
\set conn 00000000-0000-4000-8000-000000000001
UPDATE integration_connections SET id = :'conn' WHERE id = :'made';
SELECT set_config('package.conn', :'conn', false) AS ignored \gset
CREATE FUNCTION package(VARIADIC more text[] DEFAULT '{}') RETURNS xml LANGUAGE plpgsql AS $$
DECLARE
    result xml;
BEGIN
    EXECUTE format('SELECT itsm_update_set(%L%s)', current_setting('package.conn'), (SELECT string_agg(', ' || m, '') FROM unnest(more) AS m)) INTO result;
    RETURN result;
END
$$;
-- every update, and the record within it
CREATE FUNCTION updates(doc xml) RETURNS TABLE (n integer, update_name text, type text, title text, payload xml) LANGUAGE sql AS $$
    SELECT u.n, u.update_name, u.type, u.title, xmlparse(DOCUMENT u.payload)
      FROM XMLTABLE('/unload/sys_update_xml' PASSING doc
                    COLUMNS n FOR ORDINALITY, update_name text PATH 'name', type text, title text PATH 'target_name', payload text) AS u
$$;
CREATE FUNCTION fields(record xml, path text) RETURNS TABLE (field text, value text) LANGUAGE sql AS $$
    SELECT f.field, f.value FROM XMLTABLE((path || '/*') PASSING record COLUMNS field text PATH 'name()', value text PATH '.') AS f
$$;

-- the same call, the same bytes; ASCII; well-formed with its declaration
SELECT package()::text = package()::text AS same, package()::text ~ '^[\n -~]*$' AS ascii,
       xmlserialize(DOCUMENT package() AS text) LIKE '<?xml version="1.0" encoding="UTF-8"?>%' AS declared, package() IS DOCUMENT AS document;
-- nothing of the credentials, nor of their references
SELECT package('getinsync_url => ''https://gateway.example.com/itsm''', 'with_identification_rules => true', 'with_legacy_precedence => true')::text
       ~ ('rabbit|wonderland|secret:|assword|' || :'conn') AS leaks;
SELECT count(*) AS "secrets there are" FROM pgsync_itsm.integration_secrets;

-- the head: one update set, first, loaded, columns in the order of their names
SELECT string_agg((xpath('name(/*)', e.x))[1]::text, ' ' ORDER BY e.n) AS elements
  FROM unnest(xpath('/unload/*', package())) WITH ORDINALITY AS e(x, n);
SELECT field, value FROM fields(package(), '/unload/sys_remote_update_set') WHERE value <> '' AND field NOT LIKE '%sys_id';
CREATE FUNCTION children(record xml, path text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(c.name ORDER BY c.n) FROM XMLTABLE((path) PASSING record COLUMNS n FOR ORDINALITY, name text PATH 'name()') AS c
$$;
SELECT count(*) AS records, bool_and(names = ARRAY(SELECT n FROM unnest(names) AS n ORDER BY n COLLATE "C")) AS "in order"
  FROM (SELECT children(e.x, '/*/*') FROM unnest(xpath('/unload/*', package('with_identification_rules => true'))) AS e(x)
        UNION ALL
        SELECT children(payload, '/record_update[@table]/*/*') FROM updates(package('with_identification_rules => true')) WHERE n > 1) AS s(names);
-- every update points back, every sys_id is one and there once, names fit their records
SELECT count(*) AS updates, bool_and(back = id AND shown = 'GetInSync integration') AS "points back"
  FROM (SELECT unnest(xpath('/unload/sys_update_xml/remote_update_set/text()', package()))::text AS back,
               unnest(xpath('/unload/sys_update_xml/remote_update_set/@display_value', package()))::text AS shown,
               (xpath('/unload/sys_remote_update_set/sys_id/text()', package()))[1]::text AS id) AS s;
SELECT count(*) = count(DISTINCT id) AS once, bool_and(id ~ '^[0-9a-f]{32}$') AS "are ids"
  FROM (SELECT unnest(xpath('/unload/*/sys_id/text()', package()))::text AS id
        UNION ALL SELECT unnest(xpath('/record_update/*/sys_id/text()', payload))::text FROM updates(package())) AS s;
SELECT regexp_replace(update_name, '[0-9a-f]{32}', '<id>') AS update_name, type, title,
       update_name = (xpath('string(/record_update/@table)', payload))[1]::text || '_'
                     || coalesce((xpath('/record_update/*/sys_id/text()', payload))[1]::text, '') AS fits
  FROM updates(package()) ORDER BY n;

-- the choice: our value and no other is replaced
SELECT xpath('/record_update/*/@*', payload) AS wrapper, (xpath('/record_update/*/sys_choice[1]/@query', payload))[1] AS query,
       array_length(xpath('/record_update/*/sys_choice[@action="INSERT_OR_UPDATE"]', payload), 1) AS rows
  FROM updates(package()) WHERE type = 'Choice list';
SELECT field, value FROM updates(package()) AS u, fields(u.payload, '/record_update/*/sys_choice[2]') WHERE type = 'Choice list' AND field NOT LIKE 'sys\_%';
SELECT count(*) AS choices FROM updates(package('with_data_source => false')) WHERE type = 'Choice list';
SELECT type FROM updates(package('choice_type => ''Choice''')) WHERE n = 1;

-- rules: inactive, with the precedence asked for, about the attributes that this connection writes
SELECT u.title, field, value FROM updates(package()) AS u, fields(u.payload, '/record_update/*')
 WHERE type = 'Reconciliation Definition' AND field NOT LIKE 'sys\_%' ORDER BY n, field;
SELECT u.title, field, value FROM updates(package('rules_active => true', 'priority => 90', 'with_legacy_precedence => true')) AS u,
       fields(u.payload, '/record_update/*') WHERE field IN ('active', 'priority', 'order') ORDER BY n, field;
SELECT itsm_set_mapping(:'conn', 'application', 'short_description', NULL);
SELECT itsm_set(:'conn', 'life_cycle_write', 'legacy');
SELECT value FROM updates(package()) AS u, fields(u.payload, '/record_update/*') WHERE type = 'Reconciliation Definition' AND field = 'attributes' ORDER BY n;
SELECT itsm_drop_mapping(:'conn', 'application', 'short_description');
SELECT itsm_set(:'conn', 'life_cycle_write', NULL);
SELECT count(*) AS rules FROM updates(package('with_reconciliation_rules => false')) WHERE type LIKE 'Reconciliation%';

-- identification rules: on request, by correlation_id and then name; entries come with their rule
SELECT count(*) AS rules FROM updates(package()) WHERE type LIKE 'Identifier%';
SELECT type, u.title, string_agg(field || '=' || regexp_replace(value, '[0-9a-f]{32}', '<id>'), ' ' ORDER BY field COLLATE "C") AS record
  FROM updates(package('with_identification_rules => true')) AS u, fields(u.payload, '/record_update/*')
 WHERE type LIKE 'Identifier%' AND field NOT LIKE 'sys\_%' GROUP BY n, type, title ORDER BY n;

-- the REST message: the address of the instance, or of the gateway; no columns of authentication
SELECT u.title, field, regexp_replace(value, '[0-9a-f]{32}', '<id>') AS value FROM updates(package()) AS u, fields(u.payload, '/record_update/*')
 WHERE type IN ('REST Message', 'HTTP Method', 'HTTP Header') AND field NOT LIKE 'sys\_%' ORDER BY n, field;
SELECT u.title, field, regexp_replace(value, '[0-9a-f]{32}', '<id>') AS value
  FROM updates(package('getinsync_url => ''https://gateway.example.com/itsm''')) AS u, fields(u.payload, '/record_update/*')
 WHERE u.title IN ('GetInSync', 'Notify', 'Content-Type') AND field IN ('rest_endpoint', 'content', 'http_method', 'value') ORDER BY n, field;
SELECT count(*) AS messages FROM updates(package('with_rest_message => false')) WHERE type LIKE 'REST%';

-- plain records: the same ones
SELECT (xpath('name(/*)', e.x))[1] AS record, (xpath('/*/sys_id/text()', e.x))[1]::text
       IN (SELECT unnest(xpath('//sys_id/text()', payload))::text FROM updates(package())) AS same
  FROM unnest(xpath('/unload/*', package('form => ''records'''))) AS e(x);

-- names that need escaping, another source, one that the platform brings
SELECT itsm_set(:'conn', 'source_name', U&'R&D <"]]> \00E9\+01F600');
SELECT value, package()::text ~ '^[\n -~]*$' AS ascii FROM updates(package()), fields(payload, '/record_update/*/sys_choice[2]') WHERE n = 1 AND field = 'value';
SELECT (xpath('/unload/sys_remote_update_set/name/text()', package()))[1] AS name;
SELECT itsm_set(:'conn', 'source_name', 'Other Automated');
SET client_min_messages = notice;
SELECT count(*) AS choices FROM updates(itsm_update_set(:'conn', priority => 100)) WHERE type = 'Choice list';
SET client_min_messages = error;
SELECT pgsync_itsm.package_id('sys_choice', 'GetInSync') <> pgsync_itsm.package_id('sys_choice', 'GetInSync 2') AS "an id for each source";

-- what is refused
SELECT attempt(format('SELECT itsm_set(%L, ''source_name'', %L), package()', :'conn', s.name))
  FROM (VALUES ('A^ORvalue=ServiceNow'), (' A'), (''), ('javascript:gs.getUserID()'), (repeat('x', 41)), (E'a\nb')) AS s(name);
SELECT itsm_set(:'conn', 'source_name', repeat(U&'\+01F600', 40));
SELECT length(value) AS "are good" FROM updates(package()), fields(payload, '/record_update/*/sys_choice[2]') WHERE n = 1 AND field = 'value';
SELECT itsm_set(:'conn', 'source_name', NULL);
SELECT attempt(format('SELECT package(%L)', o.option))
  FROM (VALUES ('priority => 0'), ('priority => NULL'), ('form => ''zip'''), ('choice_type => '''''),
               ('getinsync_url => ''http://gateway.example.com'''), ('getinsync_url => ''https://user:wonderland@gateway.example.com'''),
               ('getinsync_url => ''https://gateway.example.com/?token=wonderland'''), ('getinsync_url => ''https://gateway.example.com/itsm''')) AS o(option);
SELECT attempt('SELECT package(''with_data_source => false'', ''with_reconciliation_rules => false'', ''with_rest_message => false'')');
SELECT attempt('SELECT itsm_update_set(NULL)');
SELECT attempt('SELECT itsm_update_set(''99999999-9999-4999-8999-999999999999'')');
SELECT attempt('SELECT * FROM itsm_checklist(''99999999-9999-4999-8999-999999999999'', false)');
INSERT INTO integration_connections (namespace_id, platform, instance_url)
VALUES ('22222222-2222-4222-8222-222222222222', 'haloitsm', 'https://acme.haloitsm.com') RETURNING id AS halo \gset
SELECT attempt(format('SELECT itsm_update_set(%L)', :'halo'));
SELECT attempt(format('SELECT * FROM itsm_checklist(%L)', :'halo'));
-- somebody else's: not visible, or visible and not owned
SET ROLE regress_itsm_package;
SELECT attempt(format('SELECT itsm_update_set(%L)', :'conn'));
RESET ROLE;
SELECT itsm_secure('true');
SET ROLE regress_itsm_package;
SELECT regexp_replace(attempt(format('SELECT itsm_update_set(%L)', :'conn')), 'owner is .*', 'owner is <owner>.');
SELECT regexp_replace(attempt(format('SELECT * FROM itsm_checklist(%L, false)', :'conn')), 'owner is .*', 'owner is <owner>.');
RESET ROLE;

-- the check-list, from what is known here
SELECT item, state FROM itsm_checklist(:'conn', look_up => false);
SELECT bool_and(look_in <> '' AND why <> '') AS "says where and why" FROM itsm_checklist(:'conn', look_up => false);
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id, attrs, fetched_at)
SELECT :'conn', '11111111-1111-4111-8111-111111111111', 'column', 'cmdb_ci_business_app', k, k, json_build_object('mandatory', m), '2026-03-01 10:00:00+00'
  FROM (VALUES ('it_application_owner', 'true'), ('name', 'false')) AS v(k, m);
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, sync_direction)
VALUES (:'conn', '11111111-1111-4111-8111-111111111111', 'application', gen_random_uuid(), 'application/1', repeat('a', 32), 'cmdb_ci_business_app', 'published');
SELECT item, state FROM itsm_checklist(:'conn', look_up => false) WHERE state <> 'look';
-- an address that must not be asked: said, and nothing is made up
UPDATE integration_connections SET instance_url = 'https://acme.example.com' WHERE id = :'conn';
SET client_min_messages = warning;
SELECT item, state FROM itsm_checklist(:'conn') WHERE state <> 'look';
SET client_min_messages = error;
-- an address with a user in it, however it came there, loses it
UPDATE integration_connections SET instance_url = 'https://alice:wonderland@acme.service-now.com' WHERE id = :'conn';
SELECT package()::text ~ 'alice|wonderland' AS leaks;

DROP EXTENSION pgsync_itsm CASCADE;
DROP SCHEMA itsm;
DROP OWNED BY regress_itsm_package;
DROP ROLE regress_itsm_package;
DROP FUNCTION attempt(text), package(text[]), updates(xml), fields(xml, text), children(xml, text);
