-- A portfolio of any size, the same for the same arguments.
--
--   psql -d DB [-v schema=NAME] -f generator.sql
--   SELECT getinsync_generate(applications => 300, profiles => 2, services => 6, products => 3);
--
-- ASCII only. Call the functions as superuser.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT current_setting('search_path') AS saved_search_path \gset
SET search_path = :"schema";

-- services and products are totals: every profile depends on all of the services
-- and runs on all of the products, so that 300, 2, 6, 3 is the worked example of
-- the integration design (300 x 32 = 9,600 calls).
--
-- session_replication_role: the application's own row triggers stay out, so no
-- default profiles to weed out again and no audit rows. What is marked ENABLE
-- ALWAYS, as the extension's change trigger is, still sees every row.
-- What foreign keys would have checked is true by construction (check.sql looks).
CREATE FUNCTION getinsync_generate(
    applications integer DEFAULT 300,
    profiles     integer DEFAULT 2,
    services     integer DEFAULT 6,
    products     integer DEFAULT 3,
    namespace    uuid    DEFAULT '33333333-3333-4333-8333-333333333333',
    seed         integer DEFAULT 1)
    RETURNS uuid
    LANGUAGE plpgsql
    SET search_path = :"schema", pg_temp
    SET session_replication_role = replica
    AS $$
#variable_conflict use_column
DECLARE
    p_applications constant integer := applications;
    p_profiles     constant integer := profiles;
    p_services     constant integer := services;
    p_products     constant integer := products;
    p_namespace    constant uuid    := namespace;
    -- two runs into one namespace must differ in ids and in names
    salt           constant text    := namespace || '/' || seed || '/';
    suffix         constant text    := CASE WHEN seed <> 1 THEN ' s' || seed ELSE '' END;
    space          constant uuid    := md5(namespace || '/' || seed || '/workspace')::uuid;
    owners         constant integer := 50;
    groups         constant integer := 5;
    vendors        constant integer := 10;
    scoped         text;
