-- Planning, last part: verdicts become items, items make steps and counts, and the guards decide whether
-- the run may go on by itself.

-- "Only if empty" fields, foreign correlation ids: what the platform has now decides whether a field travels.
CREATE FUNCTION pgsync_itsm.guarded_payload(run @extschema@.integration_runs, p pgsync_itsm.plan_records, OUT payload json, OUT old_values json, OUT warnings jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    agreed json;
BEGIN
    payload := p.payload;
    warnings := p.warnings;
    IF p.verdict <> 'UPDATE' OR p.parent_type IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT x.attrs INTO old_values FROM pgsync_itsm.lookup_rows AS x
     WHERE x.run_id = run.id AND x.kind = 'record' AND x.key = p.external_id LIMIT 1;
    SELECT m.last_agreed INTO agreed FROM @extschema@.integration_sync_map AS m
     WHERE m.connection_id = run.connection_id AND m.entity_type = p.entity_type AND m.entity_id = p.entity_id;
    SELECT json_object_agg(v.field, v.value ORDER BY v.ord) FILTER (WHERE NOT k.theirs),
           nullif(coalesce(p.warnings, '[]') || coalesce(jsonb_agg(format('%s: kept as it is there', v.field)) FILTER (WHERE k.theirs), '[]'), '[]')
      INTO payload, warnings
      FROM json_each_text(p.payload) WITH ORDINALITY AS v(field, value, ord)
      LEFT JOIN pgsync_itsm.mapped_fields(run.connection_id, p.entity_type) AS f
        ON f.target_field = v.field AND f.target_class IN ('*', p.class)
     CROSS JOIN LATERAL (SELECT coalesce(
               (f.authority = 'theirs' OR f.authority = 'if_empty' OR v.field = 'correlation_id')
               AND coalesce(old_values ->> v.field, '') NOT IN ('', v.value, coalesce(agreed ->> v.field, '')), false)) AS k(theirs);
END
$$;
CREATE FUNCTION pgsync_itsm.plan_item_rows(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         payload, payload_hash, source_hash, external_id, external_table, parent_type, parent_id, child_type, child_id,
         rel_type, rel_type_id, reason, warnings)
    SELECT (run).id, (run).connection_id, (run).namespace_id, s.ord, s.step, p.entity_type, p.entity_id, p.native_key,
           left(coalesce(p.payload ->> 'name', p.payload ->> 'vendor_contract', p.name,
                         coalesce(a.name, p.parent_key) || ' > ' || coalesce(b.name, p.child_key), p.native_key), 300), p.verdict,
           CASE WHEN p.verdict IN ('CREATE', 'UPDATE') THEN 'planned' WHEN p.verdict = 'MISMATCH' THEN 'held'
                WHEN p.verdict = 'MATCH' THEN 'planned' WHEN p.verdict = 'ERROR' THEN 'dead' ELSE 'skipped' END,
           CASE WHEN p.parent_type IS NULL THEN p.payload END,
           CASE WHEN p.parent_type IS NULL THEN p.payload_hash END, p.source_hash,
           p.external_id, coalesce(p.external_table, p.class), p.parent_type, p.parent_id, p.child_type, p.child_id,
           p.rel_type, r.external_id, p.reason, p.warnings
      FROM pgsync_itsm.plan_records AS p
      LEFT JOIN @extschema@.integration_references AS r
        ON r.connection_id = (run).connection_id AND r.kind = 'relation_type' AND r.target = '' AND r.key = lower(p.rel_type)
      LEFT JOIN pgsync_itsm.plan_records AS a ON a.run_id = p.run_id AND a.entity_type = p.parent_type AND a.entity_id = p.parent_id
      LEFT JOIN pgsync_itsm.plan_records AS b ON b.run_id = p.run_id AND b.entity_type = p.child_type AND b.entity_id = p.child_id
      JOIN (SELECT k.entity_type, k.class, f.* FROM (SELECT DISTINCT q.entity_type, q.class FROM pgsync_itsm.plan_records AS q WHERE q.run_id = (run).id) AS k
             CROSS JOIN LATERAL pgsync_itsm.step_of(k.entity_type, k.class) AS f) AS s
        ON s.entity_type = p.entity_type AND s.class IS NOT DISTINCT FROM p.class
     WHERE p.run_id = (run).id AND p.verdict IN ('CREATE', 'UPDATE', 'MATCH', 'MISMATCH', 'SKIP', 'ERROR')
     ORDER BY s.ord, p.parent_id NULLS FIRST, p.entity_id;
    UPDATE @extschema@.integration_run_items AS i
       SET payload = g.payload, old_values = g.old_values, warnings = g.warnings
      FROM pgsync_itsm.plan_records AS p
     CROSS JOIN LATERAL pgsync_itsm.guarded_payload(run, p) AS g
     WHERE i.run_id = (run).id AND i.action = 'UPDATE'
       AND p.run_id = i.run_id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id AND p.verdict = 'UPDATE';
END;

COMMENT ON FUNCTION pgsync_itsm.plan_item_rows(@extschema@.integration_runs) IS 'One item a record that is not unchanged';
COMMENT ON FUNCTION pgsync_itsm.guarded_payload(@extschema@.integration_runs, pgsync_itsm.plan_records) IS
'The payload of an update without the fields that belong to the platform, with the values it has now';

CREATE FUNCTION pgsync_itsm.plan_clear_rows(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         payload, old_values, source_hash, external_id, external_table)
    SELECT i.run_id, i.connection_id, i.namespace_id, i.ord, i.step, i.entity_type, i.entity_id, i.native_key, i.label, 'CLEAR', 'planned',
           c.payload, i.old_values, i.source_hash, i.external_id, i.external_table
      FROM @extschema@.integration_run_items AS i
      JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
     CROSS JOIN LATERAL (
           SELECT json_object_agg(a.field, '' ORDER BY a.field) AS payload
             FROM json_each_text(m.last_agreed) AS a(field, value)
            WHERE coalesce(a.value, '') <> '' AND a.field NOT LIKE '\_%' AND i.payload ->> a.field IS NULL
              AND a.field NOT IN ('name', 'correlation_id', 'vendor_contract', 'it_application_owner', 'contract_model')
              AND a.value = coalesce(i.old_values ->> a.field, a.value)
              -- What is left out because it does not resolve there is not empty here.
              AND NOT EXISTS (SELECT FROM jsonb_array_elements_text(coalesce(i.warnings, '[]')) AS w(words)
                               WHERE starts_with(w.words, a.field || ':') OR starts_with(w.words, 'column ' || a.field || ' '))
           HAVING count(*) > 0) AS c
     WHERE i.run_id = (run).id AND i.action = 'UPDATE' AND m.created_by_us;
END;
COMMENT ON FUNCTION pgsync_itsm.plan_clear_rows(@extschema@.integration_runs) IS
'Values that we wrote, are empty here now and unchanged there are cleared, by an item of their own: a bulk payload cannot clear reliably';

-- A removed link removes the row that we made, where both its ends are still published; no other.
CREATE FUNCTION pgsync_itsm.plan_unlink_rows(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         external_id, external_table, parent_type, parent_id, child_type, child_id, rel_type, reason)
    SELECT run.id, run.connection_id, run.namespace_id, t.ord, t.step, m.entity_type, m.entity_id, m.native_key,
           m.native_key, 'DELETE', 'planned', m.external_id, coalesce(m.external_table, 'cmdb_rel_ci'),
           t.parent_type, m.parent_id, t.child_type, m.child_id, m.rel_type, 'the link is gone here'
      FROM @extschema@.integration_sync_map AS m
      JOIN pgsync_itsm.plan_types() AS t ON t.entity_type = m.entity_type AND t.is_relation
     WHERE m.connection_id = run.connection_id AND m.created_by_us
       AND m.entity_type IN (SELECT pgsync_itsm.wanted_types(run.connection_id))
       AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id)
       AND EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_id = m.parent_id AND p.parent_type IS NULL
                      AND p.verdict IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MATCH'))
       AND EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_id = m.child_id AND p.parent_type IS NULL
                      AND p.verdict IN ('CREATE', 'UPDATE', 'UNCHANGED', 'MATCH'))
       AND (NOT run.partial
            OR EXISTS (SELECT FROM pgsync_itsm.run_keys AS k
                        WHERE k.run_id = run.id AND k.entity_type = m.entity_type AND k.match_by = 'parent'
                          AND pgsync_itsm.entity_id(t.parent_type, k.key) IN (m.parent_id, m.child_id)));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_unlink_rows(@extschema@.integration_runs) IS 'Relationship rows of ours whose link is gone';

