-- A hand-made portfolio: a city with all the ugliness that real portfolios have,
-- and a second tenant that must never be seen through the first. README.md says
-- what is ugly where, and what should become of it.
--
--   psql -d DB [-v schema=NAME] -f sample.sql     after schema.sql, once
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT current_setting('search_path') AS saved_search_path,
       current_setting('client_encoding') AS saved_encoding \gset
SET client_encoding = 'UTF8';
SET search_path = :"schema";

DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the sample portfolio needs a UTF8 database, this one is %',
                        current_setting('server_encoding')
              USING HINT = 'schema.sql and generator.sql work in any encoding.';
    END IF;
END
$$;

-- Ids that a person can read and a test can write down: what it is, whose it is
-- (1 Riverton, 2 Elmsworth), which one.
CREATE FUNCTION pg_temp.id(kind text, n bigint, tenant integer DEFAULT 1) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT
    AS $$
        SELECT (CASE kind
                    WHEN 'app' THEN 'aaaaaaaa' WHEN 'profile' THEN 'dddddddd'
                    WHEN 'service' THEN '55555555' WHEN 'product' THEN 'bbbbbbbb'
                    WHEN 'org' THEN '0a0a0a0a' WHEN 'contact' THEN 'cccccccc'
                    WHEN 'team' THEN '7ea70000' WHEN 'workspace' THEN 'f0f0f0f0'
                    WHEN 'center' THEN 'dcdcdcdc' WHEN 'server' THEN '5e5e5e5e'
                    WHEN 'type' THEN '57575757' WHEN 'contract' THEN 'c0c0c0c0'
                    WHEN 'flow' THEN '1f1f1f1f' WHEN 'user' THEN 'eeeeeeee'
                    WHEN 'app-contact' THEN 'ac000000' WHEN 'profile-contact' THEN 'dc000000'
                    WHEN 'profile-service' THEN 'd5000000' WHEN 'profile-product' THEN 'db000000'
                    WHEN 'service-product' THEN '5b000000' WHEN 'profile-server' THEN 'de000000'
                    WHEN 'assignment' THEN 'fa000000' WHEN 'flow-contact' THEN '1c000000'
                END
                || '-' || lpad(tenant::text, 4, '0') || '-4000-8000-' || lpad(n::text, 12, '0'))::uuid
    $$;

\set riverton '''11111111-1111-4111-8111-111111111111'''
\set elmsworth '''22222222-2222-4222-8222-222222222222'''

BEGIN;

-- ---------------------------------------------------------------------------
-- Tenants and their users
-- ---------------------------------------------------------------------------

INSERT INTO namespaces (id, name, slug, tier, region)
VALUES (:riverton, 'City of Riverton', 'riverton', 'enterprise', 'ca'),
       (:elmsworth, 'County of Elmsworth', 'elmsworth', 'essentials', 'us');

INSERT INTO workspaces (id, namespace_id, name, slug, is_default)
VALUES (pg_temp.id('workspace', 1), :riverton, 'Corporate Services', 'corporate', true),
       (pg_temp.id('workspace', 2), :riverton, 'Public Works', 'public-works', false),
       (pg_temp.id('workspace', 3), :riverton, 'Justice', 'justice', false),
       (pg_temp.id('workspace', 1, 2), :elmsworth, 'County Office', 'office', true);

INSERT INTO namespace_users (namespace_id, user_id, role)
VALUES (:riverton, pg_temp.id('user', 1), 'admin'),
       (:riverton, pg_temp.id('user', 2), 'editor'),
       (:riverton, pg_temp.id('user', 3), 'viewer'),
       (:elmsworth, pg_temp.id('user', 1, 2), 'admin');

-- User 4 has left the city, but an old session still points there.
INSERT INTO user_sessions (user_id, current_namespace_id)
VALUES (pg_temp.id('user', 1), :riverton),
       (pg_temp.id('user', 2), :riverton),
       (pg_temp.id('user', 3), :riverton),
       (pg_temp.id('user', 4), :riverton),
       (pg_temp.id('user', 1, 2), :elmsworth),
       (pg_temp.id('user', 1, 0), :riverton);

INSERT INTO platform_admins (user_id) VALUES (pg_temp.id('user', 1, 0));

-- ---------------------------------------------------------------------------
-- Riverton: parties and places
-- ---------------------------------------------------------------------------

INSERT INTO organizations (id, namespace_id, name, legal_name, website,
                           is_vendor, is_manufacturer, is_internal, is_active)
SELECT pg_temp.id('org', n), :riverton, name, legal_name, website, vendor, manufacturer, internal, active
  FROM (VALUES
    (1, 'Oracle Corporation', 'Oracle Corporation', 'https://www.oracle.example', true, true, false, true),
    (2, 'VMware LLC', NULL, NULL, true, true, false, true),
    (3, 'Commvault', NULL, NULL, false, true, false, true),
    (4, 'Sage Group plc', 'The Sage Group plc', 'https://www.sage.example', true, true, false, true),
    -- two rows of this name on the platform
    (5, 'Microsoft Corporation', NULL, NULL, true, true, false, true),
    (6, 'Esri Canada', NULL, NULL, true, true, false, true),
    -- not on the platform yet
    (7, 'Red Hat', 'Red Hat, Inc.', NULL, true, true, false, true),
    -- internal: must never reach the platform, neither as vendor nor as manufacturer
    (8, 'Ministry of Central Services', NULL, NULL, true, false, true, true),
    (9, 'City of Riverton IT', NULL, NULL, true, true, true, true),
    -- nobody has said whether it is internal
    (10, 'Acme Consulting', NULL, NULL, true, false, NULL, true),
    (11, 'Tyler & Sons "Municipal" Software', NULL, NULL, true, true, false, true),
    (12, 'Bankrupt Systems Ltd.', NULL, NULL, true, true, false, false),
    -- longer than the 80 characters of core_company.name
    (13, 'Intermunicipal Cooperative for Shared Geographic, Cadastral and Environmental Information of the Valley',
     NULL, NULL, true, false, false, true)
  ) AS v (n, name, legal_name, website, vendor, manufacturer, internal, active);

