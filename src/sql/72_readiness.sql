-- Crawl readiness: what CSDM asks of Business Applications and Application Services, measured four times: in the portfolio,
-- in the map (before the pending plan), with the pending plan gone through (after), and in the mirror of the platform.
--
-- The first three are about the same records, those that the connection would publish, so that their percentages compare:
-- what is not published fails there.  The mirror is about what is there, whoever made it, as the platform's own dashboard is.

CREATE TYPE pgsync_itsm.readiness_source AS (entity_type text, entity_id uuid, label text, parent_id uuid, child_id uuid, has text[]);
COMMENT ON TYPE pgsync_itsm.readiness_source IS
'A record or relationship of the portfolio; has: target fields that are not empty, and with @ in front source columns that are not';

CREATE TYPE pgsync_itsm.readiness_fact AS ("check" text, entity_type text, entity_id uuid, label text, here boolean, before boolean, after boolean,
                                           external_id text, reason text);
COMMENT ON TYPE pgsync_itsm.readiness_fact IS
'Does a record pass a check in the portfolio, as published now, after the pending plan (NULL: there is none); and if not, why';

CREATE TYPE pgsync_itsm.readiness_finding AS ("check" text, external_table text, external_id text, label text, passed boolean);
COMMENT ON TYPE pgsync_itsm.readiness_finding IS 'Does a record of the platform pass a check';

