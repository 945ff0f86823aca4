-- The database of the application, where the extension cannot be installed: adds the column sn_sync_scope and
-- publishes what the sidecar needs, and nothing else.  Run it again when columns or tables have been added.
--
--   psql -d DB [-v schema=public] [-v reader=ROLE] -f publisher.sql
--
-- reader: the role that the subscription logs in as; it needs the attribute REPLICATION, too (on Amazon RDS: membership
-- of rds_replication).  wal_level must be logical.  Run as the owner of the tables, who may create publications.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif
SELECT set_config('sidecar.schema', :'schema', false) AS schema \gset

BEGIN;

-- As itsm_attach_getinsync() makes them.
ALTER TABLE :"schema".deployment_profiles ADD COLUMN IF NOT EXISTS sn_sync_scope text NOT NULL DEFAULT 'none'
    CONSTRAINT deployment_profiles_sn_sync_scope_check
    CHECK (sn_sync_scope IN ('none', 'application_service', 'technical_service', 'technical_service_offering'));
ALTER TABLE IF EXISTS :"schema".it_services ADD COLUMN IF NOT EXISTS sn_sync_scope text
    CONSTRAINT it_services_sn_sync_scope_check CHECK (sn_sync_scope IN ('none', 'technical_service', 'technical_service_offering'));

DO $do$
DECLARE
    sch CONSTANT text := current_setting('sidecar.schema');
    -- What is read.  A table or a column that this database lacks is left out.
    wanted CONSTANT jsonb := '{
        "namespaces": "id,name,slug",
        "workspaces": "id,namespace_id,name",
        "applications": "id,workspace_id,name,app_id,description,short_description,operational_status,lifecycle_status,lifecycle_stage_status,management_classification,primary_use_case,csdm_stage",
        "deployment_profiles": "id,application_id,workspace_id,name,is_primary,dp_type,environment,hosting_type,cloud_provider,region,server_name,version,operational_status,vendor_org_id,support_team_id,change_team_id,managing_team_id,contract_reference,contract_start_date,contract_end_date,renewal_notice_days,created_at,sn_sync_scope",
        "organizations": "id,namespace_id,name,website,is_vendor,is_manufacturer,is_internal",
        "contacts": "id,namespace_id,display_name,email,phone,job_title,is_active",
        "teams": "id,namespace_id,name,is_active",
        "service_types": "id,name",
        "it_services": "id,namespace_id,name,description,is_internal_only,lifecycle_state,service_type_id,vendor_org_id,contract_reference,contract_start_date,contract_end_date,renewal_notice_days,sn_sync_scope",
        "software_products": "id,namespace_id,name,version,manufacturer_org_id,product_family_name,license_type,category,is_deprecated",
        "product_contracts": "id,namespace_id,software_product_id,name,vendor_org_id,contract_reference,start_date,end_date,renewal_notice_days",
        "deployment_profile_it_services": "deployment_profile_id,it_service_id",
        "deployment_profile_software_products": "deployment_profile_id,software_product_id,vendor_org_id,contract_reference,contract_start_date,contract_end_date",
        "application_contacts": "application_id,contact_id,role_type,is_primary",
        "deployment_profile_contacts": "deployment_profile_id,contact_id,role_type,is_primary",
        "portfolio_assignments": "application_id,criticality",
        "application_integrations": "source_application_id,target_application_id,source_deployment_profile_id,target_deployment_profile_id,direction,status"}';
    t record;
    tables text;
BEGIN
    -- An UPDATE or a DELETE names its row by the replica identity.  Without one the application could not write any more.
    FOR t IN SELECT c.oid::regclass AS rel, EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key, c.relreplident
               FROM jsonb_object_keys(wanted) AS w(name) JOIN pg_class AS c ON c.oid = to_regclass(format('%I.%I', sch, w.name)) LOOP
        IF t.has_key AND t.relreplident = 'n' THEN
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', t.rel);
        ELSIF NOT t.has_key AND t.relreplident IN ('d', 'n') THEN
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', t.rel);
        END IF;
    END LOOP;

    -- Beside what is read: the replica identity, what a row of the sidecar's copy cannot be without, and what tells rows apart there.
    SELECT string_agg(format('%s%s', c.oid::regclass, CASE WHEN c.relreplident <> 'f' THEN (
               SELECT format(' (%s)', string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum))
                 FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                  AND (a.attname = ANY (string_to_array(w.columns, ',')) OR a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
                       OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey)
                                     AND (i.indisunique OR c.relreplident = 'i' AND i.indisreplident)))) END), ', ' ORDER BY w.name)
      INTO tables
      FROM jsonb_each_text(wanted) AS w(name, columns) JOIN pg_class AS c ON c.oid = to_regclass(format('%I.%I', sch, w.name));

    IF EXISTS (SELECT FROM pg_publication WHERE pubname = 'pgsync_itsm') THEN
        EXECUTE 'ALTER PUBLICATION pgsync_itsm SET TABLE ' || tables;
    ELSE
        EXECUTE 'CREATE PUBLICATION pgsync_itsm FOR TABLE ' || tables;
    END IF;
END
$do$;

-- The first copy reads the tables.  From a role that row-level security holds back it would get nothing, without an error.
\if :{?reader}
GRANT USAGE ON SCHEMA :"schema" TO :"reader";
SELECT format('GRANT SELECT (%s) ON %I.%I TO %I', (SELECT string_agg(quote_ident(a), ', ') FROM unnest(p.attnames) AS a), p.schemaname, p.tablename, :'reader')
  FROM pg_publication_tables AS p WHERE p.pubname = 'pgsync_itsm' \gexec
\endif

COMMIT;

SELECT p.schemaname, p.tablename, p.attnames FROM pg_publication_tables AS p WHERE p.pubname = 'pgsync_itsm' ORDER BY 2;
\if :{?reader}
SELECT format('%s needs REPLICATION, and BYPASSRLS where tables have row-level security', r.rolname) AS warning
  FROM pg_roles AS r WHERE r.rolname = :'reader' AND NOT r.rolsuper AND NOT (r.rolreplication AND r.rolbypassrls);
\endif
