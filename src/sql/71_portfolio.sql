-- The portfolio as it is now, for who looks at it and plans nothing.

-- Before there is a connection nobody has set a filter or a mapping: the attached tables are read with the caller's rights,
-- by queries of ours.  With one, read_source() reads as its owner.
CREATE FUNCTION pgsync_itsm.portfolio_read(connection_id uuid, namespace_id uuid, entity_type text, keys text[] DEFAULT NULL, match_by text DEFAULT 'key')
RETURNS TABLE (key text, parent_key text, child_key text, class text, name text, attrs json, payload json)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    links boolean := pgsync_itsm.is_relationship(entity_type);
BEGIN
    IF connection_id IS NOT NULL THEN
        RETURN QUERY SELECT s.* FROM pgsync_itsm.read_source(connection_id, entity_type, keys, match_by) AS s;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        E'SELECT q.key::text, %s, %s, %s, %s, to_json(q), NULL::json FROM (\n%s\n) AS q WHERE (%s) AND (%s)',
        CASE WHEN links OR entity_type = 'deployment_profile' THEN 'q.parent_key::text' ELSE 'NULL' END,
        CASE WHEN links THEN 'q.child_key::text' ELSE 'NULL' END,
        CASE WHEN links THEN 'NULL' WHEN entity_type IN ('deployment_profile', 'it_service') THEN 'pgsync_itsm.class_for($3, q.scope)'
             ELSE 'pgsync_itsm.class_for($3)' END,
        CASE WHEN links THEN 'NULL' ELSE 'q.name::text' END,
        pgsync_itsm.getinsync_query(pgsync_itsm.attached_schema(),
                                    CASE entity_type WHEN 'software_package' THEN 'software_product' ELSE entity_type END),
        coalesce(pgsync_itsm.source_filter(NULL, entity_type), 'true'),
        CASE WHEN keys IS NULL THEN 'true' WHEN match_by = 'parent' THEN 'q.parent_key::text = ANY ($2) OR q.child_key::text = ANY ($2)'
             ELSE 'q.key::text = ANY ($2)' END)
        USING namespace_id, keys, entity_type;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.portfolio_read(uuid, uuid, text, text[], text) IS
'Rows of one source as read_source() gives them; without connection, of the attached GetInSync tables as the caller sees them';
