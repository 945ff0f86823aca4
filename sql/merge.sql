-- Three-way merging: whose value holds, by who changed it, by the authority of the field and by the policy of the connection.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION pgsync_itsm;
SET client_min_messages = notice;

-- The table: what happened, authority, policy, and what must come of it.  Base is a, a change here makes it b (or empties it),
-- one there c.
CREATE TABLE expected (happened text, authority text, policy text, result text);
INSERT INTO expected VALUES
    ('nothing',               '*',        '*',               'nothing'),
    ('here only',             '*',        '*',               'nothing'),
    ('the same on both',      '*',        '*',               'agreed'),
    ('there only',            'ours',     '*',               'ours'),
    ('there only',            'if_empty', '*',               'ours'),
    ('there only',            '*',        '*',               'theirs'),
    ('filled there only',     'ours',     '*',               'ours'),
    ('filled there only',     '*',        '*',               'theirs'),
    ('emptied here',          'ours',     '*',               'ours'),
    ('emptied here',          'if_empty', '*',               'theirs'),
    ('emptied here',          'theirs',   '*',               'theirs'),
    ('emptied here',          'newest',   '*',               'conflict'),
    ('emptied here',          'manual',   '*',               'conflict'),
    ('emptied here',          'policy',   'local_wins',      'ours'),
    ('emptied here',          'policy',   'remote_wins',     'theirs'),
    ('emptied here',          'policy',   '*',               'conflict'),
    ('both, there later',     'ours',     '*',               'ours'),
    ('both, there later',     'if_empty', '*',               'ours'),
    ('both, there later',     'theirs',   '*',               'theirs'),
    ('both, there later',     'newest',   '*',               'theirs'),
    ('both, there later',     'manual',   '*',               'conflict'),
    ('both, there later',     'policy',   'manual',          'conflict'),
    ('both, there later',     'policy',   'last_write_wins', 'theirs'),
    ('both, there later',     'policy',   'local_wins',      'ours'),
    ('both, there later',     'policy',   'remote_wins',     'theirs'),
    ('both, here later',      'ours',     '*',               'ours'),
    ('both, here later',      'if_empty', '*',               'ours'),
    ('both, here later',      'theirs',   '*',               'theirs'),
    ('both, here later',      'newest',   '*',               'ours'),
    ('both, here later',      'manual',   '*',               'conflict'),
    ('both, here later',      'policy',   'manual',          'conflict'),
    ('both, here later',      'policy',   'last_write_wins', 'ours'),
    ('both, here later',      'policy',   'local_wins',      'ours'),
    ('both, here later',      'policy',   'remote_wins',     'theirs'),
    ('both, in one second',   'ours',     '*',               'ours'),
    ('both, in one second',   'if_empty', '*',               'ours'),
    ('both, in one second',   'theirs',   '*',               'theirs'),
    ('both, in one second',   'policy',   'local_wins',      'ours'),
    ('both, in one second',   'policy',   'remote_wins',     'theirs'),
    ('both, in one second',   '*',        '*',               'conflict');

CREATE VIEW happened AS
    SELECT * FROM (VALUES
        ('nothing',             'a', 'a', 'a', NULL::timestamptz, NULL::timestamptz),
        ('here only',           'a', 'b', 'a', NULL, NULL),
        ('the same on both',    'a', 'c', 'c', NULL, NULL),
        ('there only',          'a', 'a', 'c', NULL, NULL),
        ('filled there only',   '',  '',  'c', NULL, NULL),
        ('emptied here',        'a', '',  'c', NULL, NULL),
        ('both, there later',   'a', 'b', 'c', '2026-01-01 10:00:00+00', '2026-01-01 10:00:01+00'),
        ('both, here later',    'a', 'b', 'c', '2026-01-01 10:00:01.5+00', '2026-01-01 10:00:00+00'),
        ('both, in one second', 'a', 'b', 'c', '2026-01-01 10:00:00.9+00', '2026-01-01 10:00:00+00')) AS h(happened, base, ours, theirs, ours_at, theirs_at);

-- every combination, against the first row of the table that speaks of it
SELECT h.happened, a.authority, p.policy, r.result, e.result AS expected
  FROM happened AS h
 CROSS JOIN unnest(ARRAY['policy', 'ours', 'theirs', 'newest', 'if_empty', 'manual']) AS a(authority)
 CROSS JOIN unnest(ARRAY['manual', 'last_write_wins', 'local_wins', 'remote_wins']) AS p(policy)
 CROSS JOIN LATERAL (SELECT pgsync_itsm.merge_decision(h.base, h.ours, h.theirs, a.authority, p.policy, h.ours_at, h.theirs_at) AS result) AS r
  LEFT JOIN LATERAL (SELECT x.result FROM expected AS x
                      WHERE x.happened = h.happened AND x.authority IN (a.authority, '*') AND x.policy IN (p.policy, '*')
                      ORDER BY x.authority = '*', x.policy = '*' LIMIT 1) AS e ON true
 WHERE r.result IS DISTINCT FROM e.result;
