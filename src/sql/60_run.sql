-- Running: turn, claim, settle.  The worker calls these and holds no transaction between them.

CREATE FUNCTION pgsync_itsm.fail_run(run_id bigint, sqlstate text, message text, hint text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE @extschema@.integration_runs AS r
       SET error_code = sqlstate, error_message = left(message, 2000), error_hint = hint
     WHERE r.id = run_id;
    UPDATE @extschema@.integration_connections AS c SET last_error = left(message, 2000)
      FROM @extschema@.integration_runs AS r WHERE r.id = run_id AND c.id = r.connection_id;
    PERFORM pgsync_itsm.finish_run(run_id, 'failed');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.fail_run(bigint, text, text, text) IS 'Ends a run that cannot go on, with the reason';

CREATE FUNCTION pgsync_itsm.finish_run(run_id bigint, status text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM pgsync_itsm.end_claims('cancelled', ARRAY(SELECT c.id FROM pgsync_itsm.claims AS c WHERE c.run_id = run_id));
    UPDATE @extschema@.integration_run_items AS i SET state = 'cancelled', updated_at = now()
     WHERE i.run_id = run_id AND i.state IN ('planned', 'pending') AND status IN ('cancelled', 'failed');
    UPDATE @extschema@.integration_run_steps AS s SET status = 'done', finished_at = coalesce(s.finished_at, now())
     WHERE s.run_id = run_id AND status = 'done';
    -- What a run that ends early wrote is not read back: nobody knows what the platform made of it.
    UPDATE @extschema@.integration_sync_map AS m SET last_sync_hash = NULL
      FROM @extschema@.integration_runs AS r JOIN @extschema@.integration_run_items AS i ON i.run_id = r.id
     WHERE r.id = run_id AND r.kind <> 'subscribe' AND status IN ('cancelled', 'failed') AND i.state IN ('done', 'unchanged') AND i.action IN ('CREATE', 'UPDATE') AND i.parent_id IS NULL
       AND m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id AND m.last_sync_hash IS NOT NULL;
    -- A value that was to be cleared, and was not, is agreed as before: the next plan clears it.
    UPDATE @extschema@.integration_sync_map AS m
       SET last_agreed = pgsync_itsm.merged(m.last_agreed, v.kept), last_sent_hash = NULL, source_hash = NULL, source_version = NULL
      FROM @extschema@.integration_run_items AS i
     CROSS JOIN LATERAL (SELECT json_object_agg(f, i.old_values ->> f) AS kept FROM json_object_keys(i.payload) AS f WHERE i.old_values ->> f <> '') AS v
     WHERE i.run_id = run_id AND i.action = 'CLEAR' AND i.state IN ('cancelled', 'dead', 'refused') AND v.kept IS NOT NULL
       AND m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id
       AND EXISTS (SELECT FROM @extschema@.integration_run_items AS u WHERE u.run_id = i.run_id AND u.entity_type = i.entity_type AND u.entity_id = i.entity_id
                      AND u.action = 'UPDATE' AND u.state IN ('done', 'unchanged') AND u.updated_at >= m.last_synced_at);
    UPDATE @extschema@.integration_runs AS r
       SET status = status, phase = 'finished', finished_at = now(), done = c.done, dead = c.dead, warned = c.warned
      FROM (SELECT count(*) FILTER (WHERE i.state IN ('done', 'unchanged')) AS done,
                   count(*) FILTER (WHERE i.state = 'dead') AS dead,
                   count(*) FILTER (WHERE i.state = 'done' AND i.warnings IS NOT NULL) AS warned
              FROM @extschema@.integration_run_items AS i WHERE i.run_id = run_id) AS c
     WHERE r.id = run_id;
    UPDATE @extschema@.integration_connections AS c SET last_sync_at = now(), last_error = CASE WHEN status = 'done' THEN NULL ELSE c.last_error END
      FROM @extschema@.integration_runs AS r WHERE r.id = run_id AND c.id = r.connection_id AND r.kind NOT IN ('preview', 'match') AND status <> 'cancelled';
    PERFORM pgsync_itsm.reopen_conflicts(run_id);
    PERFORM pgsync_itsm.clear_plan(run_id);
    DELETE FROM pgsync_itsm.plan_spaces AS s WHERE s.run_id = run_id;
    DELETE FROM pgsync_itsm.merge_before AS b WHERE b.run_id = run_id;
    PERFORM pgsync_itsm.note_deleted(run_id, CASE WHEN status IN ('failed', 'cancelled') THEN '{key,gone}'::text[] ELSE '{gone}' END);
    DELETE FROM pgsync_itsm.run_keys AS k WHERE k.run_id = run_id;
    -- The keys of a change run that did not go through are not forgotten: one plan in full finds what they were about; if that
    -- fails, too, the next one does.
    UPDATE @extschema@.integration_connections AS c SET full_plan_after = pg_current_snapshot()
      FROM @extschema@.integration_runs AS r
     WHERE r.id = run_id AND c.id = r.connection_id AND r.origin = 'on_change' AND (r.partial AND status = 'cancelled' OR status = 'failed');
    PERFORM pgsync_itsm.purge();
END
$$;
COMMENT ON FUNCTION pgsync_itsm.finish_run(bigint, text) IS 'Ends a run: counts, steps, and the work space it leaves';

CREATE FUNCTION pgsync_itsm.worker_ready() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN pgsync_itsm.is_adopted();
COMMENT ON FUNCTION pgsync_itsm.worker_ready() IS 'May this database push: false in a copy until itsm_adopt()';

-- For what ends a plan from outside.  Who holds its row, or the connection's, is not waited for.
CREATE FUNCTION pgsync_itsm.fail_free_run(run_id bigint, sqlstate text, message text, hint text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    connection uuid := (SELECT r.connection_id FROM @extschema@.integration_runs AS r WHERE r.id = fail_free_run.run_id);
BEGIN
    IF NOT pgsync_itsm.is_free(connection, run_id) THEN
        RETURN false;
    END IF;
    PERFORM pgsync_itsm.fail_run(run_id, sqlstate, message, hint);
    RETURN true;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.fail_free_run(bigint, text, text, text) IS 'Fails a run, unless somebody holds its row or its connection''s: then false, and nothing is changed';

CREATE FUNCTION pgsync_itsm.next_plan(slow boolean, after bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.id, x.connection_id FROM @extschema@.integration_runs AS x JOIN @extschema@.integration_connections AS c ON c.id = x.connection_id
              WHERE x.status = 'planning' AND (x.plan_lane IS NOT DISTINCT FROM 'slow') = next_plan.slow
                AND NOT pgsync_itsm.plan_open_lookups(x.id) AND NOT pgsync_itsm.is_planned(x.id)
                AND NOT pgsync_itsm.is_quiet(c.blackout_until, c.settings, x.origin)
              ORDER BY x.id <= next_plan.after, x.id LOOP
        IF pgsync_itsm.is_free(r.connection_id, r.id) THEN
            RETURN r.id;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.next_plan(boolean, bigint) IS
'A run whose plan can go on now, that no process is at and that nobody holds, of the slow ones or of the others; they take turns, so the one after a given run';

CREATE FUNCTION pgsync_itsm.move_plan(run_id bigint, slow boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.integration_runs AS r SET plan_lane = CASE WHEN slow THEN 'slow' ELSE 'planner' END
     WHERE r.id = (SELECT x.id FROM @extschema@.integration_runs AS x WHERE x.id = move_plan.run_id FOR NO KEY UPDATE SKIP LOCKED)
       AND r.status = 'planning' AND r.plan_lane IS DISTINCT FROM 'slow';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.move_plan(bigint, boolean) IS
'What was too slow for the worker is planned by the planner from then on; what was too slow for that, by the one for slow plans';

-- Turn ----------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.start_runs() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted uuid[] := ARRAY(SELECT c.id FROM @extschema@.integration_connections AS c
                            WHERE c.full_plan_after IS NOT NULL
                               OR EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.connection_id = c.id AND r.status = 'queued'));
    free uuid[];
    free_runs bigint[];
BEGIN
    IF wanted = '{}' THEN
        RETURN true;
    END IF;
    free := ARRAY(SELECT c.id FROM @extschema@.integration_connections AS c WHERE c.id = ANY (wanted) ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED);
    free_runs := ARRAY(SELECT r.id FROM @extschema@.integration_runs AS r WHERE r.connection_id = ANY (free) AND r.status = 'queued' ORDER BY r.id FOR UPDATE SKIP LOCKED);
    -- Before a connection's first publish nothing is sent by itself; that publish reads everything anyway.
    IF free_runs <> '{}' THEN
        WITH gone AS (
            DELETE FROM @extschema@.integration_runs AS r USING @extschema@.integration_connections AS c
             WHERE c.id = r.connection_id AND r.id = ANY (free_runs) AND r.status = 'queued' AND r.origin = 'on_change' AND c.first_publish_at IS NULL
               AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS o WHERE o.connection_id = r.connection_id AND o.status IN ('planning', 'running'))
            RETURNING r.id, r.connection_id
        ), noted AS (
            -- A pilot may have published it.  By key: this comes with every turn, and must not go through the map each time.
            UPDATE @extschema@.integration_sync_map AS m SET deleted_at = now()
             WHERE m.id = ANY (ARRAY(
                   SELECT n.id FROM gone AS g JOIN pgsync_itsm.run_keys AS k ON k.run_id = g.id AND k.deleted AND k.match_by = 'key'
                    CROSS JOIN LATERAL (SELECT x.id FROM @extschema@.integration_sync_map AS x
                                         WHERE x.connection_id = g.connection_id AND x.entity_type = k.entity_type
                                           AND x.entity_id = pgsync_itsm.entity_id(k.entity_type, k.key) AND x.deleted_at IS NULL OFFSET 0) AS n))
        ), forgotten AS (
            DELETE FROM pgsync_itsm.run_keys AS k WHERE k.run_id = ANY (ARRAY(SELECT g.id FROM gone AS g)))
        UPDATE @extschema@.integration_connections AS c SET full_plan_after = pg_current_snapshot()
          FROM gone AS g WHERE c.id = g.connection_id;
    END IF;
    -- What changed while settings or activation were being committed is found by one plan in full.  It waits for the
    -- transactions that the worker finds running when it first sees the change: they may not have seen it.
    UPDATE @extschema@.integration_connections AS c SET full_plan_for = c.full_plan_after, full_plan_from = pg_current_snapshot()
     WHERE c.id = ANY (free) AND c.full_plan_after IS NOT NULL AND c.full_plan_for::text IS DISTINCT FROM c.full_plan_after::text;
    WITH due AS (
        UPDATE @extschema@.integration_connections AS c SET full_plan_after = NULL, full_plan_for = NULL, full_plan_from = NULL
         WHERE c.id = ANY (free) AND c.full_plan_after IS NOT NULL AND c.is_active AND c.paused_at IS NULL AND c.sync_schedule = 'on_change'
           AND c.first_publish_at IS NOT NULL
           AND pg_snapshot_xmin(pg_current_snapshot()) >= pg_snapshot_xmax(c.full_plan_from)
           AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.connection_id = c.id AND r.status IN ('queued', 'planning', 'running') AND NOT r.partial)
           -- one that has just failed would fail again, unless something was brought through since
           AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.connection_id = c.id AND r.origin = 'on_change' AND r.status = 'failed'
                                 AND NOT r.partial AND r.finished_at > now() - interval '10 minutes'
                                 AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS o WHERE o.connection_id = c.id AND o.id > r.id AND o.status = 'done'))
        RETURNING c.id, c.namespace_id, c.owner),
    made AS (
        INSERT INTO @extschema@.integration_runs (namespace_id, connection_id, kind, origin, requested_by)
        SELECT d.namespace_id, d.id, 'publish', 'on_change', d.owner FROM due AS d
        RETURNING id)
    SELECT free_runs || array_agg(m.id) INTO free_runs FROM made AS m;
    UPDATE @extschema@.integration_runs AS r SET status = 'planning', phase = CASE WHEN r.phase IN ('recheck', 'decided') THEN r.phase ELSE 'queued' END
      FROM (SELECT DISTINCT ON (q.connection_id) q.id
              FROM @extschema@.integration_runs AS q
              JOIN @extschema@.integration_connections AS c ON c.id = q.connection_id AND c.is_active AND c.paused_at IS NULL
             WHERE q.status = 'queued' AND NOT pgsync_itsm.is_quiet(c.blackout_until, c.settings, q.origin)
               AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS o WHERE o.connection_id = q.connection_id AND o.status IN ('planning', 'running'))
             ORDER BY q.connection_id, q.origin <> 'call', q.id) AS n
     -- one that somebody holds keeps its turn
     WHERE r.id = n.id AND r.id = ANY (free_runs);
    RETURN cardinality(free) = cardinality(wanted)
           AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r
                            WHERE r.connection_id = ANY (free) AND r.status = 'queued' AND r.id <> ALL (free_runs) AND r.created_at < now());
