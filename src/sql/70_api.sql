-- What people call: publish, preview, apply, cancel, retry, wait, and the plan as rows.

CREATE FUNCTION pgsync_itsm.own_run(run_id bigint) RETURNS @extschema@.integration_runs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % does not exist', coalesce(run_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'SELECT id, status, created_at FROM integration_runs ORDER BY id DESC LIMIT 10;';
    END IF;
    RETURN r;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.own_run(bigint) IS 'A run''s row, or the same error whether it is not there or not visible';

CREATE FUNCTION pgsync_itsm.say_if_no_worker() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hint text := pgsync_itsm.missing_worker();
BEGIN
    IF hint IS NOT NULL THEN
        RAISE WARNING 'no worker serves this database: nothing will be sent' USING HINT = hint;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.say_if_no_worker() IS 'A WARNING with the setting to change when no worker could serve this database';

CREATE FUNCTION pgsync_itsm.missing_worker() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE
    WHEN NOT pgsync_itsm.preloaded()
        THEN 'Add pgsync_itsm to shared_preload_libraries and restart the server.'
    WHEN NOT pgsync_itsm.is_listed()
        THEN format('ALTER SYSTEM SET pgsync_itsm.databases = %L; SELECT pg_reload_conf();',
                    concat_ws(', ', nullif(current_setting('pgsync_itsm.databases', true), ''), pgsync_itsm.list_name(current_database())))
    WHEN NOT pgsync_itsm.is_adopted()
        THEN 'This database is a copy; if it is the one that should push: SELECT itsm_adopt();' END;
COMMENT ON FUNCTION pgsync_itsm.missing_worker() IS 'What keeps a worker from serving this database, as a hint; NULL if nothing is known to';

CREATE FUNCTION pgsync_itsm.new_runs(namespace_id uuid, kind text, platform text, connection_id uuid, applications uuid[], confirm boolean)
RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c @extschema@.integration_connections;
    id bigint;
    n integer := 0;
    left_out uuid;
BEGIN
    PERFORM pgsync_itsm.check_namespace(namespace_id);
    IF kind NOT LIKE 'subscribe%' AND pgsync_itsm.attached_schema() IS NULL AND NOT EXISTS (SELECT FROM @extschema@.integration_sources) THEN
        RAISE EXCEPTION 'there is no source to publish from'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT itsm_attach_getinsync();';
    END IF;
    FOR c IN SELECT * FROM @extschema@.integration_connections AS i
              WHERE i.namespace_id = namespace_id AND (platform IS NULL OR i.platform = platform)
                AND (connection_id IS NULL OR i.id = connection_id) AND (i.is_active OR i.id = connection_id)
              ORDER BY i.platform, i.name
    LOOP
        n := n + 1;
        IF NOT c.is_active THEN
            RAISE EXCEPTION 'connection % is not active', c.id
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT itsm_activate(%L);', c.id);
        END IF;
        IF c.sync_direction = 'subscribe' AND kind NOT IN ('match', 'subscribe', 'subscribe preview') OR c.sync_direction = 'publish' AND kind LIKE 'subscribe%' THEN
            left_out := c.id;
            CONTINUE;
        END IF;
        id := pgsync_itsm.queue_run(c.id, kind, confirm, applications);
        RAISE NOTICE 'run % is queued%; next: CALL itsm_wait(%);', id,
            CASE WHEN c.paused_at IS NOT NULL THEN format(', but the connection is paused (%s): SELECT itsm_activate(%L)', c.pause_reason, c.id) ELSE '' END, id;
        RETURN NEXT id;
    END LOOP;
    IF n = 0 THEN
        RAISE EXCEPTION 'namespace % has no active connection%', namespace_id,
              CASE WHEN connection_id IS NOT NULL THEN format(' %s', connection_id) WHEN platform IS NOT NULL THEN format(' to %s', platform) ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = coalesce((SELECT format('SELECT itsm_activate(%L);', i.id) FROM @extschema@.integration_connections AS i
                                    WHERE i.namespace_id = namespace_id AND NOT i.is_active ORDER BY i.name LIMIT 1),
                                  format('SELECT itsm_connect_servicenow(%L, ''https://acme.service-now.com'', ...);', namespace_id));
    END IF;
    IF id IS NULL AND left_out IS NOT NULL AND kind LIKE 'subscribe%' THEN
        PERFORM pgsync_itsm.check_platform_setting(c.platform, 'sync_direction', 'both') FROM @extschema@.integration_connections AS c WHERE c.id = left_out;
        RAISE EXCEPTION 'connection % does not read: its direction is "publish"', left_out
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT itsm_set(%L, ''sync_direction'', ''both'');', left_out);
    END IF;
    PERFORM pgsync_itsm.say_if_no_worker();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.new_runs(uuid, text, text, uuid, uuid[], boolean) IS 'Queues one run per active connection of a namespace';