-- A DELETE change whose record a read does not find any more retires what we published.
CREATE FUNCTION pgsync_itsm.plan_retire_rows(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT run.partial OR pgsync_itsm.setting(run.connection_id, 'retire_by') <> 'life_cycle' THEN
        RETURN;
    END IF;
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         payload, payload_hash, external_id, external_table, reason)
    SELECT run.id, run.connection_id, run.namespace_id, s.ord, s.step, m.entity_type, m.entity_id, m.native_key,
           m.published_name, 'UPDATE', 'planned', v.payload, 'retired', m.external_id, m.external_table, 'deleted here: retired there'
      FROM pgsync_itsm.run_keys AS k
      JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = run.connection_id AND m.entity_type = k.entity_type
       AND m.entity_id = pgsync_itsm.entity_id(k.entity_type, k.key) AND m.created_by_us AND m.state = 'linked'
     CROSS JOIN LATERAL pgsync_itsm.step_of(m.entity_type, m.external_table) AS s
     CROSS JOIN LATERAL (SELECT json_object_agg(c.field, c.value ORDER BY c.field) AS payload
            FROM (SELECT split_part(r.key, '/', 1) AS field, r.external_id AS value
                    FROM @extschema@.integration_references AS r
                   WHERE r.connection_id = run.connection_id AND r.kind = 'choice' AND r.target = m.external_table
                     AND split_part(r.key, '/', 1) IN ('operational_status', 'install_status') AND lower(r.label) = 'retired'
                  UNION ALL SELECT 'name', m.published_name) AS c) AS v
     WHERE run.id = k.run_id AND k.deleted AND k.match_by = 'key'
       AND m.entity_type IN ('application', 'deployment_profile', 'it_service')
       AND v.payload ->> 'operational_status' IS NOT NULL
       AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id)
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_retire_rows(@extschema@.integration_runs) IS 'Confirmed deletions retire; absence alone never does';

