-- When a namespace is deleted: its connections are turned off, its secrets destroyed; map and log are kept.
--
-- Nothing here waits for the row of a run: the planner holds that for as long as a source takes.  What is locked is left to
-- the worker, which looks for it in every turn (cancel_gone()).

CREATE FUNCTION pgsync_itsm.forget_namespace(namespace_id uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    n bigint;
BEGIN
    PERFORM pgsync_itsm.cancel_planner(r.id)
       FROM @extschema@.integration_runs AS r WHERE r.namespace_id = namespace_id AND r.status = 'planning';
    UPDATE @extschema@.integration_connections AS c
       SET is_active = false, paused_at = coalesce(c.paused_at, now()), pause_class = 'NAMESPACE_DELETED', pause_reason = 'its namespace was deleted',
           sync_schedule = 'manual', next_run_at = NULL, full_plan_after = NULL, full_plan_for = NULL, full_plan_from = NULL, updated_at = now()
     WHERE c.namespace_id = namespace_id;
    GET DIAGNOSTICS n = ROW_COUNT;
    PERFORM pgsync_itsm.drop_secrets(c.id) FROM @extschema@.integration_connections AS c WHERE c.namespace_id = namespace_id;
    -- also what no connection refers to any more
    PERFORM pgsync_itsm.drop_secret(s.id) FROM pgsync_itsm.integration_secrets AS s WHERE s.namespace_id = namespace_id;
    PERFORM pgsync_itsm.cancel_gone();
    PERFORM pgsync_itsm.wake();
    RETURN n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.forget_namespace(uuid) IS 'Turns off a namespace''s connections, ends its runs, destroys its secrets; returns how many connections';

CREATE FUNCTION pgsync_itsm.cancel_gone() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.id, x.connection_id, x.status FROM @extschema@.integration_runs AS x
              WHERE x.connection_id IN (SELECT c.id FROM @extschema@.integration_connections AS c WHERE c.pause_class = 'NAMESPACE_DELETED' AND NOT c.is_active)
                AND x.status IN ('queued', 'planning', 'planned', 'needs_approval', 'running')
                AND NOT (x.cancel_requested AND x.status IN ('planning', 'running'))
              ORDER BY x.id FOR NO KEY UPDATE SKIP LOCKED LOOP
        CONTINUE WHEN NOT pgsync_itsm.is_free(r.connection_id, r.id);
        UPDATE @extschema@.integration_runs AS x SET error_code = 'NAMESPACE_DELETED', error_message = 'its namespace was deleted' WHERE x.id = r.id;
        IF r.status IN ('planning', 'running') THEN
            UPDATE @extschema@.integration_runs AS x
               SET cancel_requested = true, cancel_by = coalesce(x.cancel_by, clock_timestamp() + interval '500 ms') WHERE x.id = r.id;
        ELSE
            PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.cancel_gone() IS 'Ends the runs of namespaces that were deleted, or has them ended; waits for none';

CREATE FUNCTION @extschema@.itsm_forget_namespace(namespace_id uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM pgsync_itsm.check_may_secure();
    IF namespace_id IS NULL THEN
        RAISE EXCEPTION 'namespace_id must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    n := pgsync_itsm.forget_namespace(namespace_id);
    RAISE NOTICE '% of namespace % turned off, credentials destroyed; map and log are kept', CASE n WHEN 1 THEN '1 connection' ELSE format('%s connections', n) END, namespace_id;
    RETURN n;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_forget_namespace(uuid) IS
'For a namespace that is deleted: turns its connections off, ends their runs, destroys their credentials; map and log are kept. In an attached GetInSync schema a trigger does this';

-- Whatever becomes of it, the user's DELETE goes through.
CREATE FUNCTION pgsync_itsm.forget_if_gone(namespace_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
BEGIN
    IF EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.namespace_id = forget_if_gone.namespace_id)
       AND NOT pgsync_itsm.namespace_exists_granted(namespace_id, current_user::name) THEN
        PERFORM pgsync_itsm.forget_namespace(namespace_id);
    END IF;
EXCEPTION WHEN others THEN
    RAISE WARNING 'the connections of deleted namespace % could not be turned off: %', namespace_id, SQLERRM
        USING HINT = format('SELECT itsm_forget_namespace(%L);', namespace_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.forget_if_gone(uuid) IS 'forget_namespace() unless the namespace is there; an error becomes a WARNING';

-- Fires at commit, for as short a time as possible before it: a namespace that is deleted and made again was not deleted.
CREATE FUNCTION pgsync_itsm.namespace_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id uuid;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        FOR id IN SELECT DISTINCT c.namespace_id FROM @extschema@.integration_connections AS c ORDER BY 1 LOOP
            PERFORM pgsync_itsm.forget_if_gone(id);
        END LOOP;
    -- no function of somebody's that makes a uuid of what the column has become
    ELSIF pg_typeof(OLD.id) = 'uuid'::regtype THEN
        PERFORM pgsync_itsm.forget_if_gone(OLD.id);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.namespace_deleted() IS
'Trigger on the table of namespaces; definer rights because who deletes a namespace need have no right on connections and secrets';

CREATE FUNCTION pgsync_itsm.watch_namespaces(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation regclass := to_regclass(format('%I.namespaces', schema_name));
BEGIN
    -- both there as they should be: no lock is taken
    IF (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgfoid = 'pgsync_itsm.namespace_deleted()'::regprocedure AND t.tgenabled = 'A') = 2 THEN
        RETURN;
    END IF;
    PERFORM pgsync_itsm.unwatch_namespaces(schema_name);
    IF EXISTS (SELECT FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'id' AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped
                WHERE c.oid = relation AND c.relkind = 'r') THEN
        EXECUTE format('CREATE CONSTRAINT TRIGGER pgsync_itsm_namespace AFTER DELETE ON %s DEFERRABLE INITIALLY DEFERRED
                        FOR EACH ROW EXECUTE FUNCTION pgsync_itsm.namespace_deleted()', relation);
        EXECUTE format('CREATE TRIGGER pgsync_itsm_namespaces AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgsync_itsm.namespace_deleted()', relation);
        EXECUTE format('ALTER TRIGGER pgsync_itsm_namespace ON %s DEPENDS ON EXTENSION pgsync_itsm', relation);
        EXECUTE format('ALTER TRIGGER pgsync_itsm_namespaces ON %s DEPENDS ON EXTENSION pgsync_itsm', relation);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER pgsync_itsm_namespace, ENABLE ALWAYS TRIGGER pgsync_itsm_namespaces', relation);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.watch_namespaces(name) IS 'Gives a schema''s table of namespaces its triggers, if it has one';

CREATE FUNCTION pgsync_itsm.unwatch_namespaces(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT g.tgname, g.tgrelid::regclass AS relation FROM pg_trigger AS g
              WHERE g.tgrelid = to_regclass(format('%I.namespaces', schema_name)) AND g.tgfoid = 'pgsync_itsm.namespace_deleted()'::regprocedure AND NOT g.tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.unwatch_namespaces(name) IS 'Takes the triggers away from a schema''s table of namespaces';
