-- What was deleted here.  Absence is not deletion: only a DELETE change, confirmed by a read that does not find the record
-- any more, has something done there, and only to what we made: retired by life cycle, deleted, or left (retire_by).
--
-- The map remembers the change (deleted_at) until it was dealt with: a run of changes may fail or be cancelled, and the plan
-- in full that comes after it would see an absence only; and a connection that does not follow changes has no such run.

-- Whatever a connection does now, active or not: a key that is its table's own is gone for all of them.  What a run that is under
-- way may make there is marked when that has ended.  Rows are locked in order, as a plan does that marks some of them itself.
CREATE FUNCTION pgsync_itsm.note_deletions(changes pgsync_itsm.change_key[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(changes) AS k WHERE k.deleted AND k.match_by = 'key') THEN
        RETURN;
    END IF;
    -- the time of now, and not of the transaction: a plan that began before it may have read what was deleted since
    UPDATE @extschema@.integration_sync_map AS m SET deleted_at = clock_timestamp()
     WHERE m.id = ANY (ARRAY(
           SELECT x.id
             FROM (SELECT DISTINCT k.entity_type, pgsync_itsm.entity_id(k.entity_type, k.key) AS entity_id
                     FROM unnest(changes) AS k WHERE k.deleted AND k.match_by = 'key') AS d
            CROSS JOIN @extschema@.integration_connections AS c
             JOIN @extschema@.integration_sync_map AS x ON x.connection_id = c.id AND x.entity_type = d.entity_type AND x.entity_id = d.entity_id
            WHERE x.deleted_at IS NULL
            ORDER BY x.id FOR NO KEY UPDATE OF x));
    INSERT INTO pgsync_itsm.run_keys (run_id, entity_type, match_by, key, deleted)
    SELECT DISTINCT r.id, k.entity_type, 'gone', k.key, true
      FROM @extschema@.integration_runs AS r
      JOIN unnest(changes) AS k ON k.namespace_id IS NULL OR k.namespace_id = r.namespace_id
      LEFT JOIN @extschema@.integration_sync_map AS m
        ON m.connection_id = r.connection_id AND m.entity_type = k.entity_type AND m.entity_id = pgsync_itsm.entity_id(k.entity_type, k.key)
     WHERE r.status IN ('queued', 'planning', 'planned', 'needs_approval', 'running')
       AND (r.status = 'planning'
            OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                        WHERE i.run_id = r.id AND i.entity_type = k.entity_type AND i.entity_id = pgsync_itsm.entity_id(k.entity_type, k.key)))
       AND r.kind <> 'match' AND k.deleted AND k.match_by = 'key' AND NOT pgsync_itsm.is_relationship(k.entity_type) AND m.id IS NULL
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.note_deletions(pgsync_itsm.change_key[]) IS 'Marks in the map what DELETE changes are about';

-- Once more when a run of changes is planned or ends: what was on its way there when the change was collected is in the map by now.
CREATE FUNCTION pgsync_itsm.note_deleted(run_id bigint, how text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_sync_map AS m SET deleted_at = now()
      FROM @extschema@.integration_runs AS r
      JOIN pgsync_itsm.run_keys AS k ON k.run_id = r.id AND k.deleted AND k.match_by = ANY (note_deleted.how)
     WHERE r.id = note_deleted.run_id AND m.connection_id = r.connection_id AND m.entity_type = k.entity_type
       AND m.entity_id = pgsync_itsm.entity_id(k.entity_type, k.key) AND m.deleted_at IS NULL;
END;
COMMENT ON FUNCTION pgsync_itsm.note_deleted(bigint, text[]) IS
'Marks in the map what the DELETE changes of a run are about: key, those that it was made for; gone, those that came while it was under way';

-- Without taking them: the debounce is for runs of changes.  Called after the sources were read, so that no DELETE which that has
-- seen is missed: it is in the queue, or marked by who took it from there.
CREATE FUNCTION pgsync_itsm.note_waiting(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.integration_queue AS q WHERE q.op = 'd') THEN
        RETURN;
    END IF;
    UPDATE @extschema@.integration_sync_map AS m SET deleted_at = now()
     WHERE m.id = ANY (ARRAY(
           SELECT x.id
             FROM (SELECT DISTINCT w.entity_type, pgsync_itsm.entity_id(w.entity_type, k.key) AS entity_id
                     FROM @extschema@.integration_queue AS q
                     JOIN (SELECT DISTINCT o.relation FROM @extschema@.integration_queue AS o WHERE o.op = 'd') AS t ON t.relation = q.relation
                    CROSS JOIN LATERAL pgsync_itsm.watches_of(t.relation) AS w
                    CROSS JOIN LATERAL unnest(q.keys) AS k(key)
                    WHERE q.op = 'd' AND w.owns_key AND w.key_column = q.key_column) AS d
             JOIN @extschema@.integration_sync_map AS x ON x.connection_id = run.connection_id AND x.entity_type = d.entity_type AND x.entity_id = d.entity_id
            WHERE x.deleted_at IS NULL
              AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p WHERE p.run_id = run.id AND p.entity_type = d.entity_type AND p.entity_id = d.entity_id)
            ORDER BY x.id FOR NO KEY UPDATE OF x));