CREATE FUNCTION pgsync_itsm.plan_steps(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_run_steps AS s (run_id, namespace_id, step, ord, title, total)
    SELECT (run).id, (run).namespace_id, k.step, k.ord, min(t.title), sum(k.n)
      FROM (SELECT i.step, i.ord, i.entity_type, min(i.external_table) AS class, count(*) AS n
              FROM @extschema@.integration_run_items AS i
             WHERE i.run_id = (run).id AND i.state = 'planned' AND i.action <> 'MATCH'
             GROUP BY i.step, i.ord, i.entity_type) AS k
     CROSS JOIN LATERAL pgsync_itsm.step_of(k.entity_type, k.class) AS t
     GROUP BY k.step, k.ord
    ON CONFLICT (run_id, step) DO UPDATE SET total = excluded.total;
    UPDATE @extschema@.integration_runs AS r
       SET to_create = c.creates, to_update = c.updates, to_delete = c.deletes, held = c.held, skipped = c.skipped,
           refused = c.errors, in_scope = p.in_scope, unchanged = p.unchanged
      FROM (SELECT count(*) FILTER (WHERE i.action = 'CREATE' AND i.state = 'planned') AS creates,
                   count(*) FILTER (WHERE i.action = 'UPDATE' AND i.state = 'planned') AS updates,
                   count(*) FILTER (WHERE i.action = 'DELETE' AND i.state = 'planned') AS deletes,
                   count(*) FILTER (WHERE i.state = 'held') AS held,
                   count(*) FILTER (WHERE i.state = 'skipped') AS skipped,
                   count(*) FILTER (WHERE i.action = 'ERROR') AS errors
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = (run).id) AS c,
           (SELECT count(*) FILTER (WHERE q.parent_type IS NULL AND q.verdict IS DISTINCT FROM 'SKIP' AND q.verdict IS DISTINCT FROM 'DROP') AS in_scope,
                   count(*) FILTER (WHERE q.verdict = 'UNCHANGED') AS unchanged
              FROM pgsync_itsm.plan_records AS q WHERE q.run_id = (run).id) AS p
     WHERE r.id = (run).id;
END;
COMMENT ON FUNCTION pgsync_itsm.plan_steps(@extschema@.integration_runs) IS 'Steps and counts of a plan';

-- Matched records enter the map without a call.
CREATE FUNCTION pgsync_itsm.apply_matches(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO @extschema@.integration_sync_map
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name,
         parent_id, child_id, rel_type, sync_direction, created_by_us, last_synced_at, last_sent_hash)
    SELECT i.connection_id, i.namespace_id, i.entity_type, i.entity_id, i.native_key, i.external_id, i.external_table, i.label,
           i.parent_id, i.child_id, i.rel_type, 'subscribed', false, now(), i.payload_hash
      FROM @extschema@.integration_run_items AS i
     WHERE i.run_id = (run).id AND i.action = 'MATCH' AND i.state = 'planned'
    ON CONFLICT DO NOTHING;
    UPDATE @extschema@.integration_run_items AS i SET state = 'done', outcome = 'matched'
     WHERE i.run_id = (run).id AND i.action = 'MATCH' AND i.state = 'planned';
END;
COMMENT ON FUNCTION pgsync_itsm.apply_matches(@extschema@.integration_runs) IS 'Puts matched records into the map as subscribed';

CREATE FUNCTION pgsync_itsm.approval_needed(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
    changes bigint;
    mapped bigint;
    seen bigint;
    share integer := pgsync_itsm.setting(run.connection_id, 'shrink_percent')::integer;
    ceiling text := pgsync_itsm.setting(run.connection_id, 'max_changes');
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run.id;
    changes := r.to_create + r.to_update + r.to_delete;
    IF changes = 0 OR r.confirm THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.first_publish_at IS NOT NULL) THEN
        RETURN format('first publish of this connection: %s to create, %s to update', r.to_create, r.to_update);
    END IF;
    IF NOT r.partial THEN
        SELECT count(*), count(p.entity_id) INTO mapped, seen
          FROM @extschema@.integration_sync_map AS m
          LEFT JOIN pgsync_itsm.plan_records AS p ON p.run_id = r.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id
         WHERE m.connection_id = r.connection_id AND m.state = 'linked' AND m.entity_type NOT IN ('company', 'contact');
        IF mapped >= 10 AND (mapped - seen) * 100 > mapped * share THEN
            RETURN format('%s of %s published records are no longer in the sources', mapped - seen, mapped);
        END IF;
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
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT format('%s will be created, %s will update existing records, %s relationships will be removed, %s unchanged, %s need a decision, %s skipped, %s cannot be sent',
                      r.to_create, r.to_update, r.to_delete, r.unchanged, r.held, r.skipped, r.refused)
          FROM @extschema@.integration_runs AS r WHERE r.id = summary_text.run_id);