INSERT INTO contacts (id, namespace_id, display_name, email, job_title, department, contact_category, is_active)
SELECT pg_temp.id('contact', n), :riverton, name, email, title, department, category, active
  FROM (VALUES
    (1, 'Alice Ferreira', 'alice.ferreira@riverton.example', 'Director of Finance', 'Finance', 'internal', true),
    (2, 'Bob Okafor', 'bob.okafor@riverton.example', 'Application Manager', 'IT', 'internal', true),
    (3, 'Chen Wei', 'chen.wei@riverton.example', 'Systems Analyst', 'IT', 'internal', true),
    -- two users on the platform have this e-mail
    (4, 'Dana Kovacs', 'dana.kovacs@riverton.example', 'HR Manager', 'Human Resources', 'internal', true),
    (5, 'Eve Lindqvist', NULL, 'Chief of Police', 'Justice', 'internal', true),
    -- written in lower case on the platform
    (6, 'Farid Haddad', 'Farid.HADDAD@Riverton.Example', 'Architect', 'IT', 'internal', true),
    -- no such user on the platform
    (7, 'Grace Hopperton', 'grace.hopperton@riverton.example', 'Librarian', 'Library', 'internal', true),
    -- inactive user on the platform
    (8, 'Hugo Brandt', 'hugo.brandt@riverton.example', 'Fire Marshal', 'Fire', 'internal', true),
    (9, 'Inês Gonçalves', 'ines+itsm@riverton.example', 'Planner', 'Planning', 'internal', true),
    (10, 'Sean O''Neil', 'sean.o''neil@riverton.example', 'Clerk', 'Clerk''s Office', 'internal', true),
    (11, 'Rita Vendor', 'rita@oracle.example', 'Account Manager', NULL, 'vendor_rep', true),
    -- left the city; the user is still active on the platform
    (12, 'Judy Marsh', 'judy.marsh@riverton.example', NULL, 'Finance', 'internal', false),
    -- the same person as 1, entered twice
    (13, 'A. Ferreira', 'alice.ferreira@riverton.example', NULL, NULL, 'internal', true),
    (14, 'Front Desk', '', NULL, 'Clerk''s Office', 'internal', true),
    -- blanks around, as pasted
    (15, 'Kim Tran', ' kim.tran@riverton.example ', 'Team Lead', 'IT', 'internal', true)
  ) AS v (n, name, email, title, department, category, active);

INSERT INTO teams (id, namespace_id, workspace_id, name, is_active)
SELECT pg_temp.id('team', n), :riverton, pg_temp.id('workspace', workspace), name, active
  FROM (VALUES
    (1, NULL, 'Riverton Service Desk', true),
    (2, NULL, 'Riverton Application Support', true),
    (3, NULL, 'Infrastructure Operations', true),
    (4, NULL, 'Change Advisory Board', true),
    -- no such group on the platform
    (5, 3, 'Night Shift', true),
    -- no longer active, still there on the platform
    (6, 2, 'Facilities', false)
  ) AS v (n, workspace, name, active);

INSERT INTO data_centers (id, namespace_id, name, city)
VALUES (pg_temp.id('center', 1), :riverton, 'City Hall Basement', 'Riverton'),
       (pg_temp.id('center', 2), :riverton, 'Hilltop Recovery Site', 'Upper Riverton');

INSERT INTO servers (id, namespace_id, data_center_id, name, operating_system, is_active)
VALUES (pg_temp.id('server', 1), :riverton, pg_temp.id('center', 1), 'RIV-SQL-01', 'Windows Server 2022', true),
       (pg_temp.id('server', 2), :riverton, pg_temp.id('center', 1), 'RIV-APP-01', 'Windows Server 2022', true),
       (pg_temp.id('server', 3), :riverton, pg_temp.id('center', 2), 'HIL-APP-01', 'Red Hat Enterprise Linux 9', true),
       (pg_temp.id('server', 4), :riverton, pg_temp.id('center', 1), 'RIV-OLD-99', NULL, false);

INSERT INTO service_types (id, namespace_id, name)
VALUES (pg_temp.id('type', 1), :riverton, 'Infrastructure Services'),
       (pg_temp.id('type', 2), :riverton, 'End User Services');

-- ---------------------------------------------------------------------------
-- Riverton: IT services and software products
-- ---------------------------------------------------------------------------

INSERT INTO it_services (id, namespace_id, owner_workspace_id, name, description, is_internal_only, lifecycle_state,
                         service_type_id, vendor_org_id, contract_reference, contract_start_date, contract_end_date)
SELECT pg_temp.id('service', n), :riverton, pg_temp.id('workspace', workspace), name, description, private, state,
       pg_temp.id('type', type), pg_temp.id('org', vendor), reference, starts::date, ends::date
  FROM (VALUES
    (1, 1, 'Database Services', 'Relational databases, run and patched', false, 'active', 1, NULL, NULL, NULL, NULL),
    (2, 1, 'Application Hosting', 'Virtual machines and containers', false, 'active', 1,
     7, 'RH-77', '2026-01-01', '2028-12-31'),
    -- an offering of this very name is already on the platform, somebody else's
    (3, 1, 'Network Infrastructure', 'Switches, firewalls, wireless', false, 'active', 1, NULL, NULL, NULL, NULL),
    (4, 1, 'Cybersecurity Operations', NULL, false, 'active', 1, NULL, NULL, NULL, NULL),
    (5, 1, 'Enterprise Backup', 'Nightly, kept for a year', false, 'active', 1, NULL, NULL, NULL, NULL),
    (6, 1, 'Help Desk Services', E'Phone\tand e-mail\nweekdays 8 to 17', false, 'active', 2, NULL, NULL, NULL, NULL),
    -- one name but for case
    (7, 1, 'Identity Management', NULL, false, 'active', 2, NULL, NULL, NULL, NULL),
    (8, 3, 'IDENTITY MANAGEMENT', NULL, false, 'active', 2, NULL, NULL, NULL, NULL),
    -- private to a workspace
    (9, 3, 'Justice Print Service', NULL, true, 'active', 2, NULL, NULL, NULL, NULL),
    (10, 2, 'Public Works Radio', 'Trunked radio for crews', true, 'active', NULL, NULL, NULL, NULL, NULL),
    -- supplied by an internal organization: its contract is a chargeback
    (11, 1, 'Central Data Centre', 'Rack space from the ministry', false, 'active', 1,
     8, 'CB-2026-001', '2026-01-01', '2026-12-31'),
    -- linked by nothing; a contract without vendor
    (12, 1, 'Fax Gateway', NULL, false, 'retired', NULL, NULL, 'FAX-1', '2019-01-01', '2027-12-31')
  ) AS v (n, workspace, name, description, private, state, type, vendor, reference, starts, ends);

