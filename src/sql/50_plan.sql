-- Planning: what a run would do, decided over sets.  A plan goes through phases, each in a transaction of its
-- own: read sources, ask for references, resolve and compare with the map, look unmapped records up, decide.
-- Between "ask" and the next phase the worker answers the questions over HTTP, with no transaction open.

-- Bodies of this form are bound when they are created; without a SET clause they are inlined, which counts
-- where there is a call for each of 200,000 rows.
CREATE FUNCTION pgsync_itsm.entity_id(entity_type text, key text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN key ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN key::uuid
            ELSE substr(encode(sha256(convert_to(entity_type || '/' || key, 'UTF8')), 'hex'), 1, 32)::uuid END;
COMMENT ON FUNCTION pgsync_itsm.entity_id(text, text) IS 'The key if it is a uuid, else a deterministic uuid of (entity type, key)';

CREATE FUNCTION pgsync_itsm.content_hash(content text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN encode(sha256(convert_to(content, 'UTF8')), 'hex');
COMMENT ON FUNCTION pgsync_itsm.content_hash(text) IS 'SHA-256 of a text in UTF-8, in hexadecimal';

CREATE FUNCTION pgsync_itsm.plan_types()
RETURNS TABLE (ord integer, entity_type text, step text, title text, is_relation boolean, parent_type text, child_type text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.ord, v.entity_type, v.step, v.title, v.parent_type IS NOT NULL, v.parent_type, v.child_type
      FROM (VALUES
        (10, 'company', '0a', 'Companies', NULL, NULL),
        (20, 'contact', '0b', 'Contacts', NULL, NULL),
        (40, 'it_service', '1b', 'Shared IT services', NULL, NULL),
        (60, 'software_product', '3', 'Software models', NULL, NULL),
        (65, 'software_package', '3b', 'Software packages', NULL, NULL),
        (70, 'application', '4', 'Business applications', NULL, NULL),
        (80, 'deployment_profile', '5', 'Application services', NULL, NULL),
        (90, 'consumes', '6', 'Application consumes service', 'application', 'deployment_profile'),
        (100, 'depends_on', '7a', 'Service depends on IT service', 'deployment_profile', 'it_service'),
        (110, 'runs_on', '7b', 'Service runs on software', 'deployment_profile', 'software_package'),
        (120, 'sends_data_to', '7c', 'Service sends data to service', 'deployment_profile', 'deployment_profile'),
        (130, 'contract', '8a', 'Vendor contracts', NULL, NULL),
        (140, 'covers', '8b', 'What contracts cover', 'contract', NULL)
      ) AS v(ord, entity_type, step, title, parent_type, child_type);
END;
COMMENT ON FUNCTION pgsync_itsm.plan_types() IS 'Entity types in the order in which they are planned and sent, with their step';

-- Step 2 is step 1b's sibling: the same entity type, private services instead of shared ones.
CREATE FUNCTION pgsync_itsm.step_of(entity_type text, class text, OUT ord integer, OUT step text, OUT title text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN private THEN 50 ELSE t.ord END, CASE WHEN private THEN '2' ELSE t.step END,
           CASE WHEN private THEN 'Private IT services' ELSE t.title END
      FROM pgsync_itsm.plan_types() AS t,
           LATERAL (SELECT t.entity_type = 'it_service' AND step_of.class IS DISTINCT FROM 'service_offering') AS p(private)
     WHERE t.entity_type = step_of.entity_type;
END;
COMMENT ON FUNCTION pgsync_itsm.step_of(text, text) IS 'Step of an item by entity type and class';

CREATE FUNCTION pgsync_itsm.mapped_fields(connection_id uuid, entity_type text)
RETURNS TABLE (target_class text, target_field text, kind text, on_unresolved text, authority text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT ON (m.target_class, m.target_field) m.target_class, m.target_field, m.kind, m.on_unresolved, m.authority
      FROM @extschema@.integration_field_mappings AS m
      JOIN @extschema@.integration_connections AS c ON c.id = mapped_fields.connection_id AND c.platform = m.platform
     WHERE m.entity_type = mapped_fields.entity_type AND (m.connection_id IS NULL OR m.connection_id = c.id)
     ORDER BY m.target_class, m.target_field, m.connection_id NULLS LAST, m.is_default;
END;
COMMENT ON FUNCTION pgsync_itsm.mapped_fields(uuid, text) IS 'Effective target fields of an entity type: the connection''s own rows before the defaults';

CREATE FUNCTION pgsync_itsm.mapping_version(connection_id uuid, entity_type text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT pgsync_itsm.content_hash(coalesce(string_agg(
            concat_ws('|', m.connection_id, m.target_class, m.target_field, m.expression, m.kind, m.value_map, m.enabled, m.condition),
            E'\n' ORDER BY m.connection_id NULLS FIRST, m.target_class, m.target_field), ''))
          FROM @extschema@.integration_field_mappings AS m
          JOIN @extschema@.integration_connections AS c ON c.id = mapping_version.connection_id AND c.platform = m.platform
         WHERE m.entity_type = mapping_version.entity_type AND (m.connection_id IS NULL OR m.connection_id = c.id));
COMMENT ON FUNCTION pgsync_itsm.mapping_version(uuid, text) IS 'Hash of the mapping rows that concern an entity type: part of every payload hash';

CREATE FUNCTION pgsync_itsm.has_source(connection_id uuid, entity_type text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM @extschema@.integration_sources AS s
                WHERE s.entity_type = has_source.entity_type
                  AND (s.connection_id IS NULL OR s.connection_id = has_source.connection_id));
COMMENT ON FUNCTION pgsync_itsm.has_source(uuid, text) IS 'Is there a source for this entity type';

-- Reading -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.wanted_types(connection_id uuid) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.entity_type FROM pgsync_itsm.plan_types() AS t
     WHERE pgsync_itsm.has_source(wanted_types.connection_id, t.entity_type)
       AND (t.entity_type <> 'software_package' OR pgsync_itsm.setting(wanted_types.connection_id, 'runs_on_as') = 'software_package')
       AND (t.entity_type <> 'runs_on' OR pgsync_itsm.setting(wanted_types.connection_id, 'runs_on_as') <> 'off')
     ORDER BY t.ord;
END;
COMMENT ON FUNCTION pgsync_itsm.wanted_types(uuid) IS 'Entity types that a plan of this connection reads, in order';

CREATE FUNCTION pgsync_itsm.read_keys(run_id bigint, connection_id uuid, entity_type text, keys text[], match_by text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
    software text := CASE pgsync_itsm.setting(connection_id, 'runs_on_as') WHEN 'relation' THEN 'software_product' ELSE 'software_package' END;
BEGIN
    INSERT INTO pgsync_itsm.plan_records AS p
        (run_id, entity_type, entity_id, native_key, name, class, parent_key, child_key, parent_type, child_type,
         parent_id, child_id, attrs, payload, source_hash)
    SELECT read_keys.run_id, read_keys.entity_type, pgsync_itsm.entity_id(read_keys.entity_type, s.key),
           read_keys.entity_type || '/' || s.key, s.name, s.class, s.parent_key, s.child_key,
           t.parent_type, ends.child_type,
           pgsync_itsm.entity_id(t.parent_type, s.parent_key), pgsync_itsm.entity_id(ends.child_type, s.child_key),
           s.attrs, s.payload,
           pgsync_itsm.content_hash(concat_ws('|', s.name, s.class, s.parent_key, s.child_key, s.attrs::text, s.payload::text))
      FROM pgsync_itsm.plan_types() AS t,
           pgsync_itsm.read_source(read_keys.connection_id, read_keys.entity_type, read_keys.keys, read_keys.match_by) AS s,
           LATERAL (SELECT CASE
               WHEN t.entity_type = 'covers' THEN coalesce(s.attrs ->> 'child_type', 'deployment_profile')
               WHEN t.entity_type = 'runs_on' THEN software
               ELSE t.child_type END) AS ends(child_type)
     WHERE t.entity_type = read_keys.entity_type AND s.key IS NOT NULL
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_keys(bigint, uuid, text, text[], text) IS
'Reads one source, whole (keys NULL) or by keys, into the work space of a plan; returns the rows added';

CREATE FUNCTION pgsync_itsm.plan_read(run @extschema@.integration_runs, entity_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_key text[];
    by_parent text[];
BEGIN
    IF NOT run.partial THEN
        PERFORM pgsync_itsm.read_keys(run.id, run.connection_id, entity_type, NULL, 'key');
        RETURN;
    END IF;
    SELECT array_agg(k.key) FILTER (WHERE k.match_by = 'key'), array_agg(k.key) FILTER (WHERE k.match_by = 'parent')
      INTO by_key, by_parent
      FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.entity_type = plan_read.entity_type;
    IF by_key IS NOT NULL THEN
        PERFORM pgsync_itsm.read_keys(run.id, run.connection_id, entity_type, by_key, 'key');
    END IF;
    IF by_parent IS NOT NULL THEN
        PERFORM pgsync_itsm.read_keys(run.id, run.connection_id, entity_type, by_parent, 'parent');
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_read(@extschema@.integration_runs, text) IS 'Reads what a run wants of one entity type';

CREATE FUNCTION pgsync_itsm.want_keys(run_id bigint, entity_type text, match_by text, keys text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT want_keys.run_id, want_keys.entity_type, want_keys.match_by, k.key
      FROM unnest(want_keys.keys) AS k(key) WHERE k.key IS NOT NULL
    ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION pgsync_itsm.want_keys(bigint, text, text, text[]) IS 'Adds keys to what a partial run is about';

-- A partial run needs the neighbours of what changed: the profiles of an application, the relationships of
-- a profile, and both ends of every relationship, so that what came into scope is published with it.
CREATE FUNCTION pgsync_itsm.plan_closure(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted text[] := ARRAY(SELECT pgsync_itsm.wanted_types(run.connection_id));
    pilot boolean := run.applications IS NOT NULL;
    t record;
BEGIN
    IF pilot THEN
        PERFORM pgsync_itsm.want_keys(run.id, 'application', 'key', ARRAY(SELECT unnest(run.applications)::text));
        PERFORM pgsync_itsm.want_keys(run.id, 'consumes', 'parent', ARRAY(SELECT unnest(run.applications)::text));
        PERFORM pgsync_itsm.want_keys(run.id, 'deployment_profile', 'parent', ARRAY(SELECT unnest(run.applications)::text));
        PERFORM pgsync_itsm.plan_read(run, 'deployment_profile');
        PERFORM pgsync_itsm.want_keys(run.id, r.entity_type, 'parent',
                   ARRAY(SELECT substr(p.native_key, strpos(p.native_key, '/') + 1) FROM pgsync_itsm.plan_records AS p
                          WHERE p.run_id = run.id AND p.entity_type = 'deployment_profile'))
           FROM unnest(ARRAY['depends_on', 'runs_on']) AS r(entity_type);
    END IF;
    FOR t IN SELECT * FROM pgsync_itsm.plan_types() AS pt WHERE pt.is_relation AND pt.entity_type = ANY (wanted) ORDER BY pt.ord LOOP
        PERFORM pgsync_itsm.plan_read(run, t.entity_type);
    END LOOP;
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT DISTINCT run.id, e.entity_type, 'key', e.key
      FROM pgsync_itsm.plan_records AS p,
           LATERAL (VALUES (p.parent_type, p.parent_key), (p.child_type, p.child_key),
                           (CASE WHEN p.child_type = 'software_package' THEN 'software_product' END, p.child_key)) AS e(entity_type, key)
     WHERE p.run_id = run.id AND p.parent_type IS NOT NULL AND e.entity_type IS NOT NULL AND e.key IS NOT NULL
    ON CONFLICT DO NOTHING;
    -- The ends of a relationship that is gone have to be looked at too, or its removal could not be told from a scope change.
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT DISTINCT run.id, em.entity_type, 'key', substr(em.native_key, strpos(em.native_key, '/') + 1)
      FROM pgsync_itsm.run_keys AS k
      JOIN pgsync_itsm.plan_types() AS pt ON pt.entity_type = k.entity_type AND pt.is_relation
      JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = k.entity_type
       AND pgsync_itsm.entity_id(pt.parent_type, k.key) IN (m.parent_id, m.child_id)
      JOIN @extschema@.integration_sync_map AS em
        ON em.connection_id = run.connection_id AND em.entity_id IN (m.parent_id, m.child_id) AND em.parent_id IS NULL
     WHERE k.run_id = run.id AND k.match_by = 'parent'
    ON CONFLICT DO NOTHING;
    -- Companies are few, and any of them may be somebody's vendor.
    IF 'company' = ANY (wanted) THEN
        PERFORM pgsync_itsm.read_keys(run.id, run.connection_id, 'company', NULL, 'key');
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_closure(@extschema@.integration_runs) IS 'Extends the keys of a partial run by what they need';

-- Rules that need no platform ---------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.plan_rules(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    publish_retired boolean := pgsync_itsm.setting(run.connection_id, 'publish_retired')::boolean;
    create_contacts boolean := pgsync_itsm.setting(run.connection_id, 'create_contacts')::boolean;
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = v.verdict, reason = v.reason
      FROM (SELECT r.entity_type, r.entity_id, x.verdict, x.reason
              FROM pgsync_itsm.plan_records AS r
              LEFT JOIN @extschema@.integration_sync_map AS m
                ON m.connection_id = run.connection_id AND m.entity_type = r.entity_type AND m.entity_id = r.entity_id
             CROSS JOIN LATERAL (SELECT CASE
               WHEN r.attrs ->> 'dp_type' = 'cost_bundle' THEN ARRAY['SKIP', 'a cost bundle is money, not a service']
               WHEN r.entity_type IN ('deployment_profile', 'it_service') AND coalesce(r.attrs ->> 'scope', 'none') = 'none'
                    THEN ARRAY['SKIP', CASE WHEN m.id IS NULL THEN 'sync scope is none'
                                            ELSE 'sync scope went back to none: left there as it is, no longer updated' END]
               WHEN r.entity_type = 'contract' AND coalesce(btrim(r.attrs ->> 'vendor_name'), '') = ''
                    THEN ARRAY['SKIP', 'no vendor is named: might be an internal contract, not published']
               WHEN r.entity_type = 'contract' AND r.attrs ->> 'is_internal' IS DISTINCT FROM 'false'
                    THEN ARRAY['SKIP', 'internal chargeback contract: never published']
               WHEN r.entity_type = 'contract' AND r.attrs ->> 'conflicting' = 'true'
                    THEN ARRAY['MISMATCH', 'records of this contract disagree on its dates']
               WHEN r.entity_type = 'company' AND coalesce(r.attrs ->> 'is_internal', 'false') <> 'false'
                    THEN ARRAY['DROP', 'internal organization']
               WHEN r.entity_type = 'contact' AND NOT create_contacts THEN ARRAY['DROP', 'contacts are matched, not created']
               WHEN r.attrs ->> 'retired' = 'true' AND m.id IS NULL AND NOT publish_retired
                    THEN ARRAY['SKIP', 'retired and never published'] END) AS c(rule)
             CROSS JOIN LATERAL (SELECT c.rule[1], c.rule[2]) AS x(verdict, reason)
             WHERE r.run_id = run.id AND x.verdict IS NOT NULL) AS v
     WHERE p.run_id = run.id AND p.entity_type = v.entity_type AND p.entity_id = v.entity_id;
    DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'DROP' AND p.entity_type = 'contact';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_rules(@extschema@.integration_runs) IS 'Rules that leave a record out or hold it before the platform is asked anything';

-- Questions, first round: references and the platform's own lists ---------------------------------

CREATE FUNCTION pgsync_itsm.ask(run @extschema@.integration_runs, kind text, target text, keys text[], fields text[] DEFAULT '{}', chunk integer DEFAULT 100)
RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, target, keys, fields)
    SELECT (ask.run).id, (ask.run).connection_id, ask.kind, ask.target, array_agg(k.key ORDER BY k.key), ask.fields
      FROM (SELECT u.key, (row_number() OVER (ORDER BY u.key) - 1) / ask.chunk AS part
              FROM (SELECT DISTINCT x.key FROM unnest(ask.keys) AS x(key) WHERE x.key IS NOT NULL) AS u) AS k
     GROUP BY k.part;
END;
COMMENT ON FUNCTION pgsync_itsm.ask(@extschema@.integration_runs, text, text, text[], text[], integer) IS 'Adds a question to the platform, in parts of bounded size';

CREATE FUNCTION pgsync_itsm.ask_cached(run @extschema@.integration_runs, kind text, target text, keys text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ttl interval := coalesce(pgsync_itsm.setting(run.connection_id, 'reference_ttl')::interval, '1 day');
BEGIN
    -- What was not found is asked again by every run that a person starts: somebody may just have created it.
    PERFORM pgsync_itsm.ask(run, kind, target, ARRAY(
        SELECT DISTINCT k.key FROM unnest(keys) AS k(key)
         WHERE k.key IS NOT NULL
           AND NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                            WHERE r.connection_id = run.connection_id AND r.kind = ask_cached.kind
                              AND r.target = ask_cached.target AND r.key = lower(k.key)
                              AND r.fetched_at > now() - ttl
                              AND (r.external_id IS NOT NULL OR run.origin = 'on_change' AND r.fetched_at > now() - interval '10 minutes'))));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.ask_cached(@extschema@.integration_runs, text, text, text[]) IS 'Asks for references that the cache does not hold, or holds no longer';

CREATE FUNCTION pgsync_itsm.plan_classes(run @extschema@.integration_runs) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN ARRAY(SELECT DISTINCT p.class FROM pgsync_itsm.plan_records AS p
              WHERE p.run_id = (run).id AND p.class IS NOT NULL AND p.parent_type IS NULL AND p.verdict IS NULL ORDER BY 1);
COMMENT ON FUNCTION pgsync_itsm.plan_classes(@extschema@.integration_runs) IS 'Target classes of what a plan is about';

CREATE FUNCTION pgsync_itsm.plan_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    cls text;
    ttl interval := coalesce(pgsync_itsm.setting(run.connection_id, 'reference_ttl')::interval, '1 day');
BEGIN
    FOR w IN
        SELECT m.kind, array_agg(DISTINCT v.value) AS keys
          FROM pgsync_itsm.plan_records AS p
          JOIN LATERAL json_each_text(p.payload) AS v(field, value) ON v.value <> ''
          JOIN LATERAL (SELECT f.kind FROM pgsync_itsm.mapped_fields(run.connection_id, p.entity_type) AS f
                         WHERE f.target_field = v.field AND f.target_class IN ('*', p.class) LIMIT 1) AS m
            ON m.kind IN ('user', 'group', 'company', 'contract_model', 'life_cycle_stage', 'life_cycle_stage_status')
         WHERE p.run_id = run.id AND p.verdict IS NULL
         GROUP BY m.kind
    LOOP
        PERFORM pgsync_itsm.ask_cached(run, CASE WHEN w.kind LIKE 'life_cycle%' THEN 'life_cycle' ELSE w.kind END,
                                       CASE WHEN w.kind LIKE 'life_cycle%' THEN w.kind ELSE '' END, w.keys);
    END LOOP;
    PERFORM pgsync_itsm.ask_cached(run, 'user', '', ARRAY[pgsync_itsm.setting(run.connection_id, 'default_owner')]);
    PERFORM pgsync_itsm.ask_cached(run, 'name', 'cmdb_ci_service_technical',
                                   ARRAY[nullif(pgsync_itsm.setting(run.connection_id, 'offering_parent'), 'off')]);
    PERFORM pgsync_itsm.ask_cached(run, 'relation_type', '', ARRAY(
        SELECT DISTINCT pgsync_itsm.relation_type(run.connection_id, k.entity_type, k.both_ways)
          FROM (SELECT DISTINCT p.entity_type, p.attrs ->> 'bidirectional' = 'true' AS both_ways FROM pgsync_itsm.plan_records AS p
                 WHERE p.run_id = run.id AND p.parent_type IS NOT NULL AND p.entity_type <> 'covers') AS k));
    FOREACH cls IN ARRAY pgsync_itsm.plan_classes(run) LOOP
        IF EXISTS (SELECT FROM @extschema@.integration_references AS r
                    WHERE r.connection_id = run.connection_id AND r.kind = 'column' AND r.target = cls AND r.key = ''
                      AND r.fetched_at > now() - ttl) THEN
            CONTINUE;
        END IF;
        PERFORM pgsync_itsm.ask(run, 'column', cls, ARRAY['']);
        PERFORM pgsync_itsm.ask(run, 'choice', cls, ARRAY(
            SELECT DISTINCT f.target_field
              FROM pgsync_itsm.plan_records AS p, pgsync_itsm.mapped_fields(run.connection_id, p.entity_type) AS f
             WHERE p.run_id = run.id AND p.class = cls AND f.kind = 'choice' AND f.target_class IN ('*', cls)));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask(@extschema@.integration_runs) IS 'First questions of a plan: users, groups, companies, relationship types, columns, choices';

CREATE FUNCTION pgsync_itsm.relation_type(connection_id uuid, entity_type text, both_ways boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE entity_type
    WHEN 'consumes' THEN coalesce(pgsync_itsm.setting(connection_id, 'consumes_type'),
        CASE WHEN pgsync_itsm.setting(connection_id, 'csdm_profile') = 'csdm' THEN pgsync_itsm.setting(connection_id, 'ba_relation')
             ELSE 'Consumes::Consumed by' END)
    WHEN 'depends_on' THEN coalesce(pgsync_itsm.setting(connection_id, 'depends_on_type'),
        CASE WHEN pgsync_itsm.setting(connection_id, 'csdm_profile') = 'csdm' THEN 'Contains::Contained by' ELSE 'Depends on::Used by' END)
    WHEN 'runs_on' THEN pgsync_itsm.setting(connection_id, 'runs_on_type')
    WHEN 'sends_data_to' THEN pgsync_itsm.setting(connection_id,
        CASE WHEN both_ways THEN 'exchanges_data_type' ELSE 'sends_data_type' END) END;
COMMENT ON FUNCTION pgsync_itsm.relation_type(uuid, text, boolean) IS 'Name of the relationship type on the platform, by the connection''s CSDM profile and overrides';

-- Answers of both rounds become references: what was asked and not found is remembered as such.
CREATE FUNCTION pgsync_itsm.store_references(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_references AS r
        (connection_id, namespace_id, kind, target, key, external_id, external_table, label, attrs, matches, fetched_at)
    SELECT run.connection_id, run.namespace_id, q.kind, q.target, lower(q.key), a.external_id, a.external_table, a.label, a.attrs,
           coalesce(a.matches, 0), now()
      FROM (SELECT DISTINCT ON (l.kind, l.target, lower(k.key)) l.kind, l.target, k.key FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
             WHERE l.run_id = run.id AND l.state = 'done'
               AND l.kind IN ('user', 'group', 'company', 'contract_model', 'relation_type', 'life_cycle', 'name')) AS q
      LEFT JOIN LATERAL (
           SELECT (array_agg(x.external_id))[1] AS external_id, (array_agg(x.external_table))[1] AS external_table,
                  (array_agg(x.label))[1] AS label, (array_agg(x.attrs::text))[1]::json AS attrs,
                  count(DISTINCT x.external_id)::integer AS matches
             FROM pgsync_itsm.lookup_rows AS x
            WHERE x.run_id = run.id AND x.kind = q.kind AND x.target = q.target AND x.key = q.key
           HAVING count(*) > 0) AS a ON true
    ON CONFLICT (connection_id, kind, target, key) DO UPDATE
       SET external_id = excluded.external_id, external_table = excluded.external_table, label = excluded.label,
           attrs = excluded.attrs, matches = excluded.matches, fetched_at = excluded.fetched_at;
    DELETE FROM @extschema@.integration_references AS r USING pgsync_itsm.lookups AS l
     WHERE l.run_id = run.id AND l.state = 'done' AND l.kind IN ('choice', 'column')
       AND r.connection_id = run.connection_id AND r.kind = l.kind AND r.target = l.target;
    INSERT INTO @extschema@.integration_references
        (connection_id, namespace_id, kind, target, key, external_id, external_table, label, attrs)
    SELECT run.connection_id, run.namespace_id, x.kind, x.target,
           CASE x.kind WHEN 'column' THEN lower(x.external_id) ELSE lower(x.key || '/' || coalesce(x.external_id, '')) END,
           x.external_id, x.external_table, x.label, x.attrs
      FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind IN ('choice', 'column')
    ON CONFLICT DO NOTHING;
    INSERT INTO @extschema@.integration_references (connection_id, namespace_id, kind, target, key)
    SELECT run.connection_id, run.namespace_id, l.kind, l.target, ''
      FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.state = 'done' AND l.kind = 'column'
    ON CONFLICT DO NOTHING;
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id;
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.store_references(@extschema@.integration_runs) IS 'Moves answered look-ups of references into the cache';