COMMENT ON FUNCTION pgsync_itsm.summary_text(bigint) IS 'What a plan would do, in words';

CREATE FUNCTION pgsync_itsm.plan_finish(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    why text;
    advice text;
BEGIN
    PERFORM pgsync_itsm.plan_item_rows(run);
    PERFORM pgsync_itsm.plan_clear_rows(run);
    PERFORM pgsync_itsm.plan_unlink_rows(run);
    PERFORM pgsync_itsm.plan_retire_rows(run);
    PERFORM pgsync_itsm.plan_steps(run);
    IF NOT run.partial THEN
        ANALYZE @extschema@.integration_run_items;
    END IF;
    why := pgsync_itsm.approval_needed(run);
    advice := pgsync_itsm.scope_words(run);
    UPDATE @extschema@.integration_runs AS r
       SET status = CASE WHEN r.kind = 'preview' THEN 'planned' WHEN why IS NOT NULL THEN 'needs_approval' ELSE 'running' END,
           phase = 'apply', approval_reason = why, planned_at = now(),
           summary = concat_ws('; ', pgsync_itsm.summary_text(r.id), nullif(advice, ''))
     WHERE r.id = run.id;
    DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id;
    DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id;
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id;
    IF run.kind <> 'preview' AND why IS NULL THEN
        PERFORM pgsync_itsm.release_items(run.id);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_finish(@extschema@.integration_runs) IS 'Ends a plan: items, steps, counts, guards';

CREATE FUNCTION pgsync_itsm.scope_words(run @extschema@.integration_runs) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT concat_ws('; ', CASE WHEN c.profiles > 0 AND c.scoped = 0 AND NOT (run).partial
                    THEN format('0 of %s profiles in scope: SELECT itsm_set_scope(%L, ''application_service'');', c.profiles, (run).namespace_id)
                    WHEN pgsync_itsm.setting((run).connection_id, 'runs_on_as') = 'relation'
                    THEN 'runs_on_as = relation makes relationship rows that point at models, which are not CIs: dependency views there may break'
               END,
               CASE WHEN c.offerings > 0 AND pgsync_itsm.setting((run).connection_id, 'offering_parent') = 'off'
                    THEN format('%s offerings will have no parent service there (offering_parent = off)', c.offerings) END)
          FROM (SELECT count(*) FILTER (WHERE p.entity_type = 'deployment_profile') AS profiles,
                       count(*) FILTER (WHERE p.entity_type = 'deployment_profile' AND p.attrs ->> 'scope' <> 'none') AS scoped,
                       count(*) FILTER (WHERE p.class = 'service_offering' AND p.verdict = 'CREATE') AS offerings
                  FROM pgsync_itsm.plan_records AS p WHERE p.run_id = (run).id AND p.parent_type IS NULL) AS c);
