-- Row-level security.  The policies are fixed here: policies that a site made later on extension tables
-- would be lost in a dump.  What a site decides is the text of one condition, kept in pgsync_itsm.site.

CREATE FUNCTION pgsync_itsm.site_condition() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT condition FROM pgsync_itsm.site);
COMMENT ON FUNCTION pgsync_itsm.site_condition() IS 'The site''s own visibility condition; called by visible_namespaces() as the owner';

-- Of a connection that was removed the runs are left: one probe of the index for each namespace.
CREATE FUNCTION pgsync_itsm.known_namespaces() RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE runs AS (
        (SELECT r.namespace_id FROM @extschema@.integration_runs AS r ORDER BY r.namespace_id LIMIT 1)
        UNION ALL
        SELECT (SELECT n.namespace_id FROM @extschema@.integration_runs AS n WHERE n.namespace_id > r.namespace_id ORDER BY n.namespace_id LIMIT 1)
          FROM runs AS r WHERE r.namespace_id IS NOT NULL)
    SELECT c.namespace_id FROM @extschema@.integration_connections AS c
    UNION
    SELECT r.namespace_id FROM runs AS r WHERE r.namespace_id IS NOT NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.known_namespaces() IS 'Namespaces that have, or had, a connection; called by visible_namespaces() as the owner';

-- The condition runs with the caller's rights and settings, so that get_current_namespace_id() and its like see the caller.
CREATE FUNCTION pgsync_itsm.visible_namespaces(candidates uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'visible_namespaces';
COMMENT ON FUNCTION pgsync_itsm.visible_namespaces(uuid[]) IS
'Namespaces whose rows the caller may see, of those given or of all that are known: none until itsm_secure() has stored the site''s condition';

CREATE FUNCTION pgsync_itsm.sees_namespace(namespace_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce(NOT row_security_active('@extschema@.integration_connections'::regclass)
                OR namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces(ARRAY[namespace_id]))), false);
COMMENT ON FUNCTION pgsync_itsm.sees_namespace(uuid) IS 'Do the policies show this namespace to the caller, whether it has a connection or not?';

CREATE FUNCTION pgsync_itsm.check_sees_namespace(namespace_id uuid) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF namespace_id IS NULL THEN
        RAISE EXCEPTION 'namespace_id must not be null' USING ERRCODE = 'null_value_not_allowed';
    ELSIF NOT pgsync_itsm.sees_namespace(namespace_id) THEN
        RAISE EXCEPTION 'namespace % does not exist', namespace_id
            USING ERRCODE = 'undefined_object', HINT = 'SELECT DISTINCT namespace_id FROM integration_connections;';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_sees_namespace(uuid) IS 'Raises the error of a namespace that is not there, if the caller does not see it';

