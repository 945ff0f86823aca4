-- The ServiceNow configuration package (servicenow-api 11): an update set as the platform exports one, or the same
-- records in a plain file.  What is in it depends on the connection and the arguments and on nothing else: the same call
-- gives the same bytes, and fixed sys_ids let a second import update what the first one made.

-- ASCII, whatever encoding the client writes the file in.  As > is always escaped, no text can end a CDATA section.
CREATE FUNCTION pgsync_itsm.package_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(string_agg(
               CASE WHEN t.c = '' THEN ''
                    WHEN t.c = '&' THEN '&amp;' WHEN t.c = '<' THEN '&lt;' WHEN t.c = '>' THEN '&gt;' WHEN t.c = '"' THEN '&quot;'
                    WHEN t.c >= ' ' COLLATE "C" AND t.c <= '~' COLLATE "C" THEN t.c
                    WHEN t.c IN (E'\t', E'\n', E'\r') THEN '&#' || ascii(t.c) || ';'
                    -- what XML cannot hold at all
                    WHEN t.c < ' ' COLLATE "C" OR t.c = E'\x7f' THEN ' '
                    WHEN getdatabaseencoding() <> 'UTF8' THEN t.c
                    WHEN ascii(t.c) IN (65534, 65535) THEN ' '
                    ELSE '&#' || ascii(t.c) || ';' END, '' ORDER BY t.n), '')
          FROM regexp_split_to_table(package_text.value, '') WITH ORDINALITY AS t(c, n));
COMMENT ON FUNCTION pgsync_itsm.package_text(text) IS 'Text as it stands between or within tags, in ASCII';

CREATE FUNCTION pgsync_itsm.package_id(kind text, key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5('pgsync_itsm configuration package/' || kind || '/' || key);
COMMENT ON FUNCTION pgsync_itsm.package_id(text, text) IS 'The sys_id of a record of the package: a second import updates it';

CREATE FUNCTION pgsync_itsm.package_element(name text, value text, shown text DEFAULT NULL) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<' || name || coalesce(' display_value="' || pgsync_itsm.package_text(shown) || '"', '')
       || CASE WHEN coalesce(value, '') = '' THEN '/>' ELSE '>' || pgsync_itsm.package_text(value) || '</' || name || '>' END;
COMMENT ON FUNCTION pgsync_itsm.package_element(text, text, text) IS 'One column; shown is what the platform displays for a reference';

-- The platform writes columns in the order of their names.
CREATE FUNCTION pgsync_itsm.package_columns(columns jsonb, shown jsonb DEFAULT '{}') RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(pgsync_itsm.package_element(c.key, c.value, package_columns.shown ->> c.key), '' ORDER BY c.key COLLATE "C")
          FROM jsonb_each_text(package_columns.columns) AS c);
COMMENT ON FUNCTION pgsync_itsm.package_columns(jsonb, jsonb) IS 'All columns of a record';

