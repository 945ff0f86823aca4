-- The CSDM picture: applications, their profiles, what these depend and run on, the contracts about it, and how far the
-- platform has it.  Nothing is planned for it: the sources say what is wanted, the map what is there, the items of the
-- newest runs what came in between.  Three steps: parts of each connection, one model of them, a text in some format.

CREATE TYPE pgsync_itsm.graph_key AS (entity_type text, key text, near boolean);
COMMENT ON TYPE pgsync_itsm.graph_key IS 'A record that the picture of one application needs; near: the application or a profile of it';

CREATE TYPE pgsync_itsm.graph_source AS (entity_type text, entity_id uuid, key text, label text, class text, left_out boolean, retired boolean,
                                         source_hash text, parent_id uuid, child_id uuid, rel_type text, both_ways boolean);
COMMENT ON TYPE pgsync_itsm.graph_source IS 'A record or relationship as a source has it now';

CREATE TYPE pgsync_itsm.graph_part AS (entity_type text, entity_id uuid, key text, label text, class text, state text, reason text,
                                       parent_id uuid, child_id uuid, rel_type text, both_ways boolean);
COMMENT ON TYPE pgsync_itsm.graph_part IS 'A record or relationship of one connection, with its state';

CREATE TYPE pgsync_itsm.graph_node AS (id text, kind text, title text, col integer, pos integer, name text, label text, state text, reason text);
COMMENT ON TYPE pgsync_itsm.graph_node IS 'A box of the picture: column and place in it, whole and shortened name, state and why';

CREATE TYPE pgsync_itsm.graph_edge AS (parent text, parent_col integer, parent_pos integer, child text, child_col integer, child_pos integer,
                                       kind text, label text, both_ways boolean, state text, reason text, ends text);
COMMENT ON TYPE pgsync_itsm.graph_edge IS 'A line of the picture, from parent to child as the relationship is there';

