-- Deciding on fields that both sides changed: what keeps a decision from being carried out, many at once.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
CREATE SCHEMA regress_itsm_conflicts;
CREATE TABLE regress_itsm_conflicts.here (id text PRIMARY KEY, name text, summary text, status text);
\set acme '''22222222-2222-4222-8222-222222222222'''
\set ns '''11111111-1111-4111-8111-111111111111'''
INSERT INTO integration_connections (id, namespace_id, platform, instance_url, is_active) VALUES (:acme, :ns, 'servicenow', 'https://acme.service-now.com', true);
SELECT itsm_set_writer(:acme, 'application', 'regress_itsm_conflicts.here', 'id', '{"name": "name", "short_description": "summary", "operational_status": "status"}');
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id, label)
SELECT :acme, :ns, 'choice', 'cmdb_ci_business_app', 'operational_status/' || v, v, l FROM (VALUES ('1', 'Operational'), ('6', 'Retired'), ('3', 'Repair in Progress')) AS x(v, l);
SET client_min_messages = notice;

-- A record with one conflict: base a, ours b, theirs as it was seen; is_there is what the mirror has by now.
CREATE FUNCTION conflict(record text, field text, theirs text, is_there text) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO regress_itsm_conflicts.here VALUES (record, 'b', 'b', 'pipeline') ON CONFLICT DO NOTHING;
    INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, last_agreed, last_sent_hash)
    SELECT c.id, c.namespace_id, 'application', md5(record)::uuid, 'application/' || record, md5('there ' || record), 'cmdb_ci_business_app', record, 'published', json_build_object(field, 'a'), 'sent'
      FROM integration_connections AS c ON CONFLICT (connection_id, entity_id, entity_type) DO UPDATE SET last_agreed = pgsync_itsm.merged(integration_sync_map.last_agreed, excluded.last_agreed);
    INSERT INTO integration_external_records AS x (connection_id, namespace_id, external_table, external_id, attrs)
    SELECT c.id, c.namespace_id, 'cmdb_ci_business_app', md5('there ' || record), json_build_object(field, is_there) FROM integration_connections AS c WHERE is_there IS NOT NULL
    ON CONFLICT (connection_id, external_id) DO UPDATE SET attrs = pgsync_itsm.merged(x.attrs, excluded.attrs);
    INSERT INTO integration_conflicts (connection_id, namespace_id, entity_type, entity_id, label, field, base, ours, theirs)
    SELECT c.id, c.namespace_id, 'application', md5(record)::uuid, record, field, 'a', 'b', theirs FROM integration_connections AS c RETURNING id;
$$;
CREATE VIEW conflicts AS SELECT label, field, ours, theirs, state, resolution FROM integration_conflicts;

-- One by one -----------------------------------------------------------------------------------------

-- What happened since the conflict was found, and what a decision for each side comes to: NULL, it is carried out.
CREATE TABLE expected (record text, field text, theirs text, is_there text, ours text, theirs_side text, value_side text);
INSERT INTO expected VALUES
    ('plain',      'short_description',    'c',   'c',   NULL, NULL, NULL),
    ('blank',      'short_description',    'c',   'c  ', NULL, NULL, NULL),
    ('emptied',    'short_description',    '',    '',    NULL, NULL, NULL),
    ('moved',      'short_description',    'c',   'd',   'short_description was changed there since, to "d"', 'short_description was changed there since, to "d"', 'short_description was changed there since, to "d"'),
    ('moved back', 'short_description',    'c',   'a',   'short_description was changed there since, to "a"', 'short_description was changed there since, to "a"', 'short_description was changed there since, to "a"'),
    ('deleted',    'short_description',    'c',   NULL,  'the record is not there any more', 'the record is not there any more', 'the record is not there any more'),
    ('gone',       'short_description',    'c',   'c',   'the record is not there any more', 'the record is not there any more', 'the record is not there any more'),
    ('forgotten',  'short_description',    'c',   'c',   'the record is not published any more', 'the record is not published any more', 'the record is not published any more'),
    ('choice',     'operational_status',   '6',   '6',   NULL, NULL, '"x" for operational_status is nothing that is known here'),
    ('no choice',  'operational_status',   '3',   '3',   NULL, '"3" for operational_status is nothing that is known here', '"x" for operational_status is nothing that is known here'),
    ('column',     'business_criticality', '2',   '2',   NULL, 'no column here is written for business_criticality', 'no column here is written for business_criticality'),
    ('unmapped',   'u_none',               'c',   'c',   NULL, 'u_none is not mapped any more', 'u_none is not mapped any more');
