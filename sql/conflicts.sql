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
SELECT itsm_set_writer(:acme, 'application', 'regress_itsm_conflicts.here', 'id', '{"name": "name", "short_description": "summary", "operational_status": "status", "install_status": "status"}');
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id, label)
SELECT :acme, :ns, 'choice', 'cmdb_ci_business_app', f || '/' || v, v, l
  FROM (VALUES ('operational_status', '1', 'Operational'), ('operational_status', '6', 'Retired'), ('operational_status', '3', 'Repair in Progress'), ('install_status', '7', 'Retired')) AS x(f, v, l);
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

-- Many at once -----------------------------------------------------------------------------------------

-- a conflict a record and field, and whether the two sides can decide it
CREATE TABLE many (record text, field text, theirs text, is_there text, theirs_decides boolean);
INSERT INTO many VALUES
    ('one',   'short_description',    'c', 'c', true),
    ('one',   'name',                 'd', 'd', true),
    ('one',   'operational_status',   '3', '3', false),
    ('two',   'name',                 'c', 'c', true),
    ('two',   'business_criticality', '2', '2', false),
    ('three', 'name',                 'c', 'x', NULL),
    ('four',  'name',                 'c', NULL, NULL),
    ('five',  'operational_status',   '6', '6', true),
    -- two fields that are one column here; a trigger that pretends to be a cancellation
    ('six',   'operational_status',   '6', '6', true),
    ('six',   'install_status',       '7', '7', true),
    ('seven', 'short_description',    'c', 'c', true),
    ('z',     'short_description',    'c', 'c', true);
SELECT count(conflict(m.record, m.field, m.theirs, m.is_there)) FROM many AS m;
SELECT itsm_resolve_conflicts(:ns, 'value');
SELECT itsm_resolve_conflicts(NULL, 'ours');
SELECT itsm_resolve_conflicts(:ns, 'ours', 'applications');
SELECT itsm_resolve_conflicts(:ns, 'ours', 'contract');
SELECT itsm_resolve_conflicts('99999999-9999-4999-8999-999999999999', 'ours');
BEGIN;
SELECT itsm_resolve_conflicts(:ns, 'ours');
SELECT count(*) FILTER (WHERE c.state = 'resolved') AS resolved, count(*) FILTER (WHERE m.theirs_decides IS NOT NULL) AS expected,
       count(*) FILTER (WHERE (c.state = 'resolved') <> (m.theirs_decides IS NOT NULL)) AS wrong
  FROM integration_conflicts AS c JOIN many AS m ON m.record = c.label AND m.field = c.field;
SELECT published_name, last_agreed, last_sent_hash FROM integration_sync_map ORDER BY 1;
SELECT full_plan_after IS NOT NULL AS in_full FROM integration_connections;
ROLLBACK;
SET client_min_messages = error;
SELECT itsm_resolve_conflicts(:ns, 'theirs', 'application', 'name');
SET client_min_messages = notice;
SELECT r.kind, r.purpose, r.status, r.phase, i.label, i.action, i.state, i.payload, i.old_values
  FROM integration_runs AS r JOIN integration_run_items AS i ON i.run_id = r.id ORDER BY i.label;
SET client_min_messages = error;
SELECT itsm_resolve_conflicts(:ns, 'theirs');
SET client_min_messages = notice;
SELECT r.id - min(r.id) OVER () AS run, i.label, i.payload FROM integration_runs AS r JOIN integration_run_items AS i ON i.run_id = r.id ORDER BY 1, 2;
SELECT m.*, c.state, c.resolution FROM integration_conflicts AS c JOIN many AS m ON m.record = c.label AND m.field = c.field
 WHERE (c.resolution IS NOT DISTINCT FROM 'theirs') IS DISTINCT FROM coalesce(m.theirs_decides, false);
SELECT itsm_resolve_conflicts(:ns, 'theirs');