BEGIN
    -- five digits are what keeps names unique
    IF NOT (least(p_applications, p_profiles, p_services, p_products) >= 0
            AND greatest(p_applications, p_profiles, p_services, p_products) <= 99999) THEN
        RAISE EXCEPTION 'each number must be between 0 and 99999';
    END IF;
    IF EXISTS (SELECT FROM workspaces w WHERE w.id = space) THEN
        RAISE EXCEPTION 'namespace % has a portfolio of seed % already', p_namespace, seed
              USING HINT = 'Give another namespace or another seed.';
    END IF;

    INSERT INTO namespaces (id, name, slug, tier)
    VALUES (p_namespace, 'Generated ' || left(p_namespace::text, 8), p_namespace::text, 'enterprise')
        ON CONFLICT (id) DO NOTHING;
    INSERT INTO workspaces (id, namespace_id, name, slug, is_default)
    VALUES (space, p_namespace, 'Generated' || suffix, 'generated-' || seed, seed = 1);

    INSERT INTO organizations (id, namespace_id, name, is_vendor, is_manufacturer, is_internal)
    SELECT md5(salt || 'org' || n)::uuid, p_namespace, format('Vendor %s%s', lpad(n::text, 2, '0'), suffix),
           true, true, false
      FROM generate_series(1, vendors) AS n;
    INSERT INTO contacts (id, namespace_id, display_name, email, job_title, department)
    SELECT md5(salt || 'contact' || n)::uuid, p_namespace, 'User ' || lpad(n::text, 3, '0'),
           format('user%s@example.com', lpad(n::text, 3, '0')), 'Analyst', 'IT'
      FROM generate_series(1, owners) AS n;
    -- names of teams are unique in a namespace: a second run shares them
    INSERT INTO teams (id, namespace_id, name)
    SELECT md5(salt || 'team' || n)::uuid, p_namespace, 'Team ' || lpad(n::text, 2, '0')
      FROM generate_series(1, groups) AS n
        ON CONFLICT (namespace_id, name) DO NOTHING;

    INSERT INTO it_services (id, namespace_id, owner_workspace_id, name, description, is_internal_only, lifecycle_state)
    SELECT md5(salt || 'service' || n)::uuid, p_namespace, space,
           format('Shared Service %s%s', lpad(n::text, 5, '0'), suffix), 'Shared by all workspaces', false, 'active'
      FROM generate_series(1, p_services) AS n;
    INSERT INTO software_products (id, namespace_id, owner_workspace_id, name, version, manufacturer_org_id, category)
    SELECT md5(salt || 'product' || n)::uuid, p_namespace, space,
           format('Product %s%s', lpad(n::text, 5, '0'), suffix), (n % 9 + 1) || '.0',
           md5(salt || 'org' || (n % vendors + 1))::uuid, 'Platform'
      FROM generate_series(1, p_products) AS n;

    INSERT INTO applications (id, workspace_id, owner_workspace_id, name, short_description, description,
                              operational_status, lifecycle_status, lifecycle_stage_status, csdm_stage, primary_use_case)
    SELECT md5(salt || 'app' || n)::uuid, space, space, format('Application %s%s', lpad(n::text, 5, '0'), suffix),
           format('Generated application %s', n),
           format('Application %s of the generated portfolio. %s', n, md5(salt || n)),
           'operational', 'Mainstream', 'active', 'stage_1', 'Case management'
      FROM generate_series(1, p_applications) AS n
     ORDER BY n;

    INSERT INTO deployment_profiles (id, application_id, workspace_id, name, is_primary, dp_type, environment,
                                     hosting_type, cloud_provider, region, version, operational_status, vendor_org_id,
                                     managing_team_id, support_team_id, change_team_id)
    WITH team AS (
        SELECT array_agg(t.id ORDER BY t.name) AS ids
          FROM teams t
         WHERE t.namespace_id = p_namespace
           AND t.name IN (SELECT 'Team ' || lpad(n::text, 2, '0') FROM generate_series(1, groups) AS n)
    )
    SELECT md5(salt || 'profile' || n || '.' || k)::uuid, md5(salt || 'app' || n)::uuid, space,
           format('Application %s%s - %s', lpad(n::text, 5, '0'), suffix,
                  -- the ninth profile is the second production
                  e.label || CASE WHEN k > 8 THEN ' ' || ((k - 1) / 8 + 1) ELSE '' END),
           k = 1, 'application', e.code, 'Cloud', 'azure', 'canadacentral', format('%s.%s', n % 20 + 1, k), 'operational',
           md5(salt || 'org' || ((n + seed) % vendors + 1))::uuid,
           team.ids[(n + seed) % groups + 1], team.ids[(n * 3 + seed) % groups + 1], team.ids[(n * 7 + seed) % groups + 1]
      FROM team, generate_series(1, p_applications) AS n, generate_series(1, p_profiles) AS k
      JOIN (VALUES (1, 'PROD', 'Prod'), (2, 'TEST', 'Test'), (3, 'DEV', 'Dev'), (4, 'UAT', 'UAT'),
                   (5, 'QA', 'QA'), (6, 'STG', 'Staging'), (7, 'DR', 'DR'), (8, 'SBX', 'Sandbox')) AS e (m, code, label)
        ON e.m = (k - 1) % 8 + 1
     ORDER BY n, k;

    INSERT INTO application_contacts (id, application_id, contact_id, role_type, is_primary)
    SELECT md5(salt || r.role || n)::uuid, md5(salt || 'app' || n)::uuid,
           md5(salt || 'contact' || ((n * r.step + seed) % owners + 1))::uuid, r.role, true
      FROM generate_series(1, p_applications) AS n,
           (VALUES ('business_owner', 7), ('technical_owner', 11)) AS r (role, step);
    INSERT INTO deployment_profile_contacts (id, deployment_profile_id, contact_id, role_type, is_primary)
    SELECT md5(salt || 'operational_owner' || n || '.' || k)::uuid, md5(salt || 'profile' || n || '.' || k)::uuid,
           md5(salt || 'contact' || ((n * 11 + seed) % owners + 1))::uuid, 'operational_owner', true
      FROM generate_series(1, p_applications) AS n, generate_series(1, p_profiles) AS k;
    INSERT INTO portfolio_assignments (id, application_id, deployment_profile_id, criticality)
    SELECT md5(salt || 'assignment' || n)::uuid, md5(salt || 'app' || n)::uuid,
           CASE WHEN p_profiles > 0 THEN md5(salt || 'profile' || n || '.1')::uuid END, (n::bigint * 37 + seed) % 101
      FROM generate_series(1, p_applications) AS n;

    INSERT INTO deployment_profile_it_services (id, deployment_profile_id, it_service_id, relationship_type, source)
    SELECT md5(p.id || '/' || s.id)::uuid, p.id, s.id, 'depends_on', 'generated'
      FROM (SELECT md5(salt || 'profile' || n || '.' || k)::uuid AS id
              FROM generate_series(1, p_applications) AS n, generate_series(1, p_profiles) AS k) AS p,
           (SELECT md5(salt || 'service' || n)::uuid AS id FROM generate_series(1, p_services) AS n) AS s;
    INSERT INTO deployment_profile_software_products (id, deployment_profile_id, software_product_id, deployed_version)
    SELECT md5(p.id || '/' || s.id)::uuid, p.id, s.id, '1.0'
      FROM (SELECT md5(salt || 'profile' || n || '.' || k)::uuid AS id
              FROM generate_series(1, p_applications) AS n, generate_series(1, p_profiles) AS k) AS p,
           (SELECT md5(salt || 'product' || n)::uuid AS id FROM generate_series(1, p_products) AS n) AS s;

    -- The column comes with the extension, which may or may not be attached.
    SELECT a.attname INTO scoped
      FROM pg_attribute a
     WHERE a.attrelid = 'deployment_profiles'::regclass AND a.attname = 'sn_sync_scope' AND NOT a.attisdropped;
    IF scoped IS NOT NULL THEN
        UPDATE deployment_profiles p SET sn_sync_scope = 'application_service' WHERE p.workspace_id = space;
    END IF;

    -- Whoever plans a publish next should not do so without statistics, and
    -- autovacuum comes when it comes.
    ANALYZE namespaces, workspaces, organizations, contacts, teams, it_services, software_products, applications,
            deployment_profiles, application_contacts, deployment_profile_contacts, portfolio_assignments,
            deployment_profile_it_services, deployment_profile_software_products;
    RETURN p_namespace;
