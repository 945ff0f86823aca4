-- A database shaped like GetInSync's, as far as pgsync_itsm meets it.
--
--   psql -d DB -f schema.sql                       everything in schema public
--   psql -d DB -v schema=portfolio -f schema.sql   everything in another schema
--
-- For a fresh database, as superuser. ASCII only, so that it also loads into a
-- LATIN1 database. Schema "auth" and the three roles have the names that
-- Supabase gives them, whatever :schema is.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT current_setting('search_path') AS saved_search_path,
       current_setting('client_min_messages') AS saved_messages \gset
SET client_min_messages = warning;

CREATE SCHEMA IF NOT EXISTS :"schema";
CREATE SCHEMA IF NOT EXISTS auth;
SET search_path = :"schema";

-- Roles belong to the cluster, not to this database: another test may have made
-- them, or be making them at this very moment.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES ('anon', 'NOLOGIN'),
                              ('authenticated', 'NOLOGIN'),
                              ('service_role', 'NOLOGIN BYPASSRLS')) AS v (name, options)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.options);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$roles$;

-- Supabase hands every new object of the application's schema to its three
-- roles. An extension installed here has to live with that.
GRANT USAGE ON SCHEMA :"schema", auth TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA :"schema" GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA :"schema" GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA :"schema" GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;

-- The session's user, null for nobody. Supabase reads it from the claims of the
-- web token, which its gateway puts into a setting for each request.
CREATE FUNCTION auth.uid() RETURNS uuid
    LANGUAGE sql STABLE
    AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;

-- ---------------------------------------------------------------------------
-- Tenancy
-- ---------------------------------------------------------------------------

CREATE TABLE namespaces (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    slug       text NOT NULL UNIQUE,
    tier       text NOT NULL DEFAULT 'trial' CHECK (tier IN ('trial', 'essentials', 'plus', 'enterprise')),
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'closed')),
    region     text NOT NULL DEFAULT 'ca' CHECK (region IN ('ca', 'us', 'eu')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE namespaces IS 'A tenant';

CREATE TABLE workspaces (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    name         text NOT NULL,
    slug         text NOT NULL,
    is_default   boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace_id, slug)
);
COMMENT ON TABLE workspaces IS 'A department of a tenant; applications and profiles reach their namespace through it';

