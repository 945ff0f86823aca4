-- Planning, last part: verdicts become items, items make steps and counts, and the guards decide whether
-- the run may go on by itself.

-- "Only if empty" fields, foreign correlation ids: what the platform has now decides whether a field travels.
-- As compare_taken() compares: line ends and blanks at the end are the platform's.
CREATE FUNCTION pgsync_itsm.plain_value(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN rtrim(replace(value, E'\r\n', E'\n'));
COMMENT ON FUNCTION pgsync_itsm.plain_value(text) IS 'A value as it is compared with what the platform shows';

CREATE FUNCTION pgsync_itsm.plan_guard(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS l WHERE l.run_id = run.id AND l.kind = 'record') THEN
        RETURN;
    END IF;
    UPDATE pgsync_itsm.plan_records AS p SET old_values = x.attrs
      FROM (SELECT DISTINCT ON (l.key) l.key, l.attrs FROM pgsync_itsm.lookup_rows AS l WHERE l.run_id = run.id AND l.kind = 'record') AS x
     WHERE p.run_id = run.id AND p.verdict IN ('UPDATE', 'MISMATCH') AND p.external_id = x.key;
    UPDATE pgsync_itsm.plan_records AS p
       SET payload = (SELECT json_object_agg(v.field, v.value ORDER BY v.ord) FROM json_each_text(p.payload) WITH ORDINALITY AS v(field, value, ord)
                       WHERE v.field <> ALL (k.theirs)),
           warnings = coalesce(p.warnings, '[]') || (SELECT jsonb_agg(format('%s: kept as it is there', f) ORDER BY f) FROM unnest(k.theirs) AS f)
      FROM (SELECT q.entity_type, q.entity_id, array_agg(f.target_field) AS theirs
              FROM pgsync_itsm.plan_records AS q
              JOIN (SELECT DISTINCT ON (c.entity_type, c.class, m.target_field) c.entity_type, c.class, m.target_field, m.authority
                      FROM (SELECT DISTINCT r.entity_type, coalesce(r.class, '') AS class FROM pgsync_itsm.plan_records AS r
                             WHERE r.run_id = run.id AND r.verdict = 'UPDATE') AS c
                     CROSS JOIN LATERAL pgsync_itsm.mapped_fields(run.connection_id, c.entity_type) AS m
                     WHERE m.target_class IN ('*', c.class)
                     ORDER BY c.entity_type, c.class, m.target_field, m.target_class = '*') AS f
                ON f.entity_type = q.entity_type AND f.class = coalesce(q.class, '')
               AND (f.authority IN ('theirs', 'if_empty') OR f.target_field = 'correlation_id')
              LEFT JOIN @extschema@.integration_sync_map AS m
                ON m.connection_id = run.connection_id AND m.entity_type = q.entity_type AND m.entity_id = q.entity_id
             WHERE q.run_id = run.id AND q.verdict = 'UPDATE' AND q.old_values IS NOT NULL
               AND coalesce(q.old_values ->> f.target_field, '')
                   NOT IN ('', q.payload ->> f.target_field, coalesce(m.last_agreed ->> f.target_field, ''))
             GROUP BY q.entity_type, q.entity_id) AS k
     WHERE p.run_id = run.id AND p.entity_type = k.entity_type AND p.entity_id = k.entity_id;
    PERFORM pgsync_itsm.plan_edited(run);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_guard(@extschema@.integration_runs) IS
'Takes fields that belong to the platform out of the payloads of updates, and notes the values that it has now';

-- In the order in which they are sent: what others refer to, then application by application (itself, its profiles,
-- their relationships), then what belongs to none.
CREATE FUNCTION pgsync_itsm.plan_item_rows(run @extschema@.integration_runs, open_state text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_parent CONSTANT boolean := pgsync_itsm.is_halo(run.connection_id);
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict NOT IN ('UNCHANGED', 'DROP'))
       AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_links AS p WHERE p.run_id = run.id AND p.verdict NOT IN ('UNCHANGED', 'GONE')) THEN
        RETURN;
    END IF;
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, bundle, action, state,
         payload, old_values, payload_hash, source_hash, source_version, external_id, external_table, parent_type, parent_id, child_type, child_id,
         rel_type, rel_type_id, reason, warnings)
    WITH records AS MATERIALIZED (
        SELECT p.entity_type, p.entity_id, coalesce(p.payload ->> 'name', p.name) AS name,
               CASE p.entity_type WHEN 'application' THEN p.entity_id
                                  WHEN 'deployment_profile' THEN pgsync_itsm.entity_id('application', p.parent_key) END AS application
          FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id
    ), bundles AS MATERIALIZED (
        SELECT a.application, row_number() OVER (ORDER BY a.application) AS bundle
          FROM (SELECT DISTINCT r.application FROM records AS r WHERE r.application IS NOT NULL) AS a
    ), ends AS MATERIALIZED (
        SELECT r.entity_type, r.entity_id, r.name, b.bundle FROM records AS r LEFT JOIN bundles AS b ON b.application = r.application
    ), steps AS MATERIALIZED (
        SELECT k.entity_type, k.class, f.ord, f.step
          FROM (SELECT DISTINCT q.entity_type, coalesce(q.class, '') AS class FROM pgsync_itsm.plan_records AS q WHERE q.run_id = run.id) AS k
         CROSS JOIN LATERAL pgsync_itsm.step_of(k.entity_type, k.class) AS f
    ), items AS (
        SELECT s.ord, s.step, p.entity_type, p.entity_id, p.native_key,
               coalesce(p.payload ->> 'name', p.payload ->> 'vendor_contract', p.payload ->> 'ref', p.name, p.native_key) AS label, e.bundle, p.verdict,
               p.payload, p.old_values, p.payload_hash, p.source_hash, p.source_version, p.external_id, coalesce(p.external_table, p.class) AS external_table,
               NULL AS parent_type, NULL::uuid AS parent_id, NULL AS child_type, NULL::uuid AS child_id, NULL AS rel_type, NULL AS rel_type_id,
               p.reason, p.warnings
          FROM pgsync_itsm.plan_records AS p
          JOIN steps AS s ON s.entity_type = p.entity_type AND s.class = coalesce(p.class, '')
          LEFT JOIN ends AS e ON e.entity_type = p.entity_type AND e.entity_id = p.entity_id AND e.bundle IS NOT NULL
         WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'UPDATE', 'MATCH', 'MISMATCH', 'SKIP', 'ERROR')
        UNION ALL
        SELECT t.ord, t.step, p.entity_type, p.entity_id, p.native_key,
               CASE WHEN p.verdict = 'DELETE' THEN p.native_key
                    ELSE coalesce(a.name, p.parent_key) || ' > ' || coalesce(c.name, p.child_key) END,
               CASE WHEN p.entity_type IN ('consumes', 'depends_on', 'runs_on') THEN coalesce(a.bundle, c.bundle) END, p.verdict,
               NULL, NULL, NULL, NULL, NULL, p.external_id, CASE WHEN p.verdict = 'DELETE' THEN coalesce(m.external_table, 'cmdb_rel_ci') ELSE p.class END,
               p.parent_type, p.parent_id, nullif(p.child_type, ''), p.child_id, coalesce(p.rel_type, m.rel_type), CASE WHEN p.verdict <> 'DELETE' THEN r.external_id END,
               p.reason, NULL
          FROM pgsync_itsm.plan_links AS p
          JOIN pgsync_itsm.plan_types() AS t ON t.entity_type = p.entity_type
          LEFT JOIN ends AS a ON a.entity_type = p.parent_type AND a.entity_id = p.parent_id
          LEFT JOIN ends AS c ON c.entity_type = p.child_type AND c.entity_id = p.child_id
          LEFT JOIN @extschema@.integration_references AS r
            ON r.connection_id = run.connection_id AND r.kind = 'relation_type' AND r.target = '' AND r.key = lower(p.rel_type)
          LEFT JOIN @extschema@.integration_sync_map AS m
            ON p.verdict = 'DELETE' AND m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id
         WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'MATCH', 'SKIP', 'ERROR', 'DELETE')
    )
    SELECT run.id, run.connection_id, run.namespace_id, i.ord, i.step, i.entity_type, i.entity_id, i.native_key, left(i.label, 300), i.bundle, i.verdict,
           CASE WHEN i.verdict IN ('CREATE', 'UPDATE', 'DELETE') THEN open_state WHEN i.verdict = 'MATCH' THEN 'planned'
                WHEN i.verdict = 'MISMATCH' THEN 'held' WHEN i.verdict = 'ERROR' THEN 'dead' ELSE 'skipped' END,
           i.payload, i.old_values, i.payload_hash, i.source_hash, i.source_version, i.external_id, i.external_table, i.parent_type, i.parent_id,
           i.child_type, i.child_id, i.rel_type, i.rel_type_id, i.reason, i.warnings
      FROM items AS i
     -- where a relationship is a part of its parent, those of one parent are neighbours
     ORDER BY CASE WHEN i.bundle IS NOT NULL THEN 70 ELSE i.ord END, i.bundle, CASE WHEN by_parent AND i.parent_id IS NOT NULL THEN 85 ELSE i.ord END,
              CASE WHEN by_parent THEN i.parent_id END, i.ord, i.entity_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_item_rows(@extschema@.integration_runs, text) IS 'One item a record or relationship that is not unchanged, in the order of sending';

