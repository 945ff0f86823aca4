-- Rollback: the inverse of a run.  What the database knows is shown at once (rollback_rows); the run that is made of it
-- then looks at what is there now, and leaves alone what somebody has changed since.

CREATE FUNCTION pgsync_itsm.same_value(a text, b text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN rtrim(replace(coalesce(a, ''), E'\r\n', E'\n')) = rtrim(replace(coalesce(b, ''), E'\r\n', E'\n'));
COMMENT ON FUNCTION pgsync_itsm.same_value(text, text) IS 'Are two values of a field the same but for line ends and trailing blanks; empty and NULL are';

CREATE FUNCTION pgsync_itsm.merged(old json, new json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (coalesce(old::jsonb, '{}') || coalesce(new::jsonb, '{}'))::json;
COMMENT ON FUNCTION pgsync_itsm.merged(json, json) IS 'Two objects in one; of a member that both have, the second''s value';

-- Relationships go first, so that nothing is taken away by the platform together with one of its ends.
CREATE FUNCTION pgsync_itsm.rollback_ord(ord integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1000 - ord - CASE WHEN ord BETWEEN 90 AND 120 THEN 100 ELSE 0 END;
COMMENT ON FUNCTION pgsync_itsm.rollback_ord(integer) IS 'Position of a step in a rollback, by its position in a publish';

CREATE FUNCTION pgsync_itsm.rollback_method(method text, classes jsonb, entity_type text, external_table text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(classes ->> external_table, classes ->> entity_type, method);
COMMENT ON FUNCTION pgsync_itsm.rollback_method(text, jsonb, text, text) IS 'retire or delete: by table there, else by entity type, else the general one';

-- The rules of what may be deleted are those of a publish as well, where it deletes what was deleted here (62_retire.sql).
CREATE FUNCTION pgsync_itsm.takes_back(kind text, action text, payload_hash text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN kind = 'rollback' OR action = 'DELETE' AND coalesce(payload_hash, '') = 'retired';
COMMENT ON FUNCTION pgsync_itsm.takes_back(text, text, text) IS
'Is an item looked at there before it is sent: all of a rollback; in a publish deletions of records, and what goes with them';

-- What a run brought about --------------------------------------------------------------------------

CREATE TYPE pgsync_itsm.rollback_effect AS (ord integer, step text, entity_type text, entity_id uuid, native_key text, label text, action text,
    state text, payload json, old_values json, external_id text, external_table text, parent_type text, parent_id uuid, child_type text, child_id uuid,
    rel_type text, ours boolean, heard boolean, in_map boolean, map_state text, agreed json, overtaken text);
COMMENT ON TYPE pgsync_itsm.rollback_effect IS
'What an item of a run did, or may have done (cancelled, dead: sent, and never answered); ours: it made the record; heard: the platform said so itself; overtaken: why it is another run''s by now';

CREATE FUNCTION pgsync_itsm.rollback_effects(run_id bigint) RETURNS SETOF pgsync_itsm.rollback_effect
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT r.id, r.connection_id, r.created_at FROM @extschema@.integration_runs AS r WHERE r.id = rollback_effects.run_id
    ), later AS MATERIALIZED (
        -- what another run did and what was undone of it cancel each other out
        SELECT n.run_id, n.entity_type, n.entity_id, n.updated_at
          FROM run AS r
          JOIN @extschema@.integration_runs AS x ON x.connection_id = r.connection_id AND x.id <> r.id AND x.kind = 'publish'
           AND coalesce(x.finished_at, 'infinity') >= r.created_at
          JOIN @extschema@.integration_run_items AS n ON n.run_id = x.id AND n.state = 'done' AND n.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
         WHERE NOT EXISTS (SELECT FROM @extschema@.integration_runs AS b
                             JOIN @extschema@.integration_run_items AS u ON u.run_id = b.id AND u.state IN ('done', 'unchanged')
                            WHERE b.kind = 'rollback' AND b.rolls_back = n.run_id AND u.entity_type = n.entity_type AND u.entity_id = n.entity_id)
    ), mine AS MATERIALIZED (
        -- by their order in time, not by a join: whatever the planner thinks of how many these are, there are thousands
        SELECT t.item, min(t.run_id) OVER (PARTITION BY t.entity_id, t.entity_type ORDER BY t.updated_at
                                           RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING EXCLUDE GROUP) AS by_run
          FROM (SELECT i AS item, i.entity_id, i.entity_type, i.updated_at, NULL::bigint AS run_id
                  FROM run AS r
                  JOIN @extschema@.integration_run_items AS i
                    ON i.run_id = r.id AND (i.state IN ('done', 'unchanged') OR i.state IN ('cancelled', 'dead') AND (i.in_doubt OR i.unheard))
                UNION ALL SELECT NULL, l.entity_id, l.entity_type, l.updated_at, l.run_id FROM later AS l) AS t
    )
    SELECT i.ord, i.step, i.entity_type, i.entity_id, i.native_key, i.label, i.action, i.state, i.payload, i.old_values,
           -- a relationship that was removed and made again is the same one under another id
           CASE WHEN i.parent_id IS NULL THEN i.external_id ELSE coalesce(m.external_id, i.external_id) END,
           CASE WHEN i.parent_id IS NULL THEN i.external_table ELSE coalesce(m.external_table, i.external_table) END,
           i.parent_type, i.parent_id, nullif(i.child_type, ''), i.child_id, i.rel_type,
           i.action = 'CREATE' AND i.state IN ('done', 'unchanged') AND (coalesce(i.operation, '') = 'create' OR i.unheard) AND coalesce(m.created_by_us, false),
           -- what a second attempt made, or found, counts as created, and may be somebody else's
           coalesce(i.operation, '') = 'create' AND NOT i.unheard AND coalesce(i.reason, '') NOT LIKE 'found%', m.id IS NOT NULL, m.state, m.last_agreed,
           CASE WHEN n.by_run IS NOT NULL THEN format('changed by run %s since', n.by_run)
                WHEN i.parent_id IS NULL AND m.external_id <> i.external_id THEN 'another record there is published for it by now' END
      FROM run AS r CROSS JOIN mine AS n CROSS JOIN LATERAL (SELECT (n.item).*) AS i
      LEFT JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = r.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
     WHERE n.item IS DISTINCT FROM NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_effects(bigint) IS 'What a run did there, record by record, and what the map and later runs say of it';

CREATE TYPE pgsync_itsm.rollback_row AS (ord integer, step text, entity_type text, entity_id uuid, native_key text, label text, action text, state text,
    payload json, old_values json, payload_hash text, external_id text, external_table text, parent_type text, parent_id uuid,
    child_type text, child_id uuid, rel_type text, rel_type_id text, heard boolean, reason text);
COMMENT ON TYPE pgsync_itsm.rollback_row IS 'An item of a rollback: as in integration_run_items; old_values: what is expected to be there now';

-- How the instance calls what is retired, class by class; only what a plan has learned of it counts.
CREATE FUNCTION pgsync_itsm.rollback_retired(connection_id uuid) RETURNS TABLE (external_table text, payload jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH known AS MATERIALIZED (
        SELECT r.kind, r.target, r.key, r.external_id, r.label FROM @extschema@.integration_references AS r
         WHERE r.connection_id = rollback_retired.connection_id AND r.external_id IS NOT NULL
           AND (r.kind = 'choice' AND lower(r.label) = 'retired' AND split_part(r.key, '/', 1) IN ('operational_status', 'install_status')
                OR r.kind = 'life_cycle' AND (r.target, r.key) IN (('life_cycle_stage', 'end of life'), ('life_cycle_stage_status', 'retired'))
                OR r.kind = 'column' AND r.key IN ('life_cycle_stage', 'life_cycle_stage_status'))
    ), pair AS (
        SELECT p.target AS field, p.external_id AS value FROM known AS p
         WHERE p.kind = 'life_cycle' AND pgsync_itsm.setting(rollback_retired.connection_id, 'life_cycle_write') <> 'legacy'
           AND (SELECT count(DISTINCT q.target) FROM known AS q WHERE q.kind = 'life_cycle') = 2
    ), statuses AS (
        SELECT k.target, split_part(k.key, '/', 1) AS field, k.external_id AS value FROM known AS k WHERE k.kind = 'choice'
    )
    SELECT s.target, jsonb_object_agg(s.field, s.value)
             || coalesce((SELECT jsonb_object_agg(p.field, p.value) FROM pair AS p
                           WHERE (SELECT count(*) FROM known AS c WHERE c.kind = 'column' AND c.target = s.target) = 2), '{}')
      FROM statuses AS s GROUP BY s.target HAVING bool_or(s.field = 'operational_status')
    UNION ALL
    -- HaloITSM hides what is not in use any more; a status is taken along where it has one of that name
    SELECT h.class, h.payload || coalesce((SELECT jsonb_build_object('status_id', min(r.external_id)) FROM @extschema@.integration_references AS r
                                            WHERE r.connection_id = rollback_retired.connection_id AND r.kind = 'choice' AND r.target = h.class AND lower(r.label) = 'retired'
                                           HAVING count(*) > 0), '{}')
      FROM (VALUES ('business_application', '{"inactive": "true"}'::jsonb), ('application_instance', '{"inactive": "true"}'), ('software', '{"inactive": "true"}'),
                   ('software_licence', '{"is_active": "false"}'), ('service', '{"showinusercatalog": "false", "showintechcatalog": "false"}')) AS h(class, payload)
     WHERE pgsync_itsm.is_halo(rollback_retired.connection_id);
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_retired(uuid) IS 'Values that retire a record, by class, as far as the cache of references holds them';

-- Matched is not owned, and what was there before is not ours to take away.
CREATE FUNCTION pgsync_itsm.rollback_created(run_id bigint, method text, classes jsonb) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH retired AS MATERIALIZED (
        SELECT t.external_table, t.payload FROM @extschema@.integration_runs AS r
         CROSS JOIN LATERAL pgsync_itsm.rollback_retired(r.connection_id) AS t WHERE r.id = rollback_created.run_id
    ), made AS (
        SELECT e.*, t.payload AS retire,
               CASE WHEN NOT e.ours THEN 'SKIP'
                    WHEN e.parent_id IS NOT NULL
                         OR pgsync_itsm.rollback_method(rollback_created.method, rollback_created.classes, e.entity_type, e.external_table) = 'delete' THEN 'DELETE'
                    WHEN t.payload IS NOT NULL THEN 'UPDATE' ELSE 'SKIP' END AS undo
          FROM pgsync_itsm.rollback_effects(rollback_created.run_id) AS e
          LEFT JOIN retired AS t ON t.external_table = e.external_table
             AND e.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
         WHERE e.action IN ('CREATE', 'MATCH') AND e.in_map AND e.state IN ('done', 'unchanged')
           -- what was removed already, and is there by now, was made by another run
           AND (e.entity_type, e.entity_id) NOT IN (
               SELECT u.entity_type, u.entity_id
                 FROM @extschema@.integration_runs AS b
                 JOIN @extschema@.integration_run_items AS u ON u.run_id = b.id AND u.state IN ('done', 'unchanged') AND u.action = 'DELETE'
                WHERE b.kind = 'rollback' AND b.rolls_back = rollback_created.run_id)
    )
    SELECT pgsync_itsm.rollback_ord(e.ord), e.step, e.entity_type, e.entity_id, e.native_key, e.label, e.undo,
           CASE WHEN e.undo = 'SKIP' THEN 'skipped' WHEN e.overtaken IS NOT NULL THEN 'held' ELSE 'planned' END,
           CASE WHEN e.undo = 'UPDATE' THEN (e.retire || jsonb_build_object('name', coalesce(e.agreed ->> 'name', e.label)))::json END,
           CASE WHEN e.undo = 'UPDATE' THEN e.agreed END, CASE WHEN e.undo = 'UPDATE' THEN 'retired' END,
           e.external_id, e.external_table, e.parent_type, e.parent_id, e.child_type, e.child_id, e.rel_type, NULL::text, e.heard,
           CASE WHEN e.action = 'MATCH' THEN 'was there before (matched): never deleted'
                WHEN NOT e.ours THEN 'the platform had it already: never deleted, and what it was before is not known'
                WHEN e.undo = 'SKIP' AND e.entity_type IN ('company', 'contact', 'contract', 'software_product')
                     THEN format('%s are not retired, only deleted: method => ''delete''',
                          CASE e.entity_type WHEN 'company' THEN 'companies' ELSE replace(e.entity_type, '_', ' ') || 's' END)
                WHEN e.undo = 'SKIP' THEN format('no retired state of %s is known: left as it is', e.external_table)
                ELSE e.overtaken END
      FROM made AS e
     WHERE NOT (e.ours AND e.parent_id IS NULL AND e.undo <> 'DELETE' AND e.map_state = 'retired');
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_created(bigint, text, jsonb) IS 'The inverse of what a run created or matched';

-- Field by field: what was written goes back to what was read before.
CREATE FUNCTION pgsync_itsm.rollback_changed(run_id bigint) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH undone AS MATERIALIZED (
        SELECT DISTINCT u.entity_type, u.entity_id, f.field
          FROM @extschema@.integration_runs AS b
          JOIN @extschema@.integration_run_items AS u ON u.run_id = b.id AND u.state IN ('done', 'unchanged')
           AND u.action IN ('UPDATE', 'CLEAR') AND u.payload_hash = 'restored'
         CROSS JOIN LATERAL json_each_text(u.payload) AS f(field, value)
         WHERE b.kind = 'rollback' AND b.rolls_back = rollback_changed.run_id
           -- not the name that only said which CI was meant
           AND NOT pgsync_itsm.same_value(f.value, u.old_values ->> f.field)
    ), fields AS MATERIALIZED (
        SELECT e.ord, e.step, e.entity_type, e.entity_id, e.native_key, e.label, e.external_id, e.external_table, e.overtaken, e.agreed, e.payload,
               v.field, v.value AS written, e.old_values ->> v.field AS old, coalesce(e.old_values::jsonb ? v.field, false) AS known
          FROM pgsync_itsm.rollback_effects(rollback_changed.run_id) AS e
         CROSS JOIN LATERAL json_each_text(e.payload) AS v(field, value)
         -- of what was never answered, a look at what is there tells
         WHERE e.action IN ('UPDATE', 'CLEAR') AND e.state IN ('done', 'cancelled', 'dead') AND e.in_map AND NOT starts_with(v.field, '_')
           AND NOT (coalesce(e.old_values::jsonb ? v.field, false) AND pgsync_itsm.same_value(e.old_values ->> v.field, v.value))
           AND (e.entity_type, e.entity_id, v.field) NOT IN (SELECT u.entity_type, u.entity_id, u.field FROM undone AS u)
    ), items AS (
        SELECT f.entity_type, f.entity_id,
               CASE WHEN NOT f.known THEN 'SKIP' WHEN coalesce(f.old, '') = '' THEN 'CLEAR' ELSE 'UPDATE' END AS action,
               min(f.ord) AS ord, min(f.step) AS step, min(f.native_key) AS native_key, min(f.label) AS label, min(f.external_id) AS external_id,
               min(f.external_table) AS external_table, min(f.overtaken) AS overtaken,
               jsonb_object_agg(f.field, coalesce(f.old, '')) AS payload, json_object_agg(f.field, f.written ORDER BY f.field) AS old_values,
               min(coalesce(f.payload ->> '_is_internal', f.agreed ->> '_is_internal')) AS internal, string_agg(f.field, ', ' ORDER BY f.field) AS names
          FROM fields AS f GROUP BY 1, 2, 3
    )
    SELECT pgsync_itsm.rollback_ord(i.ord), i.step, i.entity_type, i.entity_id, i.native_key, i.label, i.action,
           CASE WHEN i.action = 'SKIP' THEN 'skipped' WHEN i.overtaken IS NOT NULL THEN 'held' ELSE 'planned' END,
           CASE i.action WHEN 'SKIP' THEN NULL
                -- the adapter sends no contract that does not say what it is
                WHEN 'UPDATE' THEN (i.payload || CASE WHEN i.entity_type = 'contract' AND i.internal IS NOT NULL
                         THEN jsonb_build_object('_is_internal', i.internal) ELSE '{}' END)::json
                ELSE i.payload::json END,
           i.old_values, 'restored', i.external_id, i.external_table, NULL::text, NULL::uuid, NULL::text, NULL::uuid, NULL::text, NULL::text, true,
           CASE WHEN i.action = 'SKIP' THEN format('what it was before is not known: %s', i.names) ELSE i.overtaken END
      FROM items AS i;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_changed(bigint) IS 'The inverse of the updates of a run, as far as it is not undone already';

-- A record that was deleted is made again of the values that it had then: of those that we write there, but for references
-- to what went with it.
CREATE FUNCTION pgsync_itsm.rollback_deleted(run_id bigint) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH gone AS MATERIALIZED (
        SELECT r.connection_id, e.* FROM @extschema@.integration_runs AS r CROSS JOIN LATERAL pgsync_itsm.rollback_effects(r.id) AS e
         WHERE r.id = rollback_deleted.run_id AND e.action = 'DELETE' AND e.state = 'done' AND e.parent_id IS NULL
    )
    SELECT pgsync_itsm.rollback_ord(g.ord), g.step, g.entity_type, g.entity_id, g.native_key, g.label,
           CASE WHEN g.in_map OR v.payload IS NULL THEN 'SKIP' ELSE 'CREATE' END, CASE WHEN g.in_map OR v.payload IS NULL THEN 'skipped' ELSE 'planned' END,
           v.payload, NULL::json, 'restored', NULL::text, g.external_table, NULL::text, NULL::uuid, NULL::text, NULL::uuid, NULL::text, NULL::text, true,
           CASE WHEN g.in_map THEN 'published again since' WHEN v.payload IS NULL THEN 'what it was before is not known' END
      FROM gone AS g
      LEFT JOIN LATERAL (
           SELECT json_object_agg(f.field, f.value ORDER BY f.field) AS payload FROM json_each_text(g.old_values) AS f(field, value)
            WHERE f.value <> ''
              AND (f.field IN ('_is_internal', 'name')
                   OR f.field IN (SELECT m.target_field FROM pgsync_itsm.mapped_fields(g.connection_id, g.entity_type) AS m
                                   WHERE m.target_class IN ('*', g.external_table)))
              AND f.value NOT IN (SELECT o.external_id FROM gone AS o WHERE o.external_id IS NOT NULL)) AS v ON true;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_deleted(bigint) IS 'The inverse of the records that a run deleted';

CREATE FUNCTION pgsync_itsm.rollback_removed(run_id bigint) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH made AS MATERIALIZED (
        SELECT x.entity_type, x.entity_id, x.label FROM pgsync_itsm.rollback_deleted(rollback_removed.run_id) AS x WHERE x.state = 'planned'
    )
    SELECT pgsync_itsm.rollback_ord(e.ord), e.step, e.entity_type, e.entity_id, e.native_key,
           coalesce(p.label || ' > ' || c.label, e.label), CASE WHEN p.label IS NULL OR c.label IS NULL THEN 'SKIP' ELSE 'CREATE' END,
           CASE WHEN p.label IS NULL OR c.label IS NULL THEN 'skipped' WHEN e.overtaken IS NOT NULL THEN 'held' ELSE 'planned' END, NULL::json, NULL::json, NULL::text, NULL::text, e.external_table,
           e.parent_type, e.parent_id, c.entity_type, e.child_id, n.rel_type, t.external_id, true,
           CASE WHEN p.label IS NULL OR c.label IS NULL THEN 'what it connected is no longer published' ELSE e.overtaken END
      FROM @extschema@.integration_runs AS r
     CROSS JOIN LATERAL pgsync_itsm.rollback_effects(r.id) AS e
     CROSS JOIN LATERAL (SELECT coalesce(e.rel_type, pgsync_itsm.relation_type(r.connection_id, e.entity_type, false)) AS rel_type) AS n
      -- what it connected is there, or is made again with it
      LEFT JOIN LATERAL (SELECT coalesce(m.published_name, m.native_key) AS label FROM @extschema@.integration_sync_map AS m
                          WHERE m.connection_id = r.connection_id AND m.entity_type = e.parent_type AND m.entity_id = e.parent_id
                         UNION ALL
                         SELECT a.label FROM made AS a WHERE a.entity_type = e.parent_type AND a.entity_id = e.parent_id LIMIT 1) AS p ON true
      LEFT JOIN LATERAL (SELECT o.entity_type, o.label
                           FROM (SELECT m.entity_type, coalesce(m.published_name, m.native_key) AS label FROM @extschema@.integration_sync_map AS m
                                  WHERE m.connection_id = r.connection_id AND m.entity_id = e.child_id AND m.parent_id IS NULL
                                 UNION ALL SELECT a.entity_type, a.label FROM made AS a WHERE a.entity_id = e.child_id) AS o
                          WHERE o.entity_type = coalesce(e.child_type, o.entity_type) ORDER BY o.entity_type LIMIT 1) AS c ON true
      LEFT JOIN @extschema@.integration_references AS t
        ON t.connection_id = r.connection_id AND t.kind = 'relation_type' AND t.target = '' AND t.key = lower(n.rel_type)
     WHERE r.id = rollback_removed.run_id AND e.action = 'DELETE' AND e.state = 'done' AND e.parent_id IS NOT NULL AND NOT e.in_map;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_removed(bigint) IS 'The inverse of the relationships that a run removed';

-- An update that was not heard of is told by what is there; of the rest, nothing here tells.
CREATE FUNCTION pgsync_itsm.rollback_unknown(run_id bigint) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT pgsync_itsm.rollback_ord(e.ord), e.step, e.entity_type, e.entity_id, e.native_key, e.label, 'SKIP', 'skipped', NULL::json, NULL::json, NULL::text,
           e.external_id, e.external_table, e.parent_type, e.parent_id, e.child_type, e.child_id, e.rel_type, NULL::text, e.heard,
           CASE e.action WHEN 'CREATE' THEN 'may have been sent, and was never answered: it may be there; the next publish looks for it'
                         ELSE 'may have been sent, and was never answered: what came of it is not known' END
      FROM pgsync_itsm.rollback_effects(rollback_unknown.run_id) AS e
     WHERE e.state IN ('cancelled', 'dead') AND (e.action = 'DELETE' OR NOT e.in_map);
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_unknown(bigint) IS 'What a run may have done, and nobody knows';

CREATE FUNCTION pgsync_itsm.rollback_rows(run_id bigint, method text, classes jsonb) RETURNS SETOF pgsync_itsm.rollback_row
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT x.* FROM pgsync_itsm.rollback_created(rollback_rows.run_id, rollback_rows.method, rollback_rows.classes) AS x
    UNION ALL SELECT x.* FROM pgsync_itsm.rollback_changed(rollback_rows.run_id) AS x
    UNION ALL SELECT x.* FROM pgsync_itsm.rollback_deleted(rollback_rows.run_id) AS x
    UNION ALL SELECT x.* FROM pgsync_itsm.rollback_removed(rollback_rows.run_id) AS x
    UNION ALL SELECT x.* FROM pgsync_itsm.rollback_unknown(rollback_rows.run_id) AS x;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_rows(bigint, text, jsonb) IS
'The inverse of a run as far as the database alone can tell: what is there now is looked at later';

-- Planning --------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.rollback_ask_references(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    -- What a retired record looks like, where no plan has asked since the cache was emptied.
    FOR c IN SELECT DISTINCT e.entity_type, e.external_table AS class FROM pgsync_itsm.rollback_effects(run.rolls_back) AS e
              WHERE e.ours AND e.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
                AND pgsync_itsm.rollback_method(run.rollback_method, run.rollback_classes, e.entity_type, e.external_table) = 'retire'
                AND NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                                 WHERE r.connection_id = run.connection_id AND r.kind = 'column' AND r.target = e.external_table AND r.key = '')
    LOOP
        PERFORM pgsync_itsm.ask(run, 'column', c.class, ARRAY['']);
        PERFORM pgsync_itsm.ask(run, 'choice', c.class, ARRAY(
            SELECT DISTINCT f.target_field FROM pgsync_itsm.mapped_fields(run.connection_id, c.entity_type) AS f
             WHERE f.kind = 'choice' AND f.target_class IN ('*', c.class)
            UNION SELECT unnest(ARRAY['operational_status', 'install_status'])));
    END LOOP;
    IF FOUND OR pgsync_itsm.setting(run.connection_id, 'life_cycle_write') <> 'legacy' AND EXISTS (
           SELECT FROM pgsync_itsm.rollback_created(run.rolls_back, run.rollback_method, run.rollback_classes) AS x WHERE x.payload_hash = 'retired') THEN
        PERFORM pgsync_itsm.ask_cached(run, 'life_cycle', 'life_cycle_stage', ARRAY['End of Life']);
        PERFORM pgsync_itsm.ask_cached(run, 'life_cycle', 'life_cycle_stage_status', ARRAY['Retired']);
    END IF;
    PERFORM pgsync_itsm.ask_cached(run, 'relation_type', '', ARRAY(
        SELECT DISTINCT x.rel_type FROM pgsync_itsm.rollback_removed(run.rolls_back) AS x WHERE x.entity_type <> 'covers'));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_ask_references(@extschema@.integration_runs) IS
'First questions of a rollback: retired states and relationship types that the cache lacks';

CREATE FUNCTION pgsync_itsm.rollback_items(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload, old_values, payload_hash,
         external_id, external_table, parent_type, parent_id, child_type, child_id, rel_type, rel_type_id, in_doubt, unheard, reason)
    SELECT run.id, run.connection_id, run.namespace_id, x.ord, x.step, x.entity_type, x.entity_id, x.native_key, x.label, x.action, x.state, x.payload,
           x.old_values, x.payload_hash, x.external_id, x.external_table, x.parent_type, x.parent_id, x.child_type, x.child_id, x.rel_type, x.rel_type_id,
           -- what a contract covers is looked for before it is made again: nothing there keeps it from being made twice
           x.action = 'CREATE' AND x.entity_type = 'covers',
           NOT x.heard AND (x.action = 'DELETE' OR x.action = 'UPDATE' AND x.payload_hash = 'retired'), x.reason
      FROM pgsync_itsm.rollback_rows(run.rolls_back, run.rollback_method, run.rollback_classes) AS x
     ORDER BY x.ord, x.entity_id, x.action DESC
    ON CONFLICT DO NOTHING;
    ANALYZE @extschema@.integration_run_items (run_id, ord, entity_type, entity_id, action, state, in_doubt);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_items(@extschema@.integration_runs) IS 'One item a record or relationship, in the order of undoing';

CREATE FUNCTION pgsync_itsm.rollback_ask_there(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT i.external_table, i.parent_id IS NOT NULL AS link, array_agg(DISTINCT i.external_id) AS ids, array_agg(DISTINCT i.entity_type) AS types
               FROM @extschema@.integration_run_items AS i
              WHERE i.run_id = run.id AND i.state = 'planned' AND i.action <> 'CREATE' AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)
              GROUP BY 1, 2 ORDER BY 1, 2
    LOOP
        PERFORM pgsync_itsm.ask(run, 'record', g.external_table, g.ids, ARRAY(
            SELECT x.field FROM unnest(ARRAY['sys_updated_by', 'sys_created_by', 'sys_mod_count']) AS x(field)
            UNION SELECT f.field FROM unnest(g.types) AS t(entity_type), unnest(pgsync_itsm.wanted_fields(run.connection_id, t.entity_type)) AS f(field)
              WHERE NOT g.link
            UNION SELECT k.field FROM @extschema@.integration_run_items AS i
                   JOIN @extschema@.integration_sync_map AS m ON m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
                  CROSS JOIN LATERAL (SELECT json_object_keys(m.last_agreed) UNION SELECT json_object_keys(i.payload)) AS k(field)
                   WHERE NOT g.link AND i.run_id = run.id AND i.state = 'planned' AND i.external_table = g.external_table AND NOT starts_with(k.field, '_')
                     AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)));
    END LOOP;
    -- What others have put into relation with a record would go with it, or point at nothing.  A record may have many of them.
    FOR g IN SELECT k.kind, array_agg(i.external_id) AS ids
               FROM @extschema@.integration_run_items AS i
               JOIN (VALUES ('others_parent', '{application,deployment_profile,it_service,software_package}'::text[]),
                            ('others_child', '{application,deployment_profile,it_service,software_package}'),
                            ('others_covered', '{application,deployment_profile,it_service,software_package}'), ('others_contract', '{contract}'),
                            ('others_vendor', '{company}'), ('others_maker', '{company}'), ('others_product', '{company}'), ('others_supplier', '{company}'),
                            ('others_model', '{software_product}'), ('others_owner', '{contact}'), ('others_keeper', '{contact}'), ('others_member', '{contact}'),
                            ('others_task', '{contact}')) AS k(kind, types)
                 ON i.entity_type = ANY (k.types)
              WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM pgsync_itsm.ask(run, g.kind, '', g.ids, chunk => 25);
    END LOOP;
    PERFORM pgsync_itsm.ask(run, 'relation', '', ARRAY(
        SELECT p.external_id || '/' || c.external_id || '/' || i.rel_type_id
          FROM @extschema@.integration_run_items AS i
          JOIN @extschema@.integration_sync_map AS p ON p.connection_id = run.connection_id AND p.entity_type = i.parent_type AND p.entity_id = i.parent_id
          JOIN @extschema@.integration_sync_map AS c ON c.connection_id = run.connection_id AND c.entity_type = i.child_type AND c.entity_id = i.child_id
         WHERE run.kind = 'rollback' AND i.run_id = run.id AND i.state = 'planned' AND i.action = 'CREATE' AND i.rel_type_id IS NOT NULL), chunk => 50);
    IF EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id AND i.state = 'planned' AND (i.action = 'DELETE' OR i.unheard)) THEN
        PERFORM pgsync_itsm.ask(run, 'role', '', ARRAY['']);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_ask_there(@extschema@.integration_runs) IS
'Second questions of a rollback: what is there now, who relates to it, and may we delete it';

-- Which roles give the right is known of writing, not of deleting: who may write CIs, models and contracts may delete them
-- in the base system, who may write companies may not.  A site's own roles are named in the setting delete_roles.
CREATE FUNCTION pgsync_itsm.rollback_roles(connection_id uuid, entity_type text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN entity_type IN ('contract', 'covers') THEN ARRAY['contract_manager', 'admin']
                WHEN entity_type = 'software_product' THEN ARRAY['model_manager', 'asset', 'admin']
                WHEN entity_type = 'contact' THEN ARRAY['user_admin', 'admin']
                WHEN entity_type = 'company' THEN ARRAY['admin']
                ELSE ARRAY['itil', 'sn_cmdb_editor', 'sn_cmdb_admin', 'admin'] END
           || ARRAY(SELECT btrim(r) FROM regexp_split_to_table(coalesce(pgsync_itsm.setting(connection_id, 'delete_roles'), ''), ',') AS r WHERE btrim(r) <> '');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_roles(uuid, text) IS 'Roles there of which one is thought to allow deleting records of an entity type';

CREATE FUNCTION pgsync_itsm.rollback_rights(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    roles text[] := ARRAY(SELECT DISTINCT x.label FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'role' AND x.label IS NOT NULL);
BEGIN
    -- Roles that cannot be read say nothing: then a refusal is the item's own outcome.
    IF roles = '{}' THEN
        RETURN;
    END IF;
    WITH types AS MATERIALIZED (
        SELECT DISTINCT x.entity_type FROM @extschema@.integration_run_items AS x WHERE x.run_id = run.id AND x.state = 'planned' AND x.action = 'DELETE'
    ), needs AS MATERIALIZED (
        SELECT k.entity_type, pgsync_itsm.rollback_roles(run.connection_id, k.entity_type) AS wanted,
               CASE WHEN k.entity_type = 'company' THEN 'companies' WHEN pgsync_itsm.is_relationship(k.entity_type) THEN 'relationships'
                    ELSE replace(k.entity_type, '_', ' ') || 's' END AS words
          FROM types AS k
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, updated_at = now(),
           reason = format('the integration user has no role that allows deleting %s (%s): grant one, name your own in the setting delete_roles, or use %s',
                           t.words, array_to_string(t.wanted, ', '),
                           CASE run.kind WHEN 'rollback' THEN 'method => ''retire''' ELSE 'retire_by = life_cycle' END)
      FROM needs AS t
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)
       AND i.entity_type = t.entity_type AND NOT t.wanted && roles;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_rights(@extschema@.integration_runs, text) IS 'Holds deletions for which the integration user has no role';

-- Whose hand was on a record before we wrote to it.
CREATE FUNCTION pgsync_itsm.rollback_hands(run @extschema@.integration_runs) RETURNS TABLE (entity_type text, entity_id uuid, hands text[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT i.entity_type, i.entity_id, array_agg(DISTINCT i.old_values ->> 'sys_updated_by')
      FROM @extschema@.integration_runs AS o
      JOIN @extschema@.integration_runs AS x ON x.connection_id = o.connection_id AND coalesce(x.finished_at, 'infinity') >= o.created_at
      JOIN @extschema@.integration_run_items AS i
        ON i.run_id = x.id AND i.parent_id IS NULL AND (i.state = 'done' OR i.unheard AND i.attempts > 0) AND i.old_values ->> 'sys_updated_by' <> ''
     WHERE o.id = (rollback_hands.run).rolls_back
     GROUP BY i.entity_type, i.entity_id;
END;
COMMENT ON FUNCTION pgsync_itsm.rollback_hands(@extschema@.integration_runs) IS
'Who had changed a record last, each time before we wrote to it since the run that is rolled back';

-- A record that is to be deleted or retired has to be as we left it: our values, and nobody else's hand.  That we wrote
-- last does not make somebody's edit before it ours.
CREATE FUNCTION pgsync_itsm.rollback_compare_records(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH earlier AS MATERIALIZED (
        SELECT n.entity_type, n.entity_id, n.hands FROM pgsync_itsm.rollback_hands(run) AS n
    ), seen AS MATERIALIZED (
        SELECT i.id, i.unheard, i.parent_id IS NOT NULL AS link, i.payload, h.hands,
               x.attrs, m.last_agreed, x.attrs ->> 'sys_created_by' AS made_by, x.attrs ->> 'sys_updated_by' AS touched_by
          FROM @extschema@.integration_run_items AS i
          JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'record' AND x.target = i.external_table AND x.key = i.external_id
          LEFT JOIN @extschema@.integration_sync_map AS m ON m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
          LEFT JOIN earlier AS h ON h.entity_type = i.entity_type AND h.entity_id = i.entity_id
         WHERE i.run_id = run.id AND i.state = 'planned' AND (i.action = 'DELETE' OR i.payload_hash = 'retired')
           AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)
    ), makers AS MATERIALIZED (
        SELECT DISTINCT s.made_by FROM seen AS s WHERE NOT s.unheard
        UNION SELECT DISTINCT x.attrs ->> 'user.user_name' FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'role'
    ), judged AS MATERIALIZED (
        SELECT s.id, s.attrs, s.link,
               CASE WHEN s.unheard AND coalesce(s.made_by, '') NOT IN (SELECT k.made_by FROM makers AS k WHERE k.made_by IS NOT NULL)
                    THEN format('was made there by %s', coalesce(nullif(s.made_by, ''), 'a user who is not shown'))
                    WHEN d.fields IS NOT NULL THEN format('changed there since: %s', d.fields)
                              || CASE WHEN s.touched_by <> s.made_by THEN format(' (by %s)', s.touched_by) ELSE '' END
                    WHEN s.touched_by <> s.made_by THEN format('changed there since by %s', s.touched_by)
                    WHEN coalesce(s.made_by, '') = '' OR coalesce(s.touched_by, '') = '' THEN 'who made or changed it there cannot be read'
                    WHEN e.hand IS NOT NULL THEN format('changed there since by %s, and by us after that', e.hand) END AS why
          FROM seen AS s
         CROSS JOIN LATERAL (SELECT min(h) AS hand FROM unnest(s.hands) AS h WHERE h <> s.made_by) AS e
         CROSS JOIN LATERAL (
               SELECT string_agg(v.field, ', ' ORDER BY v.field) AS fields
                 FROM json_each_text(CASE WHEN NOT s.link AND NOT s.attrs::jsonb @> s.last_agreed::jsonb THEN s.last_agreed END) AS v(field, value)
                WHERE NOT starts_with(v.field, '_') AND s.attrs ->> v.field IS NOT NULL AND NOT pgsync_itsm.same_value(s.attrs ->> v.field, v.value)
                  -- retired already: an earlier attempt had arrived
                  AND (s.payload ->> v.field IS NULL OR NOT pgsync_itsm.same_value(s.attrs ->> v.field, s.payload ->> v.field))) AS d
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = CASE WHEN j.why IS NULL THEN i.state ELSE marked END, reason = coalesce(j.why, i.reason), updated_at = now(),
           -- with what the platform knows nothing of: whether a contract is internal
           old_values = CASE WHEN j.link THEN i.old_values WHEN i.action = 'DELETE' THEN pgsync_itsm.merged(i.old_values, j.attrs) ELSE j.attrs END
      FROM judged AS j WHERE i.id = j.id AND (j.why IS NOT NULL OR NOT j.link);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_compare_records(@extschema@.integration_runs, text) IS
'Marks what would be deleted or retired, and was changed there since';

-- Of an update only those fields go back that are still as we wrote them.  When a plan that was shown is applied, one that
-- moved meanwhile holds back the record.
CREATE FUNCTION pgsync_itsm.rollback_compare_fields(run @extschema@.integration_runs, again boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- in bulk a CI is known by its id, and yet must have a name
    named boolean := pgsync_itsm.setting(run.connection_id, 'write_api') = 'ire';
BEGIN
    WITH fields AS MATERIALIZED (
        SELECT i.id, i.action, i.entity_type, i.entity_id, x.attrs, v.field, v.value AS target, pgsync_itsm.same_value(x.attrs ->> v.field, v.value) AS so_already,
               pgsync_itsm.same_value(x.attrs ->> v.field, i.old_values ->> v.field) AS ours
          FROM @extschema@.integration_run_items AS i
          JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'record' AND x.target = i.external_table AND x.key = i.external_id
         CROSS JOIN LATERAL json_each_text(i.payload) AS v(field, value)
         WHERE i.run_id = run.id AND i.state = 'planned' AND i.payload_hash = 'restored'
           -- the name that only says which CI it is
           AND NOT starts_with(v.field, '_') AND NOT pgsync_itsm.same_value(v.value, i.old_values ->> v.field)
    ), items AS MATERIALIZED (
        SELECT f.id, f.action, f.entity_type, f.entity_id, min(f.attrs::text)::json AS attrs,
               jsonb_object_agg(f.field, f.target) FILTER (WHERE f.ours AND NOT f.so_already) AS payload,
               string_agg(f.field, ', ' ORDER BY f.field) FILTER (WHERE NOT f.ours AND NOT f.so_already) AS changed
          FROM fields AS f GROUP BY f.id, f.action, f.entity_type, f.entity_id
    ), judged AS MATERIALIZED (
        SELECT i.id, i.action, i.entity_type, i.attrs, i.payload,
               CASE WHEN again THEN string_agg(i.changed, ', ') OVER (PARTITION BY i.entity_type, i.entity_id) ELSE i.changed END AS changed
          FROM items AS i
    ), others AS (
        -- what was changed is listed by itself, where the rest goes back
        INSERT INTO @extschema@.integration_run_items
            (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, external_id, external_table, reason)
        SELECT i.run_id, i.connection_id, i.namespace_id, i.ord, i.step, i.entity_type, i.entity_id, i.native_key, i.label, 'MISMATCH', 'held', i.external_id,
               i.external_table, format('changed there since: %s', string_agg(j.changed, ', ' ORDER BY j.action DESC))
          FROM judged AS j JOIN @extschema@.integration_run_items AS i ON i.id = j.id
         WHERE j.changed IS NOT NULL AND j.payload IS NOT NULL AND NOT again
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, i.external_id, i.external_table
        ON CONFLICT DO NOTHING
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = CASE WHEN j.changed IS NOT NULL AND (again OR j.payload IS NULL) THEN CASE WHEN again THEN 'refused' ELSE 'held' END
                        WHEN j.payload IS NULL THEN 'skipped' ELSE i.state END,
           reason = CASE WHEN j.changed IS NOT NULL AND (again OR j.payload IS NULL) THEN format('changed there since: %s', j.changed)
                         WHEN j.payload IS NULL THEN 'is there as it was before' ELSE i.reason END,
           payload = CASE WHEN j.payload IS NULL THEN i.payload
                          ELSE (j.payload || CASE WHEN i.payload ->> '_is_internal' IS NOT NULL
                                   THEN jsonb_build_object('_is_internal', i.payload ->> '_is_internal') ELSE '{}' END
                                || CASE WHEN named AND j.action = 'UPDATE' AND NOT j.payload ? 'name' AND j.attrs ->> 'name' IS NOT NULL
                                             AND j.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
                                        THEN jsonb_build_object('name', j.attrs ->> 'name') ELSE '{}' END)::json END,
           old_values = j.attrs, updated_at = now()
      FROM judged AS j WHERE i.id = j.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_compare_fields(@extschema@.integration_runs, boolean) IS
'Leaves out of what would be restored what was changed there since';

-- An earlier rollback had restored a record, and was not heard: the next publish has to know.
CREATE FUNCTION pgsync_itsm.rollback_restored_before(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_sync_map AS m
       SET last_sent_hash = 'restored', source_hash = NULL, source_version = NULL, last_agreed = pgsync_itsm.merged(m.last_agreed, i.payload)
      FROM @extschema@.integration_run_items AS i
     WHERE i.run_id = run.id AND i.state = 'skipped' AND i.payload_hash = 'restored' AND i.action IN ('UPDATE', 'CLEAR')
       AND m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id AND m.external_id = i.external_id
       AND EXISTS (SELECT FROM @extschema@.integration_runs AS b
                     JOIN @extschema@.integration_run_items AS o
                       ON o.run_id = b.id AND o.entity_type = i.entity_type AND o.entity_id = i.entity_id AND o.action = i.action
                    WHERE b.connection_id = run.connection_id AND b.kind = 'rollback' AND b.rolls_back = run.rolls_back AND b.id <> run.id
                       AND o.payload_hash = 'restored' AND o.unheard AND o.state IN ('dead', 'cancelled'));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_restored_before(@extschema@.integration_runs) IS 'Tells the map of what an earlier rollback restored without being heard';

CREATE FUNCTION pgsync_itsm.rollback_compare_gone(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Rows that the platform counts and does not show are there all the same.
    WITH hidden AS MATERIALIZED (
        SELECT DISTINCT l.target, k.id FROM pgsync_itsm.lookups AS l CROSS JOIN LATERAL unnest(l.keys) AS k(id)
         WHERE l.run_id = run.id AND l.kind = 'record' AND l.error_message IS NOT NULL
           AND NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'record' AND x.target = l.target AND x.key = k.id)
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, reason = format('%s may not be read there: what it is like now is not known', i.external_table), updated_at = now()
      FROM hidden AS h
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action <> 'CREATE' AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)
       AND i.external_table = h.target AND i.external_id = h.id;
    WITH gone AS MATERIALIZED (
        SELECT i.id FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = run.id AND i.state = 'planned' AND i.action <> 'CREATE' AND pgsync_itsm.takes_back(run.kind, i.action, i.payload_hash)
           AND NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x
                          WHERE x.run_id = run.id AND x.kind = 'record' AND x.target = i.external_table AND x.key = i.external_id)
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = CASE WHEN i.action = 'DELETE' THEN i.state ELSE marked END,
           reason = CASE WHEN i.action = 'DELETE' THEN 'gone there already: only forgotten here' ELSE 'deleted there' END, updated_at = now()
      FROM gone AS g WHERE i.id = g.id;
    UPDATE @extschema@.integration_run_items AS i SET state = marked, reason = format('there is no relationship type "%s" there', i.rel_type), updated_at = now()
     WHERE run.kind = 'rollback' AND i.run_id = run.id AND i.state = 'planned' AND i.action = 'CREATE' AND i.parent_id IS NOT NULL
       AND i.entity_type <> 'covers' AND i.rel_type_id IS NULL;
    UPDATE @extschema@.integration_run_items AS i SET state = 'skipped', reason = 'the relationship is there already', updated_at = now()
      FROM @extschema@.integration_sync_map AS p, @extschema@.integration_sync_map AS c, pgsync_itsm.lookup_rows AS x
     WHERE run.kind = 'rollback' AND i.run_id = run.id AND i.state = 'planned' AND i.action = 'CREATE'
       AND p.connection_id = i.connection_id AND p.entity_type = i.parent_type AND p.entity_id = i.parent_id
       AND c.connection_id = i.connection_id AND c.entity_type = i.child_type AND c.entity_id = i.child_id
       AND x.run_id = run.id AND x.kind = 'relation' AND x.key = p.external_id || '/' || c.external_id || '/' || i.rel_type_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_compare_gone(@extschema@.integration_runs, text) IS
'What is not there any more needs nothing, or cannot be restored; what is there again is not made twice';

-- Deleting a record takes its relationships along, and leaves references to it that point at nothing.
CREATE FUNCTION pgsync_itsm.rollback_needed_there(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Where who refers to a record may not be read, or not all of it, nothing is proved.  A table that is not there holds nothing.
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, updated_at = now(), reason = format('whether others refer to it cannot be seen there: %s', left(b.why, 300))
      FROM (SELECT k.id, min(l.error_message) AS why FROM pgsync_itsm.lookups AS l CROSS JOIN LATERAL unnest(l.keys) AS k(id)
             WHERE l.run_id = run.id AND l.kind LIKE 'others\_%' AND l.error_message IS NOT NULL AND coalesce(l.error_class, '') NOT IN ('HTTP_400', 'HTTP_404')
             GROUP BY k.id) AS b
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' AND i.parent_id IS NULL AND i.external_id = b.id;
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, updated_at = now(), reason = format('%s %s there and %s (%s %s)', o.who,
                   CASE WHEN o.kind IN ('others_parent', 'others_child', 'others_covered', 'others_contract') THEN 'relates to it' ELSE 'refers to it' END,
                   CASE WHEN o.ours THEN 'was changed by others' ELSE 'is not ours' END, o.external_table, o.external_id)
      FROM (SELECT DISTINCT ON (x.key) x.key, x.kind, x.external_table, x.external_id,
                   CASE WHEN x.label <> '' THEN format('"%s"', left(x.label, 80)) ELSE 'a record' END AS who,
                   EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                            WHERE m.external_id = x.external_id AND m.parent_id IS NULL AND m.connection_id = run.connection_id AND m.created_by_us) AS ours
              FROM pgsync_itsm.lookup_rows AS x
             WHERE x.run_id = run.id AND x.kind LIKE 'others\_%'
               AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS l
                                WHERE l.run_id = run.id AND l.external_id = x.external_id
                                   AND l.state = 'planned' AND l.action = 'DELETE' AND l.parent_id IS NOT NULL)
             ORDER BY x.key, x.external_id) AS o
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' AND i.parent_id IS NULL AND i.external_id = o.key;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_needed_there(@extschema@.integration_runs, text) IS
'Holds deletions of records that somebody there relates or refers to, or may';

-- Connections may share an instance and its user there: what another one knows is not asked of the platform.
CREATE FUNCTION pgsync_itsm.rollback_needed_elsewhere(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH others AS MATERIALIZED (
        SELECT c.id FROM @extschema@.integration_connections AS c
         WHERE c.id <> run.connection_id AND c.instance_url = (SELECT o.instance_url FROM @extschema@.integration_connections AS o WHERE o.id = run.connection_id)
    ), known AS MATERIALIZED (
        SELECT m.external_id AS id FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id IN (SELECT x.id FROM others AS x) AND m.parent_id IS NULL
        UNION
        SELECT v.value FROM @extschema@.integration_sync_map AS m CROSS JOIN LATERAL json_each_text(m.last_agreed) AS v(field, value)
         WHERE m.connection_id IN (SELECT x.id FROM others AS x) AND m.parent_id IS NULL
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, updated_at = now(), reason = 'another connection to this instance publishes it or refers to it'
      FROM known AS k
     WHERE i.run_id = run.id AND i.state = 'planned' AND (i.action = 'DELETE' OR i.payload_hash = 'retired') AND i.parent_id IS NULL AND i.external_id = k.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_needed_elsewhere(@extschema@.integration_runs, text) IS
'Holds what another connection to the instance publishes or refers to';

CREATE FUNCTION pgsync_itsm.rollback_needed_here(run @extschema@.integration_runs, marked text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH staying AS MATERIALIZED (
        SELECT m.parent_id, m.child_id, coalesce(m.published_name, m.native_key) AS label
          FROM @extschema@.integration_sync_map AS m
          LEFT JOIN @extschema@.integration_run_items AS l
            ON l.run_id = run.id AND l.entity_type = m.entity_type AND l.entity_id = m.entity_id AND l.action = 'DELETE' AND l.state = 'planned'
         WHERE m.connection_id = run.connection_id AND m.parent_id IS NOT NULL AND l.id IS NULL
    )
    UPDATE @extschema@.integration_run_items AS i
       SET state = marked, updated_at = now(), reason = format('its relationship "%s" stays', left(s.label, 160))
      FROM (SELECT e.id, min(t.label) AS label FROM staying AS t CROSS JOIN LATERAL (VALUES (t.parent_id), (t.child_id)) AS e(id) GROUP BY e.id) AS s
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' AND i.parent_id IS NULL AND i.entity_id = s.id;
    IF NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                    WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE' AND i.entity_type IN ('company', 'contact', 'it_service')) THEN
        RETURN;
    END IF;
    -- An offering may have a service of ours for its parent; owners and vendors are contacts and companies.  What goes back to
    -- another one does not refer to it any more when its turn comes; what is kept keeps what it refers to itself.
    LOOP
        UPDATE @extschema@.integration_run_items AS i
           SET state = marked, updated_at = now(), reason = format('%s "%s" stays and refers to it', replace(u.entity_type, '_', ' '), left(u.label, 160))
          FROM (SELECT DISTINCT ON (v.value) v.value, m.entity_type, m.published_name AS label
                  FROM @extschema@.integration_sync_map AS m
                  LEFT JOIN @extschema@.integration_run_items AS d
                    ON d.run_id = run.id AND d.entity_type = m.entity_type AND d.entity_id = m.entity_id AND d.action = 'DELETE' AND d.state = 'planned'
                 CROSS JOIN LATERAL json_each_text(m.last_agreed) AS v(field, value)
                 WHERE m.connection_id = run.connection_id AND m.parent_id IS NULL AND d.id IS NULL
                   AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS b
                                    WHERE b.run_id = run.id AND b.entity_type = m.entity_type AND b.entity_id = m.entity_id AND b.state = 'planned'
                                      AND b.payload_hash = 'restored' AND b.payload ->> v.field <> v.value)
                 ORDER BY v.value, m.entity_type, m.entity_id) AS u
         WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE'
           AND i.entity_type IN ('company', 'contact', 'it_service') AND i.external_id = u.value;
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_needed_here(@extschema@.integration_runs, text) IS
'Holds deletions of records that something of ours which stays relates or refers to';

CREATE FUNCTION pgsync_itsm.rollback_compare(run @extschema@.integration_runs, again boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    marked text := CASE WHEN again THEN 'refused' ELSE 'held' END;
BEGIN
    ANALYZE pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id);
    PERFORM pgsync_itsm.rollback_rights(run, marked);
    PERFORM pgsync_itsm.rollback_compare_gone(run, marked);
    PERFORM pgsync_itsm.rollback_compare_records(run, marked);
    PERFORM pgsync_itsm.rollback_compare_fields(run, again);
    PERFORM pgsync_itsm.rollback_restored_before(run);
    PERFORM pgsync_itsm.rollback_needed_there(run, marked);
    PERFORM pgsync_itsm.rollback_needed_elsewhere(run, marked);
    PERFORM pgsync_itsm.rollback_needed_here(run, marked);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_compare(@extschema@.integration_runs, boolean) IS
'Marks what is not to be undone: changed there since, needed, not allowed; again: when the plan that was shown is applied';

CREATE FUNCTION pgsync_itsm.rollback_summary(run_id bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT format('would delete %s, retire %s, restore %s, remove %s relationships', c.deletes, c.retires, c.restores, c.links)
               || CASE WHEN c.again > 0 THEN format(', make %s again', c.again) ELSE '' END
               || CASE WHEN c.changed > 0 THEN format('; %s changed there since and stay', c.changed) ELSE '' END
               || CASE WHEN c.later > 0 THEN format('; %s changed by a later run and stay', c.later) ELSE '' END
               || CASE WHEN c.other > 0 THEN format('; %s stay for other reasons', c.other) ELSE '' END
               || CASE WHEN c.skipped > 0 THEN format('; %s are not touched', c.skipped) ELSE '' END
          FROM (SELECT count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'DELETE' AND i.parent_id IS NULL) AS deletes,
                       count(*) FILTER (WHERE i.state = 'planned' AND i.payload_hash = 'retired') AS retires,
                       count(DISTINCT (i.entity_type, i.entity_id)) FILTER (WHERE i.state = 'planned' AND i.payload_hash = 'restored' AND i.action <> 'CREATE') AS restores,
                       count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'DELETE' AND i.parent_id IS NOT NULL) AS links,
                       count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'CREATE') AS again,
                       count(DISTINCT (i.entity_type, i.entity_id)) FILTER (WHERE i.state = 'held' AND i.reason LIKE 'changed there since%') AS changed,
                       count(DISTINCT (i.entity_type, i.entity_id)) FILTER (WHERE i.state = 'held' AND i.reason LIKE 'changed by run %') AS later,
                       count(*) FILTER (WHERE i.state = 'held' AND i.reason NOT LIKE 'changed there since%' AND i.reason NOT LIKE 'changed by run %') AS other,
                       count(*) FILTER (WHERE i.state = 'skipped') AS skipped
                  FROM @extschema@.integration_run_items AS i WHERE i.run_id = rollback_summary.run_id) AS c);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_summary(bigint) IS 'What a rollback would do, in words';

CREATE FUNCTION pgsync_itsm.rollback_finish(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_steps AS s (run_id, namespace_id, step, ord, title, total)
    SELECT run.id, run.namespace_id, k.step, k.ord, 'Undo: ' || lower(left(t.title, 1)) || substr(t.title, 2), k.n
      FROM (SELECT i.step, i.ord, min(i.entity_type) AS entity_type, min(i.external_table) AS class, count(*) AS n
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id AND i.state = 'planned' GROUP BY i.step, i.ord) AS k
     CROSS JOIN LATERAL pgsync_itsm.step_of(k.entity_type, k.class) AS t
    ON CONFLICT (run_id, step) DO UPDATE SET total = excluded.total;
    UPDATE @extschema@.integration_runs AS r
       SET status = 'planned', phase = 'apply', planned_at = now(), summary = pgsync_itsm.rollback_summary(r.id), to_create = c.creates, to_update = c.updates,
           to_delete = c.deletes, held = c.held, skipped = c.skipped
      FROM (SELECT count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'CREATE') AS creates,
                   count(DISTINCT (i.entity_type, i.entity_id)) FILTER (WHERE i.state = 'planned' AND i.action IN ('UPDATE', 'CLEAR')) AS updates,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'DELETE') AS deletes,
                   count(*) FILTER (WHERE i.state = 'held') AS held, count(*) FILTER (WHERE i.state = 'skipped') AS skipped
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id) AS c
     WHERE r.id = run.id;
    PERFORM pgsync_itsm.clear_plan(run.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_finish(@extschema@.integration_runs) IS 'Ends the plan of a rollback: steps, counts, words; it waits for itsm_apply()';

CREATE FUNCTION pgsync_itsm.rollback_end_is_there(run @extschema@.integration_runs, entity_type text, entity_id uuid) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                WHERE m.connection_id = (run).connection_id AND m.entity_type = rollback_end_is_there.entity_type AND m.entity_id = rollback_end_is_there.entity_id)
       OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                   WHERE i.run_id = (run).id AND i.entity_type = rollback_end_is_there.entity_type AND i.entity_id = rollback_end_is_there.entity_id
                     AND i.action = 'CREATE' AND i.state IN ('planned', 'pending', 'done', 'unchanged'));
COMMENT ON FUNCTION pgsync_itsm.rollback_end_is_there(@extschema@.integration_runs, text, uuid) IS 'Is an end of a relationship published, or made again by this rollback';

-- Another run may have been faster; nothing newer is undone.
CREATE FUNCTION pgsync_itsm.rollback_overtaken(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = CASE WHEN i.action = 'CREATE' AND m.id IS NULL THEN 'what it connected is no longer published'
                         WHEN i.action = 'CREATE' THEN 'published again since the plan'
                         WHEN m.id IS NULL THEN 'already undone' ELSE 'written by another run since the plan' END
      FROM @extschema@.integration_run_items AS j
      LEFT JOIN @extschema@.integration_sync_map AS m ON m.connection_id = j.connection_id AND m.entity_type = j.entity_type AND m.entity_id = j.entity_id
     WHERE j.run_id = run.id AND j.state = 'planned' AND i.id = j.id
       AND CASE WHEN i.action = 'CREATE'
                THEN m.id IS NOT NULL
                     OR i.parent_id IS NOT NULL AND NOT (pgsync_itsm.rollback_end_is_there(run, i.parent_type, i.parent_id)
                                                         AND pgsync_itsm.rollback_end_is_there(run, i.child_type, i.child_id))
                ELSE m.id IS NULL OR m.external_id <> i.external_id OR m.last_synced_at > run.planned_at
                     AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o
                                      WHERE o.run_id = run.id AND o.entity_type = i.entity_type
                                         AND o.entity_id = i.entity_id AND o.state IN ('done', 'unchanged')) END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_overtaken(@extschema@.integration_runs) IS 'Refuses what another run has written or undone since the plan';

CREATE FUNCTION pgsync_itsm.rollback_phase(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The row may have been written by hand; nobody undoes, or reads, another connection's run.
    IF NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r
                    WHERE r.id = run.rolls_back AND r.connection_id = run.connection_id AND r.namespace_id = run.namespace_id
                      AND r.kind = 'publish' AND r.status IN ('done', 'failed', 'cancelled')) THEN
        RAISE EXCEPTION 'there is no run to roll back' USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = format('Run %s is none of this connection''s publishes that have ended.', coalesce(run.rolls_back::text, 'NULL'));
    END IF;
    CASE run.phase
        WHEN 'queued' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.rollback_ask_references(run);
            RETURN 'items';
        WHEN 'items' THEN
            PERFORM pgsync_itsm.store_references(run);
            PERFORM pgsync_itsm.rollback_items(run);
            PERFORM pgsync_itsm.rollback_ask_there(run);
            RETURN 'there';
        WHEN 'there' THEN
            PERFORM pgsync_itsm.rollback_compare(run, false);
            PERFORM pgsync_itsm.rollback_finish(run);
            RETURN NULL;
        WHEN 'recheck' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.rollback_overtaken(run);
            PERFORM pgsync_itsm.rollback_ask_there(run);
            RETURN 'recheck there';
        WHEN 'recheck there' THEN
            PERFORM pgsync_itsm.rollback_overtaken(run);
            PERFORM pgsync_itsm.rollback_compare(run, true);
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.release_items(run.id);
            RETURN NULL;
        ELSE
            RAISE EXCEPTION 'run % has the unknown phase "%"', run.id, run.phase;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_phase(@extschema@.integration_runs) IS 'Does one phase of a rollback''s plan and returns the next; NULL at the end';

-- Applying --------------------------------------------------------------------------------------------

-- A record stays while something that should have gone before it did not.
CREATE FUNCTION pgsync_itsm.rollback_blocked(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.id = run_id AND (r.kind = 'rollback' OR r.to_delete > 0)) THEN
        RETURN;
    END IF;
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', updated_at = now(),
           reason = format('%s "%s" could not be removed: %s', replace(d.entity_type, '_', ' '), left(d.label, 80), left(d.reason, 200))
      FROM (SELECT DISTINCT ON (e.id) e.id, x.entity_type, x.label, x.reason
              FROM @extschema@.integration_run_items AS x CROSS JOIN LATERAL (VALUES (x.parent_id), (x.child_id)) AS e(id)
             WHERE x.run_id = run_id AND x.state = 'dead' AND x.action = 'DELETE' AND x.parent_id IS NOT NULL ORDER BY e.id, x.id) AS d
     WHERE i.run_id = run_id AND i.state = 'pending' AND i.action = 'DELETE' AND i.parent_id IS NULL AND i.entity_id = d.id
       AND i.id NOT IN (SELECT pgsync_itsm.on_wire(run_id));
    LOOP
        UPDATE @extschema@.integration_run_items AS i
           SET state = 'skipped', updated_at = now(),
               reason = format('%s "%s" stays and refers to it: %s', replace(d.entity_type, '_', ' '), left(d.label, 80), left(d.reason, 200))
          FROM (SELECT DISTINCT ON (v.value) v.value, x.entity_type, x.label, x.reason
                  FROM @extschema@.integration_run_items AS x CROSS JOIN LATERAL json_each_text(x.old_values) AS v(field, value)
                 WHERE x.run_id = run_id AND x.parent_id IS NULL
                   AND (x.action = 'DELETE' AND x.state IN ('dead', 'skipped')
                        OR x.payload_hash = 'restored' AND x.state IN ('dead', 'refused') AND x.payload ->> v.field <> v.value) ORDER BY v.value, x.id) AS d
         WHERE i.run_id = run_id AND i.state = 'pending' AND i.action = 'DELETE'
           AND i.entity_type IN ('company', 'contact', 'it_service') AND i.external_id = d.value
           AND i.id NOT IN (SELECT pgsync_itsm.on_wire(run_id));
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rollback_blocked(bigint) IS 'Skips deletions of records whose relationships, or what refers to them, could not be removed';