CREATE TABLE namespace_users (
    namespace_id uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    user_id      uuid NOT NULL,
    role         text NOT NULL DEFAULT 'viewer'
                 CHECK (role IN ('admin', 'editor', 'steward', 'viewer', 'restricted')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (namespace_id, user_id)
);
CREATE INDEX namespace_users_user_id_idx ON namespace_users (user_id);

CREATE TABLE user_sessions (
    user_id              uuid PRIMARY KEY,
    current_namespace_id uuid REFERENCES namespaces ON DELETE SET NULL,
    updated_at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_sessions_current_namespace_id_idx ON user_sessions (current_namespace_id);

CREATE TABLE platform_admins (
    user_id    uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE platform_admins IS 'Staff of the product itself: see every namespace';

-- The helpers read tables whose own policies call them, hence SECURITY DEFINER:
-- as the caller they would recurse.
CREATE FUNCTION check_is_platform_admin() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$ SELECT EXISTS (SELECT FROM platform_admins WHERE user_id = auth.uid()) $$;

-- A session that points at a namespace its user has left yields null, not a way in.
CREATE FUNCTION get_current_namespace_id() RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$
        SELECT s.current_namespace_id
          FROM user_sessions s
         WHERE s.user_id = auth.uid()
           AND (check_is_platform_admin()
                OR EXISTS (SELECT FROM namespace_users u
                            WHERE u.user_id = s.user_id AND u.namespace_id = s.current_namespace_id))
    $$;

CREATE FUNCTION check_is_namespace_admin_of_namespace(namespace uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$ SELECT EXISTS (SELECT FROM namespace_users
                          WHERE user_id = auth.uid() AND namespace_id = namespace AND role = 'admin') $$;

CREATE FUNCTION check_is_namespace_editor_of_namespace(namespace uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$ SELECT EXISTS (SELECT FROM namespace_users
                          WHERE user_id = auth.uid() AND namespace_id = namespace
                            AND role IN ('admin', 'editor', 'steward')) $$;

-- ---------------------------------------------------------------------------
-- Parties and places
-- ---------------------------------------------------------------------------

CREATE TABLE organizations (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id    uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    name            text NOT NULL,
    legal_name      text,
    website         text,
    is_vendor       boolean NOT NULL DEFAULT false,
    is_manufacturer boolean NOT NULL DEFAULT false,
    is_internal     boolean DEFAULT false,
    is_active       boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN organizations.is_internal IS
    'A ministry or central IT: its contracts are chargebacks. Null means that nobody has said';
CREATE INDEX organizations_namespace_id_idx ON organizations (namespace_id);

CREATE TABLE contacts (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id     uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    display_name     text NOT NULL,
    email            text,
    phone            text,
    job_title        text,
    department       text,
    contact_category text NOT NULL DEFAULT 'internal'
                     CHECK (contact_category IN ('internal', 'external', 'vendor_rep')),
    is_active        boolean NOT NULL DEFAULT true,
    individual_id    uuid,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX contacts_namespace_id_idx ON contacts (namespace_id);

CREATE TABLE teams (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    workspace_id uuid REFERENCES workspaces ON DELETE SET NULL,
    name         text NOT NULL,
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace_id, name)
);
COMMENT ON COLUMN teams.workspace_id IS 'Null: a team of the whole namespace';
CREATE INDEX teams_workspace_id_idx ON teams (workspace_id);

CREATE TABLE data_centers (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    name         text NOT NULL,
    city         text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX data_centers_namespace_id_idx ON data_centers (namespace_id);

CREATE TABLE servers (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id     uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    data_center_id   uuid REFERENCES data_centers ON DELETE SET NULL,
    name             text NOT NULL,
    operating_system text,
    is_active        boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX servers_namespace_id_idx ON servers (namespace_id);
CREATE INDEX servers_data_center_id_idx ON servers (data_center_id);

-- ---------------------------------------------------------------------------
-- Portfolio
-- ---------------------------------------------------------------------------

CREATE SEQUENCE applications_app_id_seq AS integer;

CREATE TABLE applications (
    id                        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id                    integer NOT NULL UNIQUE DEFAULT nextval('applications_app_id_seq'),
    workspace_id              uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    owner_workspace_id        uuid REFERENCES workspaces ON DELETE SET NULL,
    name                      text NOT NULL,
    description               text,
    short_description         text,
    owner                     text,
    primary_support           text,
    operational_status        text NOT NULL DEFAULT 'operational'
                              CHECK (operational_status IN ('operational', 'pipeline', 'retired')),
    lifecycle_status          text CHECK (lifecycle_status IN ('Mainstream', 'Extended', 'End of Support')),
    lifecycle_stage_status    text DEFAULT 'active'
                              CHECK (lifecycle_stage_status IN ('active', 'planned', 'retired')),
    is_internal_only          boolean NOT NULL DEFAULT false,
    management_classification text NOT NULL DEFAULT 'apm'
                              CHECK (management_classification IN ('apm', 'alm', 'other')),
    csdm_stage                text NOT NULL DEFAULT 'stage_0'
                              CHECK (csdm_stage IN ('stage_0', 'stage_1', 'stage_2', 'stage_3', 'stage_4')),
    primary_use_case          text,
    branch                    text,
    external_id               text,
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now()
);
ALTER SEQUENCE applications_app_id_seq OWNED BY applications.app_id;
COMMENT ON TABLE applications IS 'A Business Application';
COMMENT ON COLUMN applications.owner IS 'Legacy free text, never exported: owners come from application_contacts';
COMMENT ON COLUMN applications.primary_support IS 'Legacy free text, never exported';
COMMENT ON COLUMN applications.lifecycle_status IS 'Life cycle of the technology, not of the business';
CREATE INDEX applications_workspace_id_idx ON applications (workspace_id);
CREATE INDEX applications_owner_workspace_id_idx ON applications (owner_workspace_id);

CREATE TABLE deployment_profiles (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    application_id      uuid REFERENCES applications ON DELETE CASCADE,
    workspace_id        uuid NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    name                text NOT NULL,
    is_primary          boolean NOT NULL DEFAULT false,
    dp_type             text NOT NULL DEFAULT 'application'
                        CHECK (dp_type IN ('application', 'platform_tenant', 'infrastructure', 'cost_bundle')),
    environment         text DEFAULT 'PROD'
                        CHECK (environment IN ('PROD', 'SBX', 'UAT', 'TEST', 'DEV', 'STG', 'DR', 'QA', 'STAGING')),
    hosting_type        text CHECK (hosting_type IN ('SaaS', 'Third-Party-Hosted', 'Cloud', 'On-Prem', 'Hybrid', 'Desktop')),
    cloud_provider      text CHECK (cloud_provider IN ('aws', 'azure', 'gcp', 'oracle', 'ibm', 'other', '')),
    region              text,
    data_center_id      uuid REFERENCES data_centers ON DELETE SET NULL,
    server_name         text,
    version             text,
    operational_status  text NOT NULL DEFAULT 'operational'
                        CHECK (operational_status IN ('operational', 'non-operational')),
    vendor_org_id       uuid REFERENCES organizations ON DELETE SET NULL,
    support_team_id     uuid REFERENCES teams ON DELETE SET NULL,
    change_team_id      uuid REFERENCES teams ON DELETE SET NULL,
    managing_team_id    uuid REFERENCES teams ON DELETE SET NULL,
    contract_reference  text,
    contract_start_date date,
    contract_end_date   date,
    renewal_notice_days integer,
    tech_debt_rating    integer CHECK (tech_debt_rating BETWEEN 1 AND 5),
    tech_skill_rating   integer CHECK (tech_skill_rating BETWEEN 1 AND 5),
    tech_health         numeric(5, 2),
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE deployment_profiles IS 'An Application Service: where and how one application is deployed';
COMMENT ON COLUMN deployment_profiles.application_id IS 'Null for infrastructure profiles';
COMMENT ON COLUMN deployment_profiles.dp_type IS 'A cost_bundle is money, not a service';
COMMENT ON COLUMN deployment_profiles.tech_health IS 'Computed by a trigger from the ratings; no platform wants it';
CREATE INDEX deployment_profiles_application_id_idx ON deployment_profiles (application_id);
CREATE INDEX deployment_profiles_workspace_id_idx ON deployment_profiles (workspace_id);
CREATE INDEX deployment_profiles_data_center_id_idx ON deployment_profiles (data_center_id);
CREATE INDEX deployment_profiles_vendor_org_id_idx ON deployment_profiles (vendor_org_id);
CREATE INDEX deployment_profiles_support_team_id_idx ON deployment_profiles (support_team_id);
CREATE INDEX deployment_profiles_change_team_id_idx ON deployment_profiles (change_team_id);
CREATE INDEX deployment_profiles_managing_team_id_idx ON deployment_profiles (managing_team_id);

CREATE TABLE service_types (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    name         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace_id, name)
);

CREATE TABLE it_services (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id        uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    owner_workspace_id  uuid REFERENCES workspaces ON DELETE SET NULL,
    name                text NOT NULL,
    description         text,
    is_internal_only    boolean NOT NULL DEFAULT false,
    lifecycle_state     text,
    service_type_id     uuid REFERENCES service_types ON DELETE SET NULL,
    vendor_org_id       uuid REFERENCES organizations ON DELETE SET NULL,
    contract_reference  text,
    contract_start_date date,
    contract_end_date   date,
    renewal_notice_days integer,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN it_services.is_internal_only IS
    'False: shared, published by central IT to all workspaces. True: private to its workspace';
CREATE INDEX it_services_namespace_id_idx ON it_services (namespace_id);
CREATE INDEX it_services_owner_workspace_id_idx ON it_services (owner_workspace_id);
CREATE INDEX it_services_service_type_id_idx ON it_services (service_type_id);
CREATE INDEX it_services_vendor_org_id_idx ON it_services (vendor_org_id);

CREATE TABLE software_products (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id        uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    owner_workspace_id  uuid REFERENCES workspaces ON DELETE SET NULL,
    name                text NOT NULL,
    version             text,
    manufacturer_org_id uuid REFERENCES organizations ON DELETE SET NULL,
    product_family_name text,
    license_type        text,
    category            text,
    is_internal_only    boolean NOT NULL DEFAULT false,
    is_deprecated       boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX software_products_namespace_id_idx ON software_products (namespace_id);
CREATE INDEX software_products_owner_workspace_id_idx ON software_products (owner_workspace_id);
CREATE INDEX software_products_manufacturer_org_id_idx ON software_products (manufacturer_org_id);

-- One of the two shapes in which contracts come. The other, the one in
-- production, are contract columns on it_services, deployment_profiles and
-- deployment_profile_software_products.
CREATE TABLE product_contracts (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    namespace_id        uuid NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    software_product_id uuid REFERENCES software_products ON DELETE SET NULL,
    name                text NOT NULL,
    vendor_org_id       uuid REFERENCES organizations ON DELETE SET NULL,
    contract_reference  text,
    start_date          date,
    end_date            date,
    renewal_notice_days integer,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN product_contracts.software_product_id IS 'Null: a contract that covers no single product';
CREATE INDEX product_contracts_namespace_id_idx ON product_contracts (namespace_id);
CREATE INDEX product_contracts_software_product_id_idx ON product_contracts (software_product_id);
CREATE INDEX product_contracts_vendor_org_id_idx ON product_contracts (vendor_org_id);

-- ---------------------------------------------------------------------------
-- Links
-- ---------------------------------------------------------------------------

CREATE TABLE deployment_profile_it_services (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_profile_id uuid NOT NULL REFERENCES deployment_profiles ON DELETE CASCADE,
    it_service_id         uuid NOT NULL REFERENCES it_services ON DELETE CASCADE,
    relationship_type     text NOT NULL DEFAULT 'depends_on' CHECK (relationship_type IN ('depends_on', 'built_on')),
    source                text NOT NULL DEFAULT 'manual',
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (deployment_profile_id, it_service_id, relationship_type)
);
CREATE INDEX deployment_profile_it_services_it_service_id_idx ON deployment_profile_it_services (it_service_id);

-- Not unique: the same product may be there twice, in two deployed versions.
CREATE TABLE deployment_profile_software_products (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_profile_id uuid NOT NULL REFERENCES deployment_profiles ON DELETE CASCADE,
    software_product_id   uuid NOT NULL REFERENCES software_products ON DELETE CASCADE,
    deployed_version      text,
    vendor_org_id         uuid REFERENCES organizations ON DELETE SET NULL,
    contract_reference    text,
    contract_start_date   date,
    contract_end_date     date,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX deployment_profile_software_products_profile_idx
    ON deployment_profile_software_products (deployment_profile_id);
CREATE INDEX deployment_profile_software_products_product_idx
    ON deployment_profile_software_products (software_product_id);
CREATE INDEX deployment_profile_software_products_vendor_idx
    ON deployment_profile_software_products (vendor_org_id);

CREATE TABLE it_service_software_products (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    it_service_id       uuid NOT NULL REFERENCES it_services ON DELETE CASCADE,
    software_product_id uuid NOT NULL REFERENCES software_products ON DELETE CASCADE,
    created_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (it_service_id, software_product_id)
);
CREATE INDEX it_service_software_products_product_idx ON it_service_software_products (software_product_id);

CREATE TABLE application_contacts (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    contact_id     uuid NOT NULL REFERENCES contacts ON DELETE CASCADE,
    role_type      text NOT NULL
                   CHECK (role_type IN ('business_owner', 'technical_owner', 'steward', 'sponsor',
                                        'sme', 'support', 'vendor_rep', 'other')),
    is_primary     boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (application_id, contact_id, role_type)
);
CREATE INDEX application_contacts_contact_id_idx ON application_contacts (contact_id);

CREATE TABLE deployment_profile_contacts (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_profile_id uuid NOT NULL REFERENCES deployment_profiles ON DELETE CASCADE,
    contact_id            uuid NOT NULL REFERENCES contacts ON DELETE CASCADE,
    role_type             text NOT NULL
                          CHECK (role_type IN ('operational_owner', 'technical_sme', 'support',
                                               'change_control', 'vendor_rep', 'other')),
    is_primary            boolean NOT NULL DEFAULT false,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (deployment_profile_id, contact_id, role_type)
);
CREATE INDEX deployment_profile_contacts_contact_id_idx ON deployment_profile_contacts (contact_id);

CREATE TABLE deployment_profile_servers (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    deployment_profile_id uuid NOT NULL REFERENCES deployment_profiles ON DELETE CASCADE,
    server_id             uuid NOT NULL REFERENCES servers ON DELETE CASCADE,
    server_role           text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (deployment_profile_id, server_id)
);
CREATE INDEX deployment_profile_servers_server_id_idx ON deployment_profile_servers (server_id);

CREATE TABLE portfolio_assignments (
    id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    application_id        uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    deployment_profile_id uuid REFERENCES deployment_profiles ON DELETE CASCADE,
    criticality           numeric(5, 2) CHECK (criticality BETWEEN 0 AND 100),
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN portfolio_assignments.criticality IS 'A weighted score, so not always a whole number';
CREATE INDEX portfolio_assignments_application_id_idx ON portfolio_assignments (application_id);
CREATE INDEX portfolio_assignments_deployment_profile_id_idx ON portfolio_assignments (deployment_profile_id);

CREATE TABLE application_integrations (
    id                           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_application_id        uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    target_application_id        uuid REFERENCES applications ON DELETE CASCADE,
    source_deployment_profile_id uuid REFERENCES deployment_profiles ON DELETE CASCADE,
    target_deployment_profile_id uuid REFERENCES deployment_profiles ON DELETE CASCADE,
    name                         text NOT NULL,
    description                  text,
    direction                    text NOT NULL DEFAULT 'downstream'
                                 CHECK (direction IN ('upstream', 'downstream', 'bidirectional')),
    status                       text NOT NULL DEFAULT 'active' CHECK (status IN ('planned', 'active', 'inactive')),
    created_at                   timestamptz NOT NULL DEFAULT now(),
    updated_at                   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN application_integrations.target_application_id IS 'Null: a system outside the portfolio';
COMMENT ON COLUMN application_integrations.source_deployment_profile_id IS
    'Null, like its target: known from application to application only';
COMMENT ON COLUMN application_integrations.direction IS
    'Seen from the source application: downstream = source sends to target, upstream = target sends to source';
CREATE INDEX application_integrations_source_application_idx ON application_integrations (source_application_id);
CREATE INDEX application_integrations_target_application_idx ON application_integrations (target_application_id);
CREATE INDEX application_integrations_source_profile_idx ON application_integrations (source_deployment_profile_id);
CREATE INDEX application_integrations_target_profile_idx ON application_integrations (target_deployment_profile_id);

-- ---------------------------------------------------------------------------
-- The application's own integration_* tables: another matter than the
-- extension's relations, here so that a collision of names is noticed.
-- ---------------------------------------------------------------------------

CREATE TABLE integration_contacts (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    integration_id uuid NOT NULL REFERENCES application_integrations ON DELETE CASCADE,
    contact_id     uuid NOT NULL REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX integration_contacts_integration_id_idx ON integration_contacts (integration_id);
CREATE INDEX integration_contacts_contact_id_idx ON integration_contacts (contact_id);

CREATE TABLE integration_status_types (code text PRIMARY KEY, label text NOT NULL);
CREATE TABLE integration_direction_types (code text PRIMARY KEY, label text NOT NULL);
CREATE TABLE integration_method_types (code text PRIMARY KEY, label text NOT NULL);

INSERT INTO integration_status_types VALUES ('planned', 'Planned'), ('active', 'Active'), ('inactive', 'Inactive');
INSERT INTO integration_direction_types
     VALUES ('upstream', 'Upstream'), ('downstream', 'Downstream'), ('bidirectional', 'Both ways');
INSERT INTO integration_method_types VALUES ('api', 'API'), ('file', 'File'), ('database', 'Database');

CREATE TABLE audit_logs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace_id uuid,
    user_id      uuid,
    table_name   text NOT NULL,
    record_id    uuid,
    action       text NOT NULL,
    old_values   jsonb,
    new_values   jsonb,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_logs_namespace_id_idx ON audit_logs (namespace_id, created_at);

-- ---------------------------------------------------------------------------
-- Triggers
-- ---------------------------------------------------------------------------

CREATE FUNCTION touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

-- SECURITY DEFINER: whoever changes a record must not be able to write the log.
CREATE FUNCTION write_audit_log() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$
DECLARE
    old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    the_row jsonb := coalesce(new_row, old_row);
BEGIN
    INSERT INTO audit_logs (namespace_id, user_id, table_name, record_id, action, old_values, new_values)
    SELECT coalesce((the_row ->> 'namespace_id')::uuid,
                    (SELECT w.namespace_id FROM workspaces w WHERE w.id = (the_row ->> 'workspace_id')::uuid)),
           auth.uid(), TG_TABLE_NAME, (the_row ->> 'id')::uuid, lower(TG_OP), old_row, new_row;
    RETURN NULL;
END
$$;

-- An application without a profile could be neither scored nor deployed, so the
-- product makes one at once.
CREATE FUNCTION create_default_deployment_profile() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = :"schema", pg_temp
    AS $$
BEGIN
    INSERT INTO deployment_profiles (application_id, workspace_id, name, is_primary, environment)
    VALUES (NEW.id, NEW.workspace_id, NEW.name || ' - Prod', true, 'PROD');
    RETURN NULL;
END
$$;

CREATE FUNCTION compute_tech_health() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.tech_health := (NEW.tech_debt_rating + NEW.tech_skill_rating) * 10;
    RETURN NEW;
END
$$;

CREATE TRIGGER create_default_deployment_profile AFTER INSERT ON applications
    FOR EACH ROW EXECUTE FUNCTION create_default_deployment_profile();
CREATE TRIGGER compute_tech_health BEFORE INSERT OR UPDATE ON deployment_profiles
    FOR EACH ROW EXECUTE FUNCTION compute_tech_health();

DO $triggers$
DECLARE
    tab regclass;
BEGIN
    FOR tab IN
        SELECT a.attrelid
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
           AND a.attname = 'updated_at' AND NOT a.attisdropped
         ORDER BY c.relname
    LOOP
        EXECUTE format('CREATE TRIGGER touch_updated_at BEFORE UPDATE ON %s '
                       'FOR EACH ROW EXECUTE FUNCTION touch_updated_at()', tab);
    END LOOP;

    FOREACH tab IN ARRAY '{applications,deployment_profiles,it_services,software_products,organizations,
                           contacts,teams,product_contracts,application_integrations}'::regclass[]
    LOOP
        EXECUTE format('CREATE TRIGGER write_audit_log AFTER INSERT OR UPDATE OR DELETE ON %s '
                       'FOR EACH ROW EXECUTE FUNCTION write_audit_log()', tab);
    END LOOP;
END
$triggers$;

-- ---------------------------------------------------------------------------
-- Row-level security: four policies a table, never FOR ALL
-- ---------------------------------------------------------------------------

DO $policies$
DECLARE
    -- As sub-selects the helpers run once a statement, not once a row.
    here     constant text := '(SELECT get_current_namespace_id())';
    staff    constant text := '(SELECT check_is_platform_admin())';
    editor   constant text := '(SELECT check_is_namespace_editor_of_namespace(get_current_namespace_id()))';
    admin    constant text := '(SELECT check_is_namespace_admin_of_namespace(get_current_namespace_id()))';
    spaces   constant text := format('workspace_id IN (SELECT w.id FROM workspaces w WHERE w.namespace_id = %s)', here);
    apps     constant text := format('IN (SELECT a.id FROM applications a WHERE a.%s)', spaces);
    profiles constant text := format('IN (SELECT p.id FROM deployment_profiles p WHERE p.%s)', spaces);
    rule     record;
BEGIN
    FOR rule IN
        WITH own (tab, scope) AS (
            SELECT t, format('namespace_id = %s', here)
              FROM unnest('{workspaces,organizations,contacts,teams,data_centers,servers,service_types,it_services,
                            software_products,product_contracts}'::regclass[]) AS t
            UNION ALL
            VALUES ('applications'::regclass, spaces),
                   ('deployment_profiles', spaces),
                   ('deployment_profile_it_services', 'deployment_profile_id ' || profiles),
                   ('deployment_profile_software_products', 'deployment_profile_id ' || profiles),
                   ('deployment_profile_contacts', 'deployment_profile_id ' || profiles),
                   ('deployment_profile_servers', 'deployment_profile_id ' || profiles),
                   ('application_contacts', 'application_id ' || apps),
                   ('portfolio_assignments', 'application_id ' || apps),
                   ('application_integrations', 'source_application_id ' || apps),
                   ('it_service_software_products',
                    format('it_service_id IN (SELECT s.id FROM it_services s WHERE s.namespace_id = %s)', here)),
                   ('integration_contacts',
                    format('integration_id IN (SELECT i.id FROM application_integrations i '
                           'WHERE i.source_application_id %s)', apps))
        )
        SELECT tab, format('%s OR %s', scope, staff) AS may_read,
               format('(%s AND %s) OR %s', scope, editor, staff) AS may_write,
               format('(%s AND %s) OR %s', scope, admin, staff) AS may_delete
          FROM own
        UNION ALL
        VALUES -- the tenant itself, its members and their sessions
               ('namespaces'::regclass, format('id = %s OR %s', here, staff), staff, staff),
               ('namespace_users', format('user_id = auth.uid() OR namespace_id = %s OR %s', here, staff),
                format('(namespace_id = %s AND %s) OR %s', here, admin, staff),
                format('(namespace_id = %s AND %s) OR %s', here, admin, staff)),
               ('user_sessions', 'user_id = auth.uid()', 'user_id = auth.uid()', 'user_id = auth.uid()'),
               ('platform_admins', staff, staff, staff),
               -- the log is written by its trigger only, and by nobody else
               ('audit_logs', format('(namespace_id = %s AND %s) OR %s', here, admin, staff), 'false', 'false'),
               -- the same for every tenant
               ('integration_status_types', 'true', staff, staff),
               ('integration_direction_types', 'true', staff, staff),
               ('integration_method_types', 'true', staff, staff)
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', rule.tab);
        EXECUTE format('CREATE POLICY select_policy ON %s FOR SELECT USING (%s)', rule.tab, rule.may_read);
        EXECUTE format('CREATE POLICY insert_policy ON %s FOR INSERT WITH CHECK (%s)', rule.tab, rule.may_write);
        EXECUTE format('CREATE POLICY update_policy ON %s FOR UPDATE USING (%s) WITH CHECK (%2$s)',
                       rule.tab, rule.may_write);
        EXECUTE format('CREATE POLICY delete_policy ON %s FOR DELETE USING (%s)', rule.tab, rule.may_delete);
    END LOOP;
END
$policies$;

SELECT set_config('search_path', :'saved_search_path', false) AS saved_search_path,
       set_config('client_min_messages', :'saved_messages', false) AS saved_messages \gset