CREATE FUNCTION pgsync_itsm.plan_clear_rows(run @extschema@.integration_runs, open_state text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, bundle, action, state,
         payload, old_values, source_hash, external_id, external_table)
    SELECT i.run_id, i.connection_id, i.namespace_id, i.ord, i.step, i.entity_type, i.entity_id, i.native_key, i.label, i.bundle, 'CLEAR', open_state,
           c.payload, i.old_values, i.source_hash, i.external_id, i.external_table
      FROM pgsync_itsm.plan_records AS p
      JOIN @extschema@.integration_run_items AS i
        ON i.run_id = run.id AND i.entity_type = p.entity_type AND i.entity_id = p.entity_id AND i.action = 'UPDATE'
      JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id
     CROSS JOIN LATERAL (
           SELECT json_object_agg(a.field, '' ORDER BY a.field) AS payload
             FROM json_each_text(m.last_agreed) AS a(field, value)
            WHERE coalesce(a.value, '') <> '' AND a.field NOT LIKE '\_%' AND i.payload ->> a.field IS NULL
              AND a.field NOT IN ('name', 'correlation_id', 'vendor_contract', 'it_application_owner', 'contract_model', 'inventory_number', 'ref')
              AND a.value = coalesce(i.old_values ->> a.field, a.value)
              -- What is left out because it does not resolve there is not empty here.
              AND NOT EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(i.warnings, '[]')) AS w(words)
                               WHERE starts_with(w.words, a.field || ':') OR starts_with(w.words, 'column ' || a.field || ' '))
           HAVING count(*) > 0) AS c
     WHERE p.run_id = run.id AND p.verdict = 'UPDATE' AND m.created_by_us;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_clear_rows(@extschema@.integration_runs, text) IS
'Values that we wrote, are empty here now and unchanged there are cleared, by an item of their own: a bulk payload cannot clear reliably';

-- A removed link removes the row that we made, where both its ends are still published; no other.
CREATE FUNCTION pgsync_itsm.plan_unlink(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.plan_links AS p WHERE p.run_id = run.id AND p.verdict = 'GONE') THEN
        RETURN;
    END IF;
    WITH published AS MATERIALIZED (
        SELECT DISTINCT p.entity_id FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MATCH')
    )
    UPDATE pgsync_itsm.plan_links AS p SET verdict = 'DELETE', external_id = m.external_id, reason = 'the link is gone here'
      FROM @extschema@.integration_sync_map AS m
     WHERE p.run_id = run.id AND p.verdict = 'GONE'
       AND m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id AND m.created_by_us
       AND p.parent_id IN (SELECT e.entity_id FROM published AS e) AND p.child_id IN (SELECT e.entity_id FROM published AS e);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_unlink(@extschema@.integration_runs) IS 'Relationship rows of ours whose link is gone';