END
$$;
COMMENT ON FUNCTION pgsync_itsm.note_waiting(@extschema@.integration_runs) IS 'Marks in the map of a plan in full what DELETE changes are about that still wait in the queue';

CREATE FUNCTION pgsync_itsm.retire_candidates(run @extschema@.integration_runs) RETURNS SETOF @extschema@.integration_sync_map
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- what was not read is not known to be gone
    RETURN QUERY
        SELECT m.* FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id AND m.deleted_at IS NOT NULL AND m.state = 'linked' AND m.parent_id IS NULL
           AND m.entity_type = ANY (pgsync_itsm.wanted_types(run.connection_id))
           AND (NOT run.partial
                OR EXISTS (SELECT FROM pgsync_itsm.run_keys AS k
                            WHERE k.run_id = run.id AND k.entity_type = m.entity_type AND k.match_by = 'key' AND k.key = substr(m.native_key, length(m.entity_type) + 2)))
           AND NOT EXISTS (SELECT FROM pgsync_itsm.plan_records AS p
                            WHERE p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.retire_candidates(@extschema@.integration_runs) IS 'Records that were deleted here and that the read of this plan confirms to be gone';

CREATE FUNCTION pgsync_itsm.is_retirable(m @extschema@.integration_sync_map, policy text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN m.created_by_us
       AND CASE policy WHEN 'life_cycle' THEN m.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package')
                       WHEN 'delete' THEN m.entity_type IN ('application', 'deployment_profile', 'it_service', 'software_package', 'software_product', 'contract')
                       ELSE false END;
COMMENT ON FUNCTION pgsync_itsm.is_retirable(@extschema@.integration_sync_map, text) IS
'Does a policy (retire_by) concern a record: only what we made; companies and contacts are shared with others there, and stay; models and contracts are deleted, or stay';

-- First questions: how the classes that we are about call what is retired, where no plan has asked since the cache was emptied.
CREATE FUNCTION pgsync_itsm.retire_ask(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    IF run.kind NOT IN ('publish', 'preview') THEN
        RETURN;
    END IF;
    IF NOT run.partial THEN
        PERFORM pgsync_itsm.note_waiting(run);
    ELSIF EXISTS (SELECT FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run.id AND k.deleted) THEN
        PERFORM pgsync_itsm.note_deleted(run.id, '{key}');
    END IF;
    IF run.kind = 'publish' THEN
        -- it is here again, unless it was deleted after it was read
        UPDATE @extschema@.integration_sync_map AS m SET deleted_at = NULL, state = CASE m.state WHEN 'left' THEN 'linked' ELSE m.state END
          FROM pgsync_itsm.plan_records AS p
         WHERE m.connection_id = run.connection_id AND m.deleted_at IS NOT NULL
           AND m.deleted_at <= CASE WHEN run.partial THEN now() ELSE (SELECT s.begun_at FROM pgsync_itsm.plan_spaces AS s WHERE s.run_id = run.id) END
           AND p.run_id = run.id AND p.entity_type = m.entity_type AND p.entity_id = m.entity_id;
    END IF;
    IF pgsync_itsm.setting(run.connection_id, 'retire_by') <> 'life_cycle' OR pgsync_itsm.is_halo(run.connection_id) THEN
        RETURN;
    END IF;
    FOR c IN SELECT DISTINCT m.entity_type, m.external_table AS class FROM pgsync_itsm.retire_candidates(run) AS m WHERE pgsync_itsm.is_retirable(m, 'life_cycle') LOOP
        IF NOT EXISTS (SELECT FROM @extschema@.integration_references AS r
                        WHERE r.connection_id = run.connection_id AND r.kind = 'choice' AND r.target = c.class AND starts_with(r.key, 'operational_status/')) THEN
            PERFORM pgsync_itsm.ask(run, 'column', c.class, ARRAY['']);
            PERFORM pgsync_itsm.ask(run, 'choice', c.class, ARRAY(
                SELECT f.target_field FROM pgsync_itsm.mapped_fields(run.connection_id, c.entity_type) AS f
                 WHERE f.kind = 'choice' AND f.target_class IN ('*', c.class)
                UNION SELECT unnest(ARRAY['operational_status', 'install_status'])));
        END IF;
    END LOOP;
    IF FOUND AND pgsync_itsm.setting(run.connection_id, 'life_cycle_write') <> 'legacy' THEN
        PERFORM pgsync_itsm.ask_cached(run, 'life_cycle', 'life_cycle_stage', ARRAY['End of Life']);
        PERFORM pgsync_itsm.ask_cached(run, 'life_cycle', 'life_cycle_stage_status', ARRAY['Retired']);
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.retire_ask(@extschema@.integration_runs) IS 'Notes what was deleted here, or is here again, and asks how the platform calls what is retired';

CREATE FUNCTION pgsync_itsm.retire_by_life_cycle(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT l.target, k.id FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(id)
         WHERE l.run_id = (run).id AND l.kind = 'record' AND l.state = 'done'
    )
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         payload, old_values, payload_hash, external_id, external_table, reason)
    SELECT (run).id, (run).connection_id, (run).namespace_id, s.ord, s.step, m.entity_type, m.entity_id, m.native_key,
           left(coalesce(m.published_name, m.native_key), 300),
           CASE WHEN n.reason IS NULL THEN 'UPDATE' ELSE 'SKIP' END, CASE WHEN n.reason IS NULL THEN 'planned' ELSE 'skipped' END,
           CASE WHEN n.reason IS NULL THEN (t.payload || jsonb_build_object('name', coalesce(m.last_agreed ->> 'name', m.published_name)))::json END,
           coalesce(x.attrs, m.last_agreed), 'retired',
           m.external_id, m.external_table, coalesce(n.reason, 'deleted here: retired there')
      FROM pgsync_itsm.retire_candidates(run) AS m
      LEFT JOIN pgsync_itsm.lookup_rows AS x ON x.run_id = (run).id AND x.kind = 'record' AND x.target = m.external_table AND x.key = m.external_id
     CROSS JOIN LATERAL pgsync_itsm.step_of(m.entity_type, m.external_table) AS s
      LEFT JOIN pgsync_itsm.rollback_retired((run).connection_id) AS t ON t.external_table = m.external_table
      -- the platform refuses the id of what is gone there, each time
     CROSS JOIN LATERAL (SELECT CASE WHEN x.key IS NULL AND (m.external_table, m.external_id) IN (SELECT a.target, a.id FROM asked AS a)
                                     THEN 'deleted here, and not found there: nothing to retire'
                                     WHEN t.payload IS NULL
                                     THEN format('deleted here; no retired state of %s is known: left as it is', m.external_table) END AS reason) AS n
     WHERE pgsync_itsm.is_retirable(m, 'life_cycle')
     ORDER BY s.ord, m.entity_id
    ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION pgsync_itsm.retire_by_life_cycle(@extschema@.integration_runs) IS 'Items that retire what was deleted here';

-- Our relationships of a record go before it does, so that the platform takes nothing along that we do not know of; the records
-- go when all else is through, in the order of a rollback (barrier()).
CREATE FUNCTION pgsync_itsm.retire_by_deletion(run @extschema@.integration_runs) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS MATERIALIZED (
        SELECT m.* FROM pgsync_itsm.retire_candidates(run) AS m WHERE pgsync_itsm.is_retirable(m, 'delete')
    ), links AS (
        SELECT l.* FROM @extschema@.integration_sync_map AS l
         WHERE l.connection_id = (run).connection_id AND l.created_by_us
           AND l.id IN (SELECT p.id FROM gone AS g JOIN @extschema@.integration_sync_map AS p ON p.parent_id = g.entity_id
                        UNION SELECT c.id FROM gone AS g JOIN @extschema@.integration_sync_map AS c ON c.child_id = g.entity_id)
    ), items AS (
        SELECT t.ord, t.step, l.entity_type, l.entity_id, l.native_key, coalesce(l.published_name, l.native_key) AS label, NULL::json AS old_values, l.external_id,
               coalesce(l.external_table, 'cmdb_rel_ci') AS external_table, pt.parent_type, l.parent_id, c.entity_type AS child_type, l.child_id, l.rel_type,
               'what it connected was deleted here' AS reason
          FROM links AS l
          JOIN pgsync_itsm.plan_types() AS t ON t.entity_type = l.entity_type
         CROSS JOIN LATERAL (SELECT e.parent_type FROM pgsync_itsm.link_ends((run).connection_id, l.entity_type) AS e) AS pt
          LEFT JOIN LATERAL (SELECT x.entity_type FROM @extschema@.integration_sync_map AS x
                              WHERE x.connection_id = l.connection_id AND x.entity_id = l.child_id AND x.parent_id IS NULL ORDER BY x.entity_type LIMIT 1) AS c ON true
        UNION ALL
        SELECT pgsync_itsm.rollback_ord(s.ord), s.step || 'd', g.entity_type, g.entity_id, g.native_key, coalesce(g.published_name, g.native_key),
               g.last_agreed, g.external_id, g.external_table, NULL, NULL, NULL, NULL, NULL, 'deleted here'
          FROM gone AS g CROSS JOIN LATERAL pgsync_itsm.step_of(g.entity_type, g.external_table) AS s
    )
    INSERT INTO @extschema@.integration_run_items
        (run_id, connection_id, namespace_id, ord, step, entity_type, entity_id, native_key, label, action, state,
         old_values, payload_hash, external_id, external_table, parent_type, parent_id, child_type, child_id, rel_type, reason)
    SELECT (run).id, (run).connection_id, (run).namespace_id, i.ord, i.step, i.entity_type, i.entity_id, i.native_key, left(i.label, 300), 'DELETE', 'planned',
           i.old_values, 'retired', i.external_id, i.external_table, i.parent_type, i.parent_id, i.child_type, i.child_id, i.rel_type, i.reason
      FROM items AS i ORDER BY i.ord, i.entity_id
    ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION pgsync_itsm.retire_by_deletion(@extschema@.integration_runs) IS 'Items that delete what was deleted here, its relationships first';

CREATE FUNCTION pgsync_itsm.plan_ask_deleted(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    CASE pgsync_itsm.setting(run.connection_id, 'retire_by')
        WHEN 'life_cycle' THEN
            FOR g IN SELECT m.entity_type, m.external_table, array_agg(m.external_id) AS ids FROM pgsync_itsm.retire_candidates(run) AS m
                      WHERE pgsync_itsm.is_retirable(m, 'life_cycle') GROUP BY 1, 2 LOOP
                PERFORM pgsync_itsm.ask(run, 'record', g.external_table, g.ids, pgsync_itsm.wanted_fields(run.connection_id, g.entity_type));
            END LOOP;
        WHEN 'delete' THEN
            IF EXISTS (SELECT FROM pgsync_itsm.retire_candidates(run) AS m) THEN
                PERFORM pgsync_itsm.retire_by_deletion(run);
                PERFORM pgsync_itsm.rollback_ask_there(run);
            END IF;
        ELSE
            NULL;
    END CASE;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_ask_deleted(@extschema@.integration_runs) IS
'Asks what is there that is to be retired, for a rollback needs it; or plans its deletion and asks what a rollback would: is it as we left it, does anybody else relate to it, may we';

-- A record that stays keeps its relationships.
CREATE FUNCTION pgsync_itsm.retire_keep_links(run @extschema@.integration_runs, again boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH going AS MATERIALIZED (
        SELECT d.entity_id FROM @extschema@.integration_run_items AS d
         WHERE d.run_id = run.id AND d.action = 'DELETE' AND d.parent_id IS NULL AND d.state = 'planned'
    ), staying AS MATERIALIZED (
        SELECT i.id FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = run.id AND i.action = 'DELETE' AND i.parent_id IS NOT NULL AND i.payload_hash = 'retired' AND i.state = 'planned'
           AND i.parent_id NOT IN (SELECT g.entity_id FROM going AS g) AND i.child_id NOT IN (SELECT g.entity_id FROM going AS g)
    ), forgotten AS (
        DELETE FROM @extschema@.integration_run_items AS i USING staying AS s WHERE i.id = s.id AND NOT again
    )
    UPDATE @extschema@.integration_run_items AS i SET state = 'refused', reason = 'what it connects stays', updated_at = now()
      FROM staying AS s WHERE i.id = s.id AND again;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.retire_keep_links(@extschema@.integration_runs, boolean) IS
'Takes removals of relationships out of a plan none of whose ends is deleted after all; again: refuses them, of a plan that was shown';

CREATE FUNCTION pgsync_itsm.deletes_records(run @extschema@.integration_runs) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN run.kind <> 'rollback'
           AND EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                        WHERE i.run_id = run.id AND i.action = 'DELETE' AND i.payload_hash = 'retired' AND i.state = 'planned');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.deletes_records(@extschema@.integration_runs) IS 'Has a plan deletions of what was deleted here';

-- A DELETE change whose record a read does not find any more is dealt with as retire_by says.
CREATE FUNCTION pgsync_itsm.plan_retire_rows(run @extschema@.integration_runs) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy text := pgsync_itsm.setting(run.connection_id, 'retire_by');
BEGIN
    IF NOT EXISTS (SELECT FROM pgsync_itsm.retire_candidates(run) AS m) THEN
        RETURN;
    END IF;
    IF policy = 'life_cycle' THEN
        PERFORM pgsync_itsm.retire_by_life_cycle(run);
    ELSIF pgsync_itsm.deletes_records(run) THEN
        PERFORM pgsync_itsm.rollback_compare(run, false);
        PERFORM pgsync_itsm.retire_keep_links(run, false);
    END IF;
    -- What stays is no loss of the source's, either.
    IF run.kind = 'publish' THEN
        UPDATE @extschema@.integration_sync_map AS m SET state = 'left'
          FROM pgsync_itsm.retire_candidates(run) AS c
         WHERE m.id = c.id
           AND (NOT pgsync_itsm.is_retirable(c, policy)
                OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i
                            WHERE i.run_id = run.id AND i.entity_type = c.entity_type AND i.entity_id = c.entity_id
                              AND i.payload_hash = 'retired' AND i.state = 'skipped'));
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.plan_retire_rows(@extschema@.integration_runs) IS 'Confirmed deletions retire, delete or leave; absence alone never does';

-- Deleting by mistake is quick, and as bad as a source that comes back short.
CREATE FUNCTION pgsync_itsm.retired_share(run @extschema@.integration_runs, OUT mapped bigint, OUT retired bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT count(*) INTO retired FROM @extschema@.integration_run_items AS i
     WHERE i.run_id = run.id AND i.payload_hash = 'retired' AND i.parent_id IS NULL AND i.state = 'planned';
    IF retired > 0 THEN
        SELECT count(*) INTO mapped FROM @extschema@.integration_sync_map AS m
         WHERE m.connection_id = run.connection_id AND m.parent_id IS NULL AND m.state = 'linked' AND m.entity_type NOT IN ('company', 'contact');
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.retired_share(@extschema@.integration_runs) IS
'How many published records there are, and how many of them a plan would retire or delete; mapped is NULL if none';