-- the runs write it, each record's fields together; a record that cannot be written is decided anew
CREATE PROCEDURE write_decided() LANGUAGE plpgsql AS $$
DECLARE r bigint;
BEGIN
    FOR r IN SELECT id FROM integration_runs WHERE status = 'queued' ORDER BY id LOOP
        UPDATE integration_runs SET status = 'planning' WHERE id = r;
        WHILE pgsync_itsm.plan_step(r) <> 'done' LOOP COMMIT; END LOOP;
        COMMIT;
    END LOOP;
END
$$;
ALTER TABLE regress_itsm_conflicts.here ADD CHECK (id <> 'five' OR status <> 'retired') NOT VALID;
CREATE FUNCTION regress_itsm_conflicts.forge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'canceling statement due to user request' USING ERRCODE = 'query_canceled'; END $$;
CREATE TRIGGER forge BEFORE UPDATE ON regress_itsm_conflicts.here FOR EACH ROW WHEN (OLD.id = 'seven') EXECUTE FUNCTION regress_itsm_conflicts.forge();
CALL write_decided();
SELECT status, done, dead FROM integration_runs ORDER BY id;
SELECT * FROM regress_itsm_conflicts.here ORDER BY id;
SELECT i.label, i.state, regexp_replace(i.reason, '^decided by .*', 'decided by somebody') AS reason FROM integration_run_items AS i ORDER BY i.run_id, i.label;
SELECT label, field, state, resolution FROM conflicts ORDER BY label, field;
-- and what is agreed on it is what was before
SELECT m.record, m.field, s.last_agreed ->> m.field AS agreed
  FROM many AS m JOIN integration_sync_map AS s ON s.published_name = m.record WHERE m.record IN ('five', 'seven', 'six') ORDER BY 1, 2;

-- ten thousand
TRUNCATE integration_conflicts, integration_sync_map, integration_external_records, integration_runs, integration_run_items, regress_itsm_conflicts.here;
SELECT count(conflict('record ' || n, 'name', 'theirs ' || n, 'theirs ' || n)) FROM generate_series(1, 10000) AS n;
ANALYZE integration_conflicts, integration_sync_map, integration_external_records;
BEGIN;
SET LOCAL client_min_messages = error;
SELECT clock_timestamp() AS begun \gset
SELECT itsm_resolve_conflicts(:ns, 'ours');
SELECT clock_timestamp() - :'begun'::timestamptz < interval '20 s' AS "ours in seconds";
ROLLBACK;
SET client_min_messages = error;
SELECT clock_timestamp() AS begun \gset
SELECT itsm_resolve_conflicts(:ns, 'theirs');
SELECT clock_timestamp() - :'begun'::timestamptz < interval '20 s' AS "theirs in seconds";
SET client_min_messages = notice;
SELECT (SELECT count(*) FROM integration_runs) AS runs, (SELECT count(*) FROM integration_run_items) AS items;
TRUNCATE integration_conflicts, integration_sync_map, integration_external_records, integration_runs, integration_run_items, regress_itsm_conflicts.here;

-- Remembered -------------------------------------------------------------------------------------------

-- What is sent stays as it is, whatever rows the mapping has: one of the connection's own, a general one of the site's, one
-- of a class; only the authority becomes another.
CREATE TABLE before (entity_type text, class text, target_field text, mapping text, authority text);
CREATE FUNCTION mapping() RETURNS SETOF before LANGUAGE sql AS $$
    SELECT t.entity_type, k.class, m.target_field, (to_jsonb(m) - 'authority')::text, m.authority
      FROM integration_connections AS c CROSS JOIN unnest(ARRAY['application', 'it_service']) AS t(entity_type) CROSS JOIN unnest(ARRAY['service_offering', 'cmdb_ci_service_technical', 'other']) AS k(class)
     CROSS JOIN LATERAL pgsync_itsm.mapping_for(c.id, t.entity_type, k.class) AS m