INSERT INTO software_products (id, namespace_id, owner_workspace_id, name, version, manufacturer_org_id,
                               product_family_name, license_type, category, is_internal_only, is_deprecated)
SELECT pg_temp.id('product', n), :riverton, pg_temp.id('workspace', 1), name, version, pg_temp.id('org', manufacturer),
       family, license, category, internal, deprecated
  FROM (VALUES
    -- one name, two versions
    (1, 'Oracle Database', '19c', 1, 'Oracle Database', 'per processor', 'Database', false, false),
    (2, 'Oracle Database', '21c', 1, 'Oracle Database', 'per processor', 'Database', false, false),
    (3, 'VMware vSphere', '8', 2, 'vSphere', 'per core', 'Virtualization', false, false),
    (4, 'Commvault Backup', '2024E', 3, NULL, 'subscription', 'Backup', false, false),
    -- named like an application
    (5, 'Sage 300', '2025', 4, 'Sage 300', 'per user', 'ERP', false, false),
    -- a model of this very name is already on the platform, somebody else's
    (6, 'Windows Server 2022', NULL, 5, 'Windows Server', 'per core', 'Operating system', false, false),
    (7, 'PostgreSQL', NULL, NULL, NULL, 'open source', 'Database', false, false),
    (8, 'Lotus Notes', '9.0.1', 12, NULL, NULL, 'Groupware', false, true),
    -- linked by nothing
    (9, 'Flash Player', '32', NULL, NULL, NULL, 'Browser', false, true),
    (10, 'ArcGIS Enterprise', '11.2', 6, 'ArcGIS', 'enterprise', 'GIS', false, false),
    (11, 'Red Hat Enterprise Linux', '9', 7, 'RHEL', 'subscription', 'Operating system', false, false),
    -- made by an internal organization
    (12, 'Riverton Forms', '3.1', 9, NULL, NULL, 'Homegrown', true, false)
  ) AS v (n, name, version, manufacturer, family, license, category, internal, deprecated);

INSERT INTO it_service_software_products (id, it_service_id, software_product_id)
SELECT pg_temp.id('service-product', service * 10000 + product),
       pg_temp.id('service', service), pg_temp.id('product', product)
  FROM (VALUES (1, 1), (1, 2), (1, 7), (2, 3), (2, 11), (5, 4)) AS v (service, product);

-- ---------------------------------------------------------------------------
-- Riverton: applications
-- ---------------------------------------------------------------------------

INSERT INTO applications (id, app_id, workspace_id, owner_workspace_id, name, short_description, description,
                          operational_status, lifecycle_status, lifecycle_stage_status, management_classification,
                          csdm_stage, primary_use_case, owner, primary_support)
