-- What the platforms do not have in common, in one place: everything else asks here.

CREATE FUNCTION pgsync_itsm.is_halo(connection_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce((SELECT c.platform = 'haloitsm' FROM @extschema@.integration_connections AS c WHERE c.id = is_halo.connection_id), false);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_halo(uuid) IS 'Is this a connection to HaloITSM';

-- Settings whose default is another one on a platform than known_settings() says.
CREATE FUNCTION pgsync_itsm.platform_defaults() RETURNS TABLE (platform text, name text, default_value text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT 'haloitsm', v.name, v.default_value
      FROM (VALUES
        ('max_concurrency', '4'),
        ('rate_limit', '500/180'),
        -- there is no engine that could be asked
        ('dry_run', 'false'),
        ('token_path', '/auth/token'),
        ('token_scope', 'all'),
        ('consumes_type', 'Has instance'),
        ('depends_on_type', 'Uses'),
        ('runs_on_type', 'Runs on'),
        ('sends_data_type', 'Sends data to'),
        ('exchanges_data_type', 'Exchanges data with')
      ) AS v(name, default_value);
END;
COMMENT ON FUNCTION pgsync_itsm.platform_defaults() IS 'Defaults of settings that are a platform''s own';

-- Which class there a record becomes: a name of ours for a resource and, of assets, a type.
CREATE FUNCTION pgsync_itsm.halo_class(connection_id uuid, entity_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE entity_type
        WHEN 'application' THEN 'business_application'
        WHEN 'deployment_profile' THEN 'application_instance'
        WHEN 'it_service' THEN 'service'
        WHEN 'software_package' THEN CASE pgsync_itsm.source_setting(connection_id, 'software_as') WHEN 'licence' THEN 'software_licence' ELSE 'software' END
        WHEN 'contract' THEN 'supplier_contract'
        WHEN 'company' THEN 'supplier'
        WHEN 'contact' THEN 'user'
        WHEN 'covers' THEN 'contract_item'
        ELSE CASE WHEN pgsync_itsm.is_relationship(entity_type) THEN 'asset_relation' END
    END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.halo_class(uuid, text) IS 'Class on HaloITSM of an entity type; NULL: not published there';

CREATE FUNCTION pgsync_itsm.halo_class_expression(connection_id uuid, entity_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN pgsync_itsm.is_relationship(entity_type) THEN format('%L::pg_catalog.text', pgsync_itsm.halo_class(connection_id, entity_type))
        WHEN entity_type IN ('deployment_profile', 'it_service')
            THEN format('CASE WHEN scope::pg_catalog.text OPERATOR(pg_catalog.<>) ''none'' THEN %L::pg_catalog.text END', pgsync_itsm.halo_class(connection_id, entity_type))
        ELSE format('%L::pg_catalog.text', pgsync_itsm.halo_class(connection_id, entity_type)) END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.halo_class_expression(uuid, text) IS 'SQL text that gives a source row its class on HaloITSM';

-- What a record is known by, besides an id: fields have their platform's names, and none of two.
CREATE FUNCTION pgsync_itsm.name_of(entity_type text, payload json) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE entity_type WHEN 'contract' THEN coalesce(payload ->> 'vendor_contract', payload ->> 'ref')
                        WHEN 'contact' THEN coalesce(payload ->> 'email', payload ->> 'emailaddress')
                        ELSE payload ->> 'name' END;
COMMENT ON FUNCTION pgsync_itsm.name_of(text, json) IS 'What a record is looked for by there: name, reference or e-mail';

CREATE FUNCTION pgsync_itsm.tag_of(entity_id uuid, payload json, class text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN class IN ('business_application', 'application_instance', 'software', 'software_licence', 'service') THEN payload ->> 'inventory_number'
            ELSE entity_id::text END;
COMMENT ON FUNCTION pgsync_itsm.tag_of(uuid, json, text) IS
'What tells there that a record is ours: the id here, as correlation id, or the tag of an asset; NULL: nothing does';

CREATE FUNCTION pgsync_itsm.vendor_of(payload json) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(payload ->> 'vendor', payload ->> 'supplier_id');
COMMENT ON FUNCTION pgsync_itsm.vendor_of(json) IS 'The vendor in a payload: an id there, or @company/ and the id of one that is yet to be made';

CREATE FUNCTION pgsync_itsm.external_url(platform text, address text, class text, external_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE platform
    WHEN 'haloitsm' THEN address || '/' || CASE split_part(external_id, '/', 1) WHEN 'asset' THEN 'Asset' WHEN 'service' THEN 'Service' WHEN 'supplier' THEN 'Supplier'
                                                WHEN 'contract' THEN 'SupplierContract' WHEN 'user' THEN 'Users' WHEN 'licence' THEN 'SoftwareLicence' END
                         || '/' || split_part(external_id, '/', 2)
    ELSE address || '/' || class || '.do?sys_id=' || external_id END;
COMMENT ON FUNCTION pgsync_itsm.external_url(text, text, text, text) IS 'Where a record is there';
