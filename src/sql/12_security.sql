-- Row-level security.  The policies are fixed here: policies that a site made later on extension tables
-- would be lost in a dump.  What a site decides is the text of one condition, kept in pgsync_itsm.site.

CREATE FUNCTION pgsync_itsm.site_condition() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT condition FROM pgsync_itsm.site);
COMMENT ON FUNCTION pgsync_itsm.site_condition() IS
'The site''s own visibility condition; definer rights because the row is internal';

CREATE FUNCTION pgsync_itsm.known_namespaces() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT c.namespace_id FROM @extschema@.integration_connections AS c;
END;
COMMENT ON FUNCTION pgsync_itsm.known_namespaces() IS
'Namespaces that have a connection; definer rights because it feeds the policies of the table it reads';

-- Runs with the caller's rights and settings, so that get_current_namespace_id() and its like see the caller.
CREATE FUNCTION pgsync_itsm.visible_namespaces() RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    condition text := pgsync_itsm.site_condition();
BEGIN
    IF condition IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT k.namespace_id FROM pgsync_itsm.known_namespaces() AS k(namespace_id) WHERE (%s)', condition);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.visible_namespaces() IS
'Namespaces whose rows the caller may see: none until itsm_secure() has stored the site''s condition';

DO $do$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['integration_connections', 'integration_sync_map', 'integration_sync_log',
        'integration_queue', 'integration_runs', 'integration_run_steps', 'integration_run_items',
        'integration_sources', 'integration_watches', 'integration_field_mappings', 'integration_references',
        'integration_matches', 'integration_external_records', 'integration_conflicts', 'integration_inbox',
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
END
$do$;

CREATE FUNCTION @extschema@.itsm_secure(condition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF condition IS NOT NULL THEN
        BEGIN
            EXECUTE format('SELECT k.namespace_id FROM pgsync_itsm.known_namespaces() AS k(namespace_id) WHERE (%s)',
                           condition);
        EXCEPTION WHEN others THEN
            RAISE EXCEPTION 'the visibility condition cannot be evaluated: %', SQLERRM
                USING ERRCODE = SQLSTATE,
                      HINT = 'SELECT itsm_secure(''namespace_id = public.get_current_namespace_id() OR public.check_is_platform_admin()'');';
        END;
    END IF;
    INSERT INTO pgsync_itsm.site (only_one, condition) VALUES (true, itsm_secure.condition)
    ON CONFLICT (only_one) DO UPDATE SET condition = excluded.condition;
    RAISE NOTICE '%', CASE WHEN condition IS NULL
        THEN 'integration_* rows are visible to their owner and superusers only'
        ELSE 'integration_* rows are visible where the stored condition holds' END;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_secure(text) IS
'Stores the site''s condition on namespace_id that decides which integration_* rows a role sees; NULL hides all. Functions in it must be schema-qualified';