SELECT count(*) AS combinations FROM happened, generate_series(1, 6) AS authorities, generate_series(1, 4) AS policies;

-- choices go back to what the mapping made them from
INSERT INTO integration_connections (id, namespace_id, platform, instance_url)
VALUES ('22222222-2222-4222-8222-222222222222', '11111111-1111-4111-8111-111111111111', 'servicenow', 'https://acme.service-now.com');
INSERT INTO integration_references (connection_id, namespace_id, kind, target, key, external_id, label)
SELECT '22222222-2222-4222-8222-222222222222', '11111111-1111-4111-8111-111111111111', 'choice', 'cmdb_ci_business_app', 'operational_status/' || v, v, l
  FROM (VALUES ('1', 'Operational'), ('6', 'Retired'), ('3', 'Repair in Progress'), ('9', 'Pipeline')) AS x(v, l);
SELECT theirs, l.* FROM unnest(ARRAY['1', '6', '3', '9', '77', '']) AS t(theirs),
    LATERAL pgsync_itsm.local_value('22222222-2222-4222-8222-222222222222', 'cmdb_ci_business_app', 'operational_status', 'choice',
        '{"operational": "Operational", "pipeline": "Pipeline|Operational", "retired": "Retired"}', t.theirs) AS l;
SELECT map, theirs, l.* FROM unnest(ARRAY['{"retired": "Retired", "*": "Operational"}', '{"retired": "Retired", "*": "*"}']) AS m(map), unnest(ARRAY['1', '6', '9']) AS t(theirs),
    LATERAL pgsync_itsm.local_value('22222222-2222-4222-8222-222222222222', 'cmdb_ci_business_app', 'operational_status', 'choice', m.map::jsonb, t.theirs) AS l;
SELECT kind, l.* FROM unnest(ARRAY['text', 'date', 'user', 'life_cycle_stage']) AS k(kind),
    LATERAL pgsync_itsm.local_value('22222222-2222-4222-8222-222222222222', 'cmdb_ci_business_app', 'f', k.kind, NULL, 'x') AS l;

-- a text of which only the beginning was sent is not shortened unasked
SELECT here, sent, pgsync_itsm.is_cut(here, sent)
  FROM (VALUES ('abcdef', 'abc'), ('abc', 'abc'), ('abc  ', 'abc'), (E'a\r\nbc', E'a\nb'), ('xbc', 'abc'), ('abc', ''), (NULL, 'abc'), ('abc', NULL)) AS x(here, sent);

-- what is no setting, and no side
SELECT itsm_set('22222222-2222-4222-8222-222222222222', 'conflict_policy', 'ours');
SELECT itsm_set('22222222-2222-4222-8222-222222222222', 'sync_direction', 'sideways');
SELECT itsm_set('22222222-2222-4222-8222-222222222222', 'sync_direction', 'both');
SELECT sync_direction, settings ? 'sync_direction' AS as_setting FROM integration_connections;
SELECT itsm_resolve_conflict(1, 'ours');
SELECT itsm_resolve_conflict(NULL, 'ours');
INSERT INTO integration_conflicts (connection_id, namespace_id, entity_type, entity_id, field, base, ours, theirs)
SELECT c.id, c.namespace_id, 'application', md5('1')::uuid, 'name', 'a', 'b', 'c' FROM integration_connections AS c;
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts), 'mine');
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts), 'ours');
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, sync_direction, last_agreed, last_sent_hash)
SELECT c.id, c.namespace_id, 'application', md5('1')::uuid, 'application/1', md5('x'), 'cmdb_ci_business_app', 'published', '{"name": "a", "short_description": "1"}', 'hash' FROM integration_connections AS c;
INSERT INTO integration_external_records (connection_id, namespace_id, external_table, external_id, attrs)
SELECT c.id, c.namespace_id, 'cmdb_ci_business_app', md5('x'), '{"name": "c", "short_description": "3"}' FROM integration_connections AS c;
SELECT itsm_set_writer(c.id, 'application', 'public.expected', 'happened', '{"short_description": "result"}') FROM integration_connections AS c;
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts), 'ours');
SELECT state, resolution, resolved_by = current_user AS by_me FROM integration_conflicts;
SELECT last_agreed, last_sent_hash FROM integration_sync_map;
SELECT itsm_resolve_conflict((SELECT id FROM integration_conflicts), 'theirs');
INSERT INTO integration_conflicts (connection_id, namespace_id, entity_type, entity_id, field, base, ours, theirs)
SELECT c.id, c.namespace_id, 'application', md5('1')::uuid, 'short_description', '1', '2', '3' FROM integration_connections AS c;
SET client_min_messages = error;
SELECT itsm_resolve_conflict((SELECT max(id) FROM integration_conflicts), 'value', '"4"');
SET client_min_messages = notice;
SELECT r.kind, r.purpose, r.status, r.phase, i.action, i.state, i.payload, i.old_values, i.reason LIKE 'decided by %' AS decided
  FROM integration_runs AS r JOIN integration_run_items AS i ON i.run_id = r.id;