END
$$;
COMMENT ON FUNCTION pgsync_itsm.start_runs() IS 'One run at a time per connection; a hand-started one goes first. False: somebody holds the row of one that could begin';

CREATE FUNCTION pgsync_itsm.advance_run(run_id bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r @extschema@.integration_runs;
    failed boolean;
BEGIN
    SELECT * INTO r FROM @extschema@.integration_runs AS x WHERE x.id = run_id FOR UPDATE;
    -- Somebody may have queued dead items again while this waited for the row.
    IF r.status <> 'running' OR EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = r.id AND i.state = 'pending') THEN
        RETURN;
    END IF;
    -- What was asked may have been lost in a crash: then it is asked again.
    IF (r.phase = 'apply' OR NOT EXISTS (SELECT FROM pgsync_itsm.plan_spaces AS s WHERE s.run_id = r.id)) AND pgsync_itsm.setting(r.connection_id, 'verify') = 'true' THEN
        INSERT INTO pgsync_itsm.plan_spaces (run_id) VALUES (r.id) ON CONFLICT DO NOTHING;
        PERFORM pgsync_itsm.ask_read_back(r, false);
        UPDATE @extschema@.integration_runs AS x SET phase = 'verify' WHERE x.id = r.id;
        IF pgsync_itsm.plan_open_lookups(r.id) THEN
            RETURN;
        END IF;
    END IF;
    UPDATE @extschema@.integration_sync_map AS m SET last_sync_hash = NULL
      FROM pgsync_itsm.lookups AS l, unnest(l.keys) AS k(key)
     WHERE l.run_id = r.id AND l.kind = 'record' AND l.state = 'failed' AND m.connection_id = r.connection_id AND m.external_id = k.key AND m.parent_id IS NULL;
    PERFORM pgsync_itsm.finish_run(r.id, 'done');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.advance_run(bigint) IS 'A run with nothing left to send reads back what it wrote, then ends';