CREATE FUNCTION @extschema@.itsm_publish(namespace_id uuid, platform text DEFAULT NULL, connection_id uuid DEFAULT NULL,
                                         applications uuid[] DEFAULT NULL, confirm boolean DEFAULT false)
RETURNS SETOF bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.new_runs(itsm_publish.namespace_id, 'publish', itsm_publish.platform, itsm_publish.connection_id,
                                itsm_publish.applications, itsm_publish.confirm);
END;
COMMENT ON FUNCTION @extschema@.itsm_publish(uuid, text, uuid, uuid[], boolean) IS
'Plans and sends what changed, in the background: one run a connection. applications: a pilot, with what it needs. The first publish of a connection waits for itsm_apply() unless confirm is true';

CREATE FUNCTION @extschema@.itsm_preview(namespace_id uuid, direction text DEFAULT 'publish', connection_id uuid DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.check_one_of('direction', direction, ARRAY['publish', 'subscribe']);
    RETURN QUERY SELECT pgsync_itsm.new_runs(itsm_preview.namespace_id, CASE direction WHEN 'subscribe' THEN 'subscribe preview' ELSE 'preview' END, NULL,
                                             itsm_preview.connection_id, NULL, false);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_preview(uuid, text, uuid) IS 'Plans and keeps the plan; nothing is written there. itsm_plan(run) shows it, itsm_apply(run) sends it';

CREATE FUNCTION @extschema@.itsm_apply(run_id bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    IF r.status NOT IN ('planned', 'needs_approval') THEN
        RAISE EXCEPTION 'run % cannot be applied: it is %', r.id, replace(r.status, '_', ' ')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN r.status IN ('queued', 'planning') THEN format('CALL itsm_wait(%s);', r.id)
                              WHEN r.kind = 'rollback' THEN format('SELECT * FROM itsm_rollback(%s, %L);', r.rolls_back, r.rollback_method)
                              ELSE format('SELECT itsm_publish(%L);', r.namespace_id) END;
    END IF;
    IF r.planned_at < now() - pgsync_itsm.setting(r.connection_id, 'plan_max_age')::interval THEN
        RAISE EXCEPTION 'the plan of run % is too old', r.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It was made at %s; the connection''s plan_max_age is %s.', r.planned_at, pgsync_itsm.setting(r.connection_id, 'plan_max_age')),
                  HINT = CASE r.kind WHEN 'rollback' THEN format('SELECT * FROM itsm_rollback(%s);', r.rolls_back) ELSE format('SELECT itsm_preview(%L);', r.namespace_id) END;
    END IF;
    IF NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.is_active) THEN
        RAISE EXCEPTION 'connection % is not active', r.connection_id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT itsm_activate(%L);', r.connection_id);
    END IF;
    IF NOT pgsync_itsm.release_run(r.id) THEN
        RAISE EXCEPTION 'run % cannot be applied: somebody else has just applied or cancelled it', r.id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('CALL itsm_wait(%s);', r.id);
    END IF;
    PERFORM pgsync_itsm.say_if_no_worker();
    RAISE NOTICE 'run % goes on as planned; next: CALL itsm_wait(%);', r.id, r.id;
    RETURN r.id;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_apply(bigint) IS
'Sends a plan that was kept or waits for approval, exactly as shown; what changed here since is refused item by item';

CREATE FUNCTION @extschema@.itsm_cancel(run_id bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    IF r.status IN ('done', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'run % has ended: it is %', r.id, r.status USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM pgsync_itsm.stop_run(r.id);
    RAISE NOTICE 'what run % has sent stays; to send the rest: %', r.id,
        CASE r.kind WHEN 'rollback' THEN format('SELECT * FROM itsm_rollback(%s, %L);', r.rolls_back, r.rollback_method) ELSE format('SELECT itsm_retry(%s);', r.id) END;
    RETURN r.id;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_cancel(bigint) IS 'Stops a run; what was sent stays, itsm_retry() sends the rest';

CREATE FUNCTION @extschema@.itsm_retry(run_id bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
    id bigint;
BEGIN
    IF r.status NOT IN ('done', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'run % has not ended: it is %', r.id, replace(r.status, '_', ' ')
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('CALL itsm_wait(%s);', r.id);
    END IF;
    IF r.kind = 'rollback' THEN
        RAISE EXCEPTION 'run % is a rollback: a new run would publish what it has undone', r.id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT * FROM itsm_rollback(%s, %L);', r.rolls_back, r.rollback_method);
    END IF;
    SELECT p INTO id FROM pgsync_itsm.new_runs(r.namespace_id, CASE WHEN r.kind IN ('subscribe', 'match') THEN r.kind ELSE 'publish' END, NULL, r.connection_id, r.applications, false) AS p;
    RETURN id;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_retry(bigint) IS
'A new run over the same ground: what the earlier one brought through is unchanged by now, what it did not is sent';

CREATE FUNCTION @extschema@.itsm_plan(run_id bigint)
RETURNS TABLE (step text, entity_type text, entity_id uuid, label text, action text, state text, field text, old_value text, new_value text, reason text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pgsync_itsm.own_run($1);
    RETURN QUERY
        SELECT i.step, i.entity_type, i.entity_id, i.label, i.action, i.state, v.field, i.old_values ->> v.field, v.value, i.reason
          FROM @extschema@.integration_run_items AS i
          LEFT JOIN LATERAL json_each_text(i.payload) WITH ORDINALITY AS v(field, value, ord)
            ON (i.action IN ('CREATE', 'UPDATE', 'CLEAR') OR i.action = 'MISMATCH' AND i.old_values IS NOT NULL) AND v.field NOT LIKE '\_%'
               AND (i.old_values IS NULL OR i.old_values ->> v.field IS DISTINCT FROM v.value)
         WHERE i.run_id = $1
         ORDER BY i.ord, i.id, v.ord;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_plan(bigint) IS 'The plan of a run, one row a field: value there now, value that would be written, and the reason';

CREATE FUNCTION pgsync_itsm.requeue_run(run @extschema@.integration_runs, error_class text, entity_type text, entity_id uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    n bigint;
    -- What a run that has ended had planned may be out of date: it is compared with the sources before it is sent.
    waits text := CASE run.status WHEN 'running' THEN 'pending' ELSE 'planned' END;
BEGIN
    PERFORM FROM @extschema@.integration_runs AS x WHERE x.id = run.id FOR UPDATE;
    -- What might have arrived is looked for first; what a later run took over is left to that run.
    UPDATE @extschema@.integration_run_items AS i
       SET state = waits, in_doubt = i.action = 'CREATE' AND (i.in_doubt OR i.unheard), attempts = 0, not_before = NULL, error_class = NULL, reason = NULL, updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'dead' AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE')
       AND (error_class IS NULL OR i.error_class = requeue_run.error_class)
       AND (entity_type IS NULL OR i.entity_type = requeue_run.entity_type)
       AND (entity_id IS NULL OR i.entity_id = requeue_run.entity_id)
       AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS l
                         JOIN @extschema@.integration_run_items AS n ON n.run_id = l.id AND n.entity_type = i.entity_type AND n.entity_id = i.entity_id
                        WHERE l.connection_id = run.connection_id AND l.id > run.id AND n.state IN ('done', 'unchanged', 'pending'))
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                        WHERE i.action = 'CREATE' AND i.parent_id IS NULL AND m.connection_id = i.connection_id
                          AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id);
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        -- What was skipped for want of these can be sent after them: contracts of a vendor first.
        UPDATE @extschema@.integration_run_items AS i SET state = waits, reason = NULL, updated_at = now()
          FROM @extschema@.integration_run_items AS d
         WHERE d.run_id = run.id AND d.state = waits AND d.entity_type = 'company'
           AND i.run_id = run.id AND i.state = 'skipped' AND i.entity_type = 'contract' AND i.action IN ('CREATE', 'UPDATE')
           AND i.payload ->> 'vendor' = '@company/' || d.entity_id;
        UPDATE @extschema@.integration_run_items AS i SET state = waits, reason = NULL, updated_at = now()
          FROM @extschema@.integration_run_items AS d
         WHERE i.run_id = run.id AND i.state = 'skipped' AND i.parent_id IS NOT NULL AND i.action = 'CREATE'
           AND d.run_id = run.id AND d.state = waits AND d.parent_id IS NULL
           AND (d.entity_type, d.entity_id) IN ((i.parent_type, i.parent_id), (i.child_type, i.child_id));
        -- and in a rollback, the records that had to stay
        UPDATE @extschema@.integration_run_items AS i SET state = waits, reason = NULL, updated_at = now()
         WHERE i.run_id = run.id AND run.kind = 'rollback' AND i.state = 'skipped' AND i.action = 'DELETE';
        UPDATE @extschema@.integration_runs AS x SET status = 'queued', phase = 'recheck', finished_at = NULL, cancel_requested = false, cancel_by = NULL
         WHERE x.id = run.id AND x.status = 'done';
        -- what is sent after a run began to read back is read back, too
        UPDATE @extschema@.integration_runs AS x SET phase = 'apply' WHERE x.id = run.id AND x.status = 'running' AND x.phase = 'verify';
        -- unless their other end is still dead
        PERFORM pgsync_itsm.settle_blocked(run.id);
        PERFORM pgsync_itsm.settle_steps(run.id);
        PERFORM pgsync_itsm.wake();
    END IF;
    RETURN n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.requeue_run(@extschema@.integration_runs, text, text, uuid) IS 'Dead items of one run once more, and what was skipped because of them; what changed in the sources since is refused';

CREATE FUNCTION @extschema@.itsm_requeue(run_id bigint DEFAULT NULL, error_class text DEFAULT NULL, entity_type text DEFAULT NULL, entity_id uuid DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r @extschema@.integration_runs;
    n bigint := 0;
    queued bigint;
BEGIN
    IF run_id IS NULL AND error_class IS NULL AND entity_type IS NULL AND entity_id IS NULL THEN
        RAISE EXCEPTION 'nothing says which dead items to queue again' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'SELECT itsm_requeue(run_id); or by error_class, entity_type, entity_id.';
    END IF;
    IF run_id IS NOT NULL THEN
        r := pgsync_itsm.own_run(run_id);
        IF r.purpose = 'decision' THEN
            RAISE EXCEPTION 'run % carried out a decision; what it could not write is to be decided anew', r.id USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'SELECT id, label, field, ours, theirs FROM integration_conflicts WHERE state = ''open'';';
        END IF;
    END IF;
    -- Without a run: the last one of each record's connection that has it among its dead.
    FOR r IN SELECT x.* FROM @extschema@.integration_runs AS x
              WHERE x.id = run_id
                 OR run_id IS NULL AND x.status IN ('running', 'done') AND x.dead > 0 AND x.purpose IS DISTINCT FROM 'decision'
                    AND EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = x.id AND i.state = 'dead'
                                   AND (error_class IS NULL OR i.error_class = itsm_requeue.error_class)
                                   AND (entity_type IS NULL OR i.entity_type = itsm_requeue.entity_type)
                                   AND (entity_id IS NULL OR i.entity_id = itsm_requeue.entity_id))
              ORDER BY x.id DESC
    LOOP
        queued := pgsync_itsm.requeue_items(r.id, error_class, entity_type, entity_id);
        IF queued IS NULL AND run_id IS NOT NULL THEN
            RAISE EXCEPTION 'dead items of run % cannot be queued again now', r.id
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = format('It is %s, its connection is gone, or another run of it is at work.', replace(r.status, '_', ' ')),
                      HINT = format('SELECT itsm_publish(%L);', r.namespace_id);
        END IF;
        n := n + coalesce(queued, 0);
    END LOOP;
    RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_requeue(bigint, text, text, uuid) IS
'Dead items once more, of a run or of all that have ended: those with this error class, entity type, record; returns how many';

CREATE FUNCTION pgsync_itsm.wait_poll(run_id bigint, OUT status text, OUT line text, OUT problem text, OUT problem_hint text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    status := r.status;
    line := CASE WHEN r.status IN ('queued', 'planning') THEN format('run %s: %s (%s)', r.id, r.status, r.phase)
                 WHEN r.status = 'running' THEN
                     coalesce((SELECT format('run %s: step %s %s: %s of %s done%s%s', r.id, s.step, s.title, s.done, s.total,
                                             CASE WHEN s.failed > 0 THEN format(', %s failed', s.failed) ELSE '' END,
                                             CASE WHEN s.skipped > 0 THEN format(', %s skipped', s.skipped) ELSE '' END)
                                 FROM @extschema@.integration_run_steps AS s
                                WHERE s.run_id = r.id AND s.status <> 'waiting' ORDER BY s.status = 'running' DESC, s.ord DESC LIMIT 1),
                              format('run %s: %s', r.id, r.phase))
                 ELSE format('run %s: %s', r.id, replace(r.status, '_', ' ')) END;
    IF r.status IN ('queued', 'planning', 'running') THEN
        problem_hint := pgsync_itsm.missing_worker();
        problem := CASE WHEN problem_hint IS NOT NULL THEN 'no worker serves this database' END;
        IF problem IS NOT NULL THEN
            RETURN;
        END IF;
        IF NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id) THEN
            problem := format('connection %s does not exist any more', r.connection_id);
            problem_hint := format('SELECT itsm_cancel(%s);', r.id);
            RETURN;
        END IF;
        SELECT format('connection %s is paused: %s', c.id, c.pause_reason), format('Repair it, then: SELECT itsm_activate(%L);', c.id)
          INTO problem, problem_hint
          FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.paused_at IS NOT NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.wait_poll(bigint) IS 'What itsm_wait() looks at between two sleeps';

CREATE FUNCTION pgsync_itsm.wait_report(run_id bigint) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    RETURN QUERY SELECT format('step %s %s: %s of %s done, %s failed, %s skipped, %s requests', s.step, s.title, s.done, s.total, s.failed, s.skipped, s.requests)
                   FROM @extschema@.integration_run_steps AS s WHERE s.run_id = r.id AND r.status IN ('done', 'cancelled') ORDER BY s.ord;
    RETURN QUERY SELECT format('run %s: %s', r.id, r.summary) WHERE r.summary IS NOT NULL;
    RETURN QUERY SELECT format('run %s %s: %s done (%s with a warning), %s dead, %s held, %s unchanged; %s requests (%s writing, %s inside batches)',
                               r.id, r.status, r.done, r.warned, r.dead, r.held, r.unchanged, r.requests, r.write_requests, r.subrequests)
                  WHERE r.status IN ('done', 'cancelled', 'failed');
    RETURN QUERY SELECT format('run %s waits for approval: %s; next: SELECT * FROM itsm_plan(%s); SELECT itsm_apply(%s);', r.id, r.approval_reason, r.id, r.id)
                  WHERE r.status = 'needs_approval';
    RETURN QUERY SELECT format('run %s has sent nothing yet; next: SELECT * FROM itsm_plan(%s); SELECT itsm_apply(%s);', r.id, r.id, r.id)
                  WHERE r.kind = 'rollback' AND r.status = 'planned';
    RETURN QUERY SELECT format('run %s failed: %s%s', r.id, r.error_message, coalesce(' (' || r.error_hint || ')', '')) WHERE r.status = 'failed';
    RETURN QUERY SELECT * FROM (SELECT format('%s %s "%s": %s', i.state, replace(i.entity_type, '_', ' '), left(i.label, 60), coalesce(i.reason, i.error_class))
                   FROM @extschema@.integration_run_items AS i
                  WHERE i.run_id = r.id AND i.state IN ('dead', 'held', 'refused') ORDER BY i.state, i.ord, i.id LIMIT 20) AS names;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.wait_report(bigint) IS 'How a run ended, in words: counts, and the names of what failed and why';

CREATE FUNCTION pgsync_itsm.went_through(run_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT r.status = 'done' AND r.dead = 0 FROM @extschema@.integration_runs AS r WHERE r.id = went_through.run_id);
COMMENT ON FUNCTION pgsync_itsm.went_through(bigint) IS 'Did a run end with nothing dead';

-- SECURITY INVOKER and no SET clause: a procedure that commits can have neither.
CREATE PROCEDURE @extschema@.itsm_wait(run_id bigint, error_on_failure boolean DEFAULT false)
LANGUAGE c AS 'MODULE_PATHNAME', 'pgsync_itsm_wait';
COMMENT ON PROCEDURE @extschema@.itsm_wait(bigint, boolean) IS
'Waits until a run ends or needs approval, with a NOTICE for each progress and the summary in words; cannot run in a transaction block';