-- what was read and written here has not been sent: what is known of the platform's record stays
UPDATE integration_sync_map SET last_sync_hash = 'seen';
UPDATE integration_run_items SET state = 'done';
SELECT pgsync_itsm.finish_run(max(id), 'cancelled') FROM integration_runs;
SELECT last_sync_hash FROM integration_sync_map;
SELECT last_sync_at FROM integration_connections;

-- A field that is empty here, and was when the record was sent, has not been changed here: what the platform has of its own
-- is nothing that we win over, and nothing that anybody is asked about.
CREATE TABLE sides (n integer, agreed text, before text, here text, there text, authority text, decision text);
INSERT INTO sides VALUES
    (1, NULL, 'a', NULL, 'b', 'policy',   'theirs'),
    (2, NULL, 'a', NULL, 'b', 'newest',   'theirs'),
    (3, NULL, 'a', NULL, 'b', 'manual',   'theirs'),
    (4, NULL, 'a', NULL, 'b', 'theirs',   'theirs'),
    (5, NULL, 'a', NULL, 'b', 'if_empty', 'theirs'),
    (6, NULL, 'a', NULL, 'b', 'ours',     'ours'),
    (7, NULL, 'a', NULL, '',  'policy',   'agreed'),
    -- it was filled here, or emptied
    (8, NULL, 'a', 'c',  'b', 'policy',   'ours'),
    (9, 'a',  'a', NULL, 'b', 'policy',   'ours'),
    (10, 'a', 'a', 'a',  'b', 'policy',   'theirs');
TRUNCATE integration_runs, integration_run_items, integration_sync_map, integration_external_records, integration_conflicts;
SELECT itsm_set(id, 'conflict_policy', 'local_wins') FROM integration_connections;
INSERT INTO integration_runs (namespace_id, connection_id, kind) SELECT namespace_id, id, 'subscribe' FROM integration_connections;
SELECT count(itsm_set_mapping(c.id, 'application', 'u_' || n, 'name', authority => s.authority)) FROM sides AS s, integration_connections AS c;
SELECT itsm_set_writer(c.id, 'application', 'public.expected', 'happened', (SELECT jsonb_object_agg('u_' || n, 'result') FROM sides)) FROM integration_connections AS c;
INSERT INTO integration_sync_map (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, sync_direction, last_agreed)
SELECT c.id, c.namespace_id, 'application', md5('1')::uuid, 'application/1', 'x', 'cmdb_ci_business_app', 'published', (SELECT json_object_agg('u_' || n, agreed) FROM sides WHERE agreed IS NOT NULL) FROM integration_connections AS c;
INSERT INTO integration_inbox (connection_id, namespace_id, origin, external_table, external_id, entity_type, entity_id, before, body)
SELECT c.id, c.namespace_id, 'poll', 'cmdb_ci_business_app', 'x', 'application', md5('1')::uuid, (SELECT json_object_agg('u_' || n, before) FROM sides), (SELECT json_object_agg('u_' || n, there) FROM sides) FROM integration_connections AS c;
INSERT INTO pgsync_itsm.plan_records (run_id, entity_type, entity_id, native_key, payload)
SELECT r.id, 'application', md5('1')::uuid, 'application/1', (SELECT json_object_agg('u_' || n, here) FROM sides WHERE here IS NOT NULL) FROM integration_runs AS r;
SELECT pgsync_itsm.merge_compare(r) FROM integration_runs AS r;
SELECT s.n, s.authority, s.decision AS expected, m.decision FROM sides AS s LEFT JOIN pgsync_itsm.merge_rows AS m ON m.field = 'u_' || s.n WHERE m.decision IS DISTINCT FROM s.decision;
SELECT count(*) AS compared FROM pgsync_itsm.merge_rows;

DROP TABLE sides;
DROP VIEW happened;
DROP TABLE expected;
DROP EXTENSION pgsync_itsm;