-- The platform wants dates; these are the same in every package.
CREATE FUNCTION pgsync_itsm.package_stamps(sys_id text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('sys_id', sys_id, 'sys_mod_count', '0', 'sys_created_by', 'admin', 'sys_created_on', '2026-03-01 10:00:00',
                          'sys_updated_by', 'admin', 'sys_updated_on', '2026-03-01 10:00:00');
COMMENT ON FUNCTION pgsync_itsm.package_stamps(text) IS 'System columns that every record has';

-- A choice is no configuration record of its own there: it has no scope and no name of an update.
CREATE FUNCTION pgsync_itsm.package_choice(source text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<sys_choice action="INSERT_OR_UPDATE">'
       || pgsync_itsm.package_columns(pgsync_itsm.package_stamps(pgsync_itsm.package_id('sys_choice', source)) || jsonb_build_object(
              'name', 'cmdb_ci', 'element', 'discovery_source', 'value', source, 'label', source, 'language', 'en',
              'inactive', 'false', 'sequence', '', 'dependent_value', '', 'hint', ''))
       || '</sys_choice>';
COMMENT ON FUNCTION pgsync_itsm.package_choice(text) IS 'The data source: a choice of cmdb_ci.discovery_source';

CREATE FUNCTION pgsync_itsm.package_record(tab text, sys_id text, title text, columns jsonb, shown jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<' || tab || ' action="INSERT_OR_UPDATE">'
       || pgsync_itsm.package_columns(
              pgsync_itsm.package_stamps(sys_id) || jsonb_build_object('sys_class_name', tab, 'sys_name', title, 'sys_package', 'global',
                  'sys_policy', '', 'sys_scope', 'global', 'sys_update_name', tab || '_' || sys_id) || columns,
              '{"sys_package": "Global", "sys_scope": "Global"}' || shown)
       || '</' || tab || '>';
COMMENT ON FUNCTION pgsync_itsm.package_record(text, text, text, jsonb, jsonb) IS 'One record of a configuration table';

-- The whole-list forms of a choice (sys_choice, sys_choice_set) stand for every value of the column: committing one with a
-- single row can remove the customer's own data sources.  This form names the one value that it replaces.
CREATE FUNCTION pgsync_itsm.package_choice_payload(source text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<record_update><sys_choice_v2 action="INSERT_OR_UPDATE" field="discovery_source" table="cmdb_ci" version="4">'
       || '<sys_choice_set action="INSERT_OR_UPDATE">'
       || pgsync_itsm.package_columns(
              pgsync_itsm.package_stamps(pgsync_itsm.package_id('sys_choice_set', 'cmdb_ci.discovery_source')) || jsonb_build_object(
                  'element', 'discovery_source', 'name', 'cmdb_ci', 'sys_class_name', 'sys_choice_set', 'sys_name', 'discovery_source',
                  'sys_package', 'global', 'sys_policy', '', 'sys_scope', 'global', 'sys_update_name', 'sys_choice_cmdb_ci_discovery_source'),
              '{"sys_package": "Global", "sys_scope": "Global"}')
       || '</sys_choice_set>'
       || '<sys_choice action="delete_multiple" query="' || pgsync_itsm.package_text(
              'name=cmdb_ci^element=discovery_source^value=' || source || '^language=en') || '"/>'
       || pgsync_itsm.package_choice(source)
       || '</sys_choice_v2></record_update>';
COMMENT ON FUNCTION pgsync_itsm.package_choice_payload(text) IS 'The choice within an update set: replaces one value, leaves the others alone';

-- One customer update: a record, wrapped.
CREATE FUNCTION pgsync_itsm.package_update(update_name text, type text, title text, payload text, set_id text, set_name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<sys_update_xml action="INSERT_OR_UPDATE">'
       || (SELECT string_agg(e.xml, '' ORDER BY e.name COLLATE "C")
             FROM (SELECT c.key, pgsync_itsm.package_element(c.key, c.value,
                              CASE c.key WHEN 'application' THEN 'Global' WHEN 'remote_update_set' THEN set_name WHEN 'update_set' THEN '' END)
                     FROM jsonb_each_text(pgsync_itsm.package_stamps(pgsync_itsm.package_id('sys_update_xml', update_name || '/' || set_id))
                          || jsonb_build_object(
                              'action', 'INSERT_OR_UPDATE', 'application', 'global', 'category', 'customer', 'comments', '', 'name', update_name,
                              'payload_hash', '', 'remote_update_set', set_id, 'replace_on_upgrade', 'false', 'table', '', 'target_name', title,
                              'type', type, 'update_domain', 'global', 'update_set', '', 'view', '')) AS c
                    UNION ALL
                   SELECT 'payload', '<payload><![CDATA[<?xml version="1.0" encoding="UTF-8"?>' || payload || ']]></payload>') AS e(name, xml))
       || '</sys_update_xml>';
COMMENT ON FUNCTION pgsync_itsm.package_update(text, text, text, text, text, text) IS 'A record as an update of an update set';

CREATE FUNCTION pgsync_itsm.package_set(set_id text, set_name text, description text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '<sys_remote_update_set action="INSERT_OR_UPDATE">'
       || pgsync_itsm.package_columns(
              pgsync_itsm.package_stamps(set_id) || jsonb_build_object('application', 'global', 'application_name', 'Global', 'application_scope', 'global',
                  'application_version', '', 'collisions', '', 'commit_date', '', 'deleted', '', 'description', description, 'inserted', '',
                  'name', set_name, 'origin_sys_id', '', 'parent', '', 'release_date', '', 'remote_base_update_set', '', 'remote_parent_id', '',
                  'remote_sys_id', md5(set_id), 'state', 'loaded', 'summary', '', 'sys_class_name', 'sys_remote_update_set',
                  'update_set', '', 'update_source', '', 'updated', ''),
              '{"application": "Global", "parent": "", "remote_base_update_set": "", "update_set": "", "update_source": ""}')
       || '</sys_remote_update_set>';
COMMENT ON FUNCTION pgsync_itsm.package_set(text, text, text) IS 'The head of an update set';

-- Business attributes that the portfolio is the authority for, as far as this connection writes them.  An empty list would
-- mean all attributes, so a class without any has no rule.
CREATE FUNCTION pgsync_itsm.package_attributes(connection_id uuid, entity_type text, class text) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT string_agg(a.name, ',' ORDER BY a.n)
          FROM unnest(ARRAY['operational_status', 'life_cycle_stage', 'life_cycle_stage_status', 'description', 'short_description',
                            'owned_by', 'managed_by_group']) WITH ORDINALITY AS a(name, n)
         WHERE a.name IN (SELECT m.target_field
                            FROM pgsync_itsm.mapping_for(package_attributes.connection_id, package_attributes.entity_type, package_attributes.class) AS m
                           WHERE m.authority IN ('policy', 'ours')));
COMMENT ON FUNCTION pgsync_itsm.package_attributes(uuid, text, text) IS 'Columns of a class that a reconciliation rule gives to our source';

CREATE FUNCTION pgsync_itsm.package_rules(connection_id uuid, source text, active boolean, priority integer, legacy_precedence boolean)
RETURNS TABLE (ord integer, tab text, key text, type text, title text, columns jsonb, shown jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH rules AS MATERIALIZED (
        SELECT c.n, c.class, package_rules.source || ': ' || c.label AS title,
               pgsync_itsm.package_attributes(package_rules.connection_id, c.entity_type, c.class) AS attributes
          FROM (VALUES (0, 'application', 'cmdb_ci_business_app', 'Business Application'),
                       (1, 'deployment_profile', 'cmdb_ci_service_auto', 'Application Service')) AS c(n, entity_type, class, label))
    SELECT 20 + r.n, 'cmdb_reconciliation_definition', r.class, 'Reconciliation Definition', r.title,
           jsonb_build_object('name', r.title, 'applies_to', r.class, 'discovery_source', package_rules.source, 'attributes', r.attributes,
               'null_update', '', 'priority', package_rules.priority::text, 'condition', '', 'active', package_rules.active::text), '{}'::jsonb
      FROM rules AS r WHERE r.attributes IS NOT NULL
     UNION ALL
    SELECT 30 + r.n, 'cmdb_datasource_precedence', r.class, 'Data Source Precedence', r.title,
           jsonb_build_object('name', r.title, 'applies_to', r.class, 'discovery_source', package_rules.source,
               'order', package_rules.priority::text, 'fall_back', 'false', 'active', package_rules.active::text), '{}'::jsonb
      FROM rules AS r WHERE package_rules.legacy_precedence;
END;
COMMENT ON FUNCTION pgsync_itsm.package_rules(uuid, text, boolean, integer, boolean) IS
'Reconciliation rules, whose priority is the precedence of our source, and that precedence in the table of older releases';

-- A rule of a class replaces the one that it had or inherited, for every source; so the name stays an identifier.
CREATE FUNCTION pgsync_itsm.package_identifiers(source text)
RETURNS TABLE (ord integer, tab text, key text, type text, title text, columns jsonb, shown jsonb)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    WITH rules AS MATERIALIZED (
        SELECT c.n, c.class, package_identifiers.source || ' ' || c.label AS title
          FROM (VALUES (0, 'cmdb_ci_business_app', 'Business Application'), (1, 'cmdb_ci_service_auto', 'Application Service')) AS c(n, class, label))
    SELECT 40 + r.n, 'cmdb_identifier', r.class, 'Identifier', r.title,
           jsonb_build_object('name', r.title, 'applies_to', r.class, 'independent', 'true', 'active', 'true',
               'description', 'Matches correlation_id first, name second'), '{}'::jsonb
      FROM rules AS r
     UNION ALL
    SELECT 50 + 10 * r.n + e.n, 'cmdb_identifier_entry', r.class || '/' || e.attribute, 'Identifier Entry', e.attribute,
           jsonb_build_object('identifier', pgsync_itsm.package_id('cmdb_identifier', package_identifiers.source || '/' || r.class), 'table', r.class,
               'attributes', e.attribute, 'order', (100 * e.n)::text, 'active', 'true', 'allow_null_attribute', 'false'),
           jsonb_build_object('identifier', r.title)
      FROM rules AS r, (VALUES (1, 'correlation_id'), (2, 'name')) AS e(n, attribute);
END;
COMMENT ON FUNCTION pgsync_itsm.package_identifiers(text) IS 'Identification rules by correlation_id, then name';

-- Columns for authentication are left out: what an administrator chooses there outlives the next import.
CREATE FUNCTION pgsync_itsm.package_rest(source text, instance_url text, getinsync_url text)
RETURNS TABLE (ord integer, tab text, key text, type text, title text, columns jsonb, shown jsonb)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT v.*
      FROM (VALUES
        (70, 'sys_rest_message', 'message', 'REST Message', package_rest.source,
         jsonb_build_object('name', package_rest.source, 'rest_endpoint', coalesce(package_rest.getinsync_url, package_rest.instance_url),
             'description', 'Choose an authentication profile; none is part of this package. Instance: ' || package_rest.instance_url),
         '{}'::jsonb),
        (71, 'sys_rest_message_fn', 'Data source', 'HTTP Method', 'Data source',
         jsonb_build_object('function_name', 'Data source', 'http_method', 'get', 'content', '',
             'rest_message', pgsync_itsm.package_id('sys_rest_message', package_rest.source || '/message'),
             'rest_endpoint', package_rest.instance_url || '/api/now/table/sys_choice?sysparm_query=name%3Dcmdb_ci%5Eelement%3Ddiscovery_source'
                              || '%5Einactive%3Dfalse&sysparm_fields=value,label'),
         jsonb_build_object('rest_message', package_rest.source)),
        (72, 'sys_rest_message_fn', 'Notify', 'HTTP Method', 'Notify',
         jsonb_build_object('function_name', 'Notify', 'http_method', 'post', 'rest_endpoint', package_rest.getinsync_url,
             'rest_message', pgsync_itsm.package_id('sys_rest_message', package_rest.source || '/message'),
             'content', '{"instance":' || to_json(package_rest.instance_url)::text || ',"event":"${event}","table":"${table}","sys_id":"${sys_id}",'
                        || '"sys_mod_count":"${sys_mod_count}","sys_updated_on":"${sys_updated_on}","correlation_id":"${correlation_id}"}'),
         jsonb_build_object('rest_message', package_rest.source)),
        (73, 'sys_rest_message_fn_headers', 'Notify/Content-Type', 'HTTP Header', 'Content-Type',
         jsonb_build_object('name', 'Content-Type', 'value', 'application/json',
             'rest_message_function', pgsync_itsm.package_id('sys_rest_message_fn', package_rest.source || '/Notify')),
         jsonb_build_object('rest_message_function', 'Notify'))) AS v(ord, tab, key, type, title, columns, shown)
     WHERE v.ord < 72 OR package_rest.getinsync_url IS NOT NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.package_rest(text, text, text) IS
'The REST message: a look at the data sources of the instance, and, where GetInSync has an address, the notice of a change';

-- The name goes into a query that deletes by it; the platform knows no escape there.
CREATE FUNCTION pgsync_itsm.package_source(connection_id uuid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source text := pgsync_itsm.setting(connection_id, 'source_name');
BEGIN
    IF source IS NULL OR source <> btrim(source) OR char_length(source) > 40 OR source ~ '[\^[:cntrl:]]' OR source ~* '^javascript:' THEN
        RAISE EXCEPTION 'the data source name "%" cannot be a choice of the platform', left(coalesce(source, ''), 80)
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It must have 1 to 40 characters, no ^, control character or blank at an end, and not begin with javascript:.',
                  HINT = format('SELECT itsm_set(%L, ''source_name'', ''GetInSync'');', connection_id);
    END IF;
    RETURN source;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.package_source(uuid) IS 'The connection''s data source, or an error if the platform could not hold it';

CREATE FUNCTION pgsync_itsm.package_servicenow(connection_id uuid) RETURNS @extschema@.integration_connections
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.own_connection(connection_id);
BEGIN
    IF c.platform <> 'servicenow' THEN
        RAISE EXCEPTION 'connection % is not one to ServiceNow', connection_id
            USING ERRCODE = 'feature_not_supported', DETAIL = format('Its platform is %s.', c.platform),
                  HINT = 'SELECT id, namespace_id, name FROM integration_connections WHERE platform = ''servicenow'';';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.package_servicenow(uuid) IS 'The connection''s row, or an error if it is not the caller''s or not one to ServiceNow';

-- An address may carry a password or a token; those that could are refused.
CREATE FUNCTION pgsync_itsm.package_gateway(getinsync_url text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF getinsync_url !~ '^https://[^/?#@[:space:][:cntrl:]]+(/[^?#@[:space:][:cntrl:]]*)?$' OR char_length(getinsync_url) > 1000 THEN
        -- not repeated: it may hold what must not be logged
        RAISE EXCEPTION 'getinsync_url cannot be used'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It must begin with https:// and have neither user nor query.',
                  HINT = 'Give it as in https://gateway.example.com/itsm';
    END IF;
    RETURN getinsync_url;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.package_gateway(text) IS 'The address that the platform sends its notices to, or an error if it could carry a credential';

CREATE FUNCTION pgsync_itsm.check_package(priority integer, form text, choice_type text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF priority IS NULL OR priority < 1 THEN
        RAISE EXCEPTION 'invalid value "%" for priority', coalesce(priority::text, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a whole number; the smaller one wins, and Discovery usually has 100.';
    END IF;
    IF form IS NULL OR form NOT IN ('update_set', 'records') THEN
        RAISE EXCEPTION 'invalid value "%" for form', coalesce(form, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Allowed are: update_set, records.';
    END IF;
    IF coalesce(choice_type, '') = '' THEN
        RAISE EXCEPTION 'choice_type must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_package(integer, text, text) IS 'Raises a clear error for an argument of itsm_update_set() that makes no sense';

CREATE FUNCTION @extschema@.itsm_update_set(
    connection_id uuid,
    with_data_source boolean DEFAULT true,
    with_reconciliation_rules boolean DEFAULT true,
    rules_active boolean DEFAULT false,
    priority integer DEFAULT 200,
    with_legacy_precedence boolean DEFAULT false,
    with_identification_rules boolean DEFAULT false,
    with_rest_message boolean DEFAULT true,
    getinsync_url text DEFAULT NULL,
    form text DEFAULT 'update_set',
    choice_type text DEFAULT 'Choice list')
RETURNS xml
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.package_servicenow(connection_id);
    source text := pgsync_itsm.package_source(connection_id);
    address text := regexp_replace(c.instance_url, '^([a-z]+://)[^/]*@', '\1');
    gateway text := pgsync_itsm.package_gateway(getinsync_url);
    set_id text := pgsync_itsm.package_id('sys_remote_update_set', source);
    set_name text := source || ' integration';
    parts text;
BEGIN
    PERFORM pgsync_itsm.check_package(priority, form, choice_type);
    IF with_data_source AND lower(source) IN ('servicenow', 'other automated', 'manual entry', 'servicewatch', 'duplicate', 'importset', 'sccm') THEN
        with_data_source := false;
        RAISE NOTICE 'data source "%" comes with the platform and is left as it is there', source;
    END IF;
    IF with_identification_rules THEN
        RAISE WARNING 'an identification rule replaces the one that its class has there, for every data source'
            USING HINT = 'Records are identified by source name and native key; no rule is needed for that.';
    END IF;
    IF with_reconciliation_rules AND rules_active THEN
        RAISE WARNING 'an active reconciliation rule shuts every other data source out of the attributes that it lists'
            USING HINT = 'Import the rules inactive, read them, and give the other sources theirs first.';
    END IF;

    WITH records AS (
        SELECT 10 AS ord, 'sys_choice_cmdb_ci_discovery_source' AS update_name, choice_type AS type, 'discovery_source' AS title,
               pgsync_itsm.package_choice(source) AS record, pgsync_itsm.package_choice_payload(source) AS payload
         WHERE with_data_source
        UNION ALL
        SELECT r.ord, r.tab || '_' || i.id, r.type, r.title, x.record, '<record_update table="' || r.tab || '">' || x.record || '</record_update>'
          FROM (SELECT * FROM pgsync_itsm.package_rules(connection_id, source, coalesce(rules_active, false), priority, coalesce(with_legacy_precedence, false))
                 WHERE with_reconciliation_rules OR tab = 'cmdb_datasource_precedence'
                UNION ALL
                SELECT * FROM pgsync_itsm.package_identifiers(source) WHERE with_identification_rules
                UNION ALL
                SELECT * FROM pgsync_itsm.package_rest(source, address, gateway) WHERE with_rest_message) AS r
         CROSS JOIN LATERAL pgsync_itsm.package_id(r.tab, source || '/' || r.key) AS i(id)
         CROSS JOIN LATERAL pgsync_itsm.package_record(r.tab, i.id, r.title, r.columns, r.shown) AS x(record))
    SELECT string_agg(CASE form WHEN 'records' THEN r.record
                                ELSE pgsync_itsm.package_update(r.update_name, r.type, r.title, r.payload, set_id, set_name) END,
                      E'\n' ORDER BY r.ord)
      INTO parts FROM records AS r;
    IF parts IS NULL THEN
        RAISE EXCEPTION 'the package would be empty'
            USING ERRCODE = 'invalid_parameter_value', HINT = format('SELECT itsm_update_set(%L);', connection_id);
    END IF;

    RAISE NOTICE 'next: %, then SELECT * FROM itsm_checklist(''%'');',
        CASE form WHEN 'records' THEN 'Import XML on a list' ELSE 'Retrieved Update Sets, Import Update Set from XML, Preview, Commit' END, connection_id;
    RETURN xmlparse(DOCUMENT '<?xml version="1.0" encoding="UTF-8"?>' || E'\n<unload unload_date="2026-03-01 10:00:00">\n'
        || CASE form WHEN 'records' THEN ''
                ELSE pgsync_itsm.package_set(set_id, set_name, 'Made by pgsync_itsm for ' || address || ', data source ' || source) || E'\n' END
        || parts || E'\n</unload>');
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_update_set(uuid, boolean, boolean, boolean, integer, boolean, boolean, boolean, text, text, text) IS
'The ServiceNow configuration package as an update set: data source choice, reconciliation rules (inactive unless rules_active) with the precedence of the source, REST message; identification rules on request. form => ''records'' gives plain records for Import XML instead. Holds no credential';

-- What fires on the platform when CIs are written ---------------------------------------------

CREATE FUNCTION pgsync_itsm.checklist_items() RETURNS TABLE (ord integer, item text, look_in text, why text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.ord, v.item, v.look_in, v.why
      FROM (VALUES
        (1, 'data source', 'Choices (sys_choice): table cmdb_ci, element discovery_source',
         'Records of a data source that is not registered are refused; itsm_update_set() and itsm_prepare_instance() register it.'),
        (2, 'native keys', 'System Properties: glide.identification_engine.skip_sys_object_source_matching',
         'If true, records are told apart by name only, and two with one name become one CI.'),
        (3, 'asset creation', 'Model Categories (cmdb_model_category) of these classes with an asset class; business rule Create Asset from CI on cmdb_ci',
         'It makes an asset of every CI that names such a category. model_id and model_category are never sent; a default or a rule may set them.'),
        (4, 'asset synchronisation', 'Business rule Asset-CI Synchronizer on cmdb_ci',
         'Once a CI has an asset, install_status and the state of the asset are kept alike in both directions: what was published may change by itself.'),
        (5, 'class protection', 'Business rule Protect cmdb_ci_class on cmdb_ci',
         'The class of a CI cannot be changed after the insert: decide the scope of the deployment profiles before the first publish.'),
        (6, 'business rules', 'Business Rules (sys_script), active, on cmdb_ci, cmdb_ci_business_app, cmdb_ci_service and the classes below it',
         'Each of them runs for every record that is written; rules of your own may change, refuse or copy it.'),
        (7, 'identification rules', 'CI Identifiers (cmdb_identifier, cmdb_identifier_entry) of these classes',
         'What has no native key yet is found by name in the base system: two spellings of a name become two CIs.'),
        (8, 'reconciliation rules', 'Reconciliation Rules (cmdb_reconciliation_definition) of these classes',
         'Attributes that another source owns are not taken: the item is done with a warning.'),
        (9, 'data source rules', 'IRE Data Source Rules (cmdb_ire_data_source_rule) of these classes',
         'They may forbid a data source to insert.'),
        (10, 'mandatory columns', 'Dictionary (sys_dictionary) of these classes: mandatory columns; data policies',
         'A record without them is refused on insert; it_application_owner is filled from default_owner where the portfolio names nobody.'),
        (11, 'life cycle', 'Life Cycle Mappings (life_cycle_mapping) and Life Cycle Controls (life_cycle_control)',
         'Where mappings are active, the platform derives the life-cycle pair from the status columns: set life_cycle_write to match.'),
        (12, 'health completeness', 'CMDB Health Dashboard: required and recommended fields of these classes',
         'New CIs without managed_by, owned_by or a life cycle count as incomplete from the next scheduled run on.'),
        (13, 'health compliance', 'Desired State audits (CMDB compliance) on these classes',
         'Audits may demand relationships; those of applications with their application services are published.'),
        (14, 'attestation tasks', 'CMDB Data Manager: policies of type attestation (cmdb_data_management_policy); certification filters (cert_filter)',
         'The first publish may make an attestation task for the owner of every new CI.'),
        (15, 'flows', 'Flow Designer: active flows with a record trigger on these classes; legacy workflows on them',
         'Each of them runs for every record that is written.'),
        (16, 'notification flows', 'Notifications (sysevent_email_action) and flows that send mail when a business application is registered',
         'The first publish may send as many messages as it makes records.'),
        (17, 'approval flows', 'Flows and approval rules for business applications that become operational',
         'A record may wait for an approval, or be set back until it has one.'),
        (18, 'automatic relationships', 'Flows and rules that make an application service for a new business application',
         'Real application services are published; placeholders would be duplicates.'),
        (19, 'assessments', 'Application Portfolio Management, if licensed: assessments started by new business applications',
         'The first publish may start an assessment of every new application.')
      ) AS v(ord, item, look_in, why);
END;
COMMENT ON FUNCTION pgsync_itsm.checklist_items() IS 'What to look at on a ServiceNow instance before the first publish, where, and why';

-- Read with earlier plans, as old as they are.
CREATE FUNCTION pgsync_itsm.checklist_known(connection_id uuid) RETURNS TABLE (item text, state text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT 'mandatory columns', format('mandatory columns: %s (%s), read %s', count(*),
               string_agg(r.target || '.' || r.key, ', ' ORDER BY r.target COLLATE "C", r.key COLLATE "C"),
               to_char(max(r.fetched_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
      FROM @extschema@.integration_references AS r
     WHERE r.connection_id = checklist_known.connection_id AND r.kind = 'column' AND r.attrs ->> 'mandatory' = 'true'
    HAVING count(*) > 0
     UNION ALL
    SELECT 'data source', '"' || pgsync_itsm.setting(checklist_known.connection_id, 'source_name') || '" was accepted'
     WHERE EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                    WHERE m.connection_id = checklist_known.connection_id AND m.sync_direction = 'published' AND m.entity_type = 'application');
END;
COMMENT ON FUNCTION pgsync_itsm.checklist_known(uuid) IS 'What earlier plans and publishes have found out about the check-list';

CREATE FUNCTION pgsync_itsm.look_up(connection_id uuid)
RETURNS TABLE ("check" text, ok boolean, detail text, hint text)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_look_up';
COMMENT ON FUNCTION pgsync_itsm.look_up(uuid) IS
'Asks the platform for what of the check-list it can tell, in the caller''s session: one request, at most 30 seconds, writes nothing';

CREATE FUNCTION @extschema@.itsm_checklist(connection_id uuid, look_up boolean DEFAULT true)
RETURNS TABLE (item text, look_in text, why text, state text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c @extschema@.integration_connections := pgsync_itsm.package_servicenow($1);
    answers jsonb := '{}';
    failure text;
BEGIN
    IF $2 THEN
        SELECT coalesce(jsonb_object_agg(l."check", l.detail) FILTER (WHERE l.ok), '{}'), min(l."check" || ': ' || l.detail) FILTER (WHERE NOT l.ok)
          INTO answers, failure
          FROM pgsync_itsm.look_up(c.id) AS l;
        IF failure IS NOT NULL THEN
            RAISE WARNING 'the platform did not tell: %', failure USING HINT = format('SELECT * FROM itsm_test_connection(%L);', c.id);
        END IF;
    END IF;
    RETURN QUERY
        SELECT i.item, i.look_in, i.why, coalesce(answers ->> i.item, k.state, 'look')
          FROM pgsync_itsm.checklist_items() AS i
          LEFT JOIN pgsync_itsm.checklist_known(c.id) AS k ON k.item = i.item
         ORDER BY i.ord;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_checklist(uuid, boolean) IS
'What fires on a ServiceNow instance when CIs are written, one row an item: where to look and why, and what was found, or look where the API cannot tell. Asks the platform from the caller''s session, at most 30 seconds; writes nothing there';