SELECT pg_temp.id('app', n), n, pg_temp.id('workspace', workspace), pg_temp.id('workspace', workspace),
       name, short, long, status, technology, stage, class, csdm, use_case, owner, support
  FROM (VALUES
    (1, 1, 'Sage 300', 'Finance and procurement', 'General ledger, payables, purchase orders.',
     'operational', 'Mainstream', 'active', 'apm', 'stage_3', 'Accounting', NULL, NULL),
    -- two applications, one name
    (2, 2, 'Permit Tracker', 'Road permits', NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    (3, 3, 'Permit Tracker', 'Court permits', NULL,
     'operational', NULL, 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    -- a business application of this very name is already on the platform; Elmsworth has one too
    (4, 1, 'Payroll', 'Pays everybody', NULL,
     'operational', 'Extended', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- owners in the legacy columns only: none
    (5, 1, 'Council Minutes', NULL, NULL,
     'operational', NULL, 'active', 'apm', 'stage_0', NULL, 'Jane Doe (left 2019)', 'ask Bob'),
    -- a business owner, no IT owner
    (6, 2, 'Fleet Manager', 'Vehicles and fuel', NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    -- exactly 300 characters
    (7, 2, rpad('Snow Clearing, Salting and Sanding Priority Network Route Optimisation ', 300, 'and Reporting '),
     'A very long name', NULL,
     'operational', NULL, 'active', 'apm', 'stage_0', NULL, NULL, NULL),
    (8, 3, 'O''Brien''s "Quick" Permits', 'Says "it''s quick"', 'He said: "It''s ''done''".',
     'operational', NULL, 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    (9, 1, 'C:\Archive\new\table', 'Backslashes \n that are no newline', 'ends in a backslash \',
     'operational', 'End of Support', 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    (10, 2, 'Park Passes 🌳🚲', 'Season passes 🎟', '👨‍👩‍👧 family passes',
     'operational', 'Mainstream', 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    -- the caret separates conditions in a ServiceNow query
    (11, 1, 'Assets^Inventory', 'name=x^ORname=y', NULL,
     'operational', NULL, 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    -- the comma separates values of its IN operator
    (12, 3, 'Bylaws, Zoning, and Maps', NULL, NULL,
     'operational', NULL, 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    (13, 1, '市民ポータル', '住民向けオンラインサービス', '引越し、税金、保育。',
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- two trailing blanks
    (14, 3, 'Dispatch Console  ', ' leading blank', NULL,
     'operational', 'Extended', 'active', 'apm', 'stage_1', NULL, NULL, NULL),
    -- retired before anything was ever published
    (15, 1, 'Legacy Tax Roll', 'Replaced in 2021', NULL,
     'retired', 'End of Support', 'retired', 'apm', 'stage_1', NULL, NULL, NULL),
    -- retired, but its stage says active
    (16, 1, 'Mainframe Billing', NULL, NULL,
     'retired', 'End of Support', 'active', 'apm', 'stage_0', NULL, NULL, NULL),
    (17, 1, 'Citizen 360', 'Planned for next year', NULL,
     'pipeline', NULL, 'planned', 'apm', 'stage_0', NULL, NULL, NULL),
    -- in the pipeline, stage unknown
    (18, 2, 'Smart Parking', NULL, NULL,
     'pipeline', NULL, NULL, 'apm', 'stage_0', NULL, NULL, NULL),
    (19, 2, 'Water Billing', 'Meters and invoices', 'Reads meters, sends invoices.',
     'operational', 'Mainstream', 'active', 'apm', 'stage_3', 'Billing', NULL, NULL),
    -- application lifecycle management: published by default
    (20, 1, 'CI/CD Pipeline', NULL, NULL,
     'operational', 'Mainstream', 'active', 'alm', 'stage_0', NULL, NULL, NULL),
    -- neither apm nor alm: not published by default
    (21, 1, 'Office Clock', NULL, NULL,
     'operational', NULL, 'active', 'other', 'stage_0', NULL, NULL, NULL),
    (22, 1, 'Intranet', '<b>News</b> & more',
     '<p>For <a href="https://intranet.riverton.example/?a=1&amp;b=2">staff</a></p><script>alert(''x'')</script>',
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    (23, 2, 'GIS Viewer', E'Maps\tof everything', E'First line\r\nsecond line\n\n\ttabbed\n\x01control, \u00a0no-break\u2028end',
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- the short description has a four-byte character exactly at its 1000th, of 1200; the long one has 6000
    (24, 1, 'Records Vault', repeat('s', 999) || '🏛' || repeat('t', 200), left(repeat('Rules of retention. ', 301), 6000),
     'operational', 'Extended', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- two profiles, one name
    (25, 1, 'Tax Roll', 'Property tax', NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- has profiles, none of them in scope
    (26, 1, 'E-mail', NULL, NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_0', NULL, NULL, NULL),
    (27, 1, 'HR Core', 'People', 'Human resources.',
     'operational', 'Mainstream', 'active', 'apm', 'stage_3', NULL, NULL, NULL),
    (28, 3, 'Police Records', 'Records management', NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_3', NULL, NULL, NULL),
    (29, 3, 'Fire Dispatch', NULL, NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- two primary profiles
    (30, 1, 'Library Catalogue', '', '',
     'operational', NULL, 'active', 'apm', 'stage_1', '', NULL, NULL),
    -- no primary profile, one profile of every environment
    (31, 3, 'Emergency Alerts', 'Sirens, SMS', NULL,
     'operational', 'Mainstream', 'active', 'apm', 'stage_2', NULL, NULL, NULL),
    -- no profile at all
    (32, 1, 'Open Data Portal', NULL, NULL,
     'operational', NULL, 'active', 'apm', 'stage_0', NULL, NULL, NULL)
  ) AS v (n, workspace, name, short, long, status, technology, stage, class, csdm, use_case, owner, support);

-- Profile 705 is the fifth of application 7; 9001 and up have no application.
CREATE TEMPORARY TABLE sample_profile (
    n integer, workspace integer, name text, is_primary boolean, dp_type text, environment text,
    hosting text, cloud text, version text, status text, vendor integer,
    managing integer, support integer, change integer);

INSERT INTO sample_profile VALUES
    (101, 1, 'Sage 300 - Finance - Prod', true, 'application', 'PROD', 'On-Prem', NULL, '2025.1', 'operational', 4, 2, 1, 4),
    (102, 1, 'Sage 300 - Finance - Test', false, 'application', 'TEST', 'On-Prem', NULL, '2025.2', 'operational', 4, 2, 1, 4),
    -- money, not a service: never published, even though sample_scope.sql puts it in scope
    (103, 1, 'Sage 300 - Licence Bundle', false, 'cost_bundle', 'PROD', NULL, NULL, NULL, 'operational', 4, NULL, NULL, NULL),
    (201, 2, 'Permit Tracker - Roads', true, 'application', 'PROD', 'Cloud', 'azure', '7', 'operational', 11, 2, 1, 4),
    (202, 2, 'Permit Tracker - Roads - UAT', false, 'application', 'UAT', 'Cloud', 'azure', '8', 'operational', 11, 2, 1, 4),
    (301, 3, 'Permit Tracker - Court', true, 'application', 'PROD', 'Third-Party-Hosted', 'other', NULL, 'operational', NULL, 2, 1, NULL),
    (401, 1, 'Payroll - Prod', true, 'application', 'PROD', 'SaaS', '', NULL, 'operational', NULL, 2, 1, 4),
    (501, 1, 'Council Minutes - Prod', true, 'application', 'PROD', 'Desktop', NULL, NULL, 'operational', NULL, NULL, NULL, NULL),
    (601, 2, 'Fleet Manager - Prod', true, 'application', 'PROD', 'Cloud', 'aws', '4.2', 'operational', NULL, 6, 1, 4),
    -- the 300 characters of the application, and seven more
    (701, 2, rpad('Snow Clearing, Salting and Sanding Priority Network Route Optimisation ', 300, 'and Reporting ') || ' - Prod',
     true, 'application', 'PROD', 'Cloud', 'gcp', NULL, 'operational', NULL, 2, 1, 4),
    (801, 3, 'O''Brien''s "Quick" Permits - Prod', true, 'application', 'PROD', 'Cloud', 'oracle', 'v"1"', 'operational', NULL, 2, 1, 4),
    (901, 1, 'C:\Archive\new\table - Prod', true, 'application', 'PROD', 'On-Prem', NULL, '\1', 'operational', NULL, 2, 1, 4),
    (1001, 2, 'Park Passes 🌳🚲 - Prod', true, 'application', 'PROD', 'SaaS', NULL, NULL, 'operational', NULL, 2, 1, 4),
    (1101, 1, 'Assets^Inventory - Prod', true, 'application', 'PROD', 'On-Prem', NULL, NULL, 'operational', NULL, 2, 1, 4),
    (1201, 3, 'Bylaws, Zoning, and Maps - Prod', true, 'application', 'PROD', 'On-Prem', NULL, NULL, 'operational', NULL, 2, 1, 4),
    -- does not contain the application's name
    (1301, 1, '本番環境', true, 'application', 'PROD', 'Cloud', 'ibm', NULL, 'operational', NULL, 2, 1, 4),
    (1401, 3, 'Dispatch Console   - Prod', true, 'application', 'PROD', 'Hybrid', NULL, NULL, 'operational', NULL, 5, 5, 4),
    (1501, 1, 'Legacy Tax Roll - Prod', true, 'application', 'PROD', 'On-Prem', NULL, NULL, 'non-operational', NULL, NULL, NULL, NULL),
    -- its application is retired, it still runs
    (1601, 1, 'Mainframe Billing - Prod', true, 'application', 'PROD', 'On-Prem', NULL, NULL, 'operational', 8, NULL, NULL, NULL),
    (1701, 1, 'Citizen 360 - Dev', true, 'application', 'DEV', 'Cloud', 'aws', '0.1', 'operational', NULL, 2, NULL, NULL),
    (1801, 2, 'Smart Parking - Sandbox', true, 'application', 'SBX', 'Cloud', 'azure', NULL, 'operational', NULL, 2, NULL, NULL),
    (1901, 2, 'Water Billing - Prod', true, 'application', 'PROD', 'On-Prem', NULL, '12.0.3', 'operational', 11, 2, 1, 4),
    (1902, 2, 'Water Billing - DR', false, 'application', 'DR', 'On-Prem', NULL, '12.0.3', 'non-operational', 11, 3, 1, 4),
    -- longer than the 40 characters of the platform's version column
    (2001, 1, 'CI/CD Pipeline - Prod', true, 'application', 'PROD', 'On-Prem', NULL,
     'build 2026.07.14+sha.0123456789abcdef0123456789', 'operational', NULL, 2, 1, NULL),
    (2101, 1, 'Office Clock - Prod', true, 'application', 'PROD', 'Desktop', NULL, NULL, 'operational', NULL, NULL, NULL, NULL),
    -- three profiles of three applications, all called "Prod"
    (2201, 1, 'Prod', true, 'application', 'PROD', 'On-Prem', NULL, '5', 'operational', NULL, 2, 1, 4),
    (2301, 2, 'Prod', true, 'application', 'PROD', 'On-Prem', NULL, '11.2', 'operational', 6, 2, 1, 4),
    (2401, 1, 'Prod', true, 'application', 'PROD', 'Cloud', 'azure', NULL, 'operational', NULL, 2, 1, 4),
    -- one name twice
    (2501, 1, 'Tax Roll - Prod', true, 'application', 'PROD', 'On-Prem', NULL, '3', 'operational', NULL, 2, 1, 4),
    (2502, 1, 'Tax Roll - Prod', false, 'application', 'PROD', 'Cloud', 'azure', '4', 'operational', NULL, 2, 1, 4),
    (2601, 1, 'E-mail - Prod', true, 'application', 'PROD', 'SaaS', NULL, NULL, 'operational', 5, 2, 1, 4),
    (2602, 1, 'E-mail - Archive', false, 'application', 'PROD', 'SaaS', NULL, NULL, 'operational', 5, 2, 1, 4),
    -- a tenant of a shared platform
    (2701, 1, 'HR Core - City tenant', true, 'platform_tenant', 'PROD', 'SaaS', NULL, NULL, 'operational', 8, 2, 1, 4),
    (2702, 1, 'HR Core - QA tenant', false, 'platform_tenant', 'QA', 'SaaS', NULL, NULL, 'operational', 8, 2, 1, 4),
    (2801, 3, 'Police Records - Prod', true, 'application', 'PROD', 'On-Prem', NULL, '9', 'operational', 13, 2, 1, 4),
    (2901, 3, 'Fire Dispatch - Prod', true, 'application', 'PROD', 'On-Prem', NULL, NULL, 'operational', NULL, 2, 5, 4),
    -- both primary, of different teams and vendors
    (3001, 1, 'Library Catalogue - Prod', true, 'application', 'PROD', 'SaaS', NULL, NULL, 'operational', 1, 1, 1, 4),
    (3002, 1, 'Library Catalogue - Kiosks', true, 'application', 'PROD', 'Desktop', NULL, NULL, 'operational', 5, 2, 1, 4),
    -- every environment, and none
    (3101, 3, 'Emergency Alerts - Prod', false, 'application', 'PROD', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3102, 3, 'Emergency Alerts - Sandbox', false, 'application', 'SBX', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3103, 3, 'Emergency Alerts - UAT', false, 'application', 'UAT', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3104, 3, 'Emergency Alerts - Test', false, 'application', 'TEST', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3105, 3, 'Emergency Alerts - Dev', false, 'application', 'DEV', 'Cloud', 'aws', '3', 'operational', NULL, 2, 1, 4),
    (3106, 3, 'Emergency Alerts - STG', false, 'application', 'STG', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3107, 3, 'Emergency Alerts - DR', false, 'application', 'DR', 'Cloud', 'gcp', '2', 'operational', NULL, 2, 1, 4),
    (3108, 3, 'Emergency Alerts - QA', false, 'application', 'QA', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3109, 3, 'Emergency Alerts - Staging', false, 'application', 'STAGING', 'Cloud', 'aws', '2', 'operational', NULL, 2, 1, 4),
    (3110, 3, 'Emergency Alerts - Somewhere', false, 'application', NULL, NULL, NULL, NULL, 'operational', NULL, NULL, NULL, NULL),
    -- infrastructure: no application
    (9001, 1, 'Virtualization Cluster', false, 'infrastructure', 'PROD', 'On-Prem', NULL, '8', 'operational', 2, 3, 3, 4),
    (9002, 1, 'Container Platform', false, 'infrastructure', 'PROD', 'On-Prem', NULL, '4.16', 'operational', 7, 3, 3, 4),
    (9003, 1, 'Storage as a Service', false, 'infrastructure', 'PROD', 'On-Prem', NULL, NULL, 'operational', NULL, 3, 3, 4),
    (9004, 2, 'Old SAN', false, 'infrastructure', 'PROD', 'On-Prem', NULL, NULL, 'non-operational', 12, 3, NULL, NULL);

-- The trigger on applications has made the first profile of each already.
DELETE FROM deployment_profiles p WHERE p.application_id = pg_temp.id('app', 32);
UPDATE deployment_profiles p
   SET id = pg_temp.id('profile', s.n)
  FROM sample_profile s
 WHERE s.n % 100 = 1 AND s.n < 9000 AND p.application_id = pg_temp.id('app', s.n / 100);

INSERT INTO deployment_profiles AS p
       (id, application_id, workspace_id, name, is_primary, dp_type, environment, hosting_type, cloud_provider,
        region, data_center_id, server_name, version, operational_status, vendor_org_id,
        managing_team_id, support_team_id, change_team_id)
SELECT pg_temp.id('profile', n), CASE WHEN n < 9000 THEN pg_temp.id('app', n / 100) END,
       pg_temp.id('workspace', workspace), name, is_primary, dp_type, environment, hosting, cloud,
       CASE WHEN cloud <> '' THEN 'ca-central-1' END,
       CASE WHEN hosting = 'On-Prem' THEN pg_temp.id('center', CASE WHEN environment = 'DR' THEN 2 ELSE 1 END) END,
       CASE WHEN hosting = 'On-Prem' THEN 'RIV-APP-01' END,
       version, status, pg_temp.id('org', vendor),
       pg_temp.id('team', managing), pg_temp.id('team', support), pg_temp.id('team', change)
  FROM sample_profile
    ON CONFLICT (id) DO UPDATE
   SET (name, is_primary, dp_type, environment, hosting_type, cloud_provider, region, data_center_id, server_name,
        version, operational_status, vendor_org_id, managing_team_id, support_team_id, change_team_id)
     = ROW (excluded.name, excluded.is_primary, excluded.dp_type, excluded.environment, excluded.hosting_type,
            excluded.cloud_provider, excluded.region, excluded.data_center_id, excluded.server_name,
            excluded.version, excluded.operational_status, excluded.vendor_org_id, excluded.managing_team_id,
            excluded.support_team_id, excluded.change_team_id);

DROP TABLE sample_profile;

-- ---------------------------------------------------------------------------
-- Riverton: who, how important, on what
-- ---------------------------------------------------------------------------

INSERT INTO application_contacts (id, application_id, contact_id, role_type, is_primary)
SELECT pg_temp.id('app-contact', row_number() OVER (ORDER BY app, role, contact)),
       pg_temp.id('app', app), pg_temp.id('contact', contact), role, is_primary
  FROM (SELECT app, 1 AS contact, 'business_owner' AS role, true AS is_primary
          FROM unnest('{1,2,3,4,6,7,8,9,10,11,12,13,15,16,17,18,19,20,21,22,23,24,25,26,31,32}'::int[]) AS app
        UNION ALL
        SELECT app, 2, 'technical_owner', true
          FROM unnest('{1,2,3,4,7,8,9,10,11,12,13,15,16,17,18,20,21,22,23,24,25,26,31,32}'::int[]) AS app
        UNION ALL
        VALUES -- two owners, the primary one entered later; and a third, without e-mail
               (1, 3, 'business_owner', false), (1, 5, 'business_owner', false),
               (1, 9, 'steward', true), (1, 11, 'vendor_rep', false),
               -- nobody is primary: two technical owners
               (19, 2, 'technical_owner', false), (19, 3, 'technical_owner', false),
               -- only roles that are no owners
               (5, 9, 'steward', true), (5, 14, 'support', true),
               -- an apostrophe and an accent; blanks around the address
               (14, 10, 'business_owner', true), (14, 15, 'technical_owner', true),
               -- two users have the e-mail
               (27, 4, 'business_owner', true), (27, 2, 'technical_owner', true),
               -- no e-mail; mixed case
               (28, 5, 'business_owner', true), (28, 6, 'technical_owner', true),
               -- an inactive user; no user
               (29, 8, 'business_owner', true), (29, 7, 'technical_owner', true),
               -- a contact who has left; the same address twice
               (30, 12, 'business_owner', true), (30, 13, 'technical_owner', true), (30, 1, 'technical_owner', false)
       ) AS v (app, contact, role, is_primary);

INSERT INTO deployment_profile_contacts (id, deployment_profile_id, contact_id, role_type, is_primary)
SELECT pg_temp.id('profile-contact', profile * 10000 + contact),
       pg_temp.id('profile', profile), pg_temp.id('contact', contact), role, is_primary
  FROM (VALUES (101, 2, 'operational_owner', true), (101, 3, 'technical_sme', true),
               (102, 3, 'operational_owner', true),
               (201, 9, 'operational_owner', true), (401, 2, 'operational_owner', true),
               (1901, 2, 'operational_owner', false), (1901, 3, 'operational_owner', true),
               (2301, 9, 'operational_owner', true), (2701, 4, 'operational_owner', true),
               (2801, 6, 'operational_owner', true), (2901, 8, 'operational_owner', true),
               (3001, 7, 'operational_owner', true), (3002, 5, 'operational_owner', true),
               (3101, 2, 'change_control', true), (9001, 15, 'operational_owner', true))
       AS v (profile, contact, role, is_primary);

-- Both ends of every band, what lies between two, null, none at all, several.
INSERT INTO portfolio_assignments (id, application_id, deployment_profile_id, criticality)
SELECT pg_temp.id('assignment', row_number() OVER (ORDER BY app, criticality, profile)),
       pg_temp.id('app', app), pg_temp.id('profile', profile), criticality
  FROM (VALUES (1, 101, 92), (1, 102, 35), (2, 201, 60), (3, 301, 20), (4, 401, 100), (6, 601, 80),
               (7, 701, 0), (8, 801, 19.99), (9, 901, 39), (10, 1001, 40), (11, 1101, 59.99), (12, 1201, 79.50),
               (13, 1301, 79), (14, 1401, 99.99), (15, 1501, 10), (16, 1601, 10), (17, NULL, 45), (18, 1801, NULL),
               (19, 1901, NULL), (19, NULL, 55), (19, 1902, 65), (22, 2201, 30), (23, 2301, 59), (24, 2401, 19),
               (25, 2501, 70), (26, 2601, 85), (27, 2701, 88), (28, 2801, 95), (29, 2901, 97), (30, 3001, 25),
               (31, 3101, 100)) AS v (app, profile, criticality);

INSERT INTO deployment_profile_it_services (id, deployment_profile_id, it_service_id, relationship_type, source)
SELECT pg_temp.id('profile-service', profile * 10000 + service * 10 + CASE type WHEN 'built_on' THEN 1 ELSE 0 END),
       pg_temp.id('profile', profile), pg_temp.id('service', service), type, source
  FROM (SELECT profile, service, 'depends_on' AS type, 'manual' AS source
          FROM unnest('{101,102,201,301,401,601,1901,1902,2201,2301,2401,2501,2502,2701,2801,2901,3101}'::int[]) AS profile,
               unnest('{1,2,5}'::int[]) AS service
        UNION ALL
        VALUES (101, 4, 'depends_on', 'manual'), (101, 6, 'depends_on', 'manual'),
               -- both kinds between the same two
               (101, 2, 'built_on', 'discovered'), (2301, 1, 'built_on', 'manual'),
               -- built_on alone
               (3107, 2, 'built_on', 'manual'),
               -- the service whose name is taken on the platform
               (2201, 3, 'depends_on', 'manual'), (2301, 3, 'depends_on', 'manual'),
               -- names that differ by case only
               (2401, 7, 'depends_on', 'manual'), (2801, 8, 'depends_on', 'manual'),
               -- private services
               (2801, 9, 'depends_on', 'manual'), (601, 10, 'depends_on', 'manual'),
               -- the internally supplied one
               (2901, 11, 'depends_on', 'manual'),
               -- profiles that are not published
               (103, 1, 'depends_on', 'manual'), (2601, 6, 'depends_on', 'manual'), (1501, 1, 'depends_on', 'manual'),
               -- infrastructure
               (9001, 3, 'depends_on', 'manual'), (9002, 2, 'built_on', 'manual')
       ) AS v (profile, service, type, source);

-- The columns are the contract's other shape.
INSERT INTO deployment_profile_software_products
       (id, deployment_profile_id, software_product_id, deployed_version,
        vendor_org_id, contract_reference, contract_start_date, contract_end_date)
SELECT pg_temp.id('profile-product', profile * 10000 + product * 10 + k),
       pg_temp.id('profile', profile), pg_temp.id('product', product), version,
       pg_temp.id('org', vendor), reference, starts::date, ends::date
  FROM (VALUES
    -- the same vendor and reference as product_contracts 1, other dates
    (101, 1, 0, '19.22', 1, 'ORA-2026-77', '2026-01-01', '2027-06-30'),
    -- the same as product_contracts 3 in everything
    (101, 3, 0, '8.0u3', 2, 'VMW-4411', '2025-07-01', '2028-06-30'),
    (101, 5, 0, '2025.1', NULL, NULL, NULL, NULL),
    (102, 1, 0, '19.22', NULL, NULL, NULL, NULL),
    (102, 5, 0, '2025.2', NULL, NULL, NULL, NULL),
    (201, 7, 0, '16', NULL, NULL, NULL, NULL),
    (301, 6, 0, NULL, NULL, NULL, NULL, NULL),
    (401, 6, 0, NULL, NULL, NULL, NULL, NULL),
    -- one product twice, in two deployed versions
    (1901, 2, 0, '21.3', NULL, NULL, NULL, NULL),
    (1901, 2, 1, '21.9', NULL, NULL, NULL, NULL),
    (1901, 4, 0, NULL, NULL, NULL, NULL, NULL),
    -- the model whose name is taken on the platform
    (2201, 6, 0, '21H2', 5, 'MS-EA-2026', '2026-04-01', '2029-03-31'),
    (2301, 10, 0, '11.2', NULL, NULL, NULL, NULL),
    (2301, 7, 0, '15', NULL, NULL, NULL, NULL),
    (2401, 11, 0, '9.4', 7, 'RH-77', '2026-01-01', '2028-12-31'),
    (2501, 1, 0, '19.20', NULL, NULL, NULL, NULL),
    -- deprecated
    (2601, 8, 0, '9.0.1', NULL, NULL, NULL, NULL),
    (2801, 8, 0, '9.0.1', 12, 'LN-1999', '1999-01-01', '2009-12-31'),
    -- homegrown
    (2801, 12, 0, '3.1', 9, 'CB-2026-003', '2026-01-01', '2026-12-31'),
    (3101, 7, 0, '17', NULL, NULL, NULL, NULL),
    (9001, 3, 0, '8.0u3', NULL, NULL, NULL, NULL)
  ) AS v (profile, product, k, version, vendor, reference, starts, ends);

INSERT INTO deployment_profile_servers (id, deployment_profile_id, server_id, server_role)
SELECT pg_temp.id('profile-server', profile * 10000 + server),
       pg_temp.id('profile', profile), pg_temp.id('server', server), role
  FROM (VALUES (101, 1, 'database'), (101, 2, 'application'), (1902, 3, 'application'), (9004, 4, NULL))
       AS v (profile, server, role);

-- Contract columns of profiles: one contract on two profiles, a chargeback, one without vendor.
UPDATE deployment_profiles AS p
   SET contract_reference = v.reference, contract_start_date = v.starts::date, contract_end_date = v.ends::date,
       renewal_notice_days = 90
  FROM (VALUES (201, 'TS-9', '2026-03-01', '2029-02-28'), (202, 'TS-9', '2026-03-01', '2029-02-28'),
               (2701, 'CB-2026-004', '2026-01-01', '2026-12-31'),
               (2801, 'GEO-COOP-12', '2025-01-01', '2027-12-31'),
               (401, 'PAY-5', '2026-01-01', '2026-12-31')) AS v (profile, reference, starts, ends)
 WHERE p.id = pg_temp.id('profile', v.profile);

INSERT INTO product_contracts (id, namespace_id, software_product_id, name, vendor_org_id, contract_reference,
                               start_date, end_date, renewal_notice_days)
SELECT pg_temp.id('contract', n), :riverton, pg_temp.id('product', product), name, pg_temp.id('org', vendor),
       reference, starts::date, ends::date, notice
  FROM (VALUES
    -- ends elsewhere than the profile's own columns say
    (1, 1, 'Oracle Database support', 1, 'ORA-2026-77', '2026-01-01', '2026-12-31', 60),
    (2, 2, 'Oracle Database 21c licences', 1, 'ORA-2026-78', '2026-01-01', '2026-12-31', 60),
    -- said twice, alike
    (3, 3, 'vSphere subscription', 2, 'VMW-4411', '2025-07-01', '2028-06-30', 90),
    -- without vendor
    (4, NULL, 'Miscellaneous maintenance', NULL, 'HW-1', '2026-01-01', '2026-12-31', NULL),
    -- 52 characters where the platform has 40
    (5, 5, 'Sage 300 maintenance', 4, 'SAGE/2026/RIVERTON/FINANCE/MAINTENANCE/0000000012345', '2026-01-01', '2026-12-31', 30),
    -- chargeback
    (6, NULL, 'Rack space and power', 8, 'CB-2026-002', '2026-01-01', '2026-12-31', NULL),
    -- the vendor may or may not be internal
    (7, NULL, 'Consulting framework', 10, 'ACME-3', '2026-01-01', '2026-12-31', NULL),
    -- without reference
    (8, 10, 'Esri enterprise agreement', 6, NULL, '2026-01-01', '2028-12-31', 120),
    -- its vendor is twice on the platform
    (9, 6, 'Microsoft enterprise agreement', 5, 'MS-EA-2026', '2026-04-01', '2029-03-31', 180),
    -- a name of more than the 100 characters of short_description
    (10, 4, 'Backup of all servers, databases, mailboxes and shared drives of the city, including restore rehearsals twice a year',
     3, 'CV-2026', '2026-01-01', '2026-12-31', NULL),
    -- ends before it starts
    (11, 11, 'Linux subscriptions', 7, 'RH-78', '2026-12-31', '2026-01-01', NULL),
    -- no dates
    (12, 10, 'ArcGIS training', 6, 'ESRI-T', NULL, NULL, NULL)
  ) AS v (n, product, name, vendor, reference, starts, ends, notice);

INSERT INTO application_integrations
       (id, source_application_id, target_application_id, source_deployment_profile_id, target_deployment_profile_id,
        name, direction, status)
SELECT pg_temp.id('flow', n), pg_temp.id('app', source), pg_temp.id('app', target),
       pg_temp.id('profile', source_profile), pg_temp.id('profile', target_profile), name, direction, status
  FROM (VALUES
    -- known from application to application only
    (1, 1, 24, NULL, NULL, 'Invoices to archive', 'downstream', 'active'),
    (2, 24, 23, NULL, NULL, 'Maps to archive', 'upstream', 'active'),
    (3, 27, 28, NULL, NULL, 'People and badges', 'bidirectional', 'active'),
    -- from profile to profile
    (4, 1, 19, 101, 1901, 'Ledger postings', 'downstream', 'active'),
    (5, 23, 31, 2301, 3101, 'Alert areas', 'upstream', 'active'),
    (6, 27, 28, 2701, 2801, 'Shift plans', 'bidirectional', 'active'),
    -- the other end is not published: a cost bundle, a profile out of scope, a retired application
    (7, 19, 1, 1901, 103, 'Licence cost', 'downstream', 'active'),
    (8, 1, 26, 101, 2601, 'Notifications', 'downstream', 'active'),
    (9, 15, 1, 1501, 101, 'Opening balances', 'downstream', 'active'),
    -- not there any more, or not yet
    (10, 1, 27, 101, 2701, 'Old interface', 'downstream', 'inactive'),
    (11, 17, 1, 1701, 101, 'Citizen accounts', 'upstream', 'planned'),
    -- a system outside the portfolio
    (12, 1, NULL, 101, NULL, 'Bank', 'bidirectional', 'active'),
    -- number 4 again, told from the other side
    (13, 19, 1, 1901, 101, 'Receives postings', 'upstream', 'active'),
    -- between two profiles of one application
    (14, 1, 1, 101, 102, 'Nightly refresh of test', 'downstream', 'active')
  ) AS v (n, source, target, source_profile, target_profile, name, direction, status);

INSERT INTO integration_contacts (id, integration_id, contact_id)
VALUES (pg_temp.id('flow-contact', 1), pg_temp.id('flow', 4), pg_temp.id('contact', 3));

-- ---------------------------------------------------------------------------
-- Elmsworth: same names, other tenant
-- ---------------------------------------------------------------------------

INSERT INTO organizations (id, namespace_id, name, is_vendor, is_manufacturer, is_internal)
VALUES (pg_temp.id('org', 1, 2), :elmsworth, 'Oracle Corporation', true, true, false);

INSERT INTO contacts (id, namespace_id, display_name, email)
VALUES (pg_temp.id('contact', 1, 2), :elmsworth, 'Pat Novak', 'pat.novak@elmsworth.example'),
       (pg_temp.id('contact', 2, 2), :elmsworth, 'Alice Ferreira', 'alice.ferreira@riverton.example');

INSERT INTO teams (id, namespace_id, name)
VALUES (pg_temp.id('team', 1, 2), :elmsworth, 'Service Desk');

INSERT INTO it_services (id, namespace_id, name)
VALUES (pg_temp.id('service', 1, 2), :elmsworth, 'Database Services');

INSERT INTO software_products (id, namespace_id, name, version, manufacturer_org_id)
VALUES (pg_temp.id('product', 1, 2), :elmsworth, 'Oracle Database', '19c', pg_temp.id('org', 1, 2));

INSERT INTO applications (id, app_id, workspace_id, name)
SELECT pg_temp.id('app', n, 2), 100 + n, pg_temp.id('workspace', 1, 2), name
  FROM (VALUES (1, 'Payroll'), (2, 'Sage 300'), (3, 'Road Register')) AS v (n, name);

UPDATE deployment_profiles p
   SET id = pg_temp.id('profile', n * 100 + 1, 2), managing_team_id = pg_temp.id('team', 1, 2),
       support_team_id = pg_temp.id('team', 1, 2), change_team_id = pg_temp.id('team', 1, 2)
  FROM generate_series(1, 3) AS n
 WHERE p.application_id = pg_temp.id('app', n, 2);

INSERT INTO application_contacts (id, application_id, contact_id, role_type, is_primary)
SELECT pg_temp.id('app-contact', n * 10 + k, 2), pg_temp.id('app', n, 2), pg_temp.id('contact', k, 2),
       CASE k WHEN 1 THEN 'business_owner' ELSE 'technical_owner' END, true
  FROM generate_series(1, 3) AS n, generate_series(1, 2) AS k;

INSERT INTO deployment_profile_it_services (id, deployment_profile_id, it_service_id)
SELECT pg_temp.id('profile-service', (n * 100 + 1) * 10000 + 10, 2),
       pg_temp.id('profile', n * 100 + 1, 2), pg_temp.id('service', 1, 2)
  FROM generate_series(1, 3) AS n;

INSERT INTO deployment_profile_software_products (id, deployment_profile_id, software_product_id, deployed_version)
VALUES (pg_temp.id('profile-product', 1010010, 2), pg_temp.id('profile', 101, 2), pg_temp.id('product', 1, 2), '19.3');

INSERT INTO portfolio_assignments (id, application_id, deployment_profile_id, criticality)
VALUES (pg_temp.id('assignment', 1, 2), pg_temp.id('app', 1, 2), pg_temp.id('profile', 101, 2), 70);

INSERT INTO product_contracts (id, namespace_id, software_product_id, name, vendor_org_id, contract_reference,
                               start_date, end_date)
VALUES (pg_temp.id('contract', 1, 2), :elmsworth, pg_temp.id('product', 1, 2), 'Oracle support',
        pg_temp.id('org', 1, 2), 'ORA-2026-77', '2026-02-01', '2027-01-31');

-- Explicit numbers above; what comes next must not collide with them.
DO $$ BEGIN PERFORM setval('applications_app_id_seq', 1000); END $$;

COMMIT;

DROP FUNCTION pg_temp.id(text, bigint, integer);
SELECT set_config('search_path', :'saved_search_path', false) AS saved_search_path,
       set_config('client_encoding', :'saved_encoding', false) AS saved_encoding \gset
\unset riverton
\unset elmsworth
