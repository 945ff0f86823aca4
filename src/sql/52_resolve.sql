-- Planning, second half: payloads resolved and compared with the map, then what the platform already has, then items.

-- A company that the platform lacks and the sources have is made there: a partial plan reads them only then.
CREATE FUNCTION pgsync_itsm.plan_companies(run @extschema@.integration_runs, wanted text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF 'company' = ANY (wanted) AND EXISTS (
           SELECT FROM pgsync_itsm.plan_records AS p
            CROSS JOIN LATERAL json_each_text(p.payload) AS v(field, value)
             JOIN @extschema@.integration_references AS r
               ON r.connection_id = run.connection_id AND r.kind = 'company' AND r.target = '' AND r.key = lower(v.value)
            WHERE p.run_id = run.id AND p.verdict IS NULL AND p.entity_type <> 'company' AND r.external_id IS NULL) THEN
        PERFORM pgsync_itsm.read_records(run, 'company', NULL, 'key');
        PERFORM pgsync_itsm.plan_rules(run);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_companies(@extschema@.integration_runs, text[]) IS 'Reads the companies if a partial plan names one that is not there';

-- The service that the customer chose for all offerings; one that is not there, or there twice, is left out.
CREATE FUNCTION pgsync_itsm.plan_offering_parent(run @extschema@.integration_runs, only_type text, mapping text) RETURNS void
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
       SET payload = x.payload, payload_hash = pgsync_itsm.content_hash(x.payload::text || '|' || p.class || '|' || mapping),
           warnings = CASE WHEN parent IS NULL THEN coalesce(p.warnings, '[]') || to_jsonb(format('parent: no technical service there is called %s', chosen))
                           ELSE p.warnings END
      FROM pgsync_itsm.plan_records AS q
     CROSS JOIN LATERAL (SELECT json_object_agg(v.field, v.value ORDER BY v.ord) AS payload
                           FROM (SELECT e.field, e.value, e.ord FROM json_each_text(q.payload) WITH ORDINALITY AS e(field, value, ord)
                                 UNION ALL SELECT 'parent', parent, 1000000 WHERE parent IS NOT NULL) AS v) AS x
     WHERE q.run_id = run.id AND q.entity_type = only_type AND q.class = 'service_offering' AND q.verdict = 'CREATE' AND q.payload IS NOT NULL
       AND p.run_id = q.run_id AND p.entity_type = q.entity_type AND p.entity_id = q.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_offering_parent(@extschema@.integration_runs, text, text) IS 'Puts the chosen parent service into the payloads of service offerings';

-- One row a field that a payload may hold, by class: what it is, and what is known of its column there.
CREATE TYPE pgsync_itsm.plan_field AS (class text, field text, kind text, on_unresolved text, known boolean, there boolean, max_length integer);
COMMENT ON TYPE pgsync_itsm.plan_field IS 'A field of a class: its kind by the mapping; known: the columns of that class are, there: it is among them';

CREATE FUNCTION pgsync_itsm.plan_fields(run @extschema@.integration_runs, only_type text) RETURNS pgsync_itsm.plan_field[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT ON (k.class, f.target_field)
               ROW(k.class, f.target_field, f.kind, f.on_unresolved, k.known, c.external_id IS NOT NULL,
                   CASE WHEN f.kind = 'text' THEN nullif((c.attrs ->> 'max_length')::integer, 0) END)::pgsync_itsm.plan_field
          FROM (SELECT d.class, EXISTS (SELECT FROM @extschema@.integration_references AS r
                                         WHERE r.connection_id = run.connection_id AND r.kind = 'column' AND r.target = d.class
                                           AND r.external_id IS NOT NULL) AS known
                  FROM (SELECT DISTINCT coalesce(p.class, '') AS class FROM pgsync_itsm.plan_records AS p
                         WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict IS NULL) AS d) AS k
         CROSS JOIN pgsync_itsm.mapped_fields(run.connection_id, only_type) AS f
          LEFT JOIN @extschema@.integration_references AS c
            ON c.connection_id = run.connection_id AND c.kind = 'column' AND c.target = k.class AND c.key = f.target_field
         WHERE f.target_class IN ('*', k.class)
         ORDER BY k.class, f.target_field, f.target_class = '*');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_fields(@extschema@.integration_runs, text) IS 'The fields of what a plan resolves of one entity type';

-- A label may name alternatives, best first: instances differ in what their lists hold.
CREATE FUNCTION pgsync_itsm.choice_value(connection_id uuid, class text, field text, labels text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT x.external_id FROM unnest(string_to_array(labels, '|')) WITH ORDINALITY AS o(label, n)
              JOIN @extschema@.integration_references AS x
                ON x.connection_id = choice_value.connection_id AND x.kind = 'choice' AND x.target = class
               AND split_part(x.key, '/', 1) = field AND (lower(x.label) = lower(o.label) OR x.external_id = o.label)
             ORDER BY o.n, lower(x.label) = lower(o.label) DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.choice_value(uuid, text, text, text) IS 'Value of a choice list there by its label';

CREATE FUNCTION pgsync_itsm.answer_warning(f pgsync_itsm.plan_field, value text, result text, matches integer) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN value = '' OR f.on_unresolved = 'ignore' THEN NULL
    WHEN f.kind IN ('user', 'agent') AND matches > 1 THEN format('%s: %s users there have %s', f.field, matches, value)
    WHEN f.kind = 'choice' AND result IS NULL THEN format('%s: %s is not among the choices there', f.field, replace(value, '|', ' or '))
    WHEN f.kind <> 'choice' AND (result IS NULL OR f.kind IN ('user', 'agent') AND coalesce(matches, 0) <> 1)
         THEN format('%s: no %s there is called %s', f.field, replace(f.kind, '_', ' '), value) END;
COMMENT ON FUNCTION pgsync_itsm.answer_warning(pgsync_itsm.plan_field, text, text, integer) IS 'What is to be said of a reference or choice that does not resolve; NULL: nothing';

-- What is to be looked up is looked up once for each different value; there are few of them, however many records.
CREATE FUNCTION pgsync_itsm.plan_answers(run @extschema@.integration_runs, only_type text, fields pgsync_itsm.plan_field[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    create_companies boolean := pgsync_itsm.setting(run.connection_id, 'create_companies')::boolean;
    fallback text := (SELECT r.external_id FROM @extschema@.integration_references AS r
                       WHERE r.connection_id = run.connection_id AND r.kind = 'user' AND r.target = ''
                         AND r.key = lower(pgsync_itsm.setting(run.connection_id, 'default_owner')) AND r.matches = 1);
BEGIN
    RETURN (
        SELECT jsonb_object_agg(w.class || '/' || w.field || '/' || w.value,
                                jsonb_build_array(w.result, pgsync_itsm.answer_warning(w.f, w.value, w.result, w.matches)))
          FROM (SELECT d.class, d.field, d.value, d.f, r.matches,
                       CASE WHEN d.kind = 'choice' THEN pgsync_itsm.choice_value(run.connection_id, d.class, d.field, d.value)
                            WHEN d.kind = 'company' THEN coalesce(r.external_id,
                                 -- one that was matched has another name there: it is known by the map
                                 (SELECT coalesce(m.external_id, '@company/' || p.entity_id)
                                    FROM pgsync_itsm.plan_records AS p
                                    LEFT JOIN @extschema@.integration_sync_map AS m
                                      ON m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id
                                     AND m.sync_direction = 'subscribed' AND m.state <> 'gone'
                                   WHERE p.run_id = run.id AND p.entity_type = 'company' AND lower(p.name) = lower(d.value)
                                     AND coalesce(p.verdict, 'CREATE') IN ('CREATE', 'UPDATE', 'UNCHANGED') AND create_companies
                                   ORDER BY p.entity_id LIMIT 1))
                            WHEN d.kind = 'user' AND coalesce(r.matches, 0) <> 1 THEN CASE WHEN d.field = 'it_application_owner' THEN fallback END
                            WHEN d.kind IN ('agent', 'group', 'contract_model') AND coalesce(r.matches, 0) <> 1 THEN NULL
                            ELSE r.external_id END AS result
                  FROM (SELECT DISTINCT v.class, v.field, f.kind, v.value, f
                          FROM (SELECT coalesce(p.class, '') AS class, e.field, coalesce(e.value, '') AS value
                                  FROM pgsync_itsm.plan_records AS p CROSS JOIN LATERAL json_each_text(p.payload) AS e(field, value)
                                 WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict IS NULL
                                OFFSET 0) AS v
                          JOIN unnest(fields) AS f ON f.class = v.class AND f.field = v.field
                         WHERE f.kind NOT IN ('text', 'date', 'reference')) AS d
                  LEFT JOIN @extschema@.integration_references AS r
                    ON r.connection_id = run.connection_id AND r.kind = CASE WHEN d.kind LIKE 'life_cycle%' THEN 'life_cycle' ELSE d.kind END
                   AND r.target = CASE WHEN d.kind LIKE 'life_cycle%' THEN d.kind ELSE '' END AND r.key = lower(d.value)
                OFFSET 0) AS w);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_answers(@extschema@.integration_runs, text, pgsync_itsm.plan_field[]) IS
'What the references and choices in the payloads of one entity type resolve to: class/field/value to result and warning';

CREATE FUNCTION pgsync_itsm.plan_field_rules(fields pgsync_itsm.plan_field[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT jsonb_object_agg(f.class || '/' || f.field,
                   CASE WHEN f.field LIKE '\_%' THEN 'plain'
                        WHEN f.known AND NOT f.there THEN 'absent'
                        WHEN f.kind NOT IN ('text', 'date', 'reference') THEN 'answer'
                        WHEN f.max_length IS NULL THEN 'plain'
                        ELSE f.max_length::text END)
              FROM unnest(fields) AS f);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_field_rules(pgsync_itsm.plan_field[]) IS
'How each class/field is resolved: plain, absent (there is no such column there), answer (look-up or choice), or the length of a text at the most';

-- Of what is not so by look-up: a column that is not there, a text that is too long.
CREATE FUNCTION pgsync_itsm.field_warning(rule text, unresolved text, class text, field text, value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF value = '' OR unresolved = 'ignore' THEN
        RETURN NULL;
    END IF;
    RETURN CASE rule WHEN 'absent' THEN format('column %s does not exist in %s there', field, class)
                     ELSE format('%s: cut to %s characters', field, rule) END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.field_warning(text, text, text, text, text) IS 'What is to be said of a value whose column is not there or too short';

CREATE FUNCTION pgsync_itsm.plan_payloads(run @extschema@.integration_runs, only_type text, version text, mapping text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fields pgsync_itsm.plan_field[] := pgsync_itsm.plan_fields(run, only_type);
    rules jsonb := pgsync_itsm.plan_field_rules(fields);
    answers jsonb := pgsync_itsm.plan_answers(run, only_type, fields);
    unresolved jsonb := (SELECT jsonb_object_agg(f.class || '/' || f.field, f.on_unresolved) FROM unnest(fields) AS f WHERE f.on_unresolved <> 'warn');
BEGIN
    -- Field by field within its record: no join, no sort, whatever the number of records.
    UPDATE pgsync_itsm.plan_records AS p
       SET (payload, payload_hash, source_version, warnings, verdict, reason) = (
           SELECT r.payload, pgsync_itsm.content_hash(r.payload::text || '|' || coalesce(p.class, '') || '|' || mapping),
                  -- A company that is yet to be made has no id to be agreed on.
                  CASE WHEN r.payload::text NOT LIKE '%"@company/%' THEN version END,
                  r.warnings, CASE WHEN r.fatal IS NULL THEN 'CREATE' ELSE 'ERROR' END, r.fatal
             FROM (SELECT json_object_agg(w.field, w.result) FILTER (WHERE w.result <> '') AS payload,
                          jsonb_agg(w.warning) FILTER (WHERE w.warning IS NOT NULL) AS warnings,
                          string_agg(CASE WHEN w.cut THEN format('%s has %s characters, the column there holds %s', w.field, length(w.value), w.rule)
                                          ELSE format('%s: %s cannot be resolved there', w.field, w.value) END, '; ')
                              FILTER (WHERE w.cut AND w.field IN ('name', 'vendor_contract')
                                         OR w.result IS NULL AND w.value <> '' AND unresolved ->> w.path = 'error') AS fatal
                     FROM (SELECT j.field, j.value, j.rule, j.path, j.cut,
                                  CASE WHEN j.rule = 'answer' THEN j.answer ->> 0 WHEN j.rule = 'absent' THEN NULL
                                       WHEN j.cut THEN left(j.value, j.rule::integer) ELSE j.value END AS result,
                                  CASE WHEN j.rule = 'answer' THEN j.answer ->> 1
                                       WHEN j.rule = 'absent' OR j.cut
                                       THEN pgsync_itsm.field_warning(j.rule, unresolved ->> j.path, p.class, j.field, j.value) END AS warning
                             FROM (SELECT e.field, e.value, e.rule, e.path,
                                          CASE WHEN e.rule = 'answer' THEN answers -> (e.path || '/' || e.value) END AS answer,
                                          e.rule NOT IN ('plain', 'absent', 'answer') AND length(e.value) > e.rule::integer AS cut
                                     FROM (SELECT x.field, coalesce(x.value, '') AS value, coalesce(p.class, '') || '/' || x.field AS path,
                                                  coalesce(rules ->> (coalesce(p.class, '') || '/' || x.field), 'plain') AS rule
                                             FROM json_each_text(p.payload) AS x(field, value)
                                           OFFSET 0) AS e
                                   OFFSET 0) AS j
                           OFFSET 0) AS w) AS r)
     WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict IS NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_payloads(@extschema@.integration_runs, text, text, text) IS
'Payloads of one entity type with references and choices resolved, hashed; what is left out and what makes a record unsendable';

-- Mandatory columns matter when a record is made: an update does not have to repeat them.
CREATE FUNCTION pgsync_itsm.plan_mandatory(run @extschema@.integration_runs, only_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    classes text[] := ARRAY(SELECT DISTINCT p.class FROM pgsync_itsm.plan_records AS p
                             WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict = 'CREATE' AND p.class IS NOT NULL);
    names text[] := ARRAY(SELECT DISTINCT lower(f.target_field) FROM pgsync_itsm.mapped_fields(run.connection_id, only_type) AS f);
    c record;
BEGIN
    FOR c IN SELECT r.target AS class, r.external_id AS name FROM @extschema@.integration_references AS r
              WHERE r.connection_id = run.connection_id AND r.kind = 'column' AND r.target = ANY (classes) AND r.key = ANY (names)
                AND r.attrs ->> 'mandatory' = 'true'
              ORDER BY r.target, r.key
    LOOP
        UPDATE pgsync_itsm.plan_records AS p
           SET verdict = 'ERROR', reason = format('mandatory there and empty here: %s', c.name)
         WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict = 'CREATE' AND p.class = c.class
           AND p.payload ->> c.name IS NULL;
    END LOOP;
    -- HaloITSM would take it; nothing but that tells one contract of a vendor from another
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'ERROR', reason = 'mandatory and empty here: ref'
     WHERE only_type = 'contract' AND p.run_id = run.id AND p.entity_type = only_type AND p.verdict = 'CREATE' AND p.class = 'supplier_contract'
       AND p.payload ->> 'ref' IS NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_mandatory(@extschema@.integration_runs, text) IS 'Refuses new records without a value for a column that is mandatory there';

CREATE FUNCTION pgsync_itsm.plan_resolve(run @extschema@.integration_runs, only_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text;
    mapping text;
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = only_type AND p.verdict IS NULL) THEN
        RETURN;
    END IF;
    mapping := pgsync_itsm.mapping_version(run.connection_id, only_type);
    -- A partial plan does not look at everything: the next one in full resolves what it sent once more.
    IF NOT run.partial THEN
        version := (SELECT v.version FROM pgsync_itsm.plan_versions(run) AS v WHERE v.entity_type = only_type);
    END IF;
    PERFORM pgsync_itsm.plan_payloads(run, only_type, version, mapping);
    PERFORM pgsync_itsm.plan_offering_parent(run, only_type, mapping);
    PERFORM pgsync_itsm.plan_mandatory(run, only_type);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_resolve(@extschema@.integration_runs, text) IS 'Resolves the payloads of one entity type and hashes them';

-- UNCHANGED, UPDATE or CREATE, by the map alone.
CREATE FUNCTION pgsync_itsm.plan_compare(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    update_matched boolean := pgsync_itsm.setting(run.connection_id, 'update_matched')::boolean;
    wanted text[];
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET external_id = m.external_id, external_table = m.external_table,
           verdict = CASE WHEN m.state = 'gone' THEN 'MISMATCH'
                          WHEN m.last_sent_hash = p.payload_hash THEN 'UNCHANGED'
                          WHEN m.sync_direction = 'subscribed'
                               AND (p.entity_type IN ('company', 'contact')
                                    OR NOT update_matched AND p.entity_type IN ('it_service', 'software_product', 'software_package')) THEN 'UNCHANGED'
                          WHEN m.created_by_us AND p.class IS DISTINCT FROM m.external_table
                               AND p.entity_type IN ('deployment_profile', 'it_service') THEN 'MISMATCH'
                          WHEN p.verdict = 'ERROR' AND p.reason NOT LIKE 'mandatory there%' THEN 'ERROR'
                          ELSE 'UPDATE' END,
           reason = CASE WHEN m.state = 'gone' THEN 'deleted there'
                         WHEN m.created_by_us AND p.class IS DISTINCT FROM m.external_table
                              AND p.entity_type IN ('deployment_profile', 'it_service')
                              THEN format('class changed from %s to %s', m.external_table, p.class)
                         ELSE p.reason END
      FROM @extschema@.integration_sync_map AS m
     WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'ERROR')
       AND m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id;
    PERFORM pgsync_itsm.plan_remember(run);
    -- A company that is there by name is a reference and not a record of ours.
    wanted := ARRAY(SELECT DISTINCT v.value
                      FROM (SELECT o.payload FROM pgsync_itsm.plan_records AS o
                             WHERE o.run_id = run.id AND o.verdict IN ('CREATE', 'UPDATE') AND o.payload::text LIKE '%"@company/%'
                            OFFSET 0) AS o
                     CROSS JOIN LATERAL json_each_text(o.payload) AS v(field, value)
                     WHERE v.value LIKE '@company/%');
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'DROP'
     WHERE p.run_id = run.id AND p.entity_type = 'company' AND (p.verdict = 'CREATE' OR p.verdict = 'ERROR' AND run.partial)
       AND '@company/' || p.entity_id <> ALL (wanted);
    IF EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'CREATE') THEN
        PERFORM pgsync_itsm.plan_collisions(run);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_compare(@extschema@.integration_runs) IS 'Compares desired with agreed: equal hash is UNCHANGED, no call';

CREATE FUNCTION pgsync_itsm.plan_remember(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF run.partial OR NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p
                                   WHERE p.run_id = run.id AND p.verdict = 'UNCHANGED' AND p.payload_hash IS NOT NULL) THEN
        RETURN;
    END IF;
    UPDATE @extschema@.integration_sync_map AS m SET source_hash = p.source_hash, source_version = p.source_version
      FROM pgsync_itsm.plan_records AS p
     WHERE p.run_id = run.id AND p.verdict = 'UNCHANGED' AND p.payload_hash IS NOT NULL
       AND m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id
       AND m.last_sent_hash = p.payload_hash;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_remember(@extschema@.integration_runs) IS
'Writes down that a source row as it is now was resolved and gave what was agreed, so that the next plan need not';

CREATE FUNCTION pgsync_itsm.name_key(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(rtrim(name));
COMMENT ON FUNCTION pgsync_itsm.name_key(text) IS 'A name as the platform compares names: case and trailing blanks do not count';

-- Two records of one name would become one CI there: the engine falls back to a match by name.
CREATE FUNCTION pgsync_itsm.plan_collisions(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_full bigint;
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = format('another %s here has the name "%s"', replace(p.entity_type, '_', ' '), left(p.payload ->> 'name', 80))
      FROM (SELECT q.entity_type, q.entity_id, q.verdict,
                   count(*) OVER (PARTITION BY q.class, pgsync_itsm.name_key(q.payload ->> 'name')) AS n
              FROM pgsync_itsm.plan_records AS q
             WHERE q.run_id = run.id AND q.verdict IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MISMATCH') AND q.payload ->> 'name' IS NOT NULL
               AND q.class IS NOT NULL AND q.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')) AS t
     WHERE t.n > 1 AND t.verdict = 'CREATE' AND p.run_id = run.id AND p.entity_type = t.entity_type AND p.entity_id = t.entity_id;
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', reason = format('another %s that is published has the name "%s"', replace(p.entity_type, '_', ' '), left(p.payload ->> 'name', 80))
     WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
       AND EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                    WHERE m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id <> p.entity_id
                      AND m.state <> 'gone' AND lower(m.published_name) = pgsync_itsm.name_key(p.payload ->> 'name')
                      AND m.external_table = p.class AND m.parent_id IS NULL);
    -- A partial plan does not see the other one of two that were held: it holds what the last full plan held for its name.
    IF run.partial THEN
        SELECT max(r.id) INTO last_full FROM @extschema@.integration_runs AS r
         WHERE r.connection_id = run.connection_id AND NOT r.partial AND r.kind IN ('preview', 'publish')
           AND r.status IN ('planned', 'needs_approval', 'running', 'done');
        UPDATE pgsync_itsm.plan_records AS p SET verdict = 'MISMATCH', reason = h.reason
          FROM @extschema@.integration_run_items AS h
         WHERE p.run_id = run.id AND p.verdict = 'CREATE'
           AND p.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
           AND h.run_id = last_full
           AND h.entity_type = p.entity_type AND h.entity_id = p.entity_id AND h.action = 'MISMATCH' AND h.external_id IS NULL
           AND pgsync_itsm.name_key(h.label) = pgsync_itsm.name_key(left(p.payload ->> 'name', 300));
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_collisions(@extschema@.integration_runs) IS 'Holds new records whose name another record here already has';

-- Questions, second round -------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.wanted_fields(connection_id uuid, entity_type text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(SELECT DISTINCT f.target_field FROM pgsync_itsm.mapped_fields(wanted_fields.connection_id, wanted_fields.entity_type) AS f
                  WHERE f.target_field NOT LIKE '\_%'
                 UNION SELECT x FROM unnest(ARRAY['sys_id', 'name', 'number', 'sys_class_name', 'duplicate_of', 'correlation_id', 'sys_mod_count', 'sys_updated_by']) AS x);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.wanted_fields(uuid, text) IS 'Columns to read back of a record there';

CREATE FUNCTION pgsync_itsm.new_values(run @extschema@.integration_runs, entity_type text, class text, field text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(SELECT u.value
                   FROM (SELECT CASE field WHEN '' THEN pgsync_itsm.tag_of(p.entity_id, p.payload, p.class) WHEN '*' THEN pgsync_itsm.name_of(p.entity_type, p.payload)
                                           ELSE p.payload ->> field END AS value
                           FROM pgsync_itsm.plan_records AS p
                          WHERE p.run_id = run.id AND p.entity_type = new_values.entity_type AND p.class IS NOT DISTINCT FROM new_values.class
                            AND p.verdict = 'CREATE') AS v
                  -- blanks at the end do not make another name
                  CROSS JOIN LATERAL (SELECT v.value UNION ALL SELECT rtrim(v.value) WHERE v.value LIKE '% ') AS u(value));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.new_values(@extschema@.integration_runs, text, text, text) IS
'One field, or (empty) what it is known by as ours, or (*) its name, of all that a plan would create of an entity type and class';

CREATE FUNCTION pgsync_itsm.plan_ask_records(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT DISTINCT p.entity_type, p.class FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'CREATE'
    LOOP
        CASE g.entity_type
            WHEN 'company' THEN PERFORM pgsync_itsm.ask(run, 'company', '', pgsync_itsm.new_values(run, g.entity_type, g.class, 'name'));
            WHEN 'contact' THEN PERFORM pgsync_itsm.ask(run, 'user', '', pgsync_itsm.new_values(run, g.entity_type, g.class, '*'));
            WHEN 'contract' THEN PERFORM pgsync_itsm.ask(run, 'contract', '', pgsync_itsm.new_values(run, g.entity_type, g.class, '*'));
            WHEN 'software_product' THEN PERFORM pgsync_itsm.ask(run, 'model', g.class, pgsync_itsm.new_values(run, g.entity_type, g.class, 'name'));
            ELSE
                PERFORM pgsync_itsm.ask(run, 'correlation', g.class, pgsync_itsm.new_values(run, g.entity_type, g.class, ''));
                PERFORM pgsync_itsm.ask(run, 'name', g.class, pgsync_itsm.new_values(run, g.entity_type, g.class, 'name'), chunk => 50);
        END CASE;
    END LOOP;
    -- HaloITSM keeps no native key: what is ours is known by its tag
    PERFORM pgsync_itsm.ask(run, 'native_key', '', ARRAY(
        SELECT p.native_key FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND NOT pgsync_itsm.is_halo(run.connection_id)
           AND p.entity_type NOT IN ('company', 'contact', 'contract', 'software_product')));
    PERFORM pgsync_itsm.plan_ask_links(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_records(@extschema@.integration_runs) IS
'Second questions of a plan: is what we do not know there already';

-- Where relationships are written one by one, nothing but a look keeps the platform from having a row twice.
CREATE FUNCTION pgsync_itsm.plan_ask_links(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    instance boolean := pgsync_itsm.setting(run.connection_id, 'write_api') = 'instance';
BEGIN
    IF NOT instance AND pgsync_itsm.setting(run.connection_id, 'runs_on_as') <> 'relation' OR pgsync_itsm.is_halo(run.connection_id) THEN
        RETURN;
    END IF;
    PERFORM pgsync_itsm.ask(run, 'relation', '', ARRAY(
        SELECT pm.external_id || '/' || cm.external_id || '/' || rt.external_id
          FROM pgsync_itsm.plan_links AS p
          JOIN @extschema@.integration_sync_map AS pm ON pm.connection_id = run.connection_id AND pm.entity_type = p.parent_type AND pm.entity_id = p.parent_id
          JOIN @extschema@.integration_sync_map AS cm ON cm.connection_id = run.connection_id AND cm.entity_type = p.child_type AND cm.entity_id = p.child_id
          JOIN @extschema@.integration_references AS rt
            ON rt.connection_id = run.connection_id AND rt.kind = 'relation_type' AND rt.target = '' AND rt.key = lower(p.rel_type)
         WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND NOT p.in_map AND p.entity_type <> 'covers'
           AND (instance OR p.entity_type = 'runs_on')), chunk => 50);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_links(@extschema@.integration_runs) IS 'Are relationships there already that would be written one by one';

CREATE FUNCTION pgsync_itsm.match_rejected(connection_id uuid, entity_type text, entity_id uuid, external_id text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM @extschema@.integration_matches AS d
                    WHERE d.connection_id = match_rejected.connection_id AND d.entity_id = match_rejected.entity_id AND d.entity_type = match_rejected.entity_type
                      AND d.decided_by IS NOT NULL AND (d.decision = 'create' OR d.decision = 'rejected' AND d.external_id = match_rejected.external_id));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_rejected(uuid, text, uuid, text) IS 'Has somebody said that this record there is another one';

-- What was found of the unmapped records: one row each, the surest evidence first.
CREATE FUNCTION pgsync_itsm.plan_matches(run @extschema@.integration_runs)
RETURNS TABLE (entity_type text, entity_id uuid, external_id text, external_table text, how text, hits bigint, correlation text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.external_id IS NOT NULL) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH evidence AS MATERIALIZED (
        SELECT p.entity_type, p.entity_id, k.kind, k.target, k.key, k.second, k.sure, k.how
          FROM pgsync_itsm.plan_records AS p
         CROSS JOIN LATERAL (
               SELECT 'native_key', '', p.native_key, NULL, 1, 'native key'
               UNION ALL SELECT 'correlation', p.class, pgsync_itsm.tag_of(p.entity_id, p.payload, p.class), NULL, 2,
                                CASE WHEN p.payload ->> 'inventory_number' IS NULL THEN 'correlation id' ELSE 'asset tag' END
               UNION ALL SELECT v.kind, v.target, u.key, v.second, 3, 'name'
                 FROM (SELECT CASE p.entity_type WHEN 'software_product' THEN 'model' WHEN 'contract' THEN 'contract' WHEN 'company' THEN 'company'
                                                 WHEN 'contact' THEN 'user' ELSE 'name' END,
                              CASE WHEN p.entity_type IN ('contract', 'company', 'contact') THEN '' ELSE p.class END,
                              pgsync_itsm.name_of(p.entity_type, p.payload),
                              CASE p.entity_type WHEN 'software_product' THEN coalesce(p.payload ->> 'version', '')
                                                 WHEN 'contract' THEN coalesce(pgsync_itsm.vendor_of(p.payload), '') END) AS v(kind, target, key, second)
                CROSS JOIN LATERAL (SELECT v.key UNION ALL SELECT rtrim(v.key) WHERE v.key LIKE '% ') AS u(key))
               AS k(kind, target, key, second, sure, how)
         WHERE p.run_id = run.id AND p.verdict = 'CREATE'
    )
    SELECT DISTINCT ON (e.entity_type, e.entity_id) e.entity_type, e.entity_id, e.external_id, e.external_table, e.how,
           count(*) OVER (PARTITION BY e.entity_type, e.entity_id, e.sure), e.correlation
      FROM (SELECT DISTINCT v.entity_type, v.entity_id, x.external_id, x.external_table, x.attrs ->> 'correlation_id' AS correlation, v.sure, v.how
              FROM evidence AS v
              JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = v.kind AND x.target = v.target AND x.key = v.key
             WHERE x.external_id IS NOT NULL
               -- of one name, and not the same: somebody said so, and nothing but a CI is identified by its name
               AND NOT (v.kind = 'model' AND EXISTS (
                        SELECT FROM @extschema@.integration_matches AS c
                         WHERE c.connection_id = run.connection_id AND c.entity_id = v.entity_id AND c.entity_type = v.entity_type
                           AND c.decision = 'create' AND c.decided_by IS NOT NULL))
               -- the platform keeps the native key of a CI that we have deleted
               AND NOT (v.kind = 'native_key' AND EXISTS (
                        SELECT FROM @extschema@.integration_runs AS b
                          JOIN @extschema@.integration_run_items AS d ON d.run_id = b.id AND d.entity_id = v.entity_id AND d.entity_type = v.entity_type AND d.action = 'DELETE'
                         WHERE b.connection_id = run.connection_id AND (b.kind = 'rollback' OR b.to_delete > 0) AND d.state IN ('done', 'unchanged') AND d.external_id = x.external_id))
               AND (v.second IS NULL OR v.second = coalesce(x.attrs ->> CASE v.kind WHEN 'model' THEN 'version' ELSE 'vendor' END, ''))) AS e
     ORDER BY e.entity_type, e.entity_id, e.sure, e.external_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_matches(@extschema@.integration_runs) IS 'What the platform already has of the records that are new to the map';

CREATE FUNCTION pgsync_itsm.is_in_doubt(connection_id uuid, entity_type text, entity_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                    WHERE i.in_doubt AND i.connection_id = is_in_doubt.connection_id AND i.entity_id = is_in_doubt.entity_id
                      AND i.entity_type = is_in_doubt.entity_type AND i.action = 'CREATE' AND i.state IN ('cancelled', 'dead'));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.is_in_doubt(uuid, text, uuid) IS
'Was this record sent before, by an attempt that ended without an answer: what is there by its name may be ours';

CREATE FUNCTION pgsync_itsm.plan_decide(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    adopt boolean := pgsync_itsm.setting(run.connection_id, 'on_existing') = 'adopt';
    update_matched boolean := pgsync_itsm.setting(run.connection_id, 'update_matched')::boolean;
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET external_id = m.external_id, external_table = coalesce(m.external_table, p.class),
           verdict = CASE WHEN m.how = 'native key' OR m.how IN ('correlation id', 'asset tag') AND m.hits = 1 THEN 'UPDATE'
                          WHEN m.ours THEN 'UPDATE'
                          WHEN p.entity_type = 'contact' AND (m.hits > 1 OR m.sharers > 1) THEN 'MISMATCH'
                          WHEN p.entity_type IN ('company', 'contact') THEN 'MATCH'
                          WHEN m.hits > 1 THEN 'MISMATCH'
                          WHEN m.foreign_id OR m.rejected THEN 'MISMATCH'
                          WHEN NOT adopt THEN 'MISMATCH'
                          WHEN p.entity_type IN ('it_service', 'software_product', 'software_package') AND NOT update_matched THEN 'MATCH'
                          ELSE 'UPDATE' END,
           reason = CASE WHEN p.entity_type = 'contact' AND m.hits = 1 AND m.sharers > 1 THEN format('%s contacts here have this e-mail', m.sharers)
                         WHEN m.ours THEN 'an earlier attempt had made it'
                         WHEN m.how = 'name' AND m.hits > 1 THEN format(CASE p.entity_type WHEN 'contact' THEN '%s users there have this e-mail' ELSE '%s records there have this name' END, m.hits)
                         WHEN m.how = 'name' AND m.foreign_id
                              THEN 'a record there has this name and belongs to something else (correlation id)'
                         WHEN m.rejected THEN 'a record there has this name, and itsm_reject_match() said that it is another one'
                         WHEN m.how = 'name' AND NOT adopt THEN 'a record there has this name and is not ours (on_existing = hold)'
                         ELSE format('found there by %s', m.how) END
      FROM (SELECT x.*, f.foreign_id,
                   CASE x.entity_type WHEN 'contact' THEN count(*) OVER (PARTITION BY x.entity_type, x.external_id)
                        + (SELECT count(*) FROM @extschema@.integration_sync_map AS o
                            WHERE o.external_id = x.external_id AND o.connection_id = run.connection_id AND o.parent_id IS NULL AND o.entity_type = 'contact' AND o.entity_id <> x.entity_id) END AS sharers,
                   x.how = 'name' AND x.entity_type NOT IN ('company', 'contact')
                   AND pgsync_itsm.match_rejected(run.connection_id, x.entity_type, x.entity_id, x.external_id) AS rejected,
                   CASE WHEN x.how = 'name' AND x.hits = 1 AND NOT f.foreign_id
                        THEN pgsync_itsm.is_in_doubt(run.connection_id, x.entity_type, x.entity_id) ELSE false END AS ours
              FROM pgsync_itsm.plan_matches(run) AS x
             CROSS JOIN LATERAL (SELECT coalesce(x.correlation, '') NOT IN ('', x.entity_id::text)) AS f(foreign_id)) AS m
     WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id;
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
               FROM pgsync_itsm.plan_records AS p
              WHERE p.run_id = run.id AND p.external_id IS NOT NULL
                AND (p.verdict = 'UPDATE' OR run.kind = 'preview' AND p.verdict = 'MISMATCH')
                AND p.external_id NOT IN (SELECT k.id FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(id)
                                           WHERE l.run_id = run.id AND l.kind = 'record' AND k.id IS NOT NULL)
              GROUP BY 1, 2
    LOOP
        PERFORM pgsync_itsm.ask(run, 'record', g.target, g.ids, pgsync_itsm.wanted_fields(run.connection_id, g.entity_type));
    END LOOP;
    PERFORM pgsync_itsm.plan_ask_agreed(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_old(@extschema@.integration_runs) IS 'Third questions of a plan: what do the records look like that it is about to change';

CREATE FUNCTION pgsync_itsm.plan_gone(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A known record that does not answer was deleted there: never made again unasked.
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT k.id FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(id)
         WHERE l.run_id = run.id AND l.kind = 'record' AND l.state = 'done'
           AND NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'record' AND x.target = l.target AND x.key = k.id)
    )
    UPDATE pgsync_itsm.plan_records AS p SET verdict = 'MISMATCH', reason = 'deleted there'
      FROM asked AS a
     WHERE p.run_id = run.id AND (p.verdict = 'UPDATE' OR run.purpose IS NOT NULL AND p.verdict = 'UNCHANGED') AND p.external_id = a.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_gone(@extschema@.integration_runs) IS 'Holds records that the map knows and the platform no longer has';

CREATE FUNCTION pgsync_itsm.plan_relations(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE pgsync_itsm.plan_links AS p SET verdict = 'ERROR', reason = format('there is no relationship type "%s" there', p.rel_type)
      FROM (SELECT DISTINCT q.rel_type FROM pgsync_itsm.plan_links AS q WHERE q.run_id = run.id AND q.verdict = 'CREATE' AND q.entity_type <> 'covers') AS t
     WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.entity_type <> 'covers' AND p.rel_type IS NOT DISTINCT FROM t.rel_type
       AND NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                        WHERE r.connection_id = run.connection_id AND r.kind = 'relation_type' AND r.target = '' AND r.key = lower(t.rel_type)
                          AND r.external_id IS NOT NULL);
    -- A row that is there already, made by somebody, is known from now on and not made again.
    UPDATE pgsync_itsm.plan_links AS p SET verdict = 'MATCH', reason = 'the relationship is there already', external_id = x.external_id
      FROM (SELECT split_part(l.key, '/', 1) AS parent, split_part(l.key, '/', 2) AS child, split_part(l.key, '/', 3) AS type, min(l.external_id) AS external_id
              FROM pgsync_itsm.lookup_rows AS l
             WHERE l.run_id = run.id AND l.kind = 'relation' AND l.target = '' AND l.external_id IS NOT NULL GROUP BY 1, 2, 3) AS x
      JOIN @extschema@.integration_sync_map AS pm ON pm.connection_id = run.connection_id AND pm.external_id = x.parent AND pm.parent_id IS NULL
      JOIN @extschema@.integration_sync_map AS cm ON cm.connection_id = run.connection_id AND cm.external_id = x.child AND cm.parent_id IS NULL
      JOIN @extschema@.integration_references AS r
        ON r.connection_id = run.connection_id AND r.kind = 'relation_type' AND r.target = '' AND r.external_id = x.type
     WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.parent_type = pm.entity_type AND p.parent_id = pm.entity_id
       AND p.child_type = cm.entity_type AND p.child_id = cm.entity_id AND lower(p.rel_type) = r.key;
    IF pgsync_itsm.is_halo(run.connection_id) THEN
        UPDATE pgsync_itsm.plan_links AS p SET verdict = 'SKIP', reason = 'a contract there covers assets, and this is none'
         WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.entity_type = 'covers'
           AND (p.child_type = 'it_service' OR p.child_type = 'software_package' AND pgsync_itsm.setting(run.connection_id, 'software_as') = 'licence');
    END IF;
    PERFORM pgsync_itsm.plan_link_ends(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_relations(@extschema@.integration_runs) IS
'What becomes of new relationships: the type has to be there, the row must not, and an end that is not published takes its relationships with it';

CREATE FUNCTION pgsync_itsm.plan_link_ends(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH published AS MATERIALIZED (
        SELECT p.entity_type, p.entity_id FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MATCH')
    ), loose AS MATERIALIZED (
        SELECT q.*, a.entity_id IS NULL AS no_parent, c.entity_id IS NULL AS no_child
          FROM pgsync_itsm.plan_links AS q
          LEFT JOIN published AS a ON a.entity_type = q.parent_type AND a.entity_id = q.parent_id
          LEFT JOIN published AS c ON c.entity_type = q.child_type AND c.entity_id = q.child_id
         WHERE q.run_id = run.id AND q.verdict = 'CREATE' AND (a.entity_id IS NULL OR c.entity_id IS NULL)
    )
    UPDATE pgsync_itsm.plan_links AS p SET verdict = 'SKIP', reason = b.reason
      FROM (SELECT DISTINCT ON (l.entity_type, l.entity_id) l.entity_type, l.entity_id,
                   format('its %s "%s" is not published: %s', replace(e.type, '_', ' '), left(coalesce(o.payload ->> 'name', o.name, e.key), 80), coalesce(o.reason, 'not in scope')) AS reason
              FROM loose AS l
             CROSS JOIN LATERAL (VALUES (1, l.no_parent, l.parent_type, l.parent_id, l.parent_key),
                                        (2, l.no_child, l.child_type, l.child_id, l.child_key)) AS e(n, missing, type, id, key)
              LEFT JOIN pgsync_itsm.plan_records AS o ON o.run_id = run.id AND o.entity_type = e.type AND o.entity_id = e.id
             -- What was left out by a rule, or is gone there, takes its new relationships with it, published before or not.
             WHERE e.missing
               AND (o.verdict = 'SKIP' OR o.verdict = 'MISMATCH' AND o.reason = 'deleted there'
                    OR NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                                    WHERE m.connection_id = run.connection_id AND m.entity_type = e.type AND m.entity_id = e.id AND m.state <> 'gone'))
             ORDER BY l.entity_type, l.entity_id, e.n) AS b
     WHERE p.run_id = run.id AND p.entity_type = b.entity_type AND p.entity_id = b.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_link_ends(@extschema@.integration_runs) IS 'Skips the relationships whose end is not published';