-- Values that we sent and that are not there: another source's, read-only, dropped.  Not an error, but named.  Done as the
-- answers come, a request's worth at a time, so that the end of a large run holds up nobody else's.
CREATE FUNCTION pgsync_itsm.compare_taken(run_id bigint, connection_id uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- From the answers to the map to the items, by key: this plan is made once, whatever the tables held then.
    WITH shown AS MATERIALIZED (
        SELECT m.id AS map_id, i.id AS item_id, i.payload, x.attrs, i.action = 'CREATE' AS created
          FROM pgsync_itsm.lookup_rows AS x
         CROSS JOIN LATERAL (SELECT n.id, n.entity_type, n.entity_id FROM @extschema@.integration_sync_map AS n
                              WHERE n.connection_id IS NOT DISTINCT FROM compare_taken.connection_id AND n.external_id = x.key AND n.parent_id IS NULL OFFSET 0) AS m
         CROSS JOIN LATERAL (SELECT o.id, o.payload, o.action FROM @extschema@.integration_run_items AS o
                              WHERE o.run_id = compare_taken.run_id AND o.entity_type = m.entity_type AND o.entity_id = m.entity_id
                                AND o.action IN ('CREATE', 'UPDATE') AND o.state || '' IN ('done', 'unchanged') AND o.payload IS NOT NULL OFFSET 0) AS i
         WHERE x.run_id = compare_taken.run_id AND x.kind = 'record'
    ), taken AS MATERIALIZED (
        SELECT s.map_id, s.item_id, d.missing, s.attrs ->> 'number' AS number, n.unfilled
          FROM shown AS s
          -- what was made there, and has nothing in a field on either side: that is agreed, too
          LEFT JOIN LATERAL (
               SELECT json_object_agg(w.field, '') AS unfilled FROM json_each_text(s.attrs) AS w(field, value)
                WHERE s.created AND (SELECT c.sync_direction <> 'publish' FROM @extschema@.integration_connections AS c WHERE c.id = compare_taken.connection_id)
                  AND w.value = '' AND coalesce(s.payload ->> w.field, '') = '' AND w.field <> 'number'
               HAVING count(*) > 0) AS n ON true
          -- most are as they were sent, which is seen at one glance
         CROSS JOIN LATERAL (
               SELECT jsonb_object_agg(v.field, v.value) AS missing
                 FROM json_each_text(s.attrs) AS w(field, value)
                 JOIN json_each_text(s.payload) AS v(field, value) ON v.field = w.field
                WHERE NOT s.attrs::jsonb @> s.payload::jsonb AND NOT starts_with(v.field, '_')
                  AND rtrim(replace(coalesce(w.value, ''), E'\r\n', E'\n')) <> rtrim(replace(coalesce(v.value, ''), E'\r\n', E'\n'))) AS d
    ), marked AS (
        UPDATE @extschema@.integration_run_items AS i
           SET warnings = coalesce(i.warnings, '[]') || (SELECT jsonb_agg(f || ': was not taken there' ORDER BY f) FROM jsonb_object_keys(t.missing) AS f)
          FROM taken AS t WHERE i.id = t.item_id AND t.missing IS NOT NULL
    )
    UPDATE @extschema@.integration_sync_map AS m
       SET external_number = coalesce(nullif(t.number, ''), m.external_number),
           not_taken = t.missing,
           last_agreed = pgsync_itsm.merged(t.unfilled, CASE WHEN t.missing IS NULL THEN m.last_agreed
                              ELSE (SELECT json_object_agg(v.field, v.value) FROM json_each_text(m.last_agreed) AS v(field, value) WHERE NOT t.missing ? v.field) END),
           last_sync_hash = CASE WHEN t.missing IS NULL THEN m.last_sync_hash
                                 ELSE pgsync_itsm.content_hash((SELECT json_object_agg(v.field, v.value)::text FROM json_each_text(m.last_agreed) AS v(field, value) WHERE NOT t.missing ? v.field)) END
      FROM taken AS t
     WHERE m.id = t.map_id AND (t.missing IS NOT NULL OR t.unfilled IS NOT NULL OR m.not_taken IS NOT NULL OR t.number IS DISTINCT FROM m.external_number);
    DELETE FROM pgsync_itsm.lookup_rows AS x WHERE x.run_id = compare_taken.run_id AND x.kind = 'record';
END;
COMMENT ON FUNCTION pgsync_itsm.compare_taken(bigint, uuid) IS 'Compares what was read back with what was sent; differences become warnings and are not agreed';

-- What is on the wire when a run is cancelled gets a moment to be answered: an answer that is heard needs no look-up later.
CREATE FUNCTION pgsync_itsm.cancel_runs() RETURNS TABLE (run_id bigint, due timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.id, x.connection_id, x.cancel_by FROM @extschema@.integration_runs AS x
              WHERE x.cancel_requested AND x.status IN ('queued', 'planning', 'running') LOOP
        IF NOT pgsync_itsm.is_free(r.connection_id, r.id) THEN
            RETURN QUERY SELECT r.id, clock_timestamp() + interval '1 second';
            CONTINUE;
        END IF;
        UPDATE @extschema@.integration_run_items AS i SET state = 'cancelled', updated_at = now()
         WHERE i.run_id = r.id AND i.state IN ('planned', 'pending') AND i.id NOT IN (SELECT pgsync_itsm.on_wire(r.id));
        IF coalesce(r.cancel_by, '-infinity') <= clock_timestamp() OR NOT EXISTS (SELECT FROM pgsync_itsm.claims AS c WHERE c.run_id = r.id) THEN
            PERFORM pgsync_itsm.finish_run(r.id, 'cancelled');
            r.cancel_by := NULL;
        END IF;
        RETURN QUERY SELECT r.id, r.cancel_by;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.cancel_runs() IS 'Ends the runs that were asked to end, and says which; due: until then what is on the wire may be answered, NULL: it is over';

CREATE FUNCTION pgsync_itsm.turn(leases boolean) RETURNS TABLE (what text, connection_id uuid, run_id bigint, due timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r record;
    all_free boolean := true;
BEGIN
    PERFORM pgsync_itsm.collect();
    PERFORM pgsync_itsm.cancel_gone();
    PERFORM pgsync_itsm.run_schedules();
    RETURN QUERY SELECT 'cancel', NULL::uuid, c.run_id, c.due FROM pgsync_itsm.cancel_runs() AS c;
    -- A lease that ran out belongs to nobody any more.  That is looked for seldom: what a worker leaves behind is taken over
    -- by the next one, and while something is on the wire, its owner is this process.
    IF leases THEN
        PERFORM pgsync_itsm.end_claims('interrupted', ARRAY(SELECT c.id FROM pgsync_itsm.claims AS c
                                                             WHERE c.lease_until < now() AND pgsync_itsm.is_free(c.connection_id, c.run_id)));
    END IF;
    FOR r IN SELECT x.id, x.connection_id FROM @extschema@.integration_runs AS x
              JOIN @extschema@.integration_connections AS c ON c.id = x.connection_id AND c.is_active AND c.paused_at IS NULL
              WHERE x.status = 'running' AND NOT x.cancel_requested AND NOT pgsync_itsm.plan_open_lookups(x.id)
                -- with LIMIT, a look at one item of each run, however the planner thinks of joins
                AND NOT EXISTS (SELECT FROM pgsync_itsm.claims AS o WHERE o.run_id = x.id)
                AND (SELECT true FROM @extschema@.integration_run_items AS i WHERE i.run_id = x.id AND i.state = 'pending' LIMIT 1) IS NULL LOOP
        IF pgsync_itsm.is_free(r.connection_id, r.id) THEN
            PERFORM pgsync_itsm.advance_run(r.id);
        ELSE
            all_free := false;
        END IF;
    END LOOP;
    all_free := pgsync_itsm.start_runs() AND all_free;
    FOR r IN SELECT x.id, x.connection_id,
                    CASE WHEN x.plan_lane = 'slow' THEN 'plan_slow' WHEN x.plan_lane IS NULL AND pgsync_itsm.plan_is_small(x) THEN 'plan_here' ELSE 'plan' END AS what
               FROM @extschema@.integration_runs AS x JOIN @extschema@.integration_connections AS c ON c.id = x.connection_id
              -- the planner that is at one says when it leaves it
              WHERE x.status = 'planning' AND NOT pgsync_itsm.is_planned(x.id) AND NOT pgsync_itsm.plan_open_lookups(x.id)
                AND NOT pgsync_itsm.is_quiet(c.blackout_until, c.settings, x.origin)
              ORDER BY x.id LOOP
        IF pgsync_itsm.is_free(r.connection_id, r.id) THEN
            RETURN QUERY SELECT r.what, r.connection_id, r.id, NULL::timestamptz;
        ELSE
            all_free := false;
        END IF;
    END LOOP;
    RETURN QUERY
        SELECT DISTINCT 'lookup', l.connection_id, NULL::bigint, NULL::timestamptz
          FROM pgsync_itsm.lookups AS l JOIN @extschema@.integration_connections AS c ON c.id = l.connection_id AND c.is_active AND c.paused_at IS NULL
         WHERE l.state = 'pending' AND coalesce(l.not_before, '-infinity') <= now()
           AND (c.blackout_until IS NULL
                OR NOT EXISTS (SELECT FROM @extschema@.integration_runs AS q WHERE q.id = l.run_id AND pgsync_itsm.is_quiet(c.blackout_until, c.settings, q.origin)))
        UNION ALL
        SELECT 'write', x.connection_id, x.id, NULL
          FROM @extschema@.integration_runs AS x JOIN @extschema@.integration_connections AS c ON c.id = x.connection_id AND c.is_active AND c.paused_at IS NULL
         WHERE x.status = 'running' AND NOT x.cancel_requested AND pgsync_itsm.has_unclaimed(x.id) AND NOT pgsync_itsm.is_quiet(c.blackout_until, c.settings, x.origin)
        UNION ALL
        SELECT 'sleep', NULL, NULL, min(d.due)
          FROM (SELECT min(i.not_before) FROM @extschema@.integration_run_items AS i WHERE i.state = 'pending' AND i.not_before > now()
                UNION ALL SELECT min(l.not_before) FROM pgsync_itsm.lookups AS l WHERE l.state = 'pending' AND l.not_before > now()
                UNION ALL SELECT min(x.cancel_by) FROM @extschema@.integration_runs AS x WHERE x.cancel_requested AND x.status IN ('queued', 'planning', 'running')
                UNION ALL SELECT now() + interval '1 second' FROM @extschema@.integration_connections AS c
                           WHERE c.full_plan_after IS NOT NULL AND c.is_active AND c.paused_at IS NULL AND c.sync_schedule = 'on_change' AND c.first_publish_at IS NOT NULL
                UNION ALL SELECT clock_timestamp() + interval '1 second' WHERE NOT all_free
                UNION ALL SELECT min(c.look_at) FROM @extschema@.integration_connections AS c WHERE c.is_active AND c.paused_at IS NULL
                UNION ALL SELECT pgsync_itsm.queue_due()) AS d(due)
        HAVING min(d.due) IS NOT NULL;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.turn(boolean) IS 'What the worker has to do now, and when it has to look again; leases: those that ran out end';

-- Claim ---------------------------------------------------------------------------------------------

-- Companies come before everything that may name them.  Where an application travels with its relationships, what
-- these point at has to be there first: it is waited for until it was tried once, not until it succeeds.
CREATE FUNCTION pgsync_itsm.barrier(run_id bigint, bundled boolean) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    open bigint;
    free integer := 1000;
BEGIN
    -- What is undone goes one entity type after another.
    IF (SELECT r.kind = 'rollback' FROM @extschema@.integration_runs AS r WHERE r.id = run_id) THEN
        RETURN coalesce((SELECT i.ord + 1 FROM @extschema@.integration_run_items AS i
                          WHERE i.run_id = run_id AND i.state = 'pending' ORDER BY i.id LIMIT 1), 1000);
    END IF;
    -- Records that were deleted here go when all else is through, one entity type after another, too.
    IF EXISTS (SELECT FROM @extschema@.integration_run_steps AS s WHERE s.run_id = run_id AND s.ord > 800) THEN
        free := (SELECT CASE WHEN min(i.ord) < 800 THEN 800 ELSE min(i.ord) + 1 END FROM @extschema@.integration_run_items AS i
                  WHERE i.run_id = run_id AND i.state = 'pending');
    END IF;
    SELECT sum(s.total - s.done - s.failed - s.skipped) INTO open
      FROM @extschema@.integration_run_steps AS s WHERE s.run_id = run_id AND s.ord < 70;
    IF coalesce(open, 0) <= 0 THEN
        RETURN coalesce(free, 1000);
    END IF;
    -- Items are numbered in the order of sending, so that the first open ones are those of the first steps.
    IF (SELECT i.ord <= 20 FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = run_id AND i.state = 'pending' ORDER BY i.id LIMIT 1) THEN
        RETURN 21;
    END IF;
    IF bundled AND (SELECT true FROM (SELECT i.id, i.ord, i.attempts, i.action FROM @extschema@.integration_run_items AS i
                                       WHERE i.run_id = run_id AND i.state = 'pending' ORDER BY i.id LIMIT open) AS f
                     WHERE f.ord < 70 AND f.action <> 'CLEAR' AND (f.attempts = 0 OR f.id IN (SELECT pgsync_itsm.on_wire(run_id))) LIMIT 1) THEN
        RETURN 70;
    END IF;
    RETURN coalesce(free, 1000);
END
$$;
COMMENT ON FUNCTION pgsync_itsm.barrier(bigint, boolean) IS 'Items of this order and above wait: those of a run that everything else needs are not through yet';

-- Items that could be sent now.  Relationships wait for the map entries of both ends, not for a whole step;
-- two requests never write one record at a time.
CREATE FUNCTION pgsync_itsm.next_batch(connection_id uuid, bundled boolean, after bigint, front boolean)
RETURNS TABLE (run_id bigint, step text, entity_type text, action text, in_doubt boolean, item_id bigint, in_front boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    r record;
    barrier integer;
BEGIN
    -- Unless something in front of what is on the wire came back, what is behind it comes first: nothing else has to be looked at.
    FOR r IN SELECT x.id, w.last_item, b.behind FROM @extschema@.integration_runs AS x
              CROSS JOIN LATERAL (SELECT coalesce(max(c.last_item), 0) AS last_item FROM pgsync_itsm.claims AS c WHERE c.run_id = x.id) AS w
              CROSS JOIN LATERAL (VALUES (1, greatest(w.last_item, $3)), (2, $3)) AS b(ord, behind)
              WHERE x.connection_id = $1 AND x.status = 'running' AND NOT x.cancel_requested
                AND NOT (SELECT pgsync_itsm.is_quiet(k.blackout_until, k.settings, x.origin) FROM @extschema@.integration_connections AS k WHERE k.id = x.connection_id)
                AND CASE b.ord WHEN 1 THEN NOT front ELSE front OR b.behind < w.last_item END
              ORDER BY x.id, b.ord LOOP
        barrier := pgsync_itsm.barrier(r.id, bundled);
        RETURN QUERY SELECT i.run_id, i.step, i.entity_type, i.action, i.in_doubt, i.id, i.id < r.last_item
          FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = r.id AND i.id > r.behind AND i.state = 'pending' AND i.ord < barrier
           AND i.id NOT IN (SELECT unnest(c.item_ids) FROM pgsync_itsm.claims AS c WHERE c.run_id = r.id AND c.last_item > r.behind)
           AND coalesce(i.not_before, '-infinity') <= now()
           AND (i.parent_id IS NULL OR i.action = 'DELETE'
                -- one at a time, whatever the planner thinks of how many will be asked for
                OR (SELECT true FROM @extschema@.integration_sync_map AS p WHERE p.connection_id = $1 AND p.entity_type = i.parent_type AND p.entity_id = i.parent_id LIMIT 1)
               AND (SELECT true FROM @extschema@.integration_sync_map AS c WHERE c.connection_id = $1 AND c.entity_type = i.child_type AND c.entity_id = i.child_id LIMIT 1))
           AND (i.action <> 'CLEAR' OR NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o WHERE o.run_id = i.run_id AND o.entity_type = i.entity_type
                                                      AND o.entity_id = i.entity_id AND o.action <> i.action AND o.state || '' = 'pending'))
         ORDER BY i.id
         LIMIT 1;
        IF FOUND THEN
            RETURN;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.next_batch(uuid, boolean, bigint, boolean) IS
'Which kind of items of a connection, behind a given one, can be claimed next; front: also in front of what is on the wire, where what came back waits';

CREATE FUNCTION pgsync_itsm.fill_companies(connection_id uuid, payload json) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN payload::text NOT LIKE '%"@company/%' THEN payload ELSE
    (SELECT json_object_agg(v.field, coalesce(m.external_id, v.value) ORDER BY v.ord) FILTER (WHERE v.value NOT LIKE '@company/%' OR m.external_id IS NOT NULL)
       FROM json_each_text(payload) WITH ORDINALITY AS v(field, value, ord)
       LEFT JOIN @extschema@.integration_sync_map AS m ON v.value LIKE '@company/%' AND m.connection_id = fill_companies.connection_id
        AND m.entity_type = 'company' AND '@company/' || m.entity_id = v.value) END;
COMMENT ON FUNCTION pgsync_itsm.fill_companies(uuid, json) IS 'Puts the ids of companies that this run made into a payload that was waiting for them';

CREATE FUNCTION pgsync_itsm.claim(connection_id uuid, wanted_run bigint, wanted_kinds text[], doubtful boolean, ends_inside boolean, bundled boolean,
                                  max_records integer, max_items integer, lease_seconds integer, repeatable boolean, after bigint, one_parent boolean DEFAULT false)
RETURNS TABLE (item_id bigint, claim_id bigint, step text, entity_type text, entity_id uuid, action text, native_key text, external_id text,
               external_table text, payload text, parent_type text, parent_id uuid, parent_external_id text, parent_table text,
               child_type text, child_id uuid, child_external_id text, child_table text, rel_type text, rel_type_id text, bundle bigint,
               attempts integer, in_doubt boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    barrier integer;
    only_parent uuid;
    first_item bigint;
BEGIN
    -- Whoever claims sees the claims of everybody before, and nobody ends the run meanwhile.
    PERFORM FROM @extschema@.integration_runs AS r WHERE r.id = $2 AND r.status = 'running' AND NOT r.cancel_requested
        AND EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id AND c.is_active) FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    barrier := pgsync_itsm.barrier($2, bundled);
    -- Where a request reads and writes the parent: the first one that can go, and nothing of it is on the wire.
    IF one_parent THEN
        SELECT i.id, i.parent_id INTO first_item, only_parent FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = $2 AND i.id > $11 AND i.state = 'pending' AND i.ord < barrier AND i.entity_type || ' ' || i.action = ANY ($3) AND i.in_doubt = $4
           AND coalesce(i.not_before, '-infinity') <= now() AND pgsync_itsm.parent_is_free(i)
         ORDER BY i.id LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    -- Whatever the planner thinks of how many these are, there are thousands: they meet by hash (IN) or by key.
    RETURN QUERY
    WITH counted AS MATERIALIZED (
        SELECT a.*, count(*) FILTER (WHERE a.is_record) OVER (ORDER BY a.id) AS records FROM (
        SELECT i.id, i.parent_id IS NULL AS is_record, i.step, i.action, i.entity_type, i.entity_id, i.native_key, i.external_id, i.external_table,
               CASE WHEN i.parent_id IS NULL THEN i.payload END AS payload, i.parent_type, i.parent_id, i.child_type, i.child_id,
               i.rel_type, i.rel_type_id, i.bundle, i.attempts
          FROM @extschema@.integration_run_items AS i
         WHERE i.run_id = $2 AND i.id > $11 AND i.state = 'pending' AND i.ord < barrier AND i.entity_type || ' ' || i.action = ANY ($3) AND i.in_doubt = $4
           AND i.id NOT IN (SELECT unnest(o.item_ids) FROM pgsync_itsm.claims AS o WHERE o.run_id = $2 AND o.last_item > $11)
           AND coalesce(i.not_before, '-infinity') <= now()
           AND (i.action <> 'CLEAR' OR NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS o WHERE o.run_id = i.run_id AND o.entity_type = i.entity_type
                                                      AND o.entity_id = i.entity_id AND o.action <> i.action AND o.state || '' = 'pending'))
           -- relationships of one parent are neighbours
           AND (NOT $12 OR i.parent_id = only_parent AND i.id < first_item + 10 * $8 AND pgsync_itsm.parent_is_free(i))
         ORDER BY i.id
         LIMIT $8) AS a
    ), inside AS MATERIALIZED (
        -- what is made by this very request can be an end of its relationships
        SELECT c.entity_type, c.entity_id FROM counted AS c WHERE $5 AND c.is_record AND c.records <= $7
    ), picked AS MATERIALIZED (
        SELECT c.*, p.external_id AS parent_external_id, p.external_table AS parent_table, e.external_id AS child_external_id, e.external_table AS child_table
          FROM counted AS c
          LEFT JOIN LATERAL (SELECT m.external_id, m.external_table FROM @extschema@.integration_sync_map AS m
                              WHERE m.connection_id = $1 AND m.entity_type = c.parent_type AND m.entity_id = c.parent_id LIMIT 1) AS p ON true
          LEFT JOIN LATERAL (SELECT m.external_id, m.external_table FROM @extschema@.integration_sync_map AS m
                              WHERE m.connection_id = $1 AND m.entity_type = c.child_type AND m.entity_id = c.child_id LIMIT 1) AS e ON true
         WHERE c.records <= $7
           AND (c.is_record OR c.action = 'DELETE'
                OR (p.external_id IS NOT NULL OR (c.parent_type, c.parent_id) IN (SELECT n.entity_type, n.entity_id FROM inside AS n))
               AND (e.external_id IS NOT NULL OR (c.child_type, c.child_id) IN (SELECT n.entity_type, n.entity_id FROM inside AS n)))
    ), claimed AS (
        INSERT INTO pgsync_itsm.claims (run_id, connection_id, item_ids, last_item, repeatable, lease_until)
        SELECT $2, $1, array_agg(k.id), max(k.id), $10, now() + make_interval(secs => $9) FROM picked AS k HAVING count(*) > 0
        RETURNING id
    ), filled AS (
        UPDATE @extschema@.integration_run_items AS i
           SET payload = f.payload,
               payload_hash = pgsync_itsm.content_hash(f.payload::text || '|' || coalesce(i.external_table, '') || '|' || pgsync_itsm.mapping_version($1, i.entity_type))
          FROM (SELECT k.id, pgsync_itsm.fill_companies($1, k.payload) AS payload FROM picked AS k WHERE k.payload::text LIKE '%"@company/%') AS f
         WHERE i.id = f.id
        RETURNING i.id, i.payload
    ), started AS (
        UPDATE @extschema@.integration_run_steps AS s SET status = 'running', started_at = coalesce(s.started_at, now())
         WHERE s.run_id = $2 AND s.status = 'waiting' AND s.step = ANY (ARRAY(SELECT DISTINCT k.step FROM picked AS k))
    )
    SELECT k.id, c.id, k.step, k.entity_type, k.entity_id, k.action, k.native_key, k.external_id, k.external_table, coalesce(f.payload, k.payload)::text,
           k.parent_type, k.parent_id, k.parent_external_id, k.parent_table, k.child_type, k.child_id, k.child_external_id, k.child_table,
           k.rel_type, k.rel_type_id, coalesce(k.bundle, 0), k.attempts + 1, $4
      FROM claimed AS c CROSS JOIN picked AS k LEFT JOIN filled AS f ON f.id = k.id
     ORDER BY k.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.claim(uuid, bigint, text[], boolean, boolean, boolean, integer, integer, integer, boolean, bigint, boolean) IS
'Takes items that may share a request, behind a given one: a claim, which counts their attempt before the act and ends with its lease';

-- Settle ----------------------------------------------------------------------------------------------

CREATE FUNCTION pgsync_itsm.backoff(attempts integer, retry_after_s double precision) RETURNS interval
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN retry_after_s > 0 THEN make_interval(secs => least(retry_after_s, 3700))
            ELSE least(coalesce(nullif(current_setting('pgsync_itsm.retry_delay_max', true), ''), '60s')::interval,
                       coalesce(nullif(current_setting('pgsync_itsm.retry_delay', true), ''), '1s')::interval * power(2, least(greatest(attempts, 1) - 1, 20)))
                 * (0.5 + random()) END;
COMMENT ON FUNCTION pgsync_itsm.backoff(integer, double precision) IS 'How long to wait before the next attempt: pgsync_itsm.retry_delay, doubling up to retry_delay_max, half to one and a half of it, or what the platform asks for';

CREATE TYPE pgsync_itsm.answer AS (item_id bigint, outcome text, operation text, external_id text, external_table text,
    number text, error_class text, message text, not_taken jsonb, excerpt text, http_status integer, retry_after_s double precision,
    step text, action text, in_doubt boolean);
COMMENT ON TYPE pgsync_itsm.answer IS 'What the platform said of one item';

CREATE FUNCTION pgsync_itsm.settle(connection_id uuid, run_id bigint, item_ids bigint[], claim_ids bigint[], outcomes text[], operations text[],
    external_ids text[], external_tables text[], external_numbers text[], error_classes text[], messages text[], not_taken text[], excerpts text[],
    http_statuses integer[], retry_after_s double precision[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    -- of a connection that is gone: none
    ceiling integer := coalesce(pgsync_itsm.setting($1, 'max_attempts')::integer, 1);
    answers pgsync_itsm.answer[];
BEGIN
    -- Only what is still ours: an item is in one claim at the most, and not in this one any more if it was taken over.
    PERFORM FROM pgsync_itsm.claims AS c WHERE c.id = ANY ($4) FOR UPDATE;
    WITH held AS MATERIALIZED (
        SELECT c.id AS claim_id, c.repeatable, u.item_id FROM pgsync_itsm.claims AS c, unnest(c.item_ids) AS u(item_id)
         WHERE c.id = ANY ($4) AND c.run_id = $2
    ), mine AS MATERIALIZED (
        SELECT i.id, i.attempts + 1 AS attempts, i.external_id, i.external_table, i.step, i.action, i.in_doubt
          FROM @extschema@.integration_run_items AS i WHERE i.id = ANY ($3))
    SELECT array_agg(ROW(i.id, CASE WHEN a.outcome = 'retry' AND i.attempts >= ceiling THEN 'dead' ELSE a.outcome END,
                         a.operation, coalesce(a.external_id, i.external_id), coalesce(a.external_table, i.external_table), a.number,
                         a.error_class, left(a.message, 2000), a.not_taken::jsonb, a.excerpt, nullif(a.http_status, 0), a.retry_after_s, i.step, i.action,
                         i.action = 'CREATE' AND (i.in_doubt OR NOT h.repeatable))::pgsync_itsm.answer)
      INTO answers
      FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
           AS a(id, claim_id, outcome, operation, external_id, external_table, number, error_class, message, not_taken, excerpt, http_status, retry_after_s)
      JOIN held AS h ON h.claim_id = a.claim_id AND h.item_id = a.id
      JOIN mine AS i ON i.id = a.id;
    UPDATE pgsync_itsm.claims AS c
       SET item_ids = ARRAY(SELECT u FROM unnest(c.item_ids) AS u WHERE (c.id, u) NOT IN (SELECT s.claim_id, s.item_id FROM unnest($4, $3) AS s(claim_id, item_id)))
     WHERE c.id = ANY ($4);
    DELETE FROM pgsync_itsm.claims AS c WHERE c.id = ANY ($4) AND c.item_ids = '{}';
    PERFORM pgsync_itsm.settle_map($1, answers);
    PERFORM pgsync_itsm.settle_log($1, answers);
    UPDATE @extschema@.integration_run_items AS i
       SET state = CASE a.outcome WHEN 'done' THEN 'done' WHEN 'unchanged' THEN 'unchanged' WHEN 'dead' THEN 'dead' ELSE i.state END,
           attempts = CASE WHEN a.outcome IN ('release', 'again') THEN i.attempts ELSE i.attempts + 1 END,
           not_before = CASE WHEN a.outcome = 'retry' THEN now() + pgsync_itsm.backoff(i.attempts + 1, a.retry_after_s) END,
           in_doubt = CASE WHEN a.outcome IN ('retry', 'release', 'again') THEN a.in_doubt AND NOT (a.outcome = 'release' AND i.attempts = 0)
                           -- given up without having been heard of: the next run has to look for it
                           ELSE a.outcome = 'dead' AND a.in_doubt AND i.attempts + 1 >= ceiling END,
           unheard = i.unheard OR a.outcome IN ('retry', 'again'),
           outcome = a.outcome, operation = a.operation, external_id = a.external_id, external_table = a.external_table,
           error_class = a.error_class, reason = coalesce(a.message, CASE WHEN a.outcome IN ('done', 'unchanged') THEN i.reason END),
           http_status = a.http_status, updated_at = now(),
           warnings = CASE WHEN a.not_taken IS NULL THEN i.warnings
                           ELSE coalesce(i.warnings, '[]') || (SELECT jsonb_agg(f || ': was not taken there' ORDER BY f) FROM jsonb_object_keys(a.not_taken) AS f) END
      FROM unnest(answers) AS a WHERE i.id = a.item_id;
    UPDATE @extschema@.integration_run_steps AS s
       SET done = s.done + d.done, failed = s.failed + d.failed,
           status = CASE WHEN s.done + s.failed + s.skipped + d.done + d.failed >= s.total THEN 'done' ELSE s.status END,
           finished_at = CASE WHEN s.done + s.failed + s.skipped + d.done + d.failed >= s.total THEN now() END
      FROM (SELECT a.step, count(*) FILTER (WHERE a.outcome IN ('done', 'unchanged')) AS done, count(*) FILTER (WHERE a.outcome = 'dead') AS failed
              FROM unnest(answers) AS a GROUP BY a.step) AS d
     WHERE s.run_id = $2 AND s.step = d.step;
    IF EXISTS (SELECT FROM unnest(answers) AS a WHERE a.outcome = 'dead') THEN
        PERFORM pgsync_itsm.settle_blocked($2);
        PERFORM pgsync_itsm.settle_steps($2);
    END IF;
END
$$;

COMMENT ON FUNCTION pgsync_itsm.settle(uuid, bigint, bigint[], bigint[], text[], text[], text[], text[], text[], text[], text[], text[], text[], integer[], double precision[]) IS
'Writes down what became of a request''s items: items, map, log, counters; what a newer claim owns is left alone';

-- A payload has neither what is empty here nor what was left to the platform.  Without a base, what we cleared would come
-- back as their change, and a change of theirs back to what was read before would be none.
CREATE FUNCTION pgsync_itsm.still_agreed(before json, sent json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN sent IS NOT NULL AND before IS NOT NULL THEN pgsync_itsm.merged(before, sent) ELSE sent END;
COMMENT ON FUNCTION pgsync_itsm.still_agreed(json, json) IS 'What is agreed after an answer, where both sides are followed: what was sent, and of what was agreed before all else';

CREATE FUNCTION pgsync_itsm.settle_map(connection_id uuid, answers pgsync_itsm.answer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c @extschema@.integration_connections := (SELECT k FROM @extschema@.integration_connections AS k WHERE k.id = $1);
    -- What nobody reads back is not known to be there as it was sent.
    verify boolean := pgsync_itsm.setting($1, 'verify') = 'true';
    -- What is empty here, and was changed there before it could be cleared, is compared with what it was when that is read.
    two_way boolean := (SELECT c.sync_direction = 'both' FROM @extschema@.integration_connections AS c WHERE c.id = $1);
BEGIN
    INSERT INTO @extschema@.integration_sync_map AS m
        (connection_id, namespace_id, entity_type, entity_id, native_key, external_id, external_table, external_number, external_url, published_name,
         parent_id, child_id, rel_type, sync_direction, created_by_us, state, last_synced_at, last_sync_hash, last_sent_hash, last_agreed, not_taken,
         source_hash, source_version)
    SELECT i.connection_id, i.namespace_id, i.entity_type, i.entity_id, i.native_key, a.external_id, a.external_table, a.number,
           CASE WHEN i.parent_id IS NULL THEN pgsync_itsm.external_url(c.platform, c.instance_url, a.external_table, a.external_id) END,
           rtrim(CASE WHEN i.payload_hash = 'restored' THEN coalesce(i.payload ->> 'name', i.label) ELSE i.label END), i.parent_id, i.child_id, i.rel_type, 'published',
           -- what a plan did not find there, and an attempt that was not heard of has been sent for, is ours although it is there by now
           coalesce(a.operation = 'create', false) OR i.unheard AND i.action = 'CREATE', CASE WHEN i.payload_hash = 'retired' THEN 'retired' ELSE 'linked' END, now(),
           CASE WHEN i.parent_id IS NULL AND verify THEN pgsync_itsm.content_hash(g.agreed::text) END, i.payload_hash, g.agreed, a.not_taken,
           i.source_hash, i.source_version
      FROM unnest(settle_map.answers) AS a
      JOIN @extschema@.integration_run_items AS i ON i.id = a.item_id
     CROSS JOIN LATERAL (SELECT CASE WHEN a.not_taken IS NULL THEN i.payload
            ELSE (SELECT json_object_agg(v.field, v.value ORDER BY v.ord) FROM json_each_text(i.payload) WITH ORDINALITY AS v(field, value, ord) WHERE NOT a.not_taken ? v.field) END) AS s(sent)
     CROSS JOIN LATERAL (SELECT CASE WHEN NOT two_way THEN s.sent
            ELSE pgsync_itsm.still_agreed((SELECT o.last_agreed FROM @extschema@.integration_sync_map AS o
                                            WHERE o.connection_id = i.connection_id AND o.entity_type = i.entity_type AND o.entity_id = i.entity_id), s.sent) END) AS g(agreed)
     WHERE a.outcome IN ('done', 'unchanged') AND a.action IN ('CREATE', 'UPDATE') AND a.external_id IS NOT NULL
    ON CONFLICT (connection_id, entity_type, entity_id) DO UPDATE
       SET external_id = excluded.external_id, external_table = excluded.external_table,
           external_number = coalesce(excluded.external_number, m.external_number), external_url = excluded.external_url,
           published_name = excluded.published_name, rel_type = excluded.rel_type, state = excluded.state,
           -- a retirement that somebody has undone is not done again unasked
           deleted_at = CASE WHEN m.state <> 'retired' OR excluded.state = 'retired' THEN m.deleted_at END,
           created_by_us = m.created_by_us OR excluded.created_by_us, last_synced_at = excluded.last_synced_at,
           -- what a rollback, a retirement or a confirmation wrote is some of the values only
           last_sync_hash = CASE WHEN excluded.last_sync_hash IS NOT NULL AND (excluded.last_sent_hash IN ('restored', 'retired') OR excluded.last_sent_hash = m.last_sent_hash) THEN pgsync_itsm.content_hash(pgsync_itsm.merged(m.last_agreed, excluded.last_agreed)::text)
                                 ELSE excluded.last_sync_hash END,
           last_sent_hash = excluded.last_sent_hash,
           last_agreed = CASE WHEN excluded.last_sent_hash IN ('restored', 'retired') OR excluded.last_sent_hash = m.last_sent_hash THEN pgsync_itsm.merged(m.last_agreed, excluded.last_agreed) ELSE excluded.last_agreed END,
           not_taken = excluded.not_taken,
           source_hash = excluded.source_hash, source_version = excluded.source_version;
    IF EXISTS (SELECT FROM unnest(settle_map.answers) AS a WHERE a.action NOT IN ('CREATE', 'UPDATE')) THEN
        UPDATE @extschema@.integration_sync_map AS m
           SET last_synced_at = now(), last_sent_hash = coalesce(i.payload_hash, m.last_sent_hash),
               source_hash = CASE WHEN i.payload_hash IS NULL THEN m.source_hash END, source_version = CASE WHEN i.payload_hash IS NULL THEN m.source_version END,
               -- where nothing is read, what a publish cleared is not known to be so
               last_agreed = CASE WHEN i.payload_hash IS NULL AND NOT two_way THEN m.last_agreed ELSE pgsync_itsm.merged(m.last_agreed, i.payload) END
          FROM unnest(settle_map.answers) AS a JOIN @extschema@.integration_run_items AS i ON i.id = a.item_id
         WHERE a.outcome = 'done' AND i.action = 'CLEAR' AND m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id;
        DELETE FROM @extschema@.integration_sync_map AS m USING unnest(settle_map.answers) AS a, @extschema@.integration_run_items AS i
         WHERE i.id = a.item_id AND a.outcome IN ('done', 'unchanged') AND i.action = 'DELETE'
           AND m.connection_id = i.connection_id AND m.entity_type = i.entity_type AND m.entity_id = i.entity_id;
        -- what is gone there is no reference any more
        DELETE FROM @extschema@.integration_references AS r USING unnest(settle_map.answers) AS a, @extschema@.integration_run_items AS i
         WHERE i.id = a.item_id AND a.outcome IN ('done', 'unchanged') AND i.action = 'DELETE' AND i.entity_type IN ('company', 'contact', 'it_service')
           AND r.connection_id = i.connection_id AND r.kind IN ('company', 'user', 'name') AND r.external_id = i.external_id;
    END IF;
    IF EXISTS (SELECT FROM unnest(settle_map.answers) AS a WHERE a.step = '0a' AND a.action <> 'DELETE') THEN
        INSERT INTO @extschema@.integration_references AS r (connection_id, namespace_id, kind, target, key, external_id, external_table, label, matches)
        SELECT DISTINCT ON (lower(i.label)) i.connection_id, i.namespace_id, 'company', '', lower(i.label), a.external_id, a.external_table, i.label, 1
          FROM unnest(settle_map.answers) AS a JOIN @extschema@.integration_run_items AS i ON i.id = a.item_id
         WHERE i.entity_type = 'company' AND i.action <> 'DELETE' AND a.outcome IN ('done', 'unchanged') AND a.external_id IS NOT NULL
        ON CONFLICT (connection_id, kind, target, key) DO UPDATE
           SET external_id = excluded.external_id, external_table = excluded.external_table, matches = 1, fetched_at = now();
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.settle_map(uuid, pgsync_itsm.answer[]) IS 'The map after an answer: what is agreed now, and which record there is ours';

CREATE FUNCTION pgsync_itsm.settle_log(connection_id uuid, answers pgsync_itsm.answer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO @extschema@.integration_sync_log
        (connection_id, namespace_id, run_id, item_id, operation, entity_type, entity_id, external_id, status,
         request_payload, response_payload, error_class, error_message, http_status)
    SELECT i.connection_id, i.namespace_id, i.run_id, i.id,
           coalesce(nullif(a.operation, 'unchanged'), CASE WHEN a.outcome = 'unchanged' THEN 'read' WHEN i.action = 'CREATE' THEN 'create' WHEN i.action = 'DELETE' THEN 'delete' ELSE 'update' END),
           i.entity_type, i.entity_id, a.external_id,
           CASE WHEN a.outcome IN ('done', 'unchanged') THEN 'success' ELSE 'error' END,
           CASE WHEN i.parent_id IS NULL THEN CASE WHEN i.action = 'DELETE' THEN i.old_values ELSE i.payload END
                ELSE json_build_object('parent', i.parent_id, 'child', i.child_id, 'type', i.rel_type) END,
           a.excerpt::json,
           a.error_class, a.message, a.http_status
      FROM unnest(settle_log.answers) AS a JOIN @extschema@.integration_run_items AS i ON i.id = a.item_id
     WHERE a.outcome IN ('done', 'unchanged', 'dead', 'retry');
END
$$;
COMMENT ON FUNCTION pgsync_itsm.settle_log(uuid, pgsync_itsm.answer[]) IS 'One log row an item and answer';

-- Who needs a dead item is skipped, the blocker named; everything else goes on.
CREATE FUNCTION pgsync_itsm.settle_blocked(run_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = format('its %s "%s" could not be published: %s', replace(d.entity_type, '_', ' '), left(d.label, 80), left(d.reason, 200)), updated_at = now()
      FROM @extschema@.integration_run_items AS d
     WHERE i.run_id = settle_blocked.run_id AND i.state = 'pending' AND i.parent_id IS NOT NULL AND i.action = 'CREATE'
       AND i.id NOT IN (SELECT pgsync_itsm.on_wire(settle_blocked.run_id))
       AND d.run_id = i.run_id AND d.state = 'dead'
       AND ((d.entity_type = i.parent_type AND d.entity_id = i.parent_id) OR (d.entity_type = i.child_type AND d.entity_id = i.child_id))
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = d.connection_id AND m.entity_type = d.entity_type AND m.entity_id = d.entity_id);
    -- A contract without its vendor is none.
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = format('its vendor "%s" could not be published: %s', left(d.label, 80), left(d.reason, 200)), updated_at = now()
      FROM @extschema@.integration_run_items AS d
     WHERE d.run_id = settle_blocked.run_id AND d.entity_type = 'company' AND d.action = 'CREATE' AND d.state IN ('dead', 'refused')
       AND i.run_id = d.run_id AND i.entity_type = 'contract' AND i.state = 'pending' AND i.id NOT IN (SELECT pgsync_itsm.on_wire(settle_blocked.run_id))
       AND pgsync_itsm.vendor_of(i.payload) = '@company/' || d.entity_id
       AND NOT EXISTS (SELECT FROM @extschema@.integration_sync_map AS m WHERE m.connection_id = d.connection_id AND m.entity_type = d.entity_type AND m.entity_id = d.entity_id);
    UPDATE @extschema@.integration_run_items AS i
       SET state = 'skipped', reason = format('its contract "%s" is not published: %s', left(d.label, 80), left(d.reason, 200)), updated_at = now()
      FROM @extschema@.integration_run_items AS d
     WHERE d.run_id = settle_blocked.run_id AND d.entity_type = 'contract' AND d.action = 'CREATE' AND d.state = 'skipped'
       AND i.run_id = d.run_id AND i.state = 'pending' AND i.parent_type = d.entity_type AND i.parent_id = d.entity_id AND i.action = 'CREATE'
       AND i.id NOT IN (SELECT pgsync_itsm.on_wire(settle_blocked.run_id));
    SELECT pgsync_itsm.rollback_blocked(settle_blocked.run_id);
END;
COMMENT ON FUNCTION pgsync_itsm.settle_blocked(bigint) IS 'Skips relationships whose end is dead, and in a rollback records of which something stays; and contracts whose vendor is dead';

CREATE FUNCTION pgsync_itsm.settle_steps(run_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    UPDATE @extschema@.integration_run_steps AS s
       SET done = c.done, failed = c.failed, skipped = c.skipped,
           status = CASE WHEN c.open = 0 THEN 'done' WHEN s.status = 'done' THEN 'running' ELSE s.status END,
           finished_at = CASE WHEN c.open = 0 THEN now() END
      FROM (SELECT i.step, count(*) FILTER (WHERE i.state IN ('done', 'unchanged')) AS done, count(*) FILTER (WHERE i.state = 'dead') AS failed,
                   count(*) FILTER (WHERE i.state IN ('skipped', 'refused')) AS skipped, count(*) FILTER (WHERE i.state = 'pending') AS open
              FROM @extschema@.integration_run_items AS i
             WHERE i.run_id = settle_steps.run_id AND i.action IN ('CREATE', 'UPDATE', 'CLEAR', 'DELETE') GROUP BY i.step) AS c
     WHERE s.run_id = settle_steps.run_id AND s.step = c.step;
END;
COMMENT ON FUNCTION pgsync_itsm.settle_steps(bigint) IS 'Counts the steps of a run anew';

-- A server that was promoted, or restored to a point in time, may have forgotten what was sent last: it is looked for
-- before it is made again.  Every such turn of events begins a timeline of its own.
CREATE FUNCTION pgsync_itsm.doubt_after_takeover() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present bigint := pgsync_itsm.present_timeline();
    known bigint := (SELECT s.timeline FROM pgsync_itsm.site AS s);
BEGIN
    IF known IS DISTINCT FROM present THEN
        IF known IS NOT NULL THEN
            PERFORM pgsync_itsm.doubt_open_runs();
        END IF;
        -- No row is made for it: that comes with the first connection, or with a dump.
        UPDATE pgsync_itsm.site AS s SET timeline = present;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.doubt_after_takeover() IS 'After a promotion: what waits in open runs may have been sent by the server before';

CREATE FUNCTION pgsync_itsm.recover() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pgsync_itsm.doubt_after_takeover();
    SELECT pgsync_itsm.end_claims('interrupted', ARRAY(SELECT c.id FROM pgsync_itsm.claims AS c));
    SELECT pgsync_itsm.settle_blocked(r.id), pgsync_itsm.settle_steps(r.id) FROM @extschema@.integration_runs AS r WHERE r.status = 'running';
    UPDATE pgsync_itsm.lookups AS l SET state = 'pending', lease_until = NULL, generation = l.generation + 1
     WHERE l.state = 'sent';
END;
COMMENT ON FUNCTION pgsync_itsm.recover() IS 'At the start of a worker: takes over what a dead one left; waits for nobody who holds a run''s row';

CREATE FUNCTION pgsync_itsm.count_requests(connection_id uuid, run_id bigint, step text, requests bigint, writes bigint, subrequests bigint, bytes_sent bigint, bytes_received bigint,
                                           elapsed_ms bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    counted bigint := count_requests.run_id;
BEGIN
    -- a token, a probe: no work of the run's own, and nobody waits to count it
    IF counted IS NULL THEN
        SELECT x.id INTO counted FROM @extschema@.integration_runs AS x
         WHERE x.connection_id = count_requests.connection_id AND x.status IN ('planning', 'running')
         ORDER BY x.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    UPDATE @extschema@.integration_runs AS r
       SET requests = r.requests + count_requests.requests, write_requests = r.write_requests + count_requests.writes,
           subrequests = r.subrequests + count_requests.subrequests,
           bytes_sent = r.bytes_sent + count_requests.bytes_sent, bytes_received = r.bytes_received + count_requests.bytes_received,
           request_ms = r.request_ms + count_requests.elapsed_ms,
           side_requests = r.side_requests + CASE WHEN count_requests.run_id IS NULL THEN count_requests.requests ELSE 0 END
     WHERE r.id = counted;
    UPDATE @extschema@.integration_run_steps AS s SET requests = s.requests + count_requests.requests
     WHERE s.run_id = count_requests.run_id AND s.step = count_requests.step;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.count_requests(uuid, bigint, text, bigint, bigint, bigint, bigint, bigint, bigint) IS 'Adds HTTP requests to the counters of a run';

-- How fast a connection may be talked to: what a worker has learned, kept for the next one -----------------

CREATE FUNCTION pgsync_itsm.load_pace(connection_id uuid)
RETURNS TABLE (rules text[], limits bigint[], used bigint[], resets timestamptz[], subs integer[], apis text[], api_rules integer[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT p.rules, p.limits, p.used, p.resets, p.subs, p.apis, p.api_rules
                   FROM pgsync_itsm.connection_pace AS p WHERE p.connection_id = load_pace.connection_id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.load_pace(uuid) IS 'Rate-limit windows of a connection as an earlier worker left them';

CREATE FUNCTION pgsync_itsm.save_pace(connection_id uuid, state text, reason text, until timestamptz, slots integer, rules text[], limits bigint[],
                                      used bigint[], resets timestamptz[], subs integer[], apis text[], api_rules integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO pgsync_itsm.connection_pace AS p (connection_id, state, reason, until, slots, rules, limits, used, resets, subs, apis, api_rules, updated_at)
    SELECT connection_id, state, reason, until, slots, rules, limits, used, resets, subs, apis, api_rules, now()
     -- an answer may come after itsm_disconnect()
     WHERE EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = connection_id)
    ON CONFLICT ON CONSTRAINT connection_pace_pkey DO UPDATE
       SET state = excluded.state, reason = excluded.reason, until = excluded.until, slots = excluded.slots, rules = excluded.rules, limits = excluded.limits,
           used = excluded.used, resets = excluded.resets, subs = excluded.subs, apis = excluded.apis, api_rules = excluded.api_rules, updated_at = excluded.updated_at;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.save_pace(uuid, text, text, timestamptz, integer, text[], bigint[], bigint[], timestamptz[], integer[], text[], integer[]) IS
'Keeps what a worker knows of a connection''s limits, before the request that counts against them is sent';

-- Look-ups ----------------------------------------------------------------------------------------------

-- What a dry run sends of a record is read when it is claimed: a plan may have tens of thousands, and each has its payload already.
CREATE FUNCTION pgsync_itsm.dry_run_documents(run_id bigint, connection_id uuid, keys text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT array_agg(coalesce(json_build_object('entity_type', p.entity_type, 'class', coalesce(p.external_table, p.class), 'external_id', p.external_id,
                                                'payload', pgsync_itsm.fill_companies(dry_run_documents.connection_id, p.payload))::text, '{}') ORDER BY k.ord)
      FROM unnest(dry_run_documents.keys) WITH ORDINALITY AS k(key, ord)
     CROSS JOIN LATERAL (SELECT split_part(k.key, '/', 1) AS entity_type, substr(k.key, strpos(k.key, '/') + 1) AS key) AS s
      LEFT JOIN pgsync_itsm.plan_records AS p
        ON p.run_id = dry_run_documents.run_id AND p.entity_type = s.entity_type AND p.entity_id = pgsync_itsm.entity_id(s.entity_type, s.key);
END;
COMMENT ON FUNCTION pgsync_itsm.dry_run_documents(bigint, uuid, text[]) IS 'Records of a plan, by native key, as a dry run sends them';

CREATE FUNCTION pgsync_itsm.claim_lookups(connection_id uuid, max_lookups integer, lease_seconds integer)
RETURNS TABLE (lookup_id bigint, run_id bigint, generation integer, kind text, target text, keys text[], fields text[], documents text[])
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- a dry run is a request by itself
    WITH open AS MATERIALIZED (
        SELECT x.id, x.kind, row_number() OVER (ORDER BY x.id) AS n FROM pgsync_itsm.lookups AS x
         WHERE x.connection_id = claim_lookups.connection_id AND x.state = 'pending' AND coalesce(x.not_before, '-infinity') <= now()
         ORDER BY x.id LIMIT claim_lookups.max_lookups
    )
    UPDATE pgsync_itsm.lookups AS l
       SET state = 'sent', attempts = l.attempts + 1, generation = l.generation + 1, lease_until = now() + make_interval(secs => claim_lookups.lease_seconds)
     WHERE l.id IN (SELECT x.id FROM pgsync_itsm.lookups AS x
                     WHERE x.id IN (SELECT o.id FROM open AS o
                                     WHERE CASE (SELECT f.kind FROM open AS f WHERE f.n = 1) WHEN 'dry_run' THEN o.n = 1 ELSE o.kind <> 'dry_run' END)
                       AND x.state = 'pending' FOR UPDATE SKIP LOCKED)
    RETURNING l.id, l.run_id, l.generation, l.kind, l.target, l.keys, l.fields,
              CASE l.kind WHEN 'dry_run' THEN pgsync_itsm.dry_run_documents(l.run_id, l.connection_id, l.keys) END;
END;
COMMENT ON FUNCTION pgsync_itsm.claim_lookups(uuid, integer, integer) IS 'Takes questions for one request';

CREATE FUNCTION pgsync_itsm.settle_lookups(connection_id uuid, lookup_ids bigint[], generations integer[], outcomes text[], error_classes text[], messages text[],
    row_lookups bigint[], row_keys text[], row_external_ids text[], row_external_tables text[], row_labels text[], row_attrs text[], retry_after_s double precision) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    ceiling integer := pgsync_itsm.setting($1, 'max_attempts')::integer;
BEGIN
    INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, external_id, external_table, label, attrs)
    SELECT l.run_id, l.kind, l.target, w.key, w.external_id, w.external_table, w.label, w.attrs::json
      FROM unnest($7, $8, $9, $10, $11, $12) AS w(lookup_id, key, external_id, external_table, label, attrs)
      JOIN unnest($2, $3, $4) AS a(id, generation, outcome) ON a.id = w.lookup_id AND a.outcome = 'done'
      JOIN pgsync_itsm.lookups AS l ON l.id = a.id AND l.generation = a.generation AND l.state = 'sent';
    -- A run that has been planned asks for nothing but what it wrote.
    PERFORM pgsync_itsm.compare_taken(r.id, r.connection_id)
       FROM @extschema@.integration_runs AS r
      WHERE r.id IN (SELECT DISTINCT l.run_id FROM pgsync_itsm.lookups AS l WHERE l.id = ANY ($2)) AND r.status = 'running';
    -- A dry run that was too much is asked again as two, down to one record.
    INSERT INTO pgsync_itsm.lookups (run_id, connection_id, kind, target, keys, fields)
    SELECT l.run_id, l.connection_id, l.kind, l.target, l.keys[h.first:h.last], l.fields
      FROM unnest($2, $3, $4) AS a(id, generation, outcome)
      JOIN pgsync_itsm.lookups AS l ON l.id = a.id AND l.generation = a.generation AND l.state = 'sent'
     CROSS JOIN LATERAL (VALUES (1, cardinality(l.keys) / 2), (cardinality(l.keys) / 2 + 1, cardinality(l.keys))) AS h(first, last)
     WHERE a.outcome = 'again' AND l.kind = 'dry_run' AND cardinality(l.keys) > 1;
    -- One record that the platform refuses to look at is that record's answer.
    INSERT INTO pgsync_itsm.lookup_rows (run_id, kind, target, key, attrs)
    SELECT l.run_id, l.kind, l.target, l.keys[1], json_build_object('error', a.error_class, 'message', a.message, 'outcome', 'dead')
      FROM unnest($2, $3, $4, $5, $6) AS a(id, generation, outcome, error_class, message)
      JOIN pgsync_itsm.lookups AS l ON l.id = a.id AND l.generation = a.generation AND l.state = 'sent'
     WHERE a.outcome = 'dead' AND l.kind = 'dry_run' AND cardinality(l.keys) = 1;
    UPDATE pgsync_itsm.lookups AS l
       SET state = CASE WHEN a.outcome = 'done' THEN 'done'
                        WHEN l.kind = 'dry_run' AND (a.outcome = 'again' AND cardinality(l.keys) > 1 OR a.outcome = 'dead' AND cardinality(l.keys) = 1) THEN 'done'
                        WHEN a.outcome = 'dead' OR a.outcome = 'retry' AND l.attempts >= ceiling THEN 'failed' ELSE 'pending' END,
           attempts = CASE WHEN a.outcome IN ('release', 'again') THEN greatest(l.attempts - 1, 0) ELSE l.attempts END,
           not_before = CASE WHEN a.outcome = 'retry' THEN now() + pgsync_itsm.backoff(l.attempts, $13) END,
           -- a page that was too much, or took too long, is asked for again as a smaller one
           keys = CASE WHEN l.kind = 'changes' AND a.outcome IN ('retry', 'again')
                       THEN l.keys[:2] || greatest(l.keys[3]::integer / 2, 50)::text || l.keys[4:] ELSE l.keys END,
           error_class = a.error_class, error_message = left(a.message, 2000), lease_until = NULL
      FROM unnest($2, $3, $4, $5, $6) AS a(id, generation, outcome, error_class, message)
     WHERE l.id = a.id AND l.generation = a.generation AND l.state = 'sent';
END
$$;
COMMENT ON FUNCTION pgsync_itsm.settle_lookups(uuid, bigint[], integer[], text[], text[], text[], bigint[], text[], text[], text[], text[], text[], double precision) IS
'Writes down what the platform answered';
