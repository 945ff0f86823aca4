-- Gates: what the functions of the API write, they write through these.  No role but the owner has a right to change a
-- table.  A gate (gate.c) looks as the caller whether its first argument may be seen, or is the caller's, and then calls
-- the function of its name with _granted behind it as the owner, with the caller's name as one more argument.
--
-- Whoever may call a function of the API may call its gates directly, with any arguments: what must hold is checked here.

CREATE FUNCTION pgsync_itsm.seen_connection(connection_id uuid) RETURNS @extschema@.integration_connections
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
BEGIN
    SELECT * INTO c FROM @extschema@.integration_connections AS i WHERE i.id = connection_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'connection % does not exist', coalesce(connection_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'SELECT id, namespace_id, platform, name FROM integration_connections;';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.seen_connection(uuid) IS 'A connection''s row, or the same error whether it is not there or not visible';

-- Runs ----------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.queue_run(connection_id uuid, kind text, confirm boolean, applications uuid[]) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_seen_connection';
COMMENT ON FUNCTION pgsync_itsm.queue_run(uuid, text, boolean, uuid[]) IS 'Gate: queues a run of a connection that the caller sees';

CREATE FUNCTION pgsync_itsm.queue_run_granted(connection_id uuid, kind text, confirm boolean, applications uuid[], caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c @extschema@.integration_connections;
    id bigint;
BEGIN
    SELECT * INTO c FROM @extschema@.integration_connections AS i WHERE i.id = connection_id;
    IF NOT c.is_active THEN
        RAISE EXCEPTION 'connection % is not active', c.id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('SELECT itsm_activate(%L);', c.id);
    END IF;
    PERFORM pgsync_itsm.check_one_of('kind', kind, ARRAY['publish', 'preview', 'match', 'subscribe', 'subscribe preview']);
    PERFORM pgsync_itsm.check_entitled_granted(c.namespace_id, c.platform, caller);
    INSERT INTO @extschema@.integration_runs AS r (namespace_id, connection_id, kind, purpose, confirm, applications, partial, requested_by)
    VALUES (c.namespace_id, c.id, CASE kind WHEN 'subscribe preview' THEN 'subscribe' ELSE kind END, CASE kind WHEN 'subscribe preview' THEN 'preview' END,
            coalesce(confirm, false), applications, applications IS NOT NULL, caller)
    RETURNING r.id INTO id;
    PERFORM pgsync_itsm.wake();
    RETURN id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.queue_run_granted(uuid, text, boolean, uuid[], name) IS 'Behind queue_run()';

CREATE FUNCTION pgsync_itsm.queue_rollback(run_id bigint, method text, classes jsonb) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_run';
COMMENT ON FUNCTION pgsync_itsm.queue_rollback(bigint, text, jsonb) IS 'Gate: queues the rollback of a run that the caller sees';

CREATE FUNCTION pgsync_itsm.queue_rollback_granted(run_id bigint, method text, classes jsonb, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
    id bigint;
BEGIN
    PERFORM pgsync_itsm.check_rollback(r, method, coalesce(classes, '{}'));
    PERFORM pgsync_itsm.check_entitled_granted(r.namespace_id, (SELECT c.platform FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id), caller);
    INSERT INTO @extschema@.integration_runs AS n (namespace_id, connection_id, kind, rolls_back, rollback_method, rollback_classes, requested_by)
    VALUES (r.namespace_id, r.connection_id, 'rollback', r.id, method, coalesce(classes, '{}'), caller) RETURNING n.id INTO id;
    PERFORM pgsync_itsm.wake();
    RETURN id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.queue_rollback_granted(bigint, text, jsonb, name) IS 'Behind queue_rollback()';

CREATE FUNCTION pgsync_itsm.release_run(run_id bigint) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_run';
COMMENT ON FUNCTION pgsync_itsm.release_run(bigint) IS 'Gate: lets a kept plan go on; false if it is not one, or not any more';

CREATE FUNCTION pgsync_itsm.release_run_granted(run_id bigint, caller name) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released boolean;
BEGIN
    UPDATE @extschema@.integration_runs AS x
       SET status = 'queued', phase = 'recheck', kind = CASE x.kind WHEN 'preview' THEN 'publish' ELSE x.kind END, confirm = true
     WHERE x.id = run_id AND x.status IN ('planned', 'needs_approval')
       AND EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = x.connection_id AND c.is_active);
    released := FOUND;
    PERFORM pgsync_itsm.wake();
    RETURN released;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.release_run_granted(bigint, name) IS 'Behind release_run()';

CREATE FUNCTION pgsync_itsm.stop_run(run_id bigint) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_run';
COMMENT ON FUNCTION pgsync_itsm.stop_run(bigint) IS 'Gate: ends a run that the caller sees, or has it ended';

CREATE FUNCTION pgsync_itsm.stop_run_granted(run_id bigint, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    -- A phase of a plan holds the run's row for as long as the source takes: it is interrupted first.
    PERFORM pgsync_itsm.cancel_planner(r.id);
    -- Whoever has just applied it, or begun with it, comes first; nobody begins with it after this.
    PERFORM FROM @extschema@.integration_runs AS x WHERE x.id = r.id FOR UPDATE;
    r := pgsync_itsm.own_run(run_id);
    IF r.status IN ('planned', 'needs_approval', 'queued') THEN
        PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
    ELSIF r.status IN ('planning', 'running') THEN
        UPDATE @extschema@.integration_runs AS x
           SET cancel_requested = true, cancel_by = coalesce(x.cancel_by, clock_timestamp() + interval '500 ms')
         WHERE x.id = r.id AND x.status IN ('queued', 'planning', 'running');
        PERFORM pgsync_itsm.wake();
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.stop_run_granted(bigint, name) IS 'Behind stop_run()';

CREATE FUNCTION pgsync_itsm.requeue_items(run_id bigint, error_class text, entity_type text, entity_id uuid) RETURNS bigint
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_run';
COMMENT ON FUNCTION pgsync_itsm.requeue_items(bigint, text, text, uuid) IS
'Gate: dead items of a run that the caller sees once more; NULL if another run of the connection is at work, or it is gone';

CREATE FUNCTION pgsync_itsm.requeue_items_granted(run_id bigint, error_class text, entity_type text, entity_id uuid, caller name) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs := pgsync_itsm.own_run(run_id);
BEGIN
    IF r.status NOT IN ('running', 'done') OR NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id)
       OR r.status = 'done' AND EXISTS (SELECT FROM @extschema@.integration_runs AS o
                                         WHERE o.connection_id = r.connection_id AND o.id <> r.id AND o.status IN ('planning', 'running')) THEN
        RETURN NULL;
    END IF;
    RETURN pgsync_itsm.requeue_run(r, error_class, entity_type, entity_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.requeue_items_granted(bigint, text, text, uuid, name) IS 'Behind requeue_items()';

-- Connections ---------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.add_connection(namespace_id uuid, connection jsonb) RETURNS uuid
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_namespace';
COMMENT ON FUNCTION pgsync_itsm.add_connection(uuid, jsonb) IS
'Gate: stores a connection, inactive, owned by the caller, of a namespace that the caller sees; NULL if there is one of that name';

CREATE FUNCTION pgsync_itsm.add_connection_granted(namespace_id uuid, connection jsonb, caller name) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c @extschema@.integration_connections := jsonb_populate_record(NULL::@extschema@.integration_connections, connection);
    id uuid;
BEGIN
    IF (c.client_cert_file IS NOT NULL OR c.client_key_file IS NOT NULL) AND NOT pg_has_role(caller, 'pg_read_server_files', 'USAGE') THEN
        RAISE EXCEPTION 'permission denied to name a file of the server' USING ERRCODE = 'insufficient_privilege',
            HINT = 'Only roles with the privileges of pg_read_server_files may do that.';
    END IF;
    PERFORM pgsync_itsm.check_entitled_granted(add_connection_granted.namespace_id, c.platform, caller);
    PERFORM pgsync_itsm.check_setting(s.key, s.value) FROM jsonb_each_text(coalesce(c.settings, '{}')) AS s;
    PERFORM pgsync_itsm.check_platform_setting(c.platform, s.key, s.value)
       FROM jsonb_each_text(coalesce(c.settings, '{}') || jsonb_build_object('sync_direction', c.sync_direction)) AS s;
    INSERT INTO @extschema@.integration_connections AS i
        (namespace_id, platform, name, instance_url, auth_type, oauth_grant, client_id_vault_id, client_secret_vault_id,
         username_vault_id, password_vault_id, api_key_vault_id, client_cert_file, client_key_file,
         sync_direction, sync_schedule, owner, session_settings, settings)
    VALUES (add_connection_granted.namespace_id, c.platform, coalesce(c.name, 'default'),
            CASE c.platform WHEN 'haloitsm' THEN pgsync_itsm.halo_resource_server(c.instance_url) ELSE pgsync_itsm.clean_address(c.instance_url) END, c.auth_type, c.oauth_grant,
            c.client_id_vault_id, c.client_secret_vault_id, c.username_vault_id, c.password_vault_id, c.api_key_vault_id,
            c.client_cert_file, c.client_key_file, c.sync_direction, c.sync_schedule, caller, coalesce(c.session_settings, '{}'), coalesce(c.settings, '{}'))
    ON CONFLICT ON CONSTRAINT integration_connections_namespace_id_platform_name_key DO NOTHING
    RETURNING i.id INTO id;
    PERFORM pgsync_itsm.claim_cluster();
    RETURN id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.add_connection_granted(uuid, jsonb, name) IS 'Behind add_connection()';

CREATE FUNCTION pgsync_itsm.remove_connection(connection_id uuid) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.remove_connection(uuid) IS 'Gate: ends the runs of the caller''s connection, destroys its secrets and removes it';

CREATE FUNCTION pgsync_itsm.remove_connection_granted(connection_id uuid, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    run_id bigint;
BEGIN
    FOR run_id IN SELECT r.id FROM @extschema@.integration_runs AS r
                   WHERE r.connection_id = connection_id AND r.status IN ('queued', 'planning', 'planned', 'needs_approval', 'running') ORDER BY r.id
    LOOP
        -- What is being planned ends first: its items would be left waiting.
        PERFORM pgsync_itsm.cancel_planner(run_id);
        PERFORM FROM @extschema@.integration_runs AS r WHERE r.id = run_id FOR UPDATE;
        PERFORM pgsync_itsm.finish_run(r.id, 'cancelled')
           FROM @extschema@.integration_runs AS r WHERE r.id = run_id AND r.status IN ('queued', 'planning', 'planned', 'needs_approval', 'running');
    END LOOP;
    PERFORM pgsync_itsm.drop_secrets(connection_id);
    DELETE FROM @extschema@.integration_references AS r WHERE r.connection_id = connection_id;
    DELETE FROM @extschema@.integration_external_records AS r WHERE r.connection_id = connection_id;
    DELETE FROM @extschema@.integration_inbox AS b WHERE b.connection_id = connection_id;
    DELETE FROM @extschema@.integration_watermarks AS w WHERE w.connection_id = connection_id;
    DELETE FROM @extschema@.integration_intakes AS i WHERE i.connection_id = connection_id;
    DELETE FROM @extschema@.integration_intake_map AS m WHERE m.connection_id = connection_id;
    DELETE FROM pgsync_itsm.connection_pace AS p WHERE p.connection_id = connection_id;
    DELETE FROM @extschema@.integration_connections AS i WHERE i.id = connection_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.remove_connection_granted(uuid, name) IS 'Behind remove_connection()';

CREATE FUNCTION pgsync_itsm.drop_secrets(connection_id uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.drop_secret(s.id)
      FROM @extschema@.integration_connections AS c,
           unnest(ARRAY[c.client_id_vault_id, c.client_secret_vault_id, c.username_vault_id, c.password_vault_id, c.api_key_vault_id]) AS s(id)
     WHERE c.id = drop_secrets.connection_id AND s.id IS NOT NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.drop_secrets(uuid) IS 'Destroys the credentials of a connection';

CREATE FUNCTION pgsync_itsm.set_active(connection_id uuid, active boolean) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.set_active(uuid, boolean) IS 'Gate: turns the caller''s connection on, ending a pause as well, or off';

CREATE FUNCTION pgsync_itsm.set_active_granted(connection_id uuid, active boolean, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.seen_connection(connection_id);
BEGIN
    IF active THEN
        PERFORM pgsync_itsm.check_namespace(c.namespace_id);
        PERFORM pgsync_itsm.check_entitled_granted(c.namespace_id, c.platform, caller);
    END IF;
    UPDATE @extschema@.integration_connections AS i
       SET is_active = active, paused_at = NULL, pause_class = NULL, pause_reason = NULL, updated_at = now(),
           full_plan_after = CASE WHEN active THEN pg_current_snapshot() ELSE i.full_plan_after END,
           look_at = NULL, next_run_at = CASE WHEN active THEN i.next_run_at END
     WHERE i.id = c.id;
    PERFORM pgsync_itsm.wake();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.set_active_granted(uuid, boolean, name) IS 'Behind set_active()';

CREATE FUNCTION pgsync_itsm.change_schedule(connection_id uuid, sync_schedule text) RETURNS timestamptz
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.change_schedule(uuid, text) IS
'Gate: when the caller''s connection publishes by itself (NULL: as before, its times may be others); returns when the next run is';

CREATE FUNCTION pgsync_itsm.change_schedule_granted(connection_id uuid, sync_schedule text, caller name) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c @extschema@.integration_connections;
    upcoming timestamptz;
BEGIN
    UPDATE @extschema@.integration_connections AS x
       SET sync_schedule = coalesce(sync_schedule, x.sync_schedule), scheduled_at = now(), look_at = NULL,
           full_plan_after = pg_current_snapshot(), updated_at = now()
     WHERE x.id = connection_id
    RETURNING * INTO c;
    upcoming := pgsync_itsm.next_scheduled(c, now());
    UPDATE @extschema@.integration_connections AS x SET next_run_at = upcoming WHERE x.id = c.id;
    PERFORM pgsync_itsm.wake();
    RETURN upcoming;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.change_schedule_granted(uuid, text, name) IS 'Behind change_schedule()';

CREATE FUNCTION pgsync_itsm.adopt_instance(connection_id uuid) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.adopt_instance(uuid) IS 'Gate: whatever instance answers next at the caller''s connection is the right one';

CREATE FUNCTION pgsync_itsm.adopt_instance_granted(connection_id uuid, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_connections AS i
       SET instance_name = NULL, paused_at = NULL, pause_class = NULL, pause_reason = NULL, updated_at = now()
     WHERE i.id = connection_id;
    PERFORM pgsync_itsm.wake();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.adopt_instance_granted(uuid, name) IS 'Behind adopt_instance()';

CREATE FUNCTION pgsync_itsm.keep_instance_name(connection_id uuid, instance text) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.keep_instance_name(uuid, text) IS 'Gate: store_instance_name() of the caller''s connection';

CREATE FUNCTION pgsync_itsm.keep_instance_name_granted(connection_id uuid, instance text, caller name) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp
RETURN pgsync_itsm.store_instance_name(connection_id, instance);
COMMENT ON FUNCTION pgsync_itsm.keep_instance_name_granted(uuid, text, name) IS 'Behind keep_instance_name()';

-- No plan depends on them but those that lack them: nothing is planned anew.
CREATE FUNCTION pgsync_itsm.keep_ids(connection_id uuid, ids text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.keep_ids(uuid, text) IS 'Gate: ids that were found there, added to those of the caller''s connection; 0 takes one away';

CREATE FUNCTION pgsync_itsm.keep_ids_granted(connection_id uuid, ids text, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pgsync_itsm.check_setting('halo_ids', ids);
    UPDATE @extschema@.integration_connections AS c
       SET settings = c.settings || jsonb_build_object('halo_ids', (
               SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}')
                 FROM jsonb_each(coalesce(c.settings ->> 'halo_ids', '{}')::jsonb || ids::jsonb) AS e WHERE e.value <> '0')::text),
           updated_at = now()
     WHERE c.id = connection_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.keep_ids_granted(uuid, text, name) IS 'Behind keep_ids()';

CREATE FUNCTION pgsync_itsm.change_setting(connection_id uuid, name text, value text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.change_setting(uuid, text, text) IS 'Gate: one setting of the caller''s connection, NULL: back to the default';

CREATE FUNCTION pgsync_itsm.change_setting_granted(connection_id uuid, name text, value text, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pgsync_itsm.check_setting(name, value);
    PERFORM pgsync_itsm.check_platform_setting(c.platform, name, value) FROM @extschema@.integration_connections AS c WHERE c.id = connection_id;
    -- the one setting that is a column
    UPDATE @extschema@.integration_connections AS c
       SET settings = CASE WHEN name = 'sync_direction' THEN c.settings WHEN value IS NULL THEN c.settings - name ELSE c.settings || jsonb_build_object(name, value) END,
           sync_direction = CASE WHEN name = 'sync_direction' THEN coalesce(value, 'publish') ELSE c.sync_direction END,
           full_plan_after = pg_current_snapshot(), look_at = NULL, updated_at = now()
     WHERE c.id = connection_id;
    PERFORM pgsync_itsm.wake();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.change_setting_granted(uuid, text, text, name) IS 'Behind change_setting()';

-- Sources and mappings ------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.store_source(connection_id uuid, entity_type text, query text, key_type text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.store_source(uuid, text, text, text) IS 'Gate: the source of an entity type of the caller''s connection (NULL, superuser: of all); a NULL query removes it';

CREATE FUNCTION pgsync_itsm.store_source_granted(connection_id uuid, entity_type text, query text, key_type text, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pgsync_itsm.check_entity_type(store_source_granted.entity_type);
    IF store_source_granted.query IS NULL THEN
        DELETE FROM @extschema@.integration_sources AS s
         WHERE s.entity_type = store_source_granted.entity_type AND s.connection_id IS NOT DISTINCT FROM store_source_granted.connection_id;
    ELSE
        INSERT INTO @extschema@.integration_sources AS s (namespace_id, connection_id, entity_type, query, key_type)
        VALUES ((SELECT c.namespace_id FROM @extschema@.integration_connections AS c WHERE c.id = store_source_granted.connection_id),
                store_source_granted.connection_id, store_source_granted.entity_type, store_source_granted.query,
                pgsync_itsm.clean_key_type(store_source_granted.key_type))
        ON CONFLICT (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), entity_type)
        DO UPDATE SET query = excluded.query, key_type = excluded.key_type, origin = 'user', updated_at = now();
    END IF;
    PERFORM pgsync_itsm.plan_in_full(store_source_granted.connection_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_source_granted(uuid, text, text, text, name) IS 'Behind store_source()';

CREATE FUNCTION pgsync_itsm.store_mapping(connection_id uuid, platform text, entity_type text, target_class text, target_field text,
                                          expression text, kind text, value_map jsonb, on_unresolved text, authority text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.store_mapping(uuid, text, text, text, text, text, text, jsonb, text, text) IS 'Gate: what fills a field, of the caller''s connection (NULL, superuser: of all)';

CREATE FUNCTION pgsync_itsm.store_mapping_granted(connection_id uuid, platform text, entity_type text, target_class text, target_field text,
                                                  expression text, kind text, value_map jsonb, on_unresolved text, authority text, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c @extschema@.integration_connections;
BEGIN
    PERFORM pgsync_itsm.check_mapping(store_mapping_granted.entity_type, store_mapping_granted.target_field, store_mapping_granted.target_class);
    PERFORM pgsync_itsm.check_value_map(store_mapping_granted.value_map);
    SELECT * INTO c FROM @extschema@.integration_connections AS i WHERE i.id = store_mapping_granted.connection_id;
    INSERT INTO @extschema@.integration_field_mappings AS m
        (namespace_id, connection_id, platform, entity_type, target_class, target_field, expression, kind, value_map, on_unresolved, authority, ord)
    VALUES (c.namespace_id, store_mapping_granted.connection_id, coalesce(c.platform, store_mapping_granted.platform, 'servicenow'),
            store_mapping_granted.entity_type, store_mapping_granted.target_class, store_mapping_granted.target_field, store_mapping_granted.expression,
            store_mapping_granted.kind, store_mapping_granted.value_map, store_mapping_granted.on_unresolved, store_mapping_granted.authority, 1000)
    ON CONFLICT (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), platform, entity_type, target_class, target_field, is_default)
    DO UPDATE SET expression = excluded.expression, kind = excluded.kind, value_map = excluded.value_map,
                  on_unresolved = excluded.on_unresolved, authority = excluded.authority, enabled = true, updated_at = now();
    PERFORM pgsync_itsm.plan_in_full(store_mapping_granted.connection_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_mapping_granted(uuid, text, text, text, text, text, text, jsonb, text, text, name) IS 'Behind store_mapping()';

CREATE FUNCTION pgsync_itsm.remove_mapping(connection_id uuid, platform text, entity_type text, target_class text, target_field text) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.remove_mapping(uuid, text, text, text, text) IS 'Gate: takes back what store_mapping() stored; false if there is nothing';

CREATE FUNCTION pgsync_itsm.remove_mapping_granted(connection_id uuid, platform text, entity_type text, target_class text, target_field text, caller name)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    found_one boolean;
BEGIN
    DELETE FROM @extschema@.integration_field_mappings AS m
     WHERE m.connection_id IS NOT DISTINCT FROM connection_id AND NOT m.is_default
       AND m.platform = coalesce((SELECT c.platform FROM @extschema@.integration_connections AS c WHERE c.id = connection_id), platform, 'servicenow')
       AND m.entity_type = entity_type AND m.target_field = target_field AND m.target_class = target_class;
    found_one := FOUND;
    PERFORM pgsync_itsm.plan_in_full(connection_id);
    RETURN found_one;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.remove_mapping_granted(uuid, text, text, text, text, name) IS 'Behind remove_mapping()';

-- Namespaces ----------------------------------------------------------------------------------------

-- The table is the application's, and what is there under its name may be anybody's by now: only a plain table with a plain
-- column is read, as it is then, with no function of anybody's in between; without row_security, a policy is an error.
-- The lock holds it as it was looked at.
CREATE FUNCTION pgsync_itsm.namespaces_table(with_tier boolean) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
    relation text := (SELECT format('%I.namespaces', s.getinsync_schema) FROM pgsync_itsm.site AS s WHERE s.getinsync_schema IS NOT NULL);
BEGIN
    IF relation IS NULL OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = to_regclass(relation) AND c.relkind IN ('r', 'p')) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', relation);
    RETURN (SELECT relation FROM pg_class AS c
              JOIN pg_attribute AS i ON i.attrelid = c.oid AND i.attname = 'id' AND i.atttypid = 'uuid'::regtype AND NOT i.attisdropped
             WHERE c.oid = to_regclass(relation) AND c.relkind IN ('r', 'p')
               AND NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_class AS f ON f.oid = h.inhrelid WHERE h.inhparent = c.oid AND f.relkind = 'f')
               AND (NOT with_tier
                    OR EXISTS (SELECT FROM pg_attribute AS t JOIN pg_type AS y ON y.oid = t.atttypid
                                WHERE t.attrelid = c.oid AND t.attname = 'tier' AND NOT t.attisdropped
                                  AND (y.oid IN ('text'::regtype, 'varchar'::regtype) OR y.typtype = 'e'))));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.namespaces_table(boolean) IS
'The attached table of namespaces, locked, if it is a plain one with a uuid id (and a textual tier): safe to read as the owner; else NULL';

CREATE FUNCTION pgsync_itsm.namespace_exists(namespace_id uuid) RETURNS boolean
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_namespace';
COMMENT ON FUNCTION pgsync_itsm.namespace_exists(uuid) IS
'Gate: is there a namespace that the caller would see; a database without attached GetInSync tables has no list of them: then every uuid is one';

CREATE FUNCTION pgsync_itsm.namespace_exists_granted(namespace_id uuid, caller name) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    relation text := pgsync_itsm.namespaces_table(false);
    there boolean := true;
BEGIN
    IF relation IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s AS n WHERE n.id = $1)', relation) INTO there USING namespace_id;
    END IF;
    RETURN there;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.namespace_exists_granted(uuid, name) IS 'Behind namespace_exists()';

CREATE FUNCTION pgsync_itsm.check_entitled(namespace_id uuid, platform text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_namespace';
COMMENT ON FUNCTION pgsync_itsm.check_entitled(uuid, text) IS 'Gate: refuses a platform that the namespace''s tier lacks';

CREATE FUNCTION pgsync_itsm.check_entitled_granted(namespace_id uuid, platform text, caller name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
    relation text;
    its_tier text;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.integration_entitlements AS e WHERE NOT e.allowed AND e.platform = check_entitled_granted.platform) THEN
        RETURN;
    END IF;
    relation := pgsync_itsm.namespaces_table(true);
    IF relation IS NULL THEN
        RETURN;
    END IF;
    -- by its output function: a cast may be somebody's
    EXECUTE format('SELECT format(''%%s'', n.tier) FROM %s AS n WHERE n.id = $1', relation) INTO its_tier USING namespace_id;
    IF EXISTS (SELECT FROM @extschema@.integration_entitlements AS e
                WHERE e.tier = its_tier AND e.platform = check_entitled_granted.platform AND NOT e.allowed) THEN
        RAISE EXCEPTION 'the tier "%" of namespace % does not include the platform "%"', its_tier, namespace_id, platform
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('To include it, as the owner of the extension: UPDATE integration_entitlements SET allowed = true WHERE tier = %L AND platform = %L;', its_tier, platform);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_entitled_granted(uuid, text, name) IS 'Behind check_entitled(): everything is allowed that no row of integration_entitlements forbids';
