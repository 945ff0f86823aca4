-- Writers: which row of which table of the user's holds a record, and which of its columns takes a field of the platform.
-- Composed here; write_record() and changed_here() (source.c) execute it, as the connection's owner.

-- A column by itself takes the value as it comes; {"column": ..., "value": ...} takes an SQL expression over value, a text.
CREATE FUNCTION pgsync_itsm.writer_columns(columns jsonb) RETURNS TABLE (field text, col text, expression text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT c.key, CASE jsonb_typeof(c.value) WHEN 'string' THEN c.value #>> '{}' WHEN 'object' THEN c.value ->> 'column' END,
           CASE jsonb_typeof(c.value) WHEN 'object' THEN c.value ->> 'value' END
      FROM jsonb_each(columns) AS c;
END;
COMMENT ON FUNCTION pgsync_itsm.writer_columns(jsonb) IS 'Fields of the platform, the column that each is written to, and what of the value';

CREATE FUNCTION pgsync_itsm.writer_of(connection_id uuid, entity_type text) RETURNS @extschema@.integration_writers
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT w.* FROM @extschema@.integration_writers AS w
     WHERE w.entity_type = writer_of.entity_type AND (w.connection_id = writer_of.connection_id OR w.connection_id IS NULL)
     ORDER BY w.connection_id IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION pgsync_itsm.writer_of(uuid, text) IS 'The writer that applies to a connection';

CREATE FUNCTION pgsync_itsm.is_written(connection_id uuid, entity_type text, field text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pgsync_itsm.writer_columns((pgsync_itsm.writer_of(connection_id, entity_type)).columns) AS c WHERE c.field = is_written.field);
COMMENT ON FUNCTION pgsync_itsm.is_written(uuid, text, text) IS 'Has a field of the platform a column here that it is written to';

CREATE FUNCTION pgsync_itsm.column_type(relation text, col text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE t AS (
        SELECT a.atttypid AS id, 0 AS depth FROM pg_attribute AS a
         WHERE a.attrelid = to_regclass(relation) AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT y.typbasetype, t.depth + 1 FROM t JOIN pg_type AS y ON y.oid = t.id AND y.typtype = 'd')
    SELECT format_type(t.id, -1) FROM t ORDER BY t.depth DESC LIMIT 1;
END;
-- A cast to a length, or to a domain of one, would cut what is too long; the assignment refuses it.
COMMENT ON FUNCTION pgsync_itsm.column_type(text, text) IS 'What a text is cast to for a column of the user''s: its type, of a domain the one below, without length; NULL: there is no such column';

-- The platform knows no NULL, and we write one for what is empty there; where that is refused, what is empty is a text.
CREATE FUNCTION pgsync_itsm.knows_no_null(relation text, col text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT y.typcategory = 'S' AND (a.attnotnull OR y.typnotnull) FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
         WHERE a.attrelid = to_regclass(relation) AND a.attname = col AND a.attnum > 0 AND NOT a.attisdropped);
COMMENT ON FUNCTION pgsync_itsm.knows_no_null(text, text) IS 'Is a column of the user''s a text that must not be NULL';

-- An index serves, and a key that is none of the column's type matches nothing.
CREATE FUNCTION pgsync_itsm.writer_keys(key_column text, key_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN key_type IN ('text', 'character varying') THEN format('%I = ANY ($1)', key_column)
            WHEN key_type IN ('uuid', 'bigint', 'integer', 'smallint')
            THEN format('%I = ANY (%s)', key_column, replace(pgsync_itsm.key_array(CASE key_type WHEN 'uuid' THEN 'uuid' ELSE 'bigint' END, '(k.k)'), '$2', '$1'))
            ELSE format('%I::text = ANY ($1)', key_column) END;
COMMENT ON FUNCTION pgsync_itsm.writer_keys(text, text) IS 'SQL condition that finds the rows of keys ($1, an array of text)';

CREATE FUNCTION pgsync_itsm.compose_write(w @extschema@.integration_writers, fields text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
    assignments text;
    conditions text;
    key_type text := pgsync_itsm.column_type(w.relation, w.key_column);
BEGIN
    IF w.id IS NULL THEN
        RETURN NULL;
    END IF;
    IF key_type IS NULL THEN
        RAISE EXCEPTION 'the writer of entity type "%" names %, column "%", which is not there', w.entity_type, w.relation, w.key_column
            USING ERRCODE = 'undefined_column', HINT = 'SELECT itsm_set_writer(...); tells where it is now.';
    END IF;
    IF fields IS NULL THEN
        RETURN format('SELECT %1$I::text, %2$s, json_build_object(%3$s) FROM %4$s WHERE %5$s', w.key_column,
                      CASE WHEN w.changed_column IS NULL THEN 'NULL::timestamptz' ELSE format('%I::timestamptz', w.changed_column) END,
                      (SELECT string_agg(format('%L, %I::text', c.field, c.col), ', ' ORDER BY c.field) FROM pgsync_itsm.writer_columns(w.columns) AS c
                        WHERE pgsync_itsm.column_type(w.relation, c.col) IS NOT NULL),
                      to_regclass(w.relation), pgsync_itsm.writer_keys(w.key_column, key_type));
    END IF;
    SELECT string_agg(format('"%s"', f.field), ', ') FILTER (WHERE pgsync_itsm.column_type(w.relation, c.col) IS NULL),
           string_agg(format(' AND ($3 IS NULL OR %I::text IS NOT DISTINCT FROM ($3)[%s])', c.col, f.n), '' ORDER BY f.n) FILTER (WHERE c.col IS NOT NULL)
      INTO missing, conditions
      FROM unnest(fields) WITH ORDINALITY AS f(field, n)
      LEFT JOIN pgsync_itsm.writer_columns(w.columns) AS c ON c.field = f.field;
    -- where several fields are written to one column, each sees there what those before it made, in the order of the JSON
    WITH RECURSIVE parts AS (
        SELECT c.col, f.n, pgsync_itsm.column_type(w.relation, c.col) AS type,
               coalesce(c.expression, CASE WHEN pgsync_itsm.knows_no_null(w.relation, c.col) THEN 'coalesce(value, '''')' ELSE 'value' END) AS expression,
               row_number() OVER (PARTITION BY c.col ORDER BY o.ord) AS k, count(*) OVER (PARTITION BY c.col) AS total
          FROM unnest(fields) WITH ORDINALITY AS f(field, n) JOIN pgsync_itsm.writer_columns(w.columns) AS c ON c.field = f.field
          JOIN jsonb_object_keys(w.columns) WITH ORDINALITY AS o(field, ord) ON o.field = f.field
         WHERE pgsync_itsm.column_type(w.relation, c.col) IS NOT NULL
    ), nested AS (
        SELECT p.col, p.k, p.total, p.type, p.n, format(E'(SELECT (\n%s\n) FROM (SELECT ($2)[%s]) AS v(value))::%s', p.expression, p.n, p.type) AS body
          FROM parts AS p WHERE p.k = 1
        UNION ALL
        SELECT p.col, p.k, p.total, p.type, n.n, format(E'(SELECT (\n%s\n) FROM (SELECT ($2)[%s], %s) AS v(value, %I))::%s', p.expression, p.n, n.body, p.col, p.type)
          FROM nested AS n JOIN parts AS p ON p.col = n.col AND p.k = n.k + 1)
    SELECT string_agg(format('%I = %s', n.col, n.body), ', ' ORDER BY n.n) INTO assignments FROM nested AS n WHERE n.k = n.total;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'no column of % is written for %', w.relation, missing
            USING ERRCODE = 'undefined_column', HINT = format('SELECT itsm_set_writer(connection_id, %L, %L, %L, columns); names one.', w.entity_type, w.relation, w.key_column);
    END IF;
    RETURN format('UPDATE %s SET %s WHERE %I = $1::%s%s', to_regclass(w.relation), assignments, w.key_column, key_type, conditions);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.compose_write(@extschema@.integration_writers, text[]) IS
'The UPDATE that writes these fields ($1 is the key, $2 their values, $3 what their columns have to hold before, NULL: whatever); without fields the question what rows hold, and when they were changed';

CREATE FUNCTION pgsync_itsm.write_task(connection_id uuid, entity_type text, fields text[])
RETURNS TABLE (query text, owner name, namespace_id uuid, setting_names text[], setting_values text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.compose_write(pgsync_itsm.writer_of(c.id, write_task.entity_type), write_task.fields), c.owner, c.namespace_id,
           ARRAY(SELECT e.key FROM jsonb_each_text(c.session_settings) AS e ORDER BY e.key),
           ARRAY(SELECT e.value FROM jsonb_each_text(c.session_settings) AS e ORDER BY e.key)
      FROM @extschema@.integration_connections AS c WHERE c.id = write_task.connection_id;
END;
COMMENT ON FUNCTION pgsync_itsm.write_task(uuid, text, text[]) IS 'A writer''s statement in the form that source.c reads';

CREATE FUNCTION pgsync_itsm.write_record(connection_id uuid, entity_type text, key text, fields text[], field_values text[], before text[] DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'source_write';
COMMENT ON FUNCTION pgsync_itsm.write_record(uuid, text, text, text[], text[], text[]) IS
'Writes fields of the platform into the row here that holds a record, as the connection''s owner, unless their columns hold something else than before (NULL: whatever they hold); NULL if one row was written, else why not';

CREATE FUNCTION pgsync_itsm.changed_here(connection_id uuid, entity_type text, keys text[]) RETURNS TABLE (key text, changed_at timestamptz, columns json)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'source_changed';
COMMENT ON FUNCTION pgsync_itsm.changed_here(uuid, text, text[]) IS 'What the columns hold here that a writer writes to, by field, and when the rows were changed last, as far as the writer names a column for that';

CREATE FUNCTION pgsync_itsm.why_not_written(connection_id uuid, entity_type text, key text, fields text[], before text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT CASE WHEN count(*) = 0 THEN 'it has no row here, or none that the connection''s owner may change'
                        WHEN before IS NULL OR bool_and(NOT EXISTS (SELECT FROM unnest(fields, before) AS f(field, value) WHERE c.columns ->> f.field IS DISTINCT FROM f.value))
                        THEN 'a trigger, a rule or a policy of the table here left it as it was' END
              FROM pgsync_itsm.changed_here(connection_id, entity_type, ARRAY[key]) AS c);
EXCEPTION WHEN others THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.why_not_written(uuid, text, text, text[], text[]) IS 'Why a row was not written, as far as its columns still hold what they did; NULL: it was changed';

-- What the user's table, its triggers or its policies have against it is the record's answer, and no error of ours.  Then
-- nothing stays of what a trigger did before.
CREATE FUNCTION pgsync_itsm.try_write(connection_id uuid, entity_type text, key text, fields text[], field_values text[], before text[] DEFAULT NULL, OUT ok boolean, OUT reason text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    refused boolean := false;
BEGIN
    reason := pgsync_itsm.write_record(connection_id, entity_type, key, fields, field_values, before);
    ok := reason IS NULL;
    IF NOT ok THEN
        refused := true;
        RAISE EXCEPTION '%', reason;
    END IF;
EXCEPTION WHEN query_canceled OR assert_failure OR others THEN
    -- interrupted before plan_timeout could have run out: somebody asked for it
    IF SQLSTATE = '57014' AND clock_timestamp() - statement_timestamp() < current_setting('pgsync_itsm.plan_timeout')::interval THEN
        RAISE;
    END IF;
    ok := false;
    IF refused AND reason LIKE 'there is no table here%' THEN
        NULL;
    ELSIF refused THEN
        reason := coalesce(pgsync_itsm.why_not_written(connection_id, entity_type, key, fields, before), reason);
    ELSIF SQLSTATE = '57014' THEN
        reason := format('it took longer than pgsync_itsm.plan_timeout (%s)', current_setting('pgsync_itsm.plan_timeout'));
    ELSE
        reason := format('%s (%s)%s', left(SQLERRM, 480), SQLSTATE, CASE WHEN SQLSTATE IN ('42P01', '42883')
                         THEN '; triggers run with search_path = pg_catalog, unless the session settings of the connection say otherwise' ELSE '' END);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.try_write(uuid, text, text, text[], text[], text[]) IS 'write_record(), its errors as a reason; a cancellation that somebody asked for is thrown on';

-- Setting one -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.check_writer_relation(relation text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r pg_class;
BEGIN
    SELECT * INTO r FROM pg_class AS c WHERE c.oid = to_regclass(relation) AND c.relkind IN ('r', 'p', 'v');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table or view %', coalesce(relation, 'NULL')
            USING ERRCODE = 'undefined_table', HINT = 'Name it with its schema, as in public.applications.';
    ELSIF r.relpersistence = 't' THEN
        RAISE EXCEPTION '% is temporary', relation USING ERRCODE = 'wrong_object_type', DETAIL = 'What writes it is another session.';
    ELSIF r.relnamespace::regnamespace::text IN ('pg_catalog', 'information_schema')
          OR EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pgsync_itsm'
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') THEN
        RAISE EXCEPTION '% holds no records of yours', relation
            USING ERRCODE = 'wrong_object_type', HINT = 'Name the table that the application keeps its records in.';
    ELSIF pg_relation_is_updatable(r.oid, true) & 4 = 0 THEN
        RAISE EXCEPTION 'view % cannot be updated', relation
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('Name the table behind it, or give it a trigger: CREATE TRIGGER ... INSTEAD OF UPDATE ON %s ...', relation);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_writer_relation(text) IS 'Raises a clear error unless it is a table of the user''s, or a view that can be updated';

-- Prepared as the connection's owner, and not run.
CREATE FUNCTION pgsync_itsm.check_writer_value(connection_id uuid, entity_type text, relation text, what text, col text, expression text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a pg_attribute;
BEGIN
    SELECT * INTO a FROM pg_attribute AS x WHERE x.attrelid = to_regclass(relation) AND x.attname = col;
    IF a.attgenerated <> '' OR a.attidentity = 'a' OR NOT pg_column_is_updatable(a.attrelid, a.attnum, true) THEN
        RAISE EXCEPTION '%: column "%" of % cannot be written', what, col, relation
            USING ERRCODE = 'generated_always', DETAIL = 'Its value is computed.', HINT = 'Name the column that it is computed from.';
    END IF;
    IF expression IS NOT NULL THEN
        PERFORM pgsync_itsm.check_expression(expression);
    END IF;
    PERFORM pgsync_itsm.check_source_sql(connection_id, entity_type, format(E'SELECT (\n%s\n)::%s AS value FROM (SELECT NULL::text) AS v(value)',
                                                                            coalesce(expression, 'value'), pgsync_itsm.column_type(relation, col)));
EXCEPTION WHEN undefined_column OR undefined_function OR undefined_table OR datatype_mismatch OR cannot_coerce OR invalid_parameter_value THEN
    RAISE EXCEPTION '%: %', what, SQLERRM
        USING ERRCODE = SQLSTATE, HINT = 'The expression is over value, a text; search_path is pg_catalog.';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_writer_value(uuid, text, text, text, text, text) IS
'Raises a clear error for a column that cannot be written, or a value that cannot come to one of its type';

CREATE FUNCTION pgsync_itsm.check_writer(connection_id uuid, entity_type text, relation text, key_column text, columns jsonb, changed_column text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    known text[] := ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = to_regclass(relation) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum);
BEGIN
    PERFORM pgsync_itsm.check_entity_type(entity_type);
    IF columns IS NULL THEN
        RETURN;
    END IF;
    PERFORM pgsync_itsm.check_writer_relation(relation);
    IF jsonb_typeof(columns) <> 'object' OR columns = '{}' THEN
        RAISE EXCEPTION 'columns must be a JSON object that names at least one field'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'As in {"short_description": "summary"} or {"name": {"column": "title", "value": "upper(value)"}}.';
    END IF;
    PERFORM pgsync_itsm.check_role(r.field, r.role) FROM pgsync_itsm.writer_roles(columns) AS r;
    FOR c IN SELECT 'key_column' AS what, key_column AS col, NULL AS expression UNION ALL SELECT 'changed_column', changed_column, NULL WHERE changed_column IS NOT NULL
             UNION ALL SELECT format('the column for %I', w.field), w.col, w.expression FROM pgsync_itsm.writer_columns(columns) AS w
                        WHERE NOT EXISTS (SELECT FROM pgsync_itsm.writer_roles(columns) AS r WHERE r.field = w.field) LOOP
        IF c.col IS NULL OR c.col <> ALL (known) THEN
            RAISE EXCEPTION '%: % has no column "%"', c.what, relation, coalesce(c.col, 'NULL')
                USING ERRCODE = 'undefined_column', HINT = format('It has: %s.', array_to_string(known, ', '));
        END IF;
        IF c.what = 'changed_column' AND pgsync_itsm.column_type(relation, c.col) NOT IN ('timestamp with time zone', 'timestamp without time zone', 'date') THEN
            RAISE EXCEPTION 'changed_column: column "%" of % is no time', c.col, relation
                USING ERRCODE = 'datatype_mismatch', HINT = 'Leave it away if no column says when a row was changed.';
        ELSIF c.what LIKE 'the column for %' THEN
            PERFORM pgsync_itsm.check_writer_value(connection_id, entity_type, relation, c.what, c.col, c.expression);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.check_writer(uuid, text, text, text, jsonb, text) IS 'Raises a clear error for a writer that could not work';

CREATE FUNCTION pgsync_itsm.store_writer(connection_id uuid, entity_type text, relation text, key_column text, columns jsonb, changed_column text) RETURNS void
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'gate_own_connection';
COMMENT ON FUNCTION pgsync_itsm.store_writer(uuid, text, text, text, jsonb, text) IS
'Gate: the writer of an entity type of the caller''s connection (NULL, superuser: of all); NULL columns remove it';

CREATE FUNCTION pgsync_itsm.store_writer_granted(connection_id uuid, entity_type text, relation text, key_column text, columns jsonb, changed_column text, caller name)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pgsync_itsm.check_writer(store_writer_granted.connection_id, store_writer_granted.entity_type, store_writer_granted.relation,
                                     store_writer_granted.key_column, store_writer_granted.columns, store_writer_granted.changed_column);
    DELETE FROM @extschema@.integration_writers AS w
     WHERE w.entity_type = store_writer_granted.entity_type AND w.connection_id IS NOT DISTINCT FROM store_writer_granted.connection_id;
    IF store_writer_granted.columns IS NOT NULL THEN
        INSERT INTO @extschema@.integration_writers (namespace_id, connection_id, entity_type, relation, key_column, columns, changed_column)
        SELECT (SELECT c.namespace_id FROM @extschema@.integration_connections AS c WHERE c.id = store_writer_granted.connection_id),
               store_writer_granted.connection_id, store_writer_granted.entity_type, format('%I.%I', n.nspname, r.relname),
               store_writer_granted.key_column, store_writer_granted.columns, store_writer_granted.changed_column
          FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace WHERE r.oid = to_regclass(store_writer_granted.relation);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_writer_granted(uuid, text, text, text, jsonb, text, name) IS 'Behind store_writer()';

CREATE FUNCTION @extschema@.itsm_set_writer(connection_id uuid, entity_type text, relation text, key_column text, columns jsonb, changed_column text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.store_writer(connection_id, entity_type, relation, key_column, columns, changed_column);
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_set_writer(uuid, text, text, text, jsonb, text) IS
'Says where a record of an entity type is written here when it was changed on the platform: table, key column, and the column of each field ({"short_description": "summary"}, or {"column": ..., "value": expression over value}); NULL columns take that back. It is written with the rights of the connection''s owner';

-- GetInSync ---------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.store_writers(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.integration_writers AS w WHERE w.origin = 'getinsync' AND w.connection_id IS NULL;
    INSERT INTO @extschema@.integration_writers (entity_type, relation, key_column, columns, changed_column, origin)
    SELECT v.entity_type, format('%I.%I', schema_name, v.tab), 'id',
           v.columns || coalesce((SELECT jsonb_object_agg(r.field, jsonb_build_object('role', format('%I.%I', schema_name, r.tab), 'record', r.record, 'holder', 'contact_id',
                                                                                      'primary', 'is_primary', 'set', jsonb_build_object('role_type', r.role_type)))
                                    FROM (VALUES ('application', 'owned_by', 'application_contacts'::name, 'application_id'::name, 'business_owner'),
                                                 ('application', 'managed_by', 'application_contacts', 'application_id', 'technical_owner'),
                                                 ('deployment_profile', 'owned_by', 'deployment_profile_contacts', 'deployment_profile_id', 'operational_owner')) AS r(entity_type, field, tab, record, role_type)
                                   WHERE r.entity_type = v.entity_type AND pgsync_itsm.has_columns(schema_name, r.tab, r.record, 'contact_id', 'is_primary', 'role_type')), '{}'),
           'updated_at', 'getinsync'
      FROM (VALUES ('application', 'applications', '{"name": "name", "short_description": "short_description", "comments": "description", "operational_status": "operational_status"}'::jsonb),
                   ('deployment_profile', 'deployment_profiles', '{"version": "version", "environment": "environment", "operational_status": "operational_status",
                                                                  "managed_by_group": "managing_team_id", "support_group": "support_team_id", "change_control": "change_team_id"}'),
                   ('it_service', 'it_services', '{"name": "name", "short_description": "description", "description": "description"}'),
                   ('contact', 'contacts', '{"phone": "phone", "title": "job_title", "email": "email",
                                             "first_name": {"column": "display_name", "value": "btrim(value || substr(btrim(display_name), length(split_part(btrim(display_name), '' '', 1)) + 1))"},
                                             "last_name": {"column": "display_name", "value": "btrim(split_part(btrim(display_name), '' '', 1) || '' '' || coalesce(value, ''''))"}}')) AS v(entity_type, tab, columns)
     WHERE NOT EXISTS (SELECT FROM @extschema@.integration_writers AS w WHERE w.connection_id IS NULL AND w.entity_type = v.entity_type);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_writers(name) IS 'Stores the writers of an attached GetInSync schema, but for those that somebody has set';
