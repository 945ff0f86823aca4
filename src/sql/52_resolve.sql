-- Planning, second half: payloads resolved and compared with the map, then what the platform already has, then items.

-- One row a field.  `value` is what to send: NULL leaves the field out.
CREATE FUNCTION pgsync_itsm.resolved_fields(run @extschema@.integration_runs, only_type text)
RETURNS TABLE (entity_id uuid, ord bigint, field text, value text, warning text, fatal text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH fields AS MATERIALIZED (
        SELECT f.* FROM pgsync_itsm.mapped_fields((run).connection_id, only_type) AS f
    ), refs AS MATERIALIZED (
        SELECT r.* FROM @extschema@.integration_references AS r WHERE r.connection_id = (run).connection_id
    ), known AS MATERIALIZED (
        SELECT DISTINCT r.target FROM refs AS r WHERE r.kind = 'column' AND r.external_id IS NOT NULL
    ), fallback AS MATERIALIZED (
        SELECT r.external_id FROM refs AS r
         WHERE r.kind = 'user' AND r.key = lower(pgsync_itsm.setting((run).connection_id, 'default_owner')) AND r.matches = 1
    ), companies AS MATERIALIZED (
        SELECT DISTINCT ON (lower(p.name)) lower(p.name) AS key, p.entity_id FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = (run).id AND p.entity_type = 'company' AND p.verdict IS NULL
           AND pgsync_itsm.setting((run).connection_id, 'create_companies') = 'true'
         ORDER BY lower(p.name), p.entity_id
    ), raw AS (
        SELECT p.entity_id, p.class, v.ord, v.field, v.value, f.kind, f.on_unresolved
          FROM pgsync_itsm.plan_records AS p
         CROSS JOIN LATERAL json_each_text(p.payload) WITH ORDINALITY AS v(field, value, ord)
          LEFT JOIN LATERAL (SELECT f.kind, f.on_unresolved FROM fields AS f
                              WHERE f.target_field = v.field AND f.target_class IN ('*', p.class)
                              ORDER BY f.target_class = '*' LIMIT 1) AS f ON true
         WHERE p.run_id = (run).id AND p.entity_type = only_type AND p.verdict IS NULL AND p.payload IS NOT NULL
    ), found AS (
        SELECT w.*, k.target IS NOT NULL AS columns_known, c.external_id AS column_name,
               (c.attrs ->> 'max_length')::integer AS max_length,
               CASE WHEN w.kind IN ('user', 'group', 'company', 'contract_model') THEN r.external_id
                    WHEN w.kind LIKE 'life_cycle%' THEN r.external_id
                    WHEN w.kind = 'choice' THEN ch.external_id
                    ELSE w.value END AS answer,
               r.matches, co.entity_id AS company_id
          FROM raw AS w
          LEFT JOIN known AS k ON k.target = w.class
          LEFT JOIN refs AS c ON c.kind = 'column' AND c.target = w.class AND c.key = w.field
          LEFT JOIN refs AS r ON r.kind = CASE WHEN w.kind LIKE 'life_cycle%' THEN 'life_cycle' ELSE w.kind END
                             AND r.target = CASE WHEN w.kind LIKE 'life_cycle%' THEN w.kind ELSE '' END
                             AND r.key = lower(w.value) AND w.kind NOT IN ('text', 'date', 'choice', 'reference')
          -- A label may name alternatives, best first: instances differ in what their lists hold.
          LEFT JOIN LATERAL (SELECT x.external_id FROM unnest(string_to_array(w.value, '|')) WITH ORDINALITY AS o(label, n)
                               JOIN refs AS x ON x.kind = 'choice' AND x.target = w.class AND split_part(x.key, '/', 1) = w.field
                                AND (lower(x.label) = lower(o.label) OR x.external_id = o.label)
                              WHERE w.kind = 'choice'
                              ORDER BY o.n, lower(x.label) = lower(o.label) DESC LIMIT 1) AS ch ON true
          LEFT JOIN companies AS co ON w.kind = 'company' AND co.key = lower(w.value)
    ), judged AS (
        SELECT f.*,
               CASE WHEN f.field LIKE '\_%' THEN f.value
                    WHEN f.columns_known AND f.column_name IS NULL THEN NULL
                    WHEN f.kind = 'company' AND f.answer IS NULL AND f.company_id IS NOT NULL THEN '@company/' || f.company_id
                    WHEN f.kind = 'user' AND coalesce(f.matches, 0) <> 1
                         THEN CASE WHEN f.field = 'it_application_owner' THEN (SELECT external_id FROM fallback) END
                    WHEN f.kind IN ('group', 'contract_model') AND coalesce(f.matches, 0) <> 1 THEN NULL
                    WHEN f.kind = 'text' AND f.max_length > 0 AND length(f.answer) > f.max_length THEN left(f.answer, f.max_length)
                    ELSE f.answer END AS result
          FROM found AS f
    )
    SELECT j.entity_id, j.ord, j.field, nullif(j.result, ''),
           CASE WHEN j.field LIKE '\_%' OR coalesce(j.value, '') = '' OR j.on_unresolved = 'ignore' THEN NULL
                WHEN j.columns_known AND j.column_name IS NULL THEN format('column %s does not exist in %s there', j.field, j.class)
                WHEN j.kind = 'user' AND j.matches > 1 THEN format('%s: %s users there have %s', j.field, j.matches, j.value)
                WHEN j.kind IN ('user', 'group', 'company', 'contract_model', 'life_cycle_stage', 'life_cycle_stage_status')
                     AND (j.result IS NULL OR j.kind = 'user' AND coalesce(j.matches, 0) <> 1)
                     THEN format('%s: no %s there is called %s', j.field, replace(j.kind, '_', ' '), j.value)
                WHEN j.kind = 'choice' AND j.result IS NULL THEN format('%s: %s is not among the choices there', j.field, replace(j.value, '|', ' or '))
                WHEN j.kind = 'text' AND j.max_length > 0 AND length(j.answer) > j.max_length
                     THEN format('%s: cut to %s characters', j.field, j.max_length) END,
           CASE WHEN j.field IN ('name', 'vendor_contract') AND j.max_length > 0 AND length(j.answer) > j.max_length
                     THEN format('%s has %s characters, the column there holds %s', j.field, length(j.answer), j.max_length)
                WHEN j.on_unresolved = 'error' AND coalesce(j.value, '') <> '' AND j.result IS NULL
                     THEN format('%s: %s cannot be resolved there', j.field, j.value) END
      FROM judged AS j
$$;
COMMENT ON FUNCTION pgsync_itsm.resolved_fields(@extschema@.integration_runs, text) IS
'Desired values of one entity type with references and choices resolved; what is left out and what makes a record unsendable';

-- The service that the customer chose for all offerings; one that is not there, or there twice, is left out.
CREATE FUNCTION pgsync_itsm.plan_offering_parent(run @extschema@.integration_runs, only_type text, version text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen text := nullif(pgsync_itsm.setting(run.connection_id, 'offering_parent'), 'off');
    parent text;
BEGIN
    IF chosen IS NULL OR only_type NOT IN ('it_service', 'deployment_profile') THEN
        RETURN;
    END IF;
    SELECT r.external_id INTO parent FROM @extschema@.integration_references AS r
     WHERE r.connection_id = run.connection_id AND r.kind = 'name' AND r.target = 'cmdb_ci_service_technical'
       AND r.key = lower(chosen) AND r.matches = 1;
    UPDATE pgsync_itsm.plan_records AS p
       SET payload = x.payload, payload_hash = pgsync_itsm.content_hash(x.payload::text || '|' || p.class || '|' || version),
           warnings = CASE WHEN parent IS NULL THEN coalesce(p.warnings, '[]') || to_jsonb(format('parent: no technical service there is called %s', chosen))
                           ELSE p.warnings END
      FROM pgsync_itsm.plan_records AS q
     CROSS JOIN LATERAL (SELECT json_object_agg(v.field, v.value ORDER BY v.ord) AS payload
                           FROM (SELECT e.field, e.value, e.ord FROM json_each_text(q.payload) WITH ORDINALITY AS e(field, value, ord)
                                 UNION ALL SELECT 'parent', parent, 1000000 WHERE parent IS NOT NULL) AS v) AS x
     WHERE q.run_id = run.id AND q.entity_type = only_type AND q.class = 'service_offering' AND q.verdict IS NULL AND q.payload IS NOT NULL
       AND p.run_id = q.run_id AND p.entity_type = q.entity_type AND p.entity_id = q.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_offering_parent(@extschema@.integration_runs, text, text) IS 'Puts the chosen parent service into the payloads of service offerings';

CREATE FUNCTION pgsync_itsm.plan_resolve(run @extschema@.integration_runs, only_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text := pgsync_itsm.mapping_version(run.connection_id, only_type);
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET payload = f.payload, payload_hash = pgsync_itsm.content_hash(f.payload::text || '|' || coalesce(p.class, '') || '|' || version),
           warnings = f.warnings, verdict = CASE WHEN f.fatal IS NOT NULL THEN 'ERROR' END, reason = f.fatal
      FROM (SELECT r.entity_id, json_object_agg(r.field, r.value ORDER BY r.ord) FILTER (WHERE r.value IS NOT NULL) AS payload,
                   jsonb_agg(r.warning ORDER BY r.ord) FILTER (WHERE r.warning IS NOT NULL) AS warnings,
                   string_agg(r.fatal, '; ' ORDER BY r.ord) AS fatal
              FROM pgsync_itsm.resolved_fields(run, only_type) AS r GROUP BY r.entity_id) AS f
     WHERE p.run_id = run.id AND p.entity_type = only_type AND p.entity_id = f.entity_id;
    PERFORM pgsync_itsm.plan_offering_parent(run, only_type, version);
    -- Mandatory columns matter when a record is made: an update does not have to repeat them.
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'ERROR', reason = format('mandatory there and empty here: %s', c.names)
      FROM (SELECT r.target, array_agg(r.external_id ORDER BY r.external_id) AS columns, string_agg(r.external_id, ', ' ORDER BY r.external_id) AS names
              FROM @extschema@.integration_references AS r
             WHERE r.connection_id = run.connection_id AND r.kind = 'column' AND r.attrs ->> 'mandatory' = 'true'
               AND r.external_id IN (SELECT f.target_field FROM pgsync_itsm.mapped_fields(run.connection_id, only_type) AS f)
             GROUP BY r.target, r.external_id) AS c
     WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict IS NULL AND p.class = c.target
       AND p.payload ->> c.columns[1] IS NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_resolve(@extschema@.integration_runs, text) IS 'Resolves the payloads of one entity type and hashes them';

-- UNCHANGED, UPDATE or NEW, by the map alone.
CREATE FUNCTION pgsync_itsm.plan_compare(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    update_matched boolean := pgsync_itsm.setting(run.connection_id, 'update_matched')::boolean;
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET external_id = m.external_id, external_table = m.external_table,
           verdict = CASE WHEN m.state = 'gone' THEN 'MISMATCH'
                          WHEN m.last_sent_hash = p.payload_hash THEN 'UNCHANGED'
                          WHEN m.sync_direction = 'subscribed' AND NOT update_matched
                               AND p.entity_type IN ('it_service', 'software_product', 'software_package') THEN 'UNCHANGED'
                          WHEN m.created_by_us AND p.class IS DISTINCT FROM m.external_table
                               AND p.entity_type IN ('deployment_profile', 'it_service') THEN 'MISMATCH'
                          WHEN p.verdict = 'ERROR' AND p.reason LIKE 'mandatory there%' THEN 'UPDATE'
                          ELSE coalesce(p.verdict, 'UPDATE') END,
           reason = CASE WHEN m.state = 'gone' THEN 'deleted there'
                         WHEN m.created_by_us AND p.class IS DISTINCT FROM m.external_table
                              AND p.entity_type IN ('deployment_profile', 'it_service')
                              THEN format('class changed from %s to %s', m.external_table, p.class)
                         ELSE p.reason END
      FROM @extschema@.integration_sync_map AS m
     WHERE p.run_id = run.id AND p.parent_type IS NULL AND (p.verdict IS NULL OR p.verdict = 'ERROR')
       AND m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id;
    -- A company that is there by name is a reference and not a record of ours.
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'DROP'
     WHERE p.run_id = run.id AND p.entity_type = 'company' AND (p.verdict IS NULL OR p.verdict = 'ERROR' AND run.partial)
       AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS o, LATERAL json_each_text(o.payload) AS v(field, value)
                        WHERE o.run_id = run.id AND o.parent_type IS NULL AND (o.verdict IS NULL OR o.verdict = 'UPDATE')
                          AND v.value = '@company/' || p.entity_id);
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'NEW'
     WHERE p.run_id = run.id AND p.parent_type IS NULL AND p.verdict IS NULL;
    PERFORM pgsync_itsm.plan_collisions(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_compare(@extschema@.integration_runs) IS 'Compares desired with agreed: equal hash is UNCHANGED, no call';

CREATE FUNCTION pgsync_itsm.name_key(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(rtrim(name));
COMMENT ON FUNCTION pgsync_itsm.name_key(text) IS 'A name as the platform compares names: case and trailing blanks do not count';

-- Two records of one name would become one CI there: the engine falls back to a match by name.
CREATE FUNCTION pgsync_itsm.plan_collisions(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH names AS MATERIALIZED (
        SELECT p.entity_type, p.entity_id, p.class, p.verdict, pgsync_itsm.name_key(p.payload ->> 'name') AS key
          FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = (run).id AND p.verdict IN ('NEW', 'UPDATE', 'UNCHANGED', 'MISMATCH') AND p.payload ->> 'name' IS NOT NULL
           AND p.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
    ), twice AS (
        SELECT n.class, n.key FROM names AS n GROUP BY n.class, n.key HAVING count(*) > 1
    )
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = format('another %s here has the name "%s"', replace(p.entity_type, '_', ' '), left(p.payload ->> 'name', 80))
      FROM names AS n JOIN twice AS t ON t.class = n.class AND t.key = n.key
     WHERE p.run_id = (run).id AND p.entity_type = n.entity_type AND p.entity_id = n.entity_id AND n.verdict = 'NEW';
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = format('another %s that is published has the name "%s"', replace(p.entity_type, '_', ' '), left(p.payload ->> 'name', 80))
     WHERE p.run_id = (run).id AND p.verdict = 'NEW' AND p.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
       AND EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                    WHERE m.connection_id = (run).connection_id AND m.entity_type = p.entity_type AND m.entity_id <> p.entity_id
                      AND m.state <> 'gone' AND lower(m.published_name) = pgsync_itsm.name_key(p.payload ->> 'name')
                      AND m.external_table = p.class);
    -- A partial plan does not see the other one of two that were held: it holds what the last full plan held for its name.
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'MISMATCH', reason = h.reason
      FROM @extschema@.integration_run_items AS h
     WHERE p.run_id = (run).id AND (run).partial AND p.verdict = 'NEW'
       AND p.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
       AND h.run_id = (SELECT max(r.id) FROM @extschema@.integration_runs AS r
                        WHERE r.connection_id = (run).connection_id AND NOT r.partial AND r.status IN ('planned', 'needs_approval', 'running', 'done'))
       AND h.entity_type = p.entity_type AND h.entity_id = p.entity_id AND h.action = 'MISMATCH' AND h.external_id IS NULL
       AND pgsync_itsm.name_key(h.label) = pgsync_itsm.name_key(left(p.payload ->> 'name', 300));
END;
COMMENT ON FUNCTION pgsync_itsm.plan_collisions(@extschema@.integration_runs) IS 'Holds new records whose name another record here already has';

-- Questions, second round -------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.wanted_fields(connection_id uuid, entity_type text) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT DISTINCT f.target_field FROM pgsync_itsm.mapped_fields(wanted_fields.connection_id, wanted_fields.entity_type) AS f
              WHERE f.target_field NOT LIKE '\_%'
             UNION SELECT x FROM unnest(ARRAY['sys_id', 'name', 'number', 'sys_class_name', 'duplicate_of', 'correlation_id', 'sys_mod_count']) AS x);
COMMENT ON FUNCTION pgsync_itsm.wanted_fields(uuid, text) IS 'Columns to read back of a record there';

CREATE FUNCTION pgsync_itsm.plan_ask_records(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT p.entity_type, p.class, array_agg(p.entity_id::text) AS ids,
                    array_agg(p.payload ->> 'name') AS names, array_agg(p.payload ->> 'vendor_contract') AS contracts,
                    array_agg(p.payload ->> 'email') AS emails
               FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'NEW' AND p.parent_type IS NULL
              GROUP BY p.entity_type, p.class
    LOOP
        CASE g.entity_type
            WHEN 'company' THEN PERFORM pgsync_itsm.ask(run, 'company', '', g.names);
            WHEN 'contact' THEN PERFORM pgsync_itsm.ask(run, 'user', '', g.emails);
            WHEN 'contract' THEN PERFORM pgsync_itsm.ask(run, 'contract', '', g.contracts);
            WHEN 'software_product' THEN PERFORM pgsync_itsm.ask(run, 'model', g.class, g.names);
            ELSE
                PERFORM pgsync_itsm.ask(run, 'correlation', g.class, g.ids);
                PERFORM pgsync_itsm.ask(run, 'name', g.class, g.names, chunk => 50);
        END CASE;
    END LOOP;
    PERFORM pgsync_itsm.ask(run, 'native_key', '', ARRAY(
        SELECT p.native_key FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.verdict = 'NEW' AND p.parent_type IS NULL
           AND p.entity_type NOT IN ('company', 'contact', 'contract', 'software_product')));
    -- Where relationships are written one by one, nothing but a look keeps the platform from having a row twice.
    IF pgsync_itsm.setting(run.connection_id, 'write_api') = 'instance' OR pgsync_itsm.setting(run.connection_id, 'runs_on_as') = 'relation' THEN
        PERFORM pgsync_itsm.ask(run, 'relation', '', ARRAY(
            SELECT CASE WHEN p.entity_type = 'depends_on' AND pgsync_itsm.setting(run.connection_id, 'csdm_profile') = 'csdm'
                        THEN cm.external_id || '/' || pm.external_id ELSE pm.external_id || '/' || cm.external_id END || '/' || rt.external_id
              FROM pgsync_itsm.plan_records AS p
              JOIN @extschema@.integration_sync_map AS pm ON pm.connection_id = run.connection_id AND pm.entity_type = p.parent_type AND pm.entity_id = p.parent_id
              JOIN @extschema@.integration_sync_map AS cm ON cm.connection_id = run.connection_id AND cm.entity_type = p.child_type AND cm.entity_id = p.child_id
              JOIN @extschema@.integration_references AS rt ON rt.connection_id = run.connection_id AND rt.kind = 'relation_type'
               AND rt.key = lower(pgsync_itsm.relation_type(run.connection_id, p.entity_type, p.attrs ->> 'bidirectional' = 'true'))
             WHERE p.run_id = run.id AND p.parent_type IS NOT NULL AND p.entity_type <> 'covers'
               AND (pgsync_itsm.setting(run.connection_id, 'write_api') = 'instance' OR p.entity_type = 'runs_on')
               AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = run.connection_id
                                  AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id)), chunk => 50);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_records(@extschema@.integration_runs) IS
'Second questions of a plan: is what we do not know there already';

-- What was found of the unmapped records: one row each, the surest evidence first.
CREATE FUNCTION pgsync_itsm.plan_matches(run @extschema@.integration_runs)
RETURNS TABLE (entity_type text, entity_id uuid, external_id text, external_table text, how text, hits bigint, correlation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT ON (e.entity_type, e.entity_id) e.entity_type, e.entity_id, e.external_id, e.external_table, e.how,
           count(*) OVER (PARTITION BY e.entity_type, e.entity_id, e.sure), e.correlation
      FROM (SELECT DISTINCT p.entity_type, p.entity_id, x.external_id, x.external_table, x.attrs ->> 'correlation_id' AS correlation,
                   CASE x.kind WHEN 'native_key' THEN 1 WHEN 'correlation' THEN 2 ELSE 3 END AS sure,
                   CASE x.kind WHEN 'native_key' THEN 'native key' WHEN 'correlation' THEN 'correlation id' ELSE 'name' END AS how
              FROM pgsync_itsm.plan_records AS p
              JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = p.run_id
               AND (x.kind = 'native_key' AND x.key = p.native_key
                 OR x.kind = 'correlation' AND x.target = p.class AND x.key = p.entity_id::text
                 OR x.kind = 'name' AND x.target = p.class AND x.key = p.payload ->> 'name'
                 OR x.kind = 'model' AND p.entity_type = 'software_product' AND x.key = p.payload ->> 'name'
                    AND coalesce(x.attrs ->> 'version', '') = coalesce(p.payload ->> 'version', '')
                 OR x.kind = 'contract' AND p.entity_type = 'contract' AND x.key = p.payload ->> 'vendor_contract'
                    AND coalesce(x.attrs ->> 'vendor', '') = coalesce(p.payload ->> 'vendor', '')
                 OR x.kind = 'company' AND p.entity_type = 'company' AND x.key = p.payload ->> 'name'
                 OR x.kind = 'user' AND p.entity_type = 'contact' AND x.key = p.payload ->> 'email')
             WHERE p.run_id = (plan_matches.run).id AND p.verdict = 'NEW' AND x.external_id IS NOT NULL) AS e
     ORDER BY e.entity_type, e.entity_id, e.sure, e.external_id;
END;
COMMENT ON FUNCTION pgsync_itsm.plan_matches(@extschema@.integration_runs) IS 'What the platform already has of the records that are new to the map';

CREATE FUNCTION pgsync_itsm.plan_decide(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    adopt boolean := pgsync_itsm.setting(run.connection_id, 'on_existing') = 'adopt';
    update_matched boolean := pgsync_itsm.setting(run.connection_id, 'update_matched')::boolean;
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET external_id = m.external_id, external_table = coalesce(m.external_table, p.class),
           verdict = CASE WHEN m.how = 'native key' OR m.how = 'correlation id' AND m.hits = 1 THEN 'UPDATE'
                          WHEN p.entity_type IN ('company', 'contact') THEN 'MATCH'
                          WHEN m.hits > 1 THEN 'MISMATCH'
                          WHEN coalesce(m.correlation, '') NOT IN ('', p.entity_id::text) THEN 'MISMATCH'
                          WHEN NOT adopt THEN 'MISMATCH'
                          WHEN p.entity_type IN ('it_service', 'software_product', 'software_package') AND NOT update_matched THEN 'MATCH'
                          ELSE 'UPDATE' END,
           reason = CASE WHEN m.how = 'name' AND m.hits > 1 THEN format('%s records there have this name', m.hits)
                         WHEN m.how = 'name' AND coalesce(m.correlation, '') NOT IN ('', p.entity_id::text)
                              THEN 'a record there has this name and belongs to something else (correlation id)'
                         WHEN m.how = 'name' AND NOT adopt THEN 'a record there has this name and is not ours (on_existing = hold)'
                         ELSE format('found there by %s', m.how) END
      FROM pgsync_itsm.plan_matches(run) AS m
     WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id;
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'CREATE' WHERE p.run_id = run.id AND p.verdict = 'NEW';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_decide(@extschema@.integration_runs) IS 'Turns what was found there into verdicts';

CREATE FUNCTION pgsync_itsm.plan_ask_old(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT p.entity_type, coalesce(p.external_table, p.class) AS target, array_agg(p.external_id) AS ids
               FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'UPDATE' AND p.parent_type IS NULL
              GROUP BY 1, 2
    LOOP
        PERFORM pgsync_itsm.ask(run, 'record', g.target, g.ids, pgsync_itsm.wanted_fields(run.connection_id, g.entity_type));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_old(@extschema@.integration_runs) IS 'Third questions of a plan: what do the records look like that it is about to change';

CREATE FUNCTION pgsync_itsm.plan_gone(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A known record that does not answer was deleted there: never made again unasked.
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'MISMATCH', reason = 'deleted there'
     WHERE p.run_id = run.id AND p.verdict = 'UPDATE' AND p.parent_type IS NULL
       AND EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'record' AND l.state = 'done' AND p.external_id = ANY (l.keys))
       AND NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'record' AND x.key = p.external_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_gone(@extschema@.integration_runs) IS 'Holds records that the map knows and the platform no longer has';

CREATE FUNCTION pgsync_itsm.plan_relations(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    swap boolean := pgsync_itsm.setting(run.connection_id, 'csdm_profile') = 'csdm';
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET rel_type = k.rel_type
      FROM (SELECT d.entity_type, d.both_ways, pgsync_itsm.relation_type(run.connection_id, d.entity_type, d.both_ways) AS rel_type
              FROM (SELECT DISTINCT q.entity_type, coalesce(q.attrs ->> 'bidirectional' = 'true', false) AS both_ways
                      FROM pgsync_itsm.plan_records AS q WHERE q.run_id = run.id AND q.parent_type IS NOT NULL) AS d) AS k
     WHERE p.run_id = run.id AND p.entity_type = k.entity_type AND coalesce(p.attrs ->> 'bidirectional' = 'true', false) = k.both_ways;
    -- CSDM draws the offering as the container: the ends change places there, not here.
    IF swap THEN
        UPDATE pgsync_itsm.plan_records AS p
           SET parent_type = p.child_type, parent_id = p.child_id, child_type = p.parent_type, child_id = p.parent_id
         WHERE p.run_id = run.id AND p.entity_type = 'depends_on';
    END IF;
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = CASE WHEN m.id IS NOT NULL AND m.rel_type IS NOT DISTINCT FROM p.rel_type THEN 'UNCHANGED'
                          WHEN r.external_id IS NULL AND p.entity_type <> 'covers' THEN 'ERROR'
                          ELSE 'CREATE' END,
           reason = CASE WHEN m.id IS NULL AND r.external_id IS NULL AND p.entity_type <> 'covers'
                         THEN format('there is no relationship type "%s" there', p.rel_type) END,
           external_id = x.external_id
      FROM pgsync_itsm.plan_records AS q
      LEFT JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = q.entity_type AND m.entity_id = q.entity_id
      LEFT JOIN @extschema@.integration_references AS r
        ON r.connection_id = run.connection_id AND r.kind = 'relation_type' AND r.target = '' AND r.key = lower(q.rel_type)
      LEFT JOIN @extschema@.integration_sync_map AS pm
        ON pm.connection_id = run.connection_id AND pm.entity_type = q.parent_type AND pm.entity_id = q.parent_id
      LEFT JOIN @extschema@.integration_sync_map AS cm
        ON cm.connection_id = run.connection_id AND cm.entity_type = q.child_type AND cm.entity_id = q.child_id
      LEFT JOIN LATERAL (SELECT l.external_id FROM pgsync_itsm.lookup_rows AS l
                          WHERE l.run_id = run.id AND l.kind = 'relation'
                            AND l.key = pm.external_id || '/' || cm.external_id || '/' || r.external_id
                          ORDER BY l.external_id LIMIT 1) AS x ON true
     WHERE p.run_id = run.id AND p.parent_type IS NOT NULL
       AND q.run_id = p.run_id AND q.entity_type = p.entity_type AND q.entity_id = p.entity_id;
    -- A row that is there already, made by somebody, is known from now on and not made again.
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'MATCH', reason = 'the relationship is there already'
     WHERE p.run_id = run.id AND p.parent_type IS NOT NULL AND p.verdict = 'CREATE' AND p.external_id IS NOT NULL;
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'SKIP', reason = format('its %s "%s" is not published: %s', replace(b.entity_type, '_', ' '), left(coalesce(b.name, b.key), 80), b.reason)
      FROM (SELECT q.entity_type AS rel, q.entity_id AS rel_id, e.type AS entity_type, e.key, o.name, coalesce(o.reason, 'not in scope') AS reason
              FROM pgsync_itsm.plan_records AS q
             CROSS JOIN LATERAL (VALUES (q.parent_type, q.parent_id, q.parent_key), (q.child_type, q.child_id, q.child_key)) AS e(type, id, key)
              LEFT JOIN pgsync_itsm.plan_records AS o ON o.run_id = q.run_id AND o.entity_type = e.type AND o.entity_id = e.id
              LEFT JOIN @extschema@.integration_sync_map AS m
                ON m.connection_id = run.connection_id AND m.entity_type = e.type AND m.entity_id = e.id AND m.state <> 'gone'
             WHERE q.run_id = run.id AND q.parent_type IS NOT NULL AND q.verdict = 'CREATE'
               -- What was left out by a rule takes its new relationships with it, published before or not.
               AND CASE WHEN o.verdict = 'SKIP' THEN true
                        ELSE coalesce(o.verdict, 'SKIP') NOT IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MATCH') AND m.id IS NULL END) AS b
     WHERE p.run_id = run.id AND p.entity_type = b.rel AND p.entity_id = b.rel_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_relations(@extschema@.integration_runs) IS
'Relationships: presence by (parent, child, type) is the comparison; an end that is not published takes its relationships with it';
