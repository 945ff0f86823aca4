-- Default field mapping for HaloITSM.  Members of a resource by their own names; of assets, name and field_... are fields
-- of the asset type, which itsm_halo_setup() finds or makes: field_managed_by_group is called "Managed by group" there.

INSERT INTO @extschema@.integration_field_mappings
    (platform, is_default, entity_type, ord, target_class, target_field, kind, expression, value_map, condition, on_unresolved, authority)
SELECT 'haloitsm', true, v.entity_type, v.ord * 10, '*', v.target_field, v.kind, v.expression, v.value_map::jsonb, v.condition,
       coalesce(v.on_unresolved, 'warn'), coalesce(v.authority, 'policy')
  FROM (VALUES
    ('application', 1, 'name', 'text', 'name', NULL, NULL, NULL, NULL),
    -- a tag that somebody has given it there stays
    ('application', 2, 'inventory_number', 'text', 'coalesce(nullif(btrim(app_id::text), ''''), ''APP-'' || upper(left(md5(key::text), 12)))', NULL, NULL, NULL, 'if_empty'),
    ('application', 3, 'status_id', 'choice', 'CASE WHEN retired THEN ''retired'' ELSE operational_status END',
     '{"operational": "Operational|Active|Live|In Use", "pipeline": "Pipeline|Planned", "retired": "Retired|Decommissioned"}', NULL, NULL, NULL),
    ('application', 4, 'inactive', 'text', 'CASE WHEN retired THEN ''true'' ELSE ''false'' END', NULL, NULL, NULL, NULL),
    ('application', 5, 'business_owner_id', 'user', 'business_owner_email', NULL, NULL, NULL, NULL),
    ('application', 6, 'technical_owner_id', 'agent', 'technical_owner_email', NULL, NULL, NULL, NULL),
    ('application', 7, 'supplier_id', 'company', 'CASE WHEN vendor_is_internal IS NOT TRUE THEN vendor_name END', NULL, NULL, NULL, NULL),
    ('application', 8, 'notes', 'text', 'left(nullif(description, ''''), 4000)', NULL, NULL, NULL, 'if_empty'),
    ('application', 9, 'field_business_criticality', 'text',
     'CASE WHEN criticality >= 80 THEN ''1 - most critical'' WHEN criticality >= 60 THEN ''2 - somewhat critical'' WHEN criticality >= 40 THEN ''3 - less critical'' WHEN criticality >= 20 THEN ''4 - not critical'' END',
     NULL, NULL, NULL, NULL),
    ('application', 10, 'field_life_cycle_stage', 'text',
     'CASE WHEN retired THEN ''retired'' ELSE coalesce(lifecycle_stage_status, CASE operational_status WHEN ''pipeline'' THEN ''planned'' ELSE ''active'' END) END',
     '{"active": "Operational", "planned": "Ideation", "retired": "End of Life"}', NULL, NULL, NULL),
    ('application', 11, 'field_managed_by_group', 'text', 'managed_by_group', NULL, NULL, NULL, NULL),
    ('application', 12, 'field_short_description', 'text', 'left(nullif(short_description, ''''), 1000)', NULL, NULL, NULL, NULL),
    ('application', 13, 'field_portfolio_id', 'text', 'key', NULL, NULL, NULL, NULL),

    ('deployment_profile', 1, 'name', 'text',
     'CASE WHEN application_name IS NULL OR strpos(lower(name), lower(btrim(application_name))) > 0 THEN name ELSE btrim(application_name) || '' - '' || name END',
     NULL, NULL, NULL, NULL),
    ('deployment_profile', 2, 'inventory_number', 'text', '''DP-'' || upper(left(md5(key::text), 12))', NULL, NULL, NULL, 'if_empty'),
    ('deployment_profile', 3, 'status_id', 'choice',
     'CASE WHEN retired THEN ''retired'' WHEN application_status = ''pipeline'' THEN ''pipeline'' ELSE operational_status END',
     '{"operational": "Operational|Active|Live|In Use", "non-operational": "Non-Operational|Not in Use", "pipeline": "Pipeline|Planned", "retired": "Retired|Decommissioned"}',
     NULL, NULL, NULL),
    ('deployment_profile', 4, 'inactive', 'text', 'CASE WHEN retired THEN ''true'' ELSE ''false'' END', NULL, NULL, NULL, NULL),
    ('deployment_profile', 5, 'business_owner_id', 'user', 'owner_email', NULL, NULL, NULL, NULL),
    ('deployment_profile', 6, 'supplier_id', 'company', 'CASE WHEN vendor_is_internal IS NOT TRUE THEN vendor_name END', NULL, NULL, NULL, NULL),
    ('deployment_profile', 7, 'field_environment', 'text', 'environment',
     '{"PROD": "Production", "DEV": "Development", "SBX": "Development", "TEST": "Test", "UAT": "Test", "QA": "QA", "STG": "Staging", "STAGING": "Staging", "DR": "Disaster recovery"}',
     NULL, NULL, NULL),
    ('deployment_profile', 8, 'field_version', 'text', 'version', NULL, NULL, NULL, NULL),
    ('deployment_profile', 9, 'field_hosting_type', 'text', 'hosting_type', NULL, NULL, NULL, NULL),
    ('deployment_profile', 10, 'field_managed_by_group', 'text', 'managed_by_group', NULL, NULL, NULL, NULL),
    ('deployment_profile', 11, 'field_support_group', 'text', 'support_group', NULL, NULL, NULL, NULL),
    ('deployment_profile', 12, 'field_change_group', 'text', 'change_group', NULL, NULL, NULL, NULL),
    ('deployment_profile', 13, 'field_business_criticality', 'text',
     'CASE WHEN criticality >= 80 THEN ''1 - most critical'' WHEN criticality >= 60 THEN ''2 - somewhat critical'' WHEN criticality >= 40 THEN ''3 - less critical'' WHEN criticality >= 20 THEN ''4 - not critical'' END',
     NULL, NULL, NULL, NULL),
    ('deployment_profile', 14, 'field_portfolio_id', 'text', 'key', NULL, NULL, NULL, NULL),

    ('it_service', 1, 'name', 'text', 'name', NULL, NULL, NULL, NULL),
    ('it_service', 2, 'summary', 'text', 'left(coalesce(nullif(description, ''''), name), 1000)', NULL, NULL, NULL, NULL),
    -- there is no other way to hide one
    ('it_service', 3, 'showinusercatalog', 'text', 'CASE WHEN retired OR is_internal_only THEN ''false'' ELSE ''true'' END', NULL, NULL, NULL, NULL),
    ('it_service', 4, 'showintechcatalog', 'text', 'CASE WHEN retired THEN ''false'' ELSE ''true'' END', NULL, NULL, NULL, NULL),

    ('software_package', 1, 'name', 'text',
     'CASE WHEN version IS NULL OR btrim(version) = '''' OR strpos(name, version) > 0 THEN name ELSE name || '' '' || version END', NULL, NULL, NULL, NULL),
    ('software_package', 2, 'inventory_number', 'text', '''SW-'' || upper(left(md5(key::text), 12))', NULL, 'software_as=asset', NULL, 'if_empty'),
    ('software_package', 4, 'status_id', 'choice', '''Operational|Active|Live|In Use''', NULL, 'software_as=asset', 'ignore', NULL),
    ('software_package', 5, 'field_version', 'text', 'version', NULL, 'software_as=asset', NULL, NULL),
    ('software_package', 6, 'field_manufacturer', 'text', 'CASE WHEN manufacturer_is_internal IS NOT TRUE THEN manufacturer_name END', NULL, 'software_as=asset', NULL, NULL),
    ('software_package', 7, 'field_product_family', 'text', 'product_family', NULL, 'software_as=asset', NULL, NULL),
    ('software_package', 8, 'field_portfolio_id', 'text', 'key', NULL, 'software_as=asset', NULL, NULL),
    ('software_package', 9, 'manufacturer', 'text', 'CASE WHEN manufacturer_is_internal IS NOT TRUE THEN manufacturer_name END', NULL, 'software_as=licence', NULL, NULL),
    ('software_package', 10, 'is_active', 'text', '''true''', NULL, 'software_as=licence', NULL, NULL),

    ('contract', 1, 'ref', 'text', 'reference', NULL, NULL, NULL, NULL),
    ('contract', 2, 'contract_description', 'text', 'left(name, 100)', NULL, NULL, NULL, NULL),
    ('contract', 3, 'supplier_id', 'company', 'CASE WHEN is_internal IS NOT TRUE THEN vendor_name END', NULL, NULL, 'error', NULL),
    ('contract', 4, 'start_date', 'date', 'starts', NULL, NULL, NULL, NULL),
    ('contract', 5, 'end_date', 'date', 'ends', NULL, NULL, NULL, NULL),
    ('contract', 6, 'active', 'text', '''true''', NULL, NULL, NULL, NULL),
    -- no member there: the adapter refuses to send a contract that does not say false here
    ('contract', 7, '_is_internal', 'text', 'is_internal', NULL, NULL, NULL, NULL),

    ('company', 1, 'name', 'text', 'name', NULL, NULL, NULL, NULL),
    ('company', 2, 'is_supplier', 'text', '''true''', NULL, NULL, NULL, NULL),
    ('company', 3, 'is_manufacturer', 'text', 'is_manufacturer', NULL, NULL, NULL, NULL),
    ('company', 4, 'website', 'text', 'nullif(website, '''')', NULL, NULL, NULL, NULL),

    ('contact', 1, 'name', 'text', 'name', NULL, NULL, NULL, NULL),
    ('contact', 2, 'emailaddress', 'text', 'email', NULL, NULL, NULL, NULL),
    ('contact', 3, 'firstname', 'text', 'first_name', NULL, NULL, NULL, NULL),
    ('contact', 4, 'surname', 'text', 'last_name', NULL, NULL, NULL, NULL),
    ('contact', 5, 'title', 'text', 'job_title', NULL, NULL, NULL, NULL),
    ('contact', 6, 'phonenumber', 'text', 'phone', NULL, NULL, NULL, NULL)
  ) AS v(entity_type, ord, target_field, kind, expression, value_map, condition, on_unresolved, authority);