END
$$;
COMMENT ON FUNCTION getinsync_generate IS 'A portfolio of the given size, the same for the same arguments';

-- What the platform must know for the generated portfolio's references to resolve.
CREATE FUNCTION getinsync_generate_platform(namespace uuid DEFAULT '33333333-3333-4333-8333-333333333333')
    RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = :"schema", pg_temp
    AS $$
        SELECT jsonb_build_object(
            'sys_user',
            (SELECT coalesce(jsonb_agg(jsonb_build_object(
                        'sys_id', md5('sys_user/' || email), 'user_name', split_part(email, '@', 1), 'email', email,
                        'first_name', split_part(name, ' ', 1), 'last_name', split_part(name, ' ', 2),
                        'name', name, 'active', 'true') ORDER BY email), '[]')
               FROM (SELECT c.email, min(c.display_name) AS name
                       FROM contacts c
                      WHERE c.namespace_id = $1 AND c.email <> ''
                      GROUP BY c.email) AS u),
            'sys_user_group',
            (SELECT coalesce(jsonb_agg(jsonb_build_object(
                        'sys_id', md5('sys_user_group/' || t.name), 'name', t.name, 'active', 'true') ORDER BY t.name), '[]')
               FROM teams t
              WHERE t.namespace_id = $1),
            'core_company',
            (SELECT coalesce(jsonb_agg(jsonb_build_object(
                        'sys_id', md5('core_company/' || o.name), 'name', o.name,
                        'vendor', 'true', 'manufacturer', 'true') ORDER BY o.name), '[]')
               FROM (SELECT DISTINCT o.name FROM organizations o WHERE o.namespace_id = $1 AND o.is_internal = false) AS o))
    $$;
COMMENT ON FUNCTION getinsync_generate_platform IS 'Body of POST /__sim/load that goes with a generated portfolio';

SELECT set_config('search_path', :'saved_search_path', false) AS saved_search_path \gset
