-- itsm_rollback(): undo a run.

CREATE FUNCTION pgsync_itsm.check_rollback(run @extschema@.integration_runs, method text, classes jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
    types text[] := ARRAY(SELECT t.entity_type FROM pgsync_itsm.plan_types() AS t WHERE NOT pgsync_itsm.is_relationship(t.entity_type) ORDER BY t.ord);
    e record;
BEGIN
    IF run.kind <> 'publish' THEN
        RAISE EXCEPTION 'run % cannot be rolled back: it is a %', run.id, CASE run.kind WHEN 'subscribe' THEN 'subscription' ELSE run.kind END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE run.kind WHEN 'rollback' THEN 'What it removed comes back with the next publish.' ELSE 'It has written nothing there.' END,
                  HINT = CASE run.kind WHEN 'rollback' THEN format('SELECT itsm_publish(%L);', run.namespace_id)
                                       ELSE 'SELECT id, status, created_at FROM integration_runs WHERE kind = ''publish'' ORDER BY id DESC LIMIT 10;' END;
    ELSIF run.status NOT IN ('done', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'run % has not ended: it is %', run.id, replace(run.status, '_', ' ')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN run.status IN ('planned', 'needs_approval') THEN format('It has sent nothing yet: SELECT itsm_cancel(%s);', run.id)
                              ELSE format('CALL itsm_wait(%s); or SELECT itsm_cancel(%s);', run.id, run.id) END;
    END IF;
    IF run.items_removed_at IS NOT NULL THEN
        RAISE EXCEPTION 'run % cannot be rolled back any more', run.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('What it did was removed on %s; pgsync_itsm.log_retention is %s.', run.items_removed_at::date, current_setting('pgsync_itsm.log_retention')),
                  HINT = 'To keep it longer from now on: ALTER SYSTEM SET pgsync_itsm.log_retention = ''365d''; SELECT pg_reload_conf();';
    END IF;
    SELECT * INTO c FROM @extschema@.integration_connections AS x WHERE x.id = run.connection_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the connection of run % does not exist any more', run.id USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF NOT c.is_active THEN
        RAISE EXCEPTION 'connection % is not active', c.id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT itsm_activate(%L);', c.id);
    ELSIF c.platform <> 'servicenow' THEN
        RAISE EXCEPTION 'a rollback on platform "%" is not available', c.platform USING ERRCODE = 'feature_not_supported';
    END IF;
    IF method IS NULL OR method NOT IN ('retire', 'delete') THEN
        RAISE EXCEPTION 'invalid rollback method "%"', coalesce(method, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Allowed are: retire, delete.';
    ELSIF jsonb_typeof(classes) <> 'object' THEN
        RAISE EXCEPTION 'classes is not a JSON object'
            USING ERRCODE = 'invalid_parameter_value', HINT = format('SELECT * FROM itsm_rollback(%s, classes => ''{"contract": "delete"}'');', run.id);
    END IF;
    FOR e IN SELECT k.key, k.value FROM jsonb_each(classes) AS k(key, value) ORDER BY k.key LOOP
        IF e.key <> ALL (types) AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                                                 WHERE i.run_id = run.id AND i.external_table = e.key AND i.parent_id IS NULL) THEN
            RAISE EXCEPTION 'run % has no records of a class "%"', run.id, e.key
                USING ERRCODE = 'invalid_parameter_value',
                      DETAIL = CASE WHEN pgsync_itsm.is_relationship(e.key) THEN 'Relationships are always removed.'
                                    ELSE format('It wrote to: %s.', coalesce((
                                             SELECT string_agg(DISTINCT i.external_table, ', ') FROM @extschema@.integration_run_items AS i
                                              WHERE i.run_id = run.id AND i.parent_id IS NULL AND i.state = 'done'), 'nothing')) END,
                      HINT = format('Give entity types (%s) or tables there, such as cmdb_ci_business_app.', array_to_string(types, ', '));
        ELSIF e.value NOT IN ('"retire"', '"delete"') THEN
            RAISE EXCEPTION 'invalid rollback method % for class "%"', e.value, e.key
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Allowed are: "retire", "delete".';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_rollback(@extschema@.integration_runs, text, jsonb) IS
'Raises a clear error if a run cannot be rolled back, or not in this way';

CREATE FUNCTION @extschema@.itsm_rollback(run_id bigint, method text DEFAULT 'retire', classes jsonb DEFAULT '{}')
RETURNS TABLE (step text, entity_type text, entity_id uuid, label text, action text, state text, field text, old_value text, new_value text, reason text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run($1);
    chosen jsonb := coalesce($3, '{}');
    id bigint;
    planned bigint;
    others bigint;
BEGIN
    PERFORM pgsync_itsm.check_rollback(r, $2, chosen);
    PERFORM pgsync_itsm.check_entitled(r.namespace_id, (SELECT c.platform FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id));
    -- a class whose retired state nobody has asked for is asked about by the run
    SELECT count(*) FILTER (WHERE x.state = 'planned' OR x.reason LIKE 'no retired state of %' AND k.connection_id IS NULL),
           count(*) FILTER (WHERE x.state <> 'planned') INTO planned, others
      FROM pgsync_itsm.rollback_rows(r.id, $2, chosen) AS x
      LEFT JOIN @extschema@.integration_references AS k
        ON k.connection_id = r.connection_id AND k.kind = 'column' AND k.target = x.external_table AND k.key = '';
    IF planned = 0 THEN
        RAISE NOTICE 'run % has left nothing to undo%', r.id,
            CASE WHEN others > 0 THEN format('; %s records and relationships stay as they are, each with its reason', others) ELSE '' END;
    ELSE
        id := pgsync_itsm.queue_rollback(r.id, $2, chosen);
        RAISE NOTICE 'run % will look at what was changed there since, and sends nothing yet; next: %', id,
            format('CALL itsm_wait(%s); SELECT * FROM itsm_plan(%s); SELECT itsm_apply(%s);', id, id, id);
        RAISE NOTICE 'the next publish sends again what is undone here; to prevent that, once run % is done: %', id,
            format('SELECT itsm_activate(%L, false);', r.connection_id);
        IF EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.sync_schedule = 'on_change') THEN
            RAISE NOTICE 'a record that is changed here after that is published again by itself; to prevent that, before itsm_apply(%): %', id,
                format('SELECT itsm_schedule(%L, ''manual'');', r.connection_id);
        END IF;
        PERFORM pgsync_itsm.say_if_no_worker();
    END IF;
    RETURN QUERY
        SELECT x.step, x.entity_type, x.entity_id, x.label, x.action, x.state, v.field, x.old_values ->> v.field, v.value, x.reason
          FROM pgsync_itsm.rollback_rows(r.id, $2, chosen) AS x
          LEFT JOIN LATERAL json_each_text(x.payload) WITH ORDINALITY AS v(field, value, ord)
            ON x.action IN ('UPDATE', 'CLEAR') AND v.field NOT LIKE '\_%' AND x.old_values ->> v.field IS DISTINCT FROM v.value
         ORDER BY x.ord, x.entity_id, x.action DESC, v.ord;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_rollback(bigint, text, jsonb) IS
'Undoes a publish: shows the inverse as far as this database knows it, and makes a run that looks at what was changed there since; itsm_apply() of that run does it. method: retire or delete what the run created; classes: exceptions, by entity type or table there, {"contract": "delete"}';
