-- What is removed when it is old: rows of the log, items of runs, runs that nobody started.

CREATE FUNCTION pgsync_itsm.retention() RETURNS interval
LANGUAGE sql STABLE
RETURN nullif(nullif(current_setting('pgsync_itsm.log_retention', true), '')::interval, interval '0');
COMMENT ON FUNCTION pgsync_itsm.retention() IS 'Age at which log rows and items are removed; NULL: they are kept';

CREATE FUNCTION pgsync_itsm.purge_log(piece integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM @extschema@.integration_sync_log AS l
     WHERE l.ctid = ANY (ARRAY(SELECT x.ctid FROM @extschema@.integration_sync_log AS x
                                WHERE x.created_at < now() - pgsync_itsm.retention() LIMIT piece));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.purge_log(integer) IS 'Deletes old rows of the log, so many at the most; returns how many';

-- The newest plan in full of a connection is what readiness, graph and coverage are read from, however old it is.
CREATE FUNCTION pgsync_itsm.is_newest_full(r @extschema@.integration_runs) RETURNS boolean
LANGUAGE sql STABLE
RETURN NOT r.partial AND r.kind IN ('preview', 'publish') AND r.status IN ('planned', 'needs_approval', 'running', 'done')
       AND EXISTS (SELECT FROM @extschema@.integration_connections AS c WHERE c.id = r.connection_id)
       AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS n
                        WHERE n.connection_id = r.connection_id AND n.id > r.id AND NOT n.partial AND n.kind IN ('preview', 'publish')
                          AND n.status IN ('planned', 'needs_approval', 'running', 'done'));
COMMENT ON FUNCTION pgsync_itsm.is_newest_full(@extschema@.integration_runs) IS 'Is this the newest plan in full of a connection that exists';

-- A plan that is too old to be applied is of no use, but for the counts in its row.
CREATE FUNCTION pgsync_itsm.end_old_plans() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH ended AS (
    UPDATE @extschema@.integration_runs AS r
       SET status = 'cancelled', phase = 'finished', finished_at = r.planned_at, error_message = 'nobody applied it in time: it was older than plan_max_age'
     WHERE r.id = ANY (ARRAY(SELECT x.id FROM @extschema@.integration_runs AS x
                              WHERE x.status IN ('planned', 'needs_approval') AND x.planned_at < now() - interval '1 day'
                                AND x.planned_at < now() - coalesce(pgsync_itsm.setting(x.connection_id, 'plan_max_age')::interval, '7 days')
                                AND NOT pgsync_itsm.is_newest_full(x) ORDER BY x.id LIMIT 100 FOR UPDATE SKIP LOCKED))
    RETURNING r.id)
    DELETE FROM pgsync_itsm.run_keys AS k USING ended AS e WHERE k.run_id = e.id;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.end_old_plans() IS 'Cancels kept plans that cannot be applied any more and that a newer plan in full has made good';

-- What was sent and never heard of stays, and so does what we deleted there: later plans ask for these.
CREATE FUNCTION pgsync_itsm.purge_run(run_id bigint, piece integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM @extschema@.integration_run_items AS i
     WHERE i.ctid = ANY (ARRAY(SELECT x.ctid FROM @extschema@.integration_run_items AS x
                                WHERE x.run_id = purge_run.run_id AND NOT (x.in_doubt OR x.unheard)
                                  AND NOT (x.action = 'DELETE' AND x.parent_id IS NULL AND x.state IN ('done', 'unchanged'))
                                LIMIT piece));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone < piece THEN
        UPDATE @extschema@.integration_runs AS r SET items_removed_at = now() WHERE r.id = purge_run.run_id;
        -- There may be thousands a day that changes started; nobody looks for these by number.
        DELETE FROM @extschema@.integration_runs AS r
         WHERE r.id = purge_run.run_id AND r.partial AND r.origin <> 'call'
           AND NOT EXISTS (SELECT FROM @extschema@.integration_run_items AS i WHERE i.run_id = r.id)
           AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS b WHERE b.connection_id = r.connection_id AND b.kind = 'rollback' AND b.rolls_back = r.id);
        DELETE FROM @extschema@.integration_run_steps AS s
         WHERE s.run_id = purge_run.run_id AND NOT EXISTS (SELECT FROM @extschema@.integration_runs AS r WHERE r.id = s.run_id);
    END IF;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.purge_run(bigint, integer) IS
'Removes items of an old run, so many at the most, and in the end what is left of one that nobody started; returns how many';

CREATE FUNCTION pgsync_itsm.purge_runs(piece integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    gone integer := 0;
BEGIN
    PERFORM pgsync_itsm.end_old_plans();
    FOR r IN SELECT x.id FROM @extschema@.integration_runs AS x
              WHERE x.items_removed_at IS NULL AND x.status IN ('done', 'failed', 'cancelled')
                -- a plan that nobody applied has written nothing that could be undone
                AND x.finished_at < now() - CASE WHEN x.kind = 'preview' OR x.started_at IS NULL AND x.done = 0
                                                 THEN least(pgsync_itsm.retention(), interval '1 day') ELSE pgsync_itsm.retention() END
                AND NOT pgsync_itsm.is_newest_full(x)
              ORDER BY x.finished_at LIMIT 500 FOR UPDATE SKIP LOCKED LOOP
        gone := gone + pgsync_itsm.purge_run(r.id, piece - gone);
        EXIT WHEN gone >= piece;
    END LOOP;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.purge_runs(integer) IS 'Removes items of old runs, so many at the most; returns how many';

CREATE FUNCTION pgsync_itsm.purge_inbox(piece integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM @extschema@.integration_inbox AS b
     WHERE b.id = ANY (ARRAY(SELECT x.id FROM @extschema@.integration_inbox AS x
                              WHERE x.state <> 'new' AND x.received_at < now() - pgsync_itsm.retention() ORDER BY x.id LIMIT piece));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.purge_inbox(integer) IS 'Deletes old rows of the inbox that were dealt with, so many at the most; returns how many';

-- A run's end is when these have grown; a bounded piece at a time, so that no run pays for a year.
CREATE FUNCTION pgsync_itsm.purge() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    piece CONSTANT integer := 20000;
    gone integer;
BEGIN
    -- Once in a minute: what was just written is not in the index's summary yet, and is read each time.
    PERFORM FROM pgsync_itsm.site AS s
      WHERE s.purged_at IS NULL OR s.purged_at NOT BETWEEN now() - interval '1 minute' AND now() FOR UPDATE SKIP LOCKED;
    IF pgsync_itsm.retention() IS NOT NULL AND FOUND THEN
        gone := greatest(pgsync_itsm.purge_log(piece), pgsync_itsm.purge_runs(piece), pgsync_itsm.purge_inbox(piece));
        -- A full piece: there may be more, and the next run goes on.
        UPDATE pgsync_itsm.site AS s SET purged_at = CASE WHEN gone < piece THEN now() END;
    END IF;
END
$$;
COMMENT ON FUNCTION pgsync_itsm.purge() IS 'Removes what is older than pgsync_itsm.log_retention from the log and from runs; once in a minute, unless more is left';
