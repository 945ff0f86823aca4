-- What a dump takes along, and nothing to anybody but the owner and pg_monitor.

DO $do$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['integration_connections', 'integration_sync_map', 'integration_sync_log', 'integration_queue',
        'integration_runs', 'integration_run_steps', 'integration_run_items', 'integration_watches', 'integration_sources', 'integration_writers', 'integration_intakes', 'integration_intake_map',
        'integration_matches', 'integration_conflicts', 'integration_inbox', 'integration_entitlements']
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(format('@extschema@.%I', t)::regclass, '');
        IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = format('@extschema@.%I', t)::regclass AND a.attname = 'id' AND a.attidentity <> '') THEN
            PERFORM pg_catalog.pg_extension_config_dump(pg_get_serial_sequence(format('@extschema@.%I', t), 'id')::regclass, '');
        END IF;
    END LOOP;
    PERFORM pg_catalog.pg_extension_config_dump('@extschema@.integration_field_mappings'::regclass, 'WHERE NOT is_default');
    PERFORM pg_catalog.pg_extension_config_dump(pg_get_serial_sequence('@extschema@.integration_field_mappings', 'id')::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump('pgsync_itsm.integration_secrets'::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump('pgsync_itsm.site'::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump('pgsync_itsm.attached_objects'::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump(pg_get_serial_sequence('pgsync_itsm.attached_objects', 'id')::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump('pgsync_itsm.run_keys'::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump('pgsync_itsm.claims'::regclass, '');
    PERFORM pg_catalog.pg_extension_config_dump(pg_get_serial_sequence('pgsync_itsm.claims', 'id')::regclass, '');
END
$do$;

-- Default privileges of the site may have granted anything on anything by now: taken back member by member.
DO $do$
DECLARE
    m record;
    g record;
    acl aclitem[];
BEGIN
    FOR m IN SELECT d.classid, d.objid FROM pg_depend AS d
               JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
              WHERE e.extname = 'pgsync_itsm' AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass, 'pg_type'::regclass)
    LOOP
        IF m.classid = 'pg_class'::regclass THEN
            FOR g IN SELECT DISTINCT a.grantee, c.relkind, c.oid::regclass::text AS name FROM pg_class AS c, aclexplode(c.relacl) AS a
                      WHERE c.oid = m.objid AND a.grantee <> c.relowner AND c.relkind IN ('r', 'v', 'S') LOOP
                EXECUTE format('REVOKE ALL ON %s %s FROM %s', CASE g.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, g.name,
                               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END);
            END LOOP;
        ELSIF m.classid = 'pg_proc'::regclass THEN
            FOR g IN SELECT DISTINCT a.grantee, p.oid::regprocedure::text AS name FROM pg_proc AS p,
                            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE p.oid = m.objid AND a.grantee <> p.proowner LOOP
                EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %s', g.name,
                               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END);
            END LOOP;
        ELSIF m.classid = 'pg_namespace'::regclass THEN
            FOR g IN SELECT DISTINCT a.grantee, n.nspname FROM pg_namespace AS n, aclexplode(n.nspacl) AS a WHERE n.oid = m.objid AND a.grantee <> n.nspowner LOOP
                EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', g.nspname,
                               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END);
            END LOOP;
        ELSE
            FOR g IN SELECT DISTINCT a.grantee, t.oid::regtype::text AS name FROM pg_type AS t,
                            aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) AS a
                      WHERE t.oid = m.objid AND a.grantee <> t.typowner AND t.typtype = 'c' AND t.typrelid IN (SELECT c.oid FROM pg_class AS c WHERE c.relkind = 'c') LOOP
                EXECUTE format('REVOKE ALL ON TYPE %s FROM %s', g.name,
                               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END);
            END LOOP;
        END IF;
    END LOOP;
END
$do$;

GRANT SELECT ON @extschema@.itsm_stat_progress, @extschema@.itsm_stat_connection, @extschema@.itsm_stat_worker, @extschema@.itsm_stat_process TO pg_monitor;
-- the caller of a view must be allowed to call the functions in it
GRANT EXECUTE ON FUNCTION pgsync_itsm.worker_state(), pgsync_itsm.age_of(timestamptz), pgsync_itsm.is_quiet(timestamptz, jsonb, text) TO pg_monitor;

-- CREATE EXTENSION shows warnings and no notices; what needs a restart deserves one.
DO $do$
BEGIN
    IF NOT pgsync_itsm.preloaded() THEN
        RAISE WARNING 'no worker can run: the library is not preloaded' USING HINT = pgsync_itsm.missing_worker();
    ELSIF pgsync_itsm.missing_worker() IS NOT NULL THEN
        RAISE NOTICE 'SQL is ready; a worker is not: %', pgsync_itsm.missing_worker();
    END IF;
END
$do$;
SELECT pgsync_itsm.wake_launcher();