-- here and fields are alternatives; @ stands for a column of the source, # for nothing but being published.
CREATE FUNCTION pgsync_itsm.readiness_checks(pair_only boolean DEFAULT false)
RETURNS TABLE (ord integer, section text, "check" text, scope text, here text[], fields text[], missing text, note text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.ord, v.section, v.scope || '.' || v.name, v.scope, v.here::text[],
           -- The life-cycle pair says what the status columns said, where nothing else is written.
           v.fields::text[] || CASE WHEN pair_only THEN CASE v.name WHEN 'install_status' THEN ARRAY['life_cycle_stage_status']
                                                                    WHEN 'operational_status' THEN ARRAY['life_cycle_stage'] END END,
           v.missing, v.note
      FROM (VALUES
        (1, 'relationships', 'application', 'has_service', NULL, NULL, 'no application service of it is in scope', NULL),
        (2, 'relationships', 'consumes', 'type', NULL, NULL, 'the connection''s relationship type is another one',
         'is the type exactly Consumes::Consumed by'),
        (3, 'relationships', 'deployment_profile', 'has_application', NULL, NULL, 'no application in scope consumes it', NULL),

        (10, 'required', 'application', 'name', '{name,@name}', '{name,#published}', 'has no name', NULL),
        (11, 'required', 'application', 'number', '{number,@app_id}', '{number,#published}', 'has no number',
         'the platform numbers what comes without a number'),
        (12, 'required', 'application', 'business_owner', '{owned_by,@business_owner_email}', '{owned_by}',
         'no active business owner with an e-mail', NULL),
        (13, 'required', 'application', 'it_owner', '{managed_by,@technical_owner_email}', '{it_application_owner,managed_by}',
         'no active technical owner with an e-mail', 'published in its place: the business owner, else default_owner'),
        (14, 'required', 'application', 'managed_by_group', '{managed_by_group,@managed_by_group}', '{managed_by_group}',
         'its primary profile has no active managing team', NULL),
        (15, 'required', 'application', 'install_status', '{install_status,@operational_status}', '{install_status}',
         'has no operational status', NULL),
        (16, 'required', 'application', 'operational_status', '{operational_status,@operational_status}', '{operational_status}',
         'has no operational status', NULL),
        (17, 'required', 'application', 'business_criticality', '{business_criticality,@criticality}', '{business_criticality}',
         'has no criticality of 20 or more', 'criticality below 20 is unclassified and left empty'),
        (18, 'required', 'application', 'complete', NULL, NULL, NULL, 'has all that is required'),

        (20, 'required', 'deployment_profile', 'name', '{name,@name}', '{name,#published}', 'has no name', NULL),
        (21, 'required', 'deployment_profile', 'owner', '{owned_by,@owner_email}', '{owned_by}',
         'no active operational owner with an e-mail', NULL),
        (22, 'required', 'deployment_profile', 'managed_by_group', '{managed_by_group,@managed_by_group}', '{managed_by_group}',
         'has no active managing team', NULL),
        (23, 'required', 'deployment_profile', 'support_group', '{support_group,@support_group}', '{support_group}',
         'has no active support team', NULL),
        (24, 'required', 'deployment_profile', 'change_group', '{change_control,assignment_group,@change_group}',
         '{change_control,assignment_group}', 'has no active change team', NULL),
        (25, 'required', 'deployment_profile', 'environment', '{environment,@environment}', '{environment}', 'has no environment', NULL),
        (26, 'required', 'deployment_profile', 'operational_status', '{operational_status,@operational_status}', '{operational_status}',
         'has no operational status', NULL),
        (27, 'required', 'deployment_profile', 'business_criticality', '{busines_criticality,@criticality}', '{busines_criticality}',
         'its application has no criticality of 20 or more', 'criticality below 20 is unclassified and left empty'),
        (28, 'required', 'deployment_profile', 'complete', NULL, NULL, NULL, 'has all that is required'),

        (30, 'recommended', 'application', 'short_description', '{short_description,@short_description}', '{short_description}',
         'has no short description', NULL),
        (31, 'recommended', 'application', 'company', '{company}', '{company}', 'nothing is mapped to company',
         'GetInSync has no such column: itsm_set_mapping() says what fills it'),
        (32, 'recommended', 'application', 'department', '{department}', '{department}', 'nothing is mapped to department',
         'GetInSync has no such column: itsm_set_mapping() says what fills it'),
        (33, 'recommended', 'application', 'used_for', '{used_for,@primary_use_case}', '{used_for}',
         'neither it nor a service of it has a use case', 'the class has no such column: that of its services counts'),
        (34, 'recommended', 'application', 'category', '{category}', '{category}', 'nothing is mapped to category',
         'GetInSync has no such column: itsm_set_mapping() says what fills it'),
        (35, 'recommended', 'application', 'vendor', '{vendor,@vendor_name}', '{vendor}', 'its primary profile has no external vendor', NULL),

        (40, 'recommended', 'deployment_profile', 'version', '{version,@version}', '{version}', 'has no version', NULL),
        (41, 'recommended', 'deployment_profile', 'location', '{location}', '{location}', 'nothing is mapped to location',
         'its source has no such column: itsm_set_mapping() says what fills it'),
        (42, 'recommended', 'deployment_profile', 'service_classification', '{service_classification,@scope}', '{service_classification}',
         'has no service classification', NULL)
      ) AS v(ord, section, scope, name, here, fields, missing, note);
END;
COMMENT ON FUNCTION pgsync_itsm.readiness_checks(boolean) IS
'The crawl check-list: what makes a record pass here and there, and what is to be said if it does not; pair_only: status columns are not written';

CREATE FUNCTION pgsync_itsm.readiness_service_classes() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY['cmdb_ci_service_auto', 'cmdb_ci_service_discovered', 'cmdb_ci_service_calculated', 'cmdb_ci_service_by_tags',
             'cmdb_ci_query_based_service'];
COMMENT ON FUNCTION pgsync_itsm.readiness_service_classes() IS 'Classes there that are Application Services';

-- The portfolio -------------------------------------------------------------------------------------

-- Who may not read as the connection's owner, or has no connection, reads the attached tables with rights of his own, by
-- queries of ours: what the owner wrote into filters and mappings does not run for him.
CREATE FUNCTION pgsync_itsm.readiness_reads_as_owner(connection_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce((SELECT pg_has_role(r.oid, 'MEMBER') FROM @extschema@.integration_connections AS c
                   JOIN pg_roles AS r ON r.rolname = c.owner
                  WHERE c.id = connection_id), false)
       AND pgsync_itsm.source_exists(connection_id, 'application') AND pgsync_itsm.source_exists(connection_id, 'deployment_profile');
COMMENT ON FUNCTION pgsync_itsm.readiness_reads_as_owner(uuid) IS 'May the caller have the sources of a connection read, and are there any';

CREATE FUNCTION pgsync_itsm.readiness_has(attrs json, payload json) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT e.key FROM json_each_text(payload) AS e WHERE btrim(e.value, E' \t\r\n') <> '')
    || ARRAY(SELECT '@' || e.key FROM json_each_text(attrs) AS e
              WHERE btrim(e.value, E' \t\r\n') <> ''
                AND CASE e.key WHEN 'criticality' THEN CASE WHEN e.value ~ '^[0-9]{1,9}(\.[0-9]+)?$' THEN e.value::numeric >= 20 ELSE false END
                               -- an internal organization is no vendor there
                               WHEN 'vendor_name' THEN attrs ->> 'vendor_is_internal' IS DISTINCT FROM 'true'
                               ELSE true END);
COMMENT ON FUNCTION pgsync_itsm.readiness_has(json, json) IS 'Target fields and source columns of a source row that are not empty';

CREATE FUNCTION pgsync_itsm.readiness_sources(connection_id uuid, namespace_id uuid) RETURNS SETOF pgsync_itsm.readiness_source
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reader uuid := CASE WHEN pgsync_itsm.readiness_reads_as_owner($1) THEN $1 END;
BEGIN
    -- What is retired needs neither owner nor service.
    RETURN QUERY
        SELECT 'application', pgsync_itsm.entity_id('application', s.key), left(coalesce(s.payload ->> 'name', s.name), 300), NULL::uuid, NULL::uuid,
               pgsync_itsm.readiness_has(s.attrs, s.payload) || CASE WHEN btrim(s.name) <> '' THEN ARRAY['@name'] END
          FROM pgsync_itsm.portfolio_read(reader, $2, 'application') AS s
         WHERE s.key IS NOT NULL AND s.attrs ->> 'retired' IS DISTINCT FROM 'true';
    RETURN QUERY
        SELECT 'deployment_profile', pgsync_itsm.entity_id('deployment_profile', s.key), left(coalesce(s.payload ->> 'name', s.name), 300),
               NULL::uuid, NULL::uuid, pgsync_itsm.readiness_has(s.attrs, s.payload) || CASE WHEN btrim(s.name) <> '' THEN ARRAY['@name'] END
          FROM pgsync_itsm.portfolio_read(reader, $2, 'deployment_profile') AS s
         WHERE s.key IS NOT NULL AND s.class = ANY (pgsync_itsm.readiness_service_classes()) AND coalesce(s.attrs ->> 'scope', 'none') <> 'none'
           AND s.attrs ->> 'dp_type' IS DISTINCT FROM 'cost_bundle' AND s.attrs ->> 'retired' IS DISTINCT FROM 'true';
    IF reader IS NOT NULL AND NOT pgsync_itsm.source_exists(reader, 'consumes') THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT 'consumes', pgsync_itsm.entity_id('consumes', s.key), NULL::text, pgsync_itsm.entity_id('application', s.parent_key),
               pgsync_itsm.entity_id('deployment_profile', s.child_key), NULL::text[]
          FROM pgsync_itsm.portfolio_read(reader, $2, 'consumes') AS s WHERE s.key IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.readiness_sources(uuid, uuid) IS
'Applications and application services that are to be published and not retired, and which consumes which';

-- Before and after ----------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.readiness_run(connection_id uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT max(r.id) FROM @extschema@.integration_runs AS r
         WHERE r.connection_id = readiness_run.connection_id AND r.kind IN ('preview', 'publish', 'rollback')
           AND (r.status IN ('planned', 'needs_approval', 'running') OR r.status IN ('queued', 'planning') AND r.phase LIKE 'recheck%'));
COMMENT ON FUNCTION pgsync_itsm.readiness_run(uuid) IS 'The newest plan of a connection that is kept, waits for approval or is being sent';

-- What a plan leaves of a record: the fields of its payload over those that are there, less those that it clears.
CREATE FUNCTION pgsync_itsm.readiness_after(action text, before text[], there text[], sent text[], cleared text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN action IS NULL AND cleared IS NULL THEN before
            ELSE ARRAY(SELECT unnest(CASE WHEN action = 'UPDATE' THEN coalesce(there, before) ELSE before END) EXCEPT SELECT unnest(cleared))
                 || CASE WHEN action IS NOT NULL THEN sent || ARRAY['#published'] END END;
COMMENT ON FUNCTION pgsync_itsm.readiness_after(text, text[], text[], text[], text[]) IS
'Fields of a record after a plan: before it, as it was there when it was planned, as sent, as cleared';

-- One pass over sets that are joined by hash, whatever the statistics of arrays and of a map just filled say, and in memory:
-- of 10,000 applications with three profiles each there are more than a million answers.
CREATE FUNCTION pgsync_itsm.readiness_facts(connection_id uuid, run_id bigint, sources pgsync_itsm.readiness_source[], only_check text)
RETURNS SETOF pgsync_itsm.readiness_fact
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET enable_nestloop = off SET jit = off SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
    exact CONSTANT text := 'Consumes::Consumed by';
    ours text := CASE WHEN $1 IS NULL THEN exact ELSE pgsync_itsm.relation_type($1, 'consumes', false) END;
    pair_only boolean := pgsync_itsm.source_setting($1, 'life_cycle_write') = 'pair';
BEGIN
    RETURN QUERY
    WITH source AS MATERIALIZED (
        -- a source may yield a key twice; it is one record
        SELECT DISTINCT ON (s.entity_type, s.entity_id) s.* FROM unnest(sources) AS s ORDER BY s.entity_type, s.entity_id
    ), checks AS MATERIALIZED (
        SELECT c.* FROM pgsync_itsm.readiness_checks(pair_only) AS c
         WHERE $4 IS NULL OR c."check" = $4 OR $4 = c.scope || '.complete' AND c.section = 'required'
    ), known AS MATERIALIZED (
        SELECT m.entity_type, m.entity_id, m.external_id, m.parent_id, m.child_id, coalesce(m.rel_type, '') AS rel_type, m.not_taken,
               ARRAY['#published'] || ARRAY(SELECT e.key FROM json_each_text(m.last_agreed) AS e WHERE e.value <> '') AS has
          FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = $1 AND m.entity_type IN ('application', 'deployment_profile', 'consumes') AND m.state NOT IN ('gone', 'retired')
    ), items AS MATERIALIZED (
        SELECT i.entity_type, i.entity_id, i.action, i.rel_type, i.state IN ('planned', 'pending', 'done', 'unchanged')
                                                                 AND i.action IN ('CREATE', 'UPDATE', 'MATCH', 'CLEAR', 'DELETE') AS happens,
               coalesce(i.reason, i.error_class) AS reason, i.warnings, i.action = 'DELETE' OR coalesce(i.payload_hash, '') = 'retired' AS ends,
               ARRAY(SELECT e.key FROM json_each_text(i.payload) AS e WHERE e.value <> '' OR i.action = 'CLEAR') AS sent,
               CASE WHEN i.old_values IS NOT NULL THEN ARRAY(SELECT e.key FROM json_each_text(i.old_values) AS e WHERE e.value <> '') END AS there
          FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = $2 AND i.entity_type IN ('application', 'deployment_profile', 'consumes')
    ), writes AS MATERIALIZED (
        SELECT DISTINCT ON (i.entity_type, i.entity_id) i.* FROM items AS i
         WHERE i.happens AND i.action IN ('CREATE', 'UPDATE', 'MATCH') ORDER BY i.entity_type, i.entity_id, i.action
    ), clears AS MATERIALIZED (
        SELECT i.entity_type, i.entity_id, i.sent AS fields FROM items AS i WHERE i.happens AND i.action = 'CLEAR'
    ), stuck AS MATERIALIZED (
        SELECT i.entity_type, i.entity_id, min(i.reason) AS reason FROM items AS i WHERE NOT i.happens GROUP BY i.entity_type, i.entity_id
    ), records AS MATERIALIZED (
        SELECT s.entity_type, s.entity_id, s.label, s.has AS here, coalesce(k.has, '{}') AS before,
               CASE WHEN d.entity_id IS NOT NULL THEN '{}' ELSE pgsync_itsm.readiness_after(w.action, coalesce(k.has, '{}'), w.there, w.sent, c.fields) END AS after,
               k.external_id, k.not_taken, w.warnings, b.reason
          FROM source AS s
          LEFT JOIN known AS k ON k.entity_type = s.entity_type AND k.entity_id = s.entity_id
          LEFT JOIN writes AS w ON w.entity_type = s.entity_type AND w.entity_id = s.entity_id
          LEFT JOIN clears AS c ON c.entity_type = s.entity_type AND c.entity_id = s.entity_id
          LEFT JOIN stuck AS b ON b.entity_type = s.entity_type AND b.entity_id = s.entity_id
          -- deleted or retired, by a rollback
          LEFT JOIN (SELECT DISTINCT x.entity_type, x.entity_id FROM items AS x WHERE x.happens AND x.ends) AS d ON d.entity_type = s.entity_type AND d.entity_id = s.entity_id
         WHERE s.entity_type <> 'consumes'
    ), links AS MATERIALIZED (
        SELECT l.*, a.entity_id IS NOT NULL AND v.entity_id IS NOT NULL AND l.in_source AS here,
               CASE WHEN ka.entity_id IS NOT NULL AND kv.entity_id IS NOT NULL THEN l.known_type END AS before,
               CASE WHEN coalesce(ka.entity_id, wa.entity_id) IS NOT NULL AND coalesce(kv.entity_id, wv.entity_id) IS NOT NULL
                    THEN CASE WHEN w.entity_id IS NOT NULL THEN coalesce(w.rel_type, '') WHEN d.entity_id IS NULL THEN l.known_type END END AS after,
               b.reason, a.label || ' > ' || v.label AS label,
               ka.external_id || '/' || kv.external_id AS external_id,
               v.here AS service_here, v.before AS service_before, v.after AS service_after
          FROM (SELECT coalesce(s.entity_id, k.entity_id) AS entity_id, coalesce(s.parent_id, k.parent_id) AS parent_id,
                       coalesce(s.child_id, k.child_id) AS child_id, s.entity_id IS NOT NULL AS in_source, k.rel_type AS known_type
                  FROM (SELECT x.* FROM source AS x WHERE x.entity_type = 'consumes') AS s
                  FULL JOIN (SELECT x.* FROM known AS x WHERE x.entity_type = 'consumes') AS k ON k.entity_id = s.entity_id) AS l
          LEFT JOIN records AS a ON a.entity_type = 'application' AND a.entity_id = l.parent_id
          LEFT JOIN records AS v ON v.entity_type = 'deployment_profile' AND v.entity_id = l.child_id
          LEFT JOIN known AS ka ON ka.entity_type = 'application' AND ka.entity_id = l.parent_id
          LEFT JOIN known AS kv ON kv.entity_type = 'deployment_profile' AND kv.entity_id = l.child_id
          LEFT JOIN writes AS wa ON wa.entity_type = 'application' AND wa.entity_id = l.parent_id
          LEFT JOIN writes AS wv ON wv.entity_type = 'deployment_profile' AND wv.entity_id = l.child_id
          LEFT JOIN writes AS w ON w.entity_type = 'consumes' AND w.entity_id = l.entity_id
          LEFT JOIN stuck AS b ON b.entity_type = 'consumes' AND b.entity_id = l.entity_id
          LEFT JOIN (SELECT x.entity_id FROM items AS x WHERE x.happens AND x.entity_type = 'consumes' AND x.action = 'DELETE') AS d
            ON d.entity_id = l.entity_id
    ), ends AS MATERIALIZED (
        -- what an application and a service have by their relationships, and an application by its services
        SELECT e.entity_type, e.entity_id, bool_or(l.here) AS here, bool_or(l.before IS NOT NULL) AS before, bool_or(l.after IS NOT NULL) AS after,
               min(l.reason) AS reason,
               bool_or(l.here AND l.service_here && ARRAY['used_for', '@application_use_case']) AS used_here,
               bool_or(l.before IS NOT NULL AND 'used_for' = ANY (l.service_before)) AS used_before,
               bool_or(l.after IS NOT NULL AND 'used_for' = ANY (l.service_after)) AS used_after
          FROM links AS l
         CROSS JOIN LATERAL (VALUES ('application', l.parent_id), ('deployment_profile', l.child_id)) AS e(entity_type, entity_id)
         GROUP BY e.entity_type, e.entity_id
    ), judged AS MATERIALIZED (
        SELECT c."check", c.section, c.missing, c.fields, r.entity_type, r.entity_id, r.label, r.external_id, r.not_taken, r.warnings, r.reason,
               '#published' = ANY (r.before) AS known, '#published' = ANY (r.after) AS sent,
               CASE WHEN c.here IS NULL THEN coalesce(e.here, false)
                    ELSE c.here && r.here OR c."check" = 'application.used_for' AND coalesce(e.used_here, false) END AS here,
               CASE WHEN c.here IS NULL THEN coalesce(e.before, false)
                    ELSE c.fields && r.before OR c."check" = 'application.used_for' AND coalesce(e.used_before, false) END AS before,
               CASE WHEN c.here IS NULL THEN coalesce(e.after, false)
                    ELSE c.fields && r.after OR c."check" = 'application.used_for' AND coalesce(e.used_after, false) END AS after,
               e.reason AS link_reason
          FROM checks AS c
          JOIN records AS r ON r.entity_type = c.scope
          LEFT JOIN ends AS e ON e.entity_type = r.entity_type AND e.entity_id = r.entity_id
         WHERE c."check" NOT LIKE '%.complete'
        UNION ALL
        SELECT c."check", c.section, c.missing, NULL, 'consumes', l.entity_id, l.label, l.external_id, NULL, NULL, l.reason,
               l.before IS NOT NULL, l.after IS NOT NULL, ours = exact, coalesce(l.before = exact, false), coalesce(l.after = exact, false),
               'its type there is ' || nullif(l.after, exact)
          FROM checks AS c JOIN links AS l ON l.here
         WHERE c."check" = 'consumes.type'
    )
    SELECT j."check", j.entity_type, j.entity_id, j.label, j.here, j.before, CASE WHEN $2 IS NOT NULL THEN j.after END, j.external_id,
           CASE WHEN NOT j.here THEN j.missing
                WHEN NOT j.after THEN
                    CASE WHEN NOT j.sent
                         THEN coalesce(j.reason, CASE WHEN $2 IS NULL THEN 'not published yet' ELSE 'not published, and not in the plan' END)
                         ELSE coalesce((SELECT w.words FROM jsonb_array_elements_text(j.warnings) AS w(words), unnest(j.fields) AS f(field)
                                         WHERE starts_with(w.words, f.field || ':') OR starts_with(w.words, 'column ' || f.field || ' ') LIMIT 1),
                                       CASE WHEN j.not_taken ?| j.fields THEN 'sent and not taken there' END,
                                       CASE WHEN j.section = 'relationships' THEN coalesce(j.link_reason, 'the relationship is not published')
                                            ELSE 'left out when it was published: nothing there to refer to, or no such choice or column' END) END
                WHEN NOT j.before THEN CASE WHEN j.known THEN 'not there yet; the plan changes that' ELSE 'not published yet; the plan does' END END
      FROM judged AS j WHERE $4 IS NULL OR j."check" = $4
    UNION ALL
    SELECT c."check", j.entity_type, j.entity_id, min(j.label), bool_and(j.here), bool_and(j.before), CASE WHEN $2 IS NOT NULL THEN bool_and(j.after) END,
           min(j.external_id),
           CASE WHEN NOT bool_and(j.here)
                THEN 'lacks ' || string_agg(split_part(j."check", '.', 2), ', ' ORDER BY j."check") FILTER (WHERE NOT j.here)
                WHEN NOT bool_or(j.sent)
                THEN coalesce(min(j.reason), CASE WHEN $2 IS NULL THEN 'not published yet' ELSE 'not published, and not in the plan' END)
                WHEN NOT bool_and(j.after)
                THEN 'lacks there ' || string_agg(split_part(j."check", '.', 2), ', ' ORDER BY j."check") FILTER (WHERE NOT j.after)
                WHEN NOT bool_and(j.before)
                THEN CASE WHEN bool_or(j.known) THEN 'not there yet; the plan changes that' ELSE 'not published yet; the plan does' END END
      FROM judged AS j JOIN checks AS c ON c."check" = j.entity_type || '.complete'
     WHERE j.section = 'required'
     GROUP BY c."check", j.entity_type, j.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.readiness_facts(uuid, bigint, pgsync_itsm.readiness_source[], text) IS
'Each record of the portfolio against each check (or one): in the portfolio, in the map, and after the plan of a run';

-- The platform --------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.readiness_mirrored(connection_id uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM @extschema@.integration_external_records AS x WHERE x.connection_id = readiness_mirrored.connection_id);
COMMENT ON FUNCTION pgsync_itsm.readiness_mirrored(uuid) IS 'Has anything been read from the platform of a connection';

-- A field that no record of a class has was not read: about it nothing is said.  The same with relationships.
CREATE FUNCTION pgsync_itsm.readiness_there(connection_id uuid, only_check text) RETURNS SETOF pgsync_itsm.readiness_finding
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET enable_nestloop = off SET jit = off SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
    pair_only boolean := pgsync_itsm.source_setting($1, 'life_cycle_write') = 'pair';
    exact text[] := ARRAY['Consumes::Consumed by'] || ARRAY(SELECT r.external_id FROM @extschema@.integration_references AS r
                      WHERE r.connection_id = $1 AND r.kind = 'relation_type' AND r.target = '' AND r.key = 'consumes::consumed by'
                        AND r.external_id IS NOT NULL);
BEGIN
    RETURN QUERY
    WITH checks AS MATERIALIZED (
        SELECT c.* FROM pgsync_itsm.readiness_checks(pair_only) AS c
         WHERE $2 IS NULL OR c."check" = $2 OR $2 = c.scope || '.complete' AND c.section = 'required'
    ), cis AS MATERIALIZED (
        SELECT CASE x.external_table WHEN 'cmdb_ci_business_app' THEN 'application' ELSE 'deployment_profile' END AS entity_type,
               x.external_table, x.external_id, coalesce(nullif(x.name, ''), x.attrs ->> 'name') AS label,
               ARRAY(SELECT e.key FROM json_each_text(x.attrs) AS e WHERE e.value <> '') || CASE WHEN x.name <> '' THEN ARRAY['name'] END AS has,
               ARRAY(SELECT json_object_keys(x.attrs)) || ARRAY['name'] AS read
          FROM @extschema@.integration_external_records AS x
         WHERE x.connection_id = $1 AND x.external_table = ANY (ARRAY['cmdb_ci_business_app'] || pgsync_itsm.readiness_service_classes())
           AND coalesce(x.attrs ->> 'duplicate_of', '') = '' AND coalesce(lower(x.attrs ->> 'operational_status'), '') NOT IN ('6', 'retired')
    ), read AS MATERIALIZED (
        SELECT c.entity_type, array_agg(DISTINCT f.field) AS fields FROM cis AS c, unnest(c.read) AS f(field) GROUP BY c.entity_type
    ), relations AS MATERIALIZED (
        SELECT x.attrs ->> 'parent' AS parent, x.attrs ->> 'child' AS child, x.attrs ->> 'type' = ANY (exact) AS consumes
          FROM @extschema@.integration_external_records AS x WHERE x.connection_id = $1 AND x.external_table = 'cmdb_rel_ci'
    ), pairs AS MATERIALIZED (
        SELECT p.application, p.service, bool_or(p.consumes) AS consumes
          FROM (SELECT r.parent AS application, r.child AS service, coalesce(r.consumes, false) AS consumes FROM relations AS r
                UNION ALL SELECT r.child, r.parent, false FROM relations AS r) AS p
         GROUP BY p.application, p.service
    ), links AS MATERIALIZED (
        SELECT p.application, p.service, p.consumes, a.label || ' > ' || v.label AS label, v.has
          FROM pairs AS p
          JOIN cis AS a ON a.entity_type = 'application' AND a.external_id = p.application
          JOIN cis AS v ON v.entity_type = 'deployment_profile' AND v.external_id = p.service
    ), ends AS MATERIALIZED (
        SELECT e.external_id, bool_or('used_for' = ANY (l.has)) AS used
          FROM links AS l CROSS JOIN LATERAL (VALUES (l.application), (l.service)) AS e(external_id) GROUP BY e.external_id
    ), judged AS MATERIALIZED (
        SELECT c."check", c.section, i.entity_type, i.external_table, i.external_id, i.label,
               CASE WHEN c.section = 'relationships' THEN e.external_id IS NOT NULL
                    WHEN c."check" = 'application.used_for' THEN c.fields && i.has OR coalesce(e.used, false)
                    ELSE c.fields && i.has END AS passed
          FROM checks AS c
          JOIN cis AS i ON i.entity_type = c.scope
          JOIN read AS r ON r.entity_type = i.entity_type
          LEFT JOIN ends AS e ON e.external_id = i.external_id
         WHERE CASE WHEN c.section = 'relationships' THEN EXISTS (SELECT FROM relations)
                    WHEN c."check" = 'application.used_for' THEN c.fields && r.fields OR EXISTS (SELECT FROM relations)
                         AND EXISTS (SELECT FROM read AS o WHERE o.entity_type = 'deployment_profile' AND c.fields && o.fields)
                    ELSE c.fields && r.fields END
    )
    SELECT j."check", j.external_table, j.external_id, j.label, j.passed FROM judged AS j WHERE $2 IS NULL OR j."check" = $2
    UNION ALL
    SELECT c."check", min(j.external_table), j.external_id, min(j.label), bool_and(j.passed)
      FROM judged AS j JOIN checks AS c ON c."check" = j.entity_type || '.complete'
     WHERE j.section = 'required' GROUP BY c."check", j.external_id
    UNION ALL
    SELECT c."check", 'cmdb_rel_ci', l.application || '/' || l.service, l.label, l.consumes
      FROM checks AS c CROSS JOIN links AS l WHERE c."check" = 'consumes.type';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.readiness_there(uuid, text) IS
'Each application and application service of the mirror against each check (or one), whoever made it; retired ones and duplicates are left out';

-- What people call ----------------------------------------------------------------------------------

-- The connections that are measured; one row without connection where there is none.
CREATE FUNCTION pgsync_itsm.readiness_connections(namespace_id uuid) RETURNS SETOF uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found uuid[] := ARRAY(SELECT c.id FROM @extschema@.integration_connections AS c
                           WHERE c.namespace_id = readiness_connections.namespace_id AND c.platform = 'servicenow' ORDER BY c.name, c.id);
BEGIN
    IF pgsync_itsm.attached_schema() IS NULL
       AND (found = '{}' OR EXISTS (SELECT FROM unnest(found) AS f(id) WHERE NOT pgsync_itsm.readiness_reads_as_owner(f.id))) THEN
        RAISE EXCEPTION 'no GetInSync schema is attached' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'SELECT itsm_attach_getinsync();';
    END IF;
    PERFORM pgsync_itsm.check_namespace(namespace_id);
    RETURN QUERY SELECT f.id FROM unnest(CASE WHEN found = '{}' THEN ARRAY[NULL::uuid] ELSE found END) WITH ORDINALITY AS f(id, n) ORDER BY f.n;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.readiness_connections(uuid) IS
'ServiceNow connections of a namespace, NULL if it has none; an error if there is nothing to read or no such namespace';

CREATE FUNCTION pgsync_itsm.readiness_notes(connection_id uuid, run_id bigint, namespace_id uuid) RETURNS TABLE ("check" text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF $1 IS NULL THEN
        RETURN QUERY SELECT 'connection',
            'no connection to ServiceNow: the portfolio alone is measured, with your rights; next: SELECT itsm_connect_servicenow(...);';
        RETURN;
    END IF;
    IF NOT pgsync_itsm.readiness_reads_as_owner($1) THEN
        RETURN QUERY SELECT 'connection',
            'the portfolio is measured with your rights, without the filters and mappings of the connection: you are no member of its owner';
    END IF;
    RETURN QUERY
        SELECT 'plan', coalesce((SELECT format('after: run %s, %s', r.id, replace(r.status, '_', ' '))
                                   FROM @extschema@.integration_runs AS r WHERE r.id = $2),
                                format('no plan is kept: nothing to measure after it; next: SELECT itsm_preview(%L);', $3));
    IF NOT pgsync_itsm.readiness_mirrored($1) THEN
        RETURN QUERY SELECT 'platform', 'nothing has been read from the platform yet: its side is not measured';
    ELSIF NOT EXISTS (SELECT FROM @extschema@.integration_external_records AS x WHERE x.connection_id = $1 AND x.external_table = 'cmdb_rel_ci') THEN
        RETURN QUERY SELECT 'platform', 'no relationships have been read from the platform yet: they are not measured there';
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.readiness_notes(uuid, bigint, uuid) IS 'What was measured and what was not, in words';

CREATE FUNCTION pgsync_itsm.readiness_percent(part bigint, whole bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN whole > 0 THEN trunc(100.0 * part / whole, 1) END;
COMMENT ON FUNCTION pgsync_itsm.readiness_percent(bigint, bigint) IS 'A share in percent, cut and not rounded: 100.0 is all; NULL of nothing';

CREATE FUNCTION @extschema@.itsm_readiness(namespace_id uuid)
RETURNS TABLE (section text, "check" text, scope text, passed bigint, failed bigint, percent numeric, records text[],
               passed_before bigint, failed_before bigint, percent_before numeric,
               passed_after bigint, failed_after bigint, percent_after numeric,
               passed_platform bigint, failed_platform bigint, percent_platform numeric, note text, connection_id uuid)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    con uuid;
    run bigint;
    sources pgsync_itsm.readiness_source[];
BEGIN
    FOR con IN SELECT c FROM pgsync_itsm.readiness_connections($1) AS c
    LOOP
        run := pgsync_itsm.readiness_run(con);
        sources := ARRAY(SELECT s FROM pgsync_itsm.readiness_sources(con, $1) AS s);
        RETURN QUERY
            WITH ours AS (
                SELECT f."check", count(*) AS n, count(*) FILTER (WHERE f.here) AS here, count(*) FILTER (WHERE f.before) AS before,
                       count(*) FILTER (WHERE f.after) AS after,
                       (array_agg(left(f.label, 80) ORDER BY f.label COLLATE "C", f.entity_id) FILTER (WHERE NOT f.here))[1:5] AS records
                  FROM pgsync_itsm.readiness_facts(con, run, sources, NULL) AS f GROUP BY f."check"
            ), theirs AS (
                SELECT t."check", count(*) AS n, count(*) FILTER (WHERE t.passed) AS passed
                  FROM pgsync_itsm.readiness_there(con, NULL) AS t GROUP BY t."check"
            ), counted AS (
                SELECT c.ord, c.section, c."check", c.scope, c.note, coalesce(o.n, 0) AS n, coalesce(o.here, 0) AS here, o.records,
                       CASE WHEN con IS NOT NULL THEN coalesce(o.before, 0) END AS before,
                       CASE WHEN run IS NOT NULL THEN coalesce(o.after, 0) END AS after, t.passed, t.n AS there
                  FROM pgsync_itsm.readiness_checks() AS c
                  LEFT JOIN ours AS o ON o."check" = c."check"
                  LEFT JOIN theirs AS t ON t."check" = c."check"
            )
            SELECT c.section, c."check", c.scope, c.here, c.n - c.here, pgsync_itsm.readiness_percent(c.here, c.n), c.records,
                   c.before, c.n - c.before, pgsync_itsm.readiness_percent(c.before, c.n),
                   c.after, c.n - c.after, pgsync_itsm.readiness_percent(c.after, c.n),
                   c.passed, c.there - c.passed, pgsync_itsm.readiness_percent(c.passed, c.there), c.note, con
              FROM counted AS c ORDER BY c.ord;
        RETURN QUERY
            SELECT 'note', n."check", NULL, NULL::bigint, NULL::bigint, NULL::numeric, NULL::text[], NULL::bigint, NULL::bigint, NULL::numeric,
                   NULL::bigint, NULL::bigint, NULL::numeric, NULL::bigint, NULL::bigint, NULL::numeric, n.note, con
              FROM pgsync_itsm.readiness_notes(con, run, $1) AS n;
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_readiness(uuid) IS
'CSDM crawl readiness, one row a check: relationships, required and recommended fields; in the portfolio (records: the first that fail), as published before the pending plan, after it, and on the platform as it was read. itsm_readiness_detail() names all';

CREATE FUNCTION @extschema@.itsm_readiness_detail(namespace_id uuid, "check" text)
RETURNS TABLE (entity_type text, entity_id uuid, label text, passed boolean, passed_before boolean, passed_after boolean, passed_platform boolean,
               reason text, external_table text, external_id text, connection_id uuid)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    con uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.readiness_checks() AS c WHERE c."check" = $2) THEN
        RAISE EXCEPTION 'unrecognized check "%"', coalesce($2, 'NULL') USING ERRCODE = 'invalid_parameter_value',
            HINT = (SELECT 'Checks are: ' || string_agg(c."check", ', ' ORDER BY c.ord) || '.' FROM pgsync_itsm.readiness_checks() AS c);
    END IF;
    FOR con IN SELECT c FROM pgsync_itsm.readiness_connections($1) AS c
    LOOP
        -- What is not ours over there comes after what is.
        RETURN QUERY
            SELECT coalesce(f.entity_type, split_part($2, '.', 1)), f.entity_id, coalesce(f.label, t.label), f.here,
                   CASE WHEN con IS NOT NULL THEN f.before END, f.after, t.passed,
                   CASE WHEN f.entity_id IS NULL THEN 'there, and not of this portfolio' ELSE coalesce(f.reason, 'empty there') END,
                   t.external_table, coalesce(f.external_id, t.external_id), con
              FROM pgsync_itsm.readiness_facts(con, pgsync_itsm.readiness_run(con),
                       ARRAY(SELECT s FROM pgsync_itsm.readiness_sources(con, $1) AS s), $2) AS f
              FULL JOIN pgsync_itsm.readiness_there(con, $2) AS t ON t.external_id = f.external_id
             WHERE NOT f.here OR NOT f.before AND con IS NOT NULL OR NOT f.after OR NOT t.passed
             ORDER BY f.entity_id IS NULL, coalesce(f.label, t.label) COLLATE "C", f.entity_id, t.external_id;
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.itsm_readiness_detail(uuid, text) IS
'The records that fail one check of itsm_readiness(): where each fails (portfolio, published, after the plan, platform) and why';
