-- Planning: what a run would do, decided over sets.  A plan goes through phases, each in a transaction of its
-- own: read sources, ask for references, resolve and compare with the map, look unmapped records up, decide.
-- Between "ask" and the next phase the worker answers the questions over HTTP, with no transaction open.

CREATE FUNCTION pgsync_itsm.entity_id(entity_type text, key text) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'source_entity_id';
COMMENT ON FUNCTION pgsync_itsm.entity_id(text, text) IS 'The key if it is a uuid, else a deterministic uuid of (entity type, key)';

-- Bodies of this form are bound when they are created; without a SET clause they are inlined, which counts
-- where there is a call for each of 30,000 rows, and where a statement that keeps its plan is run for one.
CREATE FUNCTION pgsync_itsm.content_hash(content text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN encode(sha256(convert_to(content, 'UTF8')), 'hex');
COMMENT ON FUNCTION pgsync_itsm.content_hash(text) IS 'SHA-256 of a text in UTF-8, in hexadecimal';

CREATE FUNCTION pgsync_itsm.plan_types()
RETURNS TABLE (ord integer, entity_type text, step text, title text, is_relation boolean, parent_type text, child_type text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
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
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    private boolean := entity_type = 'it_service' AND class IS DISTINCT FROM 'service_offering' AND class IS DISTINCT FROM 'service';
BEGIN
    SELECT CASE WHEN private THEN 50 ELSE t.ord END, CASE WHEN private THEN '2' ELSE t.step END,
           CASE WHEN private THEN 'Private IT services' WHEN class = 'service' THEN 'IT services' ELSE t.title END
      INTO ord, step, title
      FROM pgsync_itsm.plan_types() AS t WHERE t.entity_type = step_of.entity_type;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.step_of(text, text) IS 'Step of an item by entity type and class';

CREATE FUNCTION pgsync_itsm.mapped_fields(connection_id uuid, entity_type text)
RETURNS TABLE (target_class text, target_field text, kind text, on_unresolved text, authority text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT ON (m.target_class, m.target_field) m.target_class, m.target_field, m.kind, m.on_unresolved, m.authority
      FROM @extschema@.integration_field_mappings AS m
      JOIN @extschema@.integration_connections AS c ON c.id = mapped_fields.connection_id AND c.platform = m.platform
     WHERE m.entity_type = mapped_fields.entity_type AND (m.connection_id IS NULL OR m.connection_id = c.id)
     ORDER BY m.target_class, m.target_field, m.connection_id NULLS LAST, m.is_default;
END;
COMMENT ON FUNCTION pgsync_itsm.mapped_fields(uuid, text) IS 'Effective target fields of an entity type: the connection''s own rows before the defaults';

-- In the order of mapping_for(); class * stands for those that have no rows of their own.
CREATE FUNCTION pgsync_itsm.mappings_in_force(connection_id uuid, entity_type text)
RETURNS TABLE (class text, id bigint, target_class text, target_field text, expression text, kind text, value_map jsonb, enabled boolean, condition text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH rows AS MATERIALIZED (
        SELECT m.* FROM @extschema@.integration_field_mappings AS m
          JOIN @extschema@.integration_connections AS c ON c.id = mappings_in_force.connection_id AND c.platform = m.platform
         WHERE m.entity_type = mappings_in_force.entity_type AND (m.connection_id IS NULL OR m.connection_id = c.id))
    SELECT DISTINCT ON (k.class, m.target_field) k.class, m.id, m.target_class, m.target_field, m.expression, m.kind, m.value_map, m.enabled, m.condition
      FROM (SELECT '*' AS class UNION SELECT r.target_class FROM rows AS r) AS k
      JOIN rows AS m ON m.target_class IN ('*', k.class)
     ORDER BY k.class, m.target_field, m.connection_id NULLS LAST, m.is_default, m.target_class = '*';
END;
COMMENT ON FUNCTION pgsync_itsm.mappings_in_force(uuid, text) IS 'The mapping row that applies to each field of an entity type, for each class that has rows of its own and (*) for all others';

CREATE FUNCTION pgsync_itsm.mapping_version(connection_id uuid, entity_type text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- those in force, class by class: one of the connection's own that says what the general one says changes nothing
    RETURN (SELECT pgsync_itsm.content_hash(coalesce(string_agg(
                concat_ws('|', e.class, e.target_field, e.expression, e.kind, e.value_map, e.enabled, e.condition),
                E'\n' ORDER BY e.class, e.target_field), ''))
              FROM pgsync_itsm.mappings_in_force(mapping_version.connection_id, mapping_version.entity_type) AS e);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.mapping_version(uuid, text) IS 'Hash of the mapping rows that concern an entity type: part of every payload hash';

-- Reading -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.wanted_types(connection_id uuid) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    halo boolean := pgsync_itsm.is_halo(connection_id);
    -- of software HaloITSM has one record, there is no model beside it
    runs_on text := CASE WHEN NOT halo THEN pgsync_itsm.setting(connection_id, 'runs_on_as')
                         WHEN pgsync_itsm.setting(connection_id, 'software_as') = 'off' THEN 'off' ELSE 'software_package' END;
BEGIN
    RETURN ARRAY(
        SELECT t.entity_type FROM pgsync_itsm.plan_types() AS t
         WHERE EXISTS (SELECT FROM @extschema@.integration_sources AS s
                        WHERE s.entity_type = t.entity_type
                          AND (s.connection_id IS NULL OR s.connection_id = wanted_types.connection_id))
           AND (t.entity_type <> 'software_package' OR runs_on = 'software_package')
           AND (t.entity_type <> 'runs_on' OR runs_on <> 'off')
           AND (t.entity_type <> 'software_product' OR NOT halo)
         ORDER BY t.ord);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.wanted_types(uuid) IS 'Entity types that a plan of this connection reads, in order';

CREATE FUNCTION pgsync_itsm.read_records(run @extschema@.integration_runs, entity_type text, keys text[], match_by text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A plan in full looks into the map at once: what was made from this very row before need not be resolved again,
    -- provided that nothing else changed (plan_believe).
    INSERT INTO pgsync_itsm.plan_records
        (run_id, entity_type, entity_id, native_key, name, class, parent_key, attrs, payload, source_hash, source_version,
         verdict, external_id, external_table)
    SELECT run.id, read_records.entity_type, s.entity_id, read_records.entity_type || '/' || s.key, s.name, s.class, s.parent_key,
           s.attrs, s.payload, s.source_hash, m.source_version, CASE WHEN m.id IS NOT NULL THEN 'UNCHANGED' END,
           m.external_id, m.external_table
      FROM (SELECT r.*, pgsync_itsm.entity_id(read_records.entity_type, r.key) AS entity_id,
                   pgsync_itsm.content_hash(concat_ws('|', r.name, r.class, r.parent_key, r.child_key, r.attrs::text, r.payload::text)) AS source_hash
              FROM pgsync_itsm.read_source(run.connection_id, read_records.entity_type, read_records.keys, read_records.match_by) AS r
             WHERE r.key IS NOT NULL
            OFFSET 0) AS s
      -- not as a condition of the join: the plan of one change would hash the whole map of its type, for nothing
      LEFT JOIN (SELECT x.* FROM @extschema@.integration_sync_map AS x
                  WHERE NOT run.partial AND x.connection_id = run.connection_id AND x.entity_type = read_records.entity_type) AS m
        ON m.entity_id = s.entity_id AND m.source_hash = s.source_hash AND m.source_version IS NOT NULL AND m.state <> 'gone'
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_records(@extschema@.integration_runs, text, text[], text) IS
'Reads one source of records, whole (keys NULL) or by keys, into the work space of a plan';

CREATE FUNCTION pgsync_itsm.relation_type(connection_id uuid, entity_type text, both_ways boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE entity_type
        WHEN 'consumes' THEN coalesce(pgsync_itsm.setting(connection_id, 'consumes_type'),
            CASE WHEN pgsync_itsm.setting(connection_id, 'csdm_profile') = 'csdm' THEN pgsync_itsm.setting(connection_id, 'ba_relation')
                 ELSE 'Consumes::Consumed by' END)
        WHEN 'depends_on' THEN coalesce(pgsync_itsm.setting(connection_id, 'depends_on_type'),
            CASE WHEN pgsync_itsm.setting(connection_id, 'csdm_profile') = 'csdm' THEN 'Contains::Contained by' ELSE 'Depends on::Used by' END)
        WHEN 'runs_on' THEN pgsync_itsm.setting(connection_id, 'runs_on_type')
        WHEN 'sends_data_to' THEN pgsync_itsm.setting(connection_id,
            CASE WHEN both_ways THEN 'exchanges_data_type' ELSE 'sends_data_type' END) END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.relation_type(uuid, text, boolean) IS 'Name of the relationship type on the platform, by the connection''s CSDM profile and overrides';

-- The ends of a relationship as the platform will have them: CSDM draws the offering as the container, so there they
-- change places.
CREATE FUNCTION pgsync_itsm.link_ends(connection_id uuid, entity_type text, OUT source_parent text, OUT parent_type text, OUT child_type text, OUT swapped boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    swapped := entity_type = 'depends_on' AND pgsync_itsm.setting(connection_id, 'csdm_profile') = 'csdm' AND NOT pgsync_itsm.is_halo(connection_id);
    SELECT t.parent_type, CASE WHEN swapped THEN t.child_type ELSE t.parent_type END, CASE WHEN swapped THEN t.parent_type ELSE t.child_type END
      INTO source_parent, parent_type, child_type
      FROM pgsync_itsm.plan_types() AS t WHERE t.entity_type = link_ends.entity_type;
    IF entity_type = 'runs_on' AND pgsync_itsm.setting(connection_id, 'runs_on_as') = 'relation' AND NOT pgsync_itsm.is_halo(connection_id) THEN
        child_type := 'software_product';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.link_ends(uuid, text) IS 'What a relationship connects there, whether its ends change places, and what is its parent here';

CREATE TYPE pgsync_itsm.source_link AS (entity_id uuid, native_key text, class text, parent_key text, child_type text, child_key text, rel_type text);
COMMENT ON TYPE pgsync_itsm.source_link IS 'A relationship as a source gives it, with its type and ends there';

-- Every plan in full goes through all relationships here: no JSON unless the type needs it, nothing computed but what
-- the comparison looks at, and inlined, so that rows are not kept a second time.
CREATE FUNCTION pgsync_itsm.source_links(connection_id uuid, entity_type text, keys text[], match_by text, child_type text,
                                         swapped boolean, one_way text, both_ways text) RETURNS SETOF pgsync_itsm.source_link
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT pgsync_itsm.entity_id(source_links.entity_type, s.key), source_links.entity_type || '/' || s.key, s.class,
           CASE WHEN swapped THEN s.child_key ELSE s.parent_key END,
           CASE source_links.entity_type WHEN 'covers' THEN coalesce(s.attrs ->> 'child_type', 'deployment_profile') ELSE source_links.child_type END,
           CASE WHEN swapped THEN s.parent_key ELSE s.child_key END,
           CASE WHEN source_links.entity_type = 'sends_data_to' AND s.attrs ->> 'bidirectional' = 'true' THEN source_links.both_ways
                ELSE source_links.one_way END
      FROM pgsync_itsm.read_source(source_links.connection_id, source_links.entity_type, source_links.keys, source_links.match_by) AS s
     WHERE s.key IS NOT NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.source_links(uuid, text, text[], text, text, boolean, text, text) IS
'Relationships of one source, whole (keys NULL) or by keys, as they would be there';

-- Relationships have no content: presence by (parent, child, type) is the comparison.  A plan in full keeps the
-- differences only, set against set.
CREATE FUNCTION pgsync_itsm.read_links(run @extschema@.integration_runs, entity_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ends record := pgsync_itsm.link_ends(run.connection_id, entity_type);
    one_way text := pgsync_itsm.relation_type(run.connection_id, entity_type, false);
    both_ways text := pgsync_itsm.relation_type(run.connection_id, entity_type, true);
BEGIN
    INSERT INTO pgsync_itsm.plan_links
        (run_id, entity_type, entity_id, native_key, class, parent_type, parent_id, parent_key, child_type, child_id, child_key,
         rel_type, in_map, verdict)
    SELECT run.id, read_links.entity_type, coalesce(s.entity_id, m.entity_id), coalesce(s.native_key, m.native_key), s.class,
           ends.parent_type, coalesce(pgsync_itsm.entity_id(ends.parent_type, s.parent_key), m.parent_id), s.parent_key,
           coalesce(s.child_type, ends.child_type, ''), coalesce(pgsync_itsm.entity_id(s.child_type, s.child_key), m.child_id), s.child_key,
           s.rel_type, m.entity_id IS NOT NULL, CASE WHEN s.entity_id IS NULL THEN 'GONE' ELSE 'CREATE' END
      FROM pgsync_itsm.source_links(run.connection_id, read_links.entity_type, NULL, 'key', ends.child_type, ends.swapped,
                                    one_way, both_ways) AS s
      FULL JOIN (SELECT x.entity_id, x.native_key, x.parent_id, x.child_id, x.rel_type
                   FROM @extschema@.integration_sync_map AS x
                  WHERE x.connection_id = run.connection_id AND x.entity_type = read_links.entity_type) AS m
        ON m.entity_id = s.entity_id
     WHERE s.entity_id IS NULL OR m.entity_id IS NULL OR m.rel_type IS DISTINCT FROM s.rel_type
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_links(@extschema@.integration_runs, text) IS
'Reads one source of relationships whole and keeps what is not in the map as it is, and what is there only';

CREATE FUNCTION pgsync_itsm.read_links_by(run @extschema@.integration_runs, entity_type text, keys text[], match_by text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ends record := pgsync_itsm.link_ends(run.connection_id, entity_type);
    one_way text := pgsync_itsm.relation_type(run.connection_id, entity_type, false);
    both_ways text := pgsync_itsm.relation_type(run.connection_id, entity_type, true);
    ids uuid[] := ARRAY(SELECT pgsync_itsm.entity_id(ends.source_parent, k) FROM unnest(keys) AS k);
BEGIN
    INSERT INTO pgsync_itsm.plan_links
        (run_id, entity_type, entity_id, native_key, class, parent_type, parent_id, parent_key, child_type, child_id, child_key,
         rel_type, in_map, verdict)
    SELECT run.id, read_links_by.entity_type, s.entity_id, s.native_key, s.class,
           ends.parent_type, pgsync_itsm.entity_id(ends.parent_type, s.parent_key), s.parent_key,
           s.child_type, pgsync_itsm.entity_id(s.child_type, s.child_key), s.child_key, s.rel_type, m.id IS NOT NULL,
           CASE WHEN m.id IS NOT NULL AND m.rel_type IS NOT DISTINCT FROM s.rel_type THEN 'UNCHANGED' ELSE 'CREATE' END
      FROM pgsync_itsm.source_links(run.connection_id, read_links_by.entity_type, read_links_by.keys, read_links_by.match_by,
                                    ends.child_type, ends.swapped, one_way, both_ways) AS s
      LEFT JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = read_links_by.entity_type AND m.entity_id = s.entity_id
    ON CONFLICT DO NOTHING;
    IF match_by = 'parent' THEN
        INSERT INTO pgsync_itsm.plan_links
            (run_id, entity_type, entity_id, native_key, parent_type, parent_id, child_type, child_id, rel_type, in_map, verdict)
        SELECT run.id, m.entity_type, m.entity_id, m.native_key, ends.parent_type, m.parent_id, coalesce(ends.child_type, ''), m.child_id,
               m.rel_type, true, 'GONE'
          FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id AND (m.parent_id = ANY (ids) OR m.child_id = ANY (ids))
           AND m.entity_type = read_links_by.entity_type
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.read_links_by(@extschema@.integration_runs, text, text[], text) IS
'Reads relationships by keys (NULL: all) and keeps all of them; by the key of an end, also those that are in the map only';

CREATE FUNCTION pgsync_itsm.plan_read(run @extschema@.integration_runs, entity_type text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    links boolean := pgsync_itsm.is_relationship(entity_type);
    k record;
BEGIN
    IF NOT run.partial THEN
        IF links THEN
            PERFORM pgsync_itsm.read_links(run, entity_type);
        ELSE
            PERFORM pgsync_itsm.read_records(run, entity_type, NULL, 'key');
        END IF;
        RETURN;
    END IF;
    FOR k IN SELECT x.match_by, array_agg(x.key) AS keys FROM pgsync_itsm.run_keys AS x
              WHERE x.run_id = run.id AND x.entity_type = plan_read.entity_type AND x.match_by <> 'gone' GROUP BY x.match_by ORDER BY x.match_by
    LOOP
        IF links THEN
            PERFORM pgsync_itsm.read_links_by(run, entity_type, k.keys, k.match_by);
        ELSE
            PERFORM pgsync_itsm.read_records(run, entity_type, k.keys, k.match_by);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_read(@extschema@.integration_runs, text) IS 'Reads what a run wants of one entity type';

CREATE FUNCTION pgsync_itsm.want_keys(run_id bigint, entity_type text, match_by text, keys text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT want_keys.run_id, want_keys.entity_type, want_keys.match_by, k.key
      FROM unnest(want_keys.keys) AS k(key) WHERE k.key IS NOT NULL
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.want_keys(bigint, text, text, text[]) IS 'Adds keys to what a partial run is about';

CREATE FUNCTION pgsync_itsm.plan_pilot(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    applications text[] := run.applications::text[];
BEGIN
    PERFORM pgsync_itsm.want_keys(run.id, 'application', 'key', applications);
    PERFORM pgsync_itsm.want_keys(run.id, 'consumes', 'parent', applications);
    PERFORM pgsync_itsm.want_keys(run.id, 'deployment_profile', 'parent', applications);
    PERFORM pgsync_itsm.plan_read(run, 'deployment_profile');
    PERFORM pgsync_itsm.want_keys(run.id, r.entity_type, 'parent',
               ARRAY(SELECT substr(p.native_key, strpos(p.native_key, '/') + 1) FROM pgsync_itsm.plan_records AS p
                      WHERE p.run_id = run.id AND p.entity_type = 'deployment_profile'))
       FROM unnest(ARRAY['depends_on', 'runs_on']) AS r(entity_type);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_pilot(@extschema@.integration_runs) IS 'The keys of a pilot: its applications, their profiles, what these depend and run on';

-- A partial run needs the neighbours of what changed: both ends of every relationship that would be made, so that
-- what came into scope is published with it, and of every one that is gone, or its removal could not be told from a
-- change of scope.  What stays as it is has its ends there already.
CREATE FUNCTION pgsync_itsm.plan_closure(run @extschema@.integration_runs, wanted text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    IF run.applications IS NOT NULL THEN
        PERFORM pgsync_itsm.plan_pilot(run);
    END IF;
    FOR t IN SELECT DISTINCT k.entity_type FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.entity_type = ANY (wanted)
    LOOP
        CONTINUE WHEN NOT pgsync_itsm.is_relationship(t);
        PERFORM pgsync_itsm.plan_read(run, t);
    END LOOP;
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key)
    SELECT DISTINCT run.id, e.entity_type, 'key', e.key
      FROM pgsync_itsm.plan_links AS p,
           LATERAL (VALUES (p.parent_type, p.parent_key), (p.child_type, p.child_key),
                           (CASE WHEN p.child_type = 'software_package' THEN 'software_product' END, p.child_key)) AS e(entity_type, key)
     WHERE p.run_id = run.id AND (p.verdict = 'CREATE' OR run.applications IS NOT NULL AND p.verdict = 'UNCHANGED')
       AND e.entity_type IS NOT NULL AND e.key IS NOT NULL
    UNION
    SELECT run.id, m.entity_type, 'key', substr(m.native_key, strpos(m.native_key, '/') + 1)
      FROM pgsync_itsm.plan_links AS p,
           LATERAL (VALUES (p.parent_id), (p.child_id)) AS e(id)
      JOIN pgsync_itsm.plan_types() AS pt ON NOT pt.is_relation
      JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = pt.entity_type AND m.entity_id = e.id
     WHERE p.run_id = run.id AND p.verdict = 'GONE'
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_closure(@extschema@.integration_runs, text[]) IS 'Extends the keys of a partial run by what they need';

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
      FROM (SELECT r.entity_type, r.entity_id, c.rule[1] AS verdict, c.rule[2] AS reason
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
               WHEN r.entity_type = 'contact' AND NOT create_contacts AND m.id IS NULL THEN ARRAY['DROP', 'contacts are matched, not created']
               WHEN r.attrs ->> 'retired' = 'true' AND m.id IS NULL AND NOT publish_retired
                    THEN ARRAY['SKIP', 'retired and never published'] END OFFSET 0) AS c(rule)
             WHERE r.run_id = run.id AND r.verdict IS NULL AND c.rule IS NOT NULL) AS v
     WHERE p.run_id = run.id AND p.entity_type = v.entity_type AND p.entity_id = v.entity_id;
    IF NOT create_contacts THEN
        DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = 'contact' AND p.verdict = 'DROP';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_rules(@extschema@.integration_runs) IS 'Rules that leave a record out or hold it before the platform is asked anything';

-- What a payload depends on besides its source row.  The rules count as well: what they leave out is not in the map anew.
CREATE FUNCTION pgsync_itsm.plan_versions(run @extschema@.integration_runs)
RETURNS TABLE (entity_type text, version text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    everything text := concat_ws('|',
        (SELECT string_agg(s.name || '=' || coalesce(pgsync_itsm.setting(run.connection_id, s.name), ''), '|' ORDER BY s.name)
           FROM unnest(ARRAY['default_owner', 'offering_parent', 'create_companies', 'create_contacts', 'publish_retired']) AS s(name)),
        (SELECT pgsync_itsm.content_hash(string_agg(concat_ws('|', r.kind, r.target, r.key, r.external_id, r.label, r.attrs::text, r.matches::text),
                                                    E'\n' ORDER BY r.kind, r.target, r.key))
           FROM @extschema@.integration_references AS r WHERE r.connection_id = run.connection_id AND r.kind <> 'relation_type'),
        (SELECT pgsync_itsm.content_hash(string_agg(concat_ws('=', lower(p.name), p.entity_id, m.external_id), E'\n' ORDER BY p.entity_id))
           FROM pgsync_itsm.plan_records AS p
           LEFT JOIN @extschema@.integration_sync_map AS m
             ON m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id AND m.sync_direction = 'subscribed'
          WHERE p.run_id = run.id AND p.entity_type = 'company' AND coalesce(p.attrs ->> 'is_internal', 'false') = 'false'));
BEGIN
    RETURN QUERY
        SELECT t.entity_type,
               pgsync_itsm.content_hash(concat_ws('|', everything, pgsync_itsm.mapping_version(run.connection_id, t.entity_type),
                   (SELECT string_agg(concat_ws('/', f.target_class, f.target_field, f.kind, f.on_unresolved), ',' ORDER BY f.target_class, f.target_field)
                      FROM pgsync_itsm.mapped_fields(run.connection_id, t.entity_type) AS f)))
          FROM pgsync_itsm.plan_types() AS t WHERE NOT t.is_relation;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_versions(@extschema@.integration_runs) IS
'Hash of all that the payloads of an entity type depend on besides their source rows: mapping, settings, references, companies';

CREATE FUNCTION pgsync_itsm.plan_believe(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE pgsync_itsm.plan_records AS p SET verdict = NULL, external_id = NULL, external_table = NULL
      FROM pgsync_itsm.plan_versions(run) AS v
     WHERE p.run_id = run.id AND p.entity_type = v.entity_type AND p.verdict = 'UNCHANGED' AND p.source_version <> v.version;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_believe(@extschema@.integration_runs) IS
'Has those resolved after all whose source row is known but was resolved with something that has changed since';

-- Questions, first round: references and the platform's own lists ---------------------------------

CREATE FUNCTION pgsync_itsm.ask(run @extschema@.integration_runs, kind text, target text, keys text[], fields text[] DEFAULT '{}', chunk integer DEFAULT 100)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- a list is read whole there, so that all keys go with it; a record is a request of its own
    size integer := CASE WHEN NOT pgsync_itsm.is_halo(run.connection_id) THEN chunk WHEN kind = 'record' THEN 10 ELSE 1000000 END;
BEGIN
    INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, target, keys, fields)
    SELECT run.id, run.connection_id, ask.kind, ask.target, array_agg(k.key ORDER BY k.key), ask.fields
      FROM (SELECT u.key, (row_number() OVER (ORDER BY u.key) - 1) / size AS part
              FROM (SELECT DISTINCT x.key FROM unnest(ask.keys) AS x(key) WHERE x.key IS NOT NULL) AS u) AS k
     GROUP BY k.part;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.ask(@extschema@.integration_runs, text, text, text[], text[], integer) IS 'Adds a question to the platform, in parts of bounded size';

CREATE FUNCTION pgsync_itsm.ask_cached(run @extschema@.integration_runs, kind text, target text, keys text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ttl interval := coalesce(pgsync_itsm.setting(run.connection_id, 'reference_ttl')::interval, '1 day');
    unknown text[];
BEGIN
    -- What was not found is asked again by every run that a person starts: somebody may just have created it.
    unknown := ARRAY(
        SELECT DISTINCT k.key FROM unnest(keys) AS k(key)
         WHERE k.key <> ''
           AND NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                            WHERE r.connection_id = run.connection_id AND r.kind = ask_cached.kind
                              AND r.target = ask_cached.target AND r.key = lower(k.key)
                              AND r.fetched_at > now() - ttl
                              AND (r.external_id IS NOT NULL OR run.origin = 'on_change' AND r.fetched_at > now() - interval '10 minutes')));
    IF unknown <> '{}' THEN
        PERFORM pgsync_itsm.ask(run, kind, target, unknown);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.ask_cached(@extschema@.integration_runs, text, text, text[]) IS 'Asks for references that the cache does not hold, or holds no longer';

-- The cache holds what a record needs that was resolved before, unless something in it has to be asked again.
CREATE FUNCTION pgsync_itsm.references_settled(run @extschema@.integration_runs, ttl interval) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                        WHERE r.connection_id = run.connection_id
                          AND r.kind IN ('user', 'agent', 'group', 'company', 'contract_model', 'life_cycle')
                          AND (r.external_id IS NULL OR r.fetched_at <= now() - ttl));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.references_settled(@extschema@.integration_runs, interval) IS 'Is every cached reference found, and fresh';

CREATE FUNCTION pgsync_itsm.plan_ask_values(run @extschema@.integration_runs, believed boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
BEGIN
    FOR w IN
        WITH fields AS MATERIALIZED (
            SELECT DISTINCT ON (k.entity_type, k.class, f.target_field) k.entity_type, k.class, f.target_field, f.kind
              FROM (SELECT DISTINCT p.entity_type, coalesce(p.class, '') AS class FROM pgsync_itsm.plan_records AS p
                     WHERE p.run_id = run.id AND (p.verdict IS NULL OR believed AND p.verdict = 'UNCHANGED')) AS k
             CROSS JOIN LATERAL pgsync_itsm.mapped_fields(run.connection_id, k.entity_type) AS f
             WHERE f.target_class IN ('*', k.class)
             ORDER BY k.entity_type, k.class, f.target_field, f.target_class = '*'
        )
        SELECT f.kind, array_agg(DISTINCT v.value) AS keys
          FROM (SELECT p.entity_type, coalesce(p.class, '') AS class, e.field, e.value
                  FROM pgsync_itsm.plan_records AS p
                 CROSS JOIN LATERAL json_each_text(p.payload) AS e(field, value)
                 WHERE p.run_id = run.id AND (p.verdict IS NULL OR believed AND p.verdict = 'UNCHANGED') AND e.value <> ''
                OFFSET 0) AS v
          JOIN fields AS f ON f.entity_type = v.entity_type AND f.class = v.class AND f.target_field = v.field
         WHERE f.kind IN ('user', 'agent', 'group', 'company', 'contract_model', 'life_cycle_stage', 'life_cycle_stage_status')
         GROUP BY f.kind
    LOOP
        PERFORM pgsync_itsm.ask_cached(run, CASE WHEN w.kind LIKE 'life_cycle%' THEN 'life_cycle' ELSE w.kind END,
                                       CASE WHEN w.kind LIKE 'life_cycle%' THEN w.kind ELSE '' END, w.keys);
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_values(@extschema@.integration_runs, boolean) IS
'Asks for the users, groups, companies and the like that the payloads name and the cache does not hold';

CREATE FUNCTION pgsync_itsm.plan_ask_columns(run @extschema@.integration_runs, ttl interval) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    halo boolean := pgsync_itsm.is_halo(run.connection_id);
    c record;
BEGIN
    FOR c IN SELECT k.class, array_agg(k.entity_type) AS types
               FROM (SELECT DISTINCT p.entity_type, p.class FROM pgsync_itsm.plan_records AS p
                      WHERE p.run_id = run.id AND p.class IS NOT NULL AND (p.verdict IS NULL OR p.verdict = 'UNCHANGED')) AS k
              WHERE NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                                 WHERE r.connection_id = run.connection_id AND r.target = k.class AND r.fetched_at > now() - ttl
                                   AND (r.kind = 'column' AND r.key = '' OR halo AND r.kind = 'choice'))
              GROUP BY k.class ORDER BY k.class
    LOOP
        -- HaloITSM takes any member and tells by its answer which it knows
        IF NOT halo THEN
            PERFORM pgsync_itsm.ask(run, 'column', c.class, ARRAY['']);
        END IF;
        PERFORM pgsync_itsm.ask(run, 'choice', c.class, ARRAY(
            SELECT DISTINCT f.target_field
              FROM unnest(c.types) AS t(entity_type), pgsync_itsm.mapped_fields(run.connection_id, t.entity_type) AS f
             WHERE f.kind = 'choice' AND f.target_class IN ('*', c.class)));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_columns(@extschema@.integration_runs, interval) IS 'Asks for columns and choices of the classes that a plan is about';

CREATE FUNCTION pgsync_itsm.plan_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ttl interval := coalesce(pgsync_itsm.setting(run.connection_id, 'reference_ttl')::interval, '1 day');
BEGIN
    PERFORM pgsync_itsm.plan_ask_values(run, NOT run.partial AND NOT pgsync_itsm.references_settled(run, ttl));
    PERFORM pgsync_itsm.ask_cached(run, 'user', '', ARRAY[pgsync_itsm.setting(run.connection_id, 'default_owner')]);
    PERFORM pgsync_itsm.ask_cached(run, 'name', 'cmdb_ci_service_technical',
                                   ARRAY[nullif(pgsync_itsm.setting(run.connection_id, 'offering_parent'), 'off')]);
    PERFORM pgsync_itsm.ask_cached(run, 'relation_type', '', ARRAY(
        SELECT DISTINCT p.rel_type FROM pgsync_itsm.plan_links AS p
         WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.entity_type <> 'covers'));
    PERFORM pgsync_itsm.plan_ask_columns(run, ttl);
    PERFORM pgsync_itsm.retire_ask(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask(@extschema@.integration_runs) IS 'First questions of a plan: users, groups, companies, relationship types, columns, choices';

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
               AND l.kind IN ('user', 'agent', 'group', 'company', 'contract_model', 'relation_type', 'life_cycle', 'name')) AS q
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
