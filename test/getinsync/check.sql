-- Asserts what others build on: numbers, isolation of tenants, exactness of the
-- generator. Leaves nothing behind. Fails with the name of what is wrong.
--
--   psql -d DB [-v schema=NAME] -f check.sql    after schema, sample and generator
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT current_setting('search_path') AS saved_search_path \gset
BEGIN;
SET LOCAL search_path = :"schema";
SET LOCAL plpgsql.check_asserts = on;

-- One statement's number, as one of the roles and with the session of one user.
CREATE FUNCTION pg_temp.seen_by(who text, claimed uuid, query text) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer bigint;
BEGIN
    PERFORM set_config('role', who, true),
            set_config('request.jwt.claims', coalesce(json_build_object('sub', claimed)::text, ''), true);
    BEGIN
        EXECUTE query INTO answer;
    EXCEPTION WHEN insufficient_privilege THEN
        answer := -1;
    END;
    PERFORM set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
    RETURN answer;
END
$$;

DO $sample$
DECLARE
    expected record;
    found    bigint;
BEGIN
    FOR expected IN
        SELECT * FROM (VALUES
            ('applications', 32, 3), ('deployment_profiles', 52, 3), ('it_services', 12, 1),
            ('software_products', 12, 1), ('organizations', 13, 1), ('contacts', 15, 2), ('teams', 6, 1),
            ('product_contracts', 12, 1), ('application_contacts', 69, 6), ('deployment_profile_contacts', 15, 0),
            ('portfolio_assignments', 31, 1), ('deployment_profile_it_services', 68, 3),
            ('deployment_profile_software_products', 21, 1), ('it_service_software_products', 6, 0),
            ('application_integrations', 14, 0), ('servers', 4, 0), ('data_centers', 2, 0),
            ('deployment_profile_servers', 4, 0)) AS v (tab, riverton, elmsworth)
    LOOP
        EXECUTE format($q$SELECT count(*) FROM %I WHERE id::text LIKE '________-0001-4000-8000-%%'$q$, expected.tab) INTO found;
        ASSERT found = expected.riverton, format('%s: %s of Riverton, not %s', expected.tab, found, expected.riverton);
        EXECUTE format($q$SELECT count(*) FROM %I WHERE id::text LIKE '________-0002-4000-8000-%%'$q$, expected.tab) INTO found;
        ASSERT found = expected.elmsworth, format('%s: %s of Elmsworth, not %s', expected.tab, found, expected.elmsworth);
    END LOOP;
END
$sample$;

DO $isolation$
DECLARE
    staff     constant uuid := 'eeeeeeee-0000-4000-8000-000000000001';
    admin     constant uuid := 'eeeeeeee-0001-4000-8000-000000000001';
    editor    constant uuid := 'eeeeeeee-0001-4000-8000-000000000002';
    viewer    constant uuid := 'eeeeeeee-0001-4000-8000-000000000003';
    leaver    constant uuid := 'eeeeeeee-0001-4000-8000-000000000004';
    elmsworth constant uuid := 'eeeeeeee-0002-4000-8000-000000000001';
    apps      constant text := 'SELECT count(*) FROM applications';
    links     constant text := 'SELECT count(*) FROM deployment_profile_it_services';
    everyone  constant bigint := (SELECT count(*) FROM applications);
    touch     constant text := $q$WITH u AS (
        UPDATE applications SET branch = 'x' WHERE id = 'aaaaaaaa-0001-4000-8000-000000000001' RETURNING id)
        SELECT count(*) FROM u$q$;
    kill      constant text := $q$WITH d AS (
        DELETE FROM deployment_profile_it_services WHERE id = 'd5000000-0001-4000-8000-000001010010' RETURNING id)
        SELECT count(*) FROM d$q$;
BEGIN
    ASSERT pg_temp.seen_by('anon', NULL, apps) = 0, 'anon sees applications';
    ASSERT pg_temp.seen_by('authenticated', leaver, apps) = 0, 'a leaver sees applications';
    ASSERT pg_temp.seen_by('authenticated', viewer, apps) = 32, 'a viewer does not see the city';
    ASSERT pg_temp.seen_by('authenticated', elmsworth, apps) = 3, 'the county does not see its own';
    ASSERT pg_temp.seen_by('authenticated', elmsworth, links) = 3, 'the county sees links of others';
    ASSERT pg_temp.seen_by('authenticated', staff, apps) = everyone, 'staff does not see everything';
    ASSERT pg_temp.seen_by('service_role', NULL, apps) = everyone, 'service_role does not see everything';
    ASSERT pg_temp.seen_by('authenticated', elmsworth, touch) = 0, 'the county changes the city';
    ASSERT pg_temp.seen_by('authenticated', viewer, touch) = 0, 'a viewer changes the city';
    ASSERT pg_temp.seen_by('authenticated', editor, touch) = 1, 'an editor changes nothing';
    ASSERT pg_temp.seen_by('authenticated', editor, kill) = 0, 'an editor deletes';
    ASSERT pg_temp.seen_by('authenticated', admin, kill) = 1, 'an admin deletes nothing';
    ASSERT (SELECT count(*) FROM pg_class c
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relrowsecurity
               AND 4 = (SELECT count(DISTINCT p.polcmd) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd <> '*'))
           >= 29, 'a table has not its four policies';
END
$isolation$;

