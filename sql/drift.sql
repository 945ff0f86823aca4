-- Where the two sides differ: by what was agreed, what was read there last, and what is here now.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT current_database() AS main \gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_itsm_drift;
CREATE DATABASE regress_itsm_drift TEMPLATE template0;
\c regress_itsm_drift
SET client_min_messages = warning;
CREATE ROLE regress_itsm_drift_owner;
CREATE ROLE regress_itsm_drift_viewer;
CREATE SCHEMA itsm;
CREATE EXTENSION pgsync_itsm SCHEMA itsm;
SET search_path = public, itsm;
\set acme '''00000000-0000-4000-8000-000000000001'''
\set ns '''11111111-1111-4111-8111-111111111111'''
\set other '''00000000-0000-4000-8000-000000000002'''
\set ns2 '''22222222-2222-4222-8222-222222222222'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, owner, is_active)
VALUES (:acme, :ns, 'servicenow', 'https://acme.service-now.com', 'regress_itsm_drift_owner', true), (:other, :ns2, 'servicenow', 'https://other.service-now.com', 'regress_itsm_drift_owner', true);
CREATE TABLE here (key text PRIMARY KEY, name text, note text, status text, person text, vendor text, comments text, long text, lost text, secret text);
GRANT SELECT ON here TO regress_itsm_drift_owner;
SELECT itsm_set_source(:acme, 'application', 'SELECT h.*, ''apm'' AS management_classification, h.status AS operational_status FROM public.here AS h', 'text');
-- only these fields
INSERT INTO integration_field_mappings (namespace_id, connection_id, platform, entity_type, target_field, ord)
SELECT :ns, :acme, 'servicenow', 'application', m.target_field, 1 FROM integration_field_mappings AS m WHERE m.entity_type = 'application' AND m.is_default AND m.platform = 'servicenow';
SELECT count(itsm_set_mapping(:acme, 'application', m.field, m.expression, kind => m.kind, value_map => m.value_map::jsonb, authority => m.authority))
  FROM (VALUES ('name', 'name', 'text', NULL, 'policy'), ('short_description', 'note', 'text', NULL, 'policy'), ('owned_by', 'person', 'user', NULL, 'policy'),
               ('operational_status', 'status', 'choice', '{"operational": "Operational", "pipeline": "Pipeline|Operational", "retired": "Retired"}', 'policy'),
               ('vendor', 'vendor', 'company', NULL, 'policy'), ('comments', 'comments', 'text', NULL, 'if_empty'), ('u_long', 'long', 'text', NULL, 'policy'),
               ('u_lost', 'lost', 'text', NULL, 'policy')) AS m(field, expression, kind, value_map, authority);
-- what was looked up: columns (one of them is short, one is not there), choices, people, companies
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id, label, attrs, matches)
SELECT :acme, :ns, v.kind, v.target, v.key, v.id, v.label, v.attrs::json, v.matches
  FROM (VALUES ('column', 'cmdb_ci_business_app', 'name', 'name', NULL, '{"max_length": "100"}', 1), ('column', 'cmdb_ci_business_app', 'short_description', 'short_description', NULL, '{}', 1),
               ('column', 'cmdb_ci_business_app', 'owned_by', 'owned_by', NULL, '{"max_length": "3"}', 1), ('column', 'cmdb_ci_business_app', 'operational_status', 'operational_status', NULL, NULL, 1),
               ('column', 'cmdb_ci_business_app', 'vendor', 'vendor', NULL, NULL, 1), ('column', 'cmdb_ci_business_app', 'comments', 'comments', NULL, NULL, 1),
               ('column', 'cmdb_ci_business_app', 'u_long', 'u_long', NULL, '{"max_length": "5"}', 1), ('column', 'cmdb_ci_business_app', 'u_lost', NULL, NULL, NULL, 1),
               ('choice', 'cmdb_ci_business_app', 'operational_status/1', '1', 'Operational', NULL, 1), ('choice', 'cmdb_ci_business_app', 'operational_status/6', '6', 'Retired', NULL, 1),
               ('user', '', 'jane@acme.com', 'id of jane', NULL, NULL, 1), ('user', '', 'joe@acme.com', 'id of joe', NULL, NULL, 1), ('user', '', 'twice@acme.com', 'id of one', NULL, NULL, 2),
               ('user', '', 'nobody@acme.com', NULL, NULL, NULL, 0), ('company', '', 'sun', 'id of sun', NULL, NULL, 1)) AS v(kind, target, key, id, label, attrs, matches);
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction)
VALUES (:acme, :ns, 'company', md5('oracle')::uuid, 'company/oracle', 'id of oracle', 'core_company', 'Oracle Corp', 'subscribed');
SET client_min_messages = notice;

-- What was agreed, is here, was read there last (and when: after or before the last publish), and what is to be said of it.
-- NULL: it was not agreed, or not read; here is the value as the source has it.
CREATE TABLE cases (record text, field text, agreed text, here text, there text, read text, kind text, ours text);
INSERT INTO cases VALUES
    ('nothing',                  'short_description',  'a',           'a',               'a',         'after',  NULL,            NULL),
    ('there',                    'short_description',  'a',           'a',               'b',         'after',  'changed there', 'a'),
    ('here',                     'short_description',  'a',           'b',               'a',         'after',  'changed here',  'b'),
    ('both',                     'short_description',  'a',           'b',               'c',         'after',  'both',          'b'),
    ('both the same',            'short_description',  'a',           'b',               'b',         'after',  NULL,            NULL),
    ('blanks and line ends',     'short_description',  E'a\nb',       E'a\nb ',          E'a\r\nb',   'after',  NULL,            NULL),
    ('emptied there',            'short_description',  'a',           'a',               '',          'after',  'changed there', 'a'),
    ('emptied here',             'short_description',  'a',           NULL,              'a',         'after',  'changed here',  ''),
    ('filled here',              'short_description',  NULL,          'b',               '',          'after',  'changed here',  'b'),
    ('never agreed, empty here', 'short_description',  NULL,          NULL,              'b',         'after',  NULL,            NULL),
    -- the mirror is older than what was sent: it says nothing against it
    ('sent since',               'short_description',  'b',           'b',               'a',         'before', NULL,            NULL),
    ('sent since, here again',   'short_description',  'b',           'c',               'a',         'before', 'changed here',  'c'),
    ('never read',               'short_description',  'b',           'c',               NULL,        NULL,     'changed here',  'c'),
    ('never read, as it was',    'short_description',  'b',           'b',               NULL,        NULL,     NULL,            NULL),
    -- cut as it is when it is sent; a person's column has no length
    ('cut',                      'u_long',             'abcde',       'abcdefgh',        'abcde',     'after',  NULL,            NULL),
    ('cut, and changed',         'u_long',             'abcde',       'abcxefgh',        'abcde',     'after',  'changed here',  'abcxe'),
    ('cut, changed there',       'u_long',             'abcde',       'abcdefgh',        'x',         'after',  'changed there', 'abcde'),
    ('no such column',           'u_lost',             NULL,          'x',               NULL,        'after',  NULL,            NULL),
    -- choices, in the platform's terms; pipeline is not among them, and is the next best
    ('choice',                   'operational_status', '1',           'operational',     '1',         'after',  NULL,            NULL),
    ('choice, next best',        'operational_status', '1',           'pipeline',        '1',         'after',  NULL,            NULL),
    ('choice, here',             'operational_status', '1',           'retired',         '1',         'after',  'changed here',  '6'),
    ('choice, there',            'operational_status', '1',           'operational',     '6',         'after',  'changed there', '1'),
    ('choice, the same',         'operational_status', '1',           'retired',         '6',         'after',  NULL,            NULL),
    -- people and companies, by what was looked up; of whom nothing is known nothing is said
    ('person',                   'owned_by',           'id of jane',  'Jane@acme.com',   'id of jane', 'after', NULL,            NULL),
    ('person, here',             'owned_by',           'id of jane',  'joe@acme.com',    'id of jane', 'after', 'changed here',  'id of joe'),
    ('person, there',            'owned_by',           'id of jane',  'jane@acme.com',   'id of joe',  'after', 'changed there', 'id of jane'),
    ('person, unknown',          'owned_by',           'id of jane',  'new@acme.com',    'id of jane', 'after', NULL,            NULL),
    ('person, not there',        'owned_by',           'id of jane',  'nobody@acme.com', 'id of jane', 'after', NULL,            NULL),
    ('person, two',              'owned_by',           'id of jane',  'twice@acme.com',  'id of joe',  'after', 'changed there', NULL),
    ('company',                  'vendor',             'id of sun',   'Sun',             'id of sun',  'after', NULL,            NULL),
    ('company, by the map',      'vendor',             'id of oracle', 'ORACLE CORP',    'id of oracle', 'after', NULL,          NULL),
    ('company, here',            'vendor',             'id of sun',   'Oracle corp',     'id of sun',  'after', 'changed here',  'id of oracle'),
    -- what the platform has of its own is left to it; it was sent, where nothing was there
    ('if empty, kept',           'comments',           NULL,          'ours',            'theirs',    'after',  NULL,            NULL),
    ('if empty, filled here',    'comments',           NULL,          'ours',            '',          'after',  'changed here',  'ours'),
    ('if empty, there',          'comments',           'ours',        'ours',            'theirs',    'after',  'changed there', 'ours');
INSERT INTO here (key, name, note, status, person, vendor, comments, long, lost)
SELECT record, record, CASE field WHEN 'short_description' THEN here END, CASE field WHEN 'operational_status' THEN here END, CASE field WHEN 'owned_by' THEN here END,
       CASE field WHEN 'vendor' THEN here END, CASE field WHEN 'comments' THEN here END, CASE field WHEN 'u_long' THEN here END, CASE field WHEN 'u_lost' THEN here END FROM cases;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, last_synced_at, last_agreed)
SELECT :acme, :ns, 'application', pgsync_itsm.entity_id('application', record), 'application/' || record, md5(record), 'cmdb_ci_business_app', record, 'published', '2026-02-01',
       pgsync_itsm.merged(json_build_object('name', record), CASE WHEN agreed IS NOT NULL THEN json_build_object(field, agreed) END) FROM cases;
INSERT INTO integration_external_records (connection_id, namespace_id, target, external_table, external_id, name, last_seen, attrs)
SELECT :acme, :ns, 'cmdb_ci_business_app', 'cmdb_ci_business_app', md5(record), record, CASE read WHEN 'after' THEN '2026-03-01' ELSE '2026-01-01' END::timestamptz,
       pgsync_itsm.merged(json_build_object('name', record), CASE WHEN there IS NOT NULL THEN json_build_object(field, there) END) FROM cases WHERE read IS NOT NULL;
CREATE VIEW drift AS SELECT label, field, kind, base, ours, theirs FROM itsm_drift('11111111-1111-4111-8111-111111111111');
SELECT coalesce(c.record, d.label) AS record, c.kind AS expected, d.kind, c.ours AS expected_ours, d.*
  FROM cases AS c FULL JOIN drift AS d ON d.label = c.record AND d.field = c.field WHERE (c.kind, c.ours) IS DISTINCT FROM (d.kind, d.ours);
SELECT kind, count(*) FROM drift GROUP BY 1 ORDER BY 1;
SELECT * FROM drift WHERE kind = 'both' OR label LIKE 'sent since%' OR label = 'never read' ORDER BY label;

-- what the platform did not take was changed by nobody; what waits in the inbox knows what was there before; a conflict says
-- what both had, and is one until it is written
UPDATE integration_sync_map SET not_taken = '{"short_description": "b"}' WHERE published_name = 'filled here';
INSERT INTO integration_inbox (connection_id, namespace_id, origin, external_table, external_id, entity_type, entity_id, before, body)
SELECT m.connection_id, m.namespace_id, 'poll', m.external_table, m.external_id, m.entity_type, m.entity_id, '{"short_description": "before"}', '{"short_description": "b"}'
  FROM integration_sync_map AS m WHERE published_name = 'never agreed, empty here';
INSERT INTO integration_conflicts (connection_id, namespace_id, entity_type, entity_id, field, base, ours, theirs)
SELECT m.connection_id, m.namespace_id, m.entity_type, m.entity_id, 'short_description', 'base', 'seen here', 'b' FROM integration_sync_map AS m WHERE published_name = 'there';
SELECT * FROM drift WHERE label IN ('filled here', 'never agreed, empty here', 'there') ORDER BY 1;

-- gone there, as the map or the inbox knows, and here or not; of somebody else there, or of no concern
INSERT INTO integration_inbox (connection_id, namespace_id, origin, external_table, external_id, entity_type, entity_id)
SELECT m.connection_id, m.namespace_id, 'audit', m.external_table, m.external_id, m.entity_type, m.entity_id FROM integration_sync_map AS m WHERE published_name = 'cut';
UPDATE integration_sync_map SET state = 'gone' WHERE published_name IN ('choice', 'person');
DELETE FROM here WHERE key = 'person';
INSERT INTO integration_external_records (connection_id, namespace_id, target, external_table, external_id, name, attrs)
SELECT c.id, c.namespace_id, v.target, v.target, v.target || c.id, v.name, '{}'
  FROM integration_connections AS c, (VALUES ('cmdb_ci_business_app', 'Of somebody'), ('cmdb_ci_service_auto', 'A service'), ('cmdb_ci_server', 'A server'), ('core_company', 'A company')) AS v(target, name);
SELECT entity_type, entity_id IS NOT NULL AS here, label, field, kind, theirs FROM itsm_drift(:ns) WHERE kind IN ('missing there', 'foreign') ORDER BY kind, label;

-- who may ask: of his namespaces, and of a connection that is theirs
SELECT count(*) FROM itsm_drift(NULL);
SELECT count(*) FROM itsm_drift(:ns, :other);
SELECT count(*) FROM itsm_drift(:ns, '00000000-0000-4000-8000-0000000000ff');
SELECT count(*) FROM itsm_drift('99999999-9999-4999-8999-999999999999');
SELECT itsm_secure('namespace_id::text = current_setting(''site.namespace'', true)');
SELECT itsm_grant('regress_itsm_drift_viewer', 'viewer');
SELECT count(*) AS of_all FROM itsm_drift(:ns) \gset
SELECT md5(string_agg(d::text, '' ORDER BY d::text)) AS rows FROM itsm_drift(:ns) AS d \gset
GRANT regress_itsm_drift_owner TO regress_itsm_drift_viewer;
SET ROLE regress_itsm_drift_viewer;
SET site.namespace = '11111111-1111-4111-8111-111111111111';
SELECT count(*) > 0 AS some, md5(string_agg(d::text, '' ORDER BY d::text)) = :'rows' AS the_same FROM itsm.itsm_drift(:ns) AS d;
SELECT count(*) FROM itsm.itsm_drift(:ns2);
SELECT count(*) FROM itsm.itsm_drift(:ns2, :other);
SELECT count(*) FROM itsm.itsm_drift(:ns, :other);
SET site.namespace = '22222222-2222-4222-8222-222222222222';
SELECT count(*) FROM itsm.itsm_drift(:ns);
SELECT kind, theirs FROM itsm.itsm_drift(:ns2) ORDER BY 2;
SET site.namespace = '11111111-1111-4111-8111-111111111111';
-- who is no member of the owner: what the platform and what was agreed say, and nothing of what is here
RESET ROLE;
REVOKE regress_itsm_drift_owner FROM regress_itsm_drift_viewer;
SET ROLE regress_itsm_drift_viewer;
SELECT kind, count(*), count(ours) AS with_ours FROM itsm.itsm_drift(:ns) GROUP BY 1 ORDER BY 1;
RESET ROLE;
-- what the owner may not read
REVOKE SELECT ON here FROM regress_itsm_drift_owner;
SELECT count(*) FROM itsm_drift(:ns);
GRANT SELECT ON here TO regress_itsm_drift_owner;

-- ten thousand
TRUNCATE here, integration_sync_map, integration_external_records, integration_conflicts, integration_inbox;
INSERT INTO here (key, name, note, status, person, vendor, comments, long)
SELECT n, 'App ' || n, 'Note ' || n, 'operational', 'p' || n || '@acme.com', 'Sun', 'c', repeat('x', 10) FROM generate_series(1, 10000) AS n;
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id) SELECT :acme, :ns, 'user', '', 'p' || n || '@acme.com', 'p' || n FROM generate_series(1, 10000) AS n;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, last_synced_at, last_agreed)
SELECT :acme, :ns, 'application', pgsync_itsm.entity_id('application', n::text), 'application/' || n, md5(n::text), 'cmdb_ci_business_app', 'App ' || n, 'published', '2026-02-01',
       json_build_object('name', 'App ' || n, 'short_description', 'Note ' || n, 'operational_status', '1', 'owned_by', 'p' || n, 'vendor', 'id of sun', 'comments', 'c', 'u_long', 'xxxxx')
  FROM generate_series(1, 10000) AS n;
INSERT INTO integration_external_records (connection_id, namespace_id, target, external_table, external_id, name, attrs)
SELECT m.connection_id, m.namespace_id, 'cmdb_ci_business_app', 'cmdb_ci_business_app', m.external_id, m.published_name,
       CASE WHEN m.native_key LIKE '%99' THEN pgsync_itsm.merged(m.last_agreed, '{"short_description": "There"}') ELSE m.last_agreed END FROM integration_sync_map AS m;
ANALYZE;
SELECT clock_timestamp() AS begun \gset
SELECT kind, count(*) FROM itsm_drift(:ns) GROUP BY 1;
SELECT clock_timestamp() - :'begun'::timestamptz < interval '20 s' AS in_seconds;

\c :main
SET client_min_messages = warning;
DROP DATABASE regress_itsm_drift;
DROP ROLE regress_itsm_drift_owner, regress_itsm_drift_viewer;
