-- A GetInSync database: its tables become sources, watches and triggers, and can be left again as they were.
--
-- Which tables and columns are there differs from site to site.  So every query is written once, against all
-- columns that we know; in its stored text a table stands for itself where it has them, else for a subselect
-- that adds what is missing as NULL, and a table that does not exist is an empty one.

CREATE FUNCTION pgsync_itsm.getinsync_columns()
RETURNS TABLE (tab name, required boolean, col name, type text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.tab, t.required, split_part(c, ' ', 1)::name, split_part(c, ' ', 2)
      FROM (VALUES
        ('workspaces'::name, true, 'id uuid,namespace_id uuid,name text'),
        ('applications', true,
         'id uuid,workspace_id uuid,name text,app_id int4,description text,short_description text,operational_status text,'
         'lifecycle_status text,lifecycle_stage_status text,management_classification text,primary_use_case text,csdm_stage text'),
        ('deployment_profiles', true,
         'id uuid,application_id uuid,workspace_id uuid,name text,is_primary bool,dp_type text,environment text,hosting_type text,'
         'cloud_provider text,region text,server_name text,version text,operational_status text,vendor_org_id uuid,'
         'support_team_id uuid,change_team_id uuid,managing_team_id uuid,contract_reference text,contract_start_date date,'
         'contract_end_date date,renewal_notice_days int4,created_at timestamptz,sn_sync_scope text'),
        ('organizations', false,
         'id uuid,namespace_id uuid,name text,website text,is_vendor bool,is_manufacturer bool,is_internal bool'),
        ('contacts', false,
         'id uuid,namespace_id uuid,display_name text,email text,phone text,job_title text,is_active bool'),
        ('teams', false, 'id uuid,namespace_id uuid,name text,is_active bool'),
        ('service_types', false, 'id uuid,name text'),
        ('it_services', false,
         'id uuid,namespace_id uuid,name text,description text,is_internal_only bool,lifecycle_state text,service_type_id uuid,'
         'vendor_org_id uuid,contract_reference text,contract_start_date date,contract_end_date date,renewal_notice_days int4,'
         'sn_sync_scope text'),
        ('software_products', false,
         'id uuid,namespace_id uuid,name text,version text,manufacturer_org_id uuid,product_family_name text,license_type text,'
         'category text,is_deprecated bool'),
        ('product_contracts', false,
         'id uuid,namespace_id uuid,software_product_id uuid,name text,vendor_org_id uuid,contract_reference text,'
         'start_date date,end_date date,renewal_notice_days int4'),
        ('deployment_profile_it_services', false, 'deployment_profile_id uuid,it_service_id uuid'),
        ('deployment_profile_software_products', false,
         'deployment_profile_id uuid,software_product_id uuid,vendor_org_id uuid,contract_reference text,'
         'contract_start_date date,contract_end_date date'),
        ('application_contacts', false, 'application_id uuid,contact_id uuid,role_type text,is_primary bool'),
        ('deployment_profile_contacts', false, 'deployment_profile_id uuid,contact_id uuid,role_type text,is_primary bool'),
        ('portfolio_assignments', false, 'application_id uuid,criticality numeric'),
        ('application_integrations', false,
         'source_application_id uuid,target_application_id uuid,source_deployment_profile_id uuid,'
         'target_deployment_profile_id uuid,direction text,status text')
      ) AS t(tab, required, cols), unnest(string_to_array(t.cols, ',')) AS c;
END;
COMMENT ON FUNCTION pgsync_itsm.getinsync_columns() IS
'Tables and columns of a GetInSync database that the sources read; only the required tables must be there';

CREATE FUNCTION pgsync_itsm.has_columns(schema_name name, tab name, VARIADIC cols name[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT count(*) FROM pg_attribute AS a
         WHERE a.attrelid = to_regclass(format('%I.%I', schema_name, tab)) AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attname = ANY (cols)) = cardinality(cols);
COMMENT ON FUNCTION pgsync_itsm.has_columns(name, name, name[]) IS 'Is there such a table, with all these columns';

CREATE FUNCTION pgsync_itsm.getinsync_table(schema_name name, tab name) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN bool_and(pgsync_itsm.has_columns(schema_name, k.tab, k.col)) THEN format('%I.%I', schema_name, k.tab)
                ELSE format('(SELECT %s%s)',
                            string_agg(CASE WHEN pgsync_itsm.has_columns(schema_name, k.tab, k.col) THEN format('t.%I', k.col)
                                            ELSE format('NULL::pg_catalog.%I AS %I', k.type, k.col) END, ', '),
                            CASE WHEN to_regclass(format('%I.%I', schema_name, k.tab)) IS NULL THEN ' WHERE false'
                                 ELSE format(' FROM %I.%I AS t', schema_name, k.tab) END) END
      FROM pgsync_itsm.getinsync_columns() AS k WHERE k.tab = getinsync_table.tab
     GROUP BY k.tab;
END;
COMMENT ON FUNCTION pgsync_itsm.getinsync_table(name, name) IS
'SQL text that stands for a table in a source, with all the columns that getinsync_columns() knows';

-- The queries.  @table@ is replaced by getinsync_table().  What could be several rows is a LATERAL with LIMIT: evaluated
-- once a row, and no obstacle to a condition on the key.  No window function, no aggregate above a key.
CREATE FUNCTION pgsync_itsm.getinsync_templates() RETURNS TABLE (entity_type text, main_table name, key_type text, template text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
VALUES ('application', 'applications'::name, 'uuid', $q$
SELECT a.id AS key, a.name,
       CASE WHEN a.app_id < 10000 THEN 'APP-' || pg_catalog.lpad(a.app_id::text, 4, '0') ELSE 'APP-' || a.app_id::text END AS app_id,
       a.description, a.short_description, a.operational_status, a.lifecycle_stage_status, a.lifecycle_status,
       a.management_classification, a.primary_use_case, a.csdm_stage, w.name AS workspace_name,
       bo.email AS business_owner_email, te.email AS technical_owner_email,
       pp.managed_by_group, pp.vendor_id, pp.vendor_name, pp.vendor_is_internal, pa.criticality,
       coalesce(a.operational_status = 'retired', false) AS retired
  FROM @applications@ AS a
  JOIN @workspaces@ AS w ON w.id = a.workspace_id AND w.namespace_id = $1
  LEFT JOIN LATERAL (SELECT pg_catalog.btrim(c.email) AS email
                       FROM @application_contacts@ AS ac JOIN @contacts@ AS c ON c.id = ac.contact_id
                      WHERE ac.application_id = a.id AND ac.role_type = 'business_owner'
                        AND c.is_active IS NOT FALSE AND pg_catalog.btrim(c.email) <> ''
                      ORDER BY ac.is_primary DESC NULLS LAST, c.email, c.id LIMIT 1) AS bo ON true
  LEFT JOIN LATERAL (SELECT pg_catalog.btrim(c.email) AS email
                       FROM @application_contacts@ AS ac JOIN @contacts@ AS c ON c.id = ac.contact_id
                      WHERE ac.application_id = a.id AND ac.role_type = 'technical_owner'
                        AND c.is_active IS NOT FALSE AND pg_catalog.btrim(c.email) <> ''
                      ORDER BY ac.is_primary DESC NULLS LAST, c.email, c.id LIMIT 1) AS te ON true
  LEFT JOIN LATERAL (SELECT t.name AS managed_by_group, o.id AS vendor_id, o.name AS vendor_name, o.is_internal AS vendor_is_internal
                       FROM @deployment_profiles@ AS p
                       LEFT JOIN @teams@ AS t ON t.id = p.managing_team_id AND t.is_active IS NOT FALSE
                       LEFT JOIN @organizations@ AS o ON o.id = p.vendor_org_id
                      WHERE p.application_id = a.id AND p.is_primary AND p.dp_type IS DISTINCT FROM 'cost_bundle'
                      ORDER BY p.created_at, p.id LIMIT 1) AS pp ON true
  LEFT JOIN LATERAL (SELECT pg_catalog.max(x.criticality) AS criticality
                       FROM @portfolio_assignments@ AS x WHERE x.application_id = a.id) AS pa ON true$q$),
('deployment_profile', 'deployment_profiles', 'uuid', $q$
SELECT p.id AS key, p.application_id AS parent_key, p.name, coalesce(p.sn_sync_scope, 'none') AS scope, p.dp_type, p.is_primary,
       a.name AS application_name, a.operational_status AS application_status,
       coalesce(a.operational_status = 'retired', false) AS application_retired,
       a.management_classification AS application_classification, a.primary_use_case AS application_use_case,
       p.environment, p.operational_status, p.version, ow.email AS owner_email,
       tm.name AS managed_by_group, ts.name AS support_group, tc.name AS change_group, pa.criticality,
       p.hosting_type, p.cloud_provider, p.region, p.server_name,
       o.id AS vendor_id, o.name AS vendor_name, o.is_internal AS vendor_is_internal,
       coalesce(a.operational_status = 'retired', false) AS retired
  FROM @deployment_profiles@ AS p
  JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
  LEFT JOIN @applications@ AS a ON a.id = p.application_id
  LEFT JOIN @teams@ AS tm ON tm.id = p.managing_team_id AND tm.is_active IS NOT FALSE
  LEFT JOIN @teams@ AS ts ON ts.id = p.support_team_id AND ts.is_active IS NOT FALSE
  LEFT JOIN @teams@ AS tc ON tc.id = p.change_team_id AND tc.is_active IS NOT FALSE
  LEFT JOIN @organizations@ AS o ON o.id = p.vendor_org_id
  LEFT JOIN LATERAL (SELECT pg_catalog.btrim(c.email) AS email
                       FROM @deployment_profile_contacts@ AS pc JOIN @contacts@ AS c ON c.id = pc.contact_id
                      WHERE pc.deployment_profile_id = p.id AND pc.role_type = 'operational_owner'
                        AND c.is_active IS NOT FALSE AND pg_catalog.btrim(c.email) <> ''
                      ORDER BY pc.is_primary DESC NULLS LAST, c.email, c.id LIMIT 1) AS ow ON true
  LEFT JOIN LATERAL (SELECT pg_catalog.max(x.criticality) AS criticality
                       FROM @portfolio_assignments@ AS x WHERE x.application_id = p.application_id) AS pa ON true$q$),
('it_service', 'it_services', 'uuid', $q$
SELECT s.id AS key, s.name, s.description,
       coalesce(s.sn_sync_scope, CASE WHEN s.is_internal_only IS FALSE THEN 'technical_service_offering' ELSE 'none' END) AS scope,
       s.is_internal_only, s.lifecycle_state, st.name AS service_type,
       o.id AS vendor_id, o.name AS vendor_name, o.is_internal AS vendor_is_internal,
       EXISTS (SELECT FROM @deployment_profile_it_services@ AS l WHERE l.it_service_id = s.id) AS linked,
       coalesce(pg_catalog.lower(s.lifecycle_state) IN ('retired', 'decommissioned', 'end of life'), false) AS retired
  FROM @it_services@ AS s
  LEFT JOIN @service_types@ AS st ON st.id = s.service_type_id
  LEFT JOIN @organizations@ AS o ON o.id = s.vendor_org_id
 WHERE s.namespace_id = $1$q$),
('software_product', 'software_products', 'uuid', $q$
SELECT s.id AS key, s.name, s.version, o.id AS manufacturer_id, o.name AS manufacturer_name,
       o.is_internal AS manufacturer_is_internal, s.product_family_name AS product_family, s.license_type, s.category,
       coalesce(s.is_deprecated, false) AS is_deprecated,
       EXISTS (SELECT FROM @deployment_profile_software_products@ AS l WHERE l.software_product_id = s.id) AS linked
  FROM @software_products@ AS s
  LEFT JOIN @organizations@ AS o ON o.id = s.manufacturer_org_id
 WHERE s.namespace_id = $1$q$),
('company', 'organizations', 'uuid', $q$
SELECT o.id AS key, o.name, o.website, o.is_internal,
       o.is_vendor IS TRUE OR u.sells AS is_vendor, o.is_manufacturer IS TRUE OR u.makes AS is_manufacturer,
       u.sells OR u.makes AS used
  FROM @organizations@ AS o
  CROSS JOIN LATERAL (SELECT
       EXISTS (SELECT FROM @deployment_profiles@ AS x WHERE x.vendor_org_id = o.id AND x.dp_type IS DISTINCT FROM 'cost_bundle')
       OR EXISTS (SELECT FROM @it_services@ AS x WHERE x.vendor_org_id = o.id)
       OR EXISTS (SELECT FROM @product_contracts@ AS x WHERE x.vendor_org_id = o.id)
       OR EXISTS (SELECT FROM @deployment_profile_software_products@ AS x WHERE x.vendor_org_id = o.id) AS sells,
       EXISTS (SELECT FROM @software_products@ AS x WHERE x.manufacturer_org_id = o.id) AS makes
       OFFSET 0) AS u
 WHERE o.namespace_id = $1$q$),
('contact', 'contacts', 'uuid', $q$
SELECT c.id AS key, c.display_name AS name, nullif(pg_catalog.btrim(c.email), '') AS email,
       pg_catalog.split_part(pg_catalog.btrim(c.display_name), ' ', 1) AS first_name,
       pg_catalog.btrim(pg_catalog.substr(pg_catalog.btrim(c.display_name),
                        pg_catalog.length(pg_catalog.split_part(pg_catalog.btrim(c.display_name), ' ', 1)) + 1)) AS last_name,
       c.job_title, c.phone, c.is_active IS NOT FALSE AS is_active,
       EXISTS (SELECT FROM @application_contacts@ AS x
                WHERE x.contact_id = c.id AND x.role_type IN ('business_owner', 'technical_owner'))
       OR EXISTS (SELECT FROM @deployment_profile_contacts@ AS x
                   WHERE x.contact_id = c.id AND x.role_type = 'operational_owner') AS used
  FROM @contacts@ AS c
 WHERE c.namespace_id = $1$q$),
('contract', '', 'text', $q$
SELECT g.key, coalesce(g.contract_name, pg_catalog.concat_ws(' ', o.name, g.reference)) AS name, g.reference,
       o.id AS vendor_id, o.name AS vendor_name, o.is_internal, g.starts, g.ends, g.conflicting, g.renewal_notice_days
  FROM (SELECT r.key, r.vendor_org_id, r.reference, pg_catalog.min(r.contract_name) AS contract_name,
               pg_catalog.min(r.starts) AS starts, pg_catalog.min(r.ends) AS ends,
               pg_catalog.min(r.starts) IS DISTINCT FROM pg_catalog.max(r.starts)
               OR pg_catalog.min(r.ends) IS DISTINCT FROM pg_catalog.max(r.ends) AS conflicting,
               pg_catalog.max(r.renewal_notice_days) AS renewal_notice_days
          FROM (SELECT coalesce(c.vendor_org_id::text, '') || '/' || coalesce(nullif(pg_catalog.btrim(c.contract_reference), ''), c.id::text) AS key,
                       c.vendor_org_id, nullif(pg_catalog.btrim(c.contract_reference), '') AS reference,
                       c.name AS contract_name, c.start_date AS starts, c.end_date AS ends, c.renewal_notice_days
                  FROM @product_contracts@ AS c WHERE c.namespace_id = $1
                UNION ALL
                SELECT coalesce(s.vendor_org_id::text, '') || '/' || pg_catalog.btrim(s.contract_reference), s.vendor_org_id,
                       pg_catalog.btrim(s.contract_reference), NULL, s.contract_start_date, s.contract_end_date, s.renewal_notice_days
                  FROM @it_services@ AS s WHERE s.namespace_id = $1 AND pg_catalog.btrim(s.contract_reference) <> ''
                UNION ALL
                SELECT coalesce(p.vendor_org_id::text, '') || '/' || pg_catalog.btrim(p.contract_reference), p.vendor_org_id,
                       pg_catalog.btrim(p.contract_reference), NULL, p.contract_start_date, p.contract_end_date, p.renewal_notice_days
                  FROM @deployment_profiles@ AS p JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
                 WHERE pg_catalog.btrim(p.contract_reference) <> '' AND p.dp_type IS DISTINCT FROM 'cost_bundle'
                UNION ALL
                SELECT coalesce(l.vendor_org_id::text, '') || '/' || pg_catalog.btrim(l.contract_reference), l.vendor_org_id,
                       pg_catalog.btrim(l.contract_reference), NULL, l.contract_start_date, l.contract_end_date, NULL
                  FROM @deployment_profile_software_products@ AS l
                  JOIN @deployment_profiles@ AS p ON p.id = l.deployment_profile_id AND p.dp_type IS DISTINCT FROM 'cost_bundle'
                  JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
                 WHERE pg_catalog.btrim(l.contract_reference) <> '') AS r
         GROUP BY r.key, r.vendor_org_id, r.reference) AS g
  LEFT JOIN @organizations@ AS o ON o.id = g.vendor_org_id AND o.namespace_id = $1$q$),
('covers', '', 'text,uuid', $q$
SELECT r.parent_key || '/' || r.child_key::text AS key, r.parent_key, r.child_key, r.child_type
  FROM (SELECT coalesce(c.vendor_org_id::text, '') || '/' || pg_catalog.btrim(c.contract_reference) AS parent_key,
               c.software_product_id AS child_key, 'software_package'::text AS child_type
          FROM @product_contracts@ AS c
         WHERE c.namespace_id = $1 AND c.software_product_id IS NOT NULL AND pg_catalog.btrim(c.contract_reference) <> ''
        UNION
        SELECT coalesce(s.vendor_org_id::text, '') || '/' || pg_catalog.btrim(s.contract_reference), s.id, 'it_service'::text
          FROM @it_services@ AS s WHERE s.namespace_id = $1 AND pg_catalog.btrim(s.contract_reference) <> ''
        UNION
        SELECT coalesce(p.vendor_org_id::text, '') || '/' || pg_catalog.btrim(p.contract_reference), p.id, 'deployment_profile'::text
          FROM @deployment_profiles@ AS p JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
         WHERE pg_catalog.btrim(p.contract_reference) <> '' AND p.dp_type IS DISTINCT FROM 'cost_bundle'
        UNION
        SELECT coalesce(l.vendor_org_id::text, '') || '/' || pg_catalog.btrim(l.contract_reference), l.software_product_id,
               'software_package'::text
          FROM @deployment_profile_software_products@ AS l
          JOIN @deployment_profiles@ AS p ON p.id = l.deployment_profile_id AND p.dp_type IS DISTINCT FROM 'cost_bundle'
          JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
         WHERE pg_catalog.btrim(l.contract_reference) <> '') AS r$q$),
('consumes', 'deployment_profiles', 'uuid', $q$
SELECT p.application_id::text || '/' || p.id::text AS key, p.application_id AS parent_key, p.id AS child_key, p.sn_sync_scope AS scope
  FROM @deployment_profiles@ AS p
  JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
 WHERE p.application_id IS NOT NULL AND p.sn_sync_scope = 'application_service' AND p.dp_type IS DISTINCT FROM 'cost_bundle'$q$),
('depends_on', 'deployment_profile_it_services', 'uuid', $q$
SELECT DISTINCT l.deployment_profile_id::text || '/' || l.it_service_id::text AS key,
       l.deployment_profile_id AS parent_key, l.it_service_id AS child_key, coalesce(p.sn_sync_scope, 'none') AS scope
  FROM @deployment_profile_it_services@ AS l
  JOIN @deployment_profiles@ AS p ON p.id = l.deployment_profile_id AND p.dp_type IS DISTINCT FROM 'cost_bundle'
  JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
  JOIN @it_services@ AS s ON s.id = l.it_service_id AND s.namespace_id = $1$q$),
('runs_on', 'deployment_profile_software_products', 'uuid', $q$
SELECT DISTINCT l.deployment_profile_id::text || '/' || l.software_product_id::text AS key,
       l.deployment_profile_id AS parent_key, l.software_product_id AS child_key, coalesce(p.sn_sync_scope, 'none') AS scope
  FROM @deployment_profile_software_products@ AS l
  JOIN @deployment_profiles@ AS p ON p.id = l.deployment_profile_id AND p.dp_type IS DISTINCT FROM 'cost_bundle'
  JOIN @workspaces@ AS w ON w.id = p.workspace_id AND w.namespace_id = $1
  JOIN @software_products@ AS s ON s.id = l.software_product_id AND s.namespace_id = $1$q$),
('sends_data_to', 'application_integrations', 'uuid', $q$
SELECT f.parent_key::text || '/' || f.child_key::text AS key, f.parent_key, f.child_key, pg_catalog.bool_or(f.bidirectional) AS bidirectional
  FROM (SELECT CASE e.direction WHEN 'upstream' THEN pt.id WHEN 'bidirectional' THEN least(ps.id, pt.id) ELSE ps.id END AS parent_key,
               CASE e.direction WHEN 'upstream' THEN ps.id WHEN 'bidirectional' THEN greatest(ps.id, pt.id) ELSE pt.id END AS child_key,
               coalesce(e.direction = 'bidirectional', false) AS bidirectional
          FROM (SELECT i.direction, coalesce(i.source_deployment_profile_id, sp.id) AS source_id,
                       coalesce(i.target_deployment_profile_id, tp.id) AS target_id
                  FROM @application_integrations@ AS i
                  LEFT JOIN LATERAL (SELECT p.id FROM @deployment_profiles@ AS p
                                      WHERE i.source_deployment_profile_id IS NULL AND p.application_id = i.source_application_id
                                        AND p.is_primary AND p.dp_type IS DISTINCT FROM 'cost_bundle'
                                      ORDER BY p.created_at, p.id LIMIT 1) AS sp ON true
                  LEFT JOIN LATERAL (SELECT p.id FROM @deployment_profiles@ AS p
                                      WHERE i.target_deployment_profile_id IS NULL AND p.application_id = i.target_application_id
                                        AND p.is_primary AND p.dp_type IS DISTINCT FROM 'cost_bundle'
                                      ORDER BY p.created_at, p.id LIMIT 1) AS tp ON true
                 WHERE coalesce(i.status, 'active') NOT IN ('planned', 'inactive', 'retired', 'deprecated', 'decommissioned')) AS e
          JOIN @deployment_profiles@ AS ps ON ps.id = e.source_id AND ps.dp_type IS DISTINCT FROM 'cost_bundle'
          JOIN @workspaces@ AS ws ON ws.id = ps.workspace_id AND ws.namespace_id = $1
          JOIN @deployment_profiles@ AS pt ON pt.id = e.target_id AND pt.dp_type IS DISTINCT FROM 'cost_bundle'
          JOIN @workspaces@ AS wt ON wt.id = pt.workspace_id AND wt.namespace_id = $1
         WHERE e.source_id <> e.target_id) AS f
 GROUP BY f.parent_key, f.child_key$q$);
$$;
COMMENT ON FUNCTION pgsync_itsm.getinsync_templates() IS
'The source queries of a GetInSync database before its tables are put in; without main table: from whatever tables there are';

CREATE FUNCTION pgsync_itsm.getinsync_query(schema_name name, entity_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result text := (SELECT btrim(t.template, E'\n') FROM pgsync_itsm.getinsync_templates() AS t
                     WHERE t.entity_type = getinsync_query.entity_type);
    tab name;
BEGIN
    FOR tab IN SELECT DISTINCT k.tab FROM pgsync_itsm.getinsync_columns() AS k
    LOOP
        IF strpos(result, format('@%s@', tab)) > 0 THEN
            result := replace(result, format('@%s@', tab), pgsync_itsm.getinsync_table(schema_name, tab));
        END IF;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.getinsync_query(name, text) IS 'The source query of an entity type for the GetInSync tables of a schema, as they are now';

-- Watches.  A change of a column that is not named here concerns nothing that is published.  The key column * stands for
-- the whole entity type: for tables whose rows say nothing about which records they concern.
CREATE FUNCTION pgsync_itsm.getinsync_watches()
RETURNS TABLE (tab name, entity_type text, key_column text, match_by text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.tab, v.entity_type, v.key_column, v.match_by
      FROM (VALUES
        ('applications'::name, 'application', 'id', 'key'),
        ('applications', 'deployment_profile', 'id', 'parent'),
        ('deployment_profiles', 'deployment_profile', 'id', 'key'),
        ('deployment_profiles', 'application', 'application_id', 'key'),
        ('deployment_profiles', 'consumes', 'id', 'parent'),
        ('deployment_profiles', 'depends_on', 'id', 'parent'),
        ('deployment_profiles', 'runs_on', 'id', 'parent'),
        ('deployment_profiles', 'sends_data_to', 'id', 'parent'),
        ('deployment_profiles', 'contract', 'vendor_org_id/contract_reference', 'key'),
        ('deployment_profiles', 'covers', 'id', 'parent'),
        ('it_services', 'it_service', 'id', 'key'),
        ('it_services', 'depends_on', 'id', 'parent'),
        ('it_services', 'contract', 'vendor_org_id/contract_reference', 'key'),
        ('it_services', 'covers', 'id', 'parent'),
        ('software_products', 'software_product', 'id', 'key'),
        ('software_products', 'software_package', 'id', 'key'),
        ('software_products', 'runs_on', 'id', 'parent'),
        ('product_contracts', 'contract', 'vendor_org_id/contract_reference', 'key'),
        ('product_contracts', 'covers', 'vendor_org_id/contract_reference', 'parent'),
        ('deployment_profile_it_services', 'depends_on', 'deployment_profile_id', 'parent'),
        ('deployment_profile_it_services', 'it_service', 'it_service_id', 'key'),
        ('deployment_profile_software_products', 'runs_on', 'deployment_profile_id', 'parent'),
        ('deployment_profile_software_products', 'software_product', 'software_product_id', 'key'),
        ('deployment_profile_software_products', 'software_package', 'software_product_id', 'key'),
        ('deployment_profile_software_products', 'contract', 'vendor_org_id/contract_reference', 'key'),
        ('deployment_profile_software_products', 'covers', 'vendor_org_id/contract_reference', 'parent'),
        ('application_contacts', 'application', 'application_id', 'key'),
        ('application_contacts', 'contact', 'contact_id', 'key'),
        ('deployment_profile_contacts', 'deployment_profile', 'deployment_profile_id', 'key'),
        ('deployment_profile_contacts', 'contact', 'contact_id', 'key'),
        ('portfolio_assignments', 'application', 'application_id', 'key'),
        ('portfolio_assignments', 'deployment_profile', 'application_id', 'parent'),
        ('application_integrations', 'sends_data_to', 'source_deployment_profile_id', 'parent'),
        ('application_integrations', 'sends_data_to', 'target_deployment_profile_id', 'parent'),
        -- known between applications only: between which profiles is for the source to say
        ('application_integrations', 'sends_data_to', '*source_deployment_profile_id/target_deployment_profile_id', 'key'),
        ('organizations', 'company', 'id', 'key'),
        ('organizations', 'application', '*', 'key'),
        ('organizations', 'it_service', '*', 'key'),
        ('organizations', 'software_product', '*', 'key'),
        ('organizations', 'software_package', '*', 'key'),
        ('organizations', 'contract', '*', 'key'),
        ('contacts', 'contact', 'id', 'key'),
        ('contacts', 'application', '*', 'key'),
        ('contacts', 'deployment_profile', '*', 'key'),
        ('teams', 'application', '*', 'key'),
        ('teams', 'deployment_profile', '*', 'key')
      ) AS v(tab, entity_type, key_column, match_by);
END;
COMMENT ON FUNCTION pgsync_itsm.getinsync_watches() IS
'Which change of which GetInSync table concerns which records';

CREATE FUNCTION pgsync_itsm.getinsync_watched_columns(schema_name name, tab name, key_column text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT array_agg(k.col::text ORDER BY k.col)
      FROM pgsync_itsm.getinsync_columns() AS k
     WHERE k.tab = getinsync_watched_columns.tab AND pgsync_itsm.has_columns(schema_name, k.tab, k.col)
       AND k.col NOT IN ('id', 'created_at')
       -- of those that many records refer to, only what these records show
       AND (k.tab <> 'contacts' OR key_column <> '*' OR k.col IN ('email', 'is_active'))
       AND (k.tab <> 'teams' OR k.col IN ('name', 'is_active'));
END;
COMMENT ON FUNCTION pgsync_itsm.getinsync_watched_columns(name, name, text) IS
'Columns of a GetInSync table whose change counts: those that a source reads';

-- Attach ------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.check_may_attach() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pgsync_itsm' AND pg_has_role(e.extowner, 'MEMBER')) THEN
        RAISE EXCEPTION 'must be a member of the owner of extension pgsync_itsm'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'What is attached is read for every connection, as that connection''s owner.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_may_attach() IS 'Raises an error unless the caller is a member of the extension''s owner';

CREATE FUNCTION pgsync_itsm.check_getinsync(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attached name := pgsync_itsm.attached_schema();
    missing text;
    tab name;
    effect text;
BEGIN
    IF to_regnamespace(quote_ident(schema_name)) IS NULL THEN
        RAISE EXCEPTION 'schema "%" does not exist', schema_name USING ERRCODE = 'invalid_schema_name',
            HINT = 'SELECT itsm_attach_getinsync(''schema of the tables applications and deployment_profiles'');';
    END IF;
    IF attached <> schema_name THEN
        RAISE EXCEPTION 'schema "%" is attached already', attached USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'SELECT itsm_detach_getinsync(); first.';
    END IF;
    SELECT string_agg(DISTINCT format('%I.%I', schema_name, k.tab), ', ') INTO missing
      FROM pgsync_itsm.getinsync_columns() AS k WHERE k.required AND to_regclass(format('%I.%I', schema_name, k.tab)) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'tables are missing: %', missing USING ERRCODE = 'undefined_table',
            HINT = 'Name the schema they are in: SELECT itsm_attach_getinsync(''app''); for tables of another shape see itsm_set_source() and itsm_watch().';
    END IF;
    SELECT string_agg(format('%I.%I', k.tab, k.col), ', ') INTO missing
      FROM pgsync_itsm.getinsync_columns() AS k
     WHERE (k.col IN ('id', 'namespace_id') OR k.tab IN ('applications', 'deployment_profiles')
                                                AND k.col IN ('name', 'workspace_id', 'application_id'))
       AND to_regclass(format('%I.%I', schema_name, k.tab)) IS NOT NULL
       AND k.tab NOT IN ('teams', 'service_types')
       AND NOT pgsync_itsm.has_columns(schema_name, k.tab, k.col);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'columns are missing: %', missing USING ERRCODE = 'undefined_column',
            HINT = 'These are not the tables of GetInSync; see itsm_set_source() and itsm_watch().';
    END IF;
    FOR tab, effect IN
        SELECT v.tab, v.effect FROM (VALUES
            ('organizations', 'no vendors, no manufacturers, no contracts'), ('contacts', 'no owners'),
            ('application_contacts', 'applications have no owners'), ('deployment_profile_contacts', 'profiles have no owners'),
            ('teams', 'no groups'), ('it_services', 'no IT services'), ('service_types', 'services have no type'),
            ('deployment_profile_it_services', 'profiles depend on no services'), ('software_products', 'no software products'),
            ('deployment_profile_software_products', 'profiles run on no products'),
            ('product_contracts', 'contracts come from the contract columns of other tables only'),
            ('portfolio_assignments', 'no criticality'), ('application_integrations', 'no data flows')) AS v(tab, effect)
         WHERE to_regclass(format('%I.%I', schema_name, v.tab)) IS NULL
    LOOP
        RAISE NOTICE 'table %.% does not exist: %', quote_ident(schema_name), quote_ident(tab), effect;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_getinsync(name) IS
'Raises an error if a schema does not hold the tables that are needed, a NOTICE for each one that is missed';

CREATE FUNCTION pgsync_itsm.add_scope(schema_name name, tab name, choices text[], default_value text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rel text := format('%I.%I', schema_name, tab);
    con text := tab || '_sn_sync_scope_check';
BEGIN
    IF to_regclass(rel) IS NULL THEN
        RETURN;
    END IF;
    IF NOT pgsync_itsm.has_columns(schema_name, tab, 'sn_sync_scope') THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN sn_sync_scope text %s', rel,
                       CASE WHEN default_value IS NULL THEN '' ELSE format('NOT NULL DEFAULT %L', default_value) END);
        EXECUTE format('COMMENT ON COLUMN %s.sn_sync_scope IS %L', rel, 'As what the record is published by pgsync_itsm'
                       || CASE WHEN default_value IS NULL THEN '; NULL: shared services as offerings, private ones not' ELSE '' END);
        DELETE FROM pgsync_itsm.attached_objects AS o WHERE o.relation = rel AND o.kind = 'column';
        INSERT INTO pgsync_itsm.attached_objects (kind, relation, name) VALUES ('column', rel, 'sn_sync_scope');
    END IF;
    IF EXISTS (SELECT FROM pgsync_itsm.attached_objects AS o WHERE o.relation = rel AND o.kind = 'column')
       AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conrelid = to_regclass(rel) AND c.conname = con) THEN
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (sn_sync_scope IN (%s))', rel, con,
                       (SELECT string_agg(quote_literal(c), ', ') FROM unnest(choices) AS c));
        DELETE FROM pgsync_itsm.attached_objects AS o WHERE o.relation = rel AND o.kind = 'constraint';
        INSERT INTO pgsync_itsm.attached_objects (kind, relation, name) VALUES ('constraint', rel, con);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.add_scope(name, name, text[], text) IS
'Adds sn_sync_scope to a table that lacks it, and remembers that';

CREATE FUNCTION pgsync_itsm.store_sources(schema_name name) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    t record;
    stored integer := 0;
BEGIN
    FOR t IN
        SELECT e.entity_type, e.main_table, e.key_type, pgsync_itsm.getinsync_query(store_sources.schema_name, e.source_type) AS query
          FROM (SELECT g.entity_type, g.entity_type AS source_type, g.main_table, g.key_type FROM pgsync_itsm.getinsync_templates() AS g
                UNION ALL
                SELECT 'software_package', g.entity_type, g.main_table, g.key_type FROM pgsync_itsm.getinsync_templates() AS g
                 WHERE g.entity_type = 'software_product') AS e
         ORDER BY e.entity_type
    LOOP
        IF t.main_table <> '' AND to_regclass(format('%I.%I', store_sources.schema_name, t.main_table)) IS NULL THEN
            DELETE FROM @extschema@.integration_sources AS s
             WHERE s.connection_id IS NULL AND s.entity_type = t.entity_type AND s.origin = 'getinsync';
            CONTINUE;
        END IF;
        INSERT INTO @extschema@.integration_sources AS s (entity_type, query, key_type, origin, description)
        VALUES (t.entity_type, t.query, t.key_type, 'getinsync', format('GetInSync tables in schema %I', store_sources.schema_name))
        ON CONFLICT (coalesce(connection_id, '00000000-0000-0000-0000-000000000000'), entity_type)
        DO UPDATE SET query = excluded.query, key_type = excluded.key_type, description = excluded.description, updated_at = now()
         WHERE s.origin = 'getinsync';
        IF FOUND THEN
            stored := stored + 1;
        ELSE
            RAISE NOTICE 'the source of % was set by hand and is kept', t.entity_type;
        END IF;
    END LOOP;
    RETURN stored;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_sources(name) IS
'Stores the general sources over the GetInSync tables of a schema; those that a superuser set by hand stay';

CREATE FUNCTION pgsync_itsm.store_watches(schema_name name) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    table_name name;
    rel regclass;
    tables integer := 0;
BEGIN
    DELETE FROM @extschema@.integration_watches AS w WHERE w.origin = 'getinsync';
    FOR table_name IN SELECT DISTINCT w.tab FROM pgsync_itsm.getinsync_watches() AS w ORDER BY 1
    LOOP
        rel := to_regclass(format('%I.%I', schema_name, table_name));
        CONTINUE WHEN rel IS NULL;
        -- a condition on columns that are not there holds always
        PERFORM pgsync_itsm.store_watch(rel, w.entity_type, CASE WHEN c.there THEN w.key_column ELSE '*' END, w.match_by,
                    CASE WHEN c.there THEN pgsync_itsm.getinsync_watched_columns(schema_name, table_name, w.key_column) END, 'getinsync')
           FROM pgsync_itsm.getinsync_watches() AS w
          CROSS JOIN LATERAL (SELECT w.key_column = '*' OR pgsync_itsm.has_columns(schema_name, w.tab,
                                  VARIADIC string_to_array(ltrim(w.key_column, '*'), '/')::name[])) AS c(there)
          WHERE w.tab = table_name AND (c.there OR w.key_column LIKE '*%');
        PERFORM pgsync_itsm.make_triggers(rel);
        tables := tables + 1;
    END LOOP;
    RETURN tables;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_watches(name) IS
'Stores the watches of the GetInSync tables of a schema and makes their triggers';

CREATE FUNCTION @extschema@.itsm_attach_getinsync(schema_name name DEFAULT 'public') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sources integer;
    tables integer;
    scoped boolean;
BEGIN
    PERFORM pgsync_itsm.check_may_attach();
    PERFORM pgsync_itsm.check_getinsync(schema_name);
    PERFORM pgsync_itsm.add_scope(schema_name, 'deployment_profiles',
        ARRAY['none', 'application_service', 'technical_service', 'technical_service_offering'], 'none');
    PERFORM pgsync_itsm.add_scope(schema_name, 'it_services', ARRAY['none', 'technical_service', 'technical_service_offering'], NULL);
    sources := pgsync_itsm.store_sources(schema_name);
    tables := pgsync_itsm.store_watches(schema_name);
    PERFORM pgsync_itsm.store_writers(schema_name);
    PERFORM pgsync_itsm.store_intakes(schema_name);
    IF pgsync_itsm.attached_schema() <> schema_name THEN
        PERFORM pgsync_itsm.unwatch_namespaces(pgsync_itsm.attached_schema());
    END IF;
    PERFORM pgsync_itsm.watch_namespaces(schema_name);
    INSERT INTO pgsync_itsm.site AS s (only_one, getinsync_schema) VALUES (true, schema_name)
    ON CONFLICT (only_one) DO UPDATE SET getinsync_schema = excluded.getinsync_schema;
    PERFORM pgsync_itsm.plan_in_full(NULL);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.deployment_profiles AS p WHERE p.sn_sync_scope <> ''none'')', schema_name) INTO scoped;
    RAISE NOTICE 'schema % is attached: % sources, triggers on % tables; next: %', quote_ident(schema_name), sources, tables,
        CASE WHEN scoped THEN 'SELECT itsm_connect_servicenow(...);' ELSE 'SELECT itsm_set_scope(namespace_id, ''application_service'');' END;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_attach_getinsync(name) IS
'Makes the GetInSync tables of a schema the source of what is published: stores source queries, watches and triggers, adds sn_sync_scope. Called again, it takes in what has changed';

CREATE FUNCTION pgsync_itsm.drop_attached(relation text, kind text, name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass(relation) IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s DROP %s IF EXISTS %I', relation, kind, name);
    END IF;
    DELETE FROM pgsync_itsm.attached_objects AS o
     WHERE o.relation = drop_attached.relation AND o.kind = drop_attached.kind AND o.name = drop_attached.name;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.drop_attached(text, text, text) IS
'Drops a column or constraint that attach added, if it is still there';

CREATE FUNCTION @extschema@.itsm_detach_getinsync(drop_scope boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sch name := pgsync_itsm.attached_schema();
    rel text;
    kept text;
BEGIN
    PERFORM pgsync_itsm.check_may_attach();
    DELETE FROM @extschema@.integration_sources AS s WHERE s.origin = 'getinsync' AND s.connection_id IS NULL;
    DELETE FROM @extschema@.integration_writers AS w WHERE w.origin = 'getinsync' AND w.connection_id IS NULL;
    DELETE FROM @extschema@.integration_intakes AS i WHERE i.origin = 'getinsync' AND i.connection_id IS NULL;
    FOR rel IN
        WITH gone AS (DELETE FROM @extschema@.integration_watches AS w WHERE w.origin = 'getinsync' RETURNING w.relation)
        SELECT DISTINCT g.relation FROM gone AS g ORDER BY 1
    LOOP
        IF to_regclass(rel) IS NOT NULL THEN
            PERFORM pgsync_itsm.make_triggers(to_regclass(rel));
        END IF;
    END LOOP;
    PERFORM pgsync_itsm.drop_attached(o.relation, o.kind, o.name)
       FROM pgsync_itsm.attached_objects AS o
      WHERE o.kind = 'constraint' OR o.kind = 'column' AND drop_scope
      ORDER BY o.kind DESC;
    SELECT string_agg(o.relation, ', ' ORDER BY o.relation) INTO kept FROM pgsync_itsm.attached_objects AS o WHERE o.kind = 'column';
    IF sch IS NOT NULL THEN
        PERFORM pgsync_itsm.unwatch_namespaces(sch);
    END IF;
    UPDATE pgsync_itsm.site SET getinsync_schema = NULL;
    IF kept IS NOT NULL THEN
        RAISE WARNING 'column sn_sync_scope stays, with its values, on %', kept
            USING HINT = 'SELECT itsm_detach_getinsync(drop_scope => true); drops it.';
    END IF;
    RAISE NOTICE '%', CASE WHEN sch IS NULL THEN 'no schema was attached'
                           ELSE format('schema %I is detached; connections, map and log are kept', sch) END;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_detach_getinsync(boolean) IS
'Takes back what itsm_attach_getinsync() did: sources, watches, triggers and, if asked, the column sn_sync_scope';

CREATE FUNCTION @extschema@.itsm_set_scope(namespace_id uuid, scope text, filter text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sch name := pgsync_itsm.attached_schema();
    source text;
    changed bigint;
    scoped bigint;
    total bigint;
BEGIN
    IF sch IS NULL THEN
        RAISE EXCEPTION 'no GetInSync schema is attached' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'SELECT itsm_attach_getinsync();';
    END IF;
    PERFORM pgsync_itsm.check_namespace(namespace_id);
    IF scope IS NULL OR scope NOT IN ('none', 'application_service', 'technical_service', 'technical_service_offering') THEN
        RAISE EXCEPTION 'invalid scope "%"', coalesce(scope, 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Allowed are: none, application_service, technical_service, technical_service_offering.';
    END IF;
    source := pgsync_itsm.getinsync_query(sch, 'deployment_profile');
    IF filter IS NOT NULL THEN
        PERFORM pgsync_itsm.check_expression(filter);
        PERFORM pgsync_itsm.check_query(NULL, 'deployment_profile',
            format(E'SELECT q.key FROM (\n%s\n) AS q WHERE (\n%s\n)', source, filter), source, 'the filter');
    END IF;
    EXECUTE format(E'UPDATE %I.deployment_profiles AS t SET sn_sync_scope = $2 FROM (SELECT q.key AS key_to_change FROM (\n%s\n) AS q'
                   ' WHERE q.dp_type IS DISTINCT FROM ''cost_bundle'' AND (\n%s\n)) AS f'
                   ' WHERE t.id = f.key_to_change AND t.sn_sync_scope IS DISTINCT FROM $2', sch, source, coalesce(filter, 'true'))
      USING namespace_id, scope;
    GET DIAGNOSTICS changed = ROW_COUNT;
    EXECUTE format(E'SELECT count(*), count(*) FILTER (WHERE q.scope = $2) FROM (\n%s\n) AS q WHERE q.dp_type IS DISTINCT FROM ''cost_bundle''', source)
       INTO total, scoped USING namespace_id, scope;
    RAISE NOTICE '% profiles changed, % of % now have the scope %; next: %', changed, scoped, total, scope,
        CASE WHEN EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.namespace_id = itsm_set_scope.namespace_id)
             THEN format('SELECT itsm_preview(%L);', namespace_id) ELSE 'SELECT itsm_connect_servicenow(...);' END;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_scope(uuid, text, text) IS
'Sets sn_sync_scope of a namespace''s profiles, all or those that an SQL condition over the columns of the source of deployment_profile names; cost bundles stay as they are';