CREATE FUNCTION pgsync_itsm.plan_counts(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known bigint := 0;
BEGIN
    -- Of relationships that are in the map as they are, a plan in full keeps no row.
    IF NOT run.partial THEN
        SELECT count(*) INTO known FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id
           AND m.entity_type IN (SELECT t.entity_type FROM pgsync_itsm.plan_types() AS t
                                  WHERE t.is_relation AND t.entity_type = ANY (pgsync_itsm.wanted_types(run.connection_id)));
    END IF;
    UPDATE @extschema@.integration_runs AS r
       SET to_create = c.creates, to_update = c.updates + d.retired, to_delete = c.deletes + d.deleted, relations_to_create = c.relates,
           matched = c.matches, held = c.held + d.held, skipped = c.skipped + d.skipped,
           refused = c.errors, in_scope = c.in_scope, unchanged = c.unchanged + known - c.kept
      FROM (SELECT coalesce(sum(v.n) FILTER (WHERE v.verdict = 'CREATE'), 0) AS creates,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'CREATE' AND v.link), 0) AS relates,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'MATCH'), 0) AS matches,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'UPDATE'), 0) AS updates,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'DELETE'), 0) AS deletes,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'MISMATCH'), 0) AS held,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'SKIP'), 0) AS skipped,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'ERROR'), 0) AS errors,
                   coalesce(sum(v.n) FILTER (WHERE NOT v.link AND v.verdict IS DISTINCT FROM 'SKIP' AND v.verdict IS DISTINCT FROM 'DROP'), 0) AS in_scope,
                   coalesce(sum(v.n) FILTER (WHERE v.verdict = 'UNCHANGED'), 0) AS unchanged,
                   coalesce(sum(v.n) FILTER (WHERE v.in_map AND NOT run.partial), 0) AS kept
              FROM (SELECT false AS link, false AS in_map, p.verdict, count(*) AS n FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id GROUP BY 3
                    UNION ALL
                    SELECT true, p.in_map, p.verdict, count(*) FROM pgsync_itsm.plan_links AS p WHERE p.run_id = run.id GROUP BY 2, 3) AS v) AS c,
           -- there are no other items yet
           (SELECT count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'UPDATE') AS retired,
                   count(*) FILTER (WHERE i.state = 'planned' AND i.action = 'DELETE') AS deleted,
                   count(*) FILTER (WHERE i.state = 'held') AS held, count(*) FILTER (WHERE i.state = 'skipped') AS skipped
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id AND i.payload_hash = 'retired') AS d
     WHERE r.id = run.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_counts(@extschema@.integration_runs) IS 'Counts of a plan, before there are items: they decide whether the run may go on';