-- A product is a model and a CI there; here it is one box.
CREATE FUNCTION pgsync_itsm.graph_kinds() RETURNS TABLE (entity_type text, kind text, col integer, heading text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.entity_type, v.kind, v.col, v.heading
      FROM (VALUES ('application', 'application', 1, 'Business applications'),
                   ('deployment_profile', 'profile', 2, 'Deployment profiles'),
                   ('it_service', 'service', 3, 'IT services, software products'),
                   ('software_product', 'product', 3, 'IT services, software products'),
                   ('software_package', 'product', 3, 'IT services, software products'),
                   ('contract', 'contract', 4, 'Vendor contracts')) AS v(entity_type, kind, col, heading);
END;
COMMENT ON FUNCTION pgsync_itsm.graph_kinds() IS 'Entity types that are boxes of the picture, and their columns from left to right';

CREATE FUNCTION pgsync_itsm.graph_states() RETURNS TABLE (state text, words text, ord integer, badness integer, fill text, line text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.state, v.words, v.ord, v.badness, v.fill, v.line
      FROM (VALUES ('in_step', 'in step', 1, 1, '#d9f0dc', '#2e7d32'),
                   ('new', 'new', 2, 3, '#d8e7fb', '#1558b0'),
                   ('changed', 'changed', 3, 2, '#fdedc8', '#a15c00'),
                   ('in_error', 'in error', 4, 4, '#fbdada', '#b71c1c')) AS v(state, words, ord, badness, fill, line);
END;
COMMENT ON FUNCTION pgsync_itsm.graph_states() IS 'States of boxes and lines, their colours, and which of two connections'' states counts';

-- Parts ---------------------------------------------------------------------------------------------

-- The same as plan_rules() leaves out; what is retired is another matter, for it may have been published.
CREATE FUNCTION pgsync_itsm.graph_left_out(entity_type text, attrs json) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN entity_type IN ('deployment_profile', 'it_service')
        THEN coalesce(attrs ->> 'scope', 'none') = 'none' OR coalesce(attrs ->> 'dp_type', '') = 'cost_bundle'
    WHEN entity_type = 'contract'
        THEN coalesce(btrim(attrs ->> 'vendor_name'), '') = '' OR attrs ->> 'is_internal' IS DISTINCT FROM 'false'
    ELSE false END;
COMMENT ON FUNCTION pgsync_itsm.graph_left_out(text, json) IS 'Is a record in its source and yet never sent: out of scope, a cost bundle, a contract without vendor or with an internal one';

CREATE FUNCTION pgsync_itsm.graph_types(connection_id uuid)
RETURNS TABLE (entity_type text, is_relation boolean, source_parent text, parent_type text, child_type text, swapped boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    runs_on text := pgsync_itsm.source_setting($1, 'runs_on_as');
BEGIN
    RETURN QUERY
        SELECT t.entity_type, t.is_relation, e.source_parent, e.parent_type, e.child_type, coalesce(e.swapped, false)
          FROM pgsync_itsm.plan_types() AS t
         CROSS JOIN LATERAL pgsync_itsm.link_ends($1, t.entity_type) AS e
         WHERE t.entity_type NOT IN ('company', 'contact')
           AND ($1 IS NULL OR pgsync_itsm.source_exists($1, t.entity_type))
           AND (t.entity_type <> 'software_package' OR runs_on = 'software_package')
           AND (t.entity_type <> 'runs_on' OR runs_on <> 'off')
         ORDER BY t.ord;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_types(uuid) IS 'Entity types of the picture that a connection publishes, and what their relationships connect';

CREATE FUNCTION pgsync_itsm.graph_label(entity_type text, name text, attrs json, payload json) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(nullif(payload ->> 'name', ''),
    CASE WHEN entity_type = 'deployment_profile' AND strpos(lower(name), lower(btrim(attrs ->> 'application_name'))) = 0
              THEN btrim(attrs ->> 'application_name') || ' - ' || name
         WHEN entity_type = 'software_package' AND btrim(attrs ->> 'version') <> '' AND strpos(name, attrs ->> 'version') = 0
              THEN name || ' ' || (attrs ->> 'version')
         ELSE name END);
COMMENT ON FUNCTION pgsync_itsm.graph_label(text, text, json, json) IS 'The name that a record is published under; without mapping, as the default one makes it';

CREATE FUNCTION pgsync_itsm.graph_sources(connection_id uuid, namespace_id uuid, keys pgsync_itsm.graph_key[]) RETURNS SETOF pgsync_itsm.graph_source
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    types text[] := ARRAY(SELECT t.entity_type FROM pgsync_itsm.graph_types($1) AS t);
    t record;
    wanted text[];
    one_way text;
    both_ways text;
BEGIN
    FOR t IN SELECT * FROM pgsync_itsm.graph_types($1)
    LOOP
        IF keys IS NOT NULL THEN
            wanted := ARRAY(SELECT DISTINCT k.key FROM unnest(keys) AS k
                             WHERE k.key IS NOT NULL
                               AND CASE WHEN t.entity_type = 'covers' THEN true
                                        WHEN t.is_relation THEN k.near AND k.entity_type = t.source_parent
                                        ELSE k.entity_type = t.entity_type END);
            CONTINUE WHEN wanted = '{}';
        END IF;
        IF t.is_relation THEN
            one_way := pgsync_itsm.relation_type($1, t.entity_type, false);
            both_ways := pgsync_itsm.relation_type($1, t.entity_type, true);
            RETURN QUERY
                SELECT t.entity_type, pgsync_itsm.entity_id(t.entity_type, s.key), s.key, NULL::text, s.class, false, false, NULL::text,
                       pgsync_itsm.entity_id(t.parent_type, CASE WHEN t.swapped THEN s.child_key ELSE s.parent_key END),
                       pgsync_itsm.entity_id(e.child_type, CASE WHEN t.swapped THEN s.parent_key ELSE s.child_key END),
                       CASE WHEN e.bidirectional THEN both_ways ELSE one_way END, e.bidirectional
                  FROM pgsync_itsm.portfolio_read($1, $2, t.entity_type, wanted, 'parent') AS s
                 CROSS JOIN LATERAL (SELECT coalesce(t.child_type, s.attrs ->> 'child_type', 'deployment_profile') AS child_type,
                                            coalesce(s.attrs ->> 'bidirectional' = 'true', false) AS bidirectional) AS e
                 WHERE s.key IS NOT NULL AND e.child_type = ANY (types);
        ELSE
            RETURN QUERY
                SELECT t.entity_type, pgsync_itsm.entity_id(t.entity_type, s.key), s.key,
                       pgsync_itsm.graph_label(t.entity_type, s.name, s.attrs, s.payload), s.class,
                       pgsync_itsm.graph_left_out(t.entity_type, s.attrs), coalesce(s.attrs ->> 'retired' = 'true', false),
                       -- as read_records() makes it
                       pgsync_itsm.content_hash(concat_ws('|', s.name, s.class, s.parent_key, s.child_key, s.attrs::text, s.payload::text)),
                       NULL::uuid, NULL::uuid, NULL::text, false
                  FROM pgsync_itsm.portfolio_read($1, $2, t.entity_type, wanted, 'key') AS s
                 WHERE s.key IS NOT NULL;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_sources(uuid, uuid, pgsync_itsm.graph_key[]) IS
'What the sources of a connection hold now, whole or (keys) what the picture of one application needs';

CREATE FUNCTION pgsync_itsm.graph_ends(connection_id uuid, namespace_id uuid, links text, keys pgsync_itsm.graph_key[])
RETURNS TABLE (entity_type text, key text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    t record;
    ids uuid[] := ARRAY(SELECT pgsync_itsm.entity_id(k.entity_type, k.key) FROM unnest(keys) AS k WHERE k.key IS NOT NULL);
BEGIN
    SELECT * INTO t FROM pgsync_itsm.graph_types($1) AS x WHERE x.entity_type = links;
    IF NOT FOUND OR cardinality(keys) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT e.entity_type, e.key
          FROM pgsync_itsm.portfolio_read($1, $2, links, ARRAY(SELECT k.key FROM unnest(keys) AS k), 'parent') AS s
         CROSS JOIN LATERAL (VALUES (t.source_parent, s.parent_key),
                                    (CASE WHEN t.swapped THEN t.parent_type ELSE coalesce(t.child_type, s.attrs ->> 'child_type') END, s.child_key))
               AS e(entity_type, key)
        UNION
        SELECT n.entity_type, substr(n.native_key, strpos(n.native_key, '/') + 1)
          FROM @extschema@.integration_sync_map AS l
         CROSS JOIN LATERAL (VALUES (l.parent_id), (l.child_id)) AS e(id)
          JOIN @extschema@.integration_sync_map AS n ON n.connection_id = $1 AND n.entity_id = e.id AND n.parent_id IS NULL
         WHERE l.connection_id = $1 AND l.entity_type = links AND (l.parent_id = ANY (ids) OR l.child_id = ANY (ids));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_ends(uuid, uuid, text, pgsync_itsm.graph_key[]) IS
'Both ends of the relationships of one type that records have, here or in the map';

CREATE FUNCTION pgsync_itsm.graph_keys(connection_id uuid, namespace_id uuid, application_id uuid) RETURNS pgsync_itsm.graph_key[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    app text := (SELECT substr(m.native_key, strpos(m.native_key, '/') + 1) FROM @extschema@.integration_sync_map AS m
                  WHERE m.connection_id = $1 AND m.entity_type = 'application' AND m.entity_id = $3);
    near pgsync_itsm.graph_key[];
    profiles pgsync_itsm.graph_key[];
    k pgsync_itsm.graph_key[];
BEGIN
    -- An id that was made from the key does not give it back.
    IF app IS NULL AND $1 IS NOT NULL AND (pgsync_itsm.source_row($1, 'application')).key_type <> 'uuid' THEN
        SELECT s.key INTO app FROM pgsync_itsm.read_source($1, 'application') AS s WHERE pgsync_itsm.entity_id('application', s.key) = $3 LIMIT 1;
    END IF;
    near := ARRAY[ROW('application', coalesce(app, $3::text), true)::pgsync_itsm.graph_key];
    profiles := ARRAY(SELECT ROW(e.entity_type, e.key, true)::pgsync_itsm.graph_key
                        FROM pgsync_itsm.graph_ends($1, $2, 'consumes', near) AS e WHERE e.entity_type = 'deployment_profile');
    k := near || profiles || ARRAY(SELECT ROW(e.entity_type, e.key, false)::pgsync_itsm.graph_key
                                     FROM unnest(ARRAY['depends_on', 'runs_on', 'sends_data_to']) AS l(links)
                                    CROSS JOIN LATERAL pgsync_itsm.graph_ends($1, $2, l.links, profiles) AS e);
    k := k || ARRAY(SELECT ROW(CASE x.entity_type WHEN 'software_package' THEN 'software_product' ELSE 'software_package' END, x.key,
                               false)::pgsync_itsm.graph_key
                      FROM unnest(k) AS x WHERE x.entity_type IN ('software_package', 'software_product'));
    RETURN k || ARRAY(SELECT ROW(e.entity_type, e.key, false)::pgsync_itsm.graph_key FROM pgsync_itsm.graph_ends($1, $2, 'covers', k) AS e
                       WHERE e.entity_type = 'contract');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_keys(uuid, uuid, uuid) IS
'The records that the picture of one application needs: its profiles, their neighbours, the contracts about these';

-- One pass over three sets, joined by hash whatever is thought of the size of arrays; the price that this puts on plans
-- must not make them worth compiling.  What is in error, and since when: a plan's
-- own verdict holds until the next plan in full; what the platform refused, until it is sent again or no longer differs.
CREATE FUNCTION pgsync_itsm.graph_merge(connection_id uuid, sources pgsync_itsm.graph_source[], ids uuid[]) RETURNS SETOF pgsync_itsm.graph_part
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_nestloop = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    types text[] := ARRAY(SELECT t.entity_type FROM pgsync_itsm.plan_types() AS t WHERE t.entity_type NOT IN ('company', 'contact'));
    publish_retired boolean := pgsync_itsm.source_setting($1, 'publish_retired')::boolean;
    update_matched boolean := pgsync_itsm.source_setting($1, 'update_matched')::boolean;
    exchanges text := pgsync_itsm.relation_type($1, 'sends_data_to', true);
    wanted uuid[];
    first_run bigint;
    last_plan bigint;
    runs bigint[];
BEGIN
    IF ids IS NOT NULL THEN
        wanted := ids || ARRAY(SELECT s.entity_id FROM unnest(sources) AS s)
                      || ARRAY(SELECT m.entity_id FROM @extschema@.integration_sync_map AS m
                                WHERE m.connection_id = $1 AND m.parent_id = ANY (ids) AND m.child_id = ANY (ids));
    END IF;
    SELECT coalesce(max(r.id) FILTER (WHERE r.kind = 'publish' AND r.status IN ('running', 'done')), max(r.id), 0), coalesce(max(r.id), 0)
      INTO first_run, last_plan
      FROM @extschema@.integration_runs AS r
     WHERE r.connection_id = $1 AND NOT r.partial AND r.kind IN ('publish', 'preview') AND r.planned_at IS NOT NULL;
    runs := ARRAY(SELECT r.id FROM @extschema@.integration_runs AS r
                   WHERE r.connection_id = $1 AND r.id >= first_run AND r.kind IN ('publish', 'preview') AND r.planned_at IS NOT NULL);
    RETURN QUERY
    WITH source AS MATERIALIZED (
        SELECT s.* FROM unnest(sources) AS s
    ), known AS MATERIALIZED (
        SELECT m.entity_type, m.entity_id, substr(m.native_key, strpos(m.native_key, '/') + 1) AS key, m.published_name, m.external_table, m.state,
               m.source_hash, m.sync_direction = 'published' OR update_matched
                              OR m.entity_type NOT IN ('it_service', 'software_product', 'software_package') AS written,
               m.parent_id, m.child_id, m.rel_type
          FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = $1 AND m.entity_type = ANY (types) AND (ids IS NULL OR m.entity_id = ANY (wanted))
    ), items AS MATERIALIZED (
        SELECT i.id, i.run_id, i.entity_type, i.entity_id, substr(i.native_key, strpos(i.native_key, '/') + 1) AS key, i.label, i.action, i.state,
               i.external_table, i.parent_id, i.child_id, i.rel_type, coalesce(i.reason, i.error_class) AS reason
          FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = ANY (runs) AND i.entity_type = ANY (types) AND (ids IS NULL OR i.entity_id = ANY (wanted))
    ), newest AS (
        SELECT DISTINCT ON (i.entity_id, i.entity_type) i.* FROM items AS i
         ORDER BY i.entity_id, i.entity_type, i.run_id DESC, i.state = 'dead' DESC, i.id DESC
    ), answered AS (
        SELECT DISTINCT ON (i.entity_id, i.entity_type) i.* FROM items AS i
         WHERE i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE') AND i.state IN ('done', 'unchanged', 'dead')
         ORDER BY i.entity_id, i.entity_type, i.run_id DESC, i.state = 'dead' DESC, i.id DESC
    ), latest AS (
        SELECT n.*, CASE WHEN a.state = 'dead' THEN coalesce(a.reason, 'refused there') END AS refused
          FROM newest AS n LEFT JOIN answered AS a ON a.entity_id = n.entity_id AND a.entity_type = n.entity_type
         WHERE n.run_id >= last_plan
    ), together AS (
        SELECT coalesce(s.entity_type, k.entity_type, l.entity_type) AS entity_type, coalesce(s.entity_id, k.entity_id, l.entity_id) AS entity_id,
               coalesce(s.key, k.key, l.key) AS key, coalesce(s.label, k.published_name, l.label) AS label,
               coalesce(s.class, k.external_table, l.external_table) AS class, coalesce(s.parent_id, k.parent_id, l.parent_id) AS parent_id,
               coalesce(s.child_id, k.child_id, l.child_id) AS child_id, coalesce(s.rel_type, k.rel_type, l.rel_type) AS rel_type,
               coalesce(s.both_ways, k.rel_type = exchanges, l.rel_type = exchanges, false) AS both_ways,
               s.entity_id IS NOT NULL AS here, k.entity_id IS NOT NULL AS there, k.state AS there_state, l.action, l.state, l.reason, l.refused,
               coalesce(NOT s.left_out AND (publish_retired OR NOT s.retired OR k.entity_id IS NOT NULL),
                        -- a relationship that waits for an end is one all the same; where the end is not published, it has none here either
                        sources IS NULL AND CASE WHEN l.action IS NULL THEN k.entity_id IS NOT NULL
                                                 WHEN l.action = 'SKIP' THEN l.parent_id IS NOT NULL AND k.entity_id IS NULL
                                                 ELSE l.action <> 'DELETE' END,
                        false) AS published,
               k.written AND k.source_hash <> s.source_hash OR k.rel_type <> s.rel_type AS differs
          FROM source AS s
          FULL JOIN known AS k ON k.entity_id = s.entity_id AND k.entity_type = s.entity_type
          FULL JOIN latest AS l ON l.entity_id = coalesce(s.entity_id, k.entity_id) AND l.entity_type = coalesce(s.entity_type, k.entity_type)
    )
    SELECT t.entity_type, t.entity_id, t.key, t.label, t.class, t.verdict[1], t.verdict[2], t.parent_id, t.child_id, t.rel_type, t.both_ways
      FROM (SELECT x.*, CASE
                   WHEN x.there_state = 'gone' THEN ARRAY['in_error', 'deleted there']
                   WHEN x.refused IS NOT NULL THEN ARRAY['in_error', x.refused]
                   WHEN x.action IN ('ERROR', 'MISMATCH') THEN ARRAY['in_error', coalesce(x.reason, 'needs a decision')]
                   WHEN NOT x.there AND x.state IN ('skipped', 'refused') THEN ARRAY['new', coalesce(x.reason, 'not published yet')]
                   WHEN NOT x.there THEN ARRAY['new', 'not published yet']
                   WHEN x.action = 'DELETE' AND x.state IN ('planned', 'pending') THEN ARRAY['changed', 'will be removed there']
                   WHEN NOT x.published THEN ARRAY['changed', CASE WHEN x.here OR x.action = 'SKIP' THEN 'no longer in scope' ELSE 'no longer in the sources' END]
                   WHEN x.action IN ('CREATE', 'UPDATE', 'CLEAR') AND x.state IN ('planned', 'pending') THEN ARRAY['changed', 'an update is planned']
                   WHEN x.action IN ('UPDATE', 'CLEAR') AND x.state IN ('cancelled', 'refused') THEN ARRAY['changed', 'an update was planned and not sent']
                   WHEN x.differs THEN ARRAY['changed', 'changed here since it was published']
                   ELSE ARRAY['in_step', 'published'] END AS verdict
              FROM together AS x
             WHERE x.published OR x.there_state = 'linked') AS t;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_merge(uuid, pgsync_itsm.graph_source[], uuid[]) IS
'Sources, map and the items of the newest runs of a connection as one set with states; sources NULL: as of the newest plan. Ids restrict it to these records and what connects them';

CREATE FUNCTION pgsync_itsm.graph_parts(connection_id uuid, namespace_id uuid, application_id uuid) RETURNS SETOF pgsync_itsm.graph_part
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name := (SELECT c.owner FROM @extschema@.integration_connections AS c WHERE c.id = $1);
    keys pgsync_itsm.graph_key[];
    sources pgsync_itsm.graph_source[];
    ids uuid[];
BEGIN
    IF $1 IS NULL OR EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = owner AND pg_has_role(r.oid, 'MEMBER')) THEN
        IF $3 IS NOT NULL THEN
            keys := pgsync_itsm.graph_keys($1, $2, $3);
            ids := ARRAY(SELECT pgsync_itsm.entity_id(k.entity_type, k.key) FROM unnest(keys) AS k WHERE k.key IS NOT NULL);
        END IF;
        sources := ARRAY(SELECT s FROM pgsync_itsm.graph_sources($1, $2, keys) AS s);
    ELSE
        RAISE NOTICE 'the picture shows what is published and what the newest plan of connection % holds', $1
            USING DETAIL = format('Only members of its owner %I read its sources.', owner),
                  HINT = format('SELECT itsm_preview(%L); plans anew.', $2);
    END IF;
    RETURN QUERY SELECT p.* FROM pgsync_itsm.graph_merge($1, sources, ids) AS p;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_parts(uuid, uuid, uuid) IS
'Records and relationships of one connection with their states, of the whole namespace or around one application; without connection everything is new';

-- The model -----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.graph_text(words text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    words := btrim(regexp_replace(words, E'[\x01-\x20\x7f]+', ' ', 'g'));
    -- Two characters that XML does not have; other encodings do not have them either.
    IF octet_length(words) <> length(words) AND getdatabaseencoding() = 'UTF8' THEN
        words := translate(words, chr(65534) || chr(65535), '');
    END IF;
    RETURN words;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_text(text) IS 'A name on one line, without characters that no format holds';

-- Half as wide again for each byte more: about right for what is not Latin.
CREATE FUNCTION pgsync_itsm.graph_short(words text, units integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN length(words) + octet_length(words) <= 2 * units THEN words
            ELSE rtrim(left(words, greatest(2 * (units - 3) * length(words) / (length(words) + octet_length(words)), 1))) || '...' END;
COMMENT ON FUNCTION pgsync_itsm.graph_short(text, integer) IS 'A name that fits a box of so many Latin letters';

CREATE FUNCTION pgsync_itsm.graph_title(entity_type text, class text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE entity_type
    WHEN 'application' THEN 'Business application'
    WHEN 'deployment_profile' THEN CASE class WHEN 'cmdb_ci_service_technical' THEN 'Technical service'
                                              WHEN 'service_offering' THEN 'Technical service offering' ELSE 'Application service' END
    WHEN 'it_service' THEN CASE class WHEN 'service_offering' THEN 'Shared IT service' ELSE 'Private IT service' END
    WHEN 'contract' THEN 'Vendor contract' ELSE 'Software product' END;
COMMENT ON FUNCTION pgsync_itsm.graph_title(text, text) IS 'What a box is, in words';

CREATE FUNCTION pgsync_itsm.graph_relation(entity_type text, rel_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(nullif(btrim(split_part(rel_type, '::', 1)), ''),
    CASE entity_type WHEN 'consumes' THEN 'Consumes' WHEN 'depends_on' THEN 'Depends on' WHEN 'runs_on' THEN 'Runs on'
                     WHEN 'sends_data_to' THEN 'Sends data to' WHEN 'covers' THEN 'Covers' END);
COMMENT ON FUNCTION pgsync_itsm.graph_relation(text, text) IS 'What a line says, read from parent to child';

CREATE FUNCTION pgsync_itsm.graph_id(entity_type text, entity_id uuid, key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE entity_type WHEN 'application' THEN 'app' WHEN 'deployment_profile' THEN 'profile' WHEN 'it_service' THEN 'service'
                        WHEN 'contract' THEN 'contract' ELSE 'product' END
       || '_' || replace(CASE entity_type WHEN 'software_package' THEN coalesce(pgsync_itsm.entity_id('software_product', key), entity_id)
                                          ELSE entity_id END::text, '-', '');
COMMENT ON FUNCTION pgsync_itsm.graph_id(text, uuid, text) IS 'Name of a box: the same in every picture, letters, digits and underscores';

-- Of several connections the worst state counts.  Within a column boxes stand where their left neighbours do.
CREATE FUNCTION pgsync_itsm.graph_model(parts pgsync_itsm.graph_part[], application_id uuid, OUT nodes pgsync_itsm.graph_node[], OUT edges pgsync_itsm.graph_edge[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    WITH part AS MATERIALIZED (
        SELECT p.*, s.badness, CASE WHEN p.parent_id IS NULL THEN pgsync_itsm.graph_id(p.entity_type, p.entity_id, p.key) END AS id
          FROM unnest(parts) AS p JOIN pgsync_itsm.graph_states() AS s ON s.state = p.state
    ), box AS MATERIALIZED (
        SELECT p.id, k.kind, k.col, max(p.badness) AS badness,
               (array_agg(p.reason ORDER BY p.badness DESC, p.entity_type = 'software_package' DESC, p.reason))[1] AS reason,
               (array_agg(coalesce(nullif(pgsync_itsm.graph_text(p.label), ''), p.key) ORDER BY p.entity_type = 'software_package' DESC, p.label COLLATE "C"))[1] AS name,
               min(pgsync_itsm.graph_title(p.entity_type, p.class)) AS title
          FROM part AS p JOIN pgsync_itsm.graph_kinds() AS k ON k.entity_type = p.entity_type
         WHERE p.parent_id IS NULL
         GROUP BY p.id, k.kind, k.col
    ), ends AS MATERIALIZED (
        SELECT DISTINCT ON (p.entity_id) p.entity_id, p.id, k.kind, k.col
          FROM part AS p JOIN pgsync_itsm.graph_kinds() AS k ON k.entity_type = p.entity_type
         WHERE p.parent_id IS NULL
         ORDER BY p.entity_id, p.id
    ), line AS MATERIALIZED (
        SELECT a.id AS parent, a.kind AS parent_kind, a.col AS parent_col, c.id AS child, c.kind AS child_kind, c.col AS child_col, p.entity_type AS kind,
               max(p.badness) AS badness, (array_agg(p.reason ORDER BY p.badness DESC, p.reason))[1] AS reason,
               min(pgsync_itsm.graph_relation(p.entity_type, p.rel_type)) AS label, bool_or(p.both_ways) AS both_ways
          FROM part AS p
          JOIN ends AS a ON a.entity_id = p.parent_id
          JOIN ends AS c ON c.entity_id = p.child_id
         GROUP BY a.id, a.kind, a.col, c.id, c.kind, c.col, p.entity_type
    ), own AS MATERIALIZED (
        SELECT l.child AS id FROM line AS l WHERE l.kind = 'consumes' AND l.parent = pgsync_itsm.graph_id('application', application_id, NULL)
    ), near AS MATERIALIZED (
        SELECT l.* FROM line AS l
         WHERE l.kind IN ('depends_on', 'runs_on', 'sends_data_to')
           AND (l.parent IN (SELECT o.id FROM own AS o) OR l.child IN (SELECT o.id FROM own AS o))
    ), about AS MATERIALIZED (
        SELECT o.id FROM own AS o
        UNION SELECT e.id FROM near AS n CROSS JOIN LATERAL (VALUES (n.parent, n.parent_kind), (n.child, n.child_kind)) AS e(id, kind) WHERE e.kind <> 'profile'
    ), drawn AS MATERIALIZED (
        SELECT l.* FROM line AS l
         WHERE application_id IS NULL
            OR l.kind = 'consumes' AND l.parent = pgsync_itsm.graph_id('application', application_id, NULL)
            OR l.kind = 'covers' AND l.child IN (SELECT a.id FROM about AS a)
        UNION ALL SELECT n.* FROM near AS n WHERE application_id IS NOT NULL
    ), shown AS MATERIALIZED (
        SELECT b.*, pgsync_itsm.graph_short(b.name, 40) AS label, lower(b.name) COLLATE "C" AS place
          FROM box AS b
         WHERE application_id IS NULL OR b.id = pgsync_itsm.graph_id('application', application_id, NULL)
            OR b.id IN (SELECT d.parent FROM drawn AS d UNION ALL SELECT d.child FROM drawn AS d)
    ), said AS MATERIALIZED (
        -- few, however many lines
        SELECT w.words, pgsync_itsm.graph_text(w.words) AS clean FROM (SELECT d.label AS words FROM drawn AS d UNION SELECT d.reason FROM drawn AS d) AS w
    ), pairs AS MATERIALIZED (
        SELECT d.parent AS id, d.parent_col AS col, d.child AS other, d.child_col AS other_col FROM drawn AS d
        UNION ALL SELECT d.child, d.child_col, d.parent, d.parent_col FROM drawn AS d
    ), first AS MATERIALIZED (
        SELECT s.id, row_number() OVER (ORDER BY s.place, s.id) AS pos FROM shown AS s WHERE s.col = 1
    ), second AS MATERIALIZED (
        SELECT s.id, row_number() OVER (ORDER BY h.pos NULLS LAST, s.place, s.id) AS pos
          FROM shown AS s
          LEFT JOIN (SELECT p.id, avg(f.pos) AS pos FROM pairs AS p JOIN first AS f ON f.id = p.other WHERE p.col = 2 GROUP BY p.id) AS h ON h.id = s.id
         WHERE s.col = 2
    ), third AS MATERIALIZED (
        SELECT s.id, row_number() OVER (ORDER BY h.pos NULLS LAST, s.kind DESC, s.place, s.id) AS pos
          FROM shown AS s
          LEFT JOIN (SELECT p.id, avg(f.pos) AS pos FROM pairs AS p JOIN second AS f ON f.id = p.other WHERE p.col = 3 GROUP BY p.id) AS h ON h.id = s.id
         WHERE s.col = 3
    ), fourth AS MATERIALIZED (
        SELECT s.id, row_number() OVER (ORDER BY h.pos NULLS LAST, s.place, s.id) AS pos
          FROM shown AS s
          LEFT JOIN (SELECT p.id, avg(f.pos) AS pos FROM pairs AS p JOIN (SELECT * FROM second UNION ALL SELECT * FROM third) AS f ON f.id = p.other
                      WHERE p.col = 4 GROUP BY p.id) AS h ON h.id = s.id
         WHERE s.col = 4
    ), placed AS MATERIALIZED (
        SELECT s.*, q.pos::integer AS pos, t.state
          FROM (SELECT * FROM first UNION ALL SELECT * FROM second UNION ALL SELECT * FROM third UNION ALL SELECT * FROM fourth) AS q
          JOIN shown AS s ON s.id = q.id
          JOIN pgsync_itsm.graph_states() AS t ON t.badness = s.badness
    )
    SELECT (SELECT array_agg(ROW(p.id, p.kind, p.title, p.col, p.pos, p.name, p.label, p.state, pgsync_itsm.graph_text(p.reason))::pgsync_itsm.graph_node
                             ORDER BY p.col, p.pos)
              FROM placed AS p),
           (SELECT array_agg(ROW(d.parent, a.col, a.pos, d.child, c.col, c.pos, d.kind, w.clean, d.both_ways, t.state,
                                 r.clean, a.label || ' > ' || c.label)::pgsync_itsm.graph_edge
                             ORDER BY a.col, a.pos, c.col, c.pos, d.kind)
              FROM drawn AS d
              JOIN placed AS a ON a.id = d.parent
              JOIN placed AS c ON c.id = d.child
              JOIN said AS w ON w.words = d.label
              JOIN said AS r ON r.words = d.reason
              JOIN pgsync_itsm.graph_states() AS t ON t.badness = d.badness)
      INTO nodes, edges;
    nodes := coalesce(nodes, '{}');
    edges := coalesce(edges, '{}');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_model(pgsync_itsm.graph_part[], uuid) IS
'Boxes and lines in the order in which they are drawn, of everything or of what one application reaches';

CREATE FUNCTION pgsync_itsm.graph_counts(nodes pgsync_itsm.graph_node[]) RETURNS TABLE (state text, words text, ord integer, fill text, line text, n bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT s.state, s.words, s.ord, s.fill, s.line, coalesce(c.n, 0)
      FROM pgsync_itsm.graph_states() AS s
      LEFT JOIN (SELECT x.state, count(*) AS n FROM unnest(graph_counts.nodes) AS x GROUP BY x.state) AS c ON c.state = s.state
     ORDER BY s.ord;
END;
COMMENT ON FUNCTION pgsync_itsm.graph_counts(pgsync_itsm.graph_node[]) IS 'The legend: states, colours, and how many boxes there are of each';

-- Formats -------------------------------------------------------------------------------------------

-- In a quoted string a backslash begins an escape, and an ampersand an entity.
CREATE FUNCTION pgsync_itsm.graph_dot_text(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '"' || replace(replace(replace(words, '&', '&amp;'), '\', '\\'), '"', '\"') || '"';
COMMENT ON FUNCTION pgsync_itsm.graph_dot_text(text) IS 'A text as a quoted string of the DOT language';

CREATE FUNCTION pgsync_itsm.graph_dot(title text, nodes pgsync_itsm.graph_node[], edges pgsync_itsm.graph_edge[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN concat_ws(E'\n',
        'digraph csdm {',
        format('  graph [rankdir=LR, charset="UTF-8", labelloc=t, fontname="Helvetica", nodesep=0.15, ranksep=1.2, label=%s];',
               pgsync_itsm.graph_dot_text(title)),
        '  node [shape=box, style=filled, fontname="Helvetica", fontsize=11, height=0.3];',
        '  edge [fontname="Helvetica", fontsize=8, arrowsize=0.7];',
        -- headings hold the columns in order, also where nothing connects them
        (SELECT string_agg(format('  column_%s [shape=plaintext, style="", label=%s];', k.col, pgsync_itsm.graph_dot_text(k.heading)), E'\n' ORDER BY k.col)
           FROM (SELECT DISTINCT x.col, x.heading FROM pgsync_itsm.graph_kinds() AS x) AS k),
        '  column_1 -> column_2 -> column_3 -> column_4 [style=invis];',
        (SELECT string_agg(r.line, E'\n' ORDER BY r.col)
           FROM (SELECT n.col, format('  { rank=same; column_%s; %s; }', n.col, string_agg(n.id, '; ' ORDER BY n.pos)) AS line
                   FROM unnest(nodes) AS n GROUP BY n.col) AS r),
        (SELECT string_agg(format('  %s [label=%s, tooltip=%s, shape=%s, fillcolor="%s", color="%s"];', n.id, pgsync_itsm.graph_dot_text(n.label),
                                  pgsync_itsm.graph_dot_text(format('%s: %s, %s (%s)', n.title, n.name, s.words, n.reason)),
                                  CASE n.kind WHEN 'profile' THEN 'component' WHEN 'service' THEN 'ellipse' WHEN 'product' THEN 'tab'
                                              WHEN 'contract' THEN 'note' ELSE 'box' END, s.fill, s.line), E'\n' ORDER BY n.col, n.pos)
           FROM unnest(nodes) AS n JOIN pgsync_itsm.graph_states() AS s ON s.state = n.state),
        -- from column to column, whichever way the arrow points
        (SELECT string_agg(format('  %s -> %s [label=%s, tooltip=%s, color="%s", fontcolor="%s"%s];',
                                  CASE WHEN e.parent_col > e.child_col THEN e.child ELSE e.parent END,
                                  CASE WHEN e.parent_col > e.child_col THEN e.parent ELSE e.child END,
                                  pgsync_itsm.graph_dot_text(e.label),
                                  pgsync_itsm.graph_dot_text(format('%s: %s, %s (%s)', e.label, e.ends, s.words, e.reason)), s.line, s.line,
                                  CASE WHEN e.both_ways THEN ', dir=both' WHEN e.parent_col > e.child_col THEN ', dir=back' ELSE '' END
                                  || CASE WHEN e.parent_col = e.child_col THEN ', style=dashed, constraint=false' ELSE '' END),
                           E'\n' ORDER BY e.parent_col, e.parent_pos, e.child_col, e.child_pos, e.kind)
           FROM unnest(edges) AS e JOIN pgsync_itsm.graph_states() AS s ON s.state = e.state),
        '  subgraph cluster_legend {',
        '    label="State";',
        (SELECT string_agg(format('    legend_%s [label=%s, fillcolor="%s", color="%s"];', c.state,
                                  pgsync_itsm.graph_dot_text(format('%s: %s', c.words, c.n)), c.fill, c.line), E'\n' ORDER BY c.ord)
           FROM pgsync_itsm.graph_counts(nodes) AS c),
        '  }',
        '}') || E'\n';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_dot(text, pgsync_itsm.graph_node[], pgsync_itsm.graph_edge[]) IS 'The picture in the DOT language of Graphviz';

-- Inside quotes Mermaid takes entities with # for what it would interpret; # itself is the first to be replaced.
CREATE FUNCTION pgsync_itsm.graph_mermaid_text(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '"' || replace(replace(replace(replace(replace(replace(replace(replace(words, '#', '#35;'), '&', '#38;'), '"', '#34;'), '<', '#60;'),
                      '>', '#62;'), '\', '#92;'), '`', '#96;'), '%', '#37;') || '"';
COMMENT ON FUNCTION pgsync_itsm.graph_mermaid_text(text) IS 'A text as a quoted string of Mermaid';

CREATE FUNCTION pgsync_itsm.graph_mermaid(title text, nodes pgsync_itsm.graph_node[], edges pgsync_itsm.graph_edge[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN concat_ws(E'\n',
        'flowchart LR',
        '  accTitle: ' || regexp_replace(title, '[#%;{}<>"\\]', ' ', 'g'),
        (SELECT string_agg(format('  classDef %s fill:%s,stroke:%s,color:#1a1a1a', s.state, s.fill, s.line), E'\n' ORDER BY s.ord)
           FROM pgsync_itsm.graph_states() AS s),
        (SELECT string_agg(CASE n.kind WHEN 'profile' THEN format('  %s[[%s]]:::%s', n.id, m.label, n.state)
                                       WHEN 'service' THEN format('  %s([%s]):::%s', n.id, m.label, n.state)
                                       WHEN 'product' THEN format('  %s[(%s)]:::%s', n.id, m.label, n.state)
                                       WHEN 'contract' THEN format('  %s>%s]:::%s', n.id, m.label, n.state)
                                       ELSE format('  %s[%s]:::%s', n.id, m.label, n.state) END, E'\n' ORDER BY n.col, n.pos)
           FROM unnest(nodes) AS n CROSS JOIN LATERAL (SELECT pgsync_itsm.graph_mermaid_text(n.label) AS label) AS m),
        (SELECT string_agg(format('  %s %s|%s| %s', e.parent,
                                  CASE WHEN e.both_ways THEN '<-->' WHEN e.parent_col = e.child_col THEN '-.->' ELSE '-->' END,
                                  pgsync_itsm.graph_mermaid_text(e.label), e.child),
                           E'\n' ORDER BY e.parent_col, e.parent_pos, e.child_col, e.child_pos, e.kind)
           FROM unnest(edges) AS e),
        -- lines have no names, only numbers
        (SELECT string_agg(format('  linkStyle %s stroke:%s', l.numbers, s.line), E'\n' ORDER BY s.ord)
           FROM (SELECT x.state, string_agg((x.n - 1)::text, ',' ORDER BY x.n) AS numbers
                   FROM (SELECT e.state, row_number() OVER (ORDER BY e.parent_col, e.parent_pos, e.child_col, e.child_pos, e.kind) AS n
                           FROM unnest(edges) AS e) AS x GROUP BY x.state) AS l
           JOIN pgsync_itsm.graph_states() AS s ON s.state = l.state),
        '  subgraph legend ["State"]',
        (SELECT string_agg(format('    legend_%s["%s: %s"]:::%s', c.state, c.words, c.n, c.state), E'\n' ORDER BY c.ord)
           FROM pgsync_itsm.graph_counts(nodes) AS c),
        '  end') || E'\n';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_mermaid(text, pgsync_itsm.graph_node[], pgsync_itsm.graph_edge[]) IS 'The picture as a Mermaid flowchart';

CREATE FUNCTION pgsync_itsm.graph_xml_text(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(replace(replace(replace(words, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;');
COMMENT ON FUNCTION pgsync_itsm.graph_xml_text(text) IS 'A text as content or attribute of XML';

CREATE FUNCTION pgsync_itsm.graph_svg_path(from_col integer, to_col integer, from_y numeric, to_y numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT format('M%s %s C%s %s %s %s %s %s', p.x1, from_y, p.x1 + p.bend1, from_y, p.x2 + p.bend2, to_y, p.x2, to_y)
          FROM (SELECT CASE WHEN to_col < from_col THEN f.x ELSE f.x + 290 END AS x1, CASE WHEN to_col > from_col THEN t.x ELSE t.x + 290 END AS x2,
                       CASE WHEN to_col < from_col THEN -60 ELSE 60 END AS bend1, CASE WHEN to_col > from_col THEN -60 ELSE 60 END AS bend2
                  FROM (SELECT 20 + 430 * (from_col - 1) AS x) AS f, (SELECT 20 + 430 * (to_col - 1) AS x) AS t) AS p);
COMMENT ON FUNCTION pgsync_itsm.graph_svg_path(integer, integer, numeric, numeric) IS
'A line between the sides of two boxes that face each other; within a column it goes round on the right';

-- Boxes of 290 by 40 in columns 430 apart, rows 52 apart, below a head of 110.
CREATE FUNCTION pgsync_itsm.graph_svg(title text, nodes pgsync_itsm.graph_node[], edges pgsync_itsm.graph_edge[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- rows of the longest column; where a shorter one begins
    high bigint := coalesce((SELECT max(n.pos) FROM unnest(nodes) AS n), 1);
    tops numeric[] := ARRAY(SELECT 110 + 26 * (high - coalesce(m.pos, 0))
                              FROM generate_series(1, 4) AS c(col)
                              LEFT JOIN (SELECT n.col, max(n.pos) AS pos FROM unnest(nodes) AS n GROUP BY n.col) AS m ON m.col = c.col
                             ORDER BY c.col);
BEGIN
    RETURN concat_ws(E'\n',
        format('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1640 %s" width="1640" height="%s" role="img" aria-labelledby="csdm-title csdm-desc">',
               high * 52 + 130, high * 52 + 130),
        format('<title id="csdm-title">%s</title>', pgsync_itsm.graph_xml_text(title)),
        format('<desc id="csdm-desc">From left to right: %s. %s.</desc>',
               (SELECT lower(string_agg(k.heading, '; ' ORDER BY k.col)) FROM (SELECT DISTINCT x.col, x.heading FROM pgsync_itsm.graph_kinds() AS x) AS k),
               (SELECT string_agg(format('%s %s', c.n, c.words), ', ' ORDER BY c.ord) FROM pgsync_itsm.graph_counts(nodes) AS c)),
        '<style>',
        'text { font-family: Helvetica, Arial, sans-serif; font-size: 13px; fill: #1a1a1a; }',
        '.small { font-size: 10px; fill: #444444; } .head { font-size: 16px; font-weight: bold; } .column { font-weight: bold; }',
        'path.line { fill: none; stroke-width: 1.2; } .sends_data_to { stroke-dasharray: 5 3; } rect { stroke-width: 1.2; rx: 4px; }',
        (SELECT string_agg(format('.%s rect { fill: %s; stroke: %s; } path.line.%s { stroke: %s; }', s.state, s.fill, s.line, s.state, s.line),
                           E'\n' ORDER BY s.ord)
           FROM pgsync_itsm.graph_states() AS s),
        '</style>',
        '<defs>',
        (SELECT string_agg(format('<marker id="arrow-%s" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
                                  '<path d="M0 0 L8 4 L0 8 Z" fill="%s"/></marker>', s.state, s.line), E'\n' ORDER BY s.ord)
           FROM pgsync_itsm.graph_states() AS s),
        '</defs>',
        format('<rect x="0" y="0" width="1640" height="%s" fill="#ffffff"/>', high * 52 + 130),
        format('<text class="head" x="20" y="30">%s</text>', pgsync_itsm.graph_xml_text(title)),
        '<g id="legend">',
        (SELECT string_agg(format('<g class="%s"><rect x="%s" y="46" width="18" height="18"/><text x="%s" y="60">%s: %s</text></g>',
                                  c.state, 20 + 150 * (c.ord - 1), 45 + 150 * (c.ord - 1), c.words, c.n), E'\n' ORDER BY c.ord)
           FROM pgsync_itsm.graph_counts(nodes) AS c),
        '</g>',
        (SELECT string_agg(format('<text class="column" x="%s" y="98">%s</text>', 20 + 430 * (k.col - 1), k.heading), E'\n' ORDER BY k.col)
           FROM (SELECT DISTINCT x.col, x.heading FROM pgsync_itsm.graph_kinds() AS x) AS k),
        CASE WHEN nodes = '{}' THEN '<text x="20" y="130">Nothing is published, and nothing would be.</text>' END,
        (SELECT string_agg(format('<path class="line %s %s" d="%s"%s marker-end="url(#arrow-%s)"><title>%s</title></path>', e.kind, e.state,
                                  pgsync_itsm.graph_svg_path(e.parent_col, e.child_col, tops[e.parent_col] + 52 * (e.parent_pos - 1) + 20,
                                                             tops[e.child_col] + 52 * (e.child_pos - 1) + 20),
                                  CASE WHEN e.both_ways THEN format(' marker-start="url(#arrow-%s)"', e.state) ELSE '' END, e.state,
                                  pgsync_itsm.graph_xml_text(format('%s: %s, %s (%s)', e.label, e.ends, s.words, e.reason))),
                           E'\n' ORDER BY e.parent_col, e.parent_pos, e.child_col, e.child_pos, e.kind)
           FROM unnest(edges) AS e JOIN pgsync_itsm.graph_states() AS s ON s.state = e.state),
        (SELECT string_agg(format('<g id="%s" class="%s %s"><title>%s</title><rect x="%s" y="%s" width="290" height="40"/>'
                                  '<text x="%s" y="%s">%s</text><text class="small" x="%s" y="%s">%s</text></g>',
                                  n.id, n.kind, n.state, pgsync_itsm.graph_xml_text(format('%s: %s, %s (%s)', n.title, n.name, s.words, n.reason)),
                                  p.x, p.y, p.x + 10, p.y + 17, pgsync_itsm.graph_xml_text(n.label), p.x + 10, p.y + 32,
                                  pgsync_itsm.graph_xml_text(format('%s, %s', n.title, s.words))), E'\n' ORDER BY n.col, n.pos)
           FROM unnest(nodes) AS n
           JOIN pgsync_itsm.graph_states() AS s ON s.state = n.state
          CROSS JOIN LATERAL (SELECT 20 + 430 * (n.col - 1) AS x, tops[n.col] + 52 * (n.pos - 1) AS y) AS p),
        '</svg>') || E'\n';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_svg(text, pgsync_itsm.graph_node[], pgsync_itsm.graph_edge[]) IS 'The picture as an SVG document';

-- The call ------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.graph_connections(namespace_id uuid) RETURNS uuid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found uuid[];
BEGIN
    PERFORM pgsync_itsm.check_namespace($1);
    -- Those that are not turned on yet count where none is.
    SELECT array_agg(c.id ORDER BY c.platform, c.name) INTO found
      FROM @extschema@.integration_connections AS c
     WHERE c.namespace_id = $1 AND c.sync_direction <> 'subscribe'
       AND (c.is_active OR NOT EXISTS (SELECT FROM @extschema@.integration_connections AS a
                                        WHERE a.namespace_id = $1 AND a.is_active AND a.sync_direction <> 'subscribe'));
    IF found IS NOT NULL THEN
        RETURN found;
    END IF;
    IF pgsync_itsm.attached_schema() IS NULL THEN
        RAISE EXCEPTION 'namespace % has no connection to publish through', $1
            USING ERRCODE = 'undefined_object',
                  HINT = 'SELECT DISTINCT namespace_id FROM integration_connections; or SELECT itsm_attach_getinsync(); for a picture before the first connection.';
    END IF;
    RETURN ARRAY[NULL]::uuid[];
END
$$;
COMMENT ON FUNCTION pgsync_itsm.graph_connections(uuid) IS
'Connections whose states a picture shows; one NULL: none yet, the attached tables are shown; an error for a namespace that is not the caller''s';

CREATE FUNCTION @extschema@.itsm_graph(namespace_id uuid, application_id uuid DEFAULT NULL, format text DEFAULT 'dot') RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    connections uuid[];
    model record;
    app pgsync_itsm.graph_node;
    title text;
BEGIN
    PERFORM pgsync_itsm.check_one_of('format', $3, ARRAY['dot', 'mermaid', 'svg']);
    connections := pgsync_itsm.graph_connections($1);
    model := pgsync_itsm.graph_model(ARRAY(SELECT p FROM unnest(connections) WITH ORDINALITY AS c(id, n)
                                            CROSS JOIN LATERAL pgsync_itsm.graph_parts(c.id, $1, $2) AS p ORDER BY c.n), $2);
    IF $2 IS NOT NULL THEN
        SELECT n.* INTO app FROM unnest(model.nodes) AS n WHERE n.id = pgsync_itsm.graph_id('application', $2, NULL);
        IF app.id IS NULL THEN
            RAISE EXCEPTION 'namespace % publishes no application %', $1, $2
                USING ERRCODE = 'undefined_object', DETAIL = 'It does not exist, belongs to another namespace, or a filter or rule leaves it out.',
                      HINT = format('SELECT itsm_graph(%L); shows all that are published.', $1);
        END IF;
    END IF;
    title := format('CSDM of %s', coalesce('application "' || pgsync_itsm.graph_short(app.name, 80) || '"', 'namespace ' || $1::text));
    RETURN CASE $3 WHEN 'dot' THEN pgsync_itsm.graph_dot(title, model.nodes, model.edges)
                   WHEN 'mermaid' THEN pgsync_itsm.graph_mermaid(title, model.nodes, model.edges)
                   ELSE pgsync_itsm.graph_svg(title, model.nodes, model.edges) END;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_graph(uuid, uuid, text) IS
'The CSDM picture of a namespace, or of one application with all it reaches, as dot, mermaid or svg: what the sources hold now, coloured by state (new, changed, in step, in error) after the map and the newest runs. It grows with the portfolio: 10,000 applications are some 60 MB, and Mermaid draws 500 lines at the most unless its maxEdges and maxTextSize are raised; name an application then';