DO $triggers$
DECLARE
    app constant uuid := gen_random_uuid();
BEGIN
    INSERT INTO applications (id, workspace_id, name) VALUES (app, 'f0f0f0f0-0001-4000-8000-000000000001', 'New');
    ASSERT (SELECT count(*) FROM deployment_profiles p
             WHERE p.application_id = app AND p.is_primary AND p.name = 'New - Prod') = 1, 'no default profile';
    ASSERT (SELECT a.app_id FROM applications a WHERE a.id = app) > 103, 'a number of the sample came again';
    ASSERT (SELECT count(*) FROM audit_logs l
             WHERE l.record_id = app AND l.namespace_id = '11111111-1111-4111-8111-111111111111') = 1, 'no audit row';
END
$triggers$;

DO $generator$
DECLARE
    tenant constant uuid := '99999999-9999-4999-8999-999999999999';
    space  uuid;
    first  text;
    again  text;
    found  bigint[];
    digest constant text := $q$
        SELECT md5(string_agg(p.id || p.name || a.name || p.managing_team_id || p.vendor_org_id, ',' ORDER BY p.id))
          FROM deployment_profiles p
          JOIN applications a ON a.id = p.application_id
          JOIN workspaces w ON w.id = a.workspace_id
         WHERE w.namespace_id = $1$q$;
BEGIN
    ASSERT getinsync_generate(namespace => tenant) = tenant, 'the generator returns another namespace';
    SELECT id INTO STRICT space FROM workspaces WHERE namespace_id = tenant;
    EXECUTE digest INTO first USING tenant;
    SELECT ARRAY [count(DISTINCT a.id), count(DISTINCT p.id), count(DISTINCT ds.id), count(DISTINCT ds.it_service_id),
                  count(DISTINCT dp.id), count(DISTINCT dp.software_product_id), count(DISTINCT p.name)] INTO found
      FROM applications a
      JOIN deployment_profiles p ON p.application_id = a.id AND p.workspace_id = space
      JOIN deployment_profile_it_services ds ON ds.deployment_profile_id = p.id
      JOIN it_services s ON s.id = ds.it_service_id AND s.namespace_id = tenant
      JOIN deployment_profile_software_products dp ON dp.deployment_profile_id = p.id
      JOIN software_products t ON t.id = dp.software_product_id AND t.namespace_id = tenant
     WHERE a.workspace_id = space;
    ASSERT found = '{300,600,3600,6,1800,3,600}', format('the worked example has %s', found);
    ASSERT (SELECT count(*) FROM applications WHERE workspace_id = space) = 300
       AND (SELECT count(*) FROM deployment_profiles WHERE workspace_id = space) = 600, 'rows without their links';
    -- owners, teams, vendor and criticality of each, all of them existing rows
    SELECT ARRAY [count(*), count(DISTINCT c.email)] INTO found
      FROM applications a
      JOIN application_contacts b ON b.application_id = a.id AND b.role_type = 'business_owner' AND b.is_primary
      JOIN application_contacts o ON o.application_id = a.id AND o.role_type = 'technical_owner' AND o.is_primary
      JOIN contacts bc ON bc.id = b.contact_id
      JOIN contacts c ON c.id = o.contact_id AND c.email ~ '^user\d{3}@example\.com$'
      JOIN deployment_profiles p ON p.application_id = a.id AND p.is_primary
      JOIN teams t1 ON t1.id = p.managing_team_id
      JOIN teams t2 ON t2.id = p.support_team_id
      JOIN teams t3 ON t3.id = p.change_team_id
      JOIN organizations v ON v.id = p.vendor_org_id
      JOIN portfolio_assignments m ON m.application_id = a.id AND m.deployment_profile_id = p.id
     WHERE a.workspace_id = space AND m.criticality IS NOT NULL;
    ASSERT found = '{300,50}', format('complete applications, technical owners: %s', found);
    ASSERT (SELECT count(*) FROM deployment_profile_contacts k
              JOIN deployment_profiles p ON p.id = k.deployment_profile_id AND p.workspace_id = space
              JOIN contacts c ON c.id = k.contact_id AND c.namespace_id = tenant) = 600, 'profiles without owner';
    ASSERT (SELECT array_agg(jsonb_array_length(value) ORDER BY key)
              FROM jsonb_each(getinsync_generate_platform(tenant))) = '{10,50,5}', 'the platform has other numbers';

    BEGIN
        PERFORM getinsync_generate(namespace => tenant);
        ASSERT false, 'the same portfolio twice';
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
    PERFORM getinsync_generate(5, 1, 2, 1, tenant, 2);
    ASSERT (SELECT count(*) FROM applications a JOIN workspaces w ON w.id = a.workspace_id
             WHERE w.namespace_id = tenant) = 305, 'another seed does not add';

    DELETE FROM namespaces WHERE id = tenant;
    ASSERT NOT EXISTS (SELECT FROM deployment_profile_it_services ds
                        WHERE NOT EXISTS (SELECT FROM deployment_profiles p WHERE p.id = ds.deployment_profile_id)),
           'links survive their profile';
    PERFORM getinsync_generate(namespace => tenant);
    EXECUTE digest INTO again USING tenant;
    ASSERT first = again, 'not the same portfolio for the same arguments';
END
$generator$;

ROLLBACK;
SELECT set_config('search_path', :'saved_search_path', false) AS saved_search_path \gset
\echo getinsync: ok
