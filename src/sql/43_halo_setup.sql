-- What publishing needs on HaloITSM, as mapping and settings have it now.

CREATE FUNCTION pgsync_itsm.halo_wanted(connection_id uuid) RETURNS TABLE (kind text, name text, class text, alternatives text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    assets text[] := ARRAY['application', 'deployment_profile']
                     || CASE WHEN pgsync_itsm.setting(halo_wanted.connection_id, 'software_as') = 'asset' THEN ARRAY['software_package'] END;
BEGIN
    RETURN QUERY
        SELECT 'asset group', pgsync_itsm.setting(halo_wanted.connection_id, 'asset_group'), NULL::text, NULL::text;
    -- one of Halo's own service model makes records by itself; beside it there may be a plain one of ours
    RETURN QUERY
        SELECT 'asset type', pgsync_itsm.setting(halo_wanted.connection_id, t.setting), t.class,
               pgsync_itsm.setting(halo_wanted.connection_id, t.setting) || ' (portfolio)'
          FROM (VALUES ('application', 'application_type', 'business_application'), ('deployment_profile', 'profile_type', 'application_instance'),
                       ('software_package', 'software_type', 'software')) AS t(entity_type, setting, class)
         WHERE t.entity_type = ANY (assets);
    -- the name first: it is the first key field of its type
    RETURN QUERY
        SELECT 'field', CASE f.target_field
                   WHEN 'name' THEN pgsync_itsm.setting(halo_wanted.connection_id, CASE e.entity_type WHEN 'application' THEN 'application_name_field'
                                                            WHEN 'deployment_profile' THEN 'profile_name_field' ELSE 'software_name_field' END)
                   ELSE upper(substr(f.target_field, 7, 1)) || translate(substr(f.target_field, 8), '_', ' ') END,
               pgsync_itsm.halo_class(halo_wanted.connection_id, e.entity_type), NULL::text
          FROM unnest(assets) AS e(entity_type)
         CROSS JOIN LATERAL (SELECT DISTINCT m.target_field, min(m.ord) AS ord
                               FROM pgsync_itsm.mapping_for(halo_wanted.connection_id, e.entity_type, pgsync_itsm.halo_class(halo_wanted.connection_id, e.entity_type)) AS m
                              WHERE m.target_field = 'name' OR m.target_field LIKE 'field\_%' GROUP BY 1) AS f
         ORDER BY e.entity_type, f.target_field <> 'name', f.ord, f.target_field;
    -- of labels that mean the same, the first one is made if none is there
    RETURN QUERY
        SELECT DISTINCT ON (split_part(v.value, '|', 1)) 'status', split_part(v.value, '|', 1), NULL::text, v.value
          FROM unnest(assets) AS e(entity_type)
         CROSS JOIN LATERAL pgsync_itsm.mapping_for(halo_wanted.connection_id, e.entity_type, pgsync_itsm.halo_class(halo_wanted.connection_id, e.entity_type)) AS m
         CROSS JOIN LATERAL jsonb_each_text(coalesce(m.value_map, '{}')) AS v
         WHERE m.target_field = 'status_id' AND m.kind = 'choice' AND v.value <> ''
         ORDER BY split_part(v.value, '|', 1), length(v.value) DESC;
    RETURN QUERY
        SELECT DISTINCT 'relation kind', pgsync_itsm.setting(halo_wanted.connection_id, r.setting), NULL::text, NULL::text
          FROM (VALUES ('consumes_type'), ('runs_on_type'), ('sends_data_type'), ('exchanges_data_type')) AS r(setting)
         WHERE pgsync_itsm.setting(halo_wanted.connection_id, r.setting) IS NOT NULL
         ORDER BY 2;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.halo_wanted(uuid) IS 'Asset types, their fields, statuses and kinds of relations that publishing to HaloITSM needs';
