-- Matching: what the platform has already is read into a mirror, page by page, and paired with what is here and not there
-- yet.  A pair is a proposal until somebody decides; nothing is written there, and nothing is taken over unasked.

-- The mirror ----------------------------------------------------------------------------------------

-- How far a table was read.  hidden: rows that are counted and not shown, so that nothing can be said of what is missing.
CREATE UNLOGGED TABLE pgsync_itsm.mirror_reads (
    run_id bigint NOT NULL,
    target text NOT NULL,
    seen   bigint NOT NULL DEFAULT 0,
    hidden bigint NOT NULL DEFAULT 0,
    whole  boolean,
    PRIMARY KEY (run_id, target)
);
COMMENT ON TABLE pgsync_itsm.mirror_reads IS 'Work space: tables there that a run reads, and whether they were read whole';

CREATE FUNCTION pgsync_itsm.mirror_tables(connection_id uuid)
RETURNS TABLE (entity_type text, target text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT v.entity_type, v.target
      FROM (VALUES ('it_service', 'service_offering'), ('it_service', 'cmdb_ci_service_technical'),
                   ('software_product', pgsync_itsm.setting(mirror_tables.connection_id, 'product_model_table')),
                   ('application', 'cmdb_ci_business_app'),
                   ('deployment_profile', 'cmdb_ci_service_auto'), ('deployment_profile', 'service_offering'), ('deployment_profile', 'cmdb_ci_service_technical'),
                   ('company', 'core_company'), ('group', 'sys_user_group')) AS v(entity_type, target)
     WHERE NOT pgsync_itsm.is_halo(mirror_tables.connection_id)
    UNION ALL
    SELECT h.entity_type, pgsync_itsm.halo_class(mirror_tables.connection_id, h.entity_type)
      FROM unnest(ARRAY['it_service', 'software_package', 'application', 'deployment_profile', 'company']) AS h(entity_type)
     WHERE pgsync_itsm.is_halo(mirror_tables.connection_id);
END;
COMMENT ON FUNCTION pgsync_itsm.mirror_tables(uuid) IS 'Where records of an entity type are looked for there; classes below come along';

-- What matching looks at, and what the readiness report measures there.
CREATE FUNCTION pgsync_itsm.mirror_fields(target text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY['name'] || CASE target
    WHEN 'core_company' THEN ARRAY['vendor', 'manufacturer']
    WHEN 'sys_user_group' THEN ARRAY['active']
    WHEN 'cmdb_ci_business_app' THEN ARRAY['number', 'correlation_id', 'duplicate_of', 'discovery_source', 'operational_status', 'install_status', 'owned_by', 'managed_by',
        'it_application_owner', 'managed_by_group', 'business_criticality', 'life_cycle_stage', 'life_cycle_stage_status', 'short_description', 'company',
        'department', 'category', 'vendor']
    WHEN 'cmdb_ci_service_auto' THEN ARRAY['number', 'correlation_id', 'duplicate_of', 'discovery_source', 'operational_status', 'owned_by', 'managed_by_group', 'support_group',
        'change_control', 'assignment_group', 'environment', 'busines_criticality', 'life_cycle_stage', 'version', 'location', 'service_classification', 'used_for']
    WHEN 'service_offering' THEN ARRAY['number', 'correlation_id', 'duplicate_of', 'discovery_source', 'operational_status', 'service_classification']
    WHEN 'cmdb_ci_service_technical' THEN ARRAY['number', 'correlation_id', 'duplicate_of', 'discovery_source', 'operational_status', 'service_classification']
    WHEN 'business_application' THEN ARRAY['inventory_number', 'status_id', 'inactive', 'business_owner_id', 'technical_owner_id', 'supplier_id']
    WHEN 'application_instance' THEN ARRAY['inventory_number', 'status_id', 'inactive', 'business_owner_id', 'supplier_id', 'field_environment', 'field_version']
    WHEN 'software' THEN ARRAY['inventory_number', 'status_id', 'inactive']
    WHEN 'software_licence' THEN ARRAY['manufacturer', 'is_active']
    WHEN 'service' THEN ARRAY['summary', 'showinusercatalog', 'showintechcatalog']
    WHEN 'supplier' THEN ARRAY['website', 'inactive']
    ELSE ARRAY['version', 'manufacturer'] END;
COMMENT ON FUNCTION pgsync_itsm.mirror_fields(text) IS 'Columns that the mirror keeps of a table';

CREATE FUNCTION pgsync_itsm.mirror_ask(run @extschema@.integration_runs, types text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT DISTINCT m.target FROM pgsync_itsm.mirror_tables(run.connection_id) AS m WHERE m.entity_type = ANY (types) ORDER BY 1 LOOP
        INSERT INTO pgsync_itsm.mirror_reads (run_id, target) VALUES (run.id, t) ON CONFLICT DO NOTHING;
        PERFORM pgsync_itsm.ask(run, 'page', t, ARRAY[''], pgsync_itsm.mirror_fields(t));
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.mirror_ask(@extschema@.integration_runs, text[]) IS 'Asks for the first page of every table of these entity types';

CREATE FUNCTION pgsync_itsm.mirror_store(run @extschema@.integration_runs, kind text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_external_records AS r
        (connection_id, namespace_id, external_table, external_id, target, name, attrs)
    SELECT DISTINCT ON (x.external_id) run.connection_id, run.namespace_id, coalesce(x.external_table, nullif(x.target, ''), 'cmdb_rel_ci'), x.external_id,
           coalesce(nullif(x.target, ''), 'cmdb_rel_ci'), x.label, x.attrs
      FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind = mirror_store.kind AND x.external_id IS NOT NULL
     ORDER BY x.external_id
    ON CONFLICT (connection_id, external_id) DO UPDATE
       SET external_table = excluded.external_table, target = excluded.target, name = excluded.name, attrs = excluded.attrs, last_seen = now(),
           last_changed = CASE WHEN (r.external_table, r.name, r.attrs::text) IS DISTINCT FROM (excluded.external_table, excluded.name, excluded.attrs::text)
                               THEN now() ELSE r.last_changed END;
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = mirror_store.kind AND x.external_id IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.mirror_store(@extschema@.integration_runs, text) IS 'Moves rows that were read into the mirror';

-- A page is the last if no more than it holds remain; that a row is missing is concluded only where every row was shown.
CREATE FUNCTION pgsync_itsm.mirror_take(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := 1000;
    pages jsonb := (
        SELECT jsonb_agg(to_jsonb(p)) FROM (
            SELECT l.target, count(x.external_id) AS rows, max(x.external_id COLLATE "C") AS last,
                   max(x.label::bigint) FILTER (WHERE x.external_id IS NULL) AS total
              FROM pgsync_itsm.lookups AS l
              LEFT JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'page' AND x.target = l.target AND x.key = l.keys[1]
             WHERE l.run_id = run.id AND l.kind = 'page' AND l.state = 'done'
             GROUP BY l.id, l.target) AS p);
    p record;
BEGIN
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'page' AND l.state = 'done';
    PERFORM pgsync_itsm.mirror_store(run, 'page');
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id AND x.kind = 'page';
    FOR p IN SELECT e.*, CASE WHEN e.total IS NOT NULL THEN greatest(least(e.total, most) - e.rows, 0) END AS hidden FROM jsonb_to_recordset(pages) AS e(target text, rows bigint, last text, total bigint) LOOP
        UPDATE pgsync_itsm.mirror_reads AS r
           SET seen = r.seen + p.rows, hidden = r.hidden + coalesce(p.hidden, 0),
               -- a refusal has no total; behind a page of which nothing is shown nobody can go on
               whole = CASE WHEN p.total IS NULL OR p.total > most AND p.rows = 0 THEN false
                            WHEN p.total <= most THEN r.hidden + p.hidden = 0 END
         WHERE r.run_id = run.id AND r.target = p.target;
        IF p.total > most AND p.rows > 0 THEN
            PERFORM pgsync_itsm.ask(run, 'page', p.target, ARRAY[p.last], pgsync_itsm.mirror_fields(p.target));
        END IF;
    END LOOP;
    DELETE FROM @extschema@.integration_external_records AS x USING pgsync_itsm.mirror_reads AS r
     WHERE r.run_id = run.id AND r.whole AND x.connection_id = run.connection_id AND x.target = r.target AND x.last_seen < run.created_at;
    RETURN EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id AND l.kind = 'page');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.mirror_take(@extschema@.integration_runs) IS
'Takes the pages that were answered into the mirror and asks for the next ones; true while there are some. What is gone leaves the mirror, where the table was read whole';

-- Names ---------------------------------------------------------------------------------------------

-- Letters of other scripts are letters in every locale: only ASCII is told apart here.
CREATE FUNCTION pgsync_itsm.plain_name(name text, entity_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN btrim(regexp_replace(
    CASE WHEN entity_type = 'company'
         THEN regexp_replace(btrim(regexp_replace(lower(name), '[[:space:]!-/:-@[-`{-~]+', ' ', 'g')),
                             '( (inc|incorporated|ltd|limited|llc|llp|lp|gmbh|ag|kg|se|sa|sas|sarl|srl|spa|bv|nv|oy|ab|as|plc|pty|co|corp|corporation|company))+$', '')
         ELSE regexp_replace(lower(name), '[[:space:]!-/:-@[-`{-~]+', ' ', 'g') END,
    '^the | (version|release|edition)(?= |$)', '', 'g'));
COMMENT ON FUNCTION pgsync_itsm.plain_name(text, text) IS 'A name without case, punctuation, legal forms and words that say that a version follows';

CREATE FUNCTION pgsync_itsm.without_version(plain text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN plain ~ '^[0-9 v.]*$' THEN plain ELSE regexp_replace(plain, '( v?[0-9]+[a-z]?)+$', '') END;
COMMENT ON FUNCTION pgsync_itsm.without_version(text) IS 'A plain name without the numbers at its end, unless it is nothing else';

-- What says little of which thing is meant.
CREATE FUNCTION pgsync_itsm.telling_words(plain text, entity_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(nullif(btrim(regexp_replace(' ' || replace(plain, ' ', '  ') || ' ',
           CASE WHEN entity_type = 'it_service'
                THEN ' (services?|standard|gold|silver|bronze|premium|basic|tier|managed|shared|enterprise|corporate|central|global|it|and|of|the|as|a) '
                ELSE ' (applications?|app|apps|systems?|platform|software|solutions?|suite|and|of|the|for) ' END, ' ', 'g')), ''), plain);
COMMENT ON FUNCTION pgsync_itsm.telling_words(text, text) IS 'A plain name without the words that every other name of its type has, unless it has no others';

-- Numbers and environments make two things of one name.
CREATE FUNCTION pgsync_itsm.name_marks(plain text, entity_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(string_agg(DISTINCT w.mark, ' ' ORDER BY w.mark), '')
          FROM (SELECT CASE WHEN u.word ~ '[0-9]' THEN u.word
                            WHEN entity_type IN ('deployment_profile', 'application') THEN
                                CASE WHEN u.word IN ('prod', 'production', 'live') THEN 'prod' WHEN u.word IN ('dev', 'development', 'sbx', 'sandbox') THEN 'dev'
                                     WHEN u.word IN ('test', 'testing', 'uat', 'qa') THEN u.word WHEN u.word IN ('stg', 'staging') THEN 'staging'
                                     WHEN u.word IN ('dr', 'training', 'archive') THEN u.word END END AS mark
                  FROM regexp_split_to_table(plain, ' +') AS u(word)) AS w WHERE w.mark IS NOT NULL);
COMMENT ON FUNCTION pgsync_itsm.name_marks(text, text) IS 'Numbers and environments of a plain name: two names with different ones mean different things';

-- Pairs ---------------------------------------------------------------------------------------------

CREATE UNLOGGED TABLE pgsync_itsm.match_names (
    run_id      bigint NOT NULL,
    ours        boolean NOT NULL,
    entity_type text NOT NULL,
    id          text NOT NULL,
    target      text,
    class       text,
    name        text,
    key         text,
    plain       text,
    words       text,
    marks       text,
    correlation text,
    key_rank    bigint,
    plain_rank  bigint,
    twins       bigint NOT NULL DEFAULT 1
);
CREATE INDEX match_names_run ON pgsync_itsm.match_names (run_id, entity_type, ours);
COMMENT ON TABLE pgsync_itsm.match_names IS 'Work space of matching: names here and there that have no counterpart yet';

CREATE UNLOGGED TABLE pgsync_itsm.match_pairs (
    run_id      bigint NOT NULL,
    entity_type text NOT NULL,
    entity_id   uuid NOT NULL,
    external_id text NOT NULL,
    score       real NOT NULL,
    same_class  boolean NOT NULL,
    reason      text NOT NULL,
    rivals      bigint NOT NULL DEFAULT 1,
    tie         bigint GENERATED ALWAYS AS (hashtextextended(entity_type || entity_id || external_id, 0)) STORED,
    chosen      boolean NOT NULL DEFAULT false
);
CREATE INDEX match_pairs_run ON pgsync_itsm.match_pairs (run_id, entity_type);
COMMENT ON TABLE pgsync_itsm.match_pairs IS 'Work space of matching: pairs that could be, and those that were chosen';

-- Ours: what a plan would create, and what it held because of its name there.
CREATE FUNCTION pgsync_itsm.match_read(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.match_names AS n WHERE n.run_id = run.id;
    DELETE FROM pgsync_itsm.match_pairs AS n WHERE n.run_id = run.id;
    INSERT INTO pgsync_itsm.match_names (run_id, ours, entity_type, id, class, name, key, plain)
    SELECT run.id, true, p.entity_type, p.entity_id, p.class, n.name, pgsync_itsm.name_key(n.name), pgsync_itsm.plain_name(n.name, p.entity_type)
      FROM pgsync_itsm.plan_records AS p
     CROSS JOIN LATERAL (SELECT concat_ws(' ', coalesce(p.payload ->> 'name', p.name),
                                          CASE WHEN p.entity_type = 'software_product' THEN nullif(p.payload ->> 'version', '') END) AS name) AS n
     WHERE p.run_id = run.id AND (p.verdict = 'CREATE' OR p.verdict = 'MISMATCH' AND p.external_id IS NOT NULL) AND n.name <> ''
       AND p.entity_type IN (SELECT m.entity_type FROM pgsync_itsm.mirror_tables(run.connection_id) AS m)
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                        WHERE s.connection_id = run.connection_id AND s.entity_type = p.entity_type AND s.entity_id = p.entity_id)
       AND NOT EXISTS (SELECT FROM @extschema@.integration_matches AS d
                        WHERE d.connection_id = run.connection_id AND d.entity_type = p.entity_type AND d.entity_id = p.entity_id
                          AND d.decision = 'create' AND d.decided_by IS NOT NULL);
    INSERT INTO pgsync_itsm.match_names (run_id, ours, entity_type, id, target, class, name, key, plain, correlation, twins)
    SELECT run.id, false, t.entity_type, x.external_id, x.target, x.external_table, n.name, pgsync_itsm.name_key(n.name),
           pgsync_itsm.plain_name(n.name, t.entity_type), nullif(x.attrs ->> 'correlation_id', ''),
           count(*) OVER (PARTITION BY t.entity_type, x.target, pgsync_itsm.name_key(n.name))
      FROM @extschema@.integration_external_records AS x
      JOIN pgsync_itsm.mirror_tables(run.connection_id) AS t ON t.target = x.target AND t.entity_type <> 'group'
     CROSS JOIN LATERAL (SELECT concat_ws(' ', x.name, CASE WHEN t.entity_type = 'software_product' THEN nullif(x.attrs ->> 'version', '') END) AS name) AS n
     WHERE x.connection_id = run.connection_id AND n.name <> ''
       AND coalesce(x.attrs ->> 'duplicate_of', '') = ''
       -- an offering of business or application services is none of ours
       AND (x.target <> 'service_offering' OR coalesce(x.attrs ->> 'service_classification', '') IN ('', 'Technical Service'))
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s WHERE s.connection_id = run.connection_id AND s.external_id = x.external_id AND s.parent_id IS NULL);
    -- a company that is there by its name is referred to by it
    DELETE FROM pgsync_itsm.match_names AS n USING pgsync_itsm.match_names AS t
     WHERE n.run_id = run.id AND n.ours AND n.entity_type = 'company' AND t.run_id = run.id AND NOT t.ours AND t.entity_type = 'company' AND t.key = n.key;
    -- a service and a profile share tables: what is no technical profile of ours is looked at as a service only
    DELETE FROM pgsync_itsm.match_names AS n
     WHERE n.run_id = run.id AND NOT n.ours AND n.entity_type = 'deployment_profile' AND n.target <> 'cmdb_ci_service_auto'
       AND NOT EXISTS (SELECT FROM pgsync_itsm.match_names AS o WHERE o.run_id = run.id AND o.ours AND o.entity_type = 'deployment_profile' AND o.class = n.target);
    -- of many with one name, here and there, each is compared with a few: all of them would be the product of both
    UPDATE pgsync_itsm.match_names AS n SET key_rank = r.key_rank, plain_rank = r.plain_rank
      FROM (SELECT m.ctid AS at, row_number() OVER (PARTITION BY m.entity_type, m.ours, m.key ORDER BY m.id COLLATE "C", m.target) AS key_rank,
                   row_number() OVER (PARTITION BY m.entity_type, m.ours, m.plain ORDER BY m.id COLLATE "C", m.target) AS plain_rank
              FROM pgsync_itsm.match_names AS m WHERE m.run_id = run.id) AS r
     WHERE n.ctid = r.at;
    UPDATE pgsync_itsm.match_names AS n
       SET words = pgsync_itsm.telling_words(n.plain, n.entity_type), marks = pgsync_itsm.name_marks(n.plain, n.entity_type)
     WHERE n.run_id = run.id;
    ANALYZE pgsync_itsm.match_names;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_read(@extschema@.integration_runs) IS 'Gathers the names that are to be paired';

-- Mutual best first, round by round, until nobody is left who could be paired.  Among equals the order is that of the pair,
-- not of its ends: by their ends all would want the same one, and a round would choose one pair.
CREATE FUNCTION pgsync_itsm.match_choose(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.match_pairs AS p USING @extschema@.integration_matches AS d
     WHERE p.run_id = run.id AND NOT p.chosen AND d.connection_id = run.connection_id AND d.entity_type = p.entity_type AND d.entity_id = p.entity_id
       AND d.external_id = p.external_id AND d.decision = 'rejected';
    -- a profile is of one class, and that is not the one of the other tables that profiles may be in
    DELETE FROM pgsync_itsm.match_pairs AS p USING pgsync_itsm.match_names AS o, pgsync_itsm.match_names AS t
     WHERE p.run_id = run.id AND NOT p.chosen AND p.entity_type = 'deployment_profile' AND p.score < 1
       AND o.run_id = run.id AND o.ours AND o.entity_type = p.entity_type AND o.id = p.entity_id::text
       AND t.run_id = run.id AND NOT t.ours AND t.entity_type = p.entity_type AND t.id = p.external_id AND t.target <> o.class;
    ANALYZE pgsync_itsm.match_pairs;
    -- which of equals is chosen says nothing: that there were some is for a person to see
    UPDATE pgsync_itsm.match_pairs AS p SET rivals = r.n
      FROM (SELECT q.ctid AS at, greatest(count(*) OVER (PARTITION BY q.entity_type, q.entity_id, q.score), count(*) OVER (PARTITION BY q.external_id, q.score)) AS n
              FROM pgsync_itsm.match_pairs AS q WHERE q.run_id = run.id AND NOT q.chosen) AS r
     WHERE p.ctid = r.at AND r.n > 1;
    LOOP
        WITH best AS MATERIALIZED (
            SELECT p.ctid AS at,
                   row_number() OVER (PARTITION BY p.entity_type, p.entity_id ORDER BY p.score DESC, p.same_class DESC, p.tie, p.external_id) AS here,
                   row_number() OVER (PARTITION BY p.external_id ORDER BY p.score DESC, p.same_class DESC, p.tie, p.entity_id, p.entity_type) AS there
              FROM pgsync_itsm.match_pairs AS p WHERE p.run_id = run.id AND NOT p.chosen
        )
        UPDATE pgsync_itsm.match_pairs AS p SET chosen = true FROM best AS b WHERE p.ctid = b.at AND b.here = 1 AND b.there = 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM pgsync_itsm.match_pairs AS p USING pgsync_itsm.match_pairs AS c
         WHERE p.run_id = run.id AND NOT p.chosen AND c.run_id = run.id AND c.chosen AND c.entity_type = p.entity_type AND c.entity_id = p.entity_id;
        DELETE FROM pgsync_itsm.match_pairs AS p USING pgsync_itsm.match_pairs AS c
         WHERE p.run_id = run.id AND NOT p.chosen AND c.run_id = run.id AND c.chosen AND c.external_id = p.external_id;
    END LOOP;
    -- who is paired is not asked again
    DELETE FROM pgsync_itsm.match_names AS n USING pgsync_itsm.match_pairs AS c
     WHERE n.run_id = run.id AND n.ours AND c.run_id = run.id AND c.chosen AND c.entity_type = n.entity_type AND c.entity_id::text = n.id;
    DELETE FROM pgsync_itsm.match_names AS n USING pgsync_itsm.match_pairs AS c
     WHERE n.run_id = run.id AND NOT n.ours AND c.run_id = run.id AND c.chosen AND c.external_id = n.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_choose(@extschema@.integration_runs) IS 'Chooses pairs one to one, the best first; rejected ones are none';

CREATE FUNCTION pgsync_itsm.match_same(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO pgsync_itsm.match_pairs (run_id, entity_type, entity_id, external_id, score, same_class, reason)
    SELECT DISTINCT ON (e.entity_type, e.entity_id, e.external_id) run.id, e.entity_type, e.entity_id, e.external_id, e.score, e.same_class, e.reason
      FROM (
        SELECT o.entity_type, o.id::uuid AS entity_id, t.id AS external_id, 1::real AS score, t.class IS NOT DISTINCT FROM o.class AS same_class, 'native key' AS reason
          FROM pgsync_itsm.match_names AS o
          JOIN pgsync_itsm.lookup_rows AS l ON l.run_id = run.id AND l.kind = 'native_key' AND l.external_id IS NOT NULL
           AND l.key = o.entity_type || '/' || o.id
          JOIN pgsync_itsm.match_names AS t ON t.run_id = run.id AND NOT t.ours AND t.entity_type = o.entity_type AND t.id = l.external_id
         WHERE o.run_id = run.id AND o.ours
        UNION ALL
        SELECT o.entity_type, o.id::uuid, t.id, 1, t.class IS NOT DISTINCT FROM o.class, 'correlation id'
          FROM pgsync_itsm.match_names AS o JOIN pgsync_itsm.match_names AS t ON t.run_id = run.id AND NOT t.ours AND t.entity_type = o.entity_type AND t.correlation = o.id
         WHERE o.run_id = run.id AND o.ours
        UNION ALL
        SELECT o.entity_type, o.id::uuid, t.id, 0.95, t.class IS NOT DISTINCT FROM o.class, 'exact name'
          FROM pgsync_itsm.match_names AS o JOIN pgsync_itsm.match_names AS t ON t.run_id = run.id AND NOT t.ours AND t.entity_type = o.entity_type AND t.key = o.key AND abs(t.key_rank - o.key_rank) < 10
         WHERE o.run_id = run.id AND o.ours
        UNION ALL
        SELECT o.entity_type, o.id::uuid, t.id, 0.9, t.class IS NOT DISTINCT FROM o.class, 'normalised name'
          FROM pgsync_itsm.match_names AS o JOIN pgsync_itsm.match_names AS t ON t.run_id = run.id AND NOT t.ours AND t.entity_type = o.entity_type AND t.plain = o.plain AND abs(t.plain_rank - o.plain_rank) < 10
         WHERE o.run_id = run.id AND o.ours AND o.plain <> ''
      ) AS e
     ORDER BY e.entity_type, e.entity_id, e.external_id, e.score DESC;
    PERFORM pgsync_itsm.match_choose(run);
    -- A version is part of a product; elsewhere it may be left out, where one record here and one there then has the name.
    INSERT INTO pgsync_itsm.match_pairs (run_id, entity_type, entity_id, external_id, score, same_class, reason)
    SELECT run.id, o.entity_type, o.id::uuid, t.id, 0.85, t.class IS NOT DISTINCT FROM o.class, 'name without version'
      FROM (SELECT n.*, pgsync_itsm.without_version(n.plain) AS bare, count(*) OVER (PARTITION BY n.entity_type, pgsync_itsm.without_version(n.plain)) AS n
              FROM pgsync_itsm.match_names AS n WHERE n.run_id = run.id AND n.ours AND n.entity_type IN ('application', 'it_service', 'company')) AS o
      JOIN (SELECT n.*, pgsync_itsm.without_version(n.plain) AS bare, count(*) OVER (PARTITION BY n.entity_type, pgsync_itsm.without_version(n.plain)) AS n
              FROM pgsync_itsm.match_names AS n WHERE n.run_id = run.id AND NOT n.ours) AS t ON t.entity_type = o.entity_type AND t.bare = o.bare
     WHERE o.n = 1 AND t.n = 1 AND o.bare <> '' AND (o.marks = '' OR t.marks = '' OR o.plain = o.bare OR t.plain = t.bare);
    PERFORM pgsync_itsm.match_choose(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_same(@extschema@.integration_runs) IS 'Pairs by keys and by names that are the same, exactly or but for what does not matter';

CREATE FUNCTION pgsync_itsm.trigram_schema() RETURNS name
LANGUAGE sql STABLE
RETURN (SELECT n.nspname FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm');
COMMENT ON FUNCTION pgsync_itsm.trigram_schema() IS 'Where pg_trgm is installed; NULL: nowhere';

-- An index of trigrams on a table of this transaction's own: nobody waits for it.  Names that differ in their numbers only are
-- all alike, and none of them is another: where a number is rare it is looked up first, and likeness second.
CREATE FUNCTION pgsync_itsm.match_similar(run @extschema@.integration_runs, only_type text, threshold real) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    trigrams name := pgsync_itsm.trigram_schema();
BEGIN
    CREATE TEMP TABLE pgsync_itsm_names ON COMMIT DROP AS
    SELECT n.id, n.class, n.words, n.marks, n.marks <> '' AND count(*) OVER (PARTITION BY n.marks) <= 100 AS rare
      FROM pgsync_itsm.match_names AS n
     WHERE n.run_id = run.id AND n.entity_type = only_type AND NOT n.ours AND n.words <> '';
    EXECUTE format('CREATE INDEX ON pg_temp.pgsync_itsm_names USING gin (words %I.gin_trgm_ops) WHERE rare', trigrams);
    EXECUTE format('CREATE INDEX ON pg_temp.pgsync_itsm_names USING gin (words %I.gin_trgm_ops) WHERE NOT rare', trigrams);
    CREATE INDEX ON pg_temp.pgsync_itsm_names (marks) WHERE rare;
    ANALYZE pg_temp.pgsync_itsm_names;
    PERFORM set_config('pg_trgm.similarity_threshold', threshold::text, true), set_config('enable_seqscan', 'off', true);
    -- Where only one of two names has numbers in it, they may mean the same.  A few candidates are enough: a record gets one.
    -- What is alike is never as good as what is the same.
    EXECUTE format($sql$
        INSERT INTO pgsync_itsm.match_pairs (run_id, entity_type, entity_id, external_id, score, same_class, reason)
        SELECT $1, $2, o.id::uuid, c.id, least(c.similar * 0.9, 0.84), c.same_class, pg_catalog.format('similar name (%%s)', round(c.similar::numeric, 2))
          FROM pgsync_itsm.match_names AS o
         CROSS JOIN LATERAL (
               SELECT t.id, t.similar, t.class IS NOT DISTINCT FROM o.class AS same_class
                 FROM (SELECT n.id, n.class, %1$I.similarity(o.words, n.words) AS similar
                         FROM pg_temp.pgsync_itsm_names AS n WHERE NOT n.rare AND n.words OPERATOR(%1$I.%%) o.words AND (n.marks = o.marks OR n.marks = '' OR o.marks = '')
                       UNION ALL
                       SELECT n.id, n.class, %1$I.similarity(o.words, n.words)
                         FROM pg_temp.pgsync_itsm_names AS n WHERE o.marks = '' AND n.rare AND n.words OPERATOR(%1$I.%%) o.words
                       UNION ALL
                       SELECT n.id, n.class, %1$I.similarity(o.words, n.words)
                         FROM pg_temp.pgsync_itsm_names AS n WHERE o.marks <> '' AND n.rare AND n.marks = o.marks) AS t
                WHERE t.similar >= $3
                ORDER BY t.similar DESC, 3 DESC, hashtextextended(o.id || t.id, 0), t.id LIMIT 20) AS c
         WHERE o.run_id = $1 AND o.entity_type = $2 AND o.ours AND o.words <> ''$sql$, trigrams)
      USING run.id, only_type, threshold;
    PERFORM set_config('enable_seqscan', 'on', true);
    DROP TABLE pg_temp.pgsync_itsm_names;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_similar(@extschema@.integration_runs, text, real) IS 'Pairs of one entity type whose names are alike, by trigrams of their telling words';

CREATE FUNCTION pgsync_itsm.match_settled(connection_id uuid, entity_type text, entity_id uuid) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM @extschema@.integration_matches AS d
                WHERE d.connection_id = match_settled.connection_id AND d.entity_type = match_settled.entity_type AND d.entity_id = match_settled.entity_id
                  AND (d.decision = 'accepted' OR d.decision = 'create' AND d.decided_by IS NOT NULL));
COMMENT ON FUNCTION pgsync_itsm.match_settled(uuid, text, uuid) IS 'Has somebody said which record there is this one, or that none is';

-- Decisions, proposals and the start of a run take turns: in another order they wait for each other's rows.
CREATE FUNCTION pgsync_itsm.match_lock(connection_id uuid) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    SELECT pg_advisory_xact_lock(hashtextextended(match_lock.connection_id::text, 7407));
END;
COMMENT ON FUNCTION pgsync_itsm.match_lock(uuid) IS 'Waits for other decisions about records of a connection';

-- Anybody may hold a lock of this kind for as long as he likes; a plan that waited for him would hold up everybody's.
CREATE FUNCTION pgsync_itsm.match_lock_soon(connection_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
BEGIN
    PERFORM pgsync_itsm.match_lock(connection_id);
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'somebody is deciding on matches of connection %', connection_id
        USING ERRCODE = 'lock_not_available', HINT = 'Start the run again when that transaction has ended.';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_lock_soon(uuid) IS 'The same for a run, which gives up after 10 s';

-- The proposals of a run take the place of earlier ones that nobody has decided on.
CREATE FUNCTION pgsync_itsm.match_write(run @extschema@.integration_runs, with_new boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.match_lock_soon(run.connection_id);
    DELETE FROM @extschema@.integration_matches AS m
     WHERE m.connection_id = run.connection_id
       -- one that was accepted and is not in the map any more, after a rollback, is to be decided again
       AND (m.decided_by IS NULL
            OR m.decision = 'accepted' AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                                                        WHERE s.connection_id = m.connection_id AND s.entity_id = m.entity_id AND s.entity_type = m.entity_type))
       AND (with_new
            -- a plan does not look for companies, nor does it say what has no counterpart
            OR m.entity_type <> 'company'
               AND CASE WHEN m.decision IN ('proposed', 'accepted') THEN EXISTS (SELECT FROM pgsync_itsm.plan_records AS p
                                                                 WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id)
                   ELSE EXISTS (SELECT FROM pgsync_itsm.match_pairs AS c
                                 WHERE c.run_id = run.id AND c.chosen AND c.entity_type = m.entity_type AND c.entity_id = m.entity_id) END);
    -- Of several records there with one name all are shown, up to a number that somebody may look at: which of them is meant is for a person to say.
    INSERT INTO @extschema@.integration_matches
        (connection_id, namespace_id, run_id, entity_type, entity_id, native_key, entity_name, external_id, external_table, external_name, score, reason, duplicates)
    SELECT run.connection_id, run.namespace_id, run.id, a.entity_type, a.entity_id, p.native_key, left(coalesce(p.payload ->> 'name', p.name), 300), a.found_id,
           a.external_table, a.name, a.score,
           concat_ws('; ', a.reason, CASE WHEN a.n > 1 THEN format('one of %s records there with this name', a.n)
                                   WHEN a.rivals > 1 THEN format('one of %s pairs that are as good', a.rivals) END,
                     CASE WHEN coalesce(a.attrs ->> 'correlation_id', '') NOT IN ('', a.entity_id::text) THEN 'it belongs to something else there (correlation id)' END),
           greatest(a.n, a.rivals)
      FROM (SELECT w.*, y.external_id AS found_id, y.external_table, y.name, y.attrs, count(*) OVER (PARTITION BY w.entity_type, w.entity_id) AS n,
                   row_number() OVER (PARTITION BY w.entity_type, w.entity_id ORDER BY y.external_id <> w.external_id, y.external_id) AS place
              FROM pgsync_itsm.match_pairs AS w
              JOIN @extschema@.integration_external_records AS x ON x.connection_id = run.connection_id AND x.external_id = w.external_id
              JOIN @extschema@.integration_external_records AS y
                ON y.connection_id = run.connection_id AND y.target = x.target AND pgsync_itsm.name_key(y.name) = pgsync_itsm.name_key(x.name)
               AND (w.entity_type <> 'software_product' OR coalesce(y.attrs ->> 'version', '') = coalesce(x.attrs ->> 'version', ''))
             WHERE w.run_id = run.id AND w.chosen AND coalesce(y.attrs ->> 'duplicate_of', '') = ''
               -- a key says which of them it is
               AND (y.external_id = x.external_id OR w.score < 1 AND (y.target <> 'service_offering' OR coalesce(y.attrs ->> 'service_classification', '') IN ('', 'Technical Service')))
               AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                                WHERE s.connection_id = run.connection_id AND s.external_id = y.external_id AND s.parent_id IS NULL)) AS a
      JOIN pgsync_itsm.plan_records AS p ON p.run_id = run.id AND p.entity_type = a.entity_type AND p.entity_id = a.entity_id
     WHERE a.place <= 20 AND NOT pgsync_itsm.match_settled(run.connection_id, a.entity_type, a.entity_id)
    ON CONFLICT DO NOTHING;
    IF with_new THEN
        INSERT INTO @extschema@.integration_matches (connection_id, namespace_id, run_id, entity_type, entity_id, native_key, entity_name, reason, decision)
        SELECT run.connection_id, run.namespace_id, run.id, p.entity_type, p.entity_id, p.native_key, left(coalesce(p.payload ->> 'name', p.name), 300),
               CASE WHEN EXISTS (SELECT FROM pgsync_itsm.mirror_reads AS r
                                   JOIN pgsync_itsm.mirror_tables(run.connection_id) AS t ON t.target = r.target AND t.entity_type = p.entity_type
                                  WHERE r.run_id = run.id AND r.whole IS NOT TRUE)
                    THEN 'no counterpart among what the user may read there, which is not all' ELSE 'no counterpart there' END, 'create'
          FROM pgsync_itsm.match_names AS n
          JOIN pgsync_itsm.plan_records AS p ON p.run_id = run.id AND p.entity_type = n.entity_type AND p.entity_id::text = n.id
         WHERE n.run_id = run.id AND n.ours AND NOT pgsync_itsm.match_settled(run.connection_id, p.entity_type, p.entity_id);
    END IF;
    DELETE FROM pgsync_itsm.match_names AS n WHERE n.run_id = run.id;
    DELETE FROM pgsync_itsm.match_pairs AS n WHERE n.run_id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_write(@extschema@.integration_runs, boolean) IS 'Writes the proposals of a run; with_new: also what has no counterpart';

CREATE FUNCTION pgsync_itsm.match_propose(run @extschema@.integration_runs, with_new boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    PERFORM pgsync_itsm.match_read(run);
    PERFORM pgsync_itsm.match_same(run);
    IF pgsync_itsm.trigram_schema() IS NOT NULL THEN
        FOR t IN SELECT DISTINCT n.entity_type FROM pgsync_itsm.match_names AS n WHERE n.run_id = run.id AND n.ours LOOP
            PERFORM pgsync_itsm.match_similar(run, t, pgsync_itsm.setting(run.connection_id, CASE t WHEN 'it_service' THEN 'similar_services' ELSE 'similar_names' END)::real);
        END LOOP;
        PERFORM pgsync_itsm.match_choose(run);
    END IF;
    PERFORM pgsync_itsm.match_write(run, with_new);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_propose(@extschema@.integration_runs, boolean) IS
'Pairs what a run would create with what the mirror holds: by keys, by name, by likeness where pg_trgm is installed';

-- A record that would be created while somebody has still to say whether it is there already waits for that.
CREATE FUNCTION pgsync_itsm.match_holds(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = 'MISMATCH', external_id = d.external_id, external_table = d.external_table,
           reason = format('%s: "%s" is there; itsm_accept_match() or itsm_reject_match() decides', d.reason, left(d.external_name, 80))
      FROM (SELECT DISTINCT ON (m.entity_type, m.entity_id) m.*
              FROM pgsync_itsm.plan_records AS q
              JOIN @extschema@.integration_matches AS m
                ON m.connection_id = run.connection_id AND m.entity_id = q.entity_id AND m.entity_type = q.entity_type AND m.decision = 'proposed'
             WHERE q.run_id = run.id AND q.verdict = 'CREATE' AND q.entity_type <> 'company' AND m.external_id IS NOT NULL
               AND NOT pgsync_itsm.match_settled(run.connection_id, m.entity_type, m.entity_id)
               -- what is another record here by now is not this one
               AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS s
                                WHERE s.connection_id = run.connection_id AND s.external_id = m.external_id AND s.parent_id IS NULL)
             ORDER BY m.entity_type, m.entity_id, m.score DESC, m.external_id) AS d
     WHERE p.run_id = run.id AND p.entity_type = d.entity_type AND p.entity_id = d.entity_id AND p.verdict = 'CREATE';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_holds(@extschema@.integration_runs) IS 'Holds new records for which there is a proposal that nobody has decided on';

-- The run -------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.match_summary(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN concat_ws('; ',
        coalesce((SELECT string_agg(format('%s: %s', replace(g.entity_type, '_', ' '), concat_ws(', ',
                             CASE WHEN g.proposed > 0 THEN format('%s proposed', g.proposed) END, CASE WHEN g.several > 0 THEN format('%s of them several times there', g.several) END,
                             CASE WHEN g.new > 0 THEN format('%s without a counterpart', g.new) END)), '; ' ORDER BY g.entity_type)
                    FROM (SELECT m.entity_type, count(DISTINCT m.entity_id) FILTER (WHERE m.decision = 'proposed') AS proposed,
                                 count(DISTINCT m.entity_id) FILTER (WHERE m.decision = 'proposed' AND m.duplicates > 1) AS several,
                                 count(*) FILTER (WHERE m.decision = 'create') AS new
                            FROM @extschema@.integration_matches AS m WHERE m.run_id = run.id GROUP BY m.entity_type) AS g), 'nothing is left to match'),
        (SELECT 'read there: ' || string_agg(format('%s %s%s', r.seen, r.target,
                                                    CASE WHEN r.whole THEN '' WHEN r.hidden > 0 THEN format(' (not all: at least %s are hidden from the user)', r.hidden)
                                                         ELSE ' (not readable)' END), ', ' ORDER BY r.target)
           FROM pgsync_itsm.mirror_reads AS r WHERE r.run_id = run.id),
        (SELECT format('%s names are there more than once', count(*))
           FROM (SELECT FROM @extschema@.integration_external_records AS x
                  WHERE x.connection_id = run.connection_id AND x.target IN (SELECT t.target FROM pgsync_itsm.mirror_tables(run.connection_id) AS t WHERE t.entity_type <> 'software_product')
                    AND coalesce(x.attrs ->> 'duplicate_of', '') = '' AND x.name <> ''
                  GROUP BY x.target, pgsync_itsm.name_key(x.name) HAVING count(*) > 1) AS twice HAVING count(*) > 0),
        CASE WHEN pgsync_itsm.trigram_schema() IS NULL THEN 'names were not compared by likeness: CREATE EXTENSION pg_trgm;' END);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_summary(@extschema@.integration_runs) IS 'What a match run found, in words';

CREATE FUNCTION pgsync_itsm.match_ask(run @extschema@.integration_runs, types text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.plan_rules(run);
    UPDATE pgsync_itsm.plan_records AS p
       SET verdict = CASE WHEN EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = run.connection_id
                                          AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id) THEN 'UNCHANGED' ELSE 'CREATE' END
     WHERE p.run_id = run.id AND (p.verdict IS NULL OR p.verdict = 'UNCHANGED');
    PERFORM pgsync_itsm.ask(run, 'native_key', '', ARRAY(
        SELECT p.native_key FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND pgsync_itsm.is_identified(p.entity_type) AND NOT pgsync_itsm.is_halo(run.connection_id)));
    PERFORM pgsync_itsm.mirror_ask(run, types || ARRAY['group']);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_ask(@extschema@.integration_runs, text[]) IS 'Asks for what a match run wants to know';

-- What applications are related to, for the readiness report: small questions, since one answer holds all their rows.
CREATE FUNCTION pgsync_itsm.match_ask_links(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.ask(run, 'relation', '', ARRAY(
        SELECT x.external_id FROM @extschema@.integration_external_records AS x
         WHERE x.connection_id = run.connection_id AND x.target = 'cmdb_ci_business_app'), chunk => 20);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_ask_links(@extschema@.integration_runs) IS 'Asks for the relationships of the applications there';

CREATE FUNCTION pgsync_itsm.match_phase(run @extschema@.integration_runs, wanted text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    types text[] := ARRAY(SELECT w.entity_type FROM unnest(wanted) WITH ORDINALITY AS w(entity_type, n)
                           WHERE w.entity_type IN (SELECT m.entity_type FROM pgsync_itsm.mirror_tables(run.connection_id) AS m) ORDER BY w.n);
BEGIN
    CASE
        WHEN run.phase = 'queued' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            RETURN pgsync_itsm.plan_next_phase(types, run.phase, 'read ', 'ask');
        WHEN run.phase LIKE 'read %' THEN
            PERFORM pgsync_itsm.plan_read(run, substr(run.phase, 6));
            RETURN pgsync_itsm.plan_next_phase(types, run.phase, 'read ', 'ask');
        WHEN run.phase = 'ask' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.match_ask(run, types);
            RETURN 'pages';
        WHEN run.phase = 'pages' THEN
            IF NOT pgsync_itsm.mirror_take(run) THEN
                PERFORM pgsync_itsm.match_ask_links(run);
                RETURN 'links';
            END IF;
            RETURN 'pages';
        WHEN run.phase = 'links' THEN
            PERFORM pgsync_itsm.mirror_store(run, 'relation');
            DELETE FROM @extschema@.integration_external_records AS x
             WHERE x.connection_id = run.connection_id AND x.target = 'cmdb_rel_ci' AND x.last_seen < run.created_at;
            PERFORM pgsync_itsm.match_propose(run, true);
            UPDATE @extschema@.integration_runs AS r SET planned_at = now(), summary = pgsync_itsm.match_summary(run),
                   matched = (SELECT count(DISTINCT (m.entity_type, m.entity_id)) FROM @extschema@.integration_matches AS m WHERE m.run_id = run.id AND m.decision = 'proposed')
             WHERE r.id = run.id;
            PERFORM pgsync_itsm.finish_run(run.id, 'done');
            RETURN NULL;
        ELSE
            RAISE EXCEPTION 'run % has the unknown phase "%"', run.id, run.phase;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.match_phase(@extschema@.integration_runs, text[]) IS 'Does one phase of a match run and returns the next; NULL at the end';