SELECT count(conflict(e.record, e.field, e.theirs, e.is_there)) FROM expected AS e;
UPDATE integration_sync_map SET state = 'gone' WHERE published_name = 'gone';
DELETE FROM integration_sync_map WHERE published_name = 'forgotten';
CREATE FUNCTION attempt(id bigint, side text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM itsm_resolve_conflict(id, side, CASE side WHEN 'value' THEN '"x"'::jsonb END);
    RAISE EXCEPTION USING MESSAGE = 'carried out', ERRCODE = 'YYYYY';
EXCEPTION WHEN sqlstate 'YYYYY' THEN RETURN NULL; WHEN others THEN RETURN regexp_replace(SQLERRM, '^conflict \d+ cannot be decided for \w+: ', '');
END
$$;
SET client_min_messages = error;
SELECT e.record, s.side, r.result, s.expected
  FROM expected AS e JOIN integration_conflicts AS c ON c.label = e.record
 CROSS JOIN LATERAL (VALUES ('ours', e.ours), ('theirs', e.theirs_side), ('value', e.value_side)) AS s(side, expected)
 CROSS JOIN LATERAL attempt(c.id, s.side) AS r(result) WHERE r.result IS DISTINCT FROM s.expected ORDER BY 1, 2;
SELECT count(*) AS "cannot be decided" FROM expected AS e, unnest(ARRAY[e.ours, e.theirs_side, e.value_side]) AS p(problem) WHERE p.problem IS NOT NULL;
SET client_min_messages = notice;
\set VERBOSITY default
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE label = 'moved'), 'ours');
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE label = 'column'), 'theirs');
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE label = 'plain'), 'value', '{"a": 1}');
\set VERBOSITY terse

-- a decision is taken once, and so is one that a run has still to write
SET client_min_messages = error;
SELECT itsm_resolve_conflict(id, CASE label WHEN 'blank' THEN 'ours' ELSE 'theirs' END) FROM integration_conflicts WHERE label IN ('plain', 'blank') ORDER BY id;
SET client_min_messages = notice;
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE label = 'blank'), 'theirs');
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts WHERE label = 'plain'), 'ours');
SELECT * FROM conflicts WHERE label IN ('plain', 'blank') ORDER BY 1;
SELECT published_name, last_agreed, last_sent_hash FROM integration_sync_map WHERE published_name IN ('plain', 'blank') ORDER BY 1;

-- what is over by itself: gone there, or taken back there; what a run is about to write is not touched
UPDATE integration_sync_map SET state = 'gone' WHERE published_name = 'plain';
SELECT pgsync_itsm.conflicts_overtaken(:acme);
SELECT label, state, resolution, resolved_by IS NOT NULL AS by_somebody FROM integration_conflicts WHERE label IN ('plain', 'gone', 'moved', 'moved back') ORDER BY 1;

DROP TABLE expected;
TRUNCATE integration_conflicts, integration_sync_map, integration_external_records, integration_runs, integration_run_items, regress_itsm_conflicts.here;

-- End ------------------------------------------------------------------------------------------------

SET client_min_messages = warning;
DROP FUNCTION conflict, attempt;
DROP VIEW conflicts;
DROP EXTENSION pgsync_itsm;
DROP SCHEMA regress_itsm_conflicts CASCADE;