DO $do$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['integration_connections', 'integration_sync_map', 'integration_sync_log',
        'integration_queue', 'integration_runs', 'integration_run_steps', 'integration_run_items',
        'integration_sources', 'integration_writers', 'integration_intakes', 'integration_intake_map', 'integration_watches', 'integration_field_mappings', 'integration_references',
        'integration_matches', 'integration_external_records', 'integration_watermarks', 'integration_conflicts', 'integration_inbox',
        'integration_entitlements']
    LOOP
        EXECUTE format('ALTER TABLE @extschema@.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY see ON @extschema@.%I FOR SELECT
            USING (namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces())))', t);
        EXECUTE format('CREATE POLICY add ON @extschema@.%I FOR INSERT
            WITH CHECK (namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces())))', t);
        EXECUTE format('CREATE POLICY change ON @extschema@.%I FOR UPDATE
            USING (namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces())))', t);
        EXECUTE format('CREATE POLICY remove ON @extschema@.%I FOR DELETE
            USING (namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces())))', t);
    END LOOP;
    -- What the site has set for all connections, all who read with it may see.
    FOREACH t IN ARRAY ARRAY['integration_sources', 'integration_writers', 'integration_intakes', 'integration_field_mappings'] LOOP
        EXECUTE format('ALTER POLICY see ON @extschema@.%I
            USING (namespace_id IS NULL AND connection_id IS NULL OR namespace_id = ANY (ARRAY(SELECT pgsync_itsm.visible_namespaces())))', t);
    END LOOP;
END
$do$;

CREATE FUNCTION pgsync_itsm.check_may_secure() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pgsync_itsm' AND pg_has_role(e.extowner, 'MEMBER')) THEN
        RAISE EXCEPTION 'must be a member of the owner of extension pgsync_itsm'
            USING ERRCODE = 'insufficient_privilege', DETAIL = 'Who sees what, and who may do what, is decided for all namespaces.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_may_secure() IS 'Raises an error unless the caller is a member of the extension''s owner';

-- A typing error must not show at the first query of a tenant: a namespace that nobody has is asked about.
CREATE FUNCTION @extschema@.itsm_secure(condition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    detail text;
BEGIN
    PERFORM pgsync_itsm.check_may_secure();
    IF condition IS NOT NULL THEN
        BEGIN
            PERFORM pgsync_itsm.check_expression(condition);
            EXECUTE format(E'SELECT k.namespace_id FROM unnest($1) AS k(namespace_id) WHERE (%s\n)', condition)
              USING ARRAY['00000000-0000-0000-0000-000000000000']::uuid[];
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN others THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            RAISE EXCEPTION 'the visibility condition cannot be evaluated: %', SQLERRM
                USING ERRCODE = SQLSTATE, DETAIL = coalesce(nullif(detail, ''), 'It is one SQL condition on namespace_id; search_path is pg_catalog.'),
                      HINT = 'SELECT itsm_secure(''namespace_id = public.get_current_namespace_id()''); or SELECT itsm_secure_getinsync();';
        END;
    END IF;
    INSERT INTO pgsync_itsm.site (only_one, condition) VALUES (true, itsm_secure.condition)
    ON CONFLICT (only_one) DO UPDATE SET condition = excluded.condition;
    RAISE NOTICE '%', CASE WHEN condition IS NULL
        THEN 'integration_* rows are visible to their owner and superusers only'
        ELSE 'integration_* rows are visible where the stored condition holds; next: SELECT itsm_grant(role, ''viewer'');' END;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_secure(text) IS
'Stores the site''s condition on namespace_id that decides which integration_* rows a role sees; NULL hides all. Evaluated as the caller, once a query and namespace; functions in it must be schema-qualified, and executable for whoever is to see something';

CREATE FUNCTION @extschema@.itsm_secure_getinsync(schema_name name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sch name := coalesce(schema_name, pgsync_itsm.attached_schema(), 'public');
    missing text;
BEGIN
    PERFORM pgsync_itsm.check_may_secure();
    SELECT string_agg(format('%I.%I()', sch, f.name), ', ' ORDER BY f.name) INTO missing
      FROM (VALUES ('get_current_namespace_id', 'uuid'::regtype), ('check_is_platform_admin', 'boolean')) AS f(name, result)
     WHERE NOT EXISTS (SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                        WHERE n.nspname = sch AND p.proname = f.name AND p.pronargs = 0 AND p.prorettype = f.result);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'this is no GetInSync schema: it lacks %', missing
            USING ERRCODE = 'undefined_function', HINT = 'SELECT itsm_secure_getinsync(''schema of the GetInSync tables''); or give a condition: SELECT itsm_secure(''...'');';
    END IF;
    -- as sub-selects they run once a query, not once a namespace
    PERFORM @extschema@.itsm_secure(format('namespace_id = (SELECT %1$I.get_current_namespace_id()) OR (SELECT %1$I.check_is_platform_admin())', sch));
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_secure_getinsync(name) IS
'itsm_secure() with the condition of a GetInSync database: the namespace that the user is in, and all for platform administrators. Schema: by default the attached one';
