-- Deciding on fields that both sides changed.  Ours: what is there is known now, and is overwritten by the next publish.
-- Theirs, or a value: a run writes it here, as any change of theirs, and until that is done nothing of the record is
-- published; a value that is not theirs is published then.

-- What is over without anybody's decision: the record is gone there, or the change there was taken back.
CREATE FUNCTION pgsync_itsm.conflicts_overtaken(connection_id uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_conflicts AS c
       SET state = 'resolved', resolution = CASE m.state WHEN 'gone' THEN 'gone' ELSE 'ours' END, resolved_at = now()
      FROM @extschema@.integration_sync_map AS m
      LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = m.connection_id AND x.external_id = m.external_id
     WHERE c.connection_id = conflicts_overtaken.connection_id AND c.state = 'open' AND c.resolution IS NULL
       AND m.connection_id = c.connection_id AND m.entity_type = c.entity_type AND m.entity_id = c.entity_id
       AND (m.state = 'gone'
            OR pgsync_itsm.plain_value(x.attrs ->> c.field) = c.base AND c.theirs <> c.base
               AND pgsync_itsm.plain_value(coalesce(m.last_agreed ->> c.field, c.base)) = c.base);
END;
COMMENT ON FUNCTION pgsync_itsm.conflicts_overtaken(uuid) IS 'Closes conflicts that are none any more, as far as the mirror knows';

-- For many at once: what concerns a field is found out once a field, what concerns a value once a value.
CREATE FUNCTION pgsync_itsm.conflict_problems(ids bigint[], side text, value text) RETURNS TABLE (conflict_id bigint, what text, problem text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT c.id, c.connection_id, c.namespace_id, c.entity_type, c.field, c.theirs, c.state, c.resolution, coalesce(m.external_table, '') AS external_table, m.state AS map_state,
               n.id IS NULL OR m.id IS NULL AS unpublished, x.external_id IS NULL AS missing, pgsync_itsm.plain_value(x.attrs ->> c.field) AS is_now,
               CASE side WHEN 'theirs' THEN c.theirs WHEN 'value' THEN coalesce(conflict_problems.value, '') END AS taken
          FROM @extschema@.integration_conflicts AS c
          LEFT JOIN @extschema@.integration_connections AS n ON n.id = c.connection_id
          LEFT JOIN @extschema@.integration_sync_map AS m ON m.connection_id = c.connection_id AND m.entity_type = c.entity_type AND m.entity_id = c.entity_id
          LEFT JOIN @extschema@.integration_external_records AS x ON x.connection_id = m.connection_id AND x.external_id = m.external_id
         WHERE c.id = ANY (ids)
    ), fields AS MATERIALIZED (
        SELECT k.connection_id, k.entity_type, k.external_table, f.field, f.kind, f.value_map, pgsync_itsm.is_written(k.connection_id, k.entity_type, f.field) AS written
          FROM (SELECT DISTINCT a.connection_id, a.entity_type, a.external_table FROM asked AS a WHERE a.taken IS NOT NULL) AS k
         CROSS JOIN LATERAL pgsync_itsm.merge_fields(k.connection_id, k.entity_type, k.external_table) AS f
    ), taken AS MATERIALIZED (
        SELECT d.connection_id, d.entity_type, d.external_table, d.field, d.taken, f.written, l.known
          FROM (SELECT DISTINCT a.connection_id, a.entity_type, a.external_table, a.field, a.taken FROM asked AS a WHERE a.taken IS NOT NULL) AS d
          JOIN fields AS f ON f.connection_id = d.connection_id AND f.entity_type = d.entity_type AND f.external_table = d.external_table AND f.field = d.field
         CROSS JOIN LATERAL pgsync_itsm.local_value(d.connection_id, d.external_table, f.field, f.kind, f.value_map, d.taken) AS l
    ), judged AS (
        SELECT a.*, CASE WHEN a.state <> 'open' THEN 'resolved' WHEN a.resolution IS NOT NULL THEN 'decided'
                         WHEN a.unpublished THEN 'unpublished' WHEN a.missing OR a.map_state = 'gone' THEN 'gone'
                         WHEN a.is_now <> a.theirs THEN 'changed'
                         WHEN a.taken IS NULL THEN NULL
                         WHEN t.field IS NULL THEN 'unmapped' WHEN NOT t.written THEN 'unwritten' WHEN NOT t.known THEN 'unknown' END AS verdict
          FROM asked AS a
          LEFT JOIN taken AS t ON t.connection_id = a.connection_id AND t.entity_type = a.entity_type AND t.external_table = a.external_table AND t.field = a.field AND t.taken = a.taken)
    SELECT j.id,
           CASE j.verdict WHEN 'resolved' THEN 'resolved already' WHEN 'decided' THEN 'decided already' WHEN 'unpublished' THEN 'the record is not published any more'
                          WHEN 'gone' THEN 'the record is not there any more' WHEN 'changed' THEN 'changed there since'
                          WHEN 'unmapped' THEN format('%s is not mapped any more', j.field) WHEN 'unwritten' THEN format('no column here is written for %s', j.field)
                          WHEN 'unknown' THEN 'the value there is nothing that is known here' END,
           CASE j.verdict WHEN 'resolved' THEN format('it is resolved already: %s', j.resolution)
                          WHEN 'decided' THEN format('it is decided already (%s), and a run is about to write that here', j.resolution)
                          WHEN 'unpublished' THEN 'the record is not published any more' WHEN 'gone' THEN 'the record is not there any more'
                          WHEN 'changed' THEN format('%s was changed there since, to "%s"', j.field, left(j.is_now, 60))
                          WHEN 'unmapped' THEN format('%s is not mapped any more', j.field) WHEN 'unwritten' THEN format('no column here is written for %s', j.field)
                          WHEN 'unknown' THEN format('"%s" for %s is nothing that is known here', left(j.taken, 60), j.field) END,
           CASE WHEN j.verdict IN ('gone', 'changed') THEN format('SELECT itsm_subscribe(%L);', j.namespace_id)
                WHEN j.verdict = 'unwritten' THEN format('SELECT itsm_set_writer(%L, %L, ...);', j.connection_id, j.entity_type)
                WHEN j.verdict = 'unmapped' THEN format('SELECT itsm_resolve_conflict(%s, ''ours'');', j.id)
                WHEN j.verdict = 'unknown' THEN format('SELECT itsm_set_mapping(%L, %L, %L, ...); with a value_map that leads to it.', j.connection_id, j.entity_type, j.field) END
      FROM judged AS j WHERE j.verdict IS NOT NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.conflict_problems(bigint[], text, text) IS
'What keeps conflicts from being decided for a side (ours, theirs, or value): what it is in general, in words, and what to do; no row: nothing does';

CREATE FUNCTION pgsync_itsm.write_decision(connection_id uuid, ids bigint[], side text, value text, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    run bigint;
BEGIN
    INSERT INTO @extschema@.integration_runs AS r (namespace_id, connection_id, kind, phase, purpose, requested_by)
    SELECT c.namespace_id, c.id, 'subscribe', 'decided', 'decision', caller FROM @extschema@.integration_connections AS c WHERE c.id = connection_id
    RETURNING r.id INTO run;
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state, payload, old_values, external_id, external_table, reason)
    SELECT run, m.connection_id, m.namespace_id, 10, 'in', m.entity_type, m.entity_id, m.native_key, left(coalesce(m.published_name, m.native_key), 300), 'UPDATE', 'planned',
           k.payload, k.old_values, m.external_id, m.external_table, format('decided by %s', caller)
      FROM (SELECT c.entity_type, c.entity_id, json_object_agg(c.field, CASE side WHEN 'theirs' THEN c.theirs ELSE coalesce(value, '') END ORDER BY c.field) AS payload,
                   json_object_agg(c.field, c.ours ORDER BY c.field) AS old_values
              FROM @extschema@.integration_conflicts AS c WHERE c.id = ANY (ids) GROUP BY c.entity_type, c.entity_id) AS k
      JOIN @extschema@.integration_sync_map AS m ON m.connection_id = connection_id AND m.entity_type = k.entity_type AND m.entity_id = k.entity_id
     ORDER BY m.entity_type, m.entity_id;
    PERFORM pgsync_itsm.wake();
    RETURN run;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.write_decision(uuid, bigint[], text, text, name) IS 'Queues the run that writes here what was decided about conflicts of one connection, an item a record';

-- Without taking back what the mapping says: what is sent is the same, and so is its hash.
CREATE FUNCTION pgsync_itsm.remember_side(connection_id uuid, entity_type text, field text, side text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    e record;
BEGIN
    FOR e IN SELECT DISTINCT ON (m.target_class) m.* FROM pgsync_itsm.mappings_in_force(remember_side.connection_id, remember_side.entity_type) AS f
               JOIN @extschema@.integration_field_mappings AS m ON m.id = f.id
              WHERE f.target_field = remember_side.field ORDER BY m.target_class LOOP
        INSERT INTO @extschema@.integration_field_mappings AS m
            (namespace_id, connection_id, platform, entity_type, target_class, target_field, expression, kind, value_map, on_unresolved, direction, authority, condition, ord, enabled)
        SELECT c.namespace_id, c.id, c.platform, e.entity_type, e.target_class, e.target_field, e.expression, e.kind, e.value_map, e.on_unresolved, e.direction,
               remember_side.side, e.condition, e.ord, e.enabled
          FROM @extschema@.integration_connections AS c WHERE c.id = remember_side.connection_id
        ON CONFLICT (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), platform, entity_type, target_class, target_field, is_default)
        DO UPDATE SET authority = excluded.authority, updated_at = now();
        RAISE NOTICE '% decides on %.% from now on; to take that back: %', remember_side.side, remember_side.entity_type, remember_side.field,
            CASE WHEN e.connection_id IS NULL
                 THEN format('SELECT itsm_drop_mapping(%L, %L, %L%s);', remember_side.connection_id, remember_side.entity_type, remember_side.field, CASE WHEN e.target_class <> '*' THEN format(', %L', e.target_class) ELSE '' END)
                 ELSE format('SELECT itsm_set_mapping(%L, %L, %L, %L, %L, %L, %L, %L, authority => %L);', remember_side.connection_id, remember_side.entity_type, remember_side.field,
                             e.expression, e.kind, e.value_map, e.target_class, e.on_unresolved, e.authority) END;
    END LOOP;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is not mapped any more', remember_side.field
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Nobody can decide on it from now on.', HINT = 'Leave remember away.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.remember_side(uuid, text, text, text) IS
'Makes a side decide on a field of a connection from now on: the mapping in force becomes the connection''s own, with that authority; says how to take that back';

-- Conflicts of one connection, that can be decided so.
CREATE FUNCTION pgsync_itsm.decide_conflicts(connection_id uuid, ids bigint[], side text, value text, remember boolean, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    words CONSTANT text := CASE side WHEN 'value' THEN format('value: %s', left(value, 200)) ELSE side END;
    run bigint;
BEGIN
    UPDATE @extschema@.integration_conflicts AS x
       SET state = CASE side WHEN 'ours' THEN 'resolved' ELSE 'open' END, resolution = words,
           resolved_at = CASE side WHEN 'ours' THEN now() END, resolved_by = caller
     WHERE x.id = ANY (ids);
    UPDATE @extschema@.integration_sync_map AS m
       SET last_agreed = pgsync_itsm.merged(m.last_agreed, k.theirs), last_sent_hash = NULL, source_hash = NULL, source_version = NULL
      FROM (SELECT c.entity_type, c.entity_id, json_object_agg(c.field, c.theirs) AS theirs
              FROM @extschema@.integration_conflicts AS c WHERE c.id = ANY (ids) GROUP BY c.entity_type, c.entity_id) AS k
     WHERE m.connection_id = connection_id AND m.entity_type = k.entity_type AND m.entity_id = k.entity_id;
    IF remember THEN
        PERFORM pgsync_itsm.remember_side(connection_id, k.entity_type, k.field, side)
           FROM (SELECT DISTINCT c.entity_type, c.field FROM @extschema@.integration_conflicts AS c WHERE c.id = ANY (ids)) AS k;
    END IF;
    IF side <> 'ours' THEN
        run := pgsync_itsm.write_decision(connection_id, ids, side, value, caller);
    ELSE
        PERFORM pgsync_itsm.plan_in_full(connection_id);
    END IF;
    INSERT INTO @extschema@.integration_sync_log (connection_id, namespace_id, run_id, operation, entity_type, entity_id, external_id, status, request_payload)
    SELECT c.connection_id, c.namespace_id, run, 'read', c.entity_type, c.entity_id, m.external_id, 'success',
           json_build_object('conflict', c.id, 'field', c.field, 'base', c.base, 'ours', c.ours, 'theirs', c.theirs, 'decided', words, 'remembered', remember, 'by', caller)
      FROM @extschema@.integration_conflicts AS c
      JOIN @extschema@.integration_sync_map AS m ON m.connection_id = c.connection_id AND m.entity_type = c.entity_type AND m.entity_id = c.entity_id
     WHERE c.id = ANY (ids) ORDER BY c.id;
    RETURN run;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.decide_conflicts(uuid, bigint[], text, text, boolean, name) IS
'Carries out a decision on conflicts of one connection, and logs who took it; remember: the side decides on their fields from now on. Returns the run that writes it here, NULL: ours holds';

CREATE FUNCTION pgsync_itsm.resolve_conflict(conflict_id bigint, side text, value text, remember boolean) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_conflict';
COMMENT ON FUNCTION pgsync_itsm.resolve_conflict(bigint, text, text, boolean) IS
'Gate: decides a conflict that the caller sees; remember: the side decides on its field from now on; returns the run that writes here what was decided, NULL: ours holds, and the next publish sends it';

CREATE FUNCTION pgsync_itsm.resolve_conflict_granted(conflict_id bigint, side text, value text, remember boolean, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    connection uuid := (SELECT c.connection_id FROM @extschema@.integration_conflicts AS c WHERE c.id = conflict_id);
    p record;
BEGIN
    PERFORM pgsync_itsm.check_one_of('side', side, ARRAY['ours', 'theirs', 'value']);
    IF remember AND side = 'value' THEN
        RAISE EXCEPTION 'a side can be remembered, and no value'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give ours or theirs, or leave remember away.';
    END IF;
    -- the planner, while it merges, holds the connection's row first
    PERFORM FROM @extschema@.integration_connections AS c WHERE c.id = connection FOR NO KEY UPDATE;
    PERFORM FROM @extschema@.integration_conflicts AS c WHERE c.id = conflict_id FOR UPDATE;
    FOR p IN SELECT * FROM pgsync_itsm.conflict_problems(ARRAY[conflict_id], side, value) LOOP
        RAISE EXCEPTION 'conflict % cannot be decided for %: %', conflict_id, side, p.problem
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = coalesce(p.hint, 'SELECT id, label, field, ours, theirs FROM integration_conflicts WHERE state = ''open'' AND resolution IS NULL;');
    END LOOP;
    RETURN pgsync_itsm.decide_conflicts(connection, ARRAY[conflict_id], side, value, coalesce(remember, false), caller);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.resolve_conflict_granted(bigint, text, text, boolean, name) IS 'Behind resolve_conflict()';

CREATE FUNCTION @extschema@.itsm_resolve_conflict(conflict_id bigint, side text, value jsonb DEFAULT NULL, remember boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    run bigint;
BEGIN
    IF jsonb_typeof(value) IN ('object', 'array') THEN
        RAISE EXCEPTION 'a field has one value, and no JSON %', jsonb_typeof(value)
            USING ERRCODE = 'invalid_parameter_value', HINT = format('SELECT itsm_resolve_conflict(%s, ''value'', ''"as it is to be"'');', coalesce(conflict_id::text, 'NULL'));
    END IF;
    run := pgsync_itsm.resolve_conflict(conflict_id, side, value #>> '{}', remember);
    IF run IS NULL THEN
        RAISE NOTICE 'the next publish sends what is here; next: SELECT itsm_publish(%);',
            (SELECT quote_literal(c.namespace_id) FROM @extschema@.integration_conflicts AS c WHERE c.id = conflict_id);
        RETURN;
    END IF;
    RAISE NOTICE 'run % writes it here; next: CALL itsm_wait(%);', run, run;
    PERFORM pgsync_itsm.say_if_no_worker();
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_resolve_conflict(bigint, text, jsonb, boolean) IS
'Decides a field that was changed on both sides: ours (published again), theirs (written here), or value (a JSON string: written here and published). remember: that side decides on this field of the connection from now on';

-- Many at once ----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.resolve_conflicts(namespace_id uuid, side text, entity_type text, field text, remember boolean) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_namespace';
COMMENT ON FUNCTION pgsync_itsm.resolve_conflicts(uuid, text, text, text, boolean) IS
'Gate: decides the open conflicts of a namespace that the caller sees, of an entity type or field (NULL: all); says what it leaves out, and returns how many were decided';

CREATE FUNCTION pgsync_itsm.resolve_conflicts_granted(namespace_id uuid, side text, entity_type text, field text, remember boolean, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    connection uuid;
    ids bigint[];
    p record;
    n bigint := 0;
    run bigint;
BEGIN
    PERFORM pgsync_itsm.check_one_of('side', side, ARRAY['ours', 'theirs']);
    IF entity_type IS NOT NULL THEN
        PERFORM pgsync_itsm.check_entity_type(entity_type);
    END IF;
    FOR connection IN SELECT c.id FROM @extschema@.integration_connections AS c WHERE c.namespace_id = namespace_id ORDER BY c.id LOOP
        -- the planner, while it merges, holds the connection's row first
        PERFORM FROM @extschema@.integration_connections AS c WHERE c.id = connection FOR NO KEY UPDATE;
        ids := ARRAY(SELECT c.id FROM @extschema@.integration_conflicts AS c
                      WHERE c.connection_id = connection AND c.state = 'open' AND c.resolution IS NULL
                        AND (entity_type IS NULL OR c.entity_type = entity_type) AND (field IS NULL OR c.field = field)
                      ORDER BY c.id FOR UPDATE);
        FOR p IN SELECT q.what, min(q.hint) AS hint, array_agg(q.conflict_id) AS ids FROM pgsync_itsm.conflict_problems(ids, side, NULL) AS q GROUP BY q.what ORDER BY q.what LOOP
            RAISE NOTICE '% left as they are: %', cardinality(p.ids), concat_ws('; ', p.what, p.hint);
            ids := ARRAY(SELECT i FROM unnest(ids) AS i EXCEPT SELECT i FROM unnest(p.ids) AS i);
        END LOOP;
        CONTINUE WHEN ids = '{}';
        n := n + cardinality(ids);
        run := pgsync_itsm.decide_conflicts(connection, ids, side, NULL, coalesce(remember, false), caller);
        IF run IS NOT NULL THEN
            RAISE NOTICE 'run % writes % here; next: CALL itsm_wait(%);', run, cardinality(ids), run;
        END IF;
    END LOOP;
    RETURN n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.resolve_conflicts_granted(uuid, text, text, text, boolean, name) IS 'Behind resolve_conflicts()';

CREATE FUNCTION @extschema@.itsm_resolve_conflicts(namespace_id uuid, side text, entity_type text DEFAULT NULL, field text DEFAULT NULL, remember boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint := pgsync_itsm.resolve_conflicts(namespace_id, side, entity_type, field, remember);
BEGIN
    IF n = 0 THEN
        RAISE NOTICE 'none is decided; next: SELECT id, label, field, ours, theirs FROM integration_conflicts WHERE state = ''open'';';
    ELSIF side = 'ours' THEN
        RAISE NOTICE 'the next publish sends what is here; next: SELECT itsm_publish(%);', quote_literal(namespace_id);
    ELSE
        PERFORM pgsync_itsm.say_if_no_worker();
    END IF;
    RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_resolve_conflicts(uuid, text, text, text, boolean) IS
'Decides all open conflicts of a namespace, or those of an entity type or a field there, for one side: ours (published again) or theirs (written here, by one run a connection). What cannot be decided so stays open, and a NOTICE says why. remember: that side decides on the fields of those that it decided from now on. Returns how many were decided';
