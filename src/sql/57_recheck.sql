-- A kept plan is applied as it was shown.  What moved here or there since is refused, item by item and by the names of its
-- fields; the rest goes.

CREATE FUNCTION pgsync_itsm.recheck_reread(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
BEGIN
    PERFORM pgsync_itsm.clear_plan(run.id);
    -- What is left of a partial plan is read by its keys, as the plan itself was.
    FOR k IN SELECT i.entity_type, CASE WHEN run.partial THEN array_agg(DISTINCT substr(i.native_key, strpos(i.native_key, '/') + 1)) END AS keys
               FROM @extschema@.integration_run_items AS i
              WHERE i.run_id = run.id AND i.state = 'planned'
                AND (i.source_hash IS NOT NULL OR i.parent_id IS NOT NULL OR i.payload_hash = 'retired')
              GROUP BY i.entity_type
    LOOP
        IF pgsync_itsm.is_relationship(k.entity_type) THEN
            PERFORM pgsync_itsm.read_links_by(run, k.entity_type, k.keys, 'key');
        ELSE
            PERFORM pgsync_itsm.read_records(run, k.entity_type, k.keys, 'key');
        END IF;
    END LOOP;
    IF NOT run.partial THEN
        ANALYZE pgsync_itsm.plan_records (run_id, entity_type, entity_id);
        ANALYZE pgsync_itsm.plan_links (run_id, entity_type, entity_id);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_reread(@extschema@.integration_runs) IS 'Reads the sources of a kept plan''s items again';

CREATE FUNCTION pgsync_itsm.recheck_links(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = CASE WHEN p.entity_id IS NULL THEN 'no longer in the source' ELSE 'changed here since the plan' END
      FROM @extschema@.integration_run_items AS j
      LEFT JOIN pgsync_itsm.plan_links AS p ON p.run_id = run.id AND p.entity_type = j.entity_type AND p.entity_id = j.entity_id
     WHERE i.run_id = run.id AND j.id = i.id AND i.state = 'planned' AND i.parent_id IS NOT NULL AND i.action <> 'DELETE'
       AND (p.entity_id IS NULL OR (p.parent_id, p.child_id) IS DISTINCT FROM (i.parent_id, i.child_id)
            OR i.entity_type = 'sends_data_to' AND p.rel_type IS DISTINCT FROM i.rel_type);
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'it is here again', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND (i.action = 'DELETE' OR i.payload_hash = 'retired')
       AND (EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id)
            OR EXISTS (SELECT FROM pgsync_itsm.plan_links AS p WHERE p.run_id = run.id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_links(@extschema@.integration_runs) IS 'Refuses relationships of a kept plan that are not as they were, and removals of what is here again';

-- A record that changed is resolved once more, to say which of its fields did.
CREATE FUNCTION pgsync_itsm.recheck_records(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t text;
BEGIN
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'no longer in the source', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.source_hash IS NOT NULL
       AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = i.entity_type AND p.entity_id = i.entity_id);
    DELETE FROM pgsync_itsm.plan_records AS p
     WHERE p.run_id = run.id
       AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                        WHERE i.run_id = run.id AND i.state = 'planned' AND i.entity_type = p.entity_type AND i.entity_id = p.entity_id
                          AND i.source_hash IS NOT NULL AND i.source_hash <> p.source_hash);
    UPDATE pgsync_itsm.plan_records AS p SET verdict = NULL WHERE p.run_id = run.id AND p.verdict IS NOT NULL;
    PERFORM pgsync_itsm.plan_rules(run);
    FOR t IN SELECT DISTINCT p.entity_type FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.verdict IS NULL LOOP
        PERFORM pgsync_itsm.plan_resolve(run, t);
    END LOOP;
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = concat_ws(': ', 'changed here since the plan', CASE WHEN p.verdict IN ('SKIP', 'DROP', 'MISMATCH') THEN p.reason ELSE nullif(m.fields, '') END)
      FROM pgsync_itsm.plan_records AS p
      JOIN @extschema@.integration_run_items AS j ON j.run_id = run.id AND j.entity_type = p.entity_type AND j.entity_id = p.entity_id
     CROSS JOIN LATERAL (
           SELECT string_agg(f.field, ', ' ORDER BY f.field) AS fields
             FROM (SELECT json_object_keys(j.payload) UNION SELECT json_object_keys(p.payload)) AS f(field)
            WHERE f.field NOT LIKE '\_%' AND j.payload ->> f.field IS DISTINCT FROM p.payload ->> f.field
              -- a company that is yet to be made, and a field that the plan left to the platform, have not moved
              AND coalesce(j.payload ->> f.field, '') NOT LIKE '@company/%'
              AND NOT coalesce(j.warnings, '[]') ? format('%s: kept as it is there', f.field)) AS m
     WHERE p.run_id = run.id AND i.id = j.id AND i.state = 'planned' AND i.source_hash IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_records(@extschema@.integration_runs) IS 'Refuses records of a kept plan whose source row changed, with the fields that did';

-- Another run may have been faster: nothing is made twice, nothing newer is overwritten.
CREATE FUNCTION pgsync_itsm.recheck_map(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = CASE WHEN i.action = 'CREATE' AND m.sync_direction = 'subscribed' THEN 'matched since the plan' ELSE 'published since the plan' END
      FROM @extschema@.integration_sync_map AS m
     WHERE i.run_id = run.id AND i.state = 'planned' AND m.connection_id = i.connection_id
       AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
       AND (i.action = 'CREATE' AND (i.parent_id IS NULL OR m.rel_type IS NOT DISTINCT FROM i.rel_type)
            OR i.action IN ('UPDATE', 'CLEAR') AND m.last_synced_at > run.planned_at
               -- by another run: a CLEAR that is queued again follows the update of its own
               AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o
                                WHERE o.run_id = run.id AND o.entity_type = i.entity_type AND o.entity_id = i.entity_id
                                  AND o.state = 'done' AND o.updated_at >= m.last_synced_at));
    -- A decision that was taken back, or taken for another record there.
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'matched otherwise since the plan', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.parent_id IS NULL AND i.action IN ('UPDATE', 'CLEAR', 'MATCH')
       AND (EXISTS (SELECT FROM @extschema@.integration_sync_map AS m
                     WHERE m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id AND m.external_id <> i.external_id)
            OR EXISTS (SELECT FROM @extschema@.integration_matches AS d
                        WHERE d.connection_id = i.connection_id AND d.entity_type = i.entity_type AND d.entity_id = i.entity_id
                          AND d.external_id = i.external_id AND d.decision IN ('rejected', 'create')
                          AND d.decided_at > run.planned_at));
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'already removed', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'DELETE'
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = i.connection_id
                          AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id AND m.external_id = i.external_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_map(@extschema@.integration_runs) IS 'Refuses items of a kept plan that another run has dealt with';

-- The questions are those that the plan asked: is it there by now, and is it there as it was.
CREATE FUNCTION pgsync_itsm.recheck_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgsync_itsm.clear_plan(run.id);
    INSERT INTO pgsync_itsm.plan_records (run_id, entity_type, entity_id, native_key, name, class, payload, verdict, external_id, external_table)
    SELECT DISTINCT ON (i.entity_id, i.entity_type) run.id, i.entity_type, i.entity_id, i.native_key, i.label, i.external_table, i.payload,
           CASE i.action WHEN 'CREATE' THEN 'CREATE' ELSE 'UPDATE' END, i.external_id, i.external_table
      FROM @extschema@.integration_run_items AS i
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.parent_id IS NULL
       AND (i.action = 'CREATE' OR i.action IN ('UPDATE', 'CLEAR') AND i.old_values IS NOT NULL)
     ORDER BY i.entity_id, i.entity_type, i.action = 'CLEAR';
    IF NOT run.partial THEN
        ANALYZE pgsync_itsm.plan_records (run_id, entity_type, entity_id, class, verdict, external_id);
    END IF;
    PERFORM pgsync_itsm.plan_ask_records(run);
    PERFORM pgsync_itsm.plan_ask_old(run);
    IF pgsync_itsm.deletes_records(run) THEN
        PERFORM pgsync_itsm.rollback_ask_there(run);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_ask(@extschema@.integration_runs) IS 'Asks the platform for what a kept plan is about to create or change';

CREATE FUNCTION pgsync_itsm.recheck_there(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Neither as the plan saw it, nor as the plan would have it.
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(),
           reason = CASE WHEN m.gone THEN 'deleted there since the plan' ELSE 'changed there since the plan: ' || m.fields END
      FROM (SELECT j.id, x.key IS NULL AS gone, string_agg(format('%s (was "%s", is "%s")', v.field, left(v.was, 60), left(v.is, 60)), ', ' ORDER BY v.field)
                              FILTER (WHERE v.field IS NOT NULL) AS fields
              FROM (SELECT DISTINCT l.target, k.id FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(id)
                     WHERE l.run_id = run.id AND l.kind = 'record' AND l.state = 'done') AS asked
              JOIN @extschema@.integration_run_items AS j ON j.external_table = asked.target AND j.external_id = asked.id
              LEFT JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = run.id AND x.kind = 'record' AND x.target = asked.target AND x.key = asked.id
              LEFT JOIN LATERAL (
                   SELECT f.field, pgsync_itsm.plain_value(j.old_values ->> f.field) AS was, pgsync_itsm.plain_value(x.attrs ->> f.field) AS is,
                          pgsync_itsm.plain_value(f.value) AS wanted
                     FROM json_each_text(j.payload) AS f(field, value)) AS v ON v.was <> v.is AND v.is <> v.wanted
             WHERE j.run_id = run.id AND j.state = 'planned' AND j.action IN ('UPDATE', 'CLEAR') AND j.old_values IS NOT NULL
             GROUP BY j.id, x.key) AS m
     WHERE i.id = m.id AND (m.gone OR m.fields IS NOT NULL);
    -- A company or user that is there by now is a reference, as it is to a plan: what names it goes with it.
    WITH there AS (
        UPDATE @extschema@.integration_run_items AS i
           SET state = 'done', outcome = 'matched', updated_at = now(), external_id = m.external_id, external_table = coalesce(m.external_table, i.external_table),
               reason = 'there by now'
          FROM pgsync_itsm.plan_matches(run) AS m
         WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'CREATE' AND i.entity_type IN ('company', 'contact')
           AND i.entity_type = m.entity_type AND i.entity_id = m.entity_id AND NOT i.in_doubt AND NOT i.unheard
        RETURNING i.*)
    INSERT INTO @extschema@.integration_sync_map
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, published_name, sync_direction, created_by_us, last_synced_at)
    SELECT t.connection_id, t.namespace_id, t.entity_type, t.entity_id, t.native_key, t.external_id, t.external_table, t.label, 'subscribed', false, now()
      FROM there AS t
    ON CONFLICT DO NOTHING;
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'refused', updated_at = now(), external_id = m.external_id,
           reason = CASE WHEN m.hits > 1 THEN format('there by now: %s records of this name that are not ours', m.hits)
                         ELSE 'there by now: a record of this name that is not ours' END
      FROM pgsync_itsm.plan_matches(run) AS m
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.action = 'CREATE' AND i.entity_type = m.entity_type AND i.entity_id = m.entity_id
       -- found by a key of ours, or perhaps left there by an attempt that was not heard of: the sending sees to that
       AND m.how = 'name' AND NOT i.in_doubt AND NOT i.unheard AND NOT pgsync_itsm.is_in_doubt(run.connection_id, m.entity_type, m.entity_id);
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = 'what it connects changed since the plan', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.parent_id IS NOT NULL AND i.action = 'CREATE'
       AND EXISTS (SELECT FROM @extschema@.integration_run_items AS e
                    WHERE e.run_id = run.id AND e.state = 'refused' AND e.action IN ('CREATE', 'UPDATE', 'MATCH')
                      AND (e.entity_type, e.entity_id) IN ((i.parent_type, i.parent_id), (i.child_type, i.child_id))
                      AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = i.connection_id
                                         AND m.entity_type = e.entity_type AND m.entity_id = e.entity_id));
    -- Known when the plan was made, and forgotten since: nothing would ever let the relationship go.
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = 'what it connects is not published any more', updated_at = now()
     WHERE i.run_id = run.id AND i.state = 'planned' AND i.parent_id IS NOT NULL AND i.action = 'CREATE'
       AND EXISTS (SELECT FROM (VALUES (i.parent_type, i.parent_id), (i.child_type, i.child_id)) AS e(entity_type, entity_id)
                    WHERE NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = i.connection_id
                                         AND m.entity_type = e.entity_type AND m.entity_id = e.entity_id)
                      AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o WHERE o.run_id = run.id
                                         AND o.entity_type = e.entity_type AND o.entity_id = e.entity_id
                                         AND o.state IN ('planned', 'pending') AND o.action IN ('CREATE', 'UPDATE', 'MATCH')));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_there(@extschema@.integration_runs) IS
