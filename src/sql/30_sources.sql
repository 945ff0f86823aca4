-- Sources and field mapping: which query yields an entity type, and what of its rows is published.
--
-- A stored source is a SELECT over the user's own tables.  Here it is composed, with the connection's filter and
-- its mapping expressions, into one statement; only read_source() (source.c) executes that, as the connection's
-- owner.  No function of this file runs user SQL by itself.

CREATE FUNCTION pgsync_itsm.source_columns()
RETURNS TABLE (entity_type text, name text, type text, required boolean, control boolean, description text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.entity_type, v.name, v.type, v.required, v.control, v.description
      FROM (VALUES
        ('application', 'key', 'text', true, false, 'identity of the record'),
        ('application', 'name', 'text', true, false, 'name'),
        ('application', 'class', 'text', false, false, 'class on the platform, where it is not the usual one'),
        ('application', 'app_id', 'text', false, true, 'number, as in APP-0042'),
        ('application', 'description', 'text', false, false, 'long text, may be HTML'),
        ('application', 'short_description', 'text', false, false, 'one line'),
        ('application', 'operational_status', 'text', false, true, 'operational, pipeline or retired'),
        ('application', 'lifecycle_stage_status', 'text', false, false, 'active, planned or retired'),
        ('application', 'lifecycle_status', 'text', false, false, 'life cycle of the technology'),
        ('application', 'management_classification', 'text', false, true, 'apm, alm or other'),
        ('application', 'primary_use_case', 'text', false, false, 'what it is used for'),
        ('application', 'csdm_stage', 'text', false, false, 'maturity'),
        ('application', 'workspace_name', 'text', false, false, 'workspace it belongs to'),
        ('application', 'business_owner_email', 'text', false, true, 'e-mail of the business owner'),
        ('application', 'technical_owner_email', 'text', false, true, 'e-mail of the technical owner'),
        ('application', 'managed_by_group', 'text', false, false, 'managing team of the primary profile'),
        ('application', 'vendor_id', 'text', false, true, 'vendor of the primary profile'),
        ('application', 'vendor_name', 'text', false, true, 'its name'),
        ('application', 'vendor_is_internal', 'boolean', false, true, 'is that vendor a part of the customer'),
        ('application', 'criticality', 'numeric', false, true, '0 to 100'),
        ('application', 'retired', 'boolean', false, true, 'is it out of use'),

        ('deployment_profile', 'key', 'text', true, false, 'identity of the record'),
        ('deployment_profile', 'parent_key', 'text', false, false, 'key of its application'),
        ('deployment_profile', 'name', 'text', true, false, 'its own name'),
        ('deployment_profile', 'class', 'text', false, false, 'class on the platform, where scope does not decide it'),
        ('deployment_profile', 'scope', 'text', false, true, 'none, application_service, technical_service or technical_service_offering'),
        ('deployment_profile', 'dp_type', 'text', false, true, 'application, platform_tenant, infrastructure or cost_bundle, which is never published'),
        ('deployment_profile', 'is_primary', 'boolean', false, true, 'is it the application''s main profile'),
        ('deployment_profile', 'application_name', 'text', false, true, 'name of the application'),
        ('deployment_profile', 'application_status', 'text', false, true, 'operational status of the application'),
        ('deployment_profile', 'application_retired', 'boolean', false, true, 'is the application out of use'),
        ('deployment_profile', 'application_classification', 'text', false, true, 'apm, alm or other'),
        ('deployment_profile', 'application_use_case', 'text', false, false, 'what the application is used for'),
        ('deployment_profile', 'environment', 'text', false, true, 'PROD, TEST, ...'),
        ('deployment_profile', 'operational_status', 'text', false, true, 'operational or non-operational'),
        ('deployment_profile', 'version', 'text', false, false, 'deployed version'),
        ('deployment_profile', 'owner_email', 'text', false, true, 'e-mail of the operational owner'),
        ('deployment_profile', 'managed_by_group', 'text', false, false, 'managing team'),
        ('deployment_profile', 'support_group', 'text', false, false, 'support team'),
        ('deployment_profile', 'change_group', 'text', false, false, 'team that approves changes'),
        ('deployment_profile', 'criticality', 'numeric', false, true, '0 to 100, of the application'),
        ('deployment_profile', 'hosting_type', 'text', false, false, 'SaaS, Cloud, On-Prem, ...'),
        ('deployment_profile', 'cloud_provider', 'text', false, false, 'aws, azure, ...'),
        ('deployment_profile', 'region', 'text', false, false, 'region of the cloud provider'),
        ('deployment_profile', 'server_name', 'text', false, false, 'main server'),
        ('deployment_profile', 'vendor_id', 'text', false, true, 'vendor'),
        ('deployment_profile', 'vendor_name', 'text', false, true, 'its name'),
        ('deployment_profile', 'vendor_is_internal', 'boolean', false, true, 'is that vendor a part of the customer'),
        ('deployment_profile', 'retired', 'boolean', false, true, 'is it out of use'),

        ('it_service', 'key', 'text', true, false, 'identity of the record'),
        ('it_service', 'name', 'text', true, false, 'name'),
        ('it_service', 'class', 'text', false, false, 'class on the platform, where scope does not decide it'),
        ('it_service', 'description', 'text', false, false, 'text'),
        ('it_service', 'scope', 'text', false, true, 'none, technical_service or technical_service_offering'),
        ('it_service', 'is_internal_only', 'boolean', false, true, 'private to a workspace'),
        ('it_service', 'lifecycle_state', 'text', false, true, 'active, planned, retired'),
        ('it_service', 'service_type', 'text', false, true, 'name of the kind of service'),
        ('it_service', 'vendor_id', 'text', false, true, 'vendor'),
        ('it_service', 'vendor_name', 'text', false, true, 'its name'),
        ('it_service', 'vendor_is_internal', 'boolean', false, true, 'is that vendor a part of the customer'),
        ('it_service', 'linked', 'boolean', false, true, 'does a profile use it'),
        ('it_service', 'retired', 'boolean', false, true, 'is it out of use'),

        ('software_product', 'key', 'text', true, false, 'identity of the record'),
        ('software_product', 'name', 'text', true, false, 'name'),
        ('software_product', 'class', 'text', false, false, 'model table, where it is not the usual one'),
        ('software_product', 'version', 'text', false, true, 'version'),
        ('software_product', 'manufacturer_id', 'text', false, true, 'manufacturer'),
        ('software_product', 'manufacturer_name', 'text', false, true, 'its name'),
        ('software_product', 'manufacturer_is_internal', 'boolean', false, true, 'is the manufacturer a part of the customer'),
        ('software_product', 'product_family', 'text', false, false, 'family'),
        ('software_product', 'license_type', 'text', false, false, 'kind of licence'),
        ('software_product', 'category', 'text', false, false, 'category'),
        ('software_product', 'is_deprecated', 'boolean', false, true, 'no longer to be used'),
        ('software_product', 'linked', 'boolean', false, true, 'does a profile run on it'),

        ('contract', 'key', 'text', true, false, 'identity of the record'),
        ('contract', 'name', 'text', true, false, 'title'),
        ('contract', 'class', 'text', false, false, 'table on the platform, where it is not the usual one'),
        ('contract', 'reference', 'text', false, true, 'the vendor''s number'),
        ('contract', 'vendor_id', 'text', false, true, 'vendor'),
        ('contract', 'vendor_name', 'text', false, true, 'its name'),
        ('contract', 'is_internal', 'boolean', false, true, 'chargeback: published only if this is exactly false'),
        ('contract', 'starts', 'date', false, true, 'first day'),
        ('contract', 'ends', 'date', false, true, 'last day'),
        ('contract', 'conflicting', 'boolean', false, true, 'do the rows that make it up disagree about its dates'),
        ('contract', 'renewal_notice_days', 'integer', false, true, 'days of notice'),

        ('company', 'key', 'text', true, false, 'identity of the record'),
        ('company', 'name', 'text', true, false, 'name'),
        ('company', 'class', 'text', false, false, 'table on the platform, where it is not the usual one'),
        ('company', 'website', 'text', false, false, 'address of its site'),
        ('company', 'is_vendor', 'boolean', false, true, 'does it sell'),
        ('company', 'is_manufacturer', 'boolean', false, true, 'does it make'),
        ('company', 'is_internal', 'boolean', false, true, 'part of the customer: never created there'),
        ('company', 'used', 'boolean', false, true, 'is it vendor or manufacturer of anything'),

        ('contact', 'key', 'text', true, false, 'identity of the record'),
        ('contact', 'name', 'text', true, false, 'display name'),
        ('contact', 'class', 'text', false, false, 'table on the platform, where it is not the usual one'),
        ('contact', 'email', 'text', false, true, 'e-mail'),
        ('contact', 'first_name', 'text', false, false, 'first word of the name'),
        ('contact', 'last_name', 'text', false, false, 'the rest of it'),
        ('contact', 'job_title', 'text', false, false, 'title'),
        ('contact', 'phone', 'text', false, false, 'telephone'),
        ('contact', 'is_active', 'boolean', false, true, 'still there'),
        ('contact', 'used', 'boolean', false, true, 'has a role that is published'),

        ('consumes', 'key', 'text', true, false, 'parent_key/child_key'),
        ('consumes', 'parent_key', 'text', true, false, 'application'),
        ('consumes', 'child_key', 'text', true, false, 'profile'),
        ('consumes', 'scope', 'text', false, true, 'scope of the profile'),

        ('depends_on', 'key', 'text', true, false, 'parent_key/child_key'),
        ('depends_on', 'parent_key', 'text', true, false, 'profile'),
        ('depends_on', 'child_key', 'text', true, false, 'IT service'),
        ('depends_on', 'scope', 'text', false, true, 'scope of the profile'),

        ('runs_on', 'key', 'text', true, false, 'parent_key/child_key'),
        ('runs_on', 'parent_key', 'text', true, false, 'profile'),
        ('runs_on', 'child_key', 'text', true, false, 'software product'),
        ('runs_on', 'scope', 'text', false, true, 'scope of the profile'),

        ('sends_data_to', 'key', 'text', true, false, 'parent_key/child_key'),
        ('sends_data_to', 'parent_key', 'text', true, false, 'profile that sends'),
        ('sends_data_to', 'child_key', 'text', true, false, 'profile that receives'),
        ('sends_data_to', 'bidirectional', 'boolean', false, true, 'do both send'),

        ('covers', 'key', 'text', true, false, 'parent_key/child_key'),
        ('covers', 'parent_key', 'text', true, false, 'contract'),
        ('covers', 'child_key', 'text', true, false, 'what it covers'),
        ('covers', 'child_type', 'text', true, true, 'entity type of what it covers')
      ) AS v(entity_type, name, type, required, control, description)
    UNION ALL
    -- the CI of a product has the product's columns
    SELECT 'software_package', v.name, v.type, v.required, v.control, v.description
      FROM (VALUES
        ('key', 'text', true, false, 'identity of the record'),
        ('name', 'text', true, false, 'name'),
        ('class', 'text', false, false, 'class on the platform, where it is not the usual one'),
        ('version', 'text', false, true, 'version'),
        ('manufacturer_id', 'text', false, true, 'manufacturer'),
        ('manufacturer_name', 'text', false, true, 'its name'),
        ('manufacturer_is_internal', 'boolean', false, true, 'is the manufacturer a part of the customer'),
        ('product_family', 'text', false, false, 'family'),
        ('license_type', 'text', false, false, 'kind of licence'),
        ('category', 'text', false, false, 'category'),
        ('is_deprecated', 'boolean', false, true, 'no longer to be used'),
        ('linked', 'boolean', false, true, 'does a profile run on it')
      ) AS v(name, type, required, control, description);
END;
COMMENT ON FUNCTION pgsync_itsm.source_columns() IS
'Canonical columns of every entity type: what a source may offer. A column that a source lacks is NULL in mapping expressions; control columns reach the planner as attrs';

CREATE FUNCTION pgsync_itsm.is_relationship(entity_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN entity_type IN ('consumes', 'depends_on', 'runs_on', 'sends_data_to', 'covers');
COMMENT ON FUNCTION pgsync_itsm.is_relationship(text) IS 'Is this entity type a relationship between two records';

CREATE FUNCTION pgsync_itsm.check_entity_type(entity_type text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF entity_type IS NULL
       OR NOT EXISTS (SELECT FROM pgsync_itsm.source_columns() AS c WHERE c.entity_type = check_entity_type.entity_type) THEN
        RAISE EXCEPTION 'unrecognized entity type "%"', coalesce(entity_type, 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = (SELECT 'Entity types are: ' || string_agg(DISTINCT c.entity_type, ', ') || '.'
                            FROM pgsync_itsm.source_columns() AS c);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_entity_type(text) IS 'Raises a clear error for an entity type that does not exist';

-- C functions of source.c -------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.read_source(connection_id uuid, entity_type text, keys text[] DEFAULT NULL,
                                        match_by text DEFAULT 'key')
RETURNS TABLE (key text, parent_key text, child_key text, class text, name text, attrs json, payload json)
LANGUAGE c VOLATILE ROWS 1000 AS 'MODULE_PATHNAME', 'source_read';
COMMENT ON FUNCTION pgsync_itsm.read_source(uuid, text, text[], text) IS
'Rows of one source as the connection''s owner sees them: all, or those of the given keys (the key *: all). The only place where user SQL runs. match_by parent: records of these parents, for relationships either end';

CREATE FUNCTION pgsync_itsm.check_source_sql(connection_id uuid, entity_type text, query text DEFAULT NULL)
RETURNS TABLE (column_name text, column_type text)
LANGUAGE c VOLATILE ROWS 20 AS 'MODULE_PATHNAME', 'source_check_sql';
COMMENT ON FUNCTION pgsync_itsm.check_source_sql(uuid, text, text) IS
'Prepares a query as the connection''s owner without running it and reports its columns; NULL: the query that read_source() would run';

CREATE FUNCTION pgsync_itsm.check_expression(expression text) RETURNS void
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'source_check_expression';
COMMENT ON FUNCTION pgsync_itsm.check_expression(text) IS
'Raises an error unless the text is exactly one SQL expression: no second statement, no clause of a query around it';

-- What the platform calls it ----------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.class_for(entity_type text, scope text DEFAULT NULL) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE entity_type
    WHEN 'application' THEN 'cmdb_ci_business_app'
    WHEN 'software_product' THEN 'cmdb_software_product_model'
    WHEN 'software_package' THEN 'cmdb_ci_spkg'
    WHEN 'contract' THEN 'ast_contract'
    WHEN 'company' THEN 'core_company'
    WHEN 'contact' THEN 'sys_user'
    WHEN 'covers' THEN 'contract_rel_ci'
    WHEN 'deployment_profile' THEN CASE scope WHEN 'application_service' THEN 'cmdb_ci_service_auto'
                                              WHEN 'technical_service' THEN 'cmdb_ci_service_technical'
                                              WHEN 'technical_service_offering' THEN 'service_offering' END
    WHEN 'it_service' THEN CASE scope WHEN 'technical_service' THEN 'cmdb_ci_service_technical'
                                      WHEN 'technical_service_offering' THEN 'service_offering' END
    ELSE CASE WHEN pgsync_itsm.is_relationship(entity_type) THEN 'cmdb_rel_ci' END
END;
COMMENT ON FUNCTION pgsync_itsm.class_for(text, text) IS
'ServiceNow class of an entity type by its scope; NULL: not published. The class of software models is the setting product_model_table';

CREATE FUNCTION pgsync_itsm.source_setting(connection_id uuid, name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN connection_id IS NULL
            THEN (SELECT k.default_value FROM pgsync_itsm.known_settings() AS k WHERE k.name = source_setting.name)
            ELSE pgsync_itsm.setting(connection_id, name) END;
COMMENT ON FUNCTION pgsync_itsm.source_setting(uuid, text) IS
'Effective setting of a connection; without connection the default';

CREATE FUNCTION pgsync_itsm.class_expression(connection_id uuid, entity_type text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN pgsync_itsm.is_halo(class_expression.connection_id)
            THEN pgsync_itsm.halo_class_expression(class_expression.connection_id, class_expression.entity_type)
        WHEN pgsync_itsm.is_relationship(class_expression.entity_type)
            THEN quote_literal(pgsync_itsm.class_for(class_expression.entity_type)) || '::pg_catalog.text'
        WHEN class_expression.entity_type IN ('deployment_profile', 'it_service')
            THEN 'COALESCE(class::pg_catalog.text, CASE scope::pg_catalog.text '
                 || (SELECT string_agg(format('WHEN %L THEN %L', s.scope,
                                              pgsync_itsm.class_for(class_expression.entity_type, s.scope)), ' ' ORDER BY s.scope)
                       FROM (VALUES ('application_service'), ('technical_service'), ('technical_service_offering')) AS s(scope)
                      WHERE pgsync_itsm.class_for(class_expression.entity_type, s.scope) IS NOT NULL)
                 || ' END)'
        ELSE format('COALESCE(class::pg_catalog.text, %L)',
                    CASE WHEN class_expression.entity_type = 'software_product'
                         THEN pgsync_itsm.source_setting(class_expression.connection_id, 'product_model_table')
                         ELSE pgsync_itsm.class_for(class_expression.entity_type) END)
    END;
END;
COMMENT ON FUNCTION pgsync_itsm.class_expression(uuid, text) IS
'SQL text that gives a source row its class: the row''s own column class, else class_for()';

-- Mapping -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.with_settings(connection_id uuid, expression text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result text := expression;
    found_name text;
BEGIN
    FOR found_name IN
        SELECT DISTINCT m[1] FROM regexp_matches(expression, '(?<!:):setting\(([a-z_.]+)\)', 'g') AS m
    LOOP
        PERFORM pgsync_itsm.check_setting(found_name, NULL);
        result := replace(result, format(':setting(%s)', found_name),
                          quote_nullable(pgsync_itsm.source_setting(connection_id, found_name)) || '::text');
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.with_settings(uuid, text) IS
'An expression with :setting(name) replaced by the literal of that setting of the connection';

CREATE FUNCTION pgsync_itsm.source_settings(connection_id uuid) RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT k.name, coalesce(c.settings ->> k.name, d.default_value, k.default_value, '')
      FROM pgsync_itsm.known_settings() AS k
      LEFT JOIN @extschema@.integration_connections AS c ON c.id = source_settings.connection_id
      LEFT JOIN pgsync_itsm.platform_defaults() AS d ON d.platform = c.platform AND d.name = k.name;
END;
COMMENT ON FUNCTION pgsync_itsm.source_settings(uuid) IS 'All effective settings of a connection; without connection the defaults';

-- A condition reads setting=value or setting=value|value.
CREATE FUNCTION pgsync_itsm.mapping_for(connection_id uuid, entity_type text, class text)
RETURNS TABLE (target_field text, expression text, kind text, value_map jsonb, on_unresolved text, authority text, ord integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH settings AS MATERIALIZED (SELECT s.name, s.value FROM pgsync_itsm.source_settings(mapping_for.connection_id) AS s)
    SELECT w.target_field, w.expression, w.kind, w.value_map, w.on_unresolved, w.authority, w.ord
      FROM (SELECT DISTINCT ON (m.target_field) m.*
              FROM @extschema@.integration_field_mappings AS m
             WHERE m.entity_type = mapping_for.entity_type
               AND m.platform = coalesce((SELECT c.platform FROM @extschema@.integration_connections AS c
                                           WHERE c.id = mapping_for.connection_id), 'servicenow')
               AND (m.connection_id IS NULL OR m.connection_id = mapping_for.connection_id)
               AND (m.target_class = '*' OR m.target_class = mapping_for.class)
             ORDER BY m.target_field, m.connection_id NULLS LAST, m.is_default, m.target_class = '*') AS w
     WHERE w.enabled AND w.expression IS NOT NULL AND w.direction IN ('publish', 'both')
       AND (w.condition IS NULL
            OR EXISTS (SELECT FROM settings AS s WHERE s.name = split_part(w.condition, '=', 1)
                          AND s.value = ANY (string_to_array(split_part(w.condition, '=', 2), '|'))))
     ORDER BY w.ord, w.target_field;
END;
COMMENT ON FUNCTION pgsync_itsm.mapping_for(uuid, text, text) IS
'The field mapping that applies to one class of one connection: the connection''s own rows before general ones, rows of the class before those of all, none whose condition on a setting does not hold';

CREATE FUNCTION pgsync_itsm.mapping_classes(connection_id uuid, entity_type text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT m.target_class
      FROM @extschema@.integration_field_mappings AS m
     WHERE m.entity_type = mapping_classes.entity_type AND m.target_class <> '*'
       AND (m.connection_id IS NULL OR m.connection_id = mapping_classes.connection_id)
     ORDER BY m.target_class;
END;
COMMENT ON FUNCTION pgsync_itsm.mapping_classes(uuid, text) IS 'Classes of an entity type that have mapping rows of their own';

CREATE FUNCTION pgsync_itsm.mapped_value(expression text, value_map jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN value_map IS NULL OR value_map = '{}' THEN format(E'(\n%s\n)::pg_catalog.text', expression)
       ELSE format(E'(SELECT CASE WHEN m.v IS NULL THEN NULL %s END FROM (SELECT (\n%s\n)::pg_catalog.text) AS m(v))',
                   (SELECT coalesce(string_agg(format('WHEN m.v = %L THEN %L::pg_catalog.text', e.key, e.value), ' ' ORDER BY e.key), '')
                      FROM jsonb_each_text(value_map) AS e WHERE e.key <> '*')
                   || CASE WHEN value_map ->> '*' = '*' THEN ' ELSE m.v'
                           WHEN value_map ? '*' THEN format(' ELSE %L::pg_catalog.text', value_map ->> '*')
                           ELSE '' END,
                   expression)
       END;
COMMENT ON FUNCTION pgsync_itsm.mapped_value(text, jsonb) IS
'SQL text of an expression with its value map applied: a value that the map lacks becomes what * says, NULL without *; * as the value of * keeps it';

CREATE FUNCTION pgsync_itsm.payload_for(connection_id uuid, entity_type text, class text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format(E'pg_catalog.json_object(ARRAY[%s]::pg_catalog.text[], ARRAY[%s]::pg_catalog.text[])',
                  string_agg(quote_literal(m.target_field), ', ' ORDER BY m.ord, m.target_field),
                  string_agg(pgsync_itsm.mapped_value(CASE WHEN strpos(m.expression, ':setting(') > 0
                                                   THEN pgsync_itsm.with_settings(payload_for.connection_id, m.expression)
                                                   ELSE m.expression END, m.value_map),
                             ', ' ORDER BY m.ord, m.target_field))
      FROM pgsync_itsm.mapping_for(payload_for.connection_id, payload_for.entity_type, payload_for.class) AS m;
END;
COMMENT ON FUNCTION pgsync_itsm.payload_for(uuid, text, text) IS 'SQL text that builds the payload of one class';

CREATE FUNCTION pgsync_itsm.payload_expression(connection_id uuid, entity_type text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN pgsync_itsm.is_relationship(payload_expression.entity_type) THEN 'NULL::pg_catalog.json'
           ELSE coalesce('CASE ' || pgsync_itsm.class_expression(payload_expression.connection_id, payload_expression.entity_type) || ' '
                         || (SELECT string_agg(format('WHEN %L THEN %s', c.class,
                                                      pgsync_itsm.payload_for(payload_expression.connection_id,
                                                                              payload_expression.entity_type, c.class)), ' ')
                               FROM pgsync_itsm.mapping_classes(payload_expression.connection_id,
                                                                payload_expression.entity_type) AS c(class))
                         || ' ELSE ', '')
                || pgsync_itsm.payload_for(payload_expression.connection_id, payload_expression.entity_type, '*')
                || CASE WHEN EXISTS (SELECT FROM pgsync_itsm.mapping_classes(payload_expression.connection_id,
                                                                            payload_expression.entity_type))
                        THEN ' END' ELSE '' END
           END;
END;
COMMENT ON FUNCTION pgsync_itsm.payload_expression(uuid, text) IS
'SQL text that builds the payload of a source row, by its class';

-- Composition -------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.source_row(connection_id uuid, entity_type text)
RETURNS @extschema@.integration_sources
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT s.* FROM @extschema@.integration_sources AS s
     WHERE s.entity_type = source_row.entity_type
       AND (s.connection_id IS NULL OR s.connection_id = source_row.connection_id)
     ORDER BY s.connection_id NULLS LAST LIMIT 1;
END;
COMMENT ON FUNCTION pgsync_itsm.source_row(uuid, text) IS
'The source of an entity type: the connection''s own, else the general one';

CREATE FUNCTION pgsync_itsm.source_exists(connection_id uuid, entity_type text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (pgsync_itsm.source_row(connection_id, entity_type)).id IS NOT NULL;
COMMENT ON FUNCTION pgsync_itsm.source_exists(uuid, text) IS 'Is there a source that yields this entity type';

CREATE FUNCTION pgsync_itsm.source_filter(connection_id uuid, entity_type text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce(pgsync_itsm.source_setting(connection_id, 'filter.'
                    || CASE entity_type WHEN 'software_package' THEN 'software_product' ELSE entity_type END),
                CASE entity_type WHEN 'contact' THEN 'used'
                                 WHEN 'company' THEN 'used AND is_internal IS FALSE' END);
COMMENT ON FUNCTION pgsync_itsm.source_filter(uuid, text) IS
'Filter expression of an entity type; the CI of a product follows its product, companies and contacts are those in use';

CREATE FUNCTION pgsync_itsm.key_array(key_type text, element text DEFAULT 'k.k') RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN CASE
    WHEN key_type = 'text' AND element = 'k.k' THEN '$2::pg_catalog.text[]'
    WHEN key_type = 'uuid' AND element = 'k.k' THEN '$3::pg_catalog.uuid[]'
    ELSE format('ARRAY(SELECT (%1$s)::%2$s FROM pg_catalog.unnest($2::pg_catalog.text[]) AS k(k)%3$s)', element, key_type,
        ' WHERE ' || element || CASE key_type
            WHEN 'uuid' THEN ' OPERATOR(pg_catalog.~) ''^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'''
            WHEN 'bigint' THEN ' OPERATOR(pg_catalog.~) ''^-?[0-9]{1,18}$'''
            WHEN 'integer' THEN ' OPERATOR(pg_catalog.~) ''^-?[0-9]{1,9}$'''
            WHEN 'smallint' THEN ' OPERATOR(pg_catalog.~) ''^-?[0-9]{1,4}$'''
            ELSE ' IS NOT NULL' END)
END;
COMMENT ON FUNCTION pgsync_itsm.key_array(text, text) IS
'SQL text of the keys as an array of the source''s own key type, so that its index serves; keys that are none of that type match nothing';

CREATE FUNCTION pgsync_itsm.key_conditions(entity_type text, key_type text, match_by text, with_keys boolean)
RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT CASE
    WHEN NOT with_keys THEN ARRAY['true']
    WHEN NOT pgsync_itsm.is_relationship(entity_type) THEN
        ARRAY[CASE match_by WHEN 'parent' THEN 's.parent_key = ANY (' || pgsync_itsm.key_array(t.second) || ')'
                            ELSE 's.key = ANY (' || pgsync_itsm.key_array(t.first) || ')' END]
    WHEN match_by = 'parent' THEN
        ARRAY['s.parent_key = ANY (' || pgsync_itsm.key_array(t.first) || ')',
              's.child_key = ANY (' || pgsync_itsm.key_array(t.second) || ') AND (s.parent_key = ANY ('
              || pgsync_itsm.key_array(t.first) || ')) IS NOT TRUE']
    ELSE ARRAY['s.key::pg_catalog.text = ANY ($2::pg_catalog.text[]) AND s.child_key = ANY ('
               || pgsync_itsm.key_array(t.second, 'pg_catalog.regexp_replace(k.k, ''^.*/'', '''')') || ')']
    END
    FROM (SELECT split_part(key_type, ',', 1) AS first,
                 coalesce(nullif(split_part(key_type, ',', 2), ''), split_part(key_type, ',', 1)) AS second) AS t);
COMMENT ON FUNCTION pgsync_itsm.key_conditions(text, text, text, boolean) IS
'WHERE conditions, each a branch of its own, that together find the rows of the given keys once';

CREATE FUNCTION pgsync_itsm.compose_source(connection_id uuid, entity_type text, match_by text, with_keys boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source @extschema@.integration_sources := pgsync_itsm.source_row(connection_id, entity_type);
    filter text := pgsync_itsm.with_settings(connection_id, pgsync_itsm.source_filter(connection_id, entity_type));
    canonical text;
    attrs text;
    outputs text;
BEGIN
    IF source.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(format('NULL::pg_catalog.%I AS %I', CASE c.type WHEN 'integer' THEN 'int4' WHEN 'boolean' THEN 'bool'
                                                           ELSE c.type END, c.name), ', '),
           coalesce('pg_catalog.json_build_object('
                    || string_agg(format('%L, %I', c.name, c.name), ', ') FILTER (WHERE c.control) || ')', 'NULL::pg_catalog.json')
      INTO canonical, attrs
      FROM pgsync_itsm.source_columns() AS c WHERE c.entity_type = compose_source.entity_type;
    outputs := format('s.key::pg_catalog.text AS key, %s AS parent_key, %s AS child_key, %s AS class, %s AS name, %s AS attrs, %s AS payload',
        CASE WHEN entity_type = 'deployment_profile' OR pgsync_itsm.is_relationship(entity_type)
             THEN 'parent_key::pg_catalog.text' ELSE 'NULL::pg_catalog.text' END,
        CASE WHEN pgsync_itsm.is_relationship(entity_type) THEN 'child_key::pg_catalog.text' ELSE 'NULL::pg_catalog.text' END,
        pgsync_itsm.class_expression(connection_id, entity_type),
        CASE WHEN pgsync_itsm.is_relationship(entity_type) THEN 'NULL::pg_catalog.text' ELSE 's.name::pg_catalog.text' END,
        attrs, pgsync_itsm.payload_expression(connection_id, entity_type));
    -- A name that the source lacks is found one level up, where it is NULL.  A filter has no such level: what it
    -- names must be there, or everything would silently be out of scope.
    RETURN (SELECT string_agg(format(
                E'(WITH s AS NOT MATERIALIZED (SELECT q.* FROM (\n%s\n) AS q%s)\nSELECT r.* FROM (SELECT %s) AS canonical CROSS JOIN LATERAL (SELECT %s FROM s WHERE %s) AS r)',
                source.query, E' WHERE (\n' || filter || E'\n)', canonical, outputs, c.condition), E'\nUNION ALL\n' ORDER BY c.n)
              FROM unnest(pgsync_itsm.key_conditions(entity_type, source.key_type, match_by, with_keys)) WITH ORDINALITY AS c(condition, n));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.compose_source(uuid, text, text, boolean) IS
'The statement that read_source() runs, or NULL without source: source, filter, key condition, mapping. $1 is the namespace, $2 the keys, $3 those of them that are uuids';

CREATE FUNCTION pgsync_itsm.source_query(connection_id uuid, entity_type text, match_by text DEFAULT 'key',
                                         with_keys boolean DEFAULT false)
RETURNS TABLE (query text, owner name, session_settings jsonb, namespace_id uuid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.compose_source(c.id, source_query.entity_type, source_query.match_by, source_query.with_keys),
           c.owner, c.session_settings, c.namespace_id
      FROM @extschema@.integration_connections AS c
     WHERE c.id = source_query.connection_id
    UNION ALL
    SELECT pgsync_itsm.compose_source(NULL, source_query.entity_type, source_query.match_by, source_query.with_keys),
           NULL::name, '{}'::jsonb, NULL::uuid
     WHERE source_query.connection_id IS NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.source_query(uuid, text, text, boolean) IS
'What read_source() runs, as whom and under which session settings; no row: no such connection, NULL query: no such source';

CREATE FUNCTION pgsync_itsm.source_task(connection_id uuid, entity_type text, match_by text, with_keys boolean)
RETURNS TABLE (query text, owner name, namespace_id uuid, setting_names text[], setting_values text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT q.query, q.owner, q.namespace_id,
           ARRAY(SELECT e.key FROM jsonb_each_text(q.session_settings) AS e ORDER BY e.key),
           ARRAY(SELECT e.value FROM jsonb_each_text(q.session_settings) AS e ORDER BY e.key)
      FROM pgsync_itsm.source_query(source_task.connection_id, source_task.entity_type, source_task.match_by,
                                    source_task.with_keys) AS q;
END;
COMMENT ON FUNCTION pgsync_itsm.source_task(uuid, text, text, boolean) IS 'source_query() in the form that source.c reads';

-- A row that was written anew is another row: nothing of the texts has to be looked at.
CREATE FUNCTION pgsync_itsm.source_version(connection_id uuid, entity_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT concat_ws('|', c.owner, c.namespace_id, c.platform, c.settings, c.session_settings,
                   (SELECT string_agg(s.id || '/' || s.ctid || '/' || s.xmin, ',' ORDER BY s.id) FROM @extschema@.integration_sources AS s
                     WHERE s.entity_type = source_version.entity_type AND (s.connection_id IS NULL OR s.connection_id = c.id)),
                   (SELECT string_agg(m.id || '/' || m.ctid || '/' || m.xmin, ',' ORDER BY m.id) FROM @extschema@.integration_field_mappings AS m
                     WHERE m.entity_type = source_version.entity_type AND (m.connection_id IS NULL OR m.connection_id = c.id)))
              FROM @extschema@.integration_connections AS c WHERE c.id = source_version.connection_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.source_version(uuid, text) IS
'What source_query() depends on, in short: equal, what was composed and planned before can be run again; NULL: no such connection';

CREATE FUNCTION pgsync_itsm.source_row_counts(connection_id uuid)
RETURNS TABLE (entity_type text, rows bigint, error text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR entity_type IN
        SELECT DISTINCT c.entity_type FROM pgsync_itsm.source_columns() AS c
         WHERE pgsync_itsm.source_exists(source_row_counts.connection_id, c.entity_type) ORDER BY 1
    LOOP
        rows := NULL;
        error := NULL;
        BEGIN
            SELECT count(*) INTO rows FROM pgsync_itsm.read_source(source_row_counts.connection_id, source_row_counts.entity_type);
        EXCEPTION WHEN others THEN
            error := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.source_row_counts(uuid) IS
'How many rows each source shows to the connection''s owner, or why it cannot be read';

-- What users change -------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.check_may_change(connection_id uuid) RETURNS @extschema@.integration_connections
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c @extschema@.integration_connections;
BEGIN
    IF connection_id IS NOT NULL THEN
        RETURN pgsync_itsm.own_connection(connection_id);
    END IF;
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'must be superuser to change what all connections share'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Name a connection.';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_may_change(uuid) IS
'The connection''s row if the caller is a member of its owner; without connection the caller must be superuser, as every owner would run what is stored';

CREATE FUNCTION pgsync_itsm.plan_in_full(connection_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_connections AS c
       SET full_plan_after = pg_current_snapshot(), updated_at = now()
     WHERE plan_in_full.connection_id IS NULL OR c.id = plan_in_full.connection_id;
    PERFORM pgsync_itsm.wake();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_in_full(uuid) IS
'Has the connection (NULL: each) planned in full once the transactions of now have ended';

CREATE FUNCTION pgsync_itsm.plan_in_full_soon(connection_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pgsync_itsm.is_free(connection_id) THEN
        PERFORM pgsync_itsm.plan_in_full(connection_id);
    ELSE
        INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, requested_by)
        SELECT c.namespace_id, c.id, 'publish', 'on_change', c.owner FROM @extschema@.integration_connections AS c WHERE c.id = plan_in_full_soon.connection_id;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_in_full_soon(uuid) IS
'The same for changes that are committed: where somebody holds the connection''s row, a run in full is queued without it';

CREATE FUNCTION pgsync_itsm.check_query(connection_id uuid, entity_type text, query text, source text, what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM pgsync_itsm.check_source_sql(connection_id, entity_type, query);
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN others THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF SQLSTATE = '42703' THEN
        SELECT 'Columns of the source: ' || string_agg(c.column_name, ', ') || '.'
               || coalesce(' Filter in force: ' || pgsync_itsm.source_filter(connection_id, entity_type), '') INTO hint
          FROM pgsync_itsm.check_source_sql(connection_id, entity_type, source) AS c;
    END IF;
    RAISE EXCEPTION '% cannot be evaluated: %', what, SQLERRM || coalesce(' (' || nullif(detail, '') || ')', '')
        USING ERRCODE = SQLSTATE,
              HINT = coalesce(nullif(hint, ''), 'It is prepared with the rights of the connection''s owner, search_path = pg_catalog.');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_query(uuid, text, text, text, text) IS
'Prepares a query made from a source as the connection''s owner (NULL: what read_source() would run); an error says what is wrong and which columns there are';

CREATE FUNCTION pgsync_itsm.check_composed(connection_id uuid, entity_type text, what text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pgsync_itsm.source_exists(connection_id, entity_type) THEN
        PERFORM pgsync_itsm.check_query(connection_id, entity_type, NULL,
                                        (pgsync_itsm.source_row(connection_id, entity_type)).query, what);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_composed(uuid, text, text) IS
'Prepares what read_source() would run after a change, if there is a source yet';

CREATE FUNCTION pgsync_itsm.check_source_text(connection_id uuid, entity_type text, query text, key_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    columns text[];
    missing text;
    wanted text := split_part(key_type, ',', 1);
    key_column text := CASE WHEN pgsync_itsm.is_relationship(entity_type) THEN 'parent_key' ELSE 'key' END;
    actual text;
BEGIN
    SELECT array_agg(c.column_name), max(c.column_type) FILTER (WHERE c.column_name = key_column)
      INTO columns, actual
      FROM pgsync_itsm.check_source_sql(connection_id, entity_type, query) AS c;
    SELECT string_agg(c.name, ', ') INTO missing
      FROM pgsync_itsm.source_columns() AS c
     WHERE c.entity_type = check_source_text.entity_type AND c.required AND c.name <> ALL (columns);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the source of % lacks the columns: %', entity_type, missing
            USING ERRCODE = 'undefined_column',
                  HINT = format('SELECT name, type, required, description FROM pgsync_itsm.source_columns() WHERE entity_type = %L;', entity_type);
    END IF;
    IF actual <> wanted THEN
        RAISE EXCEPTION 'column % of the source of % is of type %, not %', key_column, entity_type, actual, wanted
            USING ERRCODE = 'datatype_mismatch', HINT = format('Give key_type => %L.', actual);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_source_text(uuid, text, text, text) IS
'Raises an error unless a query is one SELECT that its owner may run, with the columns that the entity type requires';

CREATE FUNCTION pgsync_itsm.clean_key_type(key_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part text;
    result text;
BEGIN
    FOREACH part IN ARRAY string_to_array(coalesce(key_type, 'uuid'), ',')
    LOOP
        result := concat_ws(',', result, btrim(part)::regtype::text);
    END LOOP;
    RETURN result;
EXCEPTION WHEN undefined_object OR syntax_error OR invalid_text_representation OR invalid_schema_name THEN
    RAISE EXCEPTION 'invalid key type "%"', key_type
        USING ERRCODE = 'undefined_object', HINT = 'Give the type of the key, such as uuid; for relationships two: text,uuid.';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.clean_key_type(text) IS 'The type names of a key in the form in which they are stored';

CREATE FUNCTION @extschema@.itsm_set_source(connection_id uuid, entity_type text, query text, key_type text DEFAULT 'uuid')
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    type text := pgsync_itsm.clean_key_type(itsm_set_source.key_type);
BEGIN
    PERFORM pgsync_itsm.check_may_change(itsm_set_source.connection_id);
    PERFORM pgsync_itsm.check_entity_type(itsm_set_source.entity_type);
    IF itsm_set_source.query IS NULL THEN
        PERFORM pgsync_itsm.store_source(itsm_set_source.connection_id, itsm_set_source.entity_type, NULL, type);
    ELSE
        PERFORM pgsync_itsm.check_source_text(itsm_set_source.connection_id, itsm_set_source.entity_type, itsm_set_source.query, type);
        PERFORM pgsync_itsm.store_source(itsm_set_source.connection_id, itsm_set_source.entity_type, itsm_set_source.query, type);
        PERFORM pgsync_itsm.check_composed(itsm_set_source.connection_id, itsm_set_source.entity_type,
            format('the source of %s with the filter and the mapping in force', itsm_set_source.entity_type));
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_source(uuid, text, text, text) IS
'Stores the query that yields an entity type, of one connection or (NULL, superuser) of all; $1 in it is the namespace. A NULL query removes it. Columns: pgsync_itsm.source_columns()';

CREATE FUNCTION @extschema@.itsm_set_filter(connection_id uuid, entity_type text, expression text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    filter_name text := 'filter.' || itsm_set_filter.entity_type;
BEGIN
    IF connection_id IS NULL THEN
        RAISE EXCEPTION 'connection_id must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM pgsync_itsm.own_connection(connection_id);
    PERFORM pgsync_itsm.check_entity_type(entity_type);
    PERFORM pgsync_itsm.check_setting(filter_name, expression);
    IF expression IS NOT NULL AND btrim(expression) <> '' THEN
        PERFORM pgsync_itsm.check_expression(pgsync_itsm.with_settings(connection_id, expression));
    END IF;
    PERFORM pgsync_itsm.change_setting(connection_id, filter_name, btrim(expression));
    PERFORM pgsync_itsm.check_composed(connection_id, entity_type, format('the filter of %s', entity_type));
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_filter(uuid, text, text) IS
'Which records of an entity type a connection publishes: an SQL condition over the source''s columns. NULL: the default; empty: all';

CREATE FUNCTION pgsync_itsm.check_mapping(entity_type text, target_field text, target_class text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.check_entity_type(entity_type);
    IF pgsync_itsm.is_relationship(entity_type) THEN
        RAISE EXCEPTION 'entity type % has no fields', entity_type
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Relationships consist of their ends and their type.';
    END IF;
    IF target_field IN ('model_id', 'model_category') THEN
        RAISE EXCEPTION 'target field "%" must not be mapped', target_field
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'A CI with a model and a model category gets a phantom asset.';
    END IF;
    IF target_field ~ '^sys_' THEN
        RAISE EXCEPTION 'target field "%" must not be mapped', target_field
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Columns named sys_* belong to the platform.';
    END IF;
    IF target_field IS NULL OR target_field !~ '^[a-z][a-z0-9_]{0,79}$' THEN
        RAISE EXCEPTION 'invalid target field "%"', coalesce(target_field, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the name of a column there, such as short_description.';
    END IF;
    IF target_class IS NULL OR target_class !~ '^(\*|[a-z][a-z0-9_]{0,79})$' THEN
        RAISE EXCEPTION 'invalid target class "%"', coalesce(target_class, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the name of a class, such as service_offering, or *.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_mapping(text, text, text) IS
'Raises a clear error for a field that cannot or must not be mapped';

CREATE FUNCTION pgsync_itsm.check_one_of(what text, value text, allowed text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF value IS NULL OR value <> ALL (allowed) THEN
        RAISE EXCEPTION 'invalid % "%"', what, coalesce(value, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = format('Allowed are: %s.', array_to_string(allowed, ', '));
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_one_of(text, text, text[]) IS 'Raises a clear error unless an argument is one of the values that it may have';

CREATE FUNCTION pgsync_itsm.check_value_map(value_map jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF value_map IS NULL THEN
        RETURN;
    END IF;
    IF jsonb_typeof(value_map) <> 'object' OR value_map @? '$.* ? (@.type() == "object" || @.type() == "array")' THEN
        RAISE EXCEPTION 'a value map must be one flat JSON object'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'As in {"PROD": "Production", "*": null}.';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_value_map(jsonb) IS 'Raises a clear error unless a value map is a flat object';

CREATE FUNCTION @extschema@.itsm_set_mapping(
    connection_id uuid,
    entity_type text,
    target_field text,
    expression text,
    kind text DEFAULT 'text',
    value_map jsonb DEFAULT NULL,
    target_class text DEFAULT '*',
    on_unresolved text DEFAULT 'warn',
    platform text DEFAULT NULL,
    authority text DEFAULT 'policy')
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pgsync_itsm.check_may_change(itsm_set_mapping.connection_id);
    PERFORM pgsync_itsm.check_mapping(itsm_set_mapping.entity_type, itsm_set_mapping.target_field, itsm_set_mapping.target_class);
    PERFORM pgsync_itsm.check_one_of('kind', itsm_set_mapping.kind, ARRAY['text', 'date', 'user', 'agent', 'group', 'company', 'choice',
        'life_cycle_stage', 'life_cycle_stage_status', 'contract_model', 'reference']);
    PERFORM pgsync_itsm.check_one_of('on_unresolved', itsm_set_mapping.on_unresolved, ARRAY['warn', 'ignore', 'error']);
    PERFORM pgsync_itsm.check_one_of('authority', itsm_set_mapping.authority, ARRAY['policy', 'ours', 'theirs', 'newest', 'if_empty', 'manual']);
    PERFORM pgsync_itsm.check_value_map(itsm_set_mapping.value_map);
    IF itsm_set_mapping.expression IS NOT NULL THEN
        PERFORM pgsync_itsm.check_expression(
            pgsync_itsm.with_settings(itsm_set_mapping.connection_id, itsm_set_mapping.expression));
    END IF;
    PERFORM pgsync_itsm.store_mapping(itsm_set_mapping.connection_id, itsm_set_mapping.platform, itsm_set_mapping.entity_type,
        itsm_set_mapping.target_class, itsm_set_mapping.target_field, itsm_set_mapping.expression, itsm_set_mapping.kind,
        itsm_set_mapping.value_map, itsm_set_mapping.on_unresolved, itsm_set_mapping.authority);
    PERFORM pgsync_itsm.check_composed(itsm_set_mapping.connection_id, itsm_set_mapping.entity_type,
        format('the expression for %s.%s', itsm_set_mapping.entity_type, itsm_set_mapping.target_field));
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_mapping(uuid, text, text, text, text, jsonb, text, text, text, text) IS
'Says what fills a field there: an SQL expression over the source''s columns, of one connection or (NULL, superuser) of all; a NULL expression leaves the field alone. :setting(name) stands for a setting of the connection';

CREATE FUNCTION @extschema@.itsm_drop_mapping(connection_id uuid, entity_type text, target_field text,
                                              target_class text DEFAULT '*', platform text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.check_may_change(connection_id);
    IF NOT pgsync_itsm.remove_mapping(connection_id, platform, entity_type, target_class, target_field) THEN
        RAISE EXCEPTION 'there is no mapping of %.% to drop', entity_type, target_field
            USING ERRCODE = 'undefined_object',
                  HINT = 'Defaults stay; give the expression NULL to leave a field alone: SELECT itsm_set_mapping(..., NULL);';
    END IF;
    PERFORM pgsync_itsm.check_composed(connection_id, entity_type, format('the remaining mapping of %s', entity_type));
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_drop_mapping(uuid, text, text, text, text) IS
'Takes back what itsm_set_mapping() said, so that the more general mapping applies again';