$$;
CREATE FUNCTION versions() RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(pgsync_itsm.mapping_version(c.id, t), ' ') FROM integration_connections AS c, unnest(ARRAY['application', 'it_service']) AS t $$;
SELECT itsm_set_mapping(:acme, 'application', 'name', 'upper(name)', authority => 'manual');
SELECT itsm_set_mapping(NULL, 'it_service', 'description', 'name');
SELECT itsm_set_mapping(:acme, 'it_service', 'description', 'name || ''!''', target_class => 'service_offering', value_map => '{"*": "*"}', on_unresolved => 'ignore');
SELECT itsm_set_mapping(NULL, 'it_service', 'description', NULL, target_class => 'cmdb_ci_service_technical');
INSERT INTO before SELECT * FROM mapping();
SELECT versions() AS versions \gset
SELECT pgsync_itsm.remember_side(:acme, t.entity_type, t.field, 'theirs')
  FROM (VALUES ('application', 'short_description'), ('application', 'name'), ('application', 'operational_status'), ('it_service', 'description')) AS t(entity_type, field);
SELECT count(*) AS fields, count(*) FILTER (WHERE m.mapping = b.mapping) AS as_before FROM before AS b FULL JOIN mapping() AS m USING (entity_type, class, target_field);
SELECT m.entity_type, m.class, m.target_field, b.authority AS before, m.authority FROM before AS b JOIN mapping() AS m USING (entity_type, class, target_field) WHERE b.authority <> m.authority ORDER BY 1, 3, 2;
SELECT versions() = :'versions' AS same_hashes;
SELECT connection_id IS NOT NULL AS own, target_class, target_field, authority, expression, value_map, on_unresolved FROM integration_field_mappings
 WHERE entity_type = 'it_service' AND target_field = 'description' AND NOT is_default ORDER BY 1, 2;
SELECT pgsync_itsm.remember_side(:acme, 'application', 'u_none', 'theirs');
-- taken back as the NOTICEs say; what had no row of its own is as it was
SELECT itsm_drop_mapping(:acme, 'application', 'short_description');
SELECT itsm_drop_mapping(:acme, 'application', 'operational_status');
SELECT itsm_set_mapping(:acme, 'application', 'name', 'upper(name)', 'text', NULL, '*', 'warn', authority => 'manual');
SELECT itsm_drop_mapping(:acme, 'it_service', 'description');
SELECT itsm_drop_mapping(:acme, 'it_service', 'description', 'cmdb_ci_service_technical');
SELECT itsm_set_mapping(:acme, 'it_service', 'description', 'name || ''!''', 'text', '{"*": "*"}', 'service_offering', 'ignore', authority => 'policy');
SELECT * FROM mapping() EXCEPT SELECT * FROM before;
SELECT versions() = :'versions' AS same_hashes;

-- with a decision, and logged with who took it
SELECT conflict(r, 'short_description', 'c', 'c'), conflict(r, 'operational_status', '6', '6') FROM unnest(ARRAY['one', 'two', 'three']) AS r;
SELECT itsm_resolve_conflict(min(id), 'value', '"x"', true) FROM integration_conflicts;
SET client_min_messages = error;
SELECT itsm_resolve_conflict(min(id), 'ours', remember => true) FROM integration_conflicts;
SELECT itsm_resolve_conflicts(:ns, 'theirs', field => 'operational_status', remember => true);
SELECT itsm_resolve_conflicts(:ns, 'theirs');
SET client_min_messages = notice;
SELECT target_field, authority FROM integration_field_mappings WHERE connection_id = :acme AND entity_type = 'application' ORDER BY 1;
SELECT c.label, request_payload ->> 'field' AS field, l.operation, l.status, request_payload ->> 'decided' AS decided, request_payload ->> 'remembered' AS remembered,
       request_payload ->> 'by' = current_user AS by_me, l.run_id IS NOT NULL AS with_run
  FROM integration_sync_log AS l JOIN integration_conflicts AS c ON c.id = (l.request_payload ->> 'conflict')::bigint ORDER BY 1, 2;

-- End ------------------------------------------------------------------------------------------------

SET client_min_messages = warning;
DROP FUNCTION conflict, attempt, mapping, versions;
DROP PROCEDURE write_decided;
DROP TABLE many, before;
DROP VIEW conflicts;
DROP EXTENSION pgsync_itsm;
DROP SCHEMA regress_itsm_conflicts CASCADE;