CREATE FUNCTION pgsync_itsm.plan_steps(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_steps AS s (run_id, namespace_id, step, ord, title, total)
    SELECT run.id, run.namespace_id, k.step, k.ord, 
           CASE WHEN k.ord > 800 THEN 'Delete: ' || lower(left(min(t.title), 1)) || substr(min(t.title), 2) ELSE min(t.title) END, sum(k.n)
      FROM (SELECT i.step, i.ord, i.entity_type, min(i.external_table) AS class, count(*) AS n
              FROM @extschema@.integration_run_items AS i
             WHERE i.run_id = run.id AND i.state IN ('planned', 'pending') AND i.action <> 'MATCH'
             GROUP BY i.step, i.ord, i.entity_type) AS k
     CROSS JOIN LATERAL pgsync_itsm.step_of(k.entity_type, k.class) AS t
     GROUP BY k.step, k.ord
    ON CONFLICT (run_id, step) DO UPDATE SET total = excluded.total;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_steps(@extschema@.integration_runs) IS 'Steps of a plan';

-- Matched records enter the map without a call.  A relationship that an earlier run may have made before it ended is ours.
CREATE FUNCTION pgsync_itsm.apply_matches(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_sync_map
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name,
         parent_id, child_id, rel_type, sync_direction, created_by_us, last_synced_at, last_sent_hash, source_hash, source_version)
    SELECT i.connection_id, i.namespace_id, i.entity_type, i.entity_id, i.native_key, i.external_id, i.external_table, i.label,
           i.parent_id, i.child_id, i.rel_type, CASE WHEN o.ours THEN 'published' ELSE 'subscribed' END, o.ours, now(), i.payload_hash, i.source_hash, i.source_version
      FROM @extschema@.integration_run_items AS i
     CROSS JOIN LATERAL (SELECT i.parent_id IS NOT NULL AND EXISTS (
               SELECT FROM @extschema@.integration_run_items AS e
                WHERE e.connection_id = i.connection_id AND e.entity_id = i.entity_id AND (e.in_doubt OR e.unheard) AND e.entity_type = i.entity_type
                  AND e.action = 'CREATE' AND e.state IN ('cancelled', 'dead')) AS ours) AS o
     WHERE i.run_id = run.id AND i.action = 'MATCH' AND i.state = 'planned'
    ON CONFLICT DO NOTHING;
    UPDATE @extschema@.integration_run_items AS i SET state = 'done', outcome = 'matched'
     WHERE i.run_id = run.id AND i.action = 'MATCH' AND i.state = 'planned';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.apply_matches(@extschema@.integration_runs) IS 'Puts matched records into the map as subscribed';

CREATE FUNCTION pgsync_itsm.missing_records(run @extschema@.integration_runs, OUT mapped bigint, OUT missing bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted text[] := pgsync_itsm.wanted_types(run.connection_id);
BEGIN
    SELECT count(*), count(*) FILTER (WHERE CASE WHEN m.parent_id IS NULL THEN p.entity_id IS NULL ELSE m.entity_type <> ALL (wanted) END)
      INTO mapped, missing
      FROM @extschema@.integration_sync_map AS m
      LEFT JOIN pgsync_itsm.plan_records AS p
        ON m.parent_id IS NULL AND p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id
     WHERE m.connection_id = run.connection_id AND m.state = 'linked' AND m.entity_type NOT IN ('company', 'contact');
    missing := missing + (SELECT count(*) FROM pgsync_itsm.plan_links AS l
                            JOIN @extschema@.integration_sync_map AS m
                              ON m.connection_id = run.connection_id AND m.entity_type = l.entity_type AND m.entity_id = l.entity_id AND m.state = 'linked'
                           WHERE l.run_id = run.id AND l.verdict IN ('GONE', 'DELETE')
                             -- what was deleted here, and retired or left there, keeps its relationships there
                             AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS e
                                              WHERE e.connection_id = m.connection_id AND e.entity_id IN (m.parent_id, m.child_id)
                                                AND e.deleted_at IS NOT NULL AND e.state IN ('retired', 'left')));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.missing_records(@extschema@.integration_runs) IS
'How many published records and relationships there are, and how many of them a plan in full did not find in the sources';

-- What somebody has had undone does not come back by itself, all at once; a publish that somebody asks for brings it back.
CREATE FUNCTION pgsync_itsm.rolled_back_since(connection_id uuid) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    RETURN (SELECT b.rolls_back FROM @extschema@.integration_runs AS b
             WHERE b.connection_id = connection_id AND b.kind = 'rollback' AND b.started_at IS NOT NULL
               AND b.started_at > coalesce((SELECT max(p.started_at) FROM @extschema@.integration_runs AS p
                                             WHERE p.connection_id = connection_id AND p.kind = 'publish' AND NOT p.partial AND (p.origin = 'call' OR p.confirm)), '-infinity')
             ORDER BY b.started_at DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.rolled_back_since(uuid) IS 'The run that was rolled back last, if nobody has asked for a publish in full since';

CREATE FUNCTION pgsync_itsm.approval_needed(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
    changes bigint;
    m record;
    share integer := pgsync_itsm.setting(run.connection_id, 'shrink_percent')::integer;
    ceiling text := pgsync_itsm.setting(run.connection_id, 'max_changes');
    undone bigint;
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run.id;
    changes := r.to_create + r.to_update + r.to_delete;
    IF changes = 0 OR r.confirm THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.first_publish_at IS NOT NULL) THEN
        RETURN format('first publish of this connection: %s to create, %s to update', r.to_create, r.to_update);
    END IF;
    IF r.origin <> 'call' AND NOT r.partial THEN
        undone := pgsync_itsm.rolled_back_since(r.connection_id);
        IF undone IS NOT NULL THEN
            RETURN format('run %s was rolled back: this would send again what was undone (%s to create, %s to update)', undone, r.to_create, r.to_update);
        END IF;
    END IF;
    IF NOT r.partial THEN
        m := pgsync_itsm.missing_records(r);
        IF m.mapped >= 10 AND m.missing * 100 > m.mapped * share THEN
            RETURN format('%s of %s published records are no longer in the sources', m.missing, m.mapped);
        END IF;
    END IF;
    m := pgsync_itsm.retired_share(r);
    IF m.mapped >= 10 AND m.retired * 100 > m.mapped * share THEN
        RETURN format('%s of %s published records were deleted here', m.retired, m.mapped);
    END IF;
    IF ceiling LIKE '%\%' AND changes * 100 > rtrim(ceiling, '%')::bigint * greatest(r.in_scope, 1)
       OR ceiling NOT LIKE '%\%' AND changes > ceiling::bigint THEN
        RETURN format('%s changes, more than max_changes (%s)', changes, ceiling);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.approval_needed(@extschema@.integration_runs) IS 'Why a planned run has to wait for a person; NULL if it may go on';

CREATE FUNCTION pgsync_itsm.summary_text(run_id bigint) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT concat_ws(', ', format('%s will update existing CIs', r.to_update), format('%s will be created', r.to_create - r.relations_to_create),
                             CASE r.held WHEN 1 THEN '1 needs a decision' ELSE format('%s need a decision', r.held) END,
                             CASE WHEN r.matched > 0 THEN format('%s are matched', r.matched) END,
                             CASE WHEN r.relations_to_create > 0 THEN format('%s relationships will be made', r.relations_to_create) END,
                             CASE WHEN r.to_delete > d.records THEN format('%s relationships will be removed', r.to_delete - d.records) END,
                             CASE WHEN d.records > 0 THEN CASE d.records WHEN 1 THEN '1 record will be deleted' ELSE format('%s records will be deleted', d.records) END END,
                             format('%s unchanged', r.unchanged),
                             CASE WHEN r.skipped > 0 THEN format('%s skipped', r.skipped) END,
                             CASE WHEN r.refused > 0 THEN format('%s cannot be sent', r.refused) END)
              FROM @extschema@.integration_runs AS r
             CROSS JOIN LATERAL (SELECT count(*) AS records FROM @extschema@.integration_run_items AS i
                                  WHERE r.to_delete > 0 AND i.run_id = r.id AND i.action = 'DELETE' AND i.parent_id IS NULL AND i.state IN ('planned', 'pending')) AS d
             WHERE r.id = summary_text.run_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.summary_text(bigint) IS 'What a plan would do, in words';

CREATE FUNCTION pgsync_itsm.clear_plan(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.plan_links AS p WHERE p.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.mirror_reads AS r WHERE r.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.match_names AS n WHERE n.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.match_pairs AS n WHERE n.run_id = clear_plan.run_id;
    DELETE FROM pgsync_itsm.merge_rows AS r WHERE r.run_id = clear_plan.run_id;
    PERFORM pgsync_itsm.intake_clear(clear_plan.run_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.clear_plan(bigint) IS 'Empties the work space of a plan';

-- What an earlier run sent and never heard of (it was cancelled, or its attempts were used up) is looked for by its key
-- before it is made, where nothing on the platform's side would keep it from being made twice; found there, it is ours.
CREATE FUNCTION pgsync_itsm.plan_doubts(run_id bigint, connection_id uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH doubts AS MATERIALIZED (
        SELECT d.entity_type, d.entity_id, bool_or(d.in_doubt) AS in_doubt FROM @extschema@.integration_run_items AS d
         WHERE d.connection_id = plan_doubts.connection_id AND (d.in_doubt OR d.unheard) AND d.run_id < plan_doubts.run_id AND d.action = 'CREATE'
           AND d.state IN ('cancelled', 'dead')
         GROUP BY d.entity_type, d.entity_id)
    UPDATE @extschema@.integration_run_items AS i SET in_doubt = n.in_doubt, unheard = true
      FROM (SELECT o.id, d.in_doubt FROM doubts AS d
             CROSS JOIN LATERAL (SELECT x.id FROM @extschema@.integration_run_items AS x
                                  WHERE x.run_id = plan_doubts.run_id AND x.entity_type = d.entity_type AND x.entity_id = d.entity_id
                                    AND x.action = 'CREATE' OFFSET 0) AS o) AS n
     WHERE i.id = n.id;
END;
COMMENT ON FUNCTION pgsync_itsm.plan_doubts(bigint, uuid) IS 'Marks the creations of a plan that an earlier run may have brought through';

CREATE FUNCTION pgsync_itsm.plan_finish(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    why text;
    goes_on boolean;
    items bigint;
BEGIN
    PERFORM pgsync_itsm.plan_reassert(run);
    PERFORM pgsync_itsm.plan_guard(run);
    PERFORM pgsync_itsm.plan_reasserted(run);
    PERFORM pgsync_itsm.plan_unlink(run);
    PERFORM pgsync_itsm.plan_retire_rows(run);
    PERFORM pgsync_itsm.plan_counts(run);
    why := pgsync_itsm.approval_needed(run);
    goes_on := run.kind <> 'preview' AND why IS NULL;
    -- What may go on is made ready to be sent at once: another update of every item would cost as much again.
    PERFORM pgsync_itsm.plan_item_rows(run, CASE WHEN goes_on THEN 'pending' ELSE 'planned' END);
    IF EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.id = run.id AND r.to_update > 0) THEN
        PERFORM pgsync_itsm.plan_clear_rows(run, CASE WHEN goes_on THEN 'pending' ELSE 'planned' END);
    END IF;
    PERFORM pgsync_itsm.plan_doubts(run.id, run.connection_id);
    PERFORM pgsync_itsm.plan_steps(run);
    UPDATE @extschema@.integration_runs AS r
       SET status = CASE WHEN r.kind = 'preview' THEN 'planned' WHEN why IS NOT NULL THEN 'needs_approval' ELSE 'running' END,
           phase = 'apply', approval_reason = why, planned_at = now(),
           summary = concat_ws('; ', pgsync_itsm.summary_text(r.id), nullif(pgsync_itsm.scope_words(run), ''))
     WHERE r.id = run.id
    RETURNING r.to_create + r.to_update INTO items;
    IF NOT run.partial AND items > 0 THEN
        ANALYZE @extschema@.integration_run_items (run_id, ord, entity_type, entity_id, action, state, in_doubt);
    END IF;
    IF goes_on THEN
        PERFORM pgsync_itsm.release_rest(run);
    END IF;
    PERFORM pgsync_itsm.clear_plan(run.id);
    IF NOT goes_on THEN
        PERFORM pgsync_itsm.plan_expect(run);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_finish(@extschema@.integration_runs) IS 'Ends a plan: items, steps, counts, guards';

CREATE FUNCTION pgsync_itsm.scope_words(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    profiles bigint := 0;
    offerings bigint := 0;
BEGIN
    IF NOT run.partial AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p
                                        WHERE p.run_id = run.id AND p.entity_type = 'deployment_profile' AND p.attrs ->> 'scope' <> 'none'
                                          AND p.attrs ->> 'dp_type' IS DISTINCT FROM 'cost_bundle') THEN
        SELECT count(*) INTO profiles FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.entity_type = 'deployment_profile' AND p.attrs ->> 'dp_type' IS DISTINCT FROM 'cost_bundle';
    END IF;
    IF EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.id = run.id AND r.to_create > 0) THEN
        SELECT count(*) INTO offerings FROM pgsync_itsm.plan_records AS p
         WHERE p.run_id = run.id AND p.class = 'service_offering' AND p.verdict = 'CREATE';
    END IF;
    RETURN concat_ws('; ', CASE WHEN profiles > 0
                    THEN format('0 of %s profiles in scope: SELECT itsm_set_scope(%L, ''application_service'');', profiles, run.namespace_id)
                    WHEN pgsync_itsm.setting(run.connection_id, 'runs_on_as') = 'relation'
                    THEN 'runs_on_as = relation makes relationship rows that point at models, which are not CIs: dependency views there may break'
               END,
               CASE WHEN offerings > 0 AND pgsync_itsm.setting(run.connection_id, 'offering_parent') = 'off'
                    THEN format('%s offerings will have no parent service there (offering_parent = off)', offerings) END);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.scope_words(@extschema@.integration_runs) IS 'Says so when no profile is in scope, and which call changes it';

-- A pair may have been accepted, or taken back, since the plan compared with the map: nothing is made a second time, nor written to what is another.
CREATE FUNCTION pgsync_itsm.refuse_accepted(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- whoever has a decision open is waited for only where it may be about one of these
    IF NOT EXISTS (SELECT FROM @extschema@.integration_matches AS d
                     JOIN @extschema@.integration_run_items AS i ON i.run_id = run.id AND i.entity_id = d.entity_id AND i.entity_type = d.entity_type
                    WHERE d.connection_id = run.connection_id AND d.external_id IS NOT NULL AND i.state IN ('planned', 'pending')) THEN
        RETURN;
    END IF;
    PERFORM pgsync_itsm.match_lock_soon(run.connection_id);
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', reason = CASE i.action WHEN 'CREATE' THEN 'matched since the plan' ELSE 'no match any more since the plan' END, updated_at = now()
     WHERE i.run_id = run.id AND i.state IN ('planned', 'pending') AND i.parent_id IS NULL
       AND CASE i.action
           WHEN 'CREATE' THEN EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                                       WHERE m.connection_id = run.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id)
           ELSE pgsync_itsm.match_rejected(run.connection_id, i.entity_type, i.entity_id, i.external_id)
                AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                                 WHERE m.connection_id = run.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id) END;
    IF FOUND THEN
        PERFORM pgsync_itsm.settle_steps(run.id);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.refuse_accepted(@extschema@.integration_runs) IS 'Refuses items that would make what somebody has said is there, or write to what somebody has said is another';

CREATE FUNCTION pgsync_itsm.begin_run(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_runs AS x SET status = 'running', phase = 'apply', started_at = coalesce(x.started_at, now())
     WHERE x.id = begin_run.run_id;
    -- A pilot is not the first publish: what it leaves out still has to be shown to a person once.
    UPDATE @extschema@.integration_connections AS c SET first_publish_at = now()
      FROM @extschema@.integration_runs AS r
     WHERE r.id = begin_run.run_id AND c.id = r.connection_id AND c.first_publish_at IS NULL AND r.applications IS NULL AND r.kind <> 'rollback';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.begin_run(bigint) IS 'A run whose plan is made, and may go on, is running';

CREATE FUNCTION pgsync_itsm.release_rest(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id)
       AND (EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict = 'MATCH')
            OR EXISTS (SELECT FROM pgsync_itsm.plan_links AS p WHERE p.run_id = run.id AND p.verdict = 'MATCH')) THEN
        PERFORM pgsync_itsm.apply_matches(run);
    END IF;
    IF run.partial OR EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = run.connection_id AND m.deleted_at IS NOT NULL) THEN
        UPDATE @extschema@.integration_run_items AS i SET state = 'pending' WHERE i.run_id = run.id AND i.state = 'planned';
    END IF;
    PERFORM pgsync_itsm.refuse_accepted(run);
    PERFORM pgsync_itsm.begin_run(run.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.release_rest(@extschema@.integration_runs) IS
'Lets the worker send what was just planned: items that were made without knowing whether the run goes on are few';

CREATE FUNCTION pgsync_itsm.release_items(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run_id;
    PERFORM pgsync_itsm.refuse_accepted(r);
    PERFORM pgsync_itsm.apply_matches(r);
    UPDATE @extschema@.integration_run_items AS i SET state = 'pending', updated_at = now()
     WHERE i.run_id = r.id AND i.state = 'planned';
    -- of a run that goes on: what needs an item that is dead
    PERFORM pgsync_itsm.settle_blocked(r.id);
    PERFORM pgsync_itsm.settle_steps(r.id);
    PERFORM pgsync_itsm.begin_run(r.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.release_items(bigint) IS 'Lets the worker send what a run planned and kept';

-- The phases ----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.plan_open_lookups(run_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = plan_open_lookups.run_id AND l.state IN ('pending', 'sent'));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_open_lookups(bigint) IS 'Has the platform questions of this run left to answer';

CREATE FUNCTION pgsync_itsm.plan_next_phase(wanted text[], phase text, prefix text, after_all text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    types text[] := ARRAY(SELECT w.entity_type FROM unnest(wanted) WITH ORDINALITY AS w(entity_type, n)
                           WHERE prefix = 'read ' OR NOT pgsync_itsm.is_relationship(w.entity_type) ORDER BY w.n);
BEGIN
    RETURN coalesce(prefix || types[coalesce(array_position(types, substr(phase, length(prefix) + 1)), 0) + 1], after_all);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_next_phase(text[], text, text, text) IS 'Phases that go through the entity types one by one';

CREATE FUNCTION pgsync_itsm.plan_is_small(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN run.partial
           AND (run.phase NOT LIKE 'recheck%'
                OR (SELECT count(*) <= 100 FROM (SELECT FROM @extschema@.integration_run_items AS i
                                                  WHERE i.run_id = run.id AND i.state = 'planned' LIMIT 101) AS n))
           AND (SELECT count(*) <= 100 AND coalesce(bool_and(k.key <> '*'), true)
                  FROM (SELECT x.key FROM pgsync_itsm.run_keys AS x WHERE x.run_id = run.id LIMIT 1000) AS k);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_is_small(@extschema@.integration_runs) IS 'Is a plan about a few keys only; the key * is all of them';

CREATE FUNCTION pgsync_itsm.plan_analyze(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    read boolean := run.phase IN ('queued', 'ask');
BEGIN
    IF pgsync_itsm.plan_is_small(run) THEN
        RETURN;
    END IF;
    IF read THEN
        ANALYZE pgsync_itsm.plan_links (run_id, entity_type, entity_id, parent_type, parent_id, child_type, child_id, rel_type, verdict);
    ELSIF EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id) THEN
        ANALYZE pgsync_itsm.lookups (run_id, kind, target, state);
        ANALYZE pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id);
    END IF;
    -- Later it is verdicts that are new; where there are few, statistics do not matter.
    IF read OR (SELECT count(*) = 1000 FROM (SELECT FROM pgsync_itsm.plan_records AS p
                                              WHERE p.run_id = run.id AND p.verdict IN ('CREATE', 'UPDATE', 'ERROR') LIMIT 1000) AS n) THEN
        ANALYZE pgsync_itsm.plan_records (run_id, entity_type, entity_id, class, verdict, external_id);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_analyze(@extschema@.integration_runs) IS
'Statistics of the work space of a large plan: what it joins is as large as the portfolio, or nothing';

CREATE FUNCTION pgsync_itsm.plan_phase(run @extschema@.integration_runs, wanted text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ph text := run.phase;
BEGIN
    CASE
        WHEN ph = 'queued' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            RETURN pgsync_itsm.plan_next_phase(wanted, ph, 'read ', 'ask');
        WHEN ph LIKE 'read %' THEN
            PERFORM pgsync_itsm.plan_read(run, substr(ph, 6));
            RETURN pgsync_itsm.plan_next_phase(wanted, ph, 'read ', 'ask');
        WHEN ph = 'ask' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.plan_believe(run);
            PERFORM pgsync_itsm.plan_rules(run);
            PERFORM pgsync_itsm.plan_ask(run);
            RETURN 'answers';
        WHEN ph = 'answers' THEN
            PERFORM pgsync_itsm.store_references(run);
            PERFORM pgsync_itsm.plan_believe(run);
            RETURN pgsync_itsm.plan_next_phase(wanted, ph, 'resolve ', 'compare');
        WHEN ph LIKE 'resolve %' THEN
            PERFORM pgsync_itsm.plan_resolve(run, substr(ph, 9));
            RETURN pgsync_itsm.plan_next_phase(wanted, ph, 'resolve ', 'compare');
        WHEN ph = 'compare' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.plan_compare(run);
            PERFORM pgsync_itsm.plan_ask_records(run);
            -- A pilot is not worth reading all that is there.
            IF NOT run.partial AND pgsync_itsm.wants_dry_run(run) THEN
                PERFORM pgsync_itsm.mirror_ask(run, ARRAY(SELECT DISTINCT p.entity_type FROM pgsync_itsm.plan_records AS p
                                                           WHERE p.run_id = run.id AND p.verdict = 'CREATE' AND p.entity_type <> 'company'));
                RETURN 'pages';
            END IF;
            RETURN 'decide';
        WHEN ph = 'pages' THEN
            RETURN CASE WHEN pgsync_itsm.mirror_take(run) THEN 'pages' ELSE 'decide' END;
        WHEN ph = 'decide' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.plan_decide(run);
            IF NOT run.partial AND pgsync_itsm.wants_dry_run(run) THEN
                PERFORM pgsync_itsm.match_propose(run, false);
            END IF;
            PERFORM pgsync_itsm.match_holds(run);
            PERFORM pgsync_itsm.conflict_holds(run);
            IF pgsync_itsm.wants_dry_run(run) THEN
                PERFORM pgsync_itsm.plan_ask_dry_run(run);
                PERFORM pgsync_itsm.plan_ask_old(run);
                RETURN 'dry run';
            END IF;
            PERFORM pgsync_itsm.plan_ask_deleted(run);
            PERFORM pgsync_itsm.plan_ask_old(run);
            RETURN 'items';
        WHEN ph = 'dry run' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            -- What is gone there is that, whatever the engine makes of it.
            PERFORM pgsync_itsm.plan_gone(run);
            PERFORM pgsync_itsm.plan_dry_run(run);
            PERFORM pgsync_itsm.plan_ask_deleted(run);
            PERFORM pgsync_itsm.plan_ask_old(run);
            RETURN 'items';
        WHEN ph = 'items' THEN
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.plan_gone(run);
            PERFORM pgsync_itsm.plan_relations(run);
            PERFORM pgsync_itsm.plan_finish(run);
            RETURN NULL;
        WHEN ph LIKE 'recheck%' THEN
            RETURN pgsync_itsm.recheck_phase(run);
        ELSE
            RAISE EXCEPTION 'run % has the unknown phase "%"', run.id, ph;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_phase(@extschema@.integration_runs, text[]) IS 'Does one phase of a plan and returns the next; NULL at the end';

-- A partial plan is small: nothing between two questions to the platform is worth a transaction of its own.
CREATE FUNCTION pgsync_itsm.plan_part(run @extschema@.integration_runs, wanted text[]) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    CASE run.phase
        WHEN 'queued' THEN
            PERFORM pgsync_itsm.clear_plan(run.id);
            PERFORM pgsync_itsm.plan_closure(run, wanted);
            FOREACH t IN ARRAY wanted LOOP
                IF NOT pgsync_itsm.is_relationship(t) THEN
                    PERFORM pgsync_itsm.plan_read(run, t);
                END IF;
            END LOOP;
            PERFORM pgsync_itsm.plan_analyze(run);
            PERFORM pgsync_itsm.plan_rules(run);
            PERFORM pgsync_itsm.plan_ask(run);
            RETURN 'answers';
        WHEN 'answers' THEN
            PERFORM pgsync_itsm.store_references(run);
            PERFORM pgsync_itsm.plan_companies(run, wanted);
            FOREACH t IN ARRAY wanted LOOP
                IF NOT pgsync_itsm.is_relationship(t) THEN
                    PERFORM pgsync_itsm.plan_resolve(run, t);
                END IF;
            END LOOP;
            RETURN 'compare';
        ELSE
            RETURN pgsync_itsm.plan_phase(run, wanted);
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_part(@extschema@.integration_runs, text[]) IS 'Does one phase of a partial plan, which has fewer, and returns the next; NULL at the end';

-- One transaction a phase, so that a large plan holds nothing for long; what it may use of memory is bounded.
CREATE FUNCTION pgsync_itsm.plan_phases(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted text[] := pgsync_itsm.wanted_types(run.connection_id);
BEGIN
    -- What starts by itself asks nobody else; what was published can be undone all the same.
    IF run.phase = 'queued' AND run.kind <> 'rollback' THEN
        PERFORM pgsync_itsm.check_entitled_granted(run.namespace_id, (SELECT c.platform FROM @extschema@.integration_connections AS c WHERE c.id = run.connection_id), NULL);
    END IF;
    IF run.phase = 'queued' AND run.kind IN ('publish', 'preview') THEN
        PERFORM pgsync_itsm.check_halo_ready(run.connection_id);
    END IF;
    -- Planning the statements for one record would take several times as long as running them; for many it pays.
    IF run.phase NOT LIKE 'recheck%' AND pgsync_itsm.plan_is_small(run) THEN
        -- One that was made while a work table was empty is made anew when a large plan has filled and analyzed it.
        PERFORM set_config('plan_cache_mode', 'force_generic_plan', true);
    ELSE
        PERFORM set_config('plan_cache_mode', 'force_custom_plan', true),
                set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), 64 * 1024 * 1024) / 1024 || 'kB', true);
    END IF;
    IF NOT run.partial OR run.phase LIKE 'recheck%' THEN
        -- Sorting texts for a join costs more than hashing them; where user SQL runs, the choice is the server's.
        IF run.phase NOT LIKE 'read %' AND run.phase NOT LIKE 'recheck%' THEN
            PERFORM set_config('enable_mergejoin', 'off', true);
        END IF;
        IF run.kind = 'match' THEN
            RETURN pgsync_itsm.match_phase(run, wanted);
        ELSIF run.kind = 'rollback' THEN
            RETURN pgsync_itsm.rollback_phase(run);
        ELSIF run.kind = 'subscribe' THEN
            RETURN pgsync_itsm.read_phase(run);
        END IF;
        RETURN pgsync_itsm.plan_phase(run, wanted);
    END IF;
    LOOP
        run.phase := pgsync_itsm.plan_part(run, wanted);
        -- What comes after reading may end the plan, which writes to the connection.
        EXIT WHEN run.phase IS NULL OR pgsync_itsm.plan_open_lookups(run.id) OR NOT pgsync_itsm.is_free(run.connection_id);
    END LOOP;
    RETURN run.phase;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_phases(@extschema@.integration_runs) IS
'Does the next phase of a plan, of a partial one all until the platform has to answer; returns the phase that is next, NULL at the end';

-- Where somebody holds the connection's row, the run ends when that is free again: what failed is not done a second time.
CREATE FUNCTION pgsync_itsm.fail_plan(run @extschema@.integration_runs, sqlstate text, message text, hint text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pgsync_itsm.is_free(run.connection_id) THEN
        PERFORM pgsync_itsm.fail_run(run.id, sqlstate, message, hint);
        RETURN 'done';
    END IF;
    UPDATE @extschema@.integration_runs AS r
       SET phase = 'failed', error_code = sqlstate, error_message = left(message, 2000), error_hint = hint
     WHERE r.id = run.id;
    RETURN 'busy';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.fail_plan(@extschema@.integration_runs, text, text, text) IS 'Ends a plan that cannot go on, now or as soon as nobody holds its connection''s row';

-- Found out here and not when a worker begins: that would have to wait for whoever holds the run's row.
CREATE FUNCTION pgsync_itsm.phase_to_do(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first CONSTANT text := CASE WHEN run.phase LIKE 'recheck%' THEN 'recheck' WHEN run.phase = 'decided' THEN 'decided'
                                -- what was applied here stays applied, and the rest is compared once more, or is as it was decided
                                WHEN run.phase IN ('ours', 'ours answers', 'merge', 'apply', 'after', 'end')
                                THEN CASE WHEN run.purpose = 'decision' THEN 'decided' ELSE 'ours' END ELSE 'queued' END;
BEGIN
    IF run.phase <> first AND EXISTS (SELECT FROM pgsync_itsm.plan_spaces AS s WHERE s.run_id = run.id) THEN
        RETURN run.phase;
    END IF;
    INSERT INTO pgsync_itsm.plan_spaces (run_id) VALUES (run.id) ON CONFLICT DO NOTHING;
    IF run.phase <> first AND first = 'queued' THEN
        DELETE FROM @extschema@.integration_run_items AS i WHERE i.run_id = run.id;
    END IF;
    RETURN first;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.phase_to_do(@extschema@.integration_runs) IS 'The phase of a plan that is next: the first one again if a crash has emptied the work space';

CREATE FUNCTION pgsync_itsm.plan_step(run_id bigint, hasty boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
    next_phase text;
    failed record;
    code text;
    words text;
    more text;
BEGIN
    -- Another planner may be at it, or its user has just cancelled it and not committed yet: nobody waits for that.
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = plan_step.run_id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND AND EXISTS (SELECT FROM @extschema@.integration_runs AS x WHERE x.id = plan_step.run_id) THEN
        RETURN 'busy';
    END IF;
    IF r.id IS NULL OR r.status <> 'planning' THEN
        RETURN 'done';
    END IF;
    -- What ends a plan writes to the connection.  While user SQL reads or writes, for as long as that takes, its row is for others.
    IF (r.cancel_requested OR r.phase <> ALL ('{queued,recheck,ours,apply,decided}') AND r.phase NOT LIKE 'read %') AND NOT pgsync_itsm.is_free(r.connection_id) THEN
        RETURN 'busy';
    END IF;
    IF r.cancel_requested THEN
        PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
        RETURN 'done';
    END IF;
    IF r.phase = 'failed' THEN
        RETURN pgsync_itsm.fail_plan(r, r.error_code, r.error_message, r.error_hint);
    END IF;
    IF pgsync_itsm.plan_open_lookups(r.id) THEN
        RETURN 'wait';
    END IF;
    -- A run is the rows of those who see its namespace: a plan for another's connection would be theirs to read.
    IF NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.namespace_id = r.namespace_id) THEN
        UPDATE @extschema@.integration_runs AS x
           SET status = 'failed', phase = 'finished', finished_at = now(), error_code = '42704', error_message = format('connection %s does not exist', r.connection_id)
         WHERE x.id = r.id;
        PERFORM pgsync_itsm.clear_plan(r.id);
        RETURN 'done';
    END IF;
    SELECT l.* INTO failed FROM pgsync_itsm.lookups AS l WHERE l.run_id = r.id AND l.state = 'failed' LIMIT 1;
    IF FOUND THEN
        RETURN pgsync_itsm.fail_plan(r, failed.error_class, format('the platform did not answer a look-up (%s %s): %s', failed.kind, failed.target, failed.error_message),
                                     'SELECT * FROM itsm_test_connection(''' || r.connection_id || ''');');
    END IF;
    r.phase := pgsync_itsm.phase_to_do(r);
    BEGIN
        next_phase := pgsync_itsm.plan_phases(r);
    EXCEPTION WHEN query_canceled OR others THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, more = PG_EXCEPTION_HINT;
        -- Whoever planned has no more time for it, and another process will begin the phase again.
        IF code = '57014' AND (hasty OR pgsync_itsm.planner_yields(r.id)) THEN
            RAISE;
        END IF;
        -- Interrupted before plan_timeout could have run out: somebody asked for it.
        IF code = '57014' AND clock_timestamp() - statement_timestamp() < current_setting('pgsync_itsm.plan_timeout')::interval THEN
            IF NOT pgsync_itsm.is_free(r.connection_id) THEN
                RETURN 'busy';
            END IF;
            PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
            RETURN 'done';
        END IF;
        RETURN pgsync_itsm.fail_plan(r, code, format('phase "%s": %s', r.phase, words), more);
    END;
    IF next_phase IS NULL THEN
        DELETE FROM pgsync_itsm.plan_spaces AS s WHERE s.run_id = r.id;
        RETURN 'done';
    END IF;
    UPDATE @extschema@.integration_runs AS x SET phase = next_phase WHERE x.id = r.id;
    RETURN CASE WHEN pgsync_itsm.plan_open_lookups(r.id) THEN 'wait' ELSE 'more' END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_step(bigint, boolean) IS
'Does the next part of a plan: more (call again, in a new transaction), wait (the platform has to answer first), busy (another process has it, or somebody holds its row or its connection''s), done. hasty: a step that is cancelled throws, and changes nothing. An error of user SQL fails the run';