'Refuses what moved there since a plan was made: fields that somebody changed, records that are gone, names that are taken by now';

CREATE FUNCTION pgsync_itsm.recheck_phase(run @extschema@.integration_runs) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF run.phase = 'recheck' THEN
        PERFORM pgsync_itsm.recheck_reread(run);
        PERFORM pgsync_itsm.recheck_links(run);
        PERFORM pgsync_itsm.recheck_records(run);
        PERFORM pgsync_itsm.recheck_map(run);
        PERFORM pgsync_itsm.recheck_ask(run);
        IF pgsync_itsm.plan_open_lookups(run.id) OR NOT pgsync_itsm.is_free(run.connection_id) THEN
            RETURN 'recheck there';
        END IF;
    END IF;
    IF pgsync_itsm.deletes_records(run) THEN
        PERFORM pgsync_itsm.rollback_compare(run, true);
        PERFORM pgsync_itsm.retire_keep_links(run, true);
    END IF;
    PERFORM pgsync_itsm.recheck_there(run);
    PERFORM pgsync_itsm.clear_plan(run.id);
    PERFORM pgsync_itsm.release_items(run.id);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.recheck_phase(@extschema@.integration_runs) IS
'Refuses the items of a kept plan that moved here or there since, and releases the rest; returns the next phase, NULL at the end';