COMMENT ON FUNCTION pgsync_itsm.scope_words(@extschema@.integration_runs) IS 'Says so when no profile is in scope, and which call changes it';

CREATE FUNCTION pgsync_itsm.release_items(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run_id;
    PERFORM pgsync_itsm.apply_matches(r);
    UPDATE @extschema@.integration_run_items AS i SET state = 'pending', updated_at = now()
     WHERE i.run_id = r.id AND i.state = 'planned';
    UPDATE @extschema@.integration_runs AS x SET status = 'running', phase = 'apply', started_at = coalesce(x.started_at, now())
     WHERE x.id = r.id;
    -- A pilot is not the first publish: what it leaves out still has to be shown to a person once.
    UPDATE @extschema@.integration_connections AS c SET first_publish_at = now()
     WHERE c.id = r.connection_id AND c.first_publish_at IS NULL AND r.applications IS NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.release_items(bigint) IS 'Lets the worker send what a run planned';

-- An approved plan is applied as it was shown: what moved here since is refused, by name.
CREATE FUNCTION pgsync_itsm.plan_recheck(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id;
    FOR t IN SELECT DISTINCT i.entity_type FROM @extschema@.integration_run_items AS i
              WHERE i.run_id = run.id AND i.state = 'planned' AND (i.source_hash IS NOT NULL OR i.action = 'DELETE' OR i.payload_hash = 'retired')
    LOOP
        PERFORM pgsync_itsm.read_keys(run.id, run.connection_id, t, NULL, 'key');
    END LOOP;
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = CASE WHEN p.entity_id IS NULL THEN 'no longer in the source' ELSE 'changed here since the plan' END
      FROM @extschema@.integration_run_items AS j
      LEFT JOIN pgsync_itsm.plan_records AS p ON p.run_id = run.id AND p.entity_type = j.entity_type AND p.entity_id = j.entity_id
     WHERE i.run_id = run.id AND j.id = i.id AND i.state = 'planned' AND i.source_hash IS NOT NULL
       AND p.source_hash IS DISTINCT FROM i.source_hash;
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'it is here again', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND (i.action = 'DELETE' OR i.payload_hash = 'retired')
       AND EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id);
    DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id;
    -- Another run may have been faster: nothing is made twice, nothing newer is overwritten.
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'published since the plan', updated_at = now()
      FROM @extschema@.integration_sync_map AS m
     WHERE i.run_id = run.id AND i.state = 'planned' AND m.connection_id = i.connection_id
       AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
       AND (i.action = 'CREATE' AND (i.parent_id IS NULL OR m.rel_type IS NOT DISTINCT FROM i.rel_type)
            OR i.action IN ('UPDATE', 'CLEAR') AND m.last_synced_at > run.planned_at);
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'already removed', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE'
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = i.connection_id
                          AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id AND m.external_id = i.external_id);
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = 'what it connects changed since the plan', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.parent_id IS NOT NULL AND i.action = 'CREATE'
       AND EXISTS (SELECT FROM @extschema@.integration_run_items AS e
                    WHERE e.run_id = run.id AND e.state = 'refused' AND e.action IN ('CREATE', 'UPDATE', 'MATCH')
                      AND (e.entity_type, e.entity_id) IN ((i.parent_type, i.parent_id), (i.child_type, i.child_id))
                      AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = i.connection_id
                                         AND m.entity_type = e.entity_type AND m.entity_id = e.entity_id));
    PERFORM pgsync_itsm.release_items(run.id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_recheck(@extschema@.integration_runs) IS 'Refuses the items of a kept plan whose source changed since, and releases the rest';

-- The phases ----------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.plan_open_lookups(run_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pgsync_itsm.lookups AS l WHERE l.run_id = plan_open_lookups.run_id AND l.state IN ('pending', 'sent'));
COMMENT ON FUNCTION pgsync_itsm.plan_open_lookups(bigint) IS 'Has the platform questions of this run left to answer';

CREATE FUNCTION pgsync_itsm.plan_next_phase(connection_id uuid, phase text, prefix text, after_all text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN coalesce((SELECT plan_next_phase.prefix || w.entity_type
                   FROM pgsync_itsm.wanted_types(plan_next_phase.connection_id) WITH ORDINALITY AS w(entity_type, n)
                  WHERE w.n > coalesce((SELECT x.n FROM pgsync_itsm.wanted_types(plan_next_phase.connection_id) WITH ORDINALITY AS x(entity_type, n)
                                         WHERE plan_next_phase.prefix || x.entity_type = plan_next_phase.phase), 0)
                  ORDER BY w.n LIMIT 1), after_all);
COMMENT ON FUNCTION pgsync_itsm.plan_next_phase(uuid, text, text, text) IS 'Phases that go through the entity types one by one';

CREATE FUNCTION pgsync_itsm.plan_phase(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ph text := run.phase;
BEGIN
    CASE
        WHEN ph = 'queued' THEN
            DELETE FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id;
            DELETE FROM pgsync_itsm.lookups AS l WHERE l.run_id = run.id;
            DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = run.id;
            IF run.partial THEN
                PERFORM pgsync_itsm.plan_closure(run);
            END IF;
            RETURN pgsync_itsm.plan_next_phase(run.connection_id, ph, 'read ', 'ask');
        WHEN ph LIKE 'read %' THEN
            PERFORM pgsync_itsm.plan_read(run, substr(ph, 6));
            RETURN pgsync_itsm.plan_next_phase(run.connection_id, ph, 'read ', 'ask');
        WHEN ph = 'ask' THEN
            ANALYZE pgsync_itsm.plan_records;
            PERFORM pgsync_itsm.plan_rules(run);
            PERFORM pgsync_itsm.plan_ask(run);
            RETURN 'answers';
        WHEN ph = 'answers' THEN
            PERFORM pgsync_itsm.store_references(run);
            RETURN pgsync_itsm.plan_next_phase(run.connection_id, ph, 'resolve ', 'compare');
        WHEN ph LIKE 'resolve %' THEN
            PERFORM pgsync_itsm.plan_resolve(run, substr(ph, 9));
            RETURN pgsync_itsm.plan_next_phase(run.connection_id, ph, 'resolve ', 'compare');
        WHEN ph = 'compare' THEN
            PERFORM pgsync_itsm.plan_compare(run);
            PERFORM pgsync_itsm.plan_ask_records(run);
            RETURN 'decide';
        WHEN ph = 'decide' THEN
            PERFORM pgsync_itsm.plan_decide(run);
            PERFORM pgsync_itsm.plan_ask_old(run);
            RETURN 'items';
        WHEN ph = 'items' THEN
            PERFORM pgsync_itsm.plan_gone(run);
            PERFORM pgsync_itsm.plan_relations(run);
            PERFORM pgsync_itsm.plan_finish(run);
            RETURN NULL;
        WHEN ph = 'recheck' THEN
            PERFORM pgsync_itsm.plan_recheck(run);
            RETURN NULL;
        ELSE
            RAISE EXCEPTION 'run % has the unknown phase "%"', run.id, ph;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_phase(@extschema@.integration_runs) IS 'Does one phase of a plan and returns the next; NULL at the end';

CREATE FUNCTION pgsync_itsm.plan_step(run_id bigint) RETURNS text
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
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = plan_step.run_id FOR UPDATE;
    IF NOT FOUND OR r.status <> 'planning' THEN
        RETURN 'done';
    END IF;
    IF r.cancel_requested THEN
        PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
        RETURN 'done';
    END IF;
    IF pgsync_itsm.plan_open_lookups(r.id) THEN
        RETURN 'wait';
    END IF;
    SELECT l.* INTO failed FROM pgsync_itsm.lookups AS l WHERE l.run_id = r.id AND l.state = 'failed' LIMIT 1;
    IF FOUND THEN
        PERFORM pgsync_itsm.fail_run(r.id, failed.error_class, format('the platform did not answer a look-up (%s %s): %s', failed.kind, failed.target, failed.error_message),
                                     'SELECT * FROM itsm_test_connection(''' || r.connection_id || ''');');
        RETURN 'done';
    END IF;
    BEGIN
        next_phase := pgsync_itsm.plan_phase(r);
    EXCEPTION WHEN query_canceled OR others THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, more = PG_EXCEPTION_HINT;
        -- Interrupted before plan_timeout could have run out: somebody asked for it.
        IF code = '57014' AND clock_timestamp() - statement_timestamp() < current_setting('pgsync_itsm.plan_timeout')::interval THEN
            PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
            RETURN 'done';
        END IF;
        PERFORM pgsync_itsm.fail_run(r.id, code, format('phase "%s": %s', r.phase, words), more);
        RETURN 'done';
    END;
    IF next_phase IS NULL THEN
        RETURN 'done';
    END IF;
    UPDATE @extschema@.integration_runs AS x SET phase = next_phase WHERE x.id = r.id;
    RETURN CASE WHEN pgsync_itsm.plan_open_lookups(r.id) THEN 'wait' ELSE 'more' END;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_step(bigint) IS
'Does one phase of a plan: more (call again, in a new transaction), wait (the platform has to answer first), done. An error of user SQL fails the run';
